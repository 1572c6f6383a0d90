//! Scores of the caller's, contests of every shape, budgets of every kind: the same suite for every backend, against the oracle.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{Outcome, ask, check, check_same, judge, run};
use common::inputs::{self, DISTRIBUTIONS, Rng, distribution, mixture, with_norms};
use common::oracle::{self, Contests, Keep, Kind, Question, Weights};
use common::pieces::Pieces;
use common::{Named, backends, cpu};
use emprune::{Beta, Budget, ErrorKind, Granularity, Group, Rule, Score, Sparsity, Tensor, Want};

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];

mod suite {
    super::common::per_backend! {
        every_shape_of_contest
        every_budget
        every_shape_with_every_budget
        scores_of_the_callers
        n_of_every_m
        segments_of_any_length
        the_first_bad_score_is_named
        small_pieces_and_two_halves
    }
}

/// The shapes of contests that suit a matrix.
fn shapes(rows: usize, columns: usize) -> Vec<Contests> {
    let mut shapes = vec![
        Contests::Column,
        Contests::Block(1, 1),
        Contests::Block(4, 4),
        Contests::Block(3, 5),
        Contests::Block(rows, 2),
        Contests::Block(2, columns),
        Contests::Block(1000, 7),
        Contests::Chunks(1),
        Contests::Chunks(4),
        Contests::Chunks(columns + 1),
        Contests::Heads(1),
        Contests::Heads(rows),
    ];
    shapes.extend((2..rows).find(|heads| rows.is_multiple_of(*heads)).map(Contests::Heads));
    shapes
}

fn every_shape_of_contest(backends: &[Named]) {
    for (i, (rows, columns)) in [(1, 1), (8, 12), (7, 33), (9, 64), (21, 5)].into_iter().enumerate() {
        for (j, contests) in shapes(rows, columns).into_iter().enumerate() {
            let (kind, name) = (KINDS[(i + j) % 3], ["normal", "ternary", "lognormal_4", "two_values"][(i + j) % 4]);
            let weights = distribution(name).weights(kind, rows, columns, (10 * i + j) as u64);
            let wanda = j % 2 == 1;
            let weights = if wanda { with_norms(weights, 3) } else { weights };
            // Two tensors: the contests of the second come behind those of the first.
            let other = distribution("normal").weights(Kind::F32, rows * 2, columns, 7);
            let other = if wanda { with_norms(other, 4) } else { other };
            ask(backends, &[weights, other], &Question { contests, wanda, beta: [1.0, 0.7][j % 2], ..Question::RULE });
        }
    }
}

const BUDGETS: [Keep; 7] = [
    Keep::Count(1),
    Keep::Count(5),
    Keep::Count(usize::MAX),
    Keep::AllBut(0.5),
    Keep::AllBut(0.0),
    Keep::AllBut(1.0),
    Keep::AllBut(0.937),
];

fn every_budget(backends: &[Named]) {
    for (i, distribution) in DISTRIBUTIONS.iter().enumerate() {
        let tensors = [(5, 67), (2, 1), (1, 300)].map(|(r, c)| distribution.weights(KINDS[i % 3], r, c, i as u64));
        for (j, keep) in BUDGETS.into_iter().enumerate() {
            let contests = [Contests::Global, Contests::Tensor, Contests::Row][(i + j) % 3];
            let least = [0, 0, 3, 1000][(i + j) % 4];
            ask(backends, &tensors, &Question { contests, keep, least, ..Question::RULE });
        }
        // The least alone, beside the rule.
        let contests = [Contests::Global, Contests::Tensor, Contests::Row][i % 3];
        ask(backends, &tensors, &Question { contests, least: 40, beta: 0.01, ..Question::RULE });
    }
}

fn every_shape_with_every_budget(backends: &[Named]) {
    for (i, keep) in BUDGETS.into_iter().enumerate() {
        for (j, contests) in shapes(6, 10).into_iter().enumerate().filter(|(j, _)| (i + j) % 3 == 0) {
            let name = ["all_zeros", "ternary", "normal", "all_equal"][(i + j) % 4];
            let weights = distribution(name).weights(KINDS[(i + j) % 3], 6, 10, j as u64);
            // Of a chunk no more can be kept than it has.
            let keep = match (contests, keep) {
                (Contests::Chunks(len), Keep::Count(count)) => Keep::Count(count.min(len)),
                (_, keep) => keep,
            };
            ask(backends, &[weights], &Question { contests, keep, least: j % 3, ..Question::RULE });
        }
    }
}

fn scores_of_the_callers(backends: &[Named]) {
    for (i, kind) in KINDS.into_iter().enumerate() {
        for (j, score_kind) in KINDS.into_iter().enumerate() {
            for (k, contests) in
                [Contests::Global, Contests::Tensor, Contests::Row, Contests::Column, Contests::Block(3, 4)]
                    .into_iter()
                    .enumerate()
            {
                let seed = (9 * i + 3 * j + k) as u64;
                let tensors = [(5, 91), (4, 64)].map(|(rows, columns)| Weights {
                    // Weights that would stop a contest of their own: only the scores are judged.
                    scores: Some(Box::new(
                        distribution(["normal", "ternary"][k % 2]).weights(score_kind, rows, columns, seed),
                    )),
                    ..inputs::weights("infinite".into(), kind, columns, &vec![inputs::infinity(kind); rows * columns])
                });
                ask(backends, &tensors, &Question { contests, given: true, ..Question::RULE });
            }
        }
    }
}

fn n_of_every_m(backends: &[Named]) {
    for (n, m, columns) in [(2, 4, 64), (2, 4, 6), (1, 2, 7), (4, 8, 20), (3, 3, 10), (1, 100, 10), (2, 4, 1)] {
        for kind in KINDS {
            let weights = distribution("normal").weights(kind, 5, columns, n as u64);
            let question = Question { contests: Contests::Chunks(m), keep: Keep::Count(n), ..Question::RULE };
            assert_eq!(common::rule(&question), Rule::new().n_of_m(n as u64, m as u64));
            ask(backends, &[weights], &question);
        }
    }
    // Zeros and ties too: exactly two of every four.
    let zeros = inputs::weights("zeros".into(), Kind::F32, 8, &[0; 24]);
    ask(backends, &[zeros], &Question { contests: Contests::Chunks(4), keep: Keep::Count(2), ..Question::RULE });
}

fn segments_of_any_length(backends: &[Named]) {
    let mut rng = Rng(5);
    for (i, most) in [1usize, 9, 300, 5000].into_iter().enumerate() {
        for kind in KINDS {
            let lens: Vec<u64> = (0..40).map(|_| 1 + rng.below(most) as u64).collect();
            let len = lens.iter().sum::<u64>() as usize;
            let name = ["ternary", "normal", "sixty_decades", "lognormal_2"][i];
            let weights = Weights { segments: Some(lens), ..distribution(name).weights(kind, 1, len, i as u64) };
            ask(backends, &[weights], &Question { contests: Contests::Segments, ..Question::RULE });
        }
    }
    // Lengths that many share go to a device together, whatever lies between them; so does what is judged beside the weights, and a bad score.
    for (i, kind) in KINDS.into_iter().enumerate() {
        let mut lens: Vec<u64> = (0..40).map(|at| if at % 7 == 3 { 1 + at } else { 33 }).collect();
        lens.extend((0..20).flat_map(|at| if at % 5 == 0 { vec![1000, 17 + at] } else { vec![1000] }));
        let len = lens.iter().sum::<u64>() as usize;
        let weights = mixture(kind, 1, len, i as u64);
        let scores = (i == 1).then(|| Box::new(distribution("ternary").weights(Kind::Bf16, 1, len, 6)));
        let mut weights = Weights { segments: Some(lens), scores, ..weights };
        let question = Question { contests: Contests::Segments, given: i == 1, least: 2, ..Question::RULE };
        ask(backends, std::slice::from_ref(&weights), &question);
        let judged = if i == 1 { weights.scores.as_deref_mut().unwrap() } else { &mut weights };
        let (size, bad) = (judged.kind.size(), inputs::infinity(judged.kind));
        for at in [len - 5, len / 3] {
            judged.bytes[at * size..(at + 1) * size].copy_from_slice(&bad.to_le_bytes()[..size]);
        }
        ask(backends, &[weights], &question);
    }
    // A long one between short ones.
    let lens = vec![3, 70_000, 1, 2, 66_000, 5];
    let weights = distribution("normal").weights(Kind::Bf16, 1, lens.iter().sum::<u64>() as usize, 8);
    let weights = Weights { segments: Some(lens), ..weights };
    ask(backends, &[weights], &Question { contests: Contests::Segments, beta: 0.9, ..Question::RULE });
}

/// Whichever block it stops, the first bad entry of the tensor is what the error names, and nothing is pruned.
fn the_first_bad_score_is_named(backends: &[Named]) {
    for contests in [Contests::Column, Contests::Block(2, 3), Contests::Chunks(5), Contests::Heads(3)] {
        for places in [vec![40], vec![7, 40], vec![59, 1, 30]] {
            let mut bits = distribution("normal").weights(Kind::F32, 6, 10, 1).bits();
            places.iter().for_each(|&at| bits[at] = f32::NAN.to_bits());
            let weights = inputs::weights(format!("NaN at {places:?}"), Kind::F32, 10, &bits);
            ask(backends, &[weights], &Question { contests, ..Question::RULE });
        }
    }
}

/// Pieces smaller than a row of blocks, smaller than a row, and larger than both: always the answer of one piece.
fn small_pieces_and_two_halves(backends: &[Named]) {
    for (i, contests) in [
        Contests::Column,
        Contests::Block(4, 4),
        Contests::Block(5, 7),
        Contests::Chunks(9),
        Contests::Heads(4),
        Contests::Segments,
        Contests::Row,
        Contests::Tensor,
        Contests::Global,
    ]
    .into_iter()
    .enumerate()
    {
        for (j, piece) in [9, 64, 300, 4000].into_iter().enumerate() {
            let wanda = (i + j) % 2 == 1 && contests != Contests::Segments;
            let given = (i + j) % 3 == 2 && !wanda;
            let make = |rows, columns| {
                let weights = distribution("normal").weights(KINDS[i % 3], rows, columns, 9);
                let weights = if wanda { with_norms(weights, 9) } else { weights };
                let scores =
                    given.then(|| Box::new(distribution("two_values").weights(KINDS[j % 3], rows, columns, 5)));
                let len = weights.len() as u64;
                let segments = (contests == Contests::Segments).then(|| vec![1, len / 2, len - len / 2 - 1]);
                Weights { scores, segments, ..weights }
            };
            let tensors = [make(12, 40), make(8, 19)];
            let question = Question { contests, wanda, given, ..Question::RULE };
            let (want, rule) = (oracle::answer(&tensors, &question).unwrap(), common::rule(&question));
            for backend in backends {
                let mut pieces = Pieces::new(&tensors, piece, Want { zeros: true, masks: true });
                pieces.strips = true;
                let got = pieces.stream(&backend.pruner, &rule).unwrap();
                check(&tensors, &want, &got)
                    .unwrap_or_else(|wrong| panic!("{} {question:?} {piece}: {wrong}", backend.name));
                check_same(&run(&cpu()[0], &tensors, &question).unwrap(), &got).unwrap();
                in_two_halves(backend, &tensors, piece, &question, &got);
            }
        }
    }
}

/// Nothing is stored by the first half, and the second is told no more than the groups.
fn in_two_halves(backend: &Named, tensors: &[Weights], piece: usize, question: &Question, whole: &Outcome) {
    let (rule, want) = (common::rule(question), Want { zeros: true, masks: true });
    let pieces = || {
        let mut pieces = Pieces::new(tensors, piece, want);
        pieces.strips = true;
        pieces
    };
    let mut looked_at = pieces();
    let decision = backend.pruner.decide(&mut looked_at, &rule).unwrap();
    assert_eq!((looked_at.stored, decision.groups()), (0, &whole.groups[..]), "{}: {question:?} {piece}", backend.name);
    let mut read_once = pieces();
    read_once.reads = Some(1);
    let got = read_once.carry_out(&backend.pruner, &rule, &decision).unwrap();
    check_same(whole, &got).unwrap_or_else(|wrong| panic!("{} {question:?} {piece}: {wrong}", backend.name));
    let mut fewer = decision.groups().to_vec();
    fewer.pop();
    // As many, of as many entries together, in another order.
    let mut turned = decision.groups().to_vec();
    turned.reverse();
    let lens = |groups: &[Group]| groups.iter().map(|group| group.len).collect::<Vec<_>>();
    let turned = (lens(&turned) != lens(decision.groups())).then_some(turned);
    let twice = [decision.groups(), decision.groups()].concat();
    // Of more entries together than 64 bits count, where there are several.
    let mut longer = decision.groups().to_vec();
    longer[0].len = u64::MAX;
    for groups in [Some(fewer), Some(twice), Some(longer), turned].iter().flatten() {
        let error = backend.pruner.carry_out(&mut pieces(), &rule, groups, want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    for threshold in [-0.0, -0.5, f32::NAN, f32::from_bits(u32::MAX)] {
        let mut wrong = decision.groups().to_vec();
        wrong[0].threshold = threshold;
        let error = backend.pruner.carry_out(&mut pieces(), &rule, &wrong, want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{threshold}: {error}");
    }
    if question.contests != Contests::Global {
        return;
    }
    // One by one, each as a contest of its own.
    let mut before = 0;
    for (t, weights) in tensors.iter().enumerate() {
        let all = decision.groups()[0];
        let group = Group::decided(weights.len() as u64, all.threshold, all.cut.saturating_sub(before));
        before += group.len;
        let alone = std::slice::from_ref(weights);
        let mut source = Pieces::new(alone, piece, want);
        let rule = rule.with_granularity(Granularity::Tensor);
        backend.pruner.carry_out(&mut source, &rule, &[group], want).unwrap();
        assert!(source.pruned_bytes()[0] == whole.pruned[t], "{}: tensor {t} of {question:?}", backend.name);
    }
}

/// Enough blocks and columns to fill several caches, and a matrix that is cut into areas.
#[test]
fn many_blocks_are_decided_area_by_area() {
    for contests in [Contests::Block(4, 4), Contests::Column, Contests::Block(1100, 3), Contests::Chunks(7)] {
        let weights = distribution("normal").weights(Kind::Bf16, 1201, 1003, 4);
        let question = Question { contests, ..Question::RULE };
        judge(cpu(), std::slice::from_ref(&weights), &question).unwrap();
    }
}

#[test]
fn questions_that_cannot_be_meant_are_refused_and_name_both_sides() {
    let weights = [1.0f32; 12];
    let matrix = || Tensor::from(&weights[..]).with_row_len(4).unwrap();
    let scores = [1.0f32; 12];
    let count = |n| Rule::new().with_budget(Budget::Count(n));
    let turned = Tensor::from(&scores[..]).with_row_len(3).unwrap();
    for (tensor, rule, words) in [
        (matrix(), Rule::new().with_granularity(Granularity::Heads(2)), ["2 heads", "3 rows"]),
        (matrix(), Rule::new().with_granularity(Granularity::Heads(0)), ["0 heads", "rows"]),
        (matrix(), Rule::new().with_granularity(Granularity::Chunks(0)), ["chunk", "0"]),
        (matrix(), Rule::new().with_granularity(Granularity::Block { rows: 0, columns: 1 }), ["block", "0"]),
        (matrix(), Rule::new().with_granularity(Granularity::Segments), ["segments", "none"]),
        (matrix(), count(0), ["budget", "0"]),
        (matrix(), Rule::new().n_of_m(5, 4), ["5 of every 4", "kept"]),
        (matrix(), Rule::new().with_score(Score::Given), ["given", "no scores"]),
        (matrix().with_scores(&scores[..]).unwrap(), Rule::new(), ["magnitude", "scores"]),
        (matrix().with_segments(&[5, 7]).unwrap(), Rule::new(), ["tensor", "2 segments"]),
        (
            matrix().with_segments(&[5, 7]).unwrap(),
            Rule::new().with_granularity(Granularity::Block { rows: 3, columns: 2 }),
            ["block:3x2", "2 segments"],
        ),
    ] {
        for backend in backends() {
            let error = backend.pruner.mask(&[tensor], &rule).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{rule:?}");
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text:?} must name {words:?}");
        }
    }
    for (error, words) in [
        (matrix().with_scores(&scores[..11]).unwrap_err(), ["11 scores", "12 weights"]),
        // The scores of the transposed matrix would be those of other weights.
        (matrix().with_scores(turned).unwrap_err(), ["rows of 3", "rows of 4"]),
        (
            matrix().with_scores(matrix().with_norms(&scores[..4]).unwrap()).unwrap_err(),
            ["scores", "norms of their own"],
        ),
        (
            matrix().with_scores(matrix().with_scores(&scores[..]).unwrap()).unwrap_err(),
            ["scores of", "scores of their own"],
        ),
        (matrix().with_segments(&[5, 6]).unwrap_err(), ["11", "12"]),
        (matrix().with_segments(&[12, 0]).unwrap_err(), ["segment 1", "0"]),
        (matrix().with_segments(&[u64::MAX, 13]).unwrap_err(), ["2^64", "12"]),
        (Sparsity::new(1.5).unwrap_err(), ["1.5", "between 0 and 1"]),
        ("block:4".parse::<Granularity>().unwrap_err(), ["block:4", "block:RxC"]),
    ] {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text:?} must name {words:?}");
    }
}

#[test]
fn a_granularity_is_read_as_it_is_written() {
    for text in ["global", "tensor", "row", "column", "block:16x4", "head:12", "chunk:4", "segments"] {
        assert_eq!(text.parse::<Granularity>().unwrap().to_string(), text);
    }
    for text in
        ["", "rows", "block", "block:0x4", "block:4x", "block:-1x2", "head:", "head:0", "chunk:1.5", "row:2", "Row"]
    {
        assert!(text.parse::<Granularity>().is_err(), "{text:?}");
    }
}

/// What is asked for by count is what comes of the rule when that has the same count: one selection, whatever the budget.
#[test]
fn a_count_selects_as_the_rule_does() {
    let weights = distribution("lognormal_2").weights(Kind::F32, 1, 4001, 3);
    for backend in backends() {
        let by_rule = run(backend, std::slice::from_ref(&weights), &Question::RULE).unwrap();
        let count = Keep::Count(by_rule.kept as usize);
        let by_count =
            run(backend, std::slice::from_ref(&weights), &Question { keep: count, ..Question::RULE }).unwrap();
        check_same(&by_rule, &by_count).unwrap();
    }
    assert_eq!(Rule::new().with_beta(Beta::ONE), Rule::new(), "the rule itself is the default");
}
