//! Contests that can be decided on paper.

use crate::desk::{Desk, f32s, floats, model, tensor};

const DTYPES: [&str; 3] = ["F32", "F16", "BF16"];

/// Six rows of seven with the sum S and the sum of squares Q of their magnitudes, and so N_eff = S^2 / Q.
const ROWS: [[f32; 7]; 6] = [
    [1.0, -1.0, 0.0, 1.0, 0.0, -1.0, -0.0], // S = 4, Q = 4: four
    [2.0, 2.0, -2.0, 2.0, 2.0, 2.0, 2.0],   // all alike: seven
    [0.0, -0.0, -3.0, 0.0, 0.0, 0.0, 0.0],  // S = 3, Q = 9: one
    [1.0, 3.0, 1.0, 1.0, 0.0, -0.0, 0.0],   // S = 6, Q = 12: three, so two of the three ones, the first two
    [-0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.0],  // all zero: everything stays
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],    // S = 28, Q = 140: 5.6, so five
];
const KEPT: [[u8; 7]; 6] = [
    [1, 1, 0, 1, 0, 1, 0],
    [1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 0, 0, 0, 0],
    [1, 1, 1, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 1, 1],
];

/// As one contest: S = 55, Q = 193, N_eff = 15.67. There are seven threes and more, and eight twos.
const KEPT_OF_TENSOR: [[u8; 7]; 6] = [
    [0, 0, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1],
    [0, 0, 1, 0, 0, 0, 0],
    [0, 1, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1, 1, 1],
];

/// What stays of the bits: a pruned -0 becomes +0, a kept one stays.
fn pruned(values: &[f32], kept: &[u8]) -> Vec<f32> {
    values.iter().zip(kept).map(|(&value, &kept)| if kept == 1 { value } else { 0.0 }).collect()
}

/// Lowest bit first, unused bits 0.
fn packed(kept: &[u8]) -> Vec<u8> {
    kept.chunks(8).map(|eight| eight.iter().enumerate().map(|(i, bit)| bit << i).sum()).collect()
}

/// Prune `w` by `args` and expect all files, byte for byte.
fn expect(dtype: &str, shape: &[u64], values: &[f32], args: &[&str], kept: &[u8]) {
    let desk = Desk::new();
    // Three bytes in front, so that nothing is aligned.
    let file = |values: &[f32]| model(&[("a", "U8", &[3], vec![1, 2, 3]), ("w", dtype, shape, floats(dtype, values))]);
    desk.write("in", &file(values));
    desk.succeed(&[&["prune", "in", "-o", "out", "--masks", "masks"], args].concat());
    assert_eq!(desk.read("out"), file(&pruned(values, kept)), "{dtype} {args:?}");
    assert_eq!(tensor(&desk.read("masks"), "w"), packed(kept), "{dtype} {args:?}");
}

#[test]
fn rows() {
    for dtype in DTYPES {
        expect(dtype, &[6, 7], ROWS.as_flattened(), &[], KEPT.as_flattened());
    }
}

#[test]
fn a_row_is_one_index_of_the_first_axis() {
    for shape in [&[6u64, 7, 1] as &[u64], &[6, 1, 7], &[6, 1, 1, 7, 1]] {
        expect("F16", shape, ROWS.as_flattened(), &["--granularity=row"], KEPT.as_flattened());
    }
}

#[test]
fn fewer_than_two_axes_are_one_contest() {
    let args = ["--targets", "w"];
    expect("BF16", &[42], ROWS.as_flattened(), &args, KEPT_OF_TENSOR.as_flattened());
    expect("F32", &[], &[-3.0], &args, &[1]);
    expect("F32", &[1, 42], ROWS.as_flattened(), &[], KEPT_OF_TENSOR.as_flattened());
}

/// One norm for a whole vector makes no contests of one entry each.
#[test]
fn a_vector_with_one_norm_is_one_row() {
    let desk = Desk::new();
    let weights = [1.0, 4.0, 3.0, 2.0, 5.0, 8.0, 7.0, 6.0];
    desk.write("in", &model(&[("w", "F32", &[8], f32s(&weights))]));
    desk.write("norms", &model(&[("w", "F32", &[1], f32s(&[0.5]))]));
    for question in [
        &["--nm", "2:4"][..],
        &["--granularity", "chunk:4"],
        &["--granularity", "block:1x4"],
        &["--granularity", "column"],
        &["--granularity", "global"],
        &["--granularity", "row", "--count", "3"],
        &["--structure", "row", "--norm", "l1"],
    ] {
        let prune = |more: &[&str]| {
            desk.succeed(&[&["prune", "in", "-o", "out", "--overwrite", "--targets", "w"], question, more].concat());
            desk.read("out")
        };
        // A power of two, so the order of scores is that of the weights.
        assert!(prune(&["--score", "wanda", "--norms", "norms"]) == prune(&[]), "{question:?}");
    }
}

#[test]
fn tensors() {
    for dtype in DTYPES {
        expect(dtype, &[6, 7], ROWS.as_flattened(), &["--granularity", "tensor"], KEPT_OF_TENSOR.as_flattened());
    }
}

#[test]
fn one_contest_over_all_goes_by_name_and_not_by_place() {
    for dtype in DTYPES {
        let desk = Desk::new();
        // S = 6, Q = 12, N_eff = 3: the 3, and of four ones two. "Z" is before "a", whatever the file's order.
        let file = |a: [f32; 4], z: [f32; 2]| {
            model(&[("a", dtype, &[2, 2], floats(dtype, &a)), ("Z", dtype, &[1, 2], floats(dtype, &z))])
        };
        desk.write("in", &file([3.0, 1.0, -0.0, 0.0], [1.0, -1.0]));
        desk.succeed(&["prune", "in", "-o", "out", "--granularity", "global", "--masks", "masks"]);
        assert_eq!(desk.read("out"), file([3.0, 0.0, 0.0, 0.0], [1.0, -1.0]), "{dtype}");
        let masks = desk.read("masks");
        assert_eq!((tensor(&masks, "a"), tensor(&masks, "Z")), (vec![0b0001], vec![0b11]), "{dtype}");
    }
}

#[test]
fn one_contest_over_tensors_of_several_dtypes() {
    let desk = Desk::new();
    let file = |a: [f32; 2], b: [f32; 2], c: [f32; 2]| {
        let part = |name, dtype, values: &[f32]| (name, dtype, &[1u64, 2] as &[u64], floats(dtype, values));
        model(&[part("a", "BF16", &a), part("b", "F32", &b), part("c", "F16", &c)])
    };
    // S = 6, Q = 12 once more.
    desk.write("in", &file([1.0, 0.0], [1.0, -1.0], [0.0, 3.0]));
    desk.succeed(&["prune", "in", "-o", "out", "--granularity", "global"]);
    assert_eq!(desk.read("out"), file([1.0, 0.0], [1.0, 0.0], [0.0, 3.0]));
}

#[test]
fn beta_is_the_decimal_that_it_is_written_as() {
    let ten = [1.0; 10];
    for (beta, kept) in [("0.7", 7), ("0.69999", 6), ("1e-9", 1), ("5", 10), ("0.3", 3), ("1", 10)] {
        let bits: Vec<u8> = (0..10).map(|i| u8::from(i < kept)).collect();
        expect("F32", &[1, 10], &ten, &["--beta", beta], &bits);
    }
}

#[test]
fn wanda_weighs_each_column_by_its_norm() {
    // Scores 2 2 0 and 4 1 0: two and one are kept. Norms have no sign.
    let weights = [1.0, 2.0, 9.0, 2.0, -1.0, 8.0];
    for norms in [[2.0, 1.0, 0.0], [-2.0, -1.0, -0.0]] {
        for dtype in DTYPES {
            let desk = Desk::new();
            let file = |values: &[f32]| model(&[("w", dtype, &[2, 3], floats(dtype, values))]);
            desk.write("in", &file(&weights));
            desk.write("norms", &model(&[("other", "U8", &[1], vec![7]), ("w", "F32", &[3], f32s(&norms))]));
            let wanda = ["prune", "in", "-o", "out", "--overwrite", "--score", "wanda", "--norms", "norms"];
            desk.succeed(&wanda);
            assert_eq!(desk.read("out"), file(&[1.0, 2.0, 0.0, 2.0, 0.0, 0.0]), "{dtype} by row");
            for granularity in ["tensor", "global"] {
                // S = 9, Q = 25, N_eff = 3.24.
                desk.succeed(&[&wanda[..], &["--granularity", granularity]].concat());
                assert_eq!(desk.read("out"), file(&[1.0, 2.0, 0.0, 2.0, 0.0, 0.0]), "{dtype} by {granularity}");
            }
        }
    }
}

#[test]
fn norms_of_a_weight_with_one_axis_are_one_or_one_each() {
    for (norms, expected) in [
        (&[5.0f32] as &[f32], [1.0, 3.0, 1.0, 0.0]), // scores 5 15 5 5: N_eff = 3, as without norms
        (&[0.0, 1.0, 1.0, 1.0], [0.0, 3.0, 1.0, 0.0]), // scores 0 3 1 1: S = 5, Q = 11, N_eff = 2.27
    ] {
        let desk = Desk::new();
        desk.write("in", &model(&[("w", "F32", &[4], f32s(&[1.0, 3.0, 1.0, 1.0]))]));
        desk.write("norms", &model(&[("w", "F32", &[norms.len() as u64], f32s(norms))]));
        desk.succeed(&["prune", "in", "-o", "out", "--targets", "w", "--score", "wanda", "--norms", "norms"]);
        assert_eq!(tensor(&desk.read("out"), "w"), f32s(&expected), "{norms:?}");
    }
}
