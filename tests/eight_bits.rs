//! Weights of eight bits, on every backend: they are the numbers that they widen to, and four of them share a word on a GPU.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::ask;
use common::inputs::{self, DISTRIBUTIONS, distribution, infinity, mixture, with_norms};
use common::oracle::{Contests, Keep, Kind, Question, Weights};
use common::{Named, backends};
use emprune::{Beta, Dtype, ErrorKind, Granularity, Pruner, Rule, Score, Tensor, TensorMut};

const DTYPES: [(Dtype, i32, i32); 2] = [(Dtype::F8E4m3, 4, 7), (Dtype::F8E5m2, 5, 15)];

/// By definition; NaN and infinity have no place here.
fn widen(code: u8, exponent_bits: i32, bias: i32) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let (exponent, mantissa) = (i32::from(code & 0x7f) >> mantissa_bits, f32::from(code & ((1 << mantissa_bits) - 1)));
    let fraction = mantissa / 2f32.powi(mantissa_bits);
    let size =
        if exponent == 0 { fraction * 2f32.powi(1 - bias) } else { (1.0 + fraction) * 2f32.powi(exponent - bias) };
    if code < 128 { size } else { -size }
}

/// Pseudo-random finite codes.
fn codes(len: usize, dtype: Dtype, mut seed: u64) -> Vec<u8> {
    let most = if dtype == Dtype::F8E4m3 { 0x7e } else { 0x7b };
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as u8
    };
    (0..len).map(|_| next()).map(|code| if code & 0x7f > most { code & 0x8f } else { code }).collect()
}

const KINDS: [Kind; 2] = [Kind::E4m3, Kind::E5m2];

mod suite {
    macro_rules! per_backend {
        ($($test:ident)*) => {$(
            mod $test {
                #[test]
                fn cpu() {
                    super::super::$test(super::super::common::cpu());
                }
                #[cfg(feature = "gpu")]
                #[test]
                fn gpu() {
                    super::super::$test(super::super::common::gpus());
                }
            }
        )*};
    }
    per_backend! {
        hostile_inputs
        lengths_around_words
        scores_of_eight_bits
        every_code_has_its_place
    }
}

/// Several tensors, odd rows; with and without norms, by the rule and by count.
fn hostile_inputs(backends: &[Named]) {
    for (i, distribution) in DISTRIBUTIONS.iter().enumerate() {
        let (kind, seed) = (KINDS[i % 2], 30 + i as u64);
        for (j, contests) in
            [Contests::Row, Contests::Tensor, Contests::Global, Contests::Column].into_iter().enumerate()
        {
            let wanda = (i + j) % 2 == 1;
            let tensors = [(7, 193), (1, 1), (3, 67)].map(|(rows, row_len)| {
                let weights = distribution.weights(kind, rows, row_len, seed);
                if wanda { with_norms(weights, seed) } else { weights }
            });
            let keep = [Keep::Effective, Keep::Count(5), Keep::AllBut(0.5)][(i + j) % 3];
            ask(backends, &tensors, &Question { contests, wanda, keep, beta: [1.0, 0.3][i / 2 % 2], ..Question::RULE });
        }
    }
}

/// One less and one more than words of weights, words of the mask, workgroups, tiles and parts.
fn lengths_around_words(backends: &[Named]) {
    let lens = (1..=9).chain(29..=37).chain([61, 63, 66, 127, 255, 257, 1023, 1025, 2047, 2049, 4097, 8191, 8193]);
    for (i, row_len) in lens.enumerate() {
        let kind = KINDS[i % 2];
        ask(backends, &[mixture(kind, 23, row_len, i as u64)], &Question { contests: Contests::Row, ..Question::RULE });
    }
    for (i, len) in [16_383, 16_385, 32_771, 131_073, 262_145].into_iter().enumerate() {
        for (j, kind) in KINDS.into_iter().enumerate() {
            let name = ["normal", "all_equal", "ternary", "lognormal_2", "any_bits"][(i + j) % 5];
            ask(
                backends,
                &[distribution(name).weights(kind, 1, len, i as u64)],
                &Question { beta: 0.5, ..Question::RULE },
            );
        }
    }
}

/// Eight bits beside weights of any kind, and any scores beside weights of eight bits, which may be NaN then.
fn scores_of_eight_bits(backends: &[Named]) {
    for (i, (kind, score_kind)) in
        [(Kind::F32, Kind::E4m3), (Kind::E5m2, Kind::E4m3), (Kind::E4m3, Kind::Bf16)].into_iter().enumerate()
    {
        for contests in [Contests::Row, Contests::Tensor, Contests::Block(3, 4)] {
            let spoiled = inputs::weights("no numbers".into(), kind, 91, &[infinity(kind); 5 * 91]);
            let scores = distribution("normal").weights(score_kind, 5, 91, i as u64);
            let weights = Weights { scores: Some(Box::new(scores)), ..spoiled };
            ask(backends, &[weights], &Question { contests, given: true, ..Question::RULE });
        }
    }
}

/// All finite codes at once, in order and twice: the threshold falls among them, and each subnormal is what it is.
fn every_code_has_its_place(backends: &[Named]) {
    for kind in KINDS {
        let finite = infinity(kind);
        let codes: Vec<u32> = (0..2 * finite).map(|i| (i % finite) | ((i & 1) << 7)).collect();
        for count in [1, 8, 100, finite as usize - 9, finite as usize + 3, 2 * finite as usize - 5] {
            let weights = inputs::weights(format!("every {kind:?}"), kind, codes.len(), &codes);
            ask(backends, &[weights], &Question { keep: Keep::Count(count), ..Question::RULE });
        }
        // Subnormals alone.
        let least: Vec<u32> = (0..50).map(|i| i % (1 << kind.widths().1)).collect();
        ask(backends, &[inputs::weights(format!("least {kind:?}"), kind, 10, &least)], &Question::RULE);
    }
}

#[test]
fn eight_bits_are_decided_as_the_numbers_they_widen_to() {
    let pruner = Pruner::cpu();
    let mut kept = 0;
    for (dtype, exponent_bits, bias) in DTYPES {
        for (rows, row_len) in [(1, 1), (3, 7), (40, 513), (5, 70_001)] {
            let bytes = codes(rows * row_len, dtype, (rows * row_len) as u64);
            let wide: Vec<f32> = bytes.iter().map(|code| widen(*code, exponent_bits, bias)).collect();
            let norms: Vec<f32> = (0..row_len).map(|i| (i % 13) as f32 * 0.37 + 0.01).collect();
            for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
                for (score, beta) in [(Score::Magnitude, 1.0), (Score::Magnitude, 0.3), (Score::Wanda, 1.0)] {
                    let rule = Rule::new().with_score(score).with_granularity(granularity);
                    let rule = rule.with_beta(Beta::new(beta).unwrap());
                    let tensor = |tensor: Tensor<'_>| {
                        let tensor = tensor.with_row_len(row_len as u64).unwrap();
                        let tensor = if score == Score::Wanda { tensor.with_norms(&norms).unwrap() } else { tensor };
                        let (decision, mut masks) = pruner.mask(&[tensor], &rule).unwrap();
                        (decision, masks.remove(0))
                    };
                    let (narrow, mask) = tensor(Tensor::from_bytes(&bytes, dtype).unwrap());
                    let (expected, wide_mask) = tensor(Tensor::from(&wide));
                    assert_eq!(narrow.groups(), expected.groups(), "{dtype} {rows} x {row_len} {rule:?}");
                    assert_eq!(mask, wide_mask, "{dtype} {rows} x {row_len} {rule:?}");
                    kept += narrow.kept();
                    if score == Score::Magnitude {
                        let mut pruned = bytes.clone();
                        let weights = TensorMut::from_bytes(&mut pruned, dtype).unwrap();
                        pruner.prune(&mut [weights.with_row_len(row_len as u64).unwrap()], &rule).unwrap();
                        let bit = |i: usize| mask.as_bytes()[i / 8] >> (i % 8) & 1 == 1;
                        let expected: Vec<u8> =
                            bytes.iter().enumerate().map(|(i, code)| if bit(i) { *code } else { 0 }).collect();
                        assert!(pruned == expected, "{dtype} {rows} x {row_len} {rule:?}");
                    }
                }
            }
        }
    }
    assert!(kept > 500_000, "{kept}");
}

#[test]
fn what_is_no_number_is_refused_by_name() {
    for (dtype, code, what) in [
        (Dtype::F8E4m3, 0x7f, "NaN"),
        (Dtype::F8E4m3, 0xff, "NaN"),
        (Dtype::F8E5m2, 0x7c, "infinity"),
        (Dtype::F8E5m2, 0xfe, "NaN"),
    ] {
        let mut bytes = vec![0x31; 5000];
        bytes[4321] = code;
        for backend in backends() {
            let error = backend.pruner.mask(&[Tensor::from_bytes(&bytes, dtype).unwrap()], &Rule::new()).unwrap_err();
            assert_eq!((error.kind(), error.index()), (ErrorKind::NonFinite, Some(4321)), "{dtype} {code:#x}");
            assert_eq!(error.to_string(), format!("entry 4321 is {what}"), "{}", backend.name);
        }
    }
}
