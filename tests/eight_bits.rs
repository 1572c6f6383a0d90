//! Weights of eight bits are the numbers that they widen to: the answer about those is judged elsewhere.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

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
        let error = Pruner::cpu().mask(&[Tensor::from_bytes(&bytes, dtype).unwrap()], &Rule::new()).unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::NonFinite, Some(4321)), "{dtype} {code:#x}");
        assert_eq!(error.to_string(), format!("entry 4321 is {what}"));
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_gpu_refuses_them_with_the_reason() {
    use emprune::gpu::Options;
    if std::env::var_os("EMPRUNE_NO_GPU").is_some_and(|value| value == "1") {
        return;
    }
    let pruner = Pruner::gpu(&Options::new().with_software(true)).unwrap();
    let error = pruner.mask(&[Tensor::from_bytes(&[1, 2, 3], Dtype::F8E4m3).unwrap()], &Rule::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(error.to_string(), "the GPU backend does not read F8_E4M3; the CPU does");
}
