//! Sizes: how a slice of weights is divided among workgroups. Pure numbers, no device.

use crate::dtype::Dtype;
use crate::narrow::LOW_BINS;

/// The largest slice: its entries times four must fit 32 bits, for the report of a bad one.
pub(crate) const MOST_ENTRIES: u64 = (1 << 30) - 1;
/// Workgroups that share a slice: enough to fill the largest devices a few times over.
const MOST_PARTS: u64 = 1024;
/// Entries below which a workgroup would spend its time on clearing and flushing its bins.
const LEAST_PART: u64 = 16 * 1024;
/// Rows up to this many entries are one workgroup's work.
pub(crate) const LONGEST_ROW: u64 = 1 << 17;

/// Candidates that a contest has room for: the share of the threshold's bin is 2 % for normal scores, 4 % for gradient times weight.
/// A contest with more entries than that in the bin has its digits counted in full reads. Each takes two words of a binding.
pub(crate) fn candidates(contest_len: u64, groups: u64, slices: u64, most_bytes: u64) -> u64 {
    let room = most_bytes / 4 / groups;
    (contest_len / 16).max(64).min(room.saturating_sub(slices) / 2).min(u64::from(u32::MAX) / 4)
}

/// How the contests of a slice are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Workgroups per contest.
    pub(crate) count: u64,
    /// Entries of a part: a multiple of 32.
    pub(crate) len: u64,
}

impl Parts {
    /// Parts of `groups` contests with `group_len` entries each. A contest that does not begin at a multiple of 32 entries
    /// has a first part that is up to 31 entries shorter.
    pub(crate) fn of(group_len: u64, groups: u64) -> Self {
        let most = (MOST_PARTS / groups).max(1);
        let len = group_len.div_ceil(most).max(LEAST_PART).next_multiple_of(32);
        let slack = if groups == 1 { 0 } else { 31 };
        Self { count: (group_len + slack).div_ceil(len), len }
    }
}

/// Most spans in which ties are counted, all contests together: 32 MB.
const MOST_SPANS: u64 = 8192;

/// Parts whose ties are counted together, and how many such spans a contest has: as many as there may be, since the smaller they
/// are, the shorter is the search for the last kept tie. `most_bytes` is what a binding holds.
pub(crate) fn spans(parts: &[Parts], groups: u64, most_bytes: u64) -> (u64, u64) {
    let most = MOST_SPANS.min(most_bytes / (LOW_BINS as u64 * 4)) / groups;
    let spans_of = |span: u64| parts.iter().map(|p| p.count.div_ceil(span)).sum::<u64>();
    let mut span = 1;
    while spans_of(span) > most && parts.iter().any(|p| p.count > span) {
        span *= 2;
    }
    (span, spans_of(span))
}

/// Bytes that a slice's weights take in a binding: whole words.
pub(crate) fn weight_bytes(len: u64, dtype: Dtype) -> u64 {
    (len * dtype.size() as u64).next_multiple_of(4)
}

/// Whether contests of this length share words with each other, or with what lies behind them.
pub(crate) fn has_edges(group_len: u64, dtype: Dtype) -> bool {
    !(group_len * dtype.size() as u64).is_multiple_of(4)
}

/// Bytes of a slice's mask: whole words.
pub(crate) fn mask_bytes(len: u64) -> u64 {
    len.div_ceil(32) * 4
}
