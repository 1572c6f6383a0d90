//! The caller's devices.

use crate::common;
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{KernelOptions, Kernels, Variant};
use futures_channel::oneshot;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// A device of the caller's, and the kernels for it.
pub(crate) struct Gpu {
    pub(crate) name: String,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) kernels: Kernels,
}

pub(crate) fn adapters() -> Vec<wgpu::Adapter> {
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
    if common::kernel_choices().0 == Variant::Subgroup {
        adapters.retain(|adapter| adapter.features().contains(wgpu::Features::SUBGROUP));
    }
    assert!(!adapters.is_empty(), "no adapter with {part:?} here; EMPRUNE_NO_GPU=1 says that none is wanted");
    adapters
}

/// The caller's device, as the caller opens it.
pub(crate) fn open(
    adapter: &wgpu::Adapter,
    what: &str,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> (String, wgpu::Device, wgpu::Queue) {
    pollster::block_on(opened(adapter, what, features, limits))
}

/// As [`open`], where nothing can wait.
pub(crate) async fn opened(
    adapter: &wgpu::Adapter,
    what: &str,
    features: wgpu::Features,
    limits: wgpu::Limits,
) -> (String, wgpu::Device, wgpu::Queue) {
    let info = adapter.get_info();
    let name = format!("{} ({:?}, {}) with {what}", info.name, info.backend, info.driver_info);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("the caller's"),
        required_features: features,
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    (name, device, queue)
}

pub(crate) fn open_by_default(adapter: &wgpu::Adapter) -> (String, wgpu::Device, wgpu::Queue) {
    // Subgroups, where the tests are asked to use them; else no feature at all.
    let features = match common::kernel_choices().0 {
        Variant::Subgroup => wgpu::Features::SUBGROUP,
        _ => wgpu::Features::empty(),
    };
    open(adapter, "default limits", features, wgpu::Limits::default())
}

pub(crate) const EVERYTHING: &str = "everything";

/// Every adapter twice. An error that no scope catches panics, as it does in the caller's program.
pub(crate) fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let open_both = |adapter: &wgpu::Adapter| {
            let all_features = adapter.features().difference(wgpu::Features::all_experimental_mask());
            [open_by_default(adapter), open(adapter, EVERYTHING, all_features, adapter.limits())]
        };
        let gpu = |(name, device, queue)| {
            let (variant, checks) = common::kernel_choices();
            let options = KernelOptions::new().with_variant(variant).with_checks(checks);
            let kernels = Kernels::with_options(&device, options).unwrap();
            Gpu { name, device, queue, kernels }
        };
        adapters().iter().flat_map(open_both).map(gpu).collect()
    })
}

/// A device, for as long as nobody else has its turn.
pub(crate) struct Turn {
    pub(crate) gpu: &'static Gpu,
    pub(crate) _alone: Option<MutexGuard<'static, ()>>,
}

/// Every device in turn. Vulkan's serve all tests at once; GL has one context for all threads, and gives up waiting for it after some
/// seconds.
pub(crate) fn turns() -> impl Iterator<Item = Turn> {
    static GL: Mutex<()> = Mutex::new(());
    gpus().iter().map(|gpu| {
        let alone = gpu.name.contains("(Gl").then(|| GL.lock().unwrap_or_else(PoisonError::into_inner));
        Turn { gpu, _alone: alone }
    })
}

impl Gpu {
    pub(crate) fn buffer(&self, bytes: &[u8], usage: BufferUsages) -> wgpu::Buffer {
        let usage = usage | BufferUsages::COPY_DST;
        let size = (bytes.len() as u64).next_multiple_of(4);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// What the caller does with an encoder and a submit of their own. No error may come of it.
    pub(crate) fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        pollster::block_on(self.submitted(record));
    }

    /// As [`Gpu::submit`], where nothing can wait.
    pub(crate) async fn submitted(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
        if let Some(error) = scope.pop().await {
            panic!("{}: recording and submitting raised {error}", self.name);
        }
    }

    pub(crate) fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        pollster::block_on(self.bytes_of(buffer))
    }

    /// As [`Gpu::read`], where nothing can wait.
    pub(crate) async fn bytes_of(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        self.submitted(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, None)).await;
        let (tell, told) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., |result| tell.send(result).expect("somebody waits"));
        // In a browser that returns at once, and the callback comes in its own time.
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        told.await.expect("a callback is called").unwrap();
        staging.get_mapped_range(..).unwrap().to_vec()
    }

    /// Where bindings may begin.
    pub(crate) fn align(&self) -> usize {
        self.device.limits().min_storage_buffer_offset_alignment as usize
    }

    /// A compute pass of the caller's over storage buffers, all of which it may write.
    pub(crate) fn pass(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        wgsl: &str,
        buffers: &[wgpu::BufferBinding<'_>],
        workgroups: u32,
    ) {
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
