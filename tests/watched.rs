//! Calls that are watched: what is told, that being watched changes no answer, and what is left of a call that is ended.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::backends;
use common::check::{guarded, run, tensor, tensor_mut};
use common::inputs::{distribution, with_norms};
use common::oracle::{Contests, Kind, Question, Weights};
use common::pieces::Pieces;
use emprune::{ErrorKind, Progress, Want};
use std::ops::ControlFlow::{Break, Continue};

const EVERYTHING: Want = Want { zeros: true, masks: true };

/// Larger than what is taken at once, so that there is something to tell.
fn tensors() -> Vec<Weights> {
    let [a, b] = [(Kind::F32, 350, 12_007), (Kind::Bf16, 301, 33)]
        .map(|(kind, rows, row_len)| with_norms(distribution("int8_levels").weights(kind, rows, row_len, 1), 1));
    vec![b.clone(), a, b]
}

fn questions() -> impl Iterator<Item = Question> {
    let contests = [Contests::Row, Contests::Global, Contests::Block(3, 100)];
    // On a GPU blocks are rows that the host arranges.
    let contests = contests.into_iter().take(if common::small() { 2 } else { 3 });
    contests.map(|contests| Question { contests, wanda: true, ..Question::RULE })
}

/// It goes forward, within what there is.
fn check_told(told: &[Progress], len: u64) {
    assert!(told.len() > 2, "{told:?}");
    assert_eq!((told[0].done, told[0].read, told[0].len), (0, 0, len), "asked before anything is read");
    assert!(told.is_sorted_by(|a, b| a.done <= b.done && a.read <= b.read), "{told:?}");
    let last = told[told.len() - 1];
    assert_eq!((last.done, last.len), (len, len));
    assert!(last.read >= len && told.iter().all(|p| p.done <= p.read && p.len == len), "{told:?}");
}

#[test]
fn watching_tells_how_far_it_is_and_changes_no_answer() {
    let tensors = tensors();
    let len = tensors.iter().map(|weights| weights.len() as u64).sum();
    for backend in backends() {
        for question in questions() {
            let (rule, want) = (common::rule(&question), run(backend, &tensors, &question).unwrap());
            let mut told = Vec::new();
            let mut copies = guarded(&tensors);
            let mut inputs: Vec<_> =
                tensors.iter().zip(&mut copies).map(|(w, copy)| tensor_mut(w, copy.bytes_mut())).collect();
            let decision = backend
                .pruner
                .watched(&mut |progress| {
                    told.push(progress);
                    Continue(())
                })
                .prune(&mut inputs, &rule)
                .unwrap();
            assert_eq!(decision.groups(), want.groups, "{} {question:?}", backend.name);
            for (copy, want) in copies.iter().zip(&want.pruned) {
                assert!(copy.bytes() == want, "{} {question:?}", backend.name);
                copy.check().unwrap();
            }
            check_told(&told, len);
        }
    }
}

#[test]
fn a_call_that_is_ended_leaves_the_weights_as_they_were() {
    let tensors = tensors();
    for backend in backends() {
        for question in questions().take(2) {
            for after in [0, 2] {
                let mut asked = 0;
                let mut watch = |progress: Progress| {
                    asked += 1;
                    if asked > after && progress.done < progress.len { Break(()) } else { Continue(()) }
                };
                let mut copies = guarded(&tensors);
                let mut inputs: Vec<_> =
                    tensors.iter().zip(&mut copies).map(|(w, copy)| tensor_mut(w, copy.bytes_mut())).collect();
                let error = backend.pruner.watched(&mut watch).prune(&mut inputs, &common::rule(&question));
                let error = error.map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{} {question:?}: {error:?}", backend.name);
                assert!(error.to_string().contains("entries done"), "{error}");
                assert_eq!(asked, after + 1, "nobody is asked again");
                for (copy, weights) in copies.iter().zip(&tensors) {
                    assert!(copy.bytes() == weights.bytes, "{} {question:?} after {after}", backend.name);
                }
            }
        }
    }
}

/// Being watched takes no more reads, and who only looks does nothing for good.
#[test]
fn a_decision_is_watched_and_reads_no_more() {
    let tensors: Vec<Weights> = tensors().into_iter().map(|weights| Weights { norms: None, ..weights }).collect();
    let len: u64 = tensors.iter().map(|weights| weights.len() as u64).sum();
    for backend in backends() {
        for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
            let rule = common::rule(&Question { contests, ..Question::RULE });
            let source = || {
                let mut source = Pieces::new(&tensors, 1 << 20, EVERYTHING);
                source.strips = true; // pieces may be passed by
                source
            };
            let (mut alone, mut watched, mut told) = (source(), source(), Vec::new());
            let want = backend.pruner.decide(&mut alone, &rule).unwrap();
            let mut watch = |progress: Progress| {
                told.push(progress);
                Continue(())
            };
            let got = backend.pruner.watched(&mut watch).decide(&mut watched, &rule).unwrap();
            assert!(got == want, "{} {contests:?}", backend.name);
            assert_eq!((watched.loaded, watched.stored), (alone.loaded, 0), "{} {contests:?}", backend.name);
            let (last, before) = told.split_last().unwrap();
            assert!(last.done == len && before.iter().all(|progress| progress.done == 0), "{told:?}");
        }
    }
}

#[test]
fn a_stream_is_watched_and_ended_too() {
    let tensors: Vec<Weights> = tensors().into_iter().map(|weights| Weights { norms: None, ..weights }).collect();
    let question = Question { contests: Contests::Row, ..Question::RULE };
    let rule = common::rule(&question);
    for backend in backends() {
        let want = run(backend, &tensors, &question).unwrap();
        let mut told = Vec::new();
        let mut pieces = Pieces::new(&tensors, 1 << 20, EVERYTHING);
        let mut watch = |progress| {
            told.push(progress);
            Continue(())
        };
        let decision = backend.pruner.watched(&mut watch).stream(&mut pieces, &rule, EVERYTHING).unwrap();
        assert_eq!(decision.groups(), want.groups, "{}", backend.name);
        assert_eq!(pieces.pruned_bytes(), want.pruned, "{}", backend.name);
        check_told(&told, decision.entries());
        // In the middle: what is stored by then is stored, and no more.
        let mut pieces = Pieces::new(&tensors, 1 << 20, EVERYTHING);
        let mut stored = 0;
        let mut watch = |progress: Progress| {
            stored = progress.done;
            if progress.done > 600_000 { Break(()) } else { Continue(()) }
        };
        let error = backend.pruner.watched(&mut watch).stream(&mut pieces, &rule, EVERYTHING).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", backend.name);
        let entries = |(weights, bytes): (&Weights, &Vec<u8>)| (bytes.len() / weights.kind.size()) as u64;
        assert_eq!(tensors.iter().zip(pieces.pruned_bytes()).map(entries).sum::<u64>(), stored, "{}", backend.name);
    }
}

#[test]
fn halves_of_a_stream_and_structures_are_watched_and_ended_too() {
    let tensors: Vec<Weights> = tensors().into_iter().map(|weights| Weights { norms: None, ..weights }).collect();
    let rule = common::rule(&Question { contests: Contests::Tensor, ..Question::RULE });
    let pieces = || {
        let mut pieces = Pieces::new(&tensors, 1 << 20, EVERYTHING);
        pieces.strips = true;
        pieces
    };
    for backend in backends() {
        let pruner = &backend.pruner;
        let (structure, norm) = (emprune::Structure::Row, emprune::Norm::L1);
        let want = pruner.decide(&mut pieces(), &rule).unwrap();
        let want_masks = pruner.stream_structures(&mut pieces(), structure, norm, &rule, EVERYTHING).unwrap();
        for ends in [false, true] {
            let mut asked = 0;
            let mut watch = |progress: Progress| {
                asked += 1;
                if ends && progress.done < progress.len { Break(()) } else { Continue(()) }
            };
            let mut watched = pruner.watched(&mut watch);
            let results = [
                watched.decide(&mut pieces(), &rule).map(|decision| assert_eq!(decision, want)),
                watched.carry_out(&mut pieces(), &rule, want.groups(), EVERYTHING),
                watched
                    .stream_structures(&mut pieces(), structure, norm, &rule, EVERYTHING)
                    .map(|got| assert!(got == want_masks)),
            ];
            for result in results {
                let kind = result.err().map(|error| error.kind());
                assert_eq!(kind, ends.then_some(ErrorKind::Cancelled), "{}", backend.name);
            }
            assert!(asked >= 3, "{asked}");
        }
    }
}

/// Another error is not taken for an end.
#[test]
fn a_bad_score_is_named_though_somebody_watches() {
    let mut weights = distribution("normal").weights(Kind::F32, 3, 50, 1);
    weights.bytes[77 * 4..78 * 4].copy_from_slice(&f32::NAN.to_le_bytes());
    for backend in backends() {
        let mut watched = |_| Continue(());
        let mut watched = backend.pruner.watched(&mut watched);
        let error = watched.mask(&[tensor(&weights, &weights.bytes)], &common::rule(&Question::RULE)).unwrap_err();
        assert_eq!((error.kind(), error.index()), (ErrorKind::NonFinite, Some(77)), "{}", backend.name);
    }
}
