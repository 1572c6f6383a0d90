//! A device's side: the job that a caller's own program would record, on buffers that are already there, against a copy from
//! buffer to buffer.

use anyhow::{Context, Result, anyhow, ensure};
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{
    Adapter, Buffers, Job, KernelOptions, Kernels, Plan, Record, SliceBuffers, Tuning, Variant, required_limits,
};
use emprune::{Budget, Decision, Granularity, Mask, Rule, TensorSpec};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An open device.
pub(super) struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    options: KernelOptions,
    kernels: Kernels,
    /// How many are kept.
    budget: Budget,
    /// Copies weights.
    copier: wgpu::ComputePipeline,
    /// Whether the encoder can note the time.
    has_timestamps: bool,
    /// How long it must work before its clock is what it will be.
    warm_up: f64,
    failure: Arc<Mutex<Option<String>>>,
}

/// Weights on a device, what they are restored from, and jobs that prune them.
pub(super) struct Resident<'d> {
    device: &'d Device,
    jobs: Vec<Job>,
    slices: Vec<Slice>,
    records: Vec<wgpu::Buffer>,
    /// For what is read back: masks in a line, and at least a staging area.
    staging: wgpu::Buffer,
    /// Whether weights are zeroed, or only a mask is made.
    in_place: bool,
    clock: Clock,
    copied_by: CopiedBy,
    /// Seconds of the driver's own copy.
    driver_copy: f64,
    /// Repeats in one submission.
    batch: u32,
}

struct Slice {
    /// Bytes of the tensor.
    bytes: Range<usize>,
    pristine: wgpu::Buffer,
    weights: wgpu::Buffer,
    mask: wgpu::Buffer,
    /// From the one to the other.
    copy: wgpu::BindGroup,
}

/// Who measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// The device, and the host's clock agrees.
    Timestamps,
    /// The host: many repeats in one submission, less as many copies.
    Batches,
}

impl Clock {
    pub(super) fn name(self) -> &'static str {
        match self {
            Clock::Timestamps => "timestamps",
            Clock::Batches => "batches",
        }
    }
}

/// Who copies, to restore the weights and to be compared with: the faster of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopiedBy {
    /// `copy_buffer_to_buffer`.
    Driver,
    /// copy.wgsl.
    Shader,
}

impl CopiedBy {
    pub(super) fn name(self) -> &'static str {
        match self {
            CopiedBy::Driver => "driver",
            CopiedBy::Shader => "shader",
        }
    }
}

/// Seconds of one repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lap {
    pub(super) copy: f64,
    pub(super) prune: f64,
}

/// What one submission should last: long against the way there.
const BATCH_SECONDS: f64 = 0.03;
const MOST_REPEATS: u32 = 32;
/// A device that idled is clocked down, to a sixth where this was seen, and takes a while to notice that there is something to do.
const WARM_UP_SECONDS: f64 = 0.3;
/// What a workgroup of copy.wgsl copies.
const COPY_BYTES: u64 = 256 * 4 * 16;
/// Bytes that are written or read back in one go.
const STAGING: u64 = 64 << 20;

impl Device {
    /// The adapter of this name, driver and backend.
    pub(super) fn open(wanted: &Adapter) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let is_wanted = |adapter: &wgpu::Adapter| {
            let info = adapter.get_info();
            let driver = format!("{} {}", info.driver, info.driver_info);
            (info.name, driver.trim(), format!("{:?}", info.backend))
                == (wanted.name.clone(), &wanted.driver, wanted.backend.clone())
        };
        let adapter = adapters.into_iter().find(is_wanted).with_context(|| format!("{wanted} is gone"))?;
        let clocks = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let has_timestamps = adapter.features().contains(clocks);
        let mut features = if has_timestamps { clocks } else { wgpu::Features::empty() };
        // The variant that the library chose for itself.
        let mut variant = Variant::Portable;
        if wanted.variant == Variant::Subgroup.name() {
            features |= wgpu::Features::SUBGROUP;
            variant = Variant::Subgroup;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("emprune bench"),
            required_features: features,
            required_limits: required_limits(&adapter.limits()),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
        // Without a handler wgpu panics.
        let failure = Arc::new(Mutex::new(None));
        let slot = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
        }));
        let options = KernelOptions::new().with_variant(variant);
        let kernels = Kernels::with_options(&device, options.clone())?;
        let module = device.create_shader_module(wgpu::include_wgsl!("copy.wgsl"));
        let copier = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("copy"),
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let warm_up = if wanted.software { 0.0 } else { WARM_UP_SECONDS };
        let budget = Budget::default();
        Ok(Self { device, queue, options, kernels, budget, copier, has_timestamps, warm_up, failure })
    }

    /// The same device with other constants.
    pub(super) fn tuned(&self, tuning: Tuning) -> Result<Self> {
        let kernels = Kernels::with_options(&self.device, self.options.clone().with_tuning(tuning))?;
        Ok(self.with(kernels, self.budget))
    }

    /// The same device with kernels that leave the sums out, and so are told how many are kept.
    pub(super) fn without_sums(&self, count: u64) -> Result<Self> {
        let kernels = Kernels::for_timing_without_sums(&self.device, self.options.clone())?;
        Ok(self.with(kernels, Budget::Count(count)))
    }

    fn with(&self, kernels: Kernels, budget: Budget) -> Self {
        let (device, queue, failure) = (self.device.clone(), self.queue.clone(), self.failure.clone());
        let (options, copier) = (self.options.clone(), self.copier.clone());
        let Self { has_timestamps, warm_up, .. } = *self;
        Self { device, queue, options, kernels, budget, copier, has_timestamps, warm_up, failure }
    }

    /// The first error since the last call.
    fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(anyhow!("{message}")),
            None => Ok(()),
        }
    }

    /// The jobs for a tensor: as many slices as bindings and buffers ask for, all of one contest or each with rows of its own. Columns and
    /// blocks are one slice.
    pub(super) fn plans(&self, spec: TensorSpec, rule: Rule) -> Result<Vec<(Plan, Vec<TensorSpec>)>> {
        let rule = rule.with_budget(self.budget);
        if !matches!(rule.granularity, Granularity::Tensor | Granularity::Row) {
            return Ok(vec![(self.kernels.plan(&[spec], &rule)?, vec![spec])]);
        }
        let rows = rule.granularity == Granularity::Row;
        let limits = self.device.limits();
        let most_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 16 * 16;
        // A multiple of 32 entries, so that masks lie side by side, and few enough for a slice's 32-bit indices.
        let step = if rows { spec.row_len * 32 } else { 32 };
        let most = (most_bytes / spec.dtype.size() as u64).min((1 << 30) - 1);
        let len = if spec.len <= most { spec.len } else { most / step * step };
        ensure!(len > 0, "32 rows take more than a binding, which holds {most_bytes} bytes");
        let starts = (0..spec.len).step_by(usize::try_from(len)?);
        let slices = starts.map(|start| {
            let len = len.min(spec.len - start);
            TensorSpec::new(spec.dtype, len, if rows { spec.row_len } else { len })
        });
        let slices = slices.collect::<Result<Vec<_>, _>>()?;
        let rule = if rows { rule } else { rule.with_granularity(Granularity::Global) };
        let jobs: Vec<_> = if rows { slices.iter().map(|slice| vec![*slice]).collect() } else { vec![slices] };
        let plans = jobs.into_iter().map(|slices| Ok((self.kernels.plan(&slices, &rule)?, slices)));
        plans.collect()
    }

    fn buffer(&self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        let usage = usage | BufferUsages::COPY_DST;
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("emprune bench") })
    }

    /// Submit and wait: the seconds from one to the other.
    fn finish(&self, encoder: wgpu::CommandEncoder) -> Result<f64> {
        let commands = encoder.finish();
        let start = Instant::now();
        let index = self.queue.submit([commands]);
        let timeout = Some(Duration::from_secs(600));
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout });
        let seconds = start.elapsed().as_secs_f64();
        self.check()?;
        waited?;
        Ok(seconds)
    }

    /// Copy `from` into `to`, by way of `staging`.
    fn read(&self, staging: &wgpu::Buffer, from: &wgpu::Buffer, to: &mut Vec<u8>) -> Result<()> {
        for start in (0..from.size()).step_by(usize::try_from(staging.size())?) {
            let len = staging.size().min(from.size() - start);
            let mut encoder = self.encoder();
            encoder.copy_buffer_to_buffer(from, start, staging, 0, len);
            self.queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, ..len, |_| {});
            self.device.poll(wgpu::PollType::wait_indefinitely())?;
            self.check()?;
            to.extend_from_slice(&staging.slice(..len).get_mapped_range()?);
            staging.unmap();
        }
        Ok(())
    }
}

impl<'d> Resident<'d> {
    /// Buffers for a tensor, and jobs bound to them. Too little memory is an error like any other.
    pub(super) fn new(device: &'d Device, spec: TensorSpec, rule: Rule, in_place: bool) -> Result<Self> {
        let plans = device.plans(spec, rule)?;
        let (mut slices, mut jobs, mut records) = (Vec::new(), Vec::new(), Vec::new());
        let (storage, source) = (BufferUsages::STORAGE, BufferUsages::COPY_SRC);
        let workspace = plans.iter().map(|(plan, _)| plan.workspace_bytes()).max().unwrap_or(4);
        let workspace = device.buffer("workspace", workspace, storage);
        let mut start = 0;
        for (plan, specs) in &plans {
            let first = slices.len();
            for (i, slice) in specs.iter().enumerate() {
                let size = plan.weights_bytes(i).context("a slice of the plan")?;
                let mask = plan.mask_bytes(i).context("a slice of the plan")?;
                let end = start + slice.len as usize * slice.dtype.size();
                let pristine = device.buffer("pristine", size.next_multiple_of(16), storage | source);
                let weights = device.buffer("weights", size.next_multiple_of(16), storage | source);
                let copy = device.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("copy"),
                    layout: &device.copier.get_bind_group_layout(0),
                    entries: &[(0, &pristine), (1, &weights)].map(|(binding, buffer)| wgpu::BindGroupEntry {
                        binding,
                        resource: buffer.as_entire_binding(),
                    }),
                });
                let mask = device.buffer("mask", mask, storage | source);
                slices.push(Slice { bytes: start..end, pristine, weights, mask, copy });
                start = end;
            }
            let record = device.buffer("records", plan.records_bytes(), storage | source);
            let keys =
                Some(plan.keys_bytes()).filter(|&bytes| bytes > 0).map(|bytes| device.buffer("keys", bytes, storage));
            device.check()?;
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let bound = slices[first..].iter();
            let bound: Vec<_> = bound
                .map(|s| SliceBuffers { weights: whole(&s.weights), norms: None, scores: None, mask: whole(&s.mask) })
                .collect();
            let buffers = Buffers {
                slices: &bound,
                records: whole(&record),
                workspace: whole(&workspace),
                keys: keys.as_ref().map(whole),
            };
            device.kernels.warm_up(plan);
            jobs.push(device.kernels.bind(plan, &buffers)?);
            device.check()?;
            records.push(record);
        }
        let most = slices.iter().map(|s| s.weights.size()).chain(records.iter().map(wgpu::Buffer::size)).max();
        let staging = most.unwrap_or(4).min(STAGING).next_multiple_of(4);
        let staging = device.buffer("staging", staging, BufferUsages::MAP_READ);
        device.check()?;
        let (clock, copied_by, driver_copy) = (Clock::Batches, CopiedBy::Driver, f64::INFINITY);
        Ok(Self { device, jobs, slices, records, staging, in_place, clock, copied_by, driver_copy, batch: 1 })
    }

    /// Write the weights to the device: seconds.
    pub(super) fn upload(&self, bytes: &[u8]) -> Result<f64> {
        let start = Instant::now();
        for slice in &self.slices {
            let bytes = &bytes[slice.bytes.clone()];
            let (words, rest) = bytes.split_at(bytes.len() & !3);
            for (i, chunk) in words.chunks(STAGING as usize).enumerate() {
                self.device.queue.write_buffer(&slice.pristine, i as u64 * STAGING, chunk);
                // What waits for its turn is held twice.
                self.device.finish(self.device.encoder())?;
            }
            if let [a, b] = *rest {
                self.device.queue.write_buffer(&slice.pristine, words.len() as u64, &[a, b, 0, 0]);
            }
        }
        self.device.finish(self.device.encoder())?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Read the masks and the records: seconds, and the masks in a line.
    pub(super) fn read_back(&self) -> Result<(f64, Vec<u8>)> {
        let start = Instant::now();
        let mut masks = Vec::with_capacity(self.slices.iter().map(|s| s.mask.size() as usize).sum());
        self.slices.iter().try_for_each(|slice| self.device.read(&self.staging, &slice.mask, &mut masks))?;
        let mut records = Vec::new();
        self.records.iter().try_for_each(|records_of| self.device.read(&self.staging, records_of, &mut records))?;
        Ok((start.elapsed().as_secs_f64(), masks))
    }

    /// Prune once and compare counts, thresholds, mask and weights with the processor's.
    pub(super) fn check(&self, after: &[u8], mask: &Mask, decision: &Decision) -> Result<()> {
        let mut encoder = self.device.encoder();
        self.restore(&mut encoder);
        self.record(&mut encoder);
        self.device.finish(encoder)?;
        let (mut records, groups) = (Vec::new(), decision.groups());
        self.records.iter().try_for_each(|buffer| self.device.read(&self.staging, buffer, &mut records))?;
        let records: Vec<Record> = bytemuck::pod_collect_to_vec(&records);
        ensure!(records.len() == groups.len(), "wrong answer: {} contests, not {}", records.len(), groups.len());
        for (i, (record, group)) in records.iter().zip(groups).enumerate() {
            let got = (record.status, record.kept(), record.threshold);
            let want = (0, group.kept, group.threshold.to_bits());
            ensure!(got == want, "wrong answer: contest {i} has (status, kept, threshold) {got:?}, not {want:?}");
        }
        let (_, masks) = self.read_back()?;
        let bytes = mask.as_bytes();
        ensure!(masks.get(..bytes.len()) == Some(bytes), "wrong answer: the mask is another one");
        if self.in_place {
            let mut weights = Vec::new();
            for slice in &self.slices {
                weights.clear();
                self.device.read(&self.staging, &slice.weights, &mut weights)?;
                let want = &after[slice.bytes.clone()];
                ensure!(weights.get(..want.len()) == Some(want), "wrong answer: the weights are others");
            }
        }
        Ok(())
    }

    /// Find out whom to ask for the time, and how much to do between two looks at a clock.
    pub(super) fn calibrate(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut alone = self.wall(1, true)?;
        while start.elapsed().as_secs_f64() < self.device.warm_up {
            alone = self.wall(1, true)?;
        }
        self.batch = ((BATCH_SECONDS / alone.max(1e-9)) as u32).clamp(1, MOST_REPEATS);
        let mut copies = [CopiedBy::Driver, CopiedBy::Shader].map(|copy| (copy, f64::INFINITY));
        for _ in 0..3 {
            for (copy, fastest) in &mut copies {
                self.copied_by = *copy;
                *fastest = fastest.min(self.wall(self.batch, false)?);
            }
        }
        self.driver_copy = copies[0].1 / f64::from(self.batch);
        self.copied_by = if copies[1].1 < copies[0].1 { CopiedBy::Shader } else { CopiedBy::Driver };
        if self.device.has_timestamps {
            let (wall, times) = self.timestamps(self.batch)?;
            let device = times.last().zip(times.first()).map_or(0.0, |(last, first)| last - first);
            let in_order = times.is_sorted_by(|a, b| a < b);
            // The host sees the way there and back as well; a device whose clock says more than that, or much less, is not believed.
            if in_order && device <= 1.05 * wall && device >= 0.7 * wall - 5e-4 {
                self.clock = Clock::Timestamps;
            }
        }
        Ok(())
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Seconds of the driver's own copy, by the host's clock: of a batch, the fastest of three.
    pub(super) fn driver_copy(&self) -> f64 {
        self.driver_copy
    }

    pub(super) fn copied_by(&self) -> CopiedBy {
        self.copied_by
    }

    /// Seconds of single repeats, or of a batch's mean.
    pub(super) fn laps(&self) -> Result<Vec<Lap>> {
        match self.clock {
            Clock::Timestamps => {
                let (_, times) = self.timestamps(self.batch)?;
                let laps = times.windows(3).step_by(2);
                Ok(laps.map(|t| Lap { copy: t[1] - t[0], prune: t[2] - t[1] }).collect())
            }
            Clock::Batches => {
                let batch = f64::from(self.batch);
                let copy = self.wall(self.batch, false)? / batch;
                let both = self.wall(self.batch, true)? / batch;
                // What takes no time that a clock shows takes a nanosecond: rates stay numbers.
                Ok(vec![Lap { copy, prune: (both - copy).max(1e-9) }])
            }
        }
    }

    fn restore(&self, encoder: &mut wgpu::CommandEncoder) {
        if self.copied_by == CopiedBy::Driver {
            for Slice { pristine, weights, .. } in &self.slices {
                encoder.copy_buffer_to_buffer(pristine, 0, weights, 0, None);
            }
            return;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.device.copier);
        for Slice { weights, copy, .. } in &self.slices {
            pass.set_bind_group(0, copy, &[]);
            let groups = weights.size().div_ceil(COPY_BYTES) as u32;
            let widest = self.device.device.limits().max_compute_workgroups_per_dimension;
            pass.dispatch_workgroups(groups.min(widest), groups.div_ceil(widest), 1);
        }
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        for job in &self.jobs {
            if self.in_place { job.record_prune(encoder) } else { job.record_mask(encoder) }
        }
    }

    /// Seconds for so many repeats in one submission, by the host.
    fn wall(&self, repeats: u32, prune: bool) -> Result<f64> {
        let mut encoder = self.device.encoder();
        for _ in 0..repeats {
            self.restore(&mut encoder);
            if prune {
                self.record(&mut encoder);
            }
        }
        self.device.finish(encoder)
    }

    /// The host's seconds, and the device's clock before each copy, before each job, and at the end.
    fn timestamps(&self, repeats: u32) -> Result<(f64, Vec<f64>)> {
        let count = 2 * repeats + 1;
        let Device { device, queue, .. } = self.device;
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("emprune bench"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = self.device.buffer(
            "timestamps",
            u64::from(count) * 8,
            BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
        );
        let mut encoder = self.device.encoder();
        for i in 0..repeats {
            encoder.write_timestamp(&queries, 2 * i);
            self.restore(&mut encoder);
            encoder.write_timestamp(&queries, 2 * i + 1);
            self.record(&mut encoder);
        }
        encoder.write_timestamp(&queries, 2 * repeats);
        encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
        let wall = self.device.finish(encoder)?;
        let staging = self.device.buffer("timestamps", resolved.size(), BufferUsages::MAP_READ);
        let mut bytes = Vec::new();
        self.device.read(&staging, &resolved, &mut bytes)?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let second = 1e-9 * f64::from(queue.get_timestamp_period());
        let first = ticks.first().copied().unwrap_or_default();
        Ok((wall, ticks.iter().map(|&tick| tick.wrapping_sub(first) as f64 * second).collect()))
    }
}
