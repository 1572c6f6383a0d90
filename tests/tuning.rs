//! What the kernels cost on the adapters of this machine, against a copy of the same bytes in the same run:
//!
//!     cargo test --release --test tuning -- --ignored --nocapture
//!
//! `EMPRUNE_TEST_ADAPTER` and `EMPRUNE_TEST_VARIANT` choose as they do for every test, `EMPRUNE_TUNING_LEN` the entries. Rows of 1024 and 2048
//! end where another kernel begins: what the next longer row costs says whether the table of teams in `src/gpu/layout.rs` is right for the
//! device. Read the ratios, not the times.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::inputs::distribution;
use common::oracle::Kind;
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Buffers, KernelOptions, Kernels, SliceBuffers, Variant, required_limits};
use emprune::{Dtype, Granularity, Rule, TensorSpec};
use std::time::Instant;

/// Rows from a block of 4 x 4 to a layer, and 0 for one contest over everything.
const ROWS: [u64; 13] = [16, 17, 64, 65, 256, 257, 1024, 1025, 2048, 2049, 4096, 11_008, 0];

fn entries() -> u64 {
    std::env::var("EMPRUNE_TUNING_LEN").ok().and_then(|text| text.parse().ok()).unwrap_or(1 << 20)
}

struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Gpu {
    /// The least time of three, per repetition, of what `record` records so many times into one submission.
    fn time(&self, repeat: u32, record: impl Fn(&mut wgpu::CommandEncoder)) -> f64 {
        let once = || {
            let start = Instant::now();
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            (0..repeat).for_each(|_| record(&mut encoder));
            self.queue.submit([encoder.finish()]);
            self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            start.elapsed().as_secs_f64() / f64::from(repeat)
        };
        (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
    }

    fn buffer(&self, size: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}

#[test]
#[ignore = "takes a minute and judges nothing"]
fn what_the_kernels_cost() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
    for adapter in pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())) {
        let info = adapter.get_info();
        let name = format!("{} {} {:?}", info.name, info.driver, info.backend);
        if !name.to_lowercase().contains(&part) {
            continue;
        }
        let subgroup = adapter.features() & wgpu::Features::SUBGROUP;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: subgroup,
            required_limits: required_limits(&adapter.limits()),
            ..wgpu::DeviceDescriptor::default()
        }))
        .unwrap();
        let gpu = Gpu { device, queue };
        let both = [Variant::Portable, Variant::Subgroup];
        let wanted = |v: &Variant| [Variant::Auto, *v].contains(&common::kernel_choices().0);
        for variant in both.into_iter().filter(wanted).filter(|v| *v == Variant::Portable || !subgroup.is_empty()) {
            println!(
                "\n{name}, {}, {} entries; times a copy of the same bytes, and ns an entry",
                variant.name(),
                entries()
            );
            cost(&gpu, variant);
        }
    }
}

fn cost(gpu: &Gpu, variant: Variant) {
    println!("{:>8} {:>6} {:>9} {:>9} {:>9} {:>9} {:>10}", "row", "dtype", "mask", "", "prune", "", "dispatches");
    let kernels = Kernels::with_options(&gpu.device, KernelOptions::new().with_variant(variant)).unwrap();
    for (dtype, kind) in [(Dtype::F32, Kind::F32), (Dtype::Bf16, Kind::Bf16)] {
        let bytes = distribution("normal").weights(kind, 1, entries() as usize, 1).bytes;
        let (source, copy) = (gpu.buffer(bytes.len() as u64), gpu.buffer(bytes.len() as u64));
        gpu.queue.write_buffer(&source, 0, &bytes);
        let restore = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(&source, 0, &copy, 0, None);
        };
        gpu.time(3, restore);
        let memcpy = gpu.time(10, restore);
        for row_len in ROWS {
            let rows = entries() / row_len.max(1);
            let (len, row_len, rule) = match row_len {
                0 => (entries(), entries(), Rule::new().with_granularity(Granularity::Tensor)),
                _ => (rows * row_len, row_len, Rule::new().with_granularity(Granularity::Row)),
            };
            let plan = kernels.plan(&[TensorSpec::new(dtype, len, row_len).unwrap()], &rule).unwrap();
            let (mask, records) = (gpu.buffer(plan.mask_bytes(0).unwrap()), gpu.buffer(plan.records_bytes()));
            let workspace = gpu.buffer(plan.workspace_bytes());
            let slices = [SliceBuffers {
                weights: copy.as_entire_buffer_binding(),
                norms: None,
                scores: None,
                mask: mask.as_entire_buffer_binding(),
            }];
            let buffers = Buffers {
                slices: &slices,
                records: records.as_entire_buffer_binding(),
                workspace: workspace.as_entire_buffer_binding(),
                keys: None,
            };
            let job = kernels.bind(&plan, &buffers).unwrap();
            gpu.time(1, |encoder| job.record_mask(encoder));
            gpu.time(1, |encoder| job.record_prune(encoder));
            gpu.time(1, restore);
            let mask_time = gpu.time(1, |encoder| job.record_mask(encoder));
            // Pruned weights would be another input: each time anew, and the copy's time taken off again.
            let prune_time = gpu.time(1, |encoder| {
                restore(encoder);
                job.record_prune(encoder);
            }) - memcpy;
            let (mask_ratio, prune_ratio) = (mask_time / memcpy, prune_time / memcpy);
            let (mask_ns, prune_ns) = (mask_time / len as f64 * 1e9, prune_time / len as f64 * 1e9);
            println!(
                "{row_len:>8} {dtype:>6} {mask_ratio:>8.2}x {mask_ns:>9.2} {prune_ratio:>8.2}x {prune_ns:>9.2} {:>10}",
                plan.dispatches()
            );
        }
    }
}
