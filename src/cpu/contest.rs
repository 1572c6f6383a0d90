//! One contest over any number of pieces: its stages, each over all cores.

use super::apply::{self, Piece};
use super::stats::{self, Histogram};
use super::{CHUNK, histogram, ties};
use crate::decision::{Budget, Group};
use crate::key::{Bad, Keys};
use crate::narrow::{BINS, LOW_BINS, Narrowed};
use crate::rule::Beta;
use crate::sums::{Moments, Sum};

/// Chunks whose ties are counted together: the tables of a contest of 10^10 entries then take 10 MB, and ties are looked
/// for one by one in no more than 4 million entries.
const PART_CHUNKS: usize = 64;

/// A contest in progress: `stats` on every piece, `narrow`; until narrowed: `histogram` on every piece, `narrow`; `apply` on
/// every piece; `settle`. The pieces are the same, in the same order, each time.
pub(crate) struct Contest {
    beta: Beta,
    digits: usize,
    moments: Moments,
    histogram: Box<Histogram>,
    /// Known after the first pass.
    decided: Option<(Budget, Narrowed)>,
    counts: Vec<u64>,
    parts: Vec<Part>,
    /// Entries seen in this pass.
    seen: u64,
    cut: Cut,
    kept_sum: Sum,
}

/// The last digit's counts of some neighbouring entries.
struct Part {
    start: u64,
    end: u64,
    counts: Box<[u32; LOW_BINS]>,
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
    pub(crate) fn new(beta: Beta, digits: usize) -> Self {
        Self {
            beta,
            digits,
            moments: Moments::default(),
            histogram: Box::new([0; BINS]),
            decided: None,
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
        self.decided.as_ref().is_some_and(|(budget, narrowed)| budget.degenerate() || narrowed.digits == self.digits)
    }

    /// Passes two and three, while digits are missing.
    pub(crate) fn histogram(&mut self, keys: &Keys<'_>) {
        let Some((_, narrowed)) = &self.decided else { return };
        let last = narrowed.digits + 1 == self.digits;
        for (i, counts) in histogram::histogram(keys, narrowed).into_iter().enumerate() {
            for (sum, &count) in self.counts.iter_mut().zip(counts.iter()) {
                *sum += u64::from(count);
            }
            if !last {
                continue;
            }
            let start = self.seen + (i * CHUNK) as u64;
            let end = self.seen + keys.len().min((i + 1) * CHUNK) as u64;
            match self.parts.last_mut() {
                Some(part) if i % PART_CHUNKS != 0 => {
                    part.end = end;
                    for (sum, &count) in part.counts.iter_mut().zip(counts.iter()) {
                        *sum += count;
                    }
                }
                _ => self.parts.push(Part { start, end, counts }),
            }
        }
        self.seen += keys.len() as u64;
    }

    /// After each pass: one digit more; after the first one also the budget, after the last one also where ties end.
    pub(crate) fn narrow(&mut self) {
        match &mut self.decided {
            None => {
                let budget = Budget::new(&self.moments, self.seen, self.beta);
                let mut narrowed = Narrowed::new(budget.kept);
                narrowed.narrow(self.histogram.as_slice());
                self.cut = Cut::At(self.seen);
                self.decided = Some((budget, narrowed));
            }
            Some((_, narrowed)) => {
                narrowed.narrow(&self.counts);
                self.counts.fill(0);
                if narrowed.digits == self.digits {
                    self.cut = cut(&self.parts, narrowed, self.seen);
                }
            }
        }
        self.seen = 0;
    }

    /// The last pass.
    pub(crate) fn apply(&mut self, piece: Piece<'_>) {
        let Some((budget, narrowed)) = &self.decided else { return };
        let threshold = if budget.degenerate() { 0 } else { narrowed.threshold() };
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
        let (budget, narrowed) =
            self.decided.unwrap_or_else(|| (Budget::new(&Default::default(), 0, self.beta), Narrowed::new(0)));
        if budget.degenerate() {
            return budget.settle(0, budget.len, &self.kept_sum);
        }
        let cut = match self.cut {
            Cut::At(cut) => cut,
            Cut::In { part, .. } => self.parts[part].end,
        };
        budget.settle(narrowed.threshold(), cut, &self.kept_sum)
    }
}

/// Where ties end: past everything when all are kept, else in the part that holds the last one.
fn cut(parts: &[Part], narrowed: &Narrowed, len: u64) -> Cut {
    let digit = narrowed.prefix as usize & (LOW_BINS - 1);
    let mut rank = narrowed.rank;
    if parts.iter().map(|p| u64::from(p.counts[digit])).sum::<u64>() == rank {
        return Cut::At(len);
    }
    for (part, counts) in parts.iter().map(|p| u64::from(p.counts[digit])).enumerate() {
        if counts >= rank {
            return Cut::In { part, rank };
        }
        rank -= counts;
    }
    Cut::At(len)
}
