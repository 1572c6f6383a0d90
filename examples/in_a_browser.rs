//! Pruning in a web page, by WebGPU. Nothing can wait there: what the device has decided is awaited.
//!
//! Built for `wasm32-unknown-unknown`, and with `wasm-bindgen --target web --out-dir page` run over `in_a_browser.wasm`, this is the page:
//!
//!     <body><script type="module">import start from "./in_a_browser.js"; start()</script>
//!
//! Anywhere else it is an ordinary program that says the same.
use emprune::gpu::wgpu::{self, BufferUsages, util::DeviceExt};
use emprune::gpu::{Buffers, Kernels, Record, SliceBuffers, required_features, required_limits};
use emprune::{Dtype, Granularity, Pruner, Rule, TensorMut, TensorSpec};
use futures_channel::oneshot;
use std::error::Error;

const ROWS: usize = 64;
const COLUMNS: usize = 1000;

/// Prune every row of a matrix on the browser's device, and look at what is left.
pub(crate) async fn prune() -> Result<String, Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: required_limits(&adapter.limits()),
        required_features: required_features(adapter.features()),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await?;

    // Once, when the page is loaded: pipelines, sizes, buffers.
    let kernels = Kernels::new(&device);
    let rule = Rule::new().with_granularity(Granularity::Row);
    let spec = TensorSpec::new(Dtype::F32, (ROWS * COLUMNS) as u64, COLUMNS as u64)?;
    let plan = kernels.plan(&[spec], &rule)?;
    let mut matrix: Vec<f32> = (0..ROWS * COLUMNS).map(|i| ((i * i) as f32 * 1e-5).cos()).collect();
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let buffer =
        |size| device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let weights = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(&matrix),
        usage,
    });
    let mask = buffer(plan.mask_bytes(0).ok_or("one slice")?);
    let (records, workspace) = (buffer(plan.records_bytes()), buffer(plan.workspace_bytes()));
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let slices = [SliceBuffers { weights: whole(&weights), norms: None, scores: None, mask: whole(&mask) }];
    let buffers = Buffers { slices: &slices, records: whole(&records), workspace: whole(&workspace), keys: None };
    let job = kernels.bind(&plan, &buffers)?;

    // In every frame: the job, between passes of the page's own. Only who wants to see the outcome reads it back.
    let mut encoder = device.create_command_encoder(&Default::default());
    job.record_prune(&mut encoder);
    queue.submit([encoder.finish()]);
    let pruned: Vec<u32> = bytemuck::pod_collect_to_vec(&read(&device, &queue, &weights).await?);
    let records: Vec<Record> = bytemuck::pod_collect_to_vec(&read(&device, &queue, &records).await?);
    let kept: u64 = records.iter().map(|record| record.kept()).sum();

    // The processor, in the browser too, says the same, bit for bit.
    let decision = Pruner::cpu().prune(&mut [TensorMut::from(&mut matrix).with_row_len(COLUMNS as u64)?], &rule)?;
    if kept != decision.kept() || !matrix.iter().map(|weight| weight.to_bits()).eq(pruned) {
        return Err("the device and the processor differ".into());
    }
    Ok(format!("{kept} of {} weights kept in {ROWS} rows; device and processor agree bit for bit", decision.entries()))
}

/// The bytes of a buffer, once the device has come so far.
async fn read(device: &wgpu::Device, queue: &wgpu::Queue, buffer: &wgpu::Buffer) -> Result<Vec<u8>, Box<dyn Error>> {
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
    let copy = device.create_buffer(&descriptor);
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, None);
    queue.submit([encoder.finish()]);
    let (tell, told) = oneshot::channel();
    copy.map_async(wgpu::MapMode::Read, .., |mapped| drop(tell.send(mapped)));
    // A browser calls back by itself; everywhere else somebody has to ask for it.
    #[cfg(not(target_arch = "wasm32"))]
    device.poll(wgpu::PollType::wait_indefinitely())?;
    told.await??;
    Ok(copy.get_mapped_range(..)?.to_vec())
}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", pollster::block_on(prune())?);
    Ok(())
}

#[cfg(target_arch = "wasm32")]
#[allow(dead_code, reason = "the tests call `prune` alone")]
fn main() {
    use wasm_bindgen::prelude::wasm_bindgen;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = ["document", "body"], js_name = append)]
        fn show(text: &str);
    }

    wasm_bindgen_futures::spawn_local(async {
        match prune().await {
            Ok(said) => show(&said),
            Err(error) => show(&error.to_string()),
        }
    });
}
