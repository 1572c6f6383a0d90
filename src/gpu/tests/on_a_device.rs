//! What takes a device: whatever adapter the tests are told to take.

use crate::dtype::Dtype;
use crate::gpu::layout::Record;
use crate::gpu::{Buffers, Engine, KernelOptions, Kernels, Options, SliceBuffers, transfer};
use crate::plan::Tuning;
use crate::rule::{Budget, Granularity, Rule, Score};
use crate::tensor::{Tensor, TensorSpec};
use std::sync::atomic::Ordering;

/// None where no GPU is wanted.
fn engine() -> Option<Engine> {
    if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
        return None;
    }
    let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default();
    let options = Options::new().with_software(true).with_adapter(part);
    Some(Engine::open(&options).expect("an adapter; EMPRUNE_NO_GPU=1 says that none is wanted"))
}

/// What a plan says it will dispatch is recorded. `bind` is the last to compile anything, and after `warm_up` has nothing to compile.
#[test]
fn recording_keeps_to_the_plan() {
    let Some(engine) = engine() else { return };
    let device = &engine.device.device;
    let spec = |dtype, len, row_len| TensorSpec::new(dtype, len, row_len).expect("whole rows");
    let (f32, bf16, f8) = (Dtype::F32, Dtype::Bf16, Dtype::F8E4m3);
    let of = |granularity| Rule::new().with_granularity(granularity);
    let given = |granularity| of(granularity).with_score(Score::Given);
    let block = |rows, columns| of(Granularity::Block { rows, columns });
    let count = Budget::Count(3);
    let small = std::env::var("EMPRUNE_TEST_SIZE").is_ok_and(|size| size == "small");
    for (i, (what, slices, rule)) in [
        ("a tensor", vec![spec(f32, 5001, 5001)], of(Granularity::Tensor)),
        ("slices of one contest", vec![spec(f32, 500, 5), spec(bf16, 77, 7), spec(f8, 99, 9)], of(Granularity::Global)),
        ("rows of a lane", vec![spec(bf16, 33 * 5, 5)], of(Granularity::Row)),
        ("rows of a team", vec![spec(f32, 9 * 301, 301)], of(Granularity::Row).with_score(Score::Wanda)),
        ("rows of a workgroup", vec![spec(bf16, 3 * 3001, 3001)], of(Granularity::Row).with_budget(count)),
        ("a tensor in fours of words", vec![spec(f32, 5000, 5000)], of(Granularity::Tensor)),
        ("rows in fours of words", vec![spec(bf16, 3 * 3000, 3000)], of(Granularity::Row)),
        ("long rows", vec![spec(bf16, 3 * 140_001, 140_001)], of(Granularity::Row)),
        ("columns", vec![spec(f8, 300 * 7, 7)], of(Granularity::Column)),
        ("blocks with edges", vec![spec(f32, 67 * 13, 13)], block(4, 4)),
        ("blocks of several workgroups", vec![spec(f32, 400 * 401, 401)], block(399, 400)),
        ("scores of the caller's", vec![spec(bf16, 5000, 5000).with_scores(f32)], given(Granularity::Tensor)),
        ("rows of such scores", vec![spec(f32, 50 * 33, 33).with_scores(bf16)], given(Granularity::Row)),
        ("columns of such scores", vec![spec(f32, 50 * 33, 33).with_scores(bf16)], given(Granularity::Column)),
    ]
    .into_iter()
    .enumerate()
    {
        for mass in [false, true] {
            if small && mass == (i % 2 == 0) {
                continue;
            }
            let kernels = Kernels::with_options(device, engine.kernels.options()).expect("as the engine has");
            let plan = kernels.plan(&slices, &rule).expect(what).with_mass(mass).expect(what);
            let buffer = |bytes: u64| transfer::buffer(device, what, bytes);
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let made: Vec<_> = (0..slices.len())
                .map(|i| {
                    let bytes = [plan.weights_bytes(i), plan.scores_bytes(i), plan.mask_bytes(i)];
                    let [weights, scores, mask] = bytes.map(|bytes| bytes.map(buffer));
                    let norms = (rule.score == Score::Wanda).then(|| buffer(slices[i].row_len * 4));
                    (weights.expect("a slice"), norms, scores, mask.expect("a slice"))
                })
                .collect();
            let bound: Vec<_> = made
                .iter()
                .map(|(weights, norms, scores, mask)| SliceBuffers {
                    weights: whole(weights),
                    norms: norms.as_ref().map(whole),
                    scores: scores.as_ref().map(whole),
                    mask: whole(mask),
                })
                .collect();
            let [records, workspace, keys] =
                [plan.records_bytes(), plan.workspace_bytes(), plan.keys_bytes()].map(buffer);
            let keys = (plan.keys_bytes() > 0).then(|| whole(&keys));
            let buffers = Buffers { slices: &bound, records: whole(&records), workspace: whole(&workspace), keys };
            if mass {
                kernels.warm_up(&plan);
                assert!(kernels.compiled() > 0, "{what}: nothing is warmed up");
            }
            let warm = kernels.compiled();
            let job = kernels.bind(&plan, &buffers).expect(what);
            let compiled = kernels.compiled();
            assert_eq!(compiled == warm, mass, "{what}: {warm} pipelines before `bind`, {compiled} after");
            let mut encoder = engine.encoder();
            job.record_prune(&mut encoder);
            assert_eq!(kernels.recorded.swap(0, Ordering::Relaxed), plan.dispatches(), "{what}, mass {mass}");
            job.record_mask(&mut encoder);
            assert!(kernels.recorded.load(Ordering::Relaxed) <= plan.dispatches(), "{what}: a mask takes more");
            assert_eq!(kernels.compiled(), compiled, "{what}: recording compiles");
            engine.device.queue.submit([encoder.finish()]);
            engine.device.check().expect(what);
        }
    }
}

/// A workgroup that reads more than its windows hold empties them in between: with one reader, and limbs whose sum is more than a word.
#[test]
fn windows_are_emptied_in_mid_read() {
    let Some(engine) = engine() else { return };
    let device = &engine.device.device;
    let tuning = Tuning { readers: 1, ..Tuning::default() };
    let kernels = Kernels::with_options(device, KernelOptions::new().with_tuning(tuning)).expect("as any device");
    let rule = Rule::new().with_granularity(Granularity::Tensor);
    // Twice 2^19 entries and more, strided and in fours; of f16 some are strays.
    for (dtype, len) in [(Dtype::F32, 1_100_003), (Dtype::F32, 1_100_004), (Dtype::F16, 1_100_008)] {
        let scramble = |i: u64| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32;
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => (0..len).flat_map(|i| (scramble(i) as f32 / 1e7).to_le_bytes()).collect(),
            _ => (0..len).flat_map(|i| ((scramble(i) % 0x7c00) as u16).to_le_bytes()).collect(),
        };
        let spec = TensorSpec::new(dtype, len, len).expect("one row");
        let plan = kernels.plan(&[spec], &rule).expect("a tensor");
        let buffer = |bytes: u64| transfer::buffer(device, "emprune.test", bytes);
        let [weights, mask] = [plan.weights_bytes(0), plan.mask_bytes(0)].map(|bytes| buffer(bytes.expect("a slice")));
        let [records, workspace] = [plan.records_bytes(), plan.workspace_bytes()].map(buffer);
        transfer::upload(&engine.device, &weights, &bytes);
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let slices = [SliceBuffers { weights: whole(&weights), norms: None, scores: None, mask: whole(&mask) }];
        let buffers = Buffers { slices: &slices, records: whole(&records), workspace: whole(&workspace), keys: None };
        let job = kernels.bind(&plan, &buffers).expect("buffers of the plan's sizes");
        let mut encoder = engine.encoder();
        job.record_mask(&mut encoder);
        let wanted = [(&records, size_of::<Record>() as u64), (&mask, len.div_ceil(32) * 4)];
        let back = transfer::read_back(&engine.device, encoder, &wanted).expect("a device that works");
        let record: Record = bytemuck::pod_read_unaligned(&back[0]);
        let tensor = Tensor::from_bytes(&bytes, dtype).expect("whole entries");
        let (decision, masks) = crate::Pruner::cpu().mask(&[tensor], &rule).expect("numbers");
        let group = &decision.groups()[0];
        assert_eq!((record.kept(), record.threshold), (group.kept, group.threshold.to_bits()), "{dtype} of {len}");
        assert!(back[1].starts_with(masks[0].as_bytes()), "{dtype} of {len}: another mask");
    }
}

/// Once a device had no memory for a contest, those that are as large are decided piece by piece, and smaller ones as before.
#[test]
fn a_contest_that_gives_way_is_not_resident_again() {
    let Some(engine) = engine() else { return };
    let begin = |len| engine.contest(&Rule::new(), 3, vec![(len, Dtype::F32); 3]).expect("a contest");
    let piece = engine.piece_bytes() as u64;
    let (small, large) = (piece / 12 - 1, piece / 12 + 1);
    // What is resident is narrowed by one call.
    for (len, resident) in [(small, true), (large, true)] {
        assert_eq!(begin(len).is_narrowed(), resident, "{len}");
    }
    assert!(!begin(small).gives_way(), "a contest of hardly a piece takes no less");
    assert!(begin(large).gives_way());
    assert!(begin(small).is_narrowed());
    let mut again = begin(large);
    assert!(!again.is_narrowed() && !again.gives_way());
}
