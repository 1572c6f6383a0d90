//! Scores beside the weights: they are judged, and the weights are zeroed.

use crate::KINDS;
use crate::common::inputs::{self, distribution};
use crate::common::oracle::{Contests, Kind, Question, Weights};
use crate::task::{ask, question};

const WEIGHTS: [Kind; 5] = [Kind::F32, Kind::F16, Kind::Bf16, Kind::E4m3, Kind::E5m2];

/// Weights that are no numbers: nobody asks.
fn scored(kind: Kind, score_kind: Kind, name: &str, rows: usize, row_len: usize, seed: u64) -> Weights {
    let scores = distribution(name).weights(score_kind, rows, row_len, seed);
    let bits = vec![inputs::infinity(kind) | inputs::sign(kind); rows * row_len];
    let weights = inputs::weights(format!("{kind:?} beside {}", scores.label), kind, row_len, &bits);
    Weights { scores: Some(Box::new(scores)), ..weights }
}

fn given(contests: Contests, beta: f64) -> Question {
    Question { given: true, ..question(contests, false, beta) }
}

#[test]
fn every_dtype_of_weights_beside_every_dtype_of_scores() {
    for (i, kind) in WEIGHTS.into_iter().enumerate() {
        for (j, score_kind) in WEIGHTS.into_iter().enumerate() {
            let name = ["normal", "ternary", "lognormal_2", "all_zeros", "any_bits"][(i + j) % 5];
            let contests = [Contests::Row, Contests::Tensor, Contests::Column][(i + 2 * j) % 3];
            ask(&[scored(kind, score_kind, name, 7, 131, j as u64)], &given(contests, [1.0, 0.5][i % 2]));
        }
    }
}

/// Words that contests share, more words than a workgroup has lanes, long rows.
#[test]
fn scores_of_many_shapes() {
    for (i, (rows, row_len)) in
        [(1, 1), (35, 1), (9, 2), (33, 7), (5, 31), (3, 1025), (2, 20_001)].into_iter().enumerate()
    {
        for kind in [WEIGHTS[i % 5], WEIGHTS[(i + 3) % 5]] {
            ask(&[scored(kind, KINDS[i % 3], "int8_levels", rows, row_len, 9)], &given(Contests::Row, 1.0));
        }
    }
    ask(&[scored(Kind::Bf16, Kind::F32, "normal", 2, 131_073, 10)], &given(Contests::Row, 0.7));
    ask(&[scored(Kind::E4m3, Kind::Bf16, "two_values", 1, 40_003, 11)], &given(Contests::Tensor, 0.7));
}

/// One contest over several slices, each with scores of its own kind.
#[test]
fn scores_of_several_slices() {
    let shapes = [(Kind::F32, Kind::Bf16, 67), (Kind::E5m2, Kind::F32, 16_385), (Kind::F16, Kind::F16, 1)];
    for name in ["normal", "all_equal", "negative_zeros"] {
        let slices = shapes.map(|(kind, score_kind, len)| scored(kind, score_kind, name, 1, len, 12));
        ask(&slices, &given(Contests::Global, 0.5));
    }
}
