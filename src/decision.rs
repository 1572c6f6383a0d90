//! The answer: a few words per contest. Every bit of a mask follows from them and the scores.

use crate::budget::{self, Effective};
use crate::key::KEY_END;
use crate::rule::{Budget, Rule};
use crate::sums::Moments;

/// One contest and its outcome.
///
/// Kept are the entries whose score is above `threshold`, and those that equal it and come before `cut`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Zeroable)]
pub struct Group {
    /// Entries that competed.
    pub len: u64,
    /// Entries kept: `clamp(floor(beta * N_eff), 1, len)`, or what another [`Budget`] says; no fewer than the rule's
    /// [`min_kept`](Rule::min_kept), or all where there are not as many.
    pub kept: u64,
    /// The smallest kept score; infinity when a [`Sparsity`](crate::Sparsity) leaves nothing.
    pub threshold: f32,
    /// Index, within the contest, from which on entries equal to the threshold lose; `len` when none does.
    pub cut: u64,
    /// The effective number of entries, `(sum |s|)^2 / sum s^2`, rounded once from the exact value; between 1 and `len`.
    pub n_eff: f64,
    /// Preserved mass: the kept part of `sum |s|`, rounded once from the exact value.
    pub mass: f64,
    /// The certificate: no scores with this `len`, `n_eff` and `kept` preserve less mass. Never above the exact bound.
    pub mass_bound: f64,
    /// All scores are zero: `n_eff` is `len`, and unless the budget is a count or a sparsity, everything is kept.
    pub degenerate: bool,
}

impl Group {
    /// A contest of `len` entries that was decided before, by another program say, with this [`threshold`](Self::threshold) and
    /// [`cut`](Self::cut): all that [`Pruner::carry_out`](crate::Pruner::carry_out) asks. What else there is to say of it is zero.
    pub fn decided(len: u64, threshold: f32, cut: u64) -> Self {
        Self { len, threshold, cut, ..bytemuck::Zeroable::zeroed() }
    }

    /// A contest whose scores are not all zero.
    #[inline(always)]
    pub(crate) fn new(len: u64, kept: u64, threshold_key: u32, cut: u64, [n_eff, mass, mass_bound]: [f64; 3]) -> Self {
        let threshold = f32::from_bits(threshold_key);
        Self { len, kept, threshold, cut, n_eff, mass, mass_bound, degenerate: false }
    }
}

/// The outcome of every contest, in order: for [`Granularity::Global`](crate::Granularity::Global) one, for `Tensor` one per
/// tensor, for `Row` the rows of the first tensor, then those of the second; blocks are numbered row by row.
///
/// The same on every backend, bit for bit. A contest takes 56 bytes: where there are very many, as of every four entries, decide about some tensors at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    groups: Vec<Group>,
}

impl Decision {
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        Self { groups }
    }

    /// The contests.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Entries kept, all contests together.
    pub fn kept(&self) -> u64 {
        self.groups.iter().map(|g| g.kept).sum()
    }

    /// Entries that competed, all contests together.
    pub fn entries(&self) -> u64 {
        self.groups.iter().map(|g| g.len).sum()
    }
}

/// A contest that knows how many it keeps, and not yet which.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub(crate) len: u64,
    pub(crate) kept: u64,
    effective: Option<Effective>,
}

impl Quota {
    pub(crate) fn new(moments: &Moments, len: u64, rule: &Rule) -> Self {
        Self::of(Effective::new(moments, len), len, rule)
    }

    /// A contest of scores with this effective number; without one, all of them are zero.
    #[inline]
    pub(crate) fn of(effective: Option<Effective>, len: u64, rule: &Rule) -> Self {
        let kept = match rule.budget {
            // Scores that are all zero are all alike: everything is kept, whatever beta.
            Budget::Effective(beta) => effective.as_ref().map_or(len, |e| e.keep_count(beta, len)),
            budget => budget.fixed(len).unwrap_or(len),
        };
        Self { len, kept: rule.at_least(kept, len), effective }
    }

    /// A contest that a device has decided: its count, and the sums that it came from. `None` where those are no sums of scores and of their
    /// squares, or the count is not what they say: some bytes that were said to be, or what was there before the device had done its work.
    #[cfg(feature = "gpu")]
    pub(crate) fn decided(moments: &Moments, len: u64, kept: u64, rule: &Rule) -> Option<Self> {
        let are_sums = moments.sum.wide().is_zero() == moments.square.wide().is_zero();
        are_sums.then(|| Self::new(moments, len, rule)).filter(|quota| quota.kept == kept)
    }

    /// The threshold, where there is nothing to look for: all or none are kept of scores that are zero, none of others.
    pub(crate) fn threshold(&self) -> Option<u32> {
        match self.kept {
            0 => Some(NOTHING_KEPT),
            kept if kept == self.len && self.effective.is_none() => Some(0),
            _ => None,
        }
    }

    /// Close the contest: `mass` is the kept part of the sum of its scores.
    #[inline]
    pub(crate) fn settle(&self, threshold_key: u32, cut: u64, mass: f64) -> Group {
        let measures = match &self.effective {
            Some(effective) => [effective.n_eff(), mass, effective.mass_bound(self.len, self.kept)],
            None => {
                // Every entry weighs the same.
                let (mass, mass_bound) = budget::mass_of_equals(self.len, self.kept);
                [self.len as f64, mass, mass_bound]
            }
        };
        let group = Group::new(self.len, self.kept, threshold_key, cut, measures);
        Group { degenerate: self.effective.is_none(), ..group }
    }
}

/// The threshold of a contest that keeps nothing: infinity, which no score reaches.
pub(crate) const NOTHING_KEPT: u32 = KEY_END;
