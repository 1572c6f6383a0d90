//! Pruning inside a wgpu program: between two compute passes of its own, in its own encoder, in one submit.
//!
//! The program takes a training step on a weight matrix, prunes every row of it, and multiplies it with a vector. The host waits
//! for nothing in between and sees no weight: the budget is worked out on the device, where the sums are.
use emprune::gpu::wgpu::{self, BufferUsages, util::DeviceExt};
use emprune::gpu::{Buffers, Kernels, Record, SliceBuffers, required_features, required_limits};
use emprune::{Dtype, Granularity, Pruner, Rule, TensorMut, TensorSpec};
use std::error::Error;

const ROWS: usize = 64;
const COLUMNS: usize = 1000;

// The caller's own kernels. The second one reads the decision on the device: `Record::WGSL` declares the struct.
const SHADER: &str = "
    @group(0) @binding(0) var<storage, read_write> weights: array<f32>;
    @group(0) @binding(1) var<storage, read_write> records: array<Record>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    const COLUMNS = 1000u;
    @compute @workgroup_size(64) fn training_step(@builtin(global_invocation_id) id: vec3<u32>) {
        if (id.x < arrayLength(&weights)) {
            weights[id.x] -= 0.1 * sin(f32(id.x) * 0.37); // the rate times a gradient
        }
    }
    @compute @workgroup_size(64) fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
        if (id.x < arrayLength(&y)) {
            var sum = 0.0;
            for (var i = 0u; i < COLUMNS; i += 1u) {
                sum += weights[id.x * COLUMNS + i] * cos(f32(i));
            }
            y[id.x] = sum / bitcast<f32>(records[id.x].mass); // the part that is kept stands for all
        }
    }";

fn entry(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}

fn main() -> Result<(), Box<dyn Error>> {
    // The caller's device. Default limits and no feature would do; these bind as much as the adapter can, and run faster.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .map_err(|e| format!("this example needs an adapter, and a software one will do: {e}"))?;
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: required_limits(&adapter.limits()),
        required_features: required_features(adapter.features()),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;

    // Once, at start-up: pipelines, sizes, buffers. `bind` is the last call that creates anything.
    let kernels = Kernels::new(&device);
    let rule = Rule::new().with_granularity(Granularity::Row);
    let plan = kernels
        .plan(&[TensorSpec::new(Dtype::F32, (ROWS * COLUMNS) as u64, COLUMNS as u64)?], &rule)?
        .with_mass(true)?;
    kernels.warm_up(&plan);
    let buffer = |size: u64, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let before: Vec<f32> = (0..ROWS * COLUMNS).map(|i| ((i * i) as f32 * 1e-5).cos()).collect();
    let init =
        wgpu::util::BufferInitDescriptor { label: None, contents: bytemuck::cast_slice(&before), usage: storage };
    let weights = device.create_buffer_init(&init);
    let mask = buffer(plan.mask_bytes(0).ok_or("one slice")?, storage);
    let records = buffer(plan.records_bytes(), storage);
    let workspace = buffer(plan.workspace_bytes(), storage);
    let y = buffer(ROWS as u64 * 4, storage);
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let slices = [SliceBuffers { weights: whole(&weights), norms: None, scores: None, mask: whole(&mask) }];
    let job = kernels.bind(
        &plan,
        &Buffers { slices: &slices, records: whole(&records), workspace: whole(&workspace), keys: None },
    )?;
    let source = wgpu::ShaderSource::Wgsl(format!("{SHADER}\n{}", Record::WGSL).into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });

    // A pass of the caller's; pipelines are made here to keep the example short.
    let pass = |encoder: &mut wgpu::CommandEncoder, entry: &str, entries: &[wgpu::BindGroupEntry<'_>], lanes: usize| {
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        });
        let layout = &pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(lanes.div_ceil(64) as u32, 1, 1);
    };

    // One encoder: the caller's pass, the job, the caller's pass. The copies are only for the check below.
    let copies =
        [weights.size(), weights.size(), y.size()].map(|n| buffer(n, BufferUsages::MAP_READ | BufferUsages::COPY_DST));
    let mut encoder = device.create_command_encoder(&Default::default());
    pass(&mut encoder, "training_step", &[entry(0, &weights)], ROWS * COLUMNS);
    encoder.copy_buffer_to_buffer(&weights, 0, &copies[0], 0, None);
    job.record_prune(&mut encoder);
    pass(&mut encoder, "forward", &[entry(0, &weights), entry(1, &records), entry(2, &y)], ROWS);
    encoder.copy_buffer_to_buffer(&weights, 0, &copies[1], 0, None);
    encoder.copy_buffer_to_buffer(&y, 0, &copies[2], 0, None);
    queue.submit([encoder.finish()]);

    copies.iter().for_each(|copy| copy.map_async(wgpu::MapMode::Read, .., |_| {}));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let read =
        |i: usize| Ok::<_, Box<dyn Error>>(bytemuck::pod_collect_to_vec::<u8, f32>(&copies[i].get_mapped_range(..)?));
    let (mut trained, pruned, y) = (read(0)?, read(1)?, read(2)?);

    // The processor, given the same weights, says the same, bit for bit.
    let decision = Pruner::cpu().prune(&mut [TensorMut::from(&mut trained).with_row_len(COLUMNS as u64)?], &rule)?;
    assert!(trained.iter().map(|w| w.to_bits()).eq(pruned.iter().map(|w| w.to_bits())), "one answer everywhere");
    println!(
        "{}: {} of {} weights kept in {ROWS} rows, in one submit",
        adapter.get_info().name,
        decision.kept(),
        decision.entries()
    );
    println!("the forward pass behind it made y = {:.3?} ..", &y[..4]);
    Ok(())
}
