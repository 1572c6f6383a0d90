//! One contest over any number of pieces: its stages, each over all cores.

use super::apply::{self, Piece};
use super::histogram::{self, Lower};
use super::stats::{self, Bins, Histogram};
use super::{CHUNK, ties};
use crate::decision::{Group, Quota};
use crate::key::{Bad, Keys, significand};
use crate::narrow::{DIGIT_SHIFT, LOW_BINS, Narrowed};
use crate::rule::Rule;
use crate::sums::{Moments, Sum};
use std::ops::Range;

/// Chunks whose ties are counted together: the tables of a contest of 10^10 entries then take 10 MB, and ties are looked
/// for one by one in no more than 4 million entries.
const PART_CHUNKS: usize = 64;

/// A contest in progress: `stats` on every piece, `narrow`; until narrowed: `histogram` on every piece, `narrow`; `apply` on
/// every piece; `settle`. The pieces are the same, in the same order, each time.
pub(crate) struct Contest {
    rule: Rule,
    digits: usize,
    histogram: Histogram,
    /// Known after the first pass.
    moments: Moments,
    decided: Option<(Quota, Narrowed)>,
    /// Whether the keys in the first digit's bin are kept instead of counted.
    few_candidates: bool,
    /// What the chunks found of the next digit, together.
    counts: Vec<u64>,
    rests: Vec<u64>,
    parts: Vec<Part>,
    /// Entries seen in this pass.
    seen: u64,
    cut: Cut,
    kept_sum: Sum,
}

/// What must be known of some neighbouring entries to find the ties among them.
struct Part {
    range: Range<u64>,
    seen: Seen,
}

/// What the last pass before `apply` keeps of a part.
enum Seen {
    /// How many keys have which last digit.
    Counts(Box<[u32; LOW_BINS]>),
    /// The keys themselves that agree with the first digit: where they are few, one pass finds all other digits.
    Keys(Vec<u32>),
}

/// Keys in the first digit's bin that are few enough to keep: 32 MB.
const MOST_CANDIDATES: u64 = 8 << 20;

impl Part {
    /// Entries that equal the threshold.
    fn ties(&self, threshold: u32, last_digit: usize) -> u64 {
        match &self.seen {
            Seen::Counts(counts) => counts[last_digit].into(),
            Seen::Keys(keys) => keys.iter().filter(|&&key| key == threshold).count() as u64,
        }
    }
}

/// From which entry on ties lose.
#[derive(Clone, Copy)]
enum Cut {
    At(u64),
    /// Just past the tie number `rank` of this part.
    In {
        part: usize,
        rank: u64,
    },
}

impl Contest {
    /// A contest whose keys have `digits` digits.
    pub(crate) fn new(rule: &Rule, digits: usize) -> Self {
        Self {
            rule: *rule,
            digits,
            histogram: Histogram::default(),
            moments: Moments::default(),
            decided: None,
            few_candidates: false,
            counts: vec![0; LOW_BINS],
            rests: vec![0; LOW_BINS],
            parts: Vec::new(),
            seen: 0,
            cut: Cut::At(0),
            kept_sum: Sum::default(),
        }
    }

    /// Pass one.
    pub(crate) fn stats(&mut self, keys: &Keys<'_>) -> Result<(), Bad> {
        self.histogram.add(&stats::stats(keys)?);
        self.seen += keys.len() as u64;
        Ok(())
    }

    /// Whether every digit of the threshold is known.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.decided
            .as_ref()
            .is_some_and(|(quota, narrowed)| quota.threshold().is_some() || narrowed.digits == self.digits)
    }

    /// Passes two and three, while digits are missing. Pass two is the last one when few keys share the first digit.
    pub(crate) fn histogram(&mut self, keys: &Keys<'_>) {
        let Some((_, narrowed)) = &self.decided else { return };
        let start = self.seen;
        let range = |i: usize| (start + (i * CHUNK) as u64)..(start + keys.len().min((i + 1) * CHUNK) as u64);
        if self.few_candidates {
            let found = histogram::candidates(keys, narrowed.prefix).into_iter().enumerate();
            self.parts.extend(found.map(|(i, keys)| Part { range: range(i), seen: Seen::Keys(keys) }));
        } else {
            let last = narrowed.digits + 1 == self.digits;
            for (i, bins) in histogram::histogram(keys, narrowed).into_iter().enumerate() {
                for (digit, Lower { count, rests }) in bins.iter().enumerate() {
                    self.counts[digit] += u64::from(*count);
                    self.rests[digit] += u64::from(*rests);
                }
                if last {
                    self.count_ties(i, range(i), &bins);
                }
            }
        }
        self.seen += keys.len() as u64;
    }

    /// Keep the counts of chunk `i` of a piece, with those of its neighbours.
    fn count_ties(&mut self, i: usize, range: Range<u64>, bins: &[Lower; LOW_BINS]) {
        if i % PART_CHUNKS == 0 {
            self.parts.push(Part { range: range.start..range.start, seen: Seen::Counts(Box::new([0; LOW_BINS])) });
        }
        if let Some(Part { range: so_far, seen: Seen::Counts(counts) }) = self.parts.last_mut() {
            so_far.end = range.end;
            counts.iter_mut().zip(bins).for_each(|(sum, bin)| *sum += bin.count);
        }
    }

    /// After each pass: one digit more, or all that are missing; after the first one also the budget, after the last one also
    /// where ties end.
    pub(crate) fn narrow(&mut self) {
        match &mut self.decided {
            None => {
                self.moments = self.histogram.moments(self.seen);
                let quota = Quota::new(&self.moments, self.seen, &self.rule);
                let mut narrowed = Narrowed::new(quota.kept);
                narrowed.narrow(self.histogram.counts());
                if quota.threshold().is_none() {
                    self.kept_sum = self.histogram.sum_above(narrowed.prefix);
                }
                let candidates = self.histogram.bin(narrowed.prefix as usize).count;
                self.few_candidates = candidates <= MOST_CANDIDATES && candidates <= self.seen / 8;
                self.cut = Cut::At(self.seen);
                self.decided = Some((quota, narrowed));
            }
            Some((_, narrowed)) => {
                let kept = if self.few_candidates {
                    let keys = self.parts.iter().flat_map(|part| match &part.seen {
                        Seen::Keys(keys) => keys.as_slice(),
                        Seen::Counts(_) => &[],
                    });
                    let mut keys: Vec<u32> = keys.copied().collect();
                    let (kept, _) = narrowed.finish(&mut keys, self.digits);
                    kept.iter().map(|&key| u128::from(significand(key))).sum()
                } else {
                    let last = narrowed.digits + 1 == self.digits;
                    narrowed.narrow(self.counts.iter().copied());
                    let kept = kept_above(narrowed, &self.counts, &self.rests, last);
                    self.counts.fill(0);
                    self.rests.fill(0);
                    kept
                };
                self.kept_sum.add(kept, stats::place(narrowed.threshold()));
                if narrowed.digits == self.digits {
                    self.cut = cut(&self.parts, narrowed, self.seen);
                }
            }
        }
        self.seen = 0;
    }

    /// The last pass.
    pub(crate) fn apply(&mut self, piece: Piece<'_>) {
        let Some((quota, narrowed)) = &self.decided else { return };
        let threshold = quota.threshold().unwrap_or_else(|| narrowed.threshold());
        let keys = piece.keys();
        let end = self.seen + keys.len() as u64;
        let cut = match self.cut {
            Cut::At(at) => at,
            Cut::In { part, rank } => {
                let part = &self.parts[part];
                if end <= part.range.start {
                    end // the part lies ahead: all ties here are kept
                } else {
                    let range = (part.range.start - self.seen) as usize..(part.range.end - self.seen) as usize;
                    let at = self.seen + ties::cut(&keys, range, threshold, rank) as u64;
                    self.cut = Cut::At(at);
                    at
                }
            }
        };
        let here = usize::try_from(cut.saturating_sub(self.seen)).unwrap_or(usize::MAX);
        apply::apply(piece, threshold, here);
        self.seen = end;
    }

    /// The outcome, after every pass.
    pub(crate) fn settle(self) -> Group {
        let mass = self.moments.mass(&self.kept_sum);
        let (quota, narrowed) = self.decided.unwrap_or_else(|| {
            // No pass was made: a contest of nothing.
            (Quota::new(&Moments::default(), 0, &self.rule), Narrowed::new(0))
        });
        if let Some(threshold) = quota.threshold() {
            return quota.settle(threshold, quota.len, mass);
        }
        let cut = match self.cut {
            Cut::At(cut) => cut,
            Cut::In { part, .. } => self.parts[part].range.end,
        };
        quota.settle(narrowed.threshold(), cut, mass)
    }
}

/// The sum of the significands that a pass has shown to be kept: those above the threshold's new digit, and after the last one those
/// of the ties.
fn kept_above(narrowed: &Narrowed, counts: &[u64], rests: &[u64], last: bool) -> u128 {
    let digit = narrowed.prefix as usize % LOW_BINS;
    let shift = DIGIT_SHIFT[narrowed.digits - 1];
    let least =
        |digit: usize| u128::from(significand((narrowed.prefix & !(LOW_BINS as u32 - 1) | digit as u32) << shift));
    let above = (digit + 1..LOW_BINS).map(|digit| u128::from(counts[digit]) * least(digit) + u128::from(rests[digit]));
    above.sum::<u128>() + if last { u128::from(narrowed.rank) * least(digit) } else { 0 }
}

/// Where ties end: past everything when all are kept, else in the part that holds the last one.
fn cut(parts: &[Part], narrowed: &Narrowed, len: u64) -> Cut {
    let digit = narrowed.prefix as usize & (LOW_BINS - 1);
    let ties: Vec<u64> = parts.iter().map(|part| part.ties(narrowed.threshold(), digit)).collect();
    let mut rank = narrowed.rank;
    if ties.iter().sum::<u64>() == rank {
        return Cut::At(len);
    }
    for (part, ties) in ties.into_iter().enumerate() {
        if ties >= rank {
            return Cut::In { part, rank };
        }
        rank -= ties;
    }
    Cut::At(len)
}
