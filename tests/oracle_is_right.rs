//! The oracle that judges every backend is judged here, by the golden vectors and by numbers worked out by hand.
//! Needs nothing of the library.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]
#![allow(dead_code, reason = "the modules are shared with the other tests")]

#[path = "common/golden.rs"]
mod golden;
#[path = "common/oracle.rs"]
mod oracle;

use num_bigint::BigUint;
use oracle::{BOUND_BITS, Bad, Contests, Kind, Question, Refusal, Weights};

fn packed(mask: &[bool]) -> Vec<u8> {
    mask.chunks(8).map(|bits| bits.iter().enumerate().map(|(i, &bit)| u8::from(bit) << i).sum()).collect()
}

fn within_an_ulp(a: f64, b: f64) -> bool {
    a.to_bits().abs_diff(b.to_bits()) <= 1
}

fn rounded(bound: &oracle::Bound) -> f64 {
    oracle::nearest_f64(&bound.low, &(BigUint::from(1u8) << BOUND_BITS))
}

#[test]
fn the_oracle_agrees_with_every_golden_vector() {
    let (single, global) = golden::cases();
    assert_eq!((single.len(), global.len()), (76, 4), "cases in the file");
    for case in single.iter().chain(&global) {
        let name = &case.name;
        let got = oracle::answer(&case.tensors, &case.question).unwrap();
        let kept: Vec<u64> = got.contests.iter().map(|c| c.kept as u64).collect();
        assert_eq!(kept.iter().sum::<u64>(), case.want.kept, "{name}: kept");
        for (t, mask) in got.masks.iter().enumerate() {
            assert_eq!(golden::sha256(&packed(mask)), case.want.mask_sha256[t], "{name}: mask {t}");
            assert_eq!(mask.iter().filter(|&&b| b).count() as u64, case.want.kept_per_tensor[t], "{name}: kept of {t}");
        }
        if let Some(want) = &case.want.contests {
            assert_eq!(got.contests.len(), want.len(), "{name}: contests");
            for (got, want) in got.contests.iter().zip(want) {
                assert_eq!(got.scores.len() as u64, want.len, "{name}: len");
                assert_eq!(got.kept as u64, want.kept, "{name}: kept");
                assert_eq!(got.threshold.to_bits(), want.threshold.to_bits(), "{name}: threshold");
                assert_eq!(got.degenerate, want.degenerate, "{name}: degenerate");
                assert!(within_an_ulp(got.n_eff, want.n_eff), "{name}: n_eff {} {}", got.n_eff, want.n_eff);
                assert!(within_an_ulp(got.mass, want.mass), "{name}: mass {} {}", got.mass, want.mass);
                let bound = rounded(&got.bound);
                assert!(within_an_ulp(bound, want.mass_bound), "{name}: bound {bound} {}", want.mass_bound);
            }
        }
        if let Some(want) = &case.want.kept_per_row {
            assert_eq!(&kept, want, "{name}: kept per row");
        }
        if let Some(want) = &case.want.kept_per_row_sha256 {
            assert_eq!(&golden::sha256_of_counts(kept.iter().copied()), want, "{name}: kept per row");
        }
        if case.question.contests == Contests::Row {
            assert!(
                case.want.kept_per_row.is_some() != case.want.kept_per_row_sha256.is_some(),
                "{name}: one of the two"
            );
        }
        if let Some(want) = &case.want.rows {
            let least = |f: fn(&oracle::Contest) -> f64| got.contests.iter().map(f).fold(f64::INFINITY, f64::min);
            let most = |f: fn(&oracle::Contest) -> f64| got.contests.iter().map(f).fold(0.0, f64::max);
            assert!(within_an_ulp(least(|c| c.n_eff), want.n_eff[0]), "{name}: least n_eff");
            assert!(within_an_ulp(most(|c| c.n_eff), want.n_eff[1]), "{name}: most n_eff");
            assert!(within_an_ulp(least(|c| c.mass), want.least_mass), "{name}: least mass");
            let thresholds = [least(|c| c.threshold.into()) as f32, most(|c| c.threshold.into()) as f32];
            assert_eq!(thresholds.map(f32::to_bits), want.threshold.map(f32::to_bits), "{name}: thresholds");
            assert_eq!(
                got.contests.iter().filter(|c| c.degenerate).count() as u64,
                want.degenerate,
                "{name}: degenerate"
            );
        }
    }
}

#[test]
fn the_certificate_is_never_above_the_mass() {
    let (single, global) = golden::cases();
    for case in single.iter().chain(&global) {
        for contest in oracle::answer(&case.tensors, &case.question).unwrap().contests {
            assert!(contest.bound.low <= contest.bound.high, "{}", case.name);
            assert!(rounded(&contest.bound) <= contest.mass.next_up(), "{}", case.name);
        }
    }
}

fn ask(kind: Kind, bits: &[u32], norms: Option<Vec<f32>>) -> Result<oracle::Answer, Refusal> {
    let bytes = bits.iter().flat_map(|b| b.to_le_bytes()[..kind.size()].to_vec()).collect();
    let weights = Weights { label: String::new(), kind, bytes, row_len: bits.len(), norms, ..Weights::NOTHING };
    let wanda = weights.norms.is_some();
    oracle::answer(&[weights], &Question { contests: Contests::Tensor, wanda, beta: 1.0, ..Question::RULE })
}

/// Scores 3 and 1: `N_eff` = 16/10, so one is kept, with 3/4 of the mass. Below `N_eff` = 2 the certificate is the edge
/// from 1 to 2 entries, on which these scores lie themselves: 3/4 again.
#[test]
fn two_scores_worked_out_by_hand() {
    for (kind, three, one) in
        [(Kind::F32, 0xc040_0000, 0x3f80_0000), (Kind::F16, 0x4200, 0xbc00), (Kind::Bf16, 0x4040, 0x3f80)]
    {
        let answer = ask(kind, &[one, three], None).unwrap();
        let contest = &answer.contests[0];
        assert_eq!(answer.masks, [[false, true]], "{kind:?}");
        assert_eq!((contest.kept, contest.threshold, contest.n_eff, contest.mass), (1, 3.0, 1.6, 0.75), "{kind:?}");
        assert_eq!(rounded(&contest.bound), 0.75, "{kind:?}");
    }
}

#[test]
fn wanda_products_round_to_nearest_even_and_keep_subnormals() {
    let product = |a: f32, b: f32| {
        let (a, b) = (oracle::exact(Kind::F32, a.to_bits()).unwrap(), oracle::exact(Kind::F32, b.to_bits()).unwrap());
        oracle::nearest_f32((a.0 * b.0, a.1 + b.1))
    };
    // Rust's own f32 product on this machine is the IEEE one; the oracle makes it in integers.
    let mut x = 0x9e37_79b9u32;
    for _ in 0..200_000 {
        let mut next = || {
            x = x.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            f32::from_bits(x.rotate_left(9) & 0x7fff_ffff)
        };
        let (a, b) = (next(), next());
        if a.is_finite() && b.is_finite() {
            let want = a * b;
            assert_eq!(product(a, b).map(f32::to_bits), want.is_finite().then(|| want.to_bits()), "{a:e} * {b:e}");
        }
    }
    let tiny = f32::from_bits(1);
    assert_eq!(product(tiny, 0.5), Some(0.0), "a tie goes to the even side");
    assert_eq!(product(tiny, 0.5f32.next_up()), Some(tiny), "just above the tie");
    assert_eq!(
        product(f32::MIN_POSITIVE.next_down(), 1.0f32.next_up()),
        Some(f32::MIN_POSITIVE),
        "up to the first normal"
    );
    assert_eq!(product(f32::MAX, 1.0), Some(f32::MAX), "the largest");
    assert_eq!(product(f32::MAX, 1.0f32.next_up()), None, "past the largest");
    assert_eq!(product(f32::MAX, f32::MAX), None, "far past it");
}

#[test]
fn ratios_round_to_the_nearest_f64() {
    let ratio = |a: u128, b: u128| oracle::nearest_f64(&a.into(), &b.into());
    for (a, b) in [(1u64, 3u64), (2, 3), (7, 10), (1, 1), (12_345_678_901, 97), (1 << 53, 3), (3, 1 << 52), (0, 5)] {
        // Division of two exact f64 is correctly rounded.
        assert_eq!(ratio(a.into(), b.into()), a as f64 / b as f64, "{a}/{b}");
    }
    let half_way = (1u128 << 54) + 2; // between 2^54 and 2^54 + 4
    assert_eq!(ratio(half_way, 1), (1u64 << 54) as f64, "a tie goes to even");
    assert_eq!(ratio(half_way + 4, 1), ((1u64 << 54) + 8) as f64, "a tie goes to even, upwards");
    assert_eq!(ratio((half_way << 64) + 1, 1 << 64), ((1u64 << 54) + 4) as f64, "what is left decides");
    assert_eq!(ratio((1 << 54) - 1, 1), (1u64 << 54) as f64, "a carry into the next power");
}

#[test]
fn the_first_bad_entry_is_named() {
    let (nan, infinity) = (0x7fc0_0000, 0xff80_0000);
    let at = |bits: &[u32]| ask(Kind::F32, bits, None).unwrap_err();
    assert_eq!(at(&[0, nan, infinity]), Refusal { tensor: 0, index: 1, bad: Bad::Nan }, "NaN first");
    assert_eq!(at(&[0, 0, infinity, nan]), Refusal { tensor: 0, index: 2, bad: Bad::Infinity }, "infinity first");
    let overflow = ask(Kind::Bf16, &[0x3f80, 0x7f7f], Some(vec![3e38, 2.0])).unwrap_err();
    assert_eq!(overflow, Refusal { tensor: 0, index: 1, bad: Bad::Product }, "a product");
    assert_eq!(ask(Kind::F16, &[0x7c01], None).unwrap_err().bad, Bad::Nan, "a signalling f16 NaN");
}

/// A matrix of these values.
fn matrix(row_len: usize, values: &[f32]) -> Weights {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Weights { kind: Kind::F32, bytes, row_len, ..Weights::NOTHING }
}

/// Which entries of the shapes that golden vectors do not have are kept; worked out on paper.
#[test]
fn columns_blocks_heads_chunks_and_segments_by_hand() {
    #[rustfmt::skip]
    let weights = matrix(5, &[
        9.0, 1.0, 1.0, 1.0, 8.0,
        1.0, 1.0, 1.0, 1.0, 1.0,
        1.0, 7.0, 0.5, 0.5, 1.0,
        1.0, 1.0, 0.5, 0.5, 6.0,
    ]);
    let segmented = Weights { segments: Some(vec![1, 4, 15]), ..weights.clone() };
    for (contests, weights, expected) in [
        // 9 1 1 1: S = 12, Q = 84, N_eff = 1.71; 1 1 7 1: 1.92; 1 1 .5 .5: 3.6; the same; 8 1 1 6: S = 16, Q = 102, 2.51.
        (Contests::Column, &weights, [1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1]),
        // 9 1 1 1; 1 1 1 1: four; 8 1: 81 / 65 = 1.2; 1 7 1 1; 0.5 four times: four; 1 6: 49 / 37 = 1.3.
        (Contests::Block(2, 2), &weights, [1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]),
        // S = 25, Q = 153: 4.08, so 9, 8 and the first two ones; S = 19, Q = 90: 4.01, so 7, 6 and two ones.
        (Contests::Heads(2), &weights, [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1]),
        // 9 1 1: 121 / 83 = 1.5; 1 8: 1.2; three; two; 1 7 .5: 8.5^2 / 50.25 = 1.4; .5 1: 2.25 / 1.25 = 1.8; 1 1 .5: 2.8; .5 6.
        (Contests::Chunks(3), &weights, [1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1]),
        // 9; 1 1 1 8: 121 / 67 = 1.8; the rest: S = 24, Q = 95: 6.06, so 7, 6 and the first four ones.
        (Contests::Segments, &segmented, [1, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        let question = Question { contests, ..Question::RULE };
        let answer = oracle::answer(std::slice::from_ref(weights), &question).unwrap();
        assert_eq!(answer.masks[0], expected.map(|bit| bit == 1), "{contests:?}");
    }
}

#[test]
fn budgets_by_hand() {
    use oracle::Keep;
    let weights = [matrix(5, &[3.0, 1.0, 2.0, 1.0, 5.0])];
    let kept = |keep, least| {
        let answer = oracle::answer(&weights, &Question { keep, least, ..Question::RULE }).unwrap();
        answer.masks[0].iter().map(|&bit| u8::from(bit)).collect::<Vec<_>>()
    };
    assert_eq!(kept(Keep::Count(4), 0), [1, 1, 1, 0, 1], "of ties the first");
    assert_eq!(kept(Keep::Count(9), 0), [1; 5]);
    // Two and a half are zeroed: two, which is even; of 1.5 two as well.
    assert_eq!(kept(Keep::AllBut(0.5), 0), [1, 0, 1, 0, 1]);
    assert_eq!(kept(Keep::AllBut(0.3), 0), [1, 0, 1, 0, 1]);
    assert_eq!(kept(Keep::AllBut(1.0), 0), [0; 5]);
    assert_eq!(kept(Keep::AllBut(1.0), 1), [0, 0, 0, 0, 1]);
    // S = 12, Q = 40: 3.6.
    assert_eq!(kept(Keep::Effective, 0), [1, 0, 1, 0, 1]);
    assert_eq!(kept(Keep::Effective, 4), [1, 1, 1, 0, 1]);
    assert_eq!(kept(Keep::Effective, 70), [1; 5]);
    // Scores beside the weights decide, whatever their sign.
    let given = Weights { scores: Some(Box::new(matrix(5, &[0.0, -4.0, 0.5, 0.0, 0.0]))), ..weights[0].clone() };
    let answer = oracle::answer(&[given], &Question { given: true, ..Question::RULE }).unwrap();
    assert_eq!(answer.masks[0], [false, true, false, false, false], "20.25 / 16.25 = 1.2");
}

/// Norms of structures, and where they are rounded.
#[test]
fn norms_by_hand() {
    use oracle::Norm::{L1, L2, Max};
    let row = |_: usize, entry: usize| entry / 3;
    let scores = |values: &[f32], norm| oracle::structure_scores(&[matrix(3, values)], row, norm, &Question::RULE);
    let values = [3.0, -4.0, 0.0, 1.0, 2.0, -2.0];
    assert_eq!(scores(&values, L1), Some(vec![7.0, 5.0]));
    assert_eq!(scores(&values, L2), Some(vec![5.0, 3.0]));
    assert_eq!(scores(&values, Max), Some(vec![4.0, 2.0]));
    // 2^24 + 1 lies between two floats, and goes to the even one; with a little more it goes up.
    let edge = 16_777_216.0;
    assert_eq!(scores(&[edge, 1.0, 0.0], L1), Some(vec![edge]));
    assert_eq!(scores(&[edge, 1.0, 1e-30], L1), Some(vec![edge + 2.0]));
    assert_eq!(scores(&[edge, 3.0, 0.0], L1), Some(vec![edge + 4.0]), "a tie, upwards");
    // A root that is no float: 2 = 1.41421354 * 1.41421354, nearly.
    assert_eq!(scores(&[1.0, 1.0, 0.0], L2), Some(vec![std::f32::consts::SQRT_2]));
    assert_eq!(scores(&[f32::MAX, f32::MAX, 0.0], L1), None, "past the largest");
    assert_eq!(scores(&[f32::MAX, 0.0, 0.0], L2), Some(vec![f32::MAX]));
}
