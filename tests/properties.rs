//! Random questions against the oracle, and laws that need no oracle.
//!
//! `PROPTEST_CASES=N` multiplies the work.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::cases::{Bytes, Size, case};
use common::check::{Outcome, check_same, judge, run};
use common::inputs::{Rng, distribution, infinity, sign, weights};
use common::oracle::{Contests, Kind, Question, Weights};
use common::pieces::Pieces;
use common::{Named, backends, cpu};
use emprune::{Beta, Want};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// So many random cases; without files of seeds, since a failure prints its whole input.
fn cases(cases: u32) -> TestRunner {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let cases = if common::small() { cases.div_ceil(3) } else { cases };
    TestRunner::new(Config { cases: told.unwrap_or(cases), failure_persistence: None, ..Config::default() })
}

// ---- anything at all

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::F32), Just(Kind::F16), Just(Kind::Bf16)]
}

fn questions() -> impl Strategy<Value = (Contests, bool, f64)> {
    let contests = prop_oneof![Just(Contests::Row), Just(Contests::Tensor), Just(Contests::Global)];
    let beta = prop_oneof![
        3 => Just(1.0),
        3 => (1u32..3000).prop_map(|n| f64::from(n) / 1000.0),
        1 => (1u32..1_000_000).prop_map(|n| f64::from(n) / 1e6),
        1 => prop_oneof![Just(1e-19), Just(1e19), Just(2.0 / 3.0), Just(0.1 + 0.2)],
    ];
    (contests, any::<bool>(), beta)
}

/// Magnitudes as `f(word)`: raw bits, few values, neighbours of one value, powers of two.
fn bits(kind: Kind, style: u8, word: u32) -> u32 {
    let end = infinity(kind);
    let magnitude = match style {
        0 => word % end,
        1 => [0, 1, end / 2, end / 2 + 1][word as usize % 4],
        2 => end / 2 - 2 + word % 4,
        3 => (word % end) & !((1 << kind.widths().1) - 1),
        4 => word % 8,
        _ => end - 1 - word % 8,
    };
    magnitude | if word >> 31 == 1 { sign(kind) } else { 0 }
}

fn tensors() -> impl Strategy<Value = Vec<Weights>> {
    let shape = (1usize..6, prop_oneof![1usize..10, 1usize..70, 120usize..140]);
    let tensor = (kinds(), 0u8..6, shape).prop_flat_map(|(kind, style, (rows, row_len))| {
        let words = prop::collection::vec(any::<u32>(), rows * row_len);
        // Norms of any finite size: products that overflow are part of the question.
        let norms = prop::collection::vec((any::<u32>(), 0u8..6), row_len);
        (words, norms).prop_map(move |(words, norms)| {
            let entries: Vec<u32> = words.iter().map(|&word| bits(kind, style, word)).collect();
            let mut weights = weights(format!("{rows}x{row_len} {kind:?} style {style}"), kind, row_len, &entries);
            let norm = |&(word, style): &(u32, u8)| f32::from_bits(bits(Kind::F32, style.min(4), word));
            weights.norms = Some(norms.iter().map(norm).collect());
            weights
        })
    });
    prop::collection::vec(tensor, 1..4)
}

fn anything(backends: &[Named], count: u32) {
    if backends.is_empty() {
        return;
    }
    let inputs = (tensors(), questions());
    cases(count)
        .run(&inputs, |(mut tensors, (contests, wanda, beta))| {
            if !wanda {
                tensors.iter_mut().for_each(|t| t.norms = None);
            }
            judge(backends, &tensors, &Question { contests, wanda, beta, ..Question::RULE })
                .map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn anything_on_the_cpu() {
    anything(cpu(), 3000);
}

#[cfg(feature = "gpu")]
#[test]
fn anything_on_every_gpu() {
    anything(common::gpus(), 60);
}

/// Split invariance: read in pieces of any size, the same answer, and the same refusal.
fn any_pieces(backends: &[Named], count: u32) {
    if backends.is_empty() {
        return;
    }
    let inputs = (tensors(), questions(), 1usize..700);
    cases(count)
        .run(&inputs, |(mut tensors, (contests, wanda, beta), piece_bytes)| {
            if !wanda {
                tensors.iter_mut().for_each(|t| t.norms = None);
            }
            let question = Question { contests, wanda, beta, ..Question::RULE };
            for backend in backends {
                let source = Pieces::new(&tensors, piece_bytes, Want { zeros: true, masks: true });
                let pieces = source.stream(&backend.pruner, &common::rule(&question));
                match (run(backend, &tensors, &question), pieces) {
                    (Ok(whole), Ok(pieces)) => check_same(&whole, &pieces).map_err(TestCaseError::fail)?,
                    (Err(whole), Err(pieces)) => {
                        let told = |e: &emprune::Error| (e.kind(), e.tensor(), e.index(), e.to_string());
                        prop_assert_eq!(told(&pieces), told(&whole), "{}", &backend.name);
                    }
                    (whole, pieces) => prop_assert!(false, "{}: {:?} and {:?}", &backend.name, whole, pieces),
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_pieces_on_the_cpu() {
    any_pieces(cpu(), 1000);
}

#[cfg(feature = "gpu")]
#[test]
fn any_pieces_on_every_gpu() {
    any_pieces(common::gpus(), 20);
}

/// What a fuzzer found, and what it found worth keeping.
#[test]
fn every_decision_of_the_corpus_is_that_of_the_oracle() {
    let corpus = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/decision")).unwrap();
    let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!inputs.is_empty());
    inputs.iter().for_each(|bytes| case(&mut Bytes(bytes), Size::Tiny).check(cpu()));
}

// ---- laws

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];
const BETAS: [f64; 3] = [1.0, 0.5, 0.3];

fn one_contest(backend: &Named, weights: &Weights, beta: f64) -> Outcome {
    run(
        backend,
        std::slice::from_ref(weights),
        &Question { contests: Contests::Tensor, wanda: false, beta, ..Question::RULE },
    )
    .unwrap()
}

fn flags(outcome: &Outcome, len: usize) -> Vec<bool> {
    (0..len).map(|i| outcome.masks[0][i / 8] >> (i % 8) & 1 == 1).collect()
}

/// Scores times a power of two, while none over- or underflows: the same mask, the same shares, bit for bit.
#[test]
fn scaling_by_a_power_of_two_changes_nothing() {
    for backend in backends() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            let unit = 1u32 << kind.widths().1; // one more in the exponent
            let weights = distribution("int8_levels").weights(kind, 1, 2111, i as u64);
            let want = one_contest(backend, &weights, BETAS[i]);
            for steps in if kind == Kind::F16 { [-8i32, 1, 8] } else { [-100, 3, 100] } {
                let scale = |b: u32| if b & !sign(kind) == 0 { b } else { b.wrapping_add_signed(steps * unit as i32) };
                let scaled: Vec<u32> = weights.bits().into_iter().map(scale).collect();
                let scaled = common::inputs::weights(format!("scaled by 2^{steps}"), kind, 2111, &scaled);
                let got = one_contest(backend, &scaled, BETAS[i]);
                let (a, b) = (want.groups[0], got.groups[0]);
                let label = format!("{}: {kind:?} times 2^{steps}", backend.name);
                assert_eq!(got.masks, want.masks, "{label}");
                assert_eq!((b.kept, b.cut, b.len), (a.kept, a.cut, a.len), "{label}");
                assert_eq!(f64::from(b.threshold), f64::from(a.threshold) * 2f64.powi(steps), "{label}");
                let shares = |g: emprune::Group| [g.n_eff, g.mass, g.mass_bound].map(f64::to_bits);
                assert_eq!(shares(b), shares(a), "{label}");
            }
        }
    }
}

/// Zeros have no weight: with `beta` at most 1 none of them is ever kept, and the others do not notice them.
#[test]
fn appended_zeros_change_nothing() {
    for backend in backends() {
        for (i, name) in ["normal", "ternary", "one_hot", "subnormal"].into_iter().enumerate() {
            for zeros in [1, 7, 4096] {
                let (kind, beta) = (KINDS[i % 3], BETAS[zeros % 3]);
                let weights = distribution(name).weights(kind, 1, 1013, i as u64);
                let longer: Vec<u32> =
                    weights.bits().into_iter().chain((0..zeros).map(|z| (z as u32 % 2) * sign(kind))).collect();
                let longer = common::inputs::weights(format!("{name} and {zeros} zeros"), kind, longer.len(), &longer);
                let (want, got) = (one_contest(backend, &weights, beta), one_contest(backend, &longer, beta));
                let label = format!("{}: {} {kind:?} beta {beta}", backend.name, longer.label);
                let (a, b) = (want.groups[0], got.groups[0]);
                let told = |g: emprune::Group| (g.kept, g.threshold.to_bits(), g.n_eff.to_bits(), g.mass.to_bits());
                assert_eq!(told(b), told(a), "{label}");
                let got = flags(&got, longer.len());
                assert_eq!(got[..1013], flags(&want, 1013), "{label}");
                assert!(!got[1013..].contains(&true), "{label}: a zero is kept");
            }
        }
    }
}

/// Where no two scores are equal, the order of the entries does not matter.
#[test]
fn permuting_distinct_scores_permutes_the_mask() {
    for backend in backends() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            let mut rng = Rng(i as u64);
            let mut all: Vec<u32> = (0..infinity(kind)).step_by(infinity(kind) as usize / 3001).collect();
            rng.shuffle(&mut all);
            let n = 3001;
            let weights = common::inputs::weights("distinct".to_owned(), kind, n, &all[..n]);
            let mut order: Vec<usize> = (0..n).collect();
            rng.shuffle(&mut order);
            let permuted: Vec<u32> = order.iter().map(|&from| all[from]).collect();
            let permuted = common::inputs::weights("permuted".to_owned(), kind, n, &permuted);
            // Scores of all sizes: N_eff is small, so a large beta is what keeps many.
            for beta in [1.0, 30.0] {
                let (a, b) = (one_contest(backend, &weights, beta), one_contest(backend, &permuted, beta));
                let (before, after) = (flags(&a, n), flags(&b, n));
                let label = format!("{}: {kind:?} beta {beta}", backend.name);
                assert!(order.iter().zip(&after).all(|(&from, &kept)| before[from] == kept), "{label}");
                let told = |g: emprune::Group| {
                    (g.kept, g.threshold.to_bits(), [g.n_eff, g.mass, g.mass_bound].map(f64::to_bits))
                };
                assert_eq!(told(b.groups[0]), told(a.groups[0]), "{label}");
            }
        }
    }
}

/// A larger `beta` keeps all that a smaller one keeps.
#[test]
fn a_larger_beta_keeps_more() {
    for backend in backends() {
        let weights = distribution("int8_levels").weights(Kind::Bf16, 1, 1001, 9);
        let mut before = vec![false; 1001];
        for beta in [0.001, 0.1, 0.5, 0.9, 1.0, 1.1, 1.5, 3.0] {
            let outcome = one_contest(backend, &weights, beta);
            let now = flags(&outcome, 1001);
            assert!(before.iter().zip(&now).all(|(&before, &now)| now || !before), "{}: beta {beta}", backend.name);
            let group = outcome.groups[0];
            assert!(group.mass_bound <= group.mass && group.mass <= 1.0, "{}: beta {beta}: {group:?}", backend.name);
            before = now;
        }
    }
}

/// One contest does not depend on the tensors that it is cut into.
#[test]
fn cutting_a_tensor_into_several_changes_nothing() {
    for backend in backends() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            let whole = distribution("int8_levels").weights(kind, 1, 5003, i as u64);
            let want = one_contest(backend, &whole, 0.7);
            let parts = [1, 2, 1021, 8, 3971];
            let mut start = 0;
            let part = |&len: &usize| {
                let bytes = whole.bytes[start * kind.size()..(start + len) * kind.size()].to_vec();
                start += len;
                Weights { label: format!("{len} of 5003"), bytes, row_len: len, ..whole.clone() }
            };
            let tensors: Vec<Weights> = parts.iter().map(part).collect();
            let question = Question { contests: Contests::Global, wanda: false, beta: 0.7, ..Question::RULE };
            let got = run(backend, &tensors, &question).unwrap();
            assert_eq!(got.groups, want.groups, "{}: {kind:?}", backend.name);
            assert_eq!(got.pruned.concat(), want.pruned[0], "{}: {kind:?}", backend.name);
        }
    }
}

/// A `beta` is the decimal that its f64 prints as, so printing it gives the same f64 back.
#[test]
fn a_beta_gives_its_f64_back() {
    let digits = (1u64..100_000_000_000_000_000, 0i32..17);
    cases(20_000)
        .run(&digits, |(digits, places)| {
            let value: f64 = format!("{digits}e-{places}").parse().unwrap();
            if let Ok(beta) = Beta::new(value) {
                prop_assert_eq!(beta.get().to_bits(), value.to_bits(), "{} {:?}", value, beta);
                let again = Beta::ratio(beta.numerator(), beta.denominator()).unwrap();
                prop_assert_eq!(again, beta);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
