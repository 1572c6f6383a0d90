//! Jobs inside somebody else's GPU program: the caller's device, buffers, encoder and submit.
//!
//! Every adapter is opened twice, with WebGPU's default limits and no feature, and with everything that it has. The caller's
//! buffers are sub-ranges of larger ones full of poison, their scratch is dirty, and after every job each byte is accounted
//! for: it is what the oracle says, or what it was before.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::check::{check_mask, check_pruned};
use common::inputs::{self, Rng, distribution, infinity, mixture, near, one, with_norms};
use common::oracle::{self, Answer, Bad, Contests, Kind, Question, Refusal, Weights};
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Buffers, Job, Kernels, Plan, Record, SliceBuffers, required_limits};
use emprune::{Dtype, Error, ErrorKind, Granularity, Rule, Score, TensorSpec};
use std::ops::Range;
use std::sync::OnceLock;

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];

// ---- the caller's devices

/// A device of the caller's, and the kernels for it.
struct Gpu {
    name: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    kernels: Kernels,
}

fn adapters() -> Vec<wgpu::Adapter> {
    if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
        return Vec::new();
    }
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.retain(|adapter| {
        let info = adapter.get_info();
        [info.name, info.driver, format!("{:?}", info.backend)].iter().any(|text| text.to_lowercase().contains(&part))
    });
    assert!(!adapters.is_empty(), "no adapter with {part:?} here; EMPRUNE_NO_GPU=1 says that none is wanted");
    adapters
}

/// The caller's device, as the caller opens it.
fn open(adapter: &wgpu::Adapter, what: &str, features: wgpu::Features, limits: wgpu::Limits) -> (String, wgpu::Device, wgpu::Queue) {
    let info = adapter.get_info();
    let name = format!("{} ({:?}, {}) with {what}", info.name, info.backend, info.driver_info);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the caller's"),
        required_features: features,
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap_or_else(|e| panic!("{name}: {e}"));
    (name, device, queue)
}

fn open_by_default(adapter: &wgpu::Adapter) -> (String, wgpu::Device, wgpu::Queue) {
    open(adapter, "default limits", wgpu::Features::empty(), wgpu::Limits::default())
}

/// Every adapter twice. An error that no scope catches panics, as it does in the caller's program.
fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let open_both = |adapter: &wgpu::Adapter| {
            let all_features = adapter.features().difference(wgpu::Features::all_experimental_mask());
            [open_by_default(adapter), open(adapter, "everything", all_features, adapter.limits())]
        };
        let gpu = |(name, device, queue)| {
            let kernels = Kernels::new(&device);
            Gpu { name, device, queue, kernels }
        };
        adapters().iter().flat_map(open_both).map(gpu).collect()
    })
}

impl Gpu {
    fn buffer(&self, bytes: &[u8], usage: BufferUsages) -> wgpu::Buffer {
        let usage = usage | BufferUsages::COPY_DST;
        let size = (bytes.len() as u64).next_multiple_of(4);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// What the caller does with an encoder and a submit of their own. No error may come of it.
    fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
        if let Some(error) = pollster::block_on(scope.pop()) {
            panic!("{}: recording and submitting raised {error}", self.name);
        }
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        self.submit(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, None));
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        staging.get_mapped_range(..).unwrap().to_vec()
    }

    /// Where bindings may begin.
    fn align(&self) -> usize {
        self.device.limits().min_storage_buffer_offset_alignment as usize
    }

    /// A compute pass of the caller's over storage buffers, all of which it may write.
    fn pass(&self, encoder: &mut wgpu::CommandEncoder, wgsl: &str, buffers: &[wgpu::BufferBinding<'_>], workgroups: u32) {
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries = buffers.iter().enumerate().map(|(i, buffer)| wgpu::BindGroupEntry {
            binding: i as u32,
            resource: wgpu::BindingResource::Buffer(buffer.clone()),
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries.collect::<Vec<_>>(),
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
    }
}

// ---- the caller's buffers

/// A buffer of the caller's in which more lives than what a job is lent: everything else is poison.
struct Arena {
    /// What was uploaded last.
    bytes: Vec<u8>,
    lent: Vec<Range<usize>>,
    align: usize,
}

impl Arena {
    fn new(align: usize) -> Self {
        Self { bytes: Vec::new(), lent: Vec::new(), align }
    }

    /// A range at a legal offset, with poison before and behind it.
    fn lend(&mut self, len: usize) -> Range<usize> {
        let mut start = (self.bytes.len() + 1).next_multiple_of(self.align);
        if self.align < 256 && start.is_multiple_of(256) {
            start += self.align; // where the device allows less than 256, less it is
        }
        let range = start..start + len;
        let seed = start as u64;
        self.fill_poison(range.end + 3, seed);
        self.lent.push(range.clone());
        range
    }

    fn place(&mut self, bytes: &[u8]) -> Range<usize> {
        let range = self.lend(bytes.len());
        self.bytes[range.clone()].copy_from_slice(bytes);
        range
    }

    fn fill_poison(&mut self, up_to: usize, seed: u64) {
        let mut rng = Rng(seed);
        self.bytes.resize_with(up_to.next_multiple_of(4), || rng.next() as u8);
    }

    /// Other poison everywhere; ranges stay lent.
    fn poison_again(&mut self, seed: u64) {
        let len = self.bytes.len();
        self.bytes.clear();
        self.fill_poison(len, seed);
    }

    /// Every byte that was not lent is what it was.
    fn check(&self, what: &str, now: &[u8]) -> Result<(), String> {
        let is_lent = |at: usize| self.lent.iter().any(|range| range.contains(&at));
        match (0..self.bytes.len()).find(|&at| now[at] != self.bytes[at] && !is_lent(at)) {
            Some(at) => Err(format!(
                "byte {at} of the {what} was {:#04x} and is {:#04x}; lent were {:?}",
                self.bytes[at], now[at], self.lent
            )),
            None => Ok(()),
        }
    }
}

fn lent(buffer: &wgpu::Buffer, range: &Range<usize>, bytes: u64) -> wgpu::BufferBinding<'static> {
    // A binding borrows its buffer; the tests keep theirs for ever, which is one way to not think about it.
    let buffer: &'static wgpu::Buffer = Box::leak(Box::new(buffer.clone()));
    wgpu::BufferBinding { buffer, offset: range.start as u64, size: wgpu::BufferSize::new(bytes) }
}
