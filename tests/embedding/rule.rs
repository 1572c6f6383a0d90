//! The rule, on the caller's device.

use crate::KINDS;
use crate::common::inputs::{self, Rng, distribution, mixture, near, one, with_norms};
use crate::common::oracle::{self, Contests, Keep, Kind, Question};
use crate::devices::{Gpu, adapters, open, turns};
use crate::task::{Task, ask, ask_one, question};
use emprune::gpu::wgpu;
use emprune::gpu::{KernelOptions, Kernels, Tuning};

const SOME: [&str; 7] = ["normal", "int8_levels", "ternary", "sixty_decades", "all_equal", "mostly_zeros", "any_bits"];

/// As (rows, row length): the edges of words, of workgroups, of tiles and of parts, and one less and one more.
const WHOLE: [(usize, usize); 17] = [
    (1, 1),
    (1, 2),
    (3, 1),
    (1, 31),
    (2, 16),
    (3, 11),
    (1, 257),
    (63, 65),
    (1, 4096),
    (17, 241),
    (1, 8191),
    (3, 2731),
    (1, 16_383),
    (1, 16_384),
    (5, 3277),
    (7, 4681),
    (7, 7143),
];
const ROWS: [(usize, usize); 17] = [
    (1, 1),
    (35, 1),
    (9, 2),
    (33, 7),
    (5, 31),
    (3, 131),
    (301, 27),
    (65, 64),
    (3, 1024),
    (2, 1025),
    (3, 2048),
    (3, 2049),
    (3, 257),
    (2, 4097),
    (3, 8193),
    (2, 16_385),
    (2, 50_001),
];

/// Every shape with another distribution, and beta 1 and 1/2 by turns.
fn shapes(kind: Kind, contests: Contests, wanda: bool) {
    let shapes = if contests == Contests::Row { &ROWS[..] } else { &WHOLE[..] };
    for (i, &(rows, row_len)) in shapes.iter().enumerate() {
        let seed = 200 + i as u64;
        let mut weights = distribution(SOME[i % SOME.len()]).weights(kind, rows, row_len, seed);
        if contests == Contests::Row && i % 3 == 1 {
            weights = mixture(kind, rows, row_len, seed);
        }
        if wanda {
            weights = with_norms(weights, seed);
        }
        ask(&[weights], &question(contests, wanda, [1.0, 0.5][i % 2]));
    }
}

macro_rules! shapes {
    ($($name:ident: $kind:ident, $contests:ident, $wanda:literal;)*) => {$(
        #[test]
        fn $name() {
            shapes(Kind::$kind, Contests::$contests, $wanda);
        }
    )*};
}

shapes! {
    f32_whole: F32, Tensor, false;
    f32_whole_wanda: F32, Tensor, true;
    f32_rows: F32, Row, false;
    f32_rows_wanda: F32, Row, true;
    f16_whole: F16, Tensor, false;
    f16_whole_wanda: F16, Tensor, true;
    f16_rows: F16, Row, false;
    f16_rows_wanda: F16, Row, true;
    bf16_whole: Bf16, Tensor, false;
    bf16_whole_wanda: Bf16, Tensor, true;
    bf16_rows: Bf16, Row, false;
    bf16_rows_wanda: Bf16, Row, true;
    e4m3_whole: E4m3, Tensor, false;
    e4m3_rows_wanda: E4m3, Row, true;
    e5m2_whole_wanda: E5m2, Tensor, true;
    e5m2_rows: E5m2, Row, false;
}

/// Rows of eight bits, up to four of which end in one word.
#[test]
fn rows_that_share_words() {
    for (i, row_len) in (1..=9).chain(29..=37).chain(61..=67).enumerate() {
        let kind = [Kind::E4m3, Kind::E5m2][i % 2];
        ask(&[mixture(kind, 23, row_len, i as u64)], &question(Contests::Row, false, 1.0));
    }
    ask(&[distribution("int8_levels").weights(Kind::E5m2, 3, 131_074, 9)], &question(Contests::Row, false, 0.7));
}

/// Rows for which one workgroup is not enough, and the last for which it is.
#[test]
fn long_rows() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        ask(&[distribution(SOME[i]).weights(kind, 3, 131_073, 220)], &question(Contests::Row, false, 0.7));
        // Whole parts of 16384 entries: rows that end where a part does.
        ask(
            &[distribution(["all_equal", "ternary", "normal"][i]).weights(kind, 2, 147_456, 221)],
            &question(Contests::Row, false, 0.5),
        );
    }
    ask(&[distribution("int8_levels").weights(Kind::Bf16, 1, 131_072, 222)], &question(Contests::Row, false, 1.0));
    ask(
        &[with_norms(distribution("normal").weights(Kind::F16, 3, 131_111, 223), 223)],
        &question(Contests::Row, true, 1.0),
    );
}

/// Rows by the ten thousand.
#[test]
fn very_many_rows() {
    // Rows of zeros are soon done with: only some, and those around the border, hold more.
    let mut bits = distribution("normal").weights(Kind::Bf16, 65_537, 3, 230).bits();
    for (r, row) in bits.chunks_mut(3).enumerate() {
        if r % 97 != 0 && r < 65_530 {
            row.fill(0);
        }
    }
    let weights = inputs::weights("65537 rows, most of them zeros".to_owned(), Kind::Bf16, 3, &bits);
    let asked = question(Contests::Row, false, 1.0);
    let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
    // One device: a software adapter takes seconds for so many workgroups.
    if let Some(turn) = turns().next() {
        let task = Task::new(turn.gpu, std::slice::from_ref(&weights), &asked);
        turn.gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&want, true);
    }
}

/// A device on which a dispatch has few workgroups in one direction, and stages of every kind that need more.
#[test]
fn a_narrow_grid_is_folded() {
    let most_23: &[_] = &[
        // Teams, and edges between them.
        (Kind::Bf16, Contests::Row, 1600, 27),
        (Kind::F32, Contests::Row, 6000, 3),
        // A workgroup each.
        (Kind::F16, Contests::Row, 24, 2049),
        // Parts of one contest.
        (Kind::F16, Contests::Tensor, 1, 400_001),
        (Kind::F32, Contests::Tensor, 1, 23 * 16_384),
        // Arrange, restore, zero.
        (Kind::F32, Contests::Column, 17, 401),
        (Kind::Bf16, Contests::Block(3, 5), 61, 131),
    ];
    // Several workgroups for each of many contests: budget, narrow and ties of all together. The fixed number that looks at candidates wants a
    // wider grid.
    let most_67: &[_] = &[(Kind::Bf16, Contests::Row, 68, 4097)];
    let (.., short) = Tuning::alternatives()
        .into_iter()
        .find(|(name, value, _)| *name == "longest_row" && value == "4096")
        .expect("an alternative under which rows are soon long");
    for adapter in adapters() {
        for (most, tuning, cases) in [(23, Tuning::default(), most_23), (67, short, most_67)] {
            let limits = wgpu::Limits { max_compute_workgroups_per_dimension: most, ..wgpu::Limits::default() };
            let (name, device, queue) = open(&adapter, "a narrow grid", wgpu::Features::empty(), limits);
            let kernels = Kernels::with_options(&device, KernelOptions::new().with_tuning(tuning)).unwrap();
            let gpu = Gpu { name, device, queue, kernels };
            for &(kind, contests, rows, row_len) in cases {
                let weights = [distribution("int8_levels").weights(kind, rows, row_len, 235)];
                let asked = question(contests, false, 1.0);
                ask_one(&gpu, &weights, &asked, &oracle::answer(&weights, &asked).unwrap());
            }
        }
    }
}

/// Small bindings: little room for what a contest keeps in mind about ties and candidates.
#[test]
fn a_contest_of_more_parts_than_a_binding_counts() {
    for adapter in adapters() {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: 64 << 10, ..wgpu::Limits::default() };
        let (name, device, queue) = open(&adapter, "small bindings", wgpu::Features::empty(), limits);
        let kernels = Kernels::new(&device);
        let gpu = Gpu { name, device, queue, kernels };
        for (name, beta) in
            [("all_equal", 0.123_457), ("all_equal", 0.9), ("ternary", 0.5), ("normal", 1.0), ("int8_levels", 0.7)]
        {
            // Two parts each, and the last one not full.
            let slice = |i: u64| distribution(name).weights(Kind::Bf16, 1, 32_767 - i as usize, i);
            let slices: Vec<_> = (0..7).map(slice).collect();
            let asked = question(Contests::Global, false, beta);
            ask_one(&gpu, &slices, &asked, &oracle::answer(&slices, &asked).unwrap());
        }
    }
}

/// Many buffers, one contest: dtypes mixed, each slice with rows and norms of its own.
#[test]
fn slices_of_one_contest() {
    let shapes =
        [(Kind::F32, 3, 67), (Kind::Bf16, 1, 16_385), (Kind::E4m3, 5, 131), (Kind::F32, 1, 1), (Kind::F16, 40, 1001)];
    for (i, name) in
        ["normal", "all_equal", "ternary", "subnormal", "all_zeros", "negative_zeros"].into_iter().enumerate()
    {
        for wanda in [false, true] {
            let seed = 240 + i as u64;
            let slices = shapes.map(|(kind, rows, row_len)| {
                let weights = distribution(name).weights(kind, rows, row_len, seed + rows as u64);
                if wanda { with_norms(weights, seed) } else { weights }
            });
            ask(&slices, &question(Contests::Global, wanda, [1.0, 0.5][i % 2]));
        }
    }
    for slices in
        inputs::between([Kind::Bf16, Kind::F32], 251).into_iter().chain(inputs::between([Kind::Bf16, Kind::F16], 252))
    {
        for beta in [0.2, 0.4, 0.55, 0.9] {
            ask(&slices, &question(Contests::Global, false, beta));
        }
    }
    // 16 bits only: one digit less to find.
    let slices =
        [(Kind::F16, 999), (Kind::Bf16, 33)].map(|(kind, len)| distribution("normal").weights(kind, 1, len, 250));
    ask(&slices, &question(Contests::Global, false, 1.0));
}

/// More slices than a workgroup has lanes.
#[test]
fn very_many_slices() {
    let slice = |i: usize| distribution("int8_levels").weights(KINDS[i % 3], 1, 1 + i % 70, i as u64);
    let slices: Vec<_> = (0..257).map(slice).collect();
    let asked = question(Contests::Global, false, 0.5);
    let want = oracle::answer(&slices, &asked).unwrap();
    if let Some(turn) = turns().next() {
        let task = Task::new(turn.gpu, &slices, &asked);
        turn.gpu.submit(|encoder| task.job.record_prune(encoder));
        task.check(&want, true);
    }
}

/// The entries in the threshold's bin have room, or one too many of them has not: two ways to the same answer.
#[test]
fn the_threshold_s_bin_fits_or_does_not() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        for (contests, groups, len) in
            [(Contests::Tensor, 1, 40_001), (Contests::Row, 3, 131_073), (Contests::Global, 1, 39_999)]
        {
            let room = len / 16;
            for in_bin in [room - 1, room, room + 1] {
                // Some in the bin from 1 to 129/128, as many above it, the rest below; a bit of spread in each.
                let mut rng = Rng(in_bin as u64);
                let (mut sum, mut squares) = (0.0, 0.0);
                let mut entry = |j: usize| {
                    let base = [1.0, 2.0, 0.25][(j / in_bin).min(2)];
                    let value = base * (1.0 + rng.unit() * 0.003);
                    (sum, squares) = (sum + value, squares + value * value);
                    near(kind, value) | rng.next() as u32 & inputs::sign(kind)
                };
                let mut bits = Vec::new();
                for _ in 0..groups {
                    let mut row: Vec<u32> = (0..len).map(&mut entry).collect();
                    Rng(1).shuffle(&mut row);
                    bits.extend(row);
                }
                let label = format!("{in_bin} of {len} {kind:?} in the bin");
                let mut tensors = vec![inputs::weights(label, kind, len, &bits)];
                if contests == Contests::Global {
                    // The same entries in three slices, and of the same two dtypes.
                    let cuts = [&bits[..10_000], &bits[10_000..10_001], &bits[10_001..]];
                    let slice =
                        |part: &[u32]| inputs::weights(format!("{} of them", part.len()), kind, part.len(), part);
                    tensors = cuts.map(slice).to_vec();
                }
                // So many are kept that the threshold is in the middle of the bin.
                let n_eff = sum * sum / squares / groups as f64;
                let asked = question(contests, false, (in_bin as f64 * 1.5 / n_eff * 1e6).round() / 1e6);
                let want = oracle::answer(&tensors, &asked).unwrap();
                let middle = want.contests[0].threshold;
                assert!((1.0..1.0078).contains(&middle), "the threshold is in the bin: {middle}");
                for turn in turns().skip(i % 2).step_by(2) {
                    let gpu = turn.gpu;
                    let task = Task::new(gpu, &tensors, &asked);
                    gpu.submit(|encoder| task.job.record_prune(encoder));
                    task.check(&want, true);
                    let sifted = u32::from(in_bin <= room);
                    assert!(task.look().records.iter().all(|r| r.sifted == sifted), "{}: {in_bin} of {len}", gpu.name);
                }
            }
        }
    }
}

/// The first digit is fine where a sample of the largest slice puts the threshold; elsewhere its bin is half a power of two.
#[test]
fn a_threshold_out_of_focus() {
    for (kind, few, sifted) in
        [(Kind::F32, 1500, 1), (Kind::F32, 20_001, 0), (Kind::Bf16, 20_001, 0), (Kind::F16, 1500, 1)]
    {
        let mut rng = Rng(few as u64);
        let bits: Vec<u32> = (0..few).map(|_| near(kind, 1.0 + rng.unit() * 0.4)).collect();
        // Of zeros a sample says nothing.
        let slices = [
            inputs::weights("zeros".to_owned(), kind, 30_000, &vec![0; 30_000]),
            inputs::weights(format!("{few} from 1 to 1.4"), kind, few, &bits),
        ];
        let asked = question(Contests::Global, false, 0.6);
        let want = oracle::answer(&slices, &asked).unwrap();
        for turn in turns() {
            let task = Task::new(turn.gpu, &slices, &asked);
            turn.gpu.submit(|encoder| task.job.record_prune(encoder));
            task.check(&want, true);
            assert_eq!(task.look().records[0].sifted, sifted, "{}: {few} of {kind:?}", turn.gpu.name);
        }
    }
}

/// A row's bins are those of the sixteen powers of two that hold most of a sample: here some of its entries lie twenty above the others, and the threshold
/// is among those that the sample hardly sees, above and below.
#[test]
fn a_row_s_threshold_out_of_focus() {
    for kind in [Kind::F32, Kind::Bf16, Kind::F16] {
        let mut rng = Rng(611);
        let mut row = |large_of_16: usize| -> Vec<u32> {
            let mut entry = |i: usize| {
                // Few values, so that ties lose.
                let x = 1.0 + rng.below(40) as f64 / 64.0;
                near(kind, if i * 7 % 16 < large_of_16 { 256.0 * x } else { x / 4096.0 })
            };
            (0..5003).map(&mut entry).collect()
        };
        let bits: Vec<u32> = [row(1), row(15), row(16)].concat();
        let weights = [inputs::weights("two heaps".to_owned(), kind, 5003, &bits)];
        for (keep, sifted) in [(Keep::Effective, [0, 1, 1]), (Keep::Count(4900), [1, 0, 1])] {
            let asked = Question { keep, ..question(Contests::Row, false, 0.6) };
            let want = oracle::answer(&weights, &asked).unwrap();
            for turn in turns() {
                let task = Task::new(turn.gpu, &weights, &asked);
                turn.gpu.submit(|encoder| task.job.record_prune(encoder));
                task.check(&want, true);
                let got: Vec<u32> = task.look().records.iter().map(|record| record.sifted).collect();
                assert_eq!(got, sifted, "{}: {kind:?}, {keep:?}", turn.gpu.name);
            }
        }
    }
}

/// Contests that are cut into parts and begin at a multiple of 32 entries: the last part of them may have none (`src/gpu/tests.rs` says that these
/// have such parts). What a shader reads there is nobody's.
#[test]
fn contests_whose_last_part_is_empty() {
    for (kind, rows, row_len) in
        [(Kind::F32, 2, 65_536), (Kind::Bf16, 2, 65_536), (Kind::F16, 3, 81_910), (Kind::Bf16, 3, 81_910)]
    {
        let weights = distribution("normal").weights(kind, rows, row_len, 67);
        ask(&[weights], &question(Contests::Row, false, 1.0));
    }
}

/// Of a row whose scores lie between one and two, which a window holds, and a few others: some near below it, which one lane adds, and more than it
/// adds; some too far below, some above. They make the difference for how many are kept.
#[test]
fn a_few_scores_that_a_row_s_window_does_not_hold() {
    let below = |power: i32| 1.5 * 2f64.powi(power);
    let strays = [
        vec![below(-14)],
        vec![below(-15)],
        vec![below(-21)],
        vec![below(-22)],
        vec![below(-23)],
        vec![below(-14); 8],
        vec![below(-14); 9],
        vec![below(-15); 65],
        vec![300.0],
        vec![300.0, below(-16), below(-20)],
    ];
    for kind in [Kind::F32, Kind::Bf16] {
        for (i, strays) in strays.iter().enumerate() {
            let row: Vec<u32> = at_a_border(strays, i as u64).into_iter().map(|score| near(kind, score)).collect();
            let rows = inputs::weights(format!("strays {i}, {kind:?}"), kind, row.len(), &row.repeat(2));
            ask(&[rows], &question(Contests::Row, false, 1.0));
        }
    }
}

/// Ones, larger scores and these, of which the last one decides how many are kept: with it one more is, or one less.
fn at_a_border(strays: &[f64], seed: u64) -> Vec<f64> {
    let mut rng = Rng(seed);
    loop {
        let (ones, others) = (2500 + rng.below(3000), 1 + rng.below(50));
        let other = 1.0 + (1 + rng.below(127)) as f64 / 128.0;
        let kept = |strays: &[f64]| {
            let sum = ones as f64 + others as f64 * other + strays.iter().sum::<f64>();
            let square = ones as f64 + others as f64 * other * other + strays.iter().map(|s| s * s).sum::<f64>();
            (sum * sum / square).floor()
        };
        if kept(strays) != kept(&strays[1..]) {
            let mut row = vec![1.0; ones];
            row.extend(vec![other; others]);
            // Not all of them where one workgroup's step ends.
            for (i, &stray) in strays.iter().enumerate() {
                row.insert(i * 37 % row.len(), stray);
            }
            return row;
        }
    }
}

/// Of equal entries the first ones win: to the last entry of one slice, to the first of the next, anywhere.
#[test]
fn ties_end_in_any_slice() {
    let lens = [(Kind::F32, 33_000), (Kind::Bf16, 16_385), (Kind::F16, 1), (Kind::F32, 4096)];
    // A power of two is the same in every dtype.
    let slices =
        lens.map(|(kind, len)| inputs::weights(format!("{len} ones of {kind:?}"), kind, len, &vec![one(kind); len]));
    let all: usize = lens.iter().map(|(_, len)| len).sum();
    for kept in [1, 16_384, 16_385, 32_999, 33_000, 33_001, 49_385, 49_386, 49_387, all - 1] {
        // Of equal entries, exactly this share is kept.
        let beta = (kept as f64 / all as f64 * 1e9).ceil() / 1e9;
        ask(&slices, &question(Contests::Global, false, beta));
    }
    ask(&slices, &question(Contests::Global, false, 0.5));
}

#[test]
fn zeros_keep_everything() {
    for kind in KINDS {
        for name in ["all_zeros", "negative_zeros"] {
            for contests in [Contests::Tensor, Contests::Row] {
                ask(&[distribution(name).weights(kind, 5, 131, 260)], &question(contests, false, 0.001));
            }
        }
        ask(&[distribution("all_zeros").weights(kind, 2, 131_075, 261)], &question(Contests::Row, false, 0.5));
    }
}

#[test]
fn every_distribution() {
    for (i, distribution) in inputs::DISTRIBUTIONS.iter().enumerate() {
        let kind = KINDS[i % 3];
        ask(&[distribution.weights(kind, 3, 6001, 270)], &question(Contests::Tensor, false, 1.0));
        ask(&[with_norms(distribution.weights(kind, 3, 601, 271), 271)], &question(Contests::Row, true, 1.0));
    }
}

/// The sum of what is kept costs time, and changes nothing else.
#[test]
fn asking_for_the_mass_changes_no_decision() {
    let weights = distribution("sixty_decades").weights(Kind::F32, 3, 20_001, 280);
    for contests in [Contests::Tensor, Contests::Row] {
        let asked = question(contests, false, 1.0);
        let want = oracle::answer(std::slice::from_ref(&weights), &asked).unwrap();
        for turn in turns() {
            let gpu = turn.gpu;
            let task = Task::with(gpu, std::slice::from_ref(&weights), &asked, None, true);
            gpu.submit(|encoder| task.job.record_prune(encoder));
            task.check(&want, true);
        }
    }
}
