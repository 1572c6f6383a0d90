//! Contests that are no runs of neighbours: columns, blocks, runs that do not fill a row.

use crate::common::inputs::{distribution, mixture, with_norms};
use crate::common::oracle::{self, Contests, Keep, Kind, Question, Weights};
use crate::devices::turns;
use crate::task::{Task, ask, question};

const KINDS: [Kind; 5] = [Kind::F32, Kind::Bf16, Kind::F16, Kind::E4m3, Kind::E5m2];

/// Blocks that fill the matrix, that leave an edge on one side or on both, of one entry, and larger than the matrix.
fn shapes(rows: usize, columns: usize) -> Vec<Contests> {
    vec![
        Contests::Column,
        Contests::Block(1, 1),
        Contests::Block(4, 4),
        Contests::Block(3, 5),
        Contests::Block(rows, 2),
        Contests::Block(2, columns),
        Contests::Block(1000, 7),
        Contests::Block(5, 1),
        Contests::Chunks(4),
        Contests::Chunks(columns + 1),
        Contests::Heads(rows),
    ]
}

#[test]
fn every_shape_of_contest() {
    for (i, (rows, columns)) in [(1, 1), (8, 12), (7, 33), (64, 9), (21, 130)].into_iter().enumerate() {
        for (j, contests) in shapes(rows, columns).into_iter().enumerate() {
            let (kind, name) = (KINDS[(i + j) % 5], ["normal", "ternary", "lognormal_4", "any_bits"][(i + j) % 4]);
            let weights = distribution(name).weights(kind, rows, columns, (10 * i + j) as u64);
            let wanda = (i + j) % 3 == 1;
            let weights = if wanda { with_norms(weights, 3) } else { weights };
            let keep = [Keep::Effective, Keep::Effective, Keep::Count(2), Keep::AllBut(0.5)][(i + j) % 4];
            ask(&[weights], &Question { keep, ..question(contests, wanda, [1.0, 0.7][j % 2]) });
        }
    }
}

/// Columns and blocks for which a lane, a team, a workgroup are enough, and neighbours with nothing in common.
#[test]
fn columns_and_blocks_of_every_size() {
    for (i, (rows, columns)) in
        [(17, 300), (65, 67), (300, 31), (1025, 5), (2049, 3), (4097, 2)].into_iter().enumerate()
    {
        ask(&[mixture(KINDS[i % 5], rows, columns, i as u64)], &question(Contests::Column, false, 1.0));
        let block = Contests::Block(rows * 2 / 3, columns * 3 / 4 + 1);
        let scores = distribution("normal").weights(KINDS[(i + 1) % 3], rows, columns, 5);
        let weights = mixture(KINDS[(i + 2) % 5], rows, columns, i as u64);
        let weights = Weights { scores: Some(Box::new(scores)), ..weights };
        ask(&[weights], &Question { given: true, ..question(block, false, 0.5) });
    }
}

/// A block too long for one workgroup, beside edges that are not.
#[test]
fn blocks_of_several_workgroups() {
    for (name, beta) in [("normal", 1.0), ("two_values", 0.3)] {
        let weights = [distribution(name).weights(Kind::Bf16, 301, 601, 3)];
        let asked = question(Contests::Block(270, 500), false, beta);
        let want = oracle::answer(&weights, &asked).unwrap();
        for turn in turns() {
            let task = Task::with(turn.gpu, &weights, &asked, None, true);
            turn.gpu.submit(|encoder| task.job.record_prune(encoder));
            task.check(&want, true);
        }
    }
}
