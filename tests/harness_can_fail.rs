//! Negative controls: every check of these tests, shown to refuse a wrong answer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{
    self, Guarded, Outcome, check, check_bound, check_cut, check_group, check_mask, check_pruned, check_refusal,
    check_same, check_ulp,
};
use common::inputs::{self, distribution};
use common::oracle::{self, Answer, Bad, Contests, Kind, Question, Refusal, Weights};
use common::{Named, cpu};
use num_bigint::BigUint;

/// A question with many ties at the threshold, its answer, and what the processor says.
fn sound(kind: Kind, contests: Contests) -> (Vec<Weights>, Answer, Outcome) {
    let tensors =
        vec![distribution("int8_levels").weights(kind, 3, 101, 1), distribution("ternary").weights(kind, 1, 77, 2)];
    let question = Question { contests, wanda: false, beta: 0.7, ..Question::RULE };
    let answer = oracle::answer(&tensors, &question).unwrap();
    let outcome = check::run(&cpu()[0], &tensors, &question).unwrap();
    check(&tensors, &answer, &outcome).unwrap();
    (tensors, answer, outcome)
}

/// Each kind of damage, done to a sound outcome, is noticed; so is the same damage when two outcomes are compared.
fn noticed(what: &str, damage: impl Fn(&mut Outcome)) {
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        for contests in [Contests::Row, Contests::Tensor, Contests::Global] {
            let (tensors, answer, outcome) = sound(kind, contests);
            let mut damaged = outcome.clone();
            damage(&mut damaged);
            assert!(
                check(&tensors, &answer, &damaged).is_err(),
                "{kind:?} {contests:?}: {what} went unnoticed by the oracle"
            );
            assert!(
                check_same(&outcome, &damaged).is_err(),
                "{kind:?} {contests:?}: {what} went unnoticed between backends"
            );
        }
    }
}

#[test]
fn a_flipped_bit_of_a_mask() {
    for bit in [0, 1, 7, 8, 100, 302] {
        noticed("a flipped bit", |o| o.masks[0][bit / 8] ^= 1 << (bit % 8));
    }
    noticed("a bit past the end", |o| *o.masks[1].last_mut().unwrap() ^= 0x80);
}

/// The right number of entries, the right scores, and the wrong one of two equals.
#[test]
fn two_swapped_ties() {
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        let (tensors, answer, outcome) = sound(kind, Contests::Tensor);
        let contest = &answer.contests[1];
        let tie = |wins: bool| {
            (0..77).find(|&i| contest.scores[i] == contest.threshold && contest.winners[i] == wins).unwrap()
        };
        let (winner, loser) = (tie(true), tie(false));
        let mut swapped = outcome.clone();
        swapped.masks[1][winner / 8] ^= 1 << (winner % 8);
        swapped.masks[1][loser / 8] ^= 1 << (loser % 8);
        let error = check(&tensors, &answer, &swapped).unwrap_err();
        assert!(error.contains("mask bit"), "{kind:?}: {error}");
        let mut swapped = outcome.clone();
        let size = kind.size();
        swapped.pruned[1].copy_within(winner * size..(winner + 1) * size, loser * size);
        swapped.pruned[1][winner * size..(winner + 1) * size].fill(0);
        let error = check(&tensors, &answer, &swapped).unwrap_err();
        assert!(error.contains("entry"), "{kind:?}: {error}");
        let mut late = outcome.clone();
        late.groups[1].cut += (loser as u64).max(late.groups[1].cut) + 1 - late.groups[1].cut;
        let error = check(&tensors, &answer, &late).unwrap_err();
        assert!(error.contains("cut"), "{kind:?}: {error}");
        let mut early = outcome;
        early.groups[1].cut =
            (0..77).filter(|&i| contest.scores[i] == contest.threshold && contest.winners[i]).max().unwrap() as u64;
        assert!(check(&tensors, &answer, &early).is_err(), "{kind:?}: a cut that is one tie early");
    }
}

/// What a backend leaves when it does not run at all, or only begins.
#[test]
fn zeroed_buffers() {
    noticed("a mask of zeros", |o| o.masks[0].fill(0));
    noticed("a mask of ones", |o| o.masks[0].fill(0xff));
    noticed("weights of zeros", |o| o.pruned[0].fill(0));
    noticed("a tail of zeros", |o| {
        let half = o.pruned[0].len() / 2;
        o.pruned[0][half..].fill(0);
    });
    noticed("a missing byte of a mask", |o| {
        o.masks[0].pop();
    });
    noticed("a byte too much of a mask", |o| o.masks[0].push(0));
    noticed("a missing mask", |o| {
        o.masks.pop();
    });
    noticed("a missing contest", |o| {
        o.groups.pop();
    });
    noticed("a contest told twice", |o| o.groups.push(o.groups[0]));
    noticed("a missing tensor", |o| {
        o.pruned.pop();
    });
    noticed("weights cut short", |o| {
        o.pruned[0].pop();
    });
    for kind in [Kind::F32, Kind::Bf16] {
        let (tensors, answer, mut outcome) = sound(kind, Contests::Row);
        outcome.pruned = tensors.iter().map(|w| w.bytes.clone()).collect();
        assert!(check(&tensors, &answer, &outcome).is_err(), "weights that were not pruned");
    }
}

#[test]
fn weights_that_are_almost_right() {
    for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
        let (tensors, answer, outcome) = sound(kind, Contests::Tensor);
        let size = kind.size();
        let find = |wins: bool| answer.masks[0].iter().position(|&kept| kept == wins).unwrap();
        let (kept, pruned) = (find(true) * size, find(false) * size);
        let mut damaged = outcome.clone();
        damaged.pruned[0][kept] ^= 1;
        assert!(check(&tensors, &answer, &damaged).is_err(), "{kind:?}: the last bit of a kept entry");
        let mut damaged = outcome.clone();
        damaged.pruned[0][kept + size - 1] ^= 0x80;
        assert!(check(&tensors, &answer, &damaged).is_err(), "{kind:?}: the sign of a kept entry");
        let mut damaged = outcome;
        damaged.pruned[0][pruned + size - 1] = 0x80;
        assert!(check(&tensors, &answer, &damaged).is_err(), "{kind:?}: a pruned entry that is -0");
    }
    // An entry that was -0 before is no exception.
    let weights = inputs::weights("-0".to_owned(), Kind::F32, 2, &[0x8000_0000, 0x3f80_0000]);
    let after = weights.bytes.clone();
    assert!(check_pruned(&weights, &[false, true], &after).is_err(), "a pruned -0 that stays");
    assert!(check_pruned(&weights, &[true, true], &after).is_ok(), "a kept -0 that stays");
}

#[test]
fn numbers_that_are_almost_right() {
    noticed("kept off by one", |o| o.groups[0].kept += 1);
    noticed("kept off by one", |o| o.groups[0].kept -= 1);
    noticed("kept of all off by one", |o| o.kept += 1);
    noticed("len off by one", |o| o.groups[0].len += 1);
    noticed("len of all off by one", |o| o.len -= 1);
    noticed("a threshold one ulp up", |o| o.groups[0].threshold = o.groups[0].threshold.next_up());
    noticed("a threshold one ulp down", |o| o.groups[0].threshold = o.groups[0].threshold.next_down());
    noticed("a threshold of zero", |o| o.groups[0].threshold = 0.0);
    noticed("a threshold with a sign", |o| o.groups[0].threshold = -o.groups[0].threshold);
    noticed("a cut of zero", |o| o.groups[0].cut = 0);
    noticed("a cut past the end", |o| o.groups[0].cut = o.groups[0].len + 1);
    noticed("a group that is not degenerate", |o| o.groups[0].degenerate = true);
    let by_two: [fn(f64) -> f64; 2] = [|x| x.next_up().next_up(), |x| x.next_down().next_down()];
    for step in by_two {
        // Sound values may lie an ulp off the oracle's, so three steps from a sound one are sure to be two from the exact one.
        noticed("n_eff off by ulps", |o| o.groups[0].n_eff = step(step(o.groups[0].n_eff)));
        noticed("mass off by ulps", |o| o.groups[0].mass = step(step(o.groups[0].mass)));
    }
    noticed("n_eff that is NaN", |o| o.groups[0].n_eff = f64::NAN);
    noticed("a mass that is NaN", |o| o.groups[0].mass = f64::NAN);
    noticed("a bound that is NaN", |o| o.groups[0].mass_bound = f64::NAN);
    noticed("a bound of zero", |o| o.groups[0].mass_bound = 0.0);
    noticed("a bound above one", |o| o.groups[0].mass_bound = 1.0f64.next_up());
    noticed("a bound above by 1e-12", |o| o.groups[0].mass_bound += 1e-12);
    noticed("a bound below by 2e-12", |o| o.groups[0].mass_bound -= 2e-12);
}

#[test]
fn numbers_of_another_contest() {
    for contests in [Contests::Row, Contests::Tensor] {
        let (tensors, answer, outcome) = sound(Kind::F32, contests);
        for damage in [
            |here: &mut emprune::Group, there: emprune::Group| *here = there,
            |here: &mut emprune::Group, there: emprune::Group| here.n_eff = there.n_eff,
            |here: &mut emprune::Group, there: emprune::Group| here.mass = there.mass,
            |here: &mut emprune::Group, there: emprune::Group| here.mass_bound = there.mass_bound,
        ] {
            let mut damaged = outcome.clone();
            damage(&mut damaged.groups[0], outcome.groups[1]);
            assert!(check(&tensors, &answer, &damaged).is_err(), "{contests:?}: unnoticed by the oracle");
            assert!(check_same(&outcome, &damaged).is_err(), "{contests:?}: unnoticed between backends");
        }
    }
}

#[test]
fn one_ulp_is_allowed_and_two_are_not() {
    for x in [1.0f64, 0.7, 12784.184419366413, 1e-9, 4097.0] {
        for near in [x, x.next_up(), x.next_down()] {
            assert!(check_ulp("x", near, x).is_ok(), "{near:?} is near {x:?}");
        }
        for far in [x.next_up().next_up(), x.next_down().next_down(), -x, f64::NAN, 0.0, f64::INFINITY] {
            assert!(check_ulp("x", far, x).is_err(), "{far:?} is far from {x:?}");
        }
    }
}

/// The bound is held to the exact value itself: the f64 next above it is refused, the one next below is not.
#[test]
fn a_bound_one_ulp_above_is_refused() {
    let third = (BigUint::from(1u8) << oracle::BOUND_BITS) / 3u8;
    let bound = oracle::Bound { low: third.clone(), high: third + 1u8 };
    let below = 1.0 / 3.0; // rounded to nearest, and that is down
    assert!(check_bound(&bound, below).is_ok(), "just below");
    assert!(check_bound(&bound, below.next_up()).is_err(), "just above");
    assert!(check_bound(&bound, below - 0.9e-12).is_ok(), "within 1e-12");
    assert!(check_bound(&bound, below - 1.1e-12).is_err(), "not within 1e-12");
    let one = BigUint::from(1u8) << oracle::BOUND_BITS;
    let one = oracle::Bound { low: one.clone(), high: one };
    assert!(check_bound(&one, 1.0).is_ok() && check_bound(&one, 1.0 - 1e-11).is_err(), "one");
    assert!(check_bound(&one, f64::NAN).is_err() && check_bound(&one, -1.0).is_err(), "no numbers");
}

/// The checks of single parts notice what theirs is, not only all of them together.
#[test]
fn each_check_by_itself() {
    let (_, answer, outcome) = sound(Kind::F32, Contests::Tensor);
    let (want, got) = (&answer.contests[0], outcome.groups[0]);
    assert!(check_group(want, &got).is_ok() && check_cut(want, &got).is_ok(), "sound");
    let mut wrong = got;
    wrong.threshold = wrong.threshold.next_down();
    assert!(check_group(want, &wrong).is_err(), "a threshold between two scores");
    wrong.threshold = want.scores.iter().copied().filter(|&s| s < got.threshold).fold(0.0, f32::max);
    assert!(check_cut(want, &wrong).is_err(), "the next lower score as a threshold");
    assert!(check_mask(&[true, false, true], &[0b101]).is_ok(), "sound");
    for wrong in [vec![0b111], vec![0b1101], vec![0b1000_0101], vec![0b101, 0], vec![], vec![0b1010_0000]] {
        assert!(check_mask(&[true, false, true], &wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_byte_outside_the_tensor() {
    for offset in 0..9 {
        let mut guarded = Guarded::new(&[1, 2, 3], offset);
        assert_eq!(guarded.bytes(), [1, 2, 3], "the copy");
        assert_eq!(guarded.bytes().as_ptr().addr() % 8, offset % 8, "the address");
        guarded.bytes_mut().fill(0);
        guarded.check().unwrap();
        let start = guarded.bytes().as_ptr().addr() - guarded.buffer.as_ptr().addr();
        for at in [start - 1, start + 3, 0, guarded.buffer.len() - 1] {
            let mut damaged = guarded.buffer.clone();
            std::mem::swap(&mut damaged, &mut guarded.buffer);
            guarded.buffer[at] ^= 1;
            assert!(guarded.check().is_err(), "byte {at} around {start}..{}", start + 3);
            guarded.buffer = damaged;
        }
    }
}

#[test]
fn a_refusal_of_something_else() {
    let values = [1.0f32, f32::NAN, f32::INFINITY];
    let error = cpu()[0].pruner.mask(&[values.as_slice().into()], &emprune::Rule::new()).unwrap_err();
    let right = Refusal { tensor: 0, index: 1, bad: Bad::Nan };
    check_refusal(&right, &error).unwrap();
    for wrong in [
        Refusal { index: 2, ..right },
        Refusal { tensor: 1, ..right },
        Refusal { bad: Bad::Infinity, ..right },
        Refusal { bad: Bad::Product, ..right },
    ] {
        assert!(check_refusal(&wrong, &error).is_err(), "{wrong:?}");
    }
    let other = emprune::Beta::new(0.0).unwrap_err();
    assert!(check_refusal(&right, &other).is_err(), "another kind");
}

/// The comparison as the suite makes it: with the oracle's answer to one question, and the backend asked another.
#[test]
#[should_panic(expected = "kept")]
fn the_suite_itself() {
    let tensors = [distribution("normal").weights(Kind::F32, 1, 1000, 3)];
    let question = |beta| Question { contests: Contests::Tensor, wanda: false, beta, ..Question::RULE };
    let answer = oracle::answer(&tensors, &question(1.0)).unwrap();
    let backend: &Named = &cpu()[0];
    check(&tensors, &answer, &check::run(backend, &tensors, &question(0.5)).unwrap()).unwrap();
}
