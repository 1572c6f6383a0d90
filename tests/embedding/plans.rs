//! Plans and their numbers; devices that will do and devices that will not.

use crate::common::inputs::distribution;
use crate::common::oracle::{self, Contests, Kind};
use crate::devices::{Gpu, adapters, open, turns};
use crate::task::{Task, question};
use emprune::gpu::wgpu;
use emprune::gpu::{Kernels, Plan, Record, Variant, required_features, required_limits};
use emprune::{Dtype, Error, ErrorKind, Granularity, Rule, Score, TensorSpec};

pub(crate) fn plan(gpu: &Gpu, slices: &[(Dtype, u64, u64)], rule: Rule) -> Result<Plan, Error> {
    // The fields are public, so anything can be in them.
    let specs: Vec<_> =
        slices.iter().map(|&(dtype, len, row_len)| TensorSpec { dtype, len, row_len, scores: None }).collect();
    gpu.kernels.plan(&specs, &rule)
}

const RECORD: u64 = size_of::<Record>() as u64;
pub(crate) const ROW: Rule = Rule::new().with_granularity(Granularity::Row);
pub(crate) const TENSOR: Rule = Rule::new();
pub(crate) const GLOBAL: Rule = Rule::new().with_granularity(Granularity::Global);

#[test]
fn a_plan_knows_its_sizes() {
    for turn in turns() {
        let gpu = turn.gpu;
        let rows = plan(gpu, &[(Dtype::Bf16, 301 * 27, 27)], ROW).unwrap();
        assert_eq!(
            (rows.group_count(), rows.records_bytes()),
            (301, 301 * size_of::<Record>() as u64),
            "one record per row"
        );
        assert_eq!((rows.weights_bytes(0), rows.mask_bytes(0)), (Some(301 * 27 * 2 + 2), Some(254 * 4)), "whole words");
        assert_eq!((rows.weights_bytes(1), rows.mask_bytes(1)), (None, None), "past the last slice");
        let more_rows = plan(gpu, &[(Dtype::Bf16, 90_001 * 27, 27)], ROW).unwrap();
        assert_eq!(
            more_rows.dispatches(),
            rows.dispatches(),
            "rows are one sequence of dispatches, however many there are"
        );
        let global = plan(gpu, &[(Dtype::F32, 1000, 10), (Dtype::F16, 77, 7)], GLOBAL).unwrap();
        assert_eq!(
            (global.group_count(), global.weights_bytes(1), global.mask_bytes(1)),
            (1, Some(156), Some(12)),
            "two slices"
        );
        for (dtype, bytes) in [(Dtype::F32, 4 << 20), (Dtype::F16, 2 << 20), (Dtype::Bf16, 2 << 20)] {
            let mask = 1 << 17;
            let whole = plan(gpu, &[(dtype, 1 << 20, 1 << 20)], TENSOR).unwrap();
            assert_eq!(whole.bytes_moved(), (2 * bytes, bytes + mask + RECORD), "{dtype}: two reads and one write");
            let rows = plan(gpu, &[(dtype, 1 << 20, 1 << 10)], ROW).unwrap();
            assert_eq!(rows.bytes_moved(), (bytes, bytes + mask + 1024 * RECORD), "{dtype}: one read and one write");
        }
    }
}

/// Contests of a few entries, as many as there are: what only the mass needs takes no memory without it.
#[test]
fn short_rows_have_sums_for_the_mass_alone() {
    for turn in turns() {
        let gpu = turn.gpu;
        let kernels = &gpu.kernels;
        let spec = |len| TensorSpec::new(Dtype::Bf16, len, 4096).unwrap();
        let rule = Rule::new().n_of_m(2, 4);
        let few = kernels.plan(&[spec(1 << 16)], &rule).unwrap();
        let with = few.clone().with_mass(true).unwrap();
        assert!(few.sums_range().is_empty() && few.workspace_bytes() < 1 << 17, "{}", gpu.name);
        assert_eq!(with.sums_range(), 0..184 << 14, "{}", gpu.name);
        assert!(
            with.workspace_bytes() >= 184 << 14
                && few.workspace_bytes() == with.with_mass(false).unwrap().workspace_bytes()
        );
        // As many records as one binding holds, and not their sums.
        let binding = gpu.device.limits().max_storage_buffer_binding_size.min(16 << 30);
        let groups = (binding / RECORD).min((1 << 28) - 1) / 1024 * 1024;
        if groups * 184 > binding {
            let many = kernels.plan(&[spec(4 * groups)], &rule).unwrap();
            let error = many.with_mass(true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit, "{}: {error}", gpu.name);
        }
    }
}

/// Columns and blocks are one sequence of dispatches too, and what their arrangement costs is said.
#[test]
fn a_plan_of_blocks_knows_its_sizes() {
    const COLUMN: Rule = Rule::new().with_granularity(Granularity::Column);
    const BLOCKS: Rule = Rule::new().with_granularity(Granularity::Block { rows: 4, columns: 4 });
    for turn in turns() {
        let gpu = turn.gpu;
        let (len, columns) = (1 << 20, 1 << 10);
        let all = plan(gpu, &[(Dtype::Bf16, len, columns)], COLUMN).unwrap();
        assert_eq!((all.group_count(), all.keys_bytes(), all.mask_bytes(0)), (columns, 4 * len, Some(len / 8)));
        // Arranged, decided, brought back, zeroed.
        assert_eq!(all.dispatches(), 4);
        assert_eq!(all.with_mass(true).unwrap().dispatches(), 5);
        let small = plan(gpu, &[(Dtype::Bf16, 64 * 12, 12)], BLOCKS).unwrap();
        let large = plan(gpu, &[(Dtype::Bf16, len, columns)], BLOCKS).unwrap();
        assert_eq!((small.group_count(), large.group_count()), (48, len / 16));
        assert_eq!(small.dispatches(), large.dispatches(), "however many there are");
        let edges = plan(gpu, &[(Dtype::Bf16, 67 * 13, 13)], BLOCKS).unwrap();
        assert_eq!((edges.group_count(), edges.dispatches()), (17 * 4, small.dispatches() + 3), "blocks of four sizes");
        // Weights, keys, their mask; the mask again and the weights, to be zeroed.
        let (mask, keys, weights, records) = (len / 8, 4 * len, 2 * len, len / 16 * RECORD);
        assert_eq!(
            large.bytes_moved(),
            (2 * weights + keys + 2 * mask + records, weights + keys + 2 * mask + 2 * records)
        );
        let runs = plan(gpu, &[(Dtype::Bf16, len, columns)], ROW).unwrap();
        assert_eq!(runs.keys_bytes(), 0, "rows are runs of neighbours");
    }
}

#[test]
fn a_plan_of_scores_knows_its_sizes() {
    let rule = TENSOR.with_score(Score::Given);
    for turn in turns() {
        let spec = TensorSpec::new(Dtype::F32, 1001, 1001).unwrap().with_scores(Dtype::Bf16);
        let plan = turn.gpu.kernels.plan(&[spec], &rule).unwrap();
        assert_eq!((plan.weights_bytes(0), plan.scores_bytes(0), plan.scores_bytes(1)), (Some(4004), Some(2004), None));
        // Scores twice, then mask and weights, and the weights are written.
        assert_eq!(plan.bytes_moved(), (2 * 2004 + 128 + 4004, 4004 + 128 + RECORD));
    }
}

/// A model in slices that a binding holds is one contest, however many they are; also where a buffer is no larger than a binding.
#[test]
fn a_contest_larger_than_any_binding_is_planned() {
    let check = |gpu: &Gpu| {
        let binding = gpu.device.limits().max_storage_buffer_binding_size.min(1 << 30);
        let slice = |dtype: Dtype| (dtype, binding / dtype.size() as u64 / 1024 * 1024, 1024);
        // Half a billion entries of f32, and seven billion of bf16.
        for (dtype, entries) in [(Dtype::F32, 500_000_000), (Dtype::Bf16, 7_000_000_000)] {
            let slices = vec![slice(dtype); (entries / slice(dtype).1) as usize];
            let planned = plan(gpu, &slices, GLOBAL);
            assert!(planned.is_ok(), "{}: {} slices of {dtype}: {planned:?}", gpu.name, slices.len());
        }
    };
    turns().for_each(|turn| check(turn.gpu));
    for adapter in adapters() {
        let limits = wgpu::Limits { max_buffer_size: 128 << 20, ..wgpu::Limits::default() };
        let (name, device, queue) = open(&adapter, "small buffers", wgpu::Features::empty(), limits);
        let kernels = Kernels::new(&device);
        check(&Gpu { name, device, queue, kernels });
    }
}

#[test]
fn plans_that_cannot_be_meant_are_refused() {
    turns().for_each(|turn| refuses_what_cannot_be_meant(turn.gpu));
}

/// Many hardware drivers bind 2^31 - 4 bytes, an odd number of words.
#[test]
fn so_they_are_where_a_binding_has_an_odd_number_of_words() {
    for adapter in adapters() {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: (128 << 20) - 4, ..wgpu::Limits::default() };
        let (name, device, queue) = open(&adapter, "an odd binding", wgpu::Features::empty(), limits);
        let kernels = Kernels::new(&device);
        refuses_what_cannot_be_meant(&Gpu { name, device, queue, kernels });
    }
}

fn refuses_what_cannot_be_meant(gpu: &Gpu) {
    use ErrorKind::{InvalidInput, Limit};
    let one = (Dtype::F32, 64, 8);
    let wanda = TENSOR.with_score(Score::Wanda);
    let refuse =
        |what: &str, slices: &[(Dtype, u64, u64)], rule: Rule, kind: ErrorKind, tensor: Option<usize>| match plan(
            gpu, slices, rule,
        ) {
            Ok(plan) => panic!("{}: {what} is planned: {plan:?}", gpu.name),
            Err(error) => {
                assert_eq!((error.kind(), error.tensor()), (kind, tensor), "{}: {what}: {error:?}", gpu.name)
            }
        };
    let segments = Rule::new().with_granularity(Granularity::Segments);
    refuse("segments", &[one], segments, InvalidInput, None);
    refuse("no scores", &[one], TENSOR.with_score(Score::Given), InvalidInput, Some(0));
    let scored = TensorSpec::new(Dtype::F32, 64, 8).unwrap().with_scores(Dtype::F16);
    let error = gpu.kernels.plan(&[scored], &TENSOR).unwrap_err();
    assert!(error.to_string().contains("magnitude"), "{}: {error}", gpu.name);
    refuse("nothing", &[], TENSOR, InvalidInput, None);
    refuse("nothing at all", &[], GLOBAL, InvalidInput, None);
    refuse("two slices, each a contest", &[one, one], TENSOR, InvalidInput, None);
    refuse("two slices of rows", &[one, one], ROW, InvalidInput, None);
    refuse("an empty slice", &[(Dtype::F32, 0, 8)], TENSOR, InvalidInput, Some(0));
    refuse("an empty slice behind another", &[one, (Dtype::F16, 0, 1)], GLOBAL, InvalidInput, Some(1));
    refuse("rows of nothing", &[(Dtype::F32, 8, 0)], ROW, InvalidInput, Some(0));
    refuse("a row and a half", &[one, (Dtype::F32, 12, 8)], GLOBAL, InvalidInput, Some(1));
    refuse("2^30 entries", &[(Dtype::Bf16, 1 << 30, 1 << 30)], TENSOR, Limit, Some(0));
    refuse("all entries there can be", &[(Dtype::F32, u64::MAX, 1)], ROW, Limit, Some(0));
    let binding = gpu.device.limits().max_storage_buffer_binding_size;
    let fits = (binding / 4).min((1 << 30) - 1);
    let whole = |len: u64| [(Dtype::F32, len, len)];
    assert!(plan(gpu, &whole(fits), TENSOR).is_ok(), "{}: a slice that fills a binding", gpu.name);
    let blamed = (fits + 1 == 1 << 30).then_some(0);
    refuse("a slice larger than a binding", &whole(fits + 1), TENSOR, Limit, blamed);
    let column = Rule::new().with_granularity(Granularity::Column);
    refuse("records larger than a binding", &[(Dtype::Bf16, fits, 1)], ROW, Limit, None);
    // 16-bit weights fit where their keys and the norms, one f32 per column, do not; unless there are too many of them at all.
    let (even, columns) = (binding / 8 * 2 + 2, binding / 4 + 1);
    if even < 1 << 30 {
        refuse("keys larger than a binding", &[(Dtype::Bf16, even, 2)], column, Limit, None);
        refuse("norms larger than a binding", &[(Dtype::Bf16, columns, columns)], wanda, Limit, None);
    }
}

/// Parts that each fit a binding, and together no buffer.
#[test]
fn a_workspace_larger_than_a_buffer_is_refused() {
    let chunks = Rule::new().with_granularity(Granularity::Chunks(2));
    for adapter in adapters() {
        let (name, device, queue) = open(&adapter, "default limits", wgpu::Features::empty(), wgpu::Limits::default());
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        let plan = |len| plan(&gpu, &[(Dtype::F32, len, 3)], chunks).and_then(|plan| plan.with_mass(true));
        let small = plan(1_200_000).map(|plan| plan.workspace_bytes());
        assert!(small.is_ok_and(|bytes| bytes <= gpu.device.limits().max_buffer_size), "{}", gpu.name);
        let error = plan(2_100_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{}: {error}", gpu.name);
        assert!(error.to_string().contains("workspace takes"), "{}: {error}", gpu.name);
    }
}

/// A device that lacks what WebGPU promises: an error by name, and no error of wgpu's, which would panic.
#[test]
fn a_lesser_device_is_refused_by_name() {
    for adapter in adapters() {
        let lesser = wgpu::Limits::downlevel_defaults();
        let (name, device, queue) = open(&adapter, "downlevel limits", wgpu::Features::empty(), lesser);
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device: device.clone(), queue, kernels };
        let refused = plan(&gpu, &[(Dtype::F32, 64, 8)], ROW).map(drop);
        let raised = pollster::block_on(scope.pop());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Limit, "{}", gpu.name);
        assert!(raised.is_none(), "{}: making kernels raised {}", gpu.name, raised.unwrap());
    }
}

/// And with subgroups, where the adapter has them.
#[test]
fn required_limits_and_features_open_a_device_that_binds_all_there_is() {
    let weights = distribution("normal").weights(Kind::F16, 3, 1001, 420);
    let asked = question(Contests::Tensor, false, 1.0);
    for adapter in adapters() {
        let limits = required_limits(&adapter.limits());
        let features = required_features(adapter.features());
        let (name, device, queue) = open(&adapter, "what is required", features, limits);
        assert_eq!(
            device.limits().max_storage_buffer_binding_size,
            adapter.limits().max_storage_buffer_binding_size,
            "{name}: a binding as large as there is"
        );
        let kernels = Kernels::new(&device);
        let has = adapter.features().contains(wgpu::Features::SUBGROUP);
        assert_eq!(kernels.variant(), if has { Variant::Subgroup } else { Variant::Portable }, "{name}");
        let gpu = Gpu { name, device, queue, kernels };
        let task = Task::new(&gpu, std::slice::from_ref(&weights), &asked);
        gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&oracle::answer(std::slice::from_ref(&weights), &asked).unwrap(), true);
    }
}
