//! Other constants of the kernels, and kernels without sums: another shader or plan, and the same answer where one is promised.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::inputs::{distribution, mixture};
use common::oracle::{Kind, Weights};
use common::{cpu, kernel_choices};
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Buffers, KernelOptions, Kernels, Record, SliceBuffers, Tuning, required_limits};
use emprune::{Budget, Error, ErrorKind, Granularity, Rule, TensorSpec};

struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    options: KernelOptions,
}

/// What a job left on the device.
struct Answer {
    records: Vec<Record>,
    mask: Vec<u8>,
    weights: Vec<u8>,
}

/// The first adapter that the environment allows.
fn gpu() -> Option<Gpu> {
    if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
        return None;
    }
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let fits = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        format!("{} {} {:?}", info.name, info.driver, info.backend).to_lowercase().contains(&part)
    };
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.into_iter().find(fits).expect("no adapter; EMPRUNE_NO_GPU=1 says that none is wanted");
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        required_limits: required_limits(&adapter.limits()),
        ..wgpu::DeviceDescriptor::default()
    }))
    .unwrap();
    let (variant, checks) = kernel_choices();
    Some(Gpu { device, queue, options: KernelOptions::new().with_variant(variant).with_checks(checks) })
}

impl Gpu {
    /// With the constants that everybody gets.
    fn kernels(&self) -> Kernels {
        Kernels::with_options(&self.device, self.options.clone()).unwrap()
    }

    fn buffer(&self, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        let usage = usage | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    fn read(&self, from: &wgpu::Buffer) -> Vec<u8> {
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: from.size(),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(from, 0, &staging, 0, None);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        staging.slice(..).get_mapped_range().unwrap().to_vec()
    }

    fn prune(&self, kernels: &Kernels, weights: &Weights, rule: &Rule, mass: bool) -> Result<Answer, Error> {
        let spec = TensorSpec::new(common::dtype(weights.kind), weights.len() as u64, weights.row_len as u64)?;
        let plan = kernels.plan(&[spec], rule)?.with_mass(mass)?;
        let storage = BufferUsages::STORAGE;
        let bytes = self.buffer(plan.weights_bytes(0).unwrap(), storage);
        let mut words = weights.bytes.clone();
        words.resize(plan.weights_bytes(0).unwrap() as usize, 0);
        self.queue.write_buffer(&bytes, 0, &words);
        let mask = self.buffer(plan.mask_bytes(0).unwrap(), storage);
        let records = self.buffer(plan.records_bytes(), storage);
        let workspace = self.buffer(plan.workspace_bytes(), storage);
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let slices = [SliceBuffers { weights: whole(&bytes), norms: None, scores: None, mask: whole(&mask) }];
        let buffers = Buffers { slices: &slices, keys: None, records: whole(&records), workspace: whole(&workspace) };
        let job = kernels.bind(&plan, &buffers)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        job.record_prune(&mut encoder);
        self.queue.submit([encoder.finish()]);
        let records = bytemuck::pod_collect_to_vec(&self.read(&records));
        Ok(Answer { records, mask: self.read(&mask), weights: self.read(&bytes) })
    }
}

/// What the CPU says.
fn check(label: &str, weights: &Weights, rule: &Rule, got: &Answer) {
    let mut after = weights.bytes.clone();
    let pruner = &cpu()[0].pruner;
    let decision = pruner.prune(&mut [common::check::tensor_mut(weights, &mut after)], rule).unwrap();
    let (_, masks) = pruner.mask(&[common::check::tensor(weights, &weights.bytes)], rule).unwrap();
    let label = format!("{label}: {} {:?}", weights.label, rule.budget);
    assert_eq!(got.records.len(), decision.groups().len(), "{label}");
    for (i, (record, group)) in got.records.iter().zip(decision.groups()).enumerate() {
        let told = (record.status, record.kept(), record.threshold);
        assert_eq!(told, (0, group.kept, group.threshold.to_bits()), "{label}, contest {i}");
    }
    assert!(got.mask.starts_with(masks[0].as_bytes()), "{label}: another mask");
    assert!(got.weights.starts_with(&after), "{label}: other weights");
}

/// Tensors and rows, short and long.
fn shapes() -> impl Iterator<Item = (Weights, Granularity)> {
    [
        (distribution("normal").weights(Kind::F32, 1, 70_001, 1), Granularity::Tensor),
        (distribution("two_values").weights(Kind::Bf16, 1, 70_001, 2), Granularity::Tensor),
        (mixture(Kind::F32, 23, 16, 3), Granularity::Row),
        (mixture(Kind::Bf16, 23, 65, 4), Granularity::Row),
        (mixture(Kind::F32, 23, 1025, 5), Granularity::Row),
        (mixture(Kind::Bf16, 23, 6001, 6), Granularity::Row),
        // Whole fours of words.
        (distribution("normal").weights(Kind::Bf16, 1, 70_000, 8), Granularity::Tensor),
        (mixture(Kind::F32, 23, 4100, 9), Granularity::Row),
    ]
    .into_iter()
}

/// One value of each constant, on shapes that it has a say in: every value is validated in `src/gpu/tests.rs`, and each takes its own pipelines.
#[test]
fn every_alternative_gives_the_same_answer() {
    let Some(gpu) = gpu() else { return };
    let mut seen = "";
    for (name, value, tuning) in Tuning::alternatives() {
        if std::mem::replace(&mut seen, name) == name && name != "teams" {
            continue;
        }
        let kernels = Kernels::with_options(&gpu.device, gpu.options.clone().with_tuning(tuning)).unwrap();
        let rule = Rule::new();
        // As many parts as there may be take more entries than any other constant needs.
        let many_of = |kind| (distribution("normal").weights(kind, 1, 8_500_001, 7), Granularity::Tensor);
        let many = match name {
            "most_parts" | "level_readers" => Some(many_of(Kind::Bf16)),
            "readers" => Some(many_of(Kind::F32)),
            _ => None,
        };
        if let (Some((weights, _)), "most_parts") = (&many, name) {
            let spec =
                TensorSpec::new(common::dtype(weights.kind), weights.len() as u64, weights.len() as u64).unwrap();
            let [one, other] =
                [&gpu.kernels(), &kernels].map(|kernels| kernels.plan(&[spec], &rule).unwrap().workspace_bytes());
            assert_ne!(one, other, "{name} {value} has no say");
        }
        for (i, (weights, granularity)) in shapes().chain(many).enumerate() {
            let concerns = if name == "teams" { (2..5).contains(&i) } else { !(2..5).contains(&i) };
            if concerns {
                let rule = rule.with_granularity(granularity);
                let answer = gpu.prune(&kernels, &weights, &rule, false).unwrap();
                check(&format!("{name} {value}"), &weights, &rule, &answer);
            }
        }
    }
}

/// How many a row keeps is guessed where it has 16 bits, and its candidates are compared with each other where they are few.
#[test]
fn rows_of_every_size_give_the_same_answer() {
    let Some(gpu) = gpu() else { return };
    let normal = |kind, rows, len| distribution("normal").weights(kind, rows, len, 8);
    for weights in [
        normal(Kind::F32, 50, 2049),
        mixture(Kind::Bf16, 50, 4097, 9),
        normal(Kind::F32, 30, 6201),
        normal(Kind::F32, 3, 60_001),
        distribution("int8_levels").weights(Kind::F32, 2, 65_535, 10),
        normal(Kind::F32, 2, 65_536),
        // In fours of words that begin between two words of the mask.
        normal(Kind::F32, 3, 65_540),
        mixture(Kind::Bf16, 3, 65_544, 11),
        normal(Kind::E4m3, 3, 65_552),
        normal(Kind::F32, 30, 4100),
        mixture(Kind::F16, 30, 4104, 12),
    ] {
        let rule = Rule::new().with_granularity(Granularity::Row);
        check("rows", &weights, &rule, &gpu.prune(&gpu.kernels(), &weights, &rule, true).unwrap());
    }
}

#[test]
fn without_sums_a_count_gives_the_same_answer() {
    let Some(gpu) = gpu() else { return };
    let kernels = Kernels::for_timing_without_sums(&gpu.device, gpu.options.clone()).unwrap();
    for (weights, granularity) in shapes() {
        for count in [1, 9, weights.row_len as u64 - 1, weights.row_len as u64] {
            let rule = Rule::new().with_granularity(granularity).with_budget(Budget::Count(count));
            check("without sums", &weights, &rule, &gpu.prune(&kernels, &weights, &rule, false).unwrap());
        }
    }
}

#[test]
fn without_sums_nothing_is_answered_that_takes_them() {
    let Some(gpu) = gpu() else { return };
    let kernels = Kernels::for_timing_without_sums(&gpu.device, gpu.options.clone()).unwrap();
    let weights = distribution("normal").weights(Kind::F32, 1, 100, 1);
    for (rule, mass, part) in
        [(Rule::new(), false, "Effective"), (Rule::new().with_budget(Budget::Count(3)), true, "a mass")]
    {
        let error = gpu.prune(&kernels, &weights, &rule, mass).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
}
