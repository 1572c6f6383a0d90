//! The answer: a few words per contest. Every bit of a mask follows from them and the scores.

use crate::budget::{self, Effective};
use crate::rule::Beta;
use crate::sums::{Moments, Sum};

/// One contest and its outcome.
///
/// Kept are the entries whose score is above `threshold`, and those that equal it and come before `cut`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Entries that competed.
    pub len: u64,
    /// Entries kept: `clamp(floor(beta * N_eff), 1, len)`.
    pub kept: u64,
    /// The smallest kept score.
    pub threshold: f32,
    /// Index, within the contest, from which on entries equal to the threshold lose; `len` when none does.
    pub cut: u64,
    /// The effective number of entries, `(sum |s|)^2 / sum s^2`, rounded once from the exact value; between 1 and `len`.
    pub n_eff: f64,
    /// Preserved mass: the kept part of `sum |s|`, rounded once from the exact value.
    pub mass: f64,
    /// The certificate: no scores with this `len`, `n_eff` and `kept` preserve less mass. Never above the exact bound.
    pub mass_bound: f64,
    /// All scores are zero; everything is kept.
    pub degenerate: bool,
}

/// The outcome of every contest, in order: for [`Granularity::Global`](crate::Granularity::Global) one, for `Tensor` one per
/// tensor, for `Row` the rows of the first tensor, then those of the second.
///
/// The same on every backend, bit for bit.
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
    pub fn len(&self) -> u64 {
        self.groups.iter().map(|g| g.len).sum()
    }

    /// Whether there was no contest.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// A contest that knows how many it keeps, and not yet which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) len: u64,
    pub(crate) kept: u64,
    sum: Sum,
    effective: Option<Effective>,
}

impl Budget {
    pub(crate) fn new(moments: &Moments, len: u64, beta: Beta) -> Self {
        let effective = Effective::new(moments);
        let kept = effective.as_ref().map_or(len, |e| e.keep_count(beta, len));
        Self { len, kept, sum: moments.sum, effective }
    }

    /// A contest that a device has decided: its count, and the sums that it came from.
    #[cfg(feature = "gpu")]
    pub(crate) fn decided(moments: &Moments, len: u64, kept: u64) -> Self {
        Self { len, kept, sum: moments.sum, effective: Effective::new(moments) }
    }

    pub(crate) fn degenerate(&self) -> bool {
        self.effective.is_none()
    }

    /// Close the contest: `kept_sum` is the sum of the kept scores.
    pub(crate) fn settle(&self, threshold_key: u32, cut: u64, kept_sum: &Sum) -> Group {
        Group {
            len: self.len,
            kept: self.kept,
            threshold: f32::from_bits(threshold_key),
            cut,
            n_eff: self.effective.as_ref().map_or(self.len as f64, Effective::n_eff),
            mass: budget::mass(kept_sum, &self.sum),
            mass_bound: self.effective.as_ref().map_or(1.0, |e| e.mass_bound(self.len, self.kept)),
            degenerate: self.degenerate(),
        }
    }
}
