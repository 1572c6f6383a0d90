//! One contest over any number of pieces: its stages, each over all cores.

use super::apply::{self, Piece};
use super::stats::{self, Histogram};
use super::{CHUNK, histogram, ties};
use crate::decision::{Group, Quota};
use crate::key::{Bad, Keys};
use crate::narrow::{BINS, LOW_BINS, Narrowed};
use crate::rule::Rule;
use crate::sums::{Moments, Sum};

/// Chunks whose ties are counted together: the tables of a contest of 10^10 entries then take 10 MB, and ties are looked
/// for one by one in no more than 4 million entries.
const PART_CHUNKS: usize = 64;

/// A contest in progress: `stats` on every piece, `narrow`; until narrowed: `histogram` on every piece, `narrow`; `apply` on
/// every piece; `settle`. The pieces are the same, in the same order, each time.
pub(crate) struct Contest {
    rule: Rule,
    digits: usize,
    moments: Moments,
    histogram: Box<Histogram>,
    /// Known after the first pass.
    decided: Option<(Quota, Narrowed)>,
    /// Whether the keys in the first digit's bin are kept instead of counted.
    few_candidates: bool,
    counts: Vec<u64>,
    parts: Vec<Part>,
    /// Entries seen in this pass.
    seen: u64,
    cut: Cut,
    kept_sum: Sum,
}

/// What must be known of some neighbouring entries to find the ties among them.
struct Part {
    start: u64,
    end: u64,
    seen: Seen,
}

/// What the last pass before `apply` keeps of a part.
enum Seen {
    /// The counts of the last digit.
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
            moments: Moments::default(),
            histogram: Box::new([0; BINS]),
            decided: None,
            few_candidates: false,
            counts: vec![0; LOW_BINS],
            parts: Vec::new(),
            seen: 0,
            cut: Cut::At(0),
            kept_sum: Sum::default(),
        }
    }

    /// Pass one.
    pub(crate) fn stats(&mut self, keys: &Keys<'_>) -> Result<(), Bad> {
        let (moments, histogram) = stats::stats(keys)?;
        self.moments.merge(&moments);
        for (sum, count) in self.histogram.iter_mut().zip(histogram.iter()) {
            *sum += count;
        }
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
        let seen: Vec<Seen> = if self.few_candidates {
            histogram::candidates(keys, narrowed.prefix).into_iter().map(Seen::Keys).collect()
        } else {
            histogram::histogram(keys, narrowed).into_iter().map(Seen::Counts).collect()
        };
        let last = self.few_candidates || narrowed.digits + 1 == self.digits;
        for (i, seen) in seen.into_iter().enumerate() {
            if let Seen::Counts(counts) = &seen {
                for (sum, &count) in self.counts.iter_mut().zip(counts.iter()) {
                    *sum += u64::from(count);
                }
            }
            if !last {
                continue;
            }
            let start = self.seen + (i * CHUNK) as u64;
            let end = self.seen + keys.len().min((i + 1) * CHUNK) as u64;
            match (self.parts.last_mut(), seen) {
                (Some(Part { end: part_end, seen: Seen::Counts(sums), .. }), Seen::Counts(counts))
                    if i % PART_CHUNKS != 0 =>
                {
                    *part_end = end;
                    for (sum, &count) in sums.iter_mut().zip(counts.iter()) {
                        *sum += count;
                    }
                }
                (_, seen) => self.parts.push(Part { start, end, seen }),
            }
        }
        self.seen += keys.len() as u64;
    }

    /// After each pass: one digit more, or all that are missing; after the first one also the budget, after the last one also
    /// where ties end.
    pub(crate) fn narrow(&mut self) {
        match &mut self.decided {
            None => {
                let quota = Quota::new(&self.moments, self.seen, &self.rule);
                let mut narrowed = Narrowed::new(quota.kept);
                narrowed.narrow(self.histogram.as_slice());
                let candidates = self.histogram[narrowed.prefix as usize];
                self.few_candidates = candidates <= MOST_CANDIDATES && candidates <= self.seen / 8;
                self.cut = Cut::At(self.seen);
                self.decided = Some((quota, narrowed));
            }
            Some((_, narrowed)) => {
                if self.few_candidates {
                    let mut keys: Vec<u32> = Vec::new();
                    for part in &self.parts {
                        if let Seen::Keys(more) = &part.seen {
                            keys.extend(more);
                        }
                    }
                    narrowed.finish(&mut keys, self.digits);
                } else {
                    narrowed.narrow(&self.counts);
                    self.counts.fill(0);
                }
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
                if end <= part.start {
                    end // the part lies ahead: all ties here are kept
                } else {
                    let range = (part.start - self.seen) as usize..(part.end - self.seen) as usize;
                    let at = self.seen + ties::cut(&keys, range, threshold, rank) as u64;
                    self.cut = Cut::At(at);
                    at
                }
            }
        };
        let here = usize::try_from(cut.saturating_sub(self.seen)).unwrap_or(usize::MAX);
        self.kept_sum.merge(&apply::apply(piece, threshold, here));
        self.seen = end;
    }

    /// The outcome, after every pass.
    pub(crate) fn settle(self) -> Group {
        let (quota, narrowed) = self.decided.unwrap_or_else(|| {
            // No pass was made: a contest of nothing.
            (Quota::new(&Moments::default(), 0, &self.rule), Narrowed::new(0))
        });
        if let Some(threshold) = quota.threshold() {
            return quota.settle(threshold, quota.len, &self.kept_sum);
        }
        let cut = match self.cut {
            Cut::At(cut) => cut,
            Cut::In { part, .. } => self.parts[part].end,
        };
        quota.settle(narrowed.threshold(), cut, &self.kept_sum)
    }
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
