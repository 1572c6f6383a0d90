//! Inputs that hurt the first read on a GPU: runs of one bin, scores that no window holds, and what is no number among them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::ask;
use common::gpus;
use common::inputs::{Rng, infinity, near, sign, weights};
use common::oracle::{Contests, Keep, Kind, Question, Weights};

/// Words of a workgroup's step: a lane sees every 256th.
const STEP: usize = 256;
/// A part of a contest, and some of a second one.
const WORDS: usize = 16_384 + 301;

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];

fn question(contests: Contests) -> Question {
    Question { contests, wanda: false, beta: 0.9, ..Question::RULE }
}

/// Entries whose magnitude is a function of the word that they lie in.
fn by_word(label: &str, kind: Kind, words: usize, magnitude: impl Fn(usize) -> u32) -> Weights {
    let each = 4 / kind.size();
    let bits: Vec<u32> =
        (0..words * each).map(|i| magnitude(i / each) | if i % 3 == 0 { sign(kind) } else { 0 }).collect();
    weights(format!("{label} {kind:?} {words} words"), kind, bits.len(), &bits)
}

/// The same entries as one contest, and as two rows, of which the second one begins in mid-word where that is possible.
fn as_contests(weights: Weights) {
    ask(gpus(), std::slice::from_ref(&weights), &question(Contests::Tensor));
    let row_len = weights.len() / 2;
    let bytes = weights.bytes[..2 * row_len * weights.kind.size()].to_vec();
    ask(gpus(), &[Weights { row_len, bytes, ..weights }], &question(Contests::Row));
}

/// A lane's run of one bin goes on over `len` of its words; it ends at, before and after the ends of batches, rounds and parts.
#[test]
fn runs_of_every_length_are_counted() {
    for (i, len) in [1, 3, 4, 5, 16, 17, 64].into_iter().enumerate() {
        let kind = KINDS[i % 3];
        // All lanes change at once; and each at another word.
        let level = |n: usize| near(kind, [1.0, 3.0, 0.5, 0.0, 2.9][n % 5]);
        as_contests(by_word("runs", kind, WORDS, |word| level(word / STEP / len)));
        as_contests(by_word("staggered runs", kind, WORDS, |word| level((word / STEP + word % STEP) / len)));
    }
    for (i, len) in [8, 64, 255].into_iter().enumerate() {
        let kind = KINDS[i % 3];
        as_contests(by_word("neighbours", kind, WORDS, |word| near(kind, 1.0 + (word / len % 7) as f64)));
    }
}

/// A window is chosen for a sample: an entry of each 32 bytes. Here all others lie far below it, with every bit set, or anywhere.
#[test]
fn scores_that_no_window_holds_are_added_one_by_one() {
    // A row's words; the first one is more than one workgroup takes.
    for (kind, words) in KINDS.into_iter().zip([131_072 + 300, 8192, 4097]) {
        let sampled = |word: usize| word % words % 8 == word % words / 8 % 8;
        let low = if kind == Kind::F16 { 0x3ff } else { (41 << kind.widths().1) - 1 };
        let high = |word: usize| near(kind, 60_000.0 - (word % 100) as f64);
        let any = |word: usize| Rng(word as u64).below(infinity(kind) as usize) as u32;
        as_contests(by_word("below", kind, 2 * words, |word| if sampled(word) { high(word) } else { low }));
        as_contests(by_word("above", kind, 2 * words, |word| if sampled(word) { low } else { high(word) }));
        as_contests(by_word("hardly any", kind, 2 * words, |word| if word % 4099 == 17 { any(word) } else { 0 }));
    }
}

/// A contest longer than any row, with its threshold among half of the entries, and three tenths so far above that neither a window nor the fine bins
/// hold them: how many they are decides which entry is the last that is kept.
#[test]
fn scores_far_above_are_counted() {
    for kind in KINDS {
        let magnitude = |word: usize| match word % 10 {
            0..3 => near(kind, 16_384.0 + (word % 7) as f64 * 64.0),
            3..8 => near(kind, (1.0 + (word % 97) as f64 / 128.0) / 32.0),
            _ => near(kind, 1.0 / 8192.0),
        };
        let weights = by_word("far above", kind, 70_000, magnitude);
        let keep = Keep::Count(weights.len() * 3 / 5);
        ask(gpus(), std::slice::from_ref(&weights), &Question { keep, ..question(Contests::Tensor) });
    }
}

/// NaN and infinity in the middle of a run, where the sample finds them, at the ends; among strays and at the top of the range.
#[test]
fn what_is_no_number_is_found_in_mid_run() {
    for (i, at) in [0, 255, 4 * STEP + 3, 9000, WORDS - 1].into_iter().enumerate() {
        let kind = KINDS[i % 3];
        for (bad, rest) in
            [(infinity(kind), near(kind, 1.0)), (infinity(kind) + 1, infinity(kind) - 1), (infinity(kind), 1)]
        {
            as_contests(by_word("bad", kind, WORDS, |word| if word == at { bad } else { rest }));
        }
    }
}

/// A row keeps a list of the entries in its threshold's bin, a 64th of a power of two, or one level of bf16: 512 of them fit, one more does not. Large ones settle that the threshold is among them, with ties
/// on both sides of the cut.
#[test]
fn a_row_s_list_of_candidates_is_full_or_too_short() {
    for kind in KINDS {
        for candidates in [511, 512, 513] {
            let mut left = candidates;
            let row: Vec<u32> = (0..5001)
                .map(|i| {
                    let magnitude = if i % 5 == 0 {
                        8.0
                    } else if left > 0 {
                        left -= 1;
                        1.0 + if kind == Kind::Bf16 { 0.0 } else { f64::from(i % 6) / 512.0 }
                    } else {
                        1e-3
                    };
                    near(kind, magnitude)
                })
                .collect();
            let rows = weights(format!("{candidates} in a bin, {kind:?}"), kind, row.len(), &row.repeat(3));
            ask(gpus(), std::slice::from_ref(&rows), &question(Contests::Row));
        }
    }
}
