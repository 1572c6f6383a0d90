//! One suite, stamped onto every backend x dtype x contests x score, against an oracle that shares no code with any of
//! them. A test's path says what it is about: `bf16_row_wanda::gpu::hostile_inputs`; a failure names the adapter too.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{Guarded, ask, check_pruned, guarded, run, tensor};
use common::inputs::{self, DISTRIBUTIONS, LENGTHS, ROW_LENGTHS, distribution, with_norms};
use common::oracle::{self, Contests, Kind, Question, Weights};
use common::{Named, backends, cpu, gpus};

/// What a stamp is about.
#[derive(Clone, Copy)]
struct Stamp {
    kind: Kind,
    contests: Contests,
    wanda: bool,
}

impl Stamp {
    fn question(self, beta: f64) -> Question {
        Question { contests: self.contests, wanda: self.wanda, beta, ..Question::RULE }
    }

    /// Where stamps take turns.
    fn turn(self) -> usize {
        self.kind as usize + usize::from(self.wanda)
    }

    /// Norms, if they are asked for.
    fn scored(self, weights: Weights, seed: u64) -> Weights {
        if self.wanda { with_norms(weights, seed) } else { weights }
    }
}

macro_rules! stamp {
    ($($name:ident: $kind:ident, $contests:ident, $wanda:literal;)*) => {$(
        mod $name {
            use super::{Contests, Kind, Stamp};
            const STAMP: Stamp = Stamp { kind: Kind::$kind, contests: Contests::$contests, wanda: $wanda };
            stamp!(@backend cpu);
            stamp!(@backend gpu);
        }
    )*};
    (@backend cpu) => { mod cpu { stamp!(@tests super::super::cpu()); } };
    (@backend gpu) => { #[cfg(feature = "gpu")] mod gpu { stamp!(@tests super::super::gpus()); } };
    (@tests $backends:expr) => {
        #[test]
        fn hostile_inputs() {
            super::super::hostile_inputs($backends, super::STAMP);
        }
        #[test]
        fn every_beta() {
            super::super::every_beta($backends, super::STAMP);
        }
        #[test]
        fn thresholds_among_ties() {
            super::super::thresholds_among_ties($backends, super::STAMP);
        }
    };
}

stamp! {
    f32_row: F32, Row, false;
    f32_tensor: F32, Tensor, false;
    f32_global: F32, Global, false;
    f32_row_wanda: F32, Row, true;
    f32_tensor_wanda: F32, Tensor, true;
    f32_global_wanda: F32, Global, true;
    f16_row: F16, Row, false;
    f16_tensor: F16, Tensor, false;
    f16_global: F16, Global, false;
    f16_row_wanda: F16, Row, true;
    f16_tensor_wanda: F16, Tensor, true;
    f16_global_wanda: F16, Global, true;
    bf16_row: Bf16, Row, false;
    bf16_tensor: Bf16, Tensor, false;
    bf16_global: Bf16, Global, false;
    bf16_row_wanda: Bf16, Row, true;
    bf16_tensor_wanda: Bf16, Tensor, true;
    bf16_global_wanda: Bf16, Global, true;
}

const BETAS: [f64; 7] = [1.0, 0.5, 0.7, 1.5, 0.001, 1e-9, 1000.0];

/// Every distribution at `beta` 1 and at one other: several tensors in one call, odd rows, one tensor of one entry.
fn hostile_inputs(backends: &[Named], stamp: Stamp) {
    for (i, distribution) in DISTRIBUTIONS.iter().enumerate() {
        let seed = 100 + i as u64;
        let tensors = [(7, 193), (1, 1), (3, 67)]
            .map(|(rows, row_len)| stamp.scored(distribution.weights(stamp.kind, rows, row_len, seed), seed));
        for beta in common::some(&[1.0, BETAS[1 + i % (BETAS.len() - 1)]], 2, i + stamp.turn()) {
            ask(backends, &tensors, &stamp.question(beta));
        }
    }
}

fn every_beta(backends: &[Named], stamp: Stamp) {
    for (i, name) in ["normal", "ternary", "lognormal_2", "all_zeros"].into_iter().enumerate() {
        let weights = stamp.scored(distribution(name).weights(stamp.kind, 5, 257, 200 + i as u64), 200 + i as u64);
        for beta in common::some(&BETAS, 2, i + stamp.turn()) {
            ask(backends, std::slice::from_ref(&weights), &stamp.question(beta));
        }
    }
}

/// The threshold, its number of ties and how many of them stay over: chosen. Norms of 1 leave the scores as they are.
fn thresholds_among_ties(backends: &[Named], stamp: Stamp) {
    for n in [33, 1025] {
        for (i, (above, ties)) in inputs::boundaries(n).into_iter().enumerate() {
            let mut weights = inputs::boundary(stamp.kind, n, above, ties, 300 + i as u64);
            if stamp.wanda {
                weights.norms = Some(vec![1.0; n]);
            }
            ask(backends, &[weights], &stamp.question(0.5));
        }
    }
}

/// The inputs above do what their names say.
#[test]
fn boundary_inputs_put_the_threshold_where_they_say() {
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        for n in [33, 1025] {
            assert!(inputs::boundaries(n).len() >= 7, "cases for {n}");
            for (above, ties) in inputs::boundaries(n) {
                let weights = inputs::boundary(kind, n, above, ties, 1);
                let question = Question { contests: Contests::Tensor, wanda: false, beta: 0.5, ..Question::RULE };
                let answer = oracle::answer(std::slice::from_ref(&weights), &question).unwrap();
                let contest = &answer.contests[0];
                assert_eq!(contest.kept, (n - 1) / 2, "{}", weights.label);
                assert_eq!(contest.threshold, 1.25, "{}", weights.label);
                let scores = contest.scores.iter();
                assert_eq!(scores.clone().filter(|&&s| s > 1.25).count(), above, "{}", weights.label);
                assert_eq!(scores.filter(|&&s| s == 1.25).count(), ties, "{}", weights.label);
            }
        }
    }
}

// ---- lengths

macro_rules! per_kind_and_backend {
    ($($test:ident)*) => {$(
        mod $test {
            use super::{Kind, cpu, gpus};
            per_kind_and_backend!(@ $test, f32_cpu F32 cpu, f16_cpu F16 cpu, bf16_cpu Bf16 cpu);
            #[cfg(feature = "gpu")]
            per_kind_and_backend!(@ $test, f32_gpu F32 gpus, f16_gpu F16 gpus, bf16_gpu Bf16 gpus);
            #[cfg(not(feature = "gpu"))]
            #[test]
            fn no_gpu() {
                assert!(gpus().is_empty(), "built without");
            }
        }
    )*};
    (@ $test:ident, $($name:ident $kind:ident $backends:ident),*) => {$(
        #[test]
        fn $name() {
            super::$test($backends(), Kind::$kind);
        }
    )*};
}

per_kind_and_backend! { lengths_around_every_edge row_lengths_around_every_edge many_rows rows_that_many_workgroups_share splits_of_one_contest different_rows near_an_integer }

/// One contest of every length; distribution and score change along.
fn lengths_around_every_edge(backends: &[Named], kind: Kind) {
    // Past that, only the processor has edges.
    let longest = if common::small() { 65536 + 4097 } else { usize::MAX };
    for (i, &n) in LENGTHS.iter().enumerate().filter(|(_, n)| **n <= longest) {
        let name = ["normal", "ternary", "lognormal_2", "neighbours"][i % 4];
        let weights = distribution(name).weights(kind, 1, n, 400 + i as u64);
        let wanda = i / 2 % 2 == 1;
        let weights = if wanda { with_norms(weights, 400) } else { weights };
        ask(
            backends,
            &[weights],
            &Question { contests: Contests::Tensor, wanda, beta: [1.0, 0.5][i % 2], ..Question::RULE },
        );
    }
}

/// Rows of every length, an odd number of them; with and without norms.
fn row_lengths_around_every_edge(backends: &[Named], kind: Kind) {
    for (i, &row_len) in ROW_LENGTHS.iter().enumerate() {
        let rows = (2000 / row_len).clamp(2, 101) | 1;
        let seed = 500 + i as u64;
        let weights = distribution(["normal", "int8_levels", "lognormal_2"][i % 3]).weights(kind, rows, row_len, seed);
        let wanda = i % 2 == 1;
        let weights = if wanda { with_norms(weights, seed) } else { weights };
        ask(backends, &[weights], &Question { contests: Contests::Row, wanda, beta: 1.0, ..Question::RULE });
    }
}

/// More rows than one thread takes at a time; and one contest over them all, in which the norms begin anew with every row.
fn many_rows(backends: &[Named], kind: Kind) {
    // A software GPU takes a third of a millisecond per row.
    let slow = backends.iter().any(|b| b.pruner.backend().is_software());
    let shapes = if slow { [(257, 1), (601, 9), (131, 509)] } else { [(66_001, 1), (7501, 9), (531, 127)] };
    for (i, (rows, row_len)) in shapes.into_iter().enumerate() {
        let seed = 550 + i as u64;
        let weights = distribution(["any_bits", "ternary", "lognormal_2"][i]).weights(kind, rows, row_len, seed);
        ask(
            backends,
            std::slice::from_ref(&weights),
            &Question { contests: Contests::Row, wanda: false, beta: 0.7, ..Question::RULE },
        );
        let weights = [with_norms(weights, seed)];
        ask(backends, &weights, &Question { contests: Contests::Row, wanda: true, beta: 1.0, ..Question::RULE });
        ask(backends, &weights, &Question { contests: Contests::Tensor, wanda: true, beta: 1.0, ..Question::RULE });
    }
}

/// More rows than a device takes at a time.
#[cfg(feature = "gpu")]
#[test]
fn more_rows_than_a_device_takes_at_once() {
    let weights = distribution("any_bits").weights(Kind::F32, 65_537, 1, 560);
    let rule = common::rule(&Question { contests: Contests::Row, wanda: false, beta: 0.5, ..Question::RULE });
    // The first adapter will do where it is a software one: this takes it half a minute.
    let few = gpus().first().is_some_and(|b| b.pruner.backend().is_software());
    for backend in gpus().iter().take(if few { 1 } else { usize::MAX }) {
        let ask = |backend: &Named| backend.pruner.mask(&[tensor(&weights, &weights.bytes)], &rule).unwrap();
        let (want, got) = (ask(&cpu()[0]), ask(backend));
        assert!(want == got, "{}", backend.name);
        assert_eq!(got.0.kept(), 65_537, "{}: every row keeps its only entry", backend.name);
    }
}

/// Rows and columns that are too long for one workgroup: many share each, and one sequence of dispatches serves all.
fn rows_that_many_workgroups_share(backends: &[Named], kind: Kind) {
    let question = |contests, wanda, beta| Question { contests, wanda, beta, ..Question::RULE };
    let mixed = inputs::mixture(kind, 5, 131_073, 570);
    ask(backends, std::slice::from_ref(&mixed), &question(Contests::Row, false, 0.7));
    if common::small() {
        return;
    }
    ask(backends, &[with_norms(mixed, 571)], &question(Contests::Row, true, 1.0));
    let ties = distribution("ternary").weights(kind, 140_003, 3, 572);
    ask(backends, &[ties], &question(Contests::Column, false, 0.5));
}

/// Of several such rows with scores that are no numbers, the first one is told of.
#[test]
fn the_first_bad_score_of_long_rows() {
    let weights = distribution("normal").weights(Kind::F32, 3, 140_001, 573);
    let rule = common::rule(&Question { contests: Contests::Row, wanda: false, beta: 1.0, ..Question::RULE });
    for bad in [&[140_001 + 70_000, 140_001 + 5, 2 * 140_001][..], &[3 * 140_001 - 1]] {
        let mut bytes = weights.bytes.clone();
        bad.iter().for_each(|at| bytes[4 * at..4 * at + 4].copy_from_slice(&f32::NAN.to_le_bytes()));
        for backend in backends() {
            let error = backend.pruner.mask(&[tensor(&weights, &bytes)], &rule).unwrap_err();
            assert_eq!(error.kind(), emprune::ErrorKind::NonFinite, "{}", backend.name);
            assert_eq!(error.index(), bad.iter().min().map(|&at| at as u64), "{}: {error}", backend.name);
        }
    }
}

/// One contest over tensors of other dtypes and lengths, among them single entries, with ties across the borders.
fn splits_of_one_contest(backends: &[Named], kind: Kind) {
    let others = [Kind::F32, Kind::Bf16, Kind::F16];
    for (i, name) in ["int8_levels", "normal", "ternary", "all_equal", "subnormal"].into_iter().enumerate() {
        for (j, lens) in [&[1, 1, 1][..], &[5, 4097, 1, 31], &[4095, 1, 2, 8193, 64], &[33; 12]].into_iter().enumerate()
        {
            let seed = (600 + 10 * i + j) as u64;
            let tensor = |(t, &n): (usize, &usize)| {
                let kind = if t % 2 == 0 { kind } else { others[t / 2 % 3] };
                distribution(name).weights(kind, 1, n, seed + t as u64)
            };
            let tensors: Vec<Weights> = lens.iter().enumerate().map(tensor).collect();
            ask(
                backends,
                &tensors,
                &Question { contests: Contests::Global, wanda: false, beta: [1.0, 0.7][j % 2], ..Question::RULE },
            );
        }
    }
}

/// A threshold that is no score of one of the tensors, whose dtype is coarser than the other's: nothing there equals it.
#[test]
fn thresholds_between_scores_of_another_dtype() {
    let pairs = [
        [Kind::Bf16, Kind::F32],
        [Kind::Bf16, Kind::F16],
        [Kind::F16, Kind::F32],
        [Kind::E4m3, Kind::Bf16],
        [Kind::E5m2, Kind::F32],
    ];
    for backend in backends() {
        for (i, pair) in pairs.into_iter().enumerate().take(if common::small() { 3 } else { 5 }) {
            for tensors in inputs::between(pair, 650 + i as u64) {
                for beta in [0.2, 0.4, 0.55, 0.9] {
                    let question = Question { contests: Contests::Global, wanda: false, beta, ..Question::RULE };
                    ask(std::slice::from_ref(backend), &tensors, &question);
                }
            }
        }
    }
}

/// Rows that have nothing in common, so that nothing of one row may reach the next.
fn different_rows(backends: &[Named], kind: Kind) {
    let rows = 2 * DISTRIBUTIONS.len() + 1;
    for (i, row_len) in [17, 131, 1023].into_iter().enumerate() {
        let weights = inputs::mixture(kind, rows, row_len, 700 + i as u64);
        ask(
            backends,
            &[weights],
            &Question { contests: Contests::Row, wanda: false, beta: [1.0, 0.5, 1.5][i], ..Question::RULE },
        );
    }
}

/// `N_eff` so near an integer that an f64 takes it for one, from both sides; `k` is its floor all the same.
fn near_an_integer(backends: &[Named], kind: Kind) {
    let question = |beta| Question { contests: Contests::Tensor, wanda: false, beta, ..Question::RULE };
    for n in [2, 3, 57, 1000, 4097] {
        for at in [0, n / 2, n - 1] {
            for beta in [1.0, 0.5] {
                ask(backends, &[inputs::just_below(kind, n, at)], &question(beta));
                ask(backends, &[inputs::just_above(kind, n, at)], &question(beta));
            }
        }
    }
    ask(backends, &[inputs::almost_two()], &question(1.0));
}

/// The inputs above do what their names say: on either side of the integer the floor differs, and the f64 does not.
#[test]
fn inputs_near_an_integer_are_on_both_sides_of_it() {
    let question = Question { contests: Contests::Tensor, wanda: false, beta: 1.0, ..Question::RULE };
    let contest = |weights| oracle::answer(&[weights], &question).unwrap().contests.remove(0);
    let (below, above) = (contest(inputs::just_below(Kind::F32, 57, 3)), contest(inputs::just_above(Kind::F32, 58, 3)));
    assert_eq!((below.kept, above.kept), (56, 57), "floors");
    assert!(
        (below.n_eff - 57.0).abs() < 1e-12 && (above.n_eff - 57.0).abs() < 1e-12,
        "{} {}",
        below.n_eff,
        above.n_eff
    );
    assert_eq!(contest(inputs::almost_two()).kept, 1, "under two");
}

// ---- sizes at which the processor changes its ways; too large for a software GPU

#[test]
fn long_rows_are_shared_between_threads() {
    for (kind, row_len) in [(Kind::F32, (1 << 20) + 1), (Kind::Bf16, 1 << 20), (Kind::F16, (1 << 20) - 1)] {
        let weights = distribution("int8_levels").weights(kind, 2, row_len, 800);
        ask(cpu(), &[weights], &Question { contests: Contests::Row, wanda: false, beta: 1.0, ..Question::RULE });
    }
}

/// Ties are counted chunk by chunk: here the last kept one lies in the 65th, in the 90th, and in the last.
#[test]
fn ties_are_found_in_any_chunk() {
    let n = 2 * 64 * 65_536 + 77;
    let weights = inputs::weights(format!("{n} ones"), Kind::Bf16, n, &vec![inputs::one(Kind::Bf16); n]);
    for beta in [0.4999, 0.7, 0.999_999_99] {
        let decision = cpu()[0].pruner.mask(
            &[tensor(&weights, &weights.bytes)],
            &common::rule(&Question { contests: Contests::Tensor, wanda: false, beta, ..Question::RULE }),
        );
        let (decision, masks) = decision.unwrap();
        let kept = (beta * n as f64) as u64; // far from an integer
        assert_eq!((decision.kept(), decision.groups()[0].cut), (kept, kept), "beta {beta}");
        let bits = masks[0].as_bytes();
        let full = (kept / 8) as usize;
        assert!(bits[..full].iter().all(|&b| b == 0xff), "beta {beta}: all before the cut");
        assert_eq!(bits[full], (1 << (kept % 8)) - 1, "beta {beta}: the cut");
        assert!(bits[full + 1..].iter().all(|&b| b == 0), "beta {beta}: none after it");
    }
}

// ---- what goes in and what comes out

/// Bytes at every address modulo 8, rows of odd length, and sentinels around them.
#[test]
fn bytes_at_any_address() {
    for backend in backends() {
        for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
            for (rows, row_len) in [(1, 1), (3, 1), (5, 7), (9, 33)] {
                let weights = distribution("normal").weights(kind, rows, row_len, 900);
                let question = Question { contests: Contests::Row, wanda: false, beta: 0.7, ..Question::RULE };
                let want = oracle::answer(std::slice::from_ref(&weights), &question).unwrap();
                for offset in 0..8 {
                    let mut copy = Guarded::new(&weights.bytes, offset);
                    let mut tensors = [common::check::tensor_mut(&weights, copy.bytes_mut())];
                    backend.pruner.prune(&mut tensors, &common::rule(&question)).unwrap();
                    let label = format!("{}: {} at address {offset} modulo 8", backend.name, weights.label);
                    copy.check().unwrap_or_else(|wrong| panic!("{label}: {wrong}"));
                    check_pruned(&weights, &want.masks[0], copy.bytes())
                        .unwrap_or_else(|wrong| panic!("{label}: {wrong}"));
                }
            }
        }
    }
}

/// The same bytes as a vector of numbers.
fn typed<T: emprune::Element>(bytes: &[u8]) -> Vec<T> {
    let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
    values
}

/// Typed slices and vectors are the same as their bytes, and a mask applied is the same as pruning.
#[test]
fn slices_bytes_and_masks_are_one() {
    fn check<T: emprune::Element + PartialEq>(backend: &Named, kind: Kind) {
        let weights = distribution("int8_levels").weights(kind, 1, 1001, 901);
        let question = Question { contests: Contests::Tensor, wanda: false, beta: 0.7, ..Question::RULE };
        let rule = common::rule(&question);
        let want = run(backend, std::slice::from_ref(&weights), &question).unwrap();
        let mut typed: Vec<T> = typed(&weights.bytes);

        let (decision, masks) = backend.pruner.mask(&[(&typed).into()], &rule).unwrap();
        assert_eq!(decision.groups(), want.groups, "{}: a slice", backend.name);
        assert_eq!(masks[0].as_bytes(), want.masks[0], "{}: a slice", backend.name);
        assert_eq!(
            (masks[0].len(), masks[0].kept()),
            (1001, want.kept),
            "{}: what a mask says of itself",
            backend.name
        );
        assert!(
            (0..1001).all(|i| masks[0].get(i) == (want.masks[0][i as usize / 8] >> (i % 8) & 1 == 1)),
            "bits one by one"
        );

        let mut applied = typed.clone();
        masks[0].apply((&mut applied).into()).unwrap();
        backend.pruner.prune(&mut [typed.as_mut_slice().into()], &rule).unwrap();
        assert!(applied == typed, "{}: a mask applied is the same as pruning", backend.name);
        assert_eq!(bytemuck::cast_slice::<T, u8>(&typed), want.pruned[0], "{}: in place", backend.name);
    }
    for backend in backends() {
        check::<f32>(backend, Kind::F32);
        check::<half::f16>(backend, Kind::F16);
        check::<half::bf16>(backend, Kind::Bf16);
    }
}

/// The one-call forms, on whichever backend they take.
#[test]
fn one_call_gives_the_same_answer() {
    let weights = distribution("normal").weights(Kind::F32, 1, 3001, 902);
    let question = Question { contests: Contests::Tensor, wanda: false, beta: 1.0, ..Question::RULE };
    let want = run(&cpu()[0], std::slice::from_ref(&weights), &question).unwrap();
    let mut typed: Vec<f32> = typed(&weights.bytes);
    let (decision, mask) = emprune::mask(&typed, &emprune::Rule::default()).unwrap();
    assert_eq!((decision.groups(), mask.as_bytes()), (&want.groups[..], &want.masks[0][..]), "mask()");
    assert_eq!(emprune::prune(&mut typed, &emprune::Rule::default()).unwrap(), decision, "prune()");
    assert_eq!(bytemuck::cast_slice::<f32, u8>(&typed), want.pruned[0], "prune()");
}

/// One engine, many threads at once.
#[test]
fn a_pruner_is_shared_between_threads() {
    for backend in backends() {
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                scope.spawn(move || {
                    for i in 0..4 {
                        let contests = [Contests::Row, Contests::Tensor][(thread % 2) as usize];
                        let weights = distribution("normal").weights(Kind::F32, 3, 501 + 2 * i, 910 + thread);
                        ask(
                            std::slice::from_ref(backend),
                            &[weights],
                            &Question { contests, wanda: false, beta: 0.7, ..Question::RULE },
                        );
                    }
                });
            }
        });
    }
}

/// A call that takes long on one thread does no harm to calls on another: wgpu's GL backend panics when a thread waits
/// more than six seconds for its turn, so the turns must not be left to it.
#[cfg(feature = "gpu")]
#[test]
#[ignore = "half a minute on a software adapter"]
fn a_short_call_survives_a_long_one() {
    for backend in gpus() {
        let long = distribution("normal").weights(Kind::F32, 60_000, 9, 930);
        let rule = common::rule(&Question { contests: Contests::Row, wanda: false, beta: 1.0, ..Question::RULE });
        std::thread::scope(|scope| {
            scope.spawn(|| backend.pruner.mask(&[tensor(&long, &long.bytes)], &rule).unwrap());
            for n in 1000..1020 {
                let short = distribution("normal").weights(Kind::F32, 1, n, 931);
                ask(
                    std::slice::from_ref(backend),
                    &[short],
                    &Question { contests: Contests::Tensor, wanda: false, beta: 1.0, ..Question::RULE },
                );
            }
        });
    }
}

/// Large and small calls in turn: nothing of one call is left for the next.
#[test]
fn calls_leave_nothing_behind() {
    for backend in backends() {
        for (i, n) in [5000, 3, 70_001, 1, 4096].into_iter().enumerate() {
            let weights = distribution(["near_max", "subnormal", "normal"][i % 3]).weights(Kind::F32, 1, n, 920);
            ask(
                std::slice::from_ref(backend),
                &[weights],
                &Question { contests: Contests::Tensor, wanda: false, beta: 0.5, ..Question::RULE },
            );
        }
    }
}

/// The sentinels of [`guarded`] would be seen: they are finite numbers of every dtype, larger than a trained weight.
#[test]
fn sentinels_are_adversarial() {
    let weights = distribution("normal").weights(Kind::F16, 1, 3, 1);
    let copy = &guarded(std::slice::from_ref(&weights))[0];
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        let word = u32::from_le_bytes([copy.buffer[0]; 4]) & (inputs::sign(kind) | (inputs::sign(kind) - 1));
        let (integer, power) = oracle::exact(kind, word).unwrap();
        assert!(integer as f64 * 2f64.powi(power) > 100.0, "{kind:?}");
    }
}
