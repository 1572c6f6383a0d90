//! Bad input: the record says so, and weights and mask stay as they are.

use crate::KINDS;
use crate::common::check::check_pruned;
use crate::common::inputs::{self, distribution, infinity, near, with_norms};
use crate::common::oracle::{self, Answer, Bad, Contests, Kind, Question, Refusal, Weights};
use crate::devices::turns;
use crate::task::{Task, question};

fn status(bad: Bad) -> u32 {
    match bad {
        Bad::Nan => 1,
        Bad::Infinity => 2,
        Bad::Product => 3,
    }
}

/// Weights with some entries replaced.
fn spoil(mut weights: Weights, entries: &[(usize, u32)]) -> Weights {
    let size = weights.kind.size();
    for &(at, bits) in entries {
        weights.bytes[at * size..(at + 1) * size].copy_from_slice(&bits.to_le_bytes()[..size]);
    }
    weights.label += &format!(" with {entries:x?}");
    weights
}

/// One contest that cannot be decided: its record says why, and everything else stays as it is.
#[test]
fn a_bad_entry_leaves_a_contest_alone() {
    for kind in KINDS {
        let nan = infinity(kind) | 1;
        let clean = || distribution("normal").weights(kind, 3, 7001, 400);
        let last = 3 * 7001 - 1;
        for (wanda, entries) in [
            (false, vec![(0, nan)]),
            (false, vec![(17_001, infinity(kind)), (17_002, nan)]),
            (false, vec![(last, nan | inputs::sign(kind))]),
            (true, vec![(5, nan), (9000, infinity(kind))]),
            // Not the largest weight, but the largest norm.
            (true, vec![(7002, near(kind, 3.0))]),
        ] {
            let mut bad = spoil(clean(), &entries);
            let other = distribution("normal").weights(Kind::F32, 1, 50, 401);
            let mut slices = [other.clone(), bad.clone(), spoil(other, &[(0, 0x7f80_0000)])];
            if wanda {
                bad.norms = Some((0..7001).map(|i| if i == 1 { f32::MAX } else { 1e-3 }).collect());
                bad = spoil(bad, &[(1, 0), (14_003, 0)]);
                let norms = [Some(vec![1.0; 50]), bad.norms.clone(), Some(vec![1.0; 50])];
                slices[1] = bad.clone();
                slices.iter_mut().zip(norms).for_each(|(slice, norms)| slice.norms = norms);
            }
            // Alone, and as one of several, of which a later one is bad too.
            refused(&[bad], &question(Contests::Tensor, wanda, 1.0));
            refused(&slices, &question(Contests::Global, wanda, 1.0));
        }
    }
}

fn refused(tensors: &[Weights], asked: &Question) {
    let Refusal { tensor, index, bad } = oracle::answer(tensors, asked).expect_err("a bad entry");
    for turn in turns() {
        let gpu = turn.gpu;
        for prune in [false, true] {
            let task = Task::new(gpu, tensors, asked);
            gpu.submit(|encoder| if prune { task.job.record_prune(encoder) } else { task.job.record_mask(encoder) });
            let seen = task.look();
            seen.outside.clone().unwrap_or_else(|wrong| task.fail(&wrong));
            let record = &seen.records[0];
            let got = (record.status, record.bad_slice as usize, record.bad_index as usize);
            if got != (status(bad), tensor, index) {
                task.fail(&format!(
                    "status, slice, index are {got:?}; must be those of {bad:?} at {index} of {tensor}"
                ));
            }
            for (t, weights) in tensors.iter().enumerate() {
                let mask_before = &task.results.0.bytes[task.masks[t].clone()];
                if seen.weights[t] != weights.bytes || seen.masks[t] != mask_before {
                    task.fail(&format!("weights or mask of slice {t} were written, prune {prune}"));
                }
            }
        }
    }
}

/// A bad row is left alone; all other rows are decided. A row too long for one workgroup is no exception.
#[test]
fn a_bad_row_does_not_spoil_the_others() {
    for kind in KINDS {
        let nan = infinity(kind) | 1;
        let rows = with_norms(distribution("normal").weights(kind, 37, 131, 410), 410);
        let entries = [
            (0, nan),
            (131 * 4 + 130, infinity(kind)),
            (131 * 5, nan),
            (131 * 5 + 1, infinity(kind)),
            (131 * 37 - 1, nan),
        ];
        bad_rows(&spoil(rows.clone(), &entries), false);
        bad_rows(&spoil(rows, &entries[1..3]), true);
        let mut overflow = distribution("int8_levels").weights(kind, 9, 7, 411);
        overflow.norms = Some(vec![1.0, 1.0, f32::MAX, 1.0, 1.0, 1.0, 1.0]);
        bad_rows(&overflow, true);
    }
    // Rows of which several end in one word, some of them bad.
    for kind in [Kind::E4m3, Kind::E5m2] {
        for row_len in [1, 2, 3, 5, 6, 33] {
            let rows = distribution("normal").weights(kind, 21, row_len, 413);
            let entries = [0, 4, 5, 11, 20].map(|row| (row * row_len + row % row_len, infinity(kind)));
            bad_rows(&spoil(rows, &entries), false);
        }
    }
}

#[test]
fn a_bad_long_row_does_not_spoil_the_others() {
    for kind in KINDS {
        let rows = distribution("normal").weights(kind, 3, 131_073, 412);
        bad_rows(&spoil(rows, &[(131_073 + 5, infinity(kind)), (131_073 + 70_000, infinity(kind) | 1)]), false);
    }
}

fn bad_rows(weights: &Weights, wanda: bool) {
    bad_contests(weights, Contests::Row, wanda);
}

/// Whatever the shape of contests: the one that cannot be decided stays as it is, and its record says why.
#[test]
fn a_bad_block_does_not_spoil_the_others() {
    for (i, kind) in [Kind::F32, Kind::F16, Kind::Bf16, Kind::E5m2].into_iter().enumerate() {
        let matrix = with_norms(distribution("normal").weights(kind, 21, 34, 420), 420);
        // In the first block, inside, at the right edge, the lower edge, in the corner; two in one block.
        let entries = [(0, 0), (9, 17), (9, 18), (10, 33), (20, 6), (20, 33)];
        let entries = entries.map(|(row, column)| (row * 34 + column, infinity(kind) | u32::from(column == 17)));
        for contests in [Contests::Column, Contests::Block(4, 5), Contests::Chunks(8)] {
            bad_contests(&spoil(matrix.clone(), &entries[..3 + i % 4]), contests, i % 2 == 1);
        }
    }
    // Products that overflow are called what they are, though what is decided is keys.
    let mut overflow = distribution("int8_levels").weights(Kind::Bf16, 9, 7, 421);
    overflow.norms = Some(vec![1.0, 1.0, f32::MAX, 1.0, 1.0, 1.0, 1.0]);
    bad_contests(&overflow, Contests::Column, true);
    bad_contests(&overflow, Contests::Block(2, 3), true);
}

/// Scores beside the weights: a bad one counts, and what the weights are does not.
#[test]
fn a_bad_score_leaves_its_contest_alone() {
    for (i, kind) in [Kind::F32, Kind::Bf16, Kind::E4m3].into_iter().enumerate() {
        let scores = |seed| distribution("normal").weights(KINDS[i], 9, 131, seed);
        let nan = infinity(KINDS[i]) | 1;
        let weights = inputs::weights("no numbers".into(), kind, 131, &vec![infinity(kind); 9 * 131]);
        for contests in [Contests::Row, Contests::Column] {
            let bad = spoil(scores(430), &[(0, nan), (131 * 4 + 130, infinity(KINDS[i])), (131 * 5, nan)]);
            bad_contests(&Weights { scores: Some(Box::new(bad)), ..weights.clone() }, contests, false);
        }
        let [good, bad] = [scores(431), spoil(scores(432), &[(7, nan)])];
        let slices = [good, bad].map(|scores| Weights { scores: Some(Box::new(scores)), ..weights.clone() });
        refused(&slices, &Question { given: true, ..question(Contests::Global, false, 1.0) });
        refused(&slices[1..], &Question { given: true, ..question(Contests::Tensor, false, 1.0) });
    }
}

fn bad_contests(weights: &Weights, contests: Contests, wanda: bool) {
    let (row_len, size, given) = (weights.row_len, weights.kind.size(), weights.scores.is_some());
    let by_number = if contests == Contests::Row { Contests::Chunks(row_len) } else { contests };
    // Each contest asked for itself.
    let alone = |places: &[(usize, usize)]| {
        let some = |of: &Weights| {
            let bits = of.bits();
            let bits: Vec<u32> = places.iter().map(|&(_, i)| bits[i]).collect();
            inputs::weights(of.label.clone(), of.kind, bits.len(), &bits)
        };
        let norms = weights.norms.as_ref().map(|norms| places.iter().map(|&(_, i)| norms[i % row_len]).collect());
        Weights { norms, scores: weights.scores.as_deref().map(|scores| Box::new(some(scores))), ..some(weights) }
    };
    let of_one = Question { given, ..question(Contests::Tensor, wanda, 1.0) };
    let places = oracle::by_number(0, weights, by_number);
    let want: Vec<Result<Answer, Refusal>> =
        places.iter().map(|places| oracle::answer(&[alone(places)], &of_one)).collect();
    assert!(want.iter().any(Result::is_ok) && want.iter().any(Result::is_err), "good contests and bad ones");
    for turn in turns() {
        let gpu = turn.gpu;
        for prune in [false, true] {
            let asked = Question { given, ..question(contests, wanda, 1.0) };
            let task = Task::new(gpu, std::slice::from_ref(weights), &asked);
            gpu.submit(|encoder| if prune { task.job.record_prune(encoder) } else { task.job.record_mask(encoder) });
            let seen = task.look();
            seen.outside.clone().unwrap_or_else(|wrong| task.fail(&wrong));
            let mask_before = &task.results.0.bytes[task.masks[0].clone()];
            let bit = |mask: &[u8], at: usize| mask[at / 8] >> (at % 8) & 1 == 1;
            for (number, (places, want)) in places.iter().zip(&want).enumerate() {
                let record = &seen.records[number];
                let mask: Vec<bool> = places.iter().map(|&(_, at)| bit(&seen.masks[0], at)).collect();
                let before = alone(places);
                let after: Vec<u8> =
                    places.iter().flat_map(|&(_, at)| &seen.weights[0][at * size..(at + 1) * size]).copied().collect();
                let wrong = match want {
                    Err(Refusal { index, bad, .. }) => {
                        let got = (record.status, record.bad_slice, record.bad_index as usize);
                        let untouched = places.iter().map(|&(_, at)| bit(mask_before, at)).eq(mask);
                        let index = places[*index].1;
                        if got != (status(*bad), 0, index) {
                            Err(format!("status, slice, index are {got:?}, must be those of {bad:?} at {index}"))
                        } else if !untouched || after != before.bytes {
                            Err("weights or mask of a bad contest were written".to_owned())
                        } else {
                            Ok(())
                        }
                    }
                    Ok(answer) => {
                        let contest = &answer.contests[0];
                        let (got, must) = ((record.status, record.kept()), (0, contest.kept as u64));
                        if got != must {
                            Err(format!("status and kept are {got:?}, must be {must:?}"))
                        } else if mask != answer.masks[0] {
                            Err("the mask is wrong".to_owned())
                        } else if prune {
                            check_pruned(&before, &answer.masks[0], &after)
                        } else if after != before.bytes {
                            Err("weights changed, and only a mask was asked for".to_owned())
                        } else {
                            Ok(())
                        }
                    }
                };
                wrong.unwrap_or_else(|wrong| task.fail(&format!("contest {number}: {wrong}")));
            }
        }
    }
}

/// Nobody has looked at a caller's norms before the device does. One that is no number spoils every contest that meets it, even where the
/// weight is zero, and nothing is written.
#[test]
fn a_norm_that_is_no_number() {
    for (i, norm) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate() {
        for (rows, columns, contests) in [
            (1, 5000, Contests::Tensor),
            (40, 9, Contests::Row),
            (5, 300, Contests::Row),
            (3, 2500, Contests::Row),
            (40, 7, Contests::Column),
        ] {
            let kind = [Kind::F32, Kind::Bf16, Kind::F16][i];
            let mut weights = with_norms(distribution("normal").weights(kind, rows, columns, 430), 430);
            weights.norms.as_mut().unwrap()[3] = norm;
            let size = kind.size();
            weights.bytes[3 * size..4 * size].fill(0);
            let tensors = std::slice::from_ref(&weights);
            for turn in turns() {
                let task = Task::new(turn.gpu, tensors, &question(contests, true, 1.0));
                turn.gpu.submit(|encoder| task.job.record_prune(encoder));
                let seen = task.look();
                let told = |at: usize| (seen.records[at].status, seen.records[at].bad_index as usize);
                let name = &turn.gpu.name;
                match contests {
                    Contests::Tensor => assert_eq!(told(0), (3, 3), "{name}: {norm}"),
                    Contests::Row => {
                        (0..rows)
                            .for_each(|row| assert_eq!(told(row), (3, row * columns + 3), "{name}: {norm}, row {row}"));
                    }
                    _ => {
                        assert_eq!(told(3), (3, 3), "{name}: {norm}");
                        assert!((0..columns).all(|at| (told(at).0 == 3) == (at == 3)), "{name}: {norm}");
                    }
                }
                if contests != Contests::Column {
                    assert!(seen.weights[0] == weights.bytes, "{name}: {norm} of {contests:?}: weights were written");
                }
            }
        }
    }
}
