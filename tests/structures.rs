//! Whole rows, columns, channels, heads and groups: the same suite for every backend, against the oracle.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::inputs::{self, Rng, distribution, with_norms};
use common::oracle::{self, Contests, Keep, Kind, Question, Weights};
use common::pieces::Pieces;
use common::{Named, backends, cpu};
use emprune::{ErrorKind, Granularity, Groups, Norm, Rule, Score, Structure, Want};

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];
const KINDS_AND_BYTES: [Kind; 5] = [Kind::F32, Kind::F16, Kind::Bf16, Kind::E4m3, Kind::E5m2];

mod suite {
    super::common::per_backend! {
        whole_rows_columns_and_heads
        structures_as_they_come
        groups_that_the_caller_names
        structures_with_scores_of_the_callers
    }
}

const NORMS: [(oracle::Norm, Norm<'_>); 3] =
    [(oracle::Norm::L1, Norm::L1), (oracle::Norm::L2, Norm::L2), (oracle::Norm::Max, Norm::Max)];

/// One question about structures, and which of them each entry of each tensor belongs to.
struct Structural<'a> {
    what: String,
    structure: Structure<'a>,
    norm: Norm<'a>,
    question: Question,
    number: &'a dyn Fn(usize, usize) -> usize,
}

/// The contest over structures is one over their scores, and their weights share their fate: in place, and in small pieces. `scores`
/// has those of every tensor, or one list that all tensors share.
fn judge_structures(backends: &[Named], tensors: &[Weights], scores: &[Vec<f32>], ask: &Structural<'_>) {
    let Structural { what, structure, norm, question, number } = ask;
    let as_weights = |scores: &Vec<f32>| {
        let bits: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
        inputs::weights("scores".into(), Kind::F32, bits.len(), &bits)
    };
    let of_scores = Question { wanda: false, given: false, ..*question };
    let want = oracle::answer(&scores.iter().map(as_weights).collect::<Vec<_>>(), &of_scores).unwrap();
    let rule = common::rule(question);
    for backend in backends {
        let what = format!("{}: {what}", backend.name);
        let mut copies: Vec<_> = tensors.iter().map(|weights| weights.bytes.clone()).collect();
        let outputs = tensors.iter().zip(&mut copies);
        let mut outputs: Vec<_> = outputs.map(|(weights, copy)| common::check::tensor_mut(weights, copy)).collect();
        let (decision, masks) = backend.pruner.prune_structures(&mut outputs, *structure, *norm, &rule).unwrap();
        assert_eq!(decision.groups().len(), want.contests.len(), "{what}");
        for (group, want) in decision.groups().iter().zip(&want.contests) {
            common::check::check_group(want, group).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        }
        for (t, weights) in tensors.iter().enumerate() {
            let kept: Vec<bool> = (0..masks[t].len()).map(|i| masks[t].get(i)).collect();
            assert_eq!(kept, want.masks[t.min(scores.len() - 1)], "{what}");
            let spread: Vec<bool> = (0..weights.len()).map(|entry| kept[number(t, entry)]).collect();
            common::check::check_pruned(weights, &spread, &copies[t]).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
        }
        let want_all = Want { zeros: true, masks: true };
        let most = tensors.iter().map(|weights| weights.bytes.len()).max().unwrap_or_default();
        let mut pieces = Pieces::new(tensors, (most / 50).max(100), want_all);
        pieces.strips = true;
        let streamed = backend.pruner.stream_structures(&mut pieces, *structure, *norm, &rule, want_all).unwrap();
        assert_eq!(streamed, (decision.clone(), masks.clone()), "{what}: in small pieces");
        assert_eq!(pieces.pruned_bytes(), copies, "{what}: in small pieces");
        for (t, bits) in pieces.masks().iter().enumerate() {
            let spread = |entry: u64| masks[t].get(number(t, entry as usize) as u64);
            assert!((0..bits.len()).all(|entry| bits.get(entry) == spread(entry)), "{what}: bits of tensor {t}");
        }
        // Scores that are made again, of 11 structures at a time.
        let mut few = Pieces::new(tensors, (most / 50).max(100), want_all);
        (few.strips, few.structure_bytes) = (true, 44);
        let streamed = backend.pruner.stream_structures(&mut few, *structure, *norm, &rule, want_all).unwrap();
        assert_eq!(streamed, (decision.clone(), masks.clone()), "{what}: some structures at a time");
        assert_eq!(few.pruned_bytes(), copies, "{what}: some structures at a time");
        let are_made = !matches!((structure, norm), (Structure::Groups(_), _) | (_, Norm::Given(_)));
        let are_many = masks.iter().map(|mask| mask.len()).sum::<u64>() > 11;
        assert_eq!(few.loaded > pieces.loaded, are_made && are_many, "{what}: weights are read again for their scores");
        let mut looked_at = Pieces::new(tensors, (most / 50).max(100), want_all);
        looked_at.strips = true;
        let decided = backend.pruner.decide_structures(&mut looked_at, *structure, *norm, &rule).unwrap();
        assert_eq!((looked_at.stored, decided), (0, (decision, masks.clone())), "{what}: the first half");
        for (t, weights) in tensors.iter().enumerate() {
            carry_out_one(
                backend,
                weights,
                of_one(*structure, t).as_structure(*structure),
                &rule,
                &masks[t],
                &copies[t],
            );
        }
    }
}

/// What a structure says of one tensor of several.
struct OfOne<'a>(Option<[Groups<'a>; 1]>, Option<[u64; 1]>);

fn of_one(structure: Structure<'_>, t: usize) -> OfOne<'_> {
    match structure {
        Structure::Groups(all) => OfOne(Some([all[t]]), None),
        Structure::Channels(all) => OfOne(None, Some([all[t]])),
        _ => OfOne(None, None),
    }
}

impl OfOne<'_> {
    fn as_structure<'s>(&'s self, structure: Structure<'s>) -> Structure<'s> {
        match self {
            OfOne(Some(groups), _) => Structure::Groups(groups),
            OfOne(_, Some(channels)) => Structure::Channels(channels),
            _ => structure,
        }
    }
}

/// The second half, for one tensor alone.
fn carry_out_one(
    backend: &Named,
    weights: &Weights,
    structure: Structure<'_>,
    rule: &emprune::Rule,
    mask: &emprune::Mask,
    want: &[u8],
) {
    let (want_all, alone) = (Want { zeros: true, masks: true }, std::slice::from_ref(weights));
    let mut source = Pieces::new(alone, 1000, want_all);
    let masks = std::slice::from_ref(mask);
    backend.pruner.carry_out_structures(&mut source, structure, rule, masks, want_all).unwrap();
    assert!(source.pruned_bytes()[0] == want, "{}: {structure:?} of {}", backend.name, weights.label);
    let none = emprune::Mask::from_bytes(vec![], 0).unwrap();
    for wrong in [&[][..], &[none], &[mask.clone(), mask.clone()]] {
        let mut source = Pieces::new(alone, 1000, want_all);
        let error = backend.pruner.carry_out_structures(&mut source, structure, rule, wrong, want_all).unwrap_err();
        assert_eq!((error.kind(), source.stored), (ErrorKind::InvalidInput, 0), "{error}");
    }
}

/// Any structures of any scores under any budget.
fn structures_as_they_come(backends: &[Named]) {
    let cases = if common::small() { 24 } else { 120 };
    for seed in 0..cases {
        let mut rng = Rng(seed * 7919 + 5);
        let pick = rng.below(6);
        let given = rng.below(3) == 1;
        let wanda = !given && rng.below(3) == 1;
        let count = 1 + rng.below(2);
        let kind = KINDS_AND_BYTES[rng.below(5)];
        let tensors: Vec<Weights> = (0..count)
            .map(|t| {
                let (rows, columns) = (3 * (1 + rng.below(9)), 2 * (1 + rng.below(40)));
                let name = ["normal", "ternary", "lognormal_2", "all_zeros", "int8_levels"][rng.below(5)];
                let weights = distribution(name).weights(kind, rows, columns, seed + t as u64);
                let weights = if wanda { with_norms(weights, seed) } else { weights };
                let scores = || Box::new(distribution("normal").weights(Kind::Bf16, rows, columns, seed + 9));
                Weights { scores: given.then(scores), ..weights }
            })
            .collect();
        let (rows_of, columns_of) = (|t: usize| tensors[t].len() / tensors[t].row_len, |t: usize| tensors[t].row_len);
        let channels: Vec<u64> = (0..count).map(|t| columns_of(t) as u64 / 2).collect();
        // Neighbours in pairs; the last one may be alone.
        let pairs: Vec<Vec<u32>> = (0..count)
            .map(|t| (0..if pick == 4 { rows_of(t) } else { columns_of(t) }).map(|i| i as u32 / 2).collect())
            .collect();
        let groups: Vec<Groups<'_>> =
            pairs.iter().map(|list| if pick == 4 { Groups::Rows(list) } else { Groups::Columns(list) }).collect();
        let structure = match pick {
            0 => Structure::Row,
            1 => Structure::Column,
            2 => Structure::Heads(3),
            3 => Structure::Channels(&channels),
            _ => Structure::Groups(&groups),
        };
        let number = |t: usize, entry: usize| {
            let (row, column) = (entry / columns_of(t), entry % columns_of(t));
            match pick {
                0 => row,
                1 => column,
                2 => row / (rows_of(t) / 3),
                4 => row / 2,
                _ => column / 2,
            }
        };
        let contests = [Contests::Tensor, Contests::Global][rng.below(2)];
        let keep = [Keep::Effective, Keep::Count(1 + rng.below(4)), Keep::AllBut(0.4)][rng.below(3)];
        let question = Question { contests, wanda, given, keep, beta: 0.8, least: rng.below(3) };
        let (want_norm, norm) = NORMS[rng.below(3)];
        let shared = pick >= 4 && contests == Contests::Global;
        let scores: Vec<_> = if shared {
            vec![oracle::structure_scores(&tensors, number, want_norm, &question).unwrap()]
        } else {
            let of = |t: usize| {
                let alone = std::slice::from_ref(&tensors[t]);
                oracle::structure_scores(alone, |_, entry| number(t, entry), want_norm, &question).unwrap()
            };
            (0..count).map(of).collect()
        };
        let what = format!("seed {seed}: {structure:?} {norm:?} {question:?}");
        judge_structures(backends, &tensors, &scores, &Structural { what, structure, norm, question, number: &number });
    }
}

/// Whether all scores are held or some are made at a time, the first bad entry, or the first structure whose norm overflows, is told.
#[test]
fn bad_structures_are_told_however_many_are_scored_at_a_time() {
    let (rows, columns) = (40, 30);
    let huge = f32::MAX.to_bits();
    for (structure, norm, bad, what) in [
        (Structure::Row, Norm::L2, &[(700, f32::NAN.to_bits()), (1199, f32::NAN.to_bits())][..], "entry 700 is NaN"),
        (Structure::Column, Norm::L2, &[(59, f32::NAN.to_bits()), (60, f32::NAN.to_bits())], "entry 59 is NaN"),
        (Structure::Channels(&[15]), Norm::Max, &[(59, 0x7f80_0000), (60, 0x7f80_0000)], "entry 59 is infinity"),
        (Structure::Row, Norm::L1, &[(900, huge), (901, huge)], "structure 30 overflows"),
        (Structure::Column, Norm::L1, &[(29, huge), (59, huge)], "structure 29 overflows"),
    ] {
        let mut bits = vec![1.0f32.to_bits(); rows * columns];
        bad.iter().for_each(|&(at, value)| bits[at] = value);
        let tensors = [inputs::weights("bad".into(), Kind::F32, columns, &bits)];
        let want = Want { zeros: true, masks: true };
        for structure_bytes in [usize::MAX, 44] {
            let mut source = Pieces::new(&tensors, 400, want);
            (source.strips, source.structure_bytes) = (true, structure_bytes);
            let rule = Rule::new().with_granularity(Granularity::Tensor);
            let error = cpu()[0].pruner.stream_structures(&mut source, structure, norm, &rule, want).unwrap_err();
            assert_eq!((error.kind(), error.tensor(), source.stored), (ErrorKind::NonFinite, Some(0), 0), "{error}");
            assert!(error.to_string().contains(what), "{error}, and not {what}");
        }
    }
}

/// More columns than are counted in one read.
#[test]
fn very_many_columns() {
    let tensors = [distribution("normal").weights(Kind::Bf16, 3, 131_100, 7)];
    let number = |_: usize, entry: usize| entry % 131_100;
    for (want_norm, norm) in NORMS {
        let scores = [oracle::structure_scores(&tensors, number, want_norm, &Question::RULE).unwrap()];
        let question = Question { contests: Contests::Tensor, beta: 0.8, ..Question::RULE };
        let structure = Structure::Column;
        let what = format!("{norm:?} of 131100 columns");
        judge_structures(cpu(), &tensors, &scores, &Structural { what, structure, norm, question, number: &number });
    }
}

fn whole_rows_columns_and_heads(backends: &[Named]) {
    let structures = [Structure::Row, Structure::Column, Structure::Heads(3)];
    for (i, name) in ["normal", "ternary", "sixty_decades", "all_zeros"].into_iter().enumerate() {
        for structure in structures {
            for (j, (want_norm, norm)) in NORMS.into_iter().enumerate() {
                let kind = KINDS[(i + j) % 3];
                let tensors = [(12, 37), (9, 130)]
                    .map(|(rows, columns)| distribution(name).weights(kind, rows, columns, j as u64));
                let number = |t: usize, entry: usize| match structure {
                    Structure::Row => entry / tensors[t].row_len,
                    Structure::Column => entry % tensors[t].row_len,
                    _ => entry / (tensors[t].len() / 3),
                };
                let scores = [0, 1].map(|t| {
                    let of = std::slice::from_ref(&tensors[t]);
                    oracle::structure_scores(of, |_, entry| number(t, entry), want_norm, &Question::RULE).unwrap()
                });
                let contests = [Contests::Tensor, Contests::Global][(i + j) % 2];
                let question = Question { contests, beta: 0.8, ..Question::RULE };
                let what = format!("{structure:?} {norm:?} of {name}");
                let ask = Structural { what, structure, norm, question, number: &number };
                judge_structures(backends, &tensors, &scores, &ask);
            }
        }
    }
}

/// Rows, columns, and both: rows of one tensor with columns of the next, as layers are coupled.
fn groups_that_the_caller_names(backends: &[Named]) {
    let mut rng = Rng(11);
    // Every number is there, and the rest is as it comes.
    let mut numbers = |len: usize, groups: usize| -> Vec<u32> {
        let mut numbers: Vec<_> = (0..len).map(|i| if i < groups { i } else { rng.below(groups) } as u32).collect();
        (0..len).for_each(|i| numbers.swap(i, rng.below(len)));
        numbers
    };
    for (i, name) in ["normal", "ternary", "sixty_decades"].into_iter().enumerate() {
        for (j, (want_norm, norm)) in NORMS.into_iter().enumerate() {
            let make = |rows, columns, seed| distribution(name).weights(KINDS[(i + j) % 3], rows, columns, seed);
            let tensors = [make(24, 37, 1), make(16, 24, 2)];
            let lists = [numbers(24, 7), numbers(24, 7)];
            let groups = [Groups::Rows(&lists[0]), Groups::Columns(&lists[1])];
            let number = |t: usize, entry: usize| match t {
                0 => lists[0][entry / 37] as usize,
                _ => lists[1][entry % 24] as usize,
            };
            for contests in [Contests::Tensor, Contests::Global] {
                let scores: Vec<_> = if contests == Contests::Global {
                    vec![oracle::structure_scores(&tensors, number, want_norm, &Question::RULE).unwrap()]
                } else {
                    let of = |t: usize| {
                        let tensor = std::slice::from_ref(&tensors[t]);
                        oracle::structure_scores(tensor, |_, entry| number(t, entry), want_norm, &Question::RULE)
                            .unwrap()
                    };
                    vec![of(0), of(1)]
                };
                let question = Question { contests, beta: 0.9, ..Question::RULE };
                let structure = Structure::Groups(&groups);
                let what = format!("{contests:?} groups, {norm:?} of {name}");
                judge_structures(
                    backends,
                    &tensors,
                    &scores,
                    &Structural { what, structure, norm, question, number: &number },
                );
            }
        }
    }
}

/// The weights are not looked at, so they may be no numbers; those that lose are zero all the same.
fn structures_with_scores_of_the_callers(backends: &[Named]) {
    for (i, kind) in KINDS.into_iter().enumerate() {
        let make = |rows: usize, columns: usize| {
            inputs::weights("infinite".into(), kind, columns, &vec![inputs::infinity(kind); rows * columns])
        };
        let tensors = [make(10, 33), make(12, 10)];
        let scores_of = |len, seed| -> Vec<f32> {
            let bits = distribution(["normal", "ternary", "all_zeros"][i]).weights(Kind::F32, 1, len, seed).bits();
            bits.into_iter().map(f32::from_bits).collect()
        };
        let [first, second, third] = [scores_of(10, 3), scores_of(12, 4), scores_of(10, 5)];
        for contests in [Contests::Tensor, Contests::Global] {
            let question = Question { contests, ..Question::RULE };
            let number = |t: usize, entry: usize| entry / tensors[t].row_len;
            let given = [first.as_slice(), second.as_slice()];
            let what = format!("{contests:?} rows with scores");
            let ask =
                Structural { what, structure: Structure::Row, norm: Norm::Given(&given), question, number: &number };
            judge_structures(backends, &tensors, &[first.clone(), second.clone()], &ask);
        }
        // Rows with the columns that they feed: of two scores the larger counts.
        let own: Vec<u32> = (0..10).rev().collect();
        let groups = [Groups::Rows(&own), Groups::Columns(&own)];
        let number = |t: usize, entry: usize| 9 - if t == 0 { entry / 33 } else { entry % 10 };
        let given = [first.as_slice(), third.as_slice()];
        let larger = first.iter().zip(&third).map(|(a, b)| a.abs().max(b.abs())).collect();
        let question = Question { contests: Contests::Global, ..Question::RULE };
        let structure = Structure::Groups(&groups);
        let ask = Structural {
            what: "groups with scores".into(),
            structure,
            norm: Norm::Given(&given),
            question,
            number: &number,
        };
        judge_structures(backends, &tensors, &[larger], &ask);
    }
}

#[test]
fn structures_that_cannot_be_judged_are_refused() {
    let weights = [3e38f32; 6];
    let before = weights;
    let by_row = Rule::new().with_granularity(Granularity::Row);
    let given = Rule::new().with_score(Score::Given);
    let groups = |numbers| [Groups::Rows(numbers)];
    let (short, gap, far, good) = (groups(&[0, 1]), groups(&[0, 2, 2]), groups(&[0, 0, u32::MAX]), groups(&[0, 1, 0]));
    for backend in backends() {
        let told = |error: &emprune::Error| (error.kind(), error.tensor(), error.index());
        for (structure, norm, rule, words) in [
            (Structure::Channels(&[4]), Norm::L1, Rule::new(), ["4 channels", "2 columns"]),
            (Structure::Channels(&[0]), Norm::L1, Rule::new(), ["0 channels", "2 columns"]),
            (Structure::Channels(&[1, 1]), Norm::L1, Rule::new(), ["channels for 2 tensors", "there are 1"]),
            (Structure::Row, Norm::L1, Rule::new(), ["structure 0", "overflows"]),
            (Structure::Heads(2), Norm::Max, Rule::new(), ["2 heads", "3 rows"]),
            (Structure::Row, Norm::Max, by_row, ["tensor or global", "row"]),
            (Structure::Groups(&short), Norm::L2, Rule::new(), ["for 2 rows", "there are 3"]),
            (Structure::Groups(&gap), Norm::L2, Rule::new(), ["groups 0 to 2", "group 1 has no member"]),
            (Structure::Groups(&far), Norm::L2, Rule::new(), ["4294967295", "3 members"]),
            (Structure::Groups(&[]), Norm::L2, Rule::new(), ["0 lists of groups", "1 tensors"]),
            (Structure::Groups(&good), Norm::Given(&[&[1.0; 3]]), Rule::new(), ["3 scores", "2 structures"]),
            (Structure::Row, Norm::Given(&[&[1.0; 2]]), Rule::new(), ["2 scores", "3 structures"]),
            (Structure::Row, Norm::Given(&[&[1.0, f32::NAN, 1.0]]), Rule::new(), ["structure 1", "NaN"]),
            (Structure::Row, Norm::Given(&[&[1.0; 3], &[1.0]]), Rule::new(), ["2 lists", "1 tensors"]),
            (Structure::Row, Norm::Given(&[&[1.0; 3]]), given, ["structures' scores are given", "weights are given"]),
        ] {
            let mut copy = weights;
            let tensor = emprune::TensorMut::from(&mut copy[..]).with_row_len(2).unwrap();
            let error = backend.pruner.prune_structures(&mut [tensor], structure, norm, &rule).unwrap_err();
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text:?} must name {words:?}");
            assert_eq!(copy, before, "nothing is pruned");
            match words {
                ["structure 0", "overflows"] => assert_eq!(told(&error), (ErrorKind::NonFinite, Some(0), Some(0))),
                ["structure 1", "NaN"] => assert_eq!(told(&error), (ErrorKind::NonFinite, Some(0), Some(1))),
                _ => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}"),
            }
        }
        // A weight that is no number, wherever it is, under every norm and structure.
        for structure in [Structure::Row, Structure::Column, Structure::Heads(3), Structure::Groups(&good)] {
            let mut copy = [1.0f32; 6];
            (copy[5], copy[3]) = (f32::INFINITY, f32::NAN);
            let tensor = emprune::TensorMut::from(&mut copy[..]).with_row_len(2).unwrap();
            let error = backend.pruner.prune_structures(&mut [tensor], structure, Norm::Max, &Rule::new()).unwrap_err();
            assert_eq!(told(&error), (ErrorKind::NonFinite, Some(0), Some(3)), "{structure:?}: {error}");
            assert!(copy[3].is_nan() && copy[0] == 1.0, "nothing is pruned");
        }
    }
}
