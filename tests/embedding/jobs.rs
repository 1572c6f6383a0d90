//! Jobs among other work.

use crate::KINDS;
use crate::common::inputs::{self, distribution, mixture, with_norms};
use crate::common::oracle::{self, Contests, Keep, Kind, Question, Weights};
use crate::common::{self, skipped};
use crate::devices::{EVERYTHING, Gpu, adapters, open, open_by_default, turns};
use crate::task::{Task, ask_one, part, question, specs};
use emprune::ErrorKind;
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Checks, KernelOptions, Kernels, Record, Variant};

/// Records and sums, read back, are the decision that `Pruner` returns: effective numbers, masses and cuts, bit for bit.
#[test]
fn the_mass_on_the_device_is_the_pruner_s() {
    let cases = [
        (vec![mixture(Kind::F32, 9, 13, 1)], Contests::Row),
        (vec![mixture(Kind::Bf16, 5, 301, 2)], Contests::Row),
        (vec![mixture(Kind::F32, 2, 2100, 3)], Contests::Row),
        (vec![distribution("int8_levels").weights(Kind::F32, 1, 20_001, 4)], Contests::Tensor),
        ([5, 6].map(|seed| distribution("ternary").weights(Kind::F16, 3, 701, seed)).to_vec(), Contests::Global),
        (vec![mixture(Kind::F16, 23, 37, 7)], Contests::Column),
        (vec![distribution("ternary").weights(Kind::Bf16, 33, 47, 8)], Contests::Block(4, 5)),
        (vec![distribution("any_bits").weights(Kind::E4m3, 1, 20_003, 9)], Contests::Tensor),
        (vec![distribution("all_zeros").weights(Kind::F32, 1, 101, 10)], Contests::Tensor),
        (vec![distribution("sixty_decades").weights(Kind::F32, 1, 17_001, 11)], Contests::Tensor),
        (vec![distribution("near_max").weights(Kind::F32, 31, 700, 12)], Contests::Row),
        (vec![distribution("subnormal").weights(Kind::F32, 31, 700, 13)], Contests::Row),
        (vec![distribution("normal").weights(Kind::F32, 1, 20_001, 14)], Contests::Tensor),
        (vec![mixture(Kind::Bf16, 5, 301, 15)], Contests::Row),
    ];
    for (i, (tensors, contests)) in cases.into_iter().enumerate() {
        // The last two keep nothing, and so a mass of zero.
        let keeps = i < 12;
        let keep = match i {
            12.. => Keep::AllBut(1.0),
            _ if i % 3 == 2 => Keep::AllBut(0.9),
            _ => Keep::Effective,
        };
        let asked = Question { keep, ..question(contests, false, 0.5) };
        let borrowed: Vec<_> = tensors.iter().map(|w| common::check::tensor(w, &w.bytes)).collect();
        let (want, _) = common::cpu()[0].pruner.mask(&borrowed, &common::rule(&asked)).unwrap();
        for turn in turns() {
            let gpu = turn.gpu;
            let plan =
                gpu.kernels.plan(&specs(&tensors, &asked), &common::rule(&asked)).unwrap().with_mass(true).unwrap();
            let workspace = gpu
                .buffer(&vec![0xa5; plan.workspace_bytes() as usize], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let task = Task::with(gpu, &tensors, &asked, Some(&workspace), true);
            gpu.submit(|encoder| task.job.record_mask(encoder));
            let sums = plan.sums_range();
            let sums = &gpu.read(&workspace)[sums.start as usize..sums.end as usize];
            let records = task.look().records;
            let got = plan.decision(&records, sums).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
            assert_eq!(got, want, "{}", gpu.name);
            assert!(got.groups().iter().all(|g| (g.mass > 0.0) == keeps && g.n_eff >= 1.0), "{}", gpu.name);
            // What a shader finds in the records is near that, to the last place of an f32.
            for (i, (record, group)) in records.iter().zip(got.groups()).enumerate() {
                let what = format!("{}: contest {i} of {contests:?}", gpu.name);
                check_near(&format!("{what}: n_eff"), record.n_eff(), group.n_eff);
                check_near(&format!("{what}: mass"), record.mass(), group.mass);
                assert!(record.mass() <= 1.0 && (group.mass < 1.0 || record.mass() >= 1.0), "{what}");
            }
            let error = plan.decision(&records, &sums[1..]).expect_err("a byte is missing");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", gpu.name);
            // Bytes that no job has left are refused, or mean something else; they are no reason to panic.
            let bytes = sums.len();
            for (from, to) in
                [(0, bytes / 2), (bytes / 2, bytes), (0, bytes), (bytes / 3, bytes / 3 + 184.min(bytes / 2))]
            {
                for fill in [0, 1, 0x80, 0xff] {
                    let mut wrong = sums.to_vec();
                    wrong[from..to].fill(fill);
                    let refused = plan.decision(&records, &wrong).err().map(|error| error.kind());
                    assert!(matches!(refused, None | Some(ErrorKind::InvalidInput)), "{}: {refused:?}", gpu.name);
                }
            }
            plan.clone().with_mass(false).unwrap().decision(&records, sums).expect_err("there is no mass");
            // So are records: those of buffers that no job has come to yet, another count, and a status that there is not.
            let refused = |what: &str, records: &[Record], sums: &[u8]| {
                let error = plan.decision(records, sums).expect_err(what);
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {what}: {error}", gpu.name);
            };
            if keeps {
                refused("nothing", &vec![Record::default(); records.len()], &vec![0; bytes]);
            }
            let last = records.len() - 1;
            for (what, change) in [
                ("a count", (|record: &mut Record| record.kept[0] ^= 1) as fn(&mut Record)),
                ("a status", |record| record.status = 9),
                ("a slice", |record| (record.status, record.bad_slice) = (1, 77)),
            ] {
                let mut wrong = records.clone();
                change(&mut wrong[last]);
                refused(what, &wrong, sums);
            }
        }
    }
}

/// At most one unit in the last place away.
fn check_near(what: &str, got: f32, want: f64) {
    let unit = if want == 0.0 { 0.0 } else { 2f64.powi(want.log2().floor() as i32 - 23) };
    assert!((f64::from(got) - want).abs() <= unit, "{what} is {got:e}, and exactly {want:e}");
}

/// Jobs of every kind, one workspace, one encoder, one submit.
#[test]
fn jobs_share_a_workspace_one_after_the_other() {
    let questions = [
        ([(Kind::F32, 1, 40_001)].as_slice(), question(Contests::Tensor, false, 1.0)),
        (&[(Kind::Bf16, 77, 131)], question(Contests::Row, true, 1.0)),
        (&[(Kind::F16, 3, 131_073)], question(Contests::Row, false, 0.7)),
        (&[(Kind::F32, 1, 1001), (Kind::Bf16, 1, 999)], question(Contests::Global, false, 0.5)),
        (&[(Kind::F16, 1, 16_385)], question(Contests::Tensor, false, 1.0)),
        (&[(Kind::Bf16, 21, 67)], question(Contests::Column, true, 1.0)),
        (&[(Kind::F32, 19, 66)], Question { given: true, ..question(Contests::Row, false, 1.0) }),
        (&[(Kind::E5m2, 19, 66)], Question { given: true, ..question(Contests::Block(4, 4), false, 1.0) }),
        (
            &[(Kind::F32, 1, 3001), (Kind::Bf16, 1, 99)],
            Question { given: true, ..question(Contests::Global, false, 0.5) },
        ),
    ];
    let inputs: Vec<Vec<Weights>> = questions
        .iter()
        .map(|(shapes, asked)| {
            let weights = |&(kind, rows, row_len): &(Kind, usize, usize)| {
                let scores = distribution("normal").weights(Kind::F16, rows, row_len, 301);
                let weights = with_norms(distribution("int8_levels").weights(kind, rows, row_len, 300), 300);
                Weights { scores: asked.given.then(|| Box::new(scores)), ..weights }
            };
            shapes.iter().map(weights).collect()
        })
        .collect();
    for turn in turns() {
        let gpu = turn.gpu;
        let needed = |(tensors, (_, asked)): (&Vec<Weights>, &(&[_], Question))| {
            gpu.kernels.plan(&specs(tensors, asked), &common::rule(asked)).unwrap().workspace_bytes()
        };
        let size = inputs.iter().zip(&questions).map(needed).max().unwrap();
        let shared = gpu.buffer(&vec![0xa5; size as usize], BufferUsages::STORAGE);
        let tasks: Vec<_> = inputs
            .iter()
            .zip(&questions)
            .map(|(tensors, (_, asked))| Task::with(gpu, tensors, asked, Some(&shared), false))
            .collect();
        gpu.submit(|encoder| tasks.iter().for_each(|task| task.job.record_prune(encoder)));
        for (task, (_, asked)) in tasks.iter().zip(&questions) {
            task.check(&oracle::answer(task.tensors, asked).unwrap(), true);
        }
    }
}

/// A job asked twice in one encoder: the second time it finds weights that are pruned already.
#[test]
fn a_job_recorded_twice_prunes_what_is_left() {
    for (kind, contests, wanda) in [
        (Kind::F32, Contests::Tensor, false),
        (Kind::Bf16, Contests::Row, false),
        (Kind::F16, Contests::Tensor, true),
        (Kind::F32, Contests::Row, true),
    ] {
        let asked = question(contests, wanda, 1.0);
        let first = with_norms(distribution("normal").weights(kind, 7, 2341, 310), 310);
        let once = oracle::answer(std::slice::from_ref(&first), &asked).unwrap();
        let bits =
            first.bits().iter().zip(&once.masks[0]).map(|(&b, &kept)| if kept { b } else { 0 }).collect::<Vec<_>>();
        let second = Weights {
            norms: first.norms.clone(),
            ..inputs::weights(format!("{} pruned", first.label), kind, first.row_len, &bits)
        };
        let twice = oracle::answer(std::slice::from_ref(&second), &asked).unwrap();
        assert!(twice.contests[0].kept < once.contests[0].kept, "the second time has something to do");
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::new(gpu, std::slice::from_ref(&first), &asked);
            gpu.submit(|encoder| {
                task.job.record_prune(encoder);
                task.job.record_prune(encoder);
            });
            task.check(&twice, true);
        }
    }
}

/// Weights made by the caller's pass just before, and used by the caller's pass just after; nobody waits in between.
#[test]
fn between_two_passes_of_the_caller() {
    const BEFORE: &str = "
        @group(0) @binding(0) var<storage, read_write> made: array<u32>;
        @group(0) @binding(1) var<storage, read_write> weights: array<u32>;
        @compute @workgroup_size(64) fn before(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < arrayLength(&weights)) { weights[id.x] = made[id.x] ^ 0x80000000u; }
        }";
    const AFTER: &str = "
        @group(0) @binding(0) var<storage, read_write> weights: array<u32>;
        @group(0) @binding(1) var<storage, read_write> mask: array<u32>;
        @group(0) @binding(2) var<storage, read_write> after: array<u32>;
        @compute @workgroup_size(64) fn after_it(@builtin(global_invocation_id) id: vec3<u32>) {
            if (id.x < arrayLength(&weights)) {
                after[id.x] = weights[id.x] + ((mask[id.x / 32u] >> (id.x % 32u)) & 1u);
            }
        }";
    let made = distribution("normal").weights(Kind::F32, 13, 777, 320);
    let flipped: Vec<u32> = made.bits().iter().map(|b| b ^ 0x8000_0000).collect();
    let weights = inputs::weights(format!("{} negated", made.label), Kind::F32, 777, &flipped);
    for contests in [Contests::Tensor, Contests::Row] {
        let asked = question(contests, false, 1.0);
        let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
        let expected: Vec<u32> =
            flipped.iter().zip(&want.masks[0]).map(|(&b, &kept)| if kept { b + 1 } else { 0 }).collect();
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::new(gpu, std::slice::from_ref(&weights), &asked);
            // Nothing of the weights is there yet.
            let range = task.weights.2[0].clone();
            gpu.queue.write_buffer(&task.weights.1, range.start as u64, &vec![0xff; range.len()]);
            let made = gpu.buffer(&made.bytes, BufferUsages::STORAGE);
            let after = gpu.buffer(&vec![0; made.size() as usize], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let workgroups = (flipped.len() as u32).div_ceil(64);
            let here = part(&task.weights.1, &range);
            gpu.submit(|encoder| {
                gpu.pass(encoder, BEFORE, &[made.as_entire_buffer_binding(), here.clone()], workgroups);
                task.job.record_prune(encoder);
                let mask = part(&task.results.1, &task.masks[0]);
                gpu.pass(encoder, AFTER, &[here.clone(), mask, after.as_entire_buffer_binding()], workgroups);
            });
            task.check(&want, true);
            assert!(
                gpu.read(&after) == bytemuck::cast_slice::<u32, u8>(&expected),
                "{}: {contests:?}: the pass after",
                gpu.name
            );
        }
    }
}

/// The struct that is offered for the caller's shaders has every field where the record has it.
#[test]
fn a_shader_of_the_caller_reads_the_record() {
    const READER: &str = "
        @group(0) @binding(0) var<storage, read_write> records: array<Record>;
        @group(0) @binding(1) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(1) fn reader(@builtin(workgroup_id) id: vec3<u32>) {
            let record = records[id.x];
            let at = id.x * 8u;
            out[at] = record.status;
            out[at + 1u] = record.degenerate;
            out[at + 2u] = record.kept.x;
            out[at + 3u] = record.kept.y;
            out[at + 4u] = record.threshold;
            out[at + 5u] = u32(record.cut_span == NO_CUT);
            // As floats: the kept part, in thousandths, and the entries that count.
            out[at + 6u] = u32(1000.0 * bitcast<f32>(record.mass));
            out[at + 7u] = u32(bitcast<f32>(record.n_eff));
        }";
    let weights = mixture(Kind::Bf16, 60, 131, 330);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    assert!(want.contests.iter().any(|c| c.degenerate) && want.contests.iter().any(|c| !c.degenerate), "both kinds");
    let expected = want.contests.iter().flat_map(|c| {
        let reach = c.scores.iter().filter(|s| **s >= c.threshold).count();
        let (mass, n_eff) = (c.mass as f32, c.n_eff as f32);
        let bits = [0, c.degenerate.into(), c.kept as u32, 0, c.threshold.to_bits(), u32::from(reach == c.kept)];
        bits.into_iter().chain([(1000.0 * mass) as u32, n_eff as u32])
    });
    let expected: Vec<u32> = expected.collect();
    for turn in turns() {
        let gpu = turn.gpu;
        let task = Task::with(gpu, std::slice::from_ref(&weights), &asked, None, true);
        let out = gpu.buffer(&vec![0xff; expected.len() * 4], BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        gpu.submit(|encoder| {
            task.job.record_mask(encoder);
            let records = part(&task.results.1, &task.records);
            let source = format!("{READER}\n{}", Record::WGSL);
            gpu.pass(encoder, &source, &[records, out.as_entire_buffer_binding()], 60);
        });
        assert!(
            gpu.read(&out) == bytemuck::cast_slice::<u32, u8>(&expected),
            "{}: the records as a shader sees them",
            gpu.name
        );
    }
}

/// Whatever the other tests are asked to use: subgroups, and shaders that check everything, agree with the oracle too.
#[test]
fn every_variant_checked_and_not() {
    let cases = [
        (mixture(Kind::F32, 7, 200, 2), Contests::Row),
        (mixture(Kind::F32, 2, 2100, 4), Contests::Row),
        (distribution("normal").weights(Kind::F32, 1, 40_000, 5), Contests::Tensor),
    ];
    for turn in turns() {
        let gpu = turn.gpu;
        let has = gpu.device.features().contains(wgpu::Features::SUBGROUP);
        let choices = match has {
            true => [(Variant::Subgroup, Checks::Proven), (Variant::Subgroup, Checks::All)],
            false => [(Variant::Subgroup, Checks::All), (Variant::Portable, Checks::All)],
        };
        for (variant, checks) in choices {
            let options = KernelOptions::new().with_variant(variant).with_checks(checks);
            let kernels = match Kernels::with_options(&gpu.device, options) {
                Ok(kernels) => kernels,
                Err(error) => {
                    assert!(variant == Variant::Subgroup && !has, "{}: {error}", gpu.name);
                    assert_eq!(error.kind(), ErrorKind::Limit, "{}", gpu.name);
                    assert!(error.to_string().contains("SUBGROUP"), "{}: {error}", gpu.name);
                    continue;
                }
            };
            assert_eq!(kernels.variant(), variant, "{}", gpu.name);
            let name = format!("{}, {variant:?}, {checks:?}, {EVERYTHING}", gpu.name);
            let gpu = Gpu { name, device: gpu.device.clone(), queue: gpu.queue.clone(), kernels };
            for (weights, contests) in &cases {
                let asked = question(*contests, false, 1.0);
                let weights = std::slice::from_ref(weights);
                let want = oracle::answer(weights, &asked).unwrap();
                ask_one(&gpu, weights, &asked, &want);
            }
        }
    }
}

/// Recording is only that: nothing happens on the device, and what is not submitted never happens.
#[test]
fn recording_does_nothing_by_itself() {
    let weights = distribution("normal").weights(Kind::F32, 3, 1001, 340);
    for turn in turns() {
        let gpu = turn.gpu;
        for contests in [Contests::Tensor, Contests::Row] {
            let task = Task::new(gpu, std::slice::from_ref(&weights), &question(contests, false, 1.0));
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            task.job.record_prune(&mut encoder);
            task.job.record_mask(&mut encoder);
            let commands = encoder.finish();
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let (weights, results) = (gpu.read(&task.weights.1), gpu.read(&task.results.1));
            assert!(weights == task.weights.0.bytes, "{}: {contests:?}: weights changed before the submit", gpu.name);
            assert!(
                results == task.results.0.bytes,
                "{}: {contests:?}: results were written before the submit",
                gpu.name
            );
            drop(commands);
        }
    }
}

/// Once bound, a job takes no more memory of the device, however often it is recorded.
#[test]
fn recording_allocates_nothing() {
    let weights = with_norms(distribution("normal").weights(Kind::Bf16, 3, 1001, 350), 350);
    for adapter in adapters() {
        // A device that no other test allocates on.
        let (name, device, queue) = open_by_default(&adapter);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        let live = || {
            gpu.device
                .generate_allocator_report()
                .map(|r| (r.allocations.len(), r.total_allocated_bytes, r.total_reserved_bytes))
        };
        if live().is_none() {
            skipped(&format!("{} does not say what it allocates", gpu.name));
            continue;
        }
        for (contests, wanda) in [
            (Contests::Tensor, true),
            (Contests::Row, true),
            (Contests::Global, false),
            (Contests::Column, true),
            (Contests::Block(2, 100), false),
        ] {
            let task = Task::new(&gpu, std::slice::from_ref(&weights), &question(contests, wanda, 1.0));
            gpu.submit(|_| {});
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            let before = live();
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..5 {
                task.job.record_prune(&mut encoder);
                task.job.record_mask(&mut encoder);
            }
            assert_eq!(live(), before, "{}: {contests:?}", gpu.name);
            drop(encoder);
        }
    }
}

/// Kernels are shared: bound, recorded and submitted from several threads at once.
#[test]
fn several_threads_use_the_same_kernels() {
    let asked = question(Contests::Row, false, 1.0);
    for turn in turns() {
        let gpu = turn.gpu;
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    let weights = distribution("normal").weights(KINDS[seed % 3], 21, 131 + seed, seed as u64);
                    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
                    let task = Task::new(gpu, std::slice::from_ref(&weights), &asked);
                    gpu.submit(|encoder| task.job.record_prune(encoder));
                    task.check(&want, true);
                });
            }
        });
    }
}

/// Compiled pipelines go to a cache of the caller's and come back from it.
#[test]
#[allow(unsafe_code, reason = "the one way to make a pipeline cache")]
fn a_pipeline_cache_of_the_caller() {
    let weights = distribution("normal").weights(Kind::F32, 3, 1001, 360);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    for adapter in adapters() {
        if !adapter.features().contains(wgpu::Features::PIPELINE_CACHE) {
            skipped(&format!("{} has no pipeline caches", adapter.get_info().name));
            continue;
        }
        let adapter = &adapter;
        let (name, device, queue) = open(adapter, "a cache", wgpu::Features::PIPELINE_CACHE, wgpu::Limits::default());
        let gpu = Gpu { kernels: Kernels::new(&device), name, device, queue };
        let mut data: Option<Vec<u8>> = None;
        for turn in ["new", "filled by another"] {
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: false };
            // SAFETY: there is no data, or what a cache of the same device gave.
            let cache = unsafe { gpu.device.create_pipeline_cache(&descriptor) };
            let options = KernelOptions::new().with_cache(cache.clone());
            let kernels = Kernels::with_options(&gpu.device, options).unwrap();
            let gpu = Gpu { name: gpu.name.clone(), device: gpu.device.clone(), queue: gpu.queue.clone(), kernels };
            let task = Task::new(&gpu, std::slice::from_ref(&weights), &asked);
            gpu.submit(|encoder| task.job.record_prune(encoder));
            task.check(&want, true);
            data = cache.get_data();
            assert!(
                data.as_ref().is_some_and(|data| !data.is_empty()),
                "{}: a {turn} cache has something to give",
                gpu.name
            );
        }
    }
}
