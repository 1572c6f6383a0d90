//! Scores from a shader of your own, for weights in a format that emprune does not know.
//!
//! The weights are int8, four to a word. A kernel of the caller's scores them by |weight * gradient| into an f32 buffer; the job runs over
//! that buffer and leaves a mask on the device; another kernel of the caller's zeroes the int8 weights by its bits. Any score can
//! take this way: what emprune prunes or masks is only ever "the largest of these numbers".
use emprune::gpu::wgpu::{self, BufferUsages, util::DeviceExt};
use emprune::gpu::{Buffers, Kernels, SliceBuffers};
use emprune::{Dtype, Pruner, Rule, Tensor, TensorSpec};
use std::error::Error;

const LEN: usize = 100_000;

const SHADER: &str = "
    @group(0) @binding(0) var<storage, read_write> weights: array<u32>;
    @group(0) @binding(1) var<storage, read_write> gradients: array<f32>;
    @group(0) @binding(2) var<storage, read_write> scores: array<f32>;
    @group(0) @binding(3) var<storage, read_write> mask: array<u32>;
    @compute @workgroup_size(64) fn score(@builtin(global_invocation_id) id: vec3<u32>) {
        if (id.x < arrayLength(&weights)) {
            let four = unpack4xI8(weights[id.x]);
            for (var i = 0u; i < 4u; i += 1u) {
                let at = id.x * 4u + i;
                scores[at] = f32(four[i]) * gradients[at]; // the sign does not count
            }
        }
    }
    @compute @workgroup_size(64) fn drop_losers(@builtin(global_invocation_id) id: vec3<u32>) {
        if (id.x < arrayLength(&weights)) {
            // Entry i has bit i % 32 of word i / 32: four entries never straddle two words.
            let bits = mask[id.x / 8u] >> (id.x * 4u % 32u);
            for (var i = 0u; i < 4u; i += 1u) {
                if (((bits >> i) & 1u) == 0u) {
                    weights[id.x] &= ~(0xffu << (8u * i));
                }
            }
        }
    }";

fn entry(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .map_err(|e| format!("this example needs an adapter, and a software one will do: {e}"))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default()))?;

    let int8: Vec<i8> = (0..LEN).map(|i| ((i * 7919) % 255) as i8).collect();
    let gradients: Vec<f32> = (0..LEN).map(|i| (i as f32 * 0.1).sin() / (1 + i % 13) as f32).collect();
    let storage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
    let filled = |contents: &[u8]| {
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage: storage })
    };
    let empty = |size: u64, usage: BufferUsages| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let weights = filled(bytemuck::cast_slice(&int8));
    let gradients = filled(bytemuck::cast_slice(&gradients));

    // To emprune the scores are what weights are elsewhere: f32, one contest over all of them. Weights of a dtype that it knows could go
    // along (`SliceBuffers::scores`), and `record_prune` would zero them.
    let kernels = Kernels::new(&device);
    let rule = Rule::new();
    let plan = kernels.plan(&[TensorSpec::new(Dtype::F32, LEN as u64, LEN as u64)?], &rule)?;
    let scores = empty(LEN as u64 * 4, storage);
    let mask = empty(plan.mask_bytes(0).ok_or("one slice")?, storage);
    let records = empty(plan.records_bytes(), storage);
    let workspace = empty(plan.workspace_bytes(), storage | BufferUsages::COPY_DST);
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let slices = [SliceBuffers { weights: whole(&scores), norms: None, scores: None, mask: whole(&mask) }];
    let job = kernels.bind(
        &plan,
        &Buffers { slices: &slices, records: whole(&records), workspace: whole(&workspace), keys: None },
    )?;

    let source = wgpu::ShaderSource::Wgsl(SHADER.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pass = |encoder: &mut wgpu::CommandEncoder, entry: &str, entries: &[wgpu::BindGroupEntry<'_>]| {
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
        pass.dispatch_workgroups((LEN / 4).div_ceil(64) as u32, 1, 1);
    };

    // `record_mask` leaves the scores alone; a later frame could blend them with new ones.
    let copies = [scores.size(), weights.size()].map(|n| empty(n, BufferUsages::MAP_READ | BufferUsages::COPY_DST));
    let mut encoder = device.create_command_encoder(&Default::default());
    pass(&mut encoder, "score", &[entry(0, &weights), entry(1, &gradients), entry(2, &scores)]);
    job.record_mask(&mut encoder);
    pass(&mut encoder, "drop_losers", &[entry(0, &weights), entry(3, &mask)]);
    encoder.copy_buffer_to_buffer(&scores, 0, &copies[0], 0, None);
    encoder.copy_buffer_to_buffer(&weights, 0, &copies[1], 0, None);
    queue.submit([encoder.finish()]);

    copies.iter().for_each(|copy| copy.map_async(wgpu::MapMode::Read, .., |_| {}));
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let scores: Vec<f32> = bytemuck::pod_collect_to_vec(&copies[0].get_mapped_range(..)?[..]);
    let pruned: Vec<i8> = bytemuck::pod_collect_to_vec(&copies[1].get_mapped_range(..)?[..]);

    // The processor, given the same scores, has the same winners.
    let (decision, masks) = Pruner::cpu().mask(&[Tensor::from(&scores)], &rule)?;
    let expected = int8.iter().enumerate().map(|(i, &w)| if masks[0].get(i as u64) { w } else { 0 });
    assert!(expected.eq(pruned), "one answer everywhere");
    let group = decision.groups()[0];
    println!("{}: {} of {LEN} int8 weights kept by |weight * gradient|", adapter.get_info().name, group.kept);
    println!("N_eff {:.1}, threshold {:e}", group.n_eff, group.threshold);
    Ok(())
}
