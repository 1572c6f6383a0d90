//! One contest over any number of pieces: its stages, each over all cores.

use super::apply::{self, Piece};
use super::bracket::Bracket;
use super::histogram::{self, Lower};
use super::levels::Levels;
use super::stats::{self, Bins, Histogram, Stats};
use super::windows::{Tally, tally};
use super::{CHUNK, ties};
use crate::decision::{Group, Quota};
use crate::dtype::Dtype;
use crate::key::{Bad, Keys, significand};
use crate::narrow::{DIGIT_SHIFT, LOW_BINS, Narrowed};
use crate::rule::{Budget, Rule};
use crate::sums::{Moments, Sum};
use std::ops::Range;

/// A contest in progress: `stats` on every piece, `narrow`; until narrowed: `histogram` on every piece, `narrow`; `apply` on
/// every piece; `settle`. The pieces are the same, in the same order, each time.
pub(crate) struct Contest {
    rule: Rule,
    /// Entries of all pieces.
    len: u64,
    digits: usize,
    /// Where all keys are 16-bit magnitudes, and many.
    levels: Option<Levels>,
    /// Where the threshold will be, if the contest is like a sample: the keys in there are kept, while they are few. Then the first pass adds
    /// sums in windows; without it, in the bins of the first digit.
    guess: Option<Guess>,
    histogram: Histogram,
    /// Known after the first pass.
    moments: Moments,
    decided: Option<(Quota, Narrowed)>,
    pass: Pass,
    /// What the pieces found of the next digit, together.
    lower: Vec<Lower>,
    /// What the last pass before `apply` found, chunk by chunk.
    found: Vec<Found>,
    /// Entries seen in this pass.
    seen: u64,
    cut: Cut,
    kept_sum: Sum,
    most_candidates: u64,
}

/// What a first pass with a guess adds up.
struct Guess {
    bracket: Bracket,
    /// The sums of all keys, and of those above the bracket.
    tally: Tally,
}

/// What a call of `histogram` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The bins of the first digit, after a wrong guess.
    Bins,
    /// The keys that share the threshold's first digit: where they are few, one pass finds all other digits, and the ties.
    Candidates,
    /// The counts of the next digit.
    Digit,
    /// Where the ties are, when some of them lose.
    Ties,
    /// Nothing more.
    Done,
}

/// Some neighbouring entries, the candidates among them, and how many of these equal the threshold.
struct Found {
    range: Range<u64>,
    keys: Vec<u32>,
    ties: u64,
}

/// Keys about the threshold that are few enough to keep: 32 MB.
const MOST_CANDIDATES: u64 = 8 << 20;
/// One in so many is few, too.
const FEW: u64 = 8;
/// A piece of fewer entries stays in a cache, and a second look at it costs little.
const WORTH_A_GUESS: usize = 1 << 19;

/// From which entry on ties lose.
#[derive(Clone, Copy)]
enum Cut {
    At(u64),
    /// Just past the tie number `rank` of this chunk.
    In {
        chunk: usize,
        rank: u64,
    },
}

impl Contest {
    /// A contest of `len` keys that have `digits` digits, and are many magnitudes of a dtype of 16 bits where `levels` names it.
    pub(crate) fn new(rule: &Rule, len: u64, digits: usize, levels: Option<Dtype>) -> Self {
        Self {
            rule: *rule,
            len,
            digits,
            levels: levels.map(Levels::new),
            guess: None,
            histogram: Histogram::default(),
            moments: Moments::default(),
            decided: None,
            pass: Pass::Digit,
            lower: vec![Lower::default(); LOW_BINS],
            found: Vec::new(),
            seen: 0,
            cut: Cut::At(0),
            kept_sum: Sum::default(),
            most_candidates: MOST_CANDIDATES,
        }
    }

    /// With its share of the memory, where so many contests go on at once.
    pub(crate) fn side_by_side(self, contests: usize) -> Self {
        Self { most_candidates: MOST_CANDIDATES / contests as u64, ..self }
    }

    /// Pass one.
    pub(crate) fn stats(&mut self, keys: &Keys<'_>) -> Result<(), Bad> {
        if self.seen == 0
            && self.levels.is_none()
            && keys.len() >= WORTH_A_GUESS
            && !matches!(self.rule.budget, Budget::Count(_))
        {
            let found = stats::sample(keys, &self.rule, self.len, self.most_candidates);
            self.guess = found.map(|range| Guess { bracket: Bracket::of(range), tally: Tally::default() });
        }
        match (&mut self.levels, &mut self.guess) {
            (Some(levels), _) => levels.add(keys)?,
            (None, None) => self.histogram.add(&stats::stats(keys)?),
            (None, Some(guess)) => {
                let room = self.most_candidates.saturating_sub(guess.bracket.from.len() as u64) as usize;
                let Stats { tally, bracket, candidates } = stats::stats_about(keys, &guess.bracket.keys, room)?;
                guess.tally.merge(&tally);
                guess.bracket.add(&bracket);
                if guess.bracket.from.len() as u64 <= self.most_candidates {
                    self.find(keys, candidates);
                }
            }
        }
        self.seen += keys.len() as u64;
        Ok(())
    }

    /// Keep the candidates of each chunk of a piece.
    fn find(&mut self, keys: &Keys<'_>, candidates: Vec<Vec<u32>>) {
        let (start, len) = (self.seen, keys.len());
        let range = |i: usize| (start + (i * CHUNK) as u64)..(start + len.min((i + 1) * CHUNK) as u64);
        let found = candidates.into_iter().enumerate();
        self.found.extend(found.map(|(i, keys)| Found { range: range(i), keys, ties: 0 }));
    }

    /// Whether the threshold is known, and where its ties end.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.pass == Pass::Done
    }

    /// The passes between: none where the first one told everything, one where few keys share the first digit, at most four.
    pub(crate) fn histogram(&mut self, keys: &Keys<'_>) {
        let Some((_, narrowed)) = &self.decided else { return };
        match self.pass {
            Pass::Bins => {
                // The first pass has found every score to be a number.
                if let Ok(bins) = stats::stats(keys) {
                    self.histogram.add(&bins);
                }
            }
            Pass::Candidates => {
                let found = histogram::candidates(keys, narrowed.prefix);
                self.find(keys, found);
            }
            Pass::Digit => {
                for (sum, bin) in self.lower.iter_mut().zip(histogram::histogram(keys, narrowed).iter()) {
                    sum.count += bin.count;
                    sum.rests += bin.rests;
                }
            }
            Pass::Ties => {
                let counts = ties::count(keys, narrowed.threshold());
                let first = self.found.len();
                self.find(keys, vec![Vec::new(); counts.len()]);
                self.found[first..].iter_mut().zip(counts).for_each(|(found, ties)| found.ties = ties);
            }
            Pass::Done => {}
        }
        self.seen += keys.len() as u64;
    }

    /// After each pass: one digit more, or all that are missing; after the first one also the budget, after the last one also
    /// where ties end.
    pub(crate) fn narrow(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let Some((_, narrowed)) = &mut self.decided else { return self.decide(seen) };
        match self.pass {
            Pass::Bins => self.first_digit(seen),
            Pass::Candidates => self.finish(seen),
            Pass::Digit => {
                narrowed.narrow(self.lower.iter().map(|bin| bin.count));
                let last = narrowed.digits == self.digits;
                let ties = self.lower[narrowed.prefix as usize % LOW_BINS].count;
                let kept = kept_above(narrowed, &self.lower) + if last { kept_ties(narrowed) } else { 0 };
                self.kept_sum.add(kept, stats::place(narrowed.threshold()));
                self.lower.fill(Lower::default());
                if last {
                    self.know(ties, seen);
                }
            }
            Pass::Ties => self.end_ties(seen),
            Pass::Done => {}
        }
    }

    /// After the first pass: the budget, and often all else.
    fn decide(&mut self, seen: u64) {
        if let Some(levels) = &self.levels {
            self.histogram = levels.histogram();
        }
        self.moments = match &self.guess {
            Some(guess) => guess.tally.moments,
            None => self.histogram.moments(seen),
        };
        let quota = Quota::new(&self.moments, seen, &self.rule);
        let mut narrowed = Narrowed::new(quota.kept);
        if quota.threshold().is_some() {
            self.pass = Pass::Done;
            self.cut = Cut::At(seen);
            self.decided = Some((quota, narrowed));
            return;
        }
        match &self.guess {
            Some(Guess { bracket, tally })
                if bracket.has(quota.kept) && bracket.from.len() as u64 <= self.most_candidates =>
            {
                self.kept_sum = tally.kept;
                narrowed.rank -= bracket.from.start as u64;
                self.decided = Some((quota, narrowed));
                self.finish(seen);
            }
            Some(_) => {
                self.found.clear();
                self.pass = Pass::Bins;
                self.decided = Some((quota, narrowed));
            }
            None => {
                self.decided = Some((quota, narrowed));
                self.first_digit(seen);
            }
        }
    }

    /// The threshold's first digit, from the bins, and where these tell them, all others.
    fn first_digit(&mut self, seen: u64) {
        let Some((_, narrowed)) = &mut self.decided else { return };
        narrowed.narrow(self.histogram.counts());
        self.kept_sum = self.histogram.sum_above(narrowed.prefix);
        let bin = self.histogram.bin(narrowed.prefix as usize);
        self.pass = if bin.count <= self.most_candidates.min(seen / FEW) { Pass::Candidates } else { Pass::Digit };
        if let Some(levels) = &self.levels {
            let (ties, kept) = levels.finish(narrowed, self.digits);
            self.kept_sum.add(kept, stats::place(narrowed.threshold()));
            self.know(ties, seen);
        } else if let Some(rest) = bin.only_rest() {
            narrowed.close(narrowed.prefix << DIGIT_SHIFT[0] | rest, self.digits);
            self.kept_sum.add(kept_ties(narrowed), stats::place(narrowed.threshold()));
            self.know(bin.count, seen);
        }
    }

    /// All digits that are missing, from the candidates.
    fn finish(&mut self, seen: u64) {
        let Some((_, narrowed)) = &mut self.decided else { return };
        let mut keys = self.found.iter().map(|found| found.keys.as_slice()).collect::<Vec<_>>().concat();
        let (kept, _) = narrowed.finish(&mut keys, self.digits);
        self.kept_sum.merge(&tally(kept, 0).kept);
        let threshold = narrowed.threshold();
        for found in &mut self.found {
            found.ties = found.keys.iter().filter(|&&key| key == threshold).count() as u64;
            found.keys = Vec::new();
        }
        self.end_ties(seen);
    }

    /// The threshold is known, and how many entries equal it.
    fn know(&mut self, ties: u64, seen: u64) {
        let all_kept = self.decided.as_ref().is_none_or(|(_, narrowed)| narrowed.rank == ties);
        self.pass = if all_kept { Pass::Done } else { Pass::Ties };
        self.cut = Cut::At(seen);
    }

    /// It is known where the ties are.
    fn end_ties(&mut self, seen: u64) {
        self.pass = Pass::Done;
        self.cut = Cut::At(seen);
        let mut rank = self.decided.as_ref().map_or(0, |(_, narrowed)| narrowed.rank);
        if self.found.iter().map(|found| found.ties).sum::<u64>() == rank {
            return;
        }
        for (chunk, found) in self.found.iter().enumerate() {
            if found.ties >= rank {
                self.cut = Cut::In { chunk, rank };
                return;
            }
            rank -= found.ties;
        }
    }

    /// Whether nothing is to be found in the next piece of the last pass, of so many entries, where nothing is to be carried out.
    pub(crate) fn passes_by(&mut self, len: u64) -> bool {
        let end = self.seen + len;
        // Before the chunk begins, and in it, the cut is still to be found.
        let passes_by = match self.cut {
            Cut::At(_) => true,
            Cut::In { chunk, .. } => end <= self.found[chunk].range.start,
        };
        if passes_by {
            self.seen = end;
        }
        passes_by
    }

    /// The last pass.
    pub(crate) fn apply(&mut self, piece: Piece<'_>) {
        let Some((quota, narrowed)) = &self.decided else { return };
        let threshold = quota.threshold().unwrap_or_else(|| narrowed.threshold());
        let keys = piece.keys();
        let end = self.seen + keys.len() as u64;
        let cut = match self.cut {
            Cut::At(at) => at,
            Cut::In { chunk, rank } => {
                let Range { start, end: last } = self.found[chunk].range.clone();
                if end <= start {
                    end // the chunk lies ahead: all ties here are kept
                } else {
                    let range = (start - self.seen) as usize..(last - self.seen) as usize;
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
            Cut::In { chunk, .. } => self.found[chunk].range.end,
        };
        quota.settle(narrowed.threshold(), cut, mass)
    }
}

/// The sum of the significands above the threshold's last known digit, of the keys that agree up to there.
fn kept_above(narrowed: &Narrowed, bins: &[Lower]) -> u128 {
    let (shift, digit) = (DIGIT_SHIFT[narrowed.digits - 1], narrowed.prefix as usize % LOW_BINS);
    let least = |above: usize| u128::from(significand((narrowed.prefix + above as u32) << shift));
    let above = bins[digit + 1..].iter().zip(1..);
    above.map(|(bin, above)| u128::from(bin.count) * least(above) + u128::from(bin.rests)).sum()
}

/// The sum of the significands of the ties that are kept.
fn kept_ties(narrowed: &Narrowed) -> u128 {
    u128::from(narrowed.rank) * u128::from(significand(narrowed.threshold()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Beta;
    use crate::source::Bytes;
    use proptest::prelude::*;

    /// The outcome, and the mask.
    fn run(mut contest: Contest, bytes: &[u8], dtype: Dtype, piece_len: usize) -> Result<(Group, Vec<u8>), Bad> {
        let pieces = || bytes.chunks(piece_len * dtype.size());
        for piece in pieces() {
            contest.stats(&Keys::new(piece, dtype, None))?;
        }
        contest.narrow();
        while !contest.is_narrowed() {
            pieces().for_each(|piece| contest.histogram(&Keys::new(piece, dtype, None)));
            contest.narrow();
        }
        let mut masks = Vec::new();
        for piece in pieces() {
            let mut mask = vec![0xaa; (piece.len() / dtype.size()).div_ceil(8)];
            contest.apply(Piece {
                bytes: Bytes::Shared(piece),
                dtype,
                norms: None,
                scores: None,
                mask: Some(&mut mask),
            });
            masks.extend(mask);
        }
        Ok((contest.settle(), masks))
    }

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        let spread = prop::collection::vec(any::<u16>(), 1..600);
        // A few levels, so that most entries are ties.
        let few = prop::collection::vec((0u16..4).prop_map(|level| 0x3c00 + 0x31 * level), 1..600);
        let zeros = prop::collection::vec(prop_oneof![9 => Just(0x8000), 1 => 0u16..0x7c00], 1..600);
        let equal = (0u16..0x7f00, 1usize..600).prop_map(|(level, len)| vec![level; len]);
        prop_oneof![spread, few, zeros, equal]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Counting levels, bins and candidates, or digit after digit: one answer, and the same refusal.
        #[test]
        fn every_way_to_the_threshold_is_the_same(
            weights in weights(), beta in 1u64..20, eights in 1usize..40, brain in any::<bool>(), width in prop_oneof![0u32..4, 0u32..1 << 24],
        ) {
            let dtype = if brain { Dtype::Bf16 } else { Dtype::F16 };
            let rule = Rule::new().with_beta(Beta::ratio(beta, 10).expect("a ratio"));
            let bytes: Vec<u8> = weights.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            let len = weights.len() as u64;
            let levels = run(Contest::new(&rule, len, 2, Some(dtype)), &bytes, dtype, 8 * eights);
            let bins = run(Contest::new(&rule, len, 2, None), &bytes, dtype, 8 * eights);
            prop_assert_eq!(&levels, &bins);
            // The same numbers as f32 have a third digit.
            let mut keys = vec![0; weights.len()];
            Keys::new(&bytes, dtype, None).fill(0, &mut keys);
            let wide: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
            let whole = run(Contest::new(&rule, len, 3, None), &wide, Dtype::F32, 8 * eights);
            prop_assert_eq!(levels.map_err(|bad| bad.at), whole.clone().map_err(|bad| bad.at));
            // A guess, right or wrong.
            for guess in [keys[0], whole.as_ref().map_or(0, |(group, _)| group.threshold.to_bits())] {
                let mut contest = Contest::new(&rule, len, 3, None);
                let range = guess.saturating_sub(width)..guess.saturating_add(width).saturating_add(1);
                contest.guess = Some(Guess { bracket: Bracket::of(range), tally: Tally::default() });
                prop_assert_eq!(&run(contest, &wide, Dtype::F32, 8 * eights), &whole);
            }
        }
    }
}
