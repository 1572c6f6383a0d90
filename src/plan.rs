//! Sizes: how a slice of weights is divided among workgroups. Pure numbers, no device.

use crate::dtype::Dtype;
use crate::rule::Score;

/// The largest slice: its entries times four must fit 32 bits, for the report of a bad one.
pub(crate) const MOST_ENTRIES: u64 = (1 << 30) - 1;

/// Bins of a contest's digit after the first, in the GPU's kernels; a row's has half as many.
pub(crate) const LOW_BINS: u64 = 2048;

/// The constants of the GPU's kernels that change speed and memory, and no answer: the only table of them. What a shader needs of it
/// is written behind its text (`LANES`, `SPREAD`, `TEAM`, `MOST_TILE_WORDS`); what follows from the other numbers, `Params` tells it.
/// For measuring: `emprune bench --tune` tries the [alternatives](Self::alternatives) on a device.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Lanes of a workgroup, but for short rows. 256 are the most that WebGPU promises: fewer workgroups clear and empty bins.
    pub(crate) lanes: u32,
    /// Parts of a contest at most, of which each is a workgroup's in the second read: a few times what the largest devices hold at once (132 processors of 8), so that none is idle
    /// while others end; and the more there are, the shorter is the search for the last kept tie.
    pub(crate) most_parts: u64,
    /// Workgroups of the first read at most, all contests together: each adds two thousand counters of its own to the contest's. And of stages that may
    /// have nothing to do.
    pub(crate) readers: u64,
    /// The same of levels of bf16: a workgroup has two thousand counters for these besides.
    pub(crate) level_readers: u64,
    /// Entries below which a workgroup would spend its time on clearing and emptying its bins.
    pub(crate) least_part: u64,
    /// Spans in which ties are counted at most, all contests together: 32 MB. But each slice of a contest has one at least.
    pub(crate) most_spans: u64,
    /// Candidates that a contest has room for, one of so many entries: the threshold's bin holds 0.2 % of normal scores, 2 % of those on
    /// 256 levels, 4 % of f8 with two bits of mantissa. One with more has its digits counted in full reads. A candidate takes two words.
    pub(crate) candidate_share: u64,
    /// Workgroups that look at the candidates of a contest in one slice, at most: as many as a large device has at work at once, and no more than
    /// read everything. How many candidates there are is known to the device alone.
    pub(crate) refiners: u64,
    /// Rows up to this many entries are one workgroup's work. Longer ones would leave most of a device idle where they are few, and its caches
    /// do not hold them. No more than 16 bits can count.
    pub(crate) longest_row: u64,
    /// Short rows: lanes of a workgroup, and how many of them take a row. The first that is enough for a row's length is taken. 64 lanes wait less
    /// for each other than 256, and their keys and counters fit 16 KiB.
    pub(crate) teams: [(u32, u32); 5],
    /// Entries that a lane adds up before its sums become digits: no more than 2048, so that what 256 lanes hold fits a word; a multiple of 512, after which lanes
    /// that do not join their subgroup share their windows.
    pub(crate) spread: u32,
    /// Words of weights for which a lane decides before a mask is put together, or fewer: with 32 entries a word of flags is full.
    pub(crate) tile_words: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            lanes: 256,
            most_parts: 4096,
            readers: 1024,
            level_readers: 512,
            least_part: 16 * 1024,
            most_spans: 4096,
            candidate_share: 16,
            refiners: 512,
            longest_row: (1 << 16) - 1,
            teams: [(64, 1), (64, 4), (64, 16), (64, 64), (128, 128)],
            spread: 2048,
            tile_words: 32,
        }
    }
}

/// Most entries of a short row for each of its lanes. No more than 64: so many products fit a word of a window.
pub(crate) const LANE_KEYS: u32 = 16;

impl Tuning {
    /// Tables that differ from the default in one constant, by its name and value. Each gives the same answers.
    pub fn alternatives() -> Vec<(&'static str, String, Self)> {
        let of = Self::default();
        let mut all = Vec::new();
        for lanes in [64, 128] {
            all.push(("lanes", lanes.to_string(), Self { lanes, ..of }));
        }
        for most_parts in [512, 1024, 2048, 8192] {
            all.push(("most_parts", most_parts.to_string(), Self { most_parts, ..of }));
        }
        for readers in [256, 4096] {
            all.push(("readers", readers.to_string(), Self { readers, ..of }));
        }
        for level_readers in [256, 1024] {
            all.push(("level_readers", level_readers.to_string(), Self { level_readers, ..of }));
        }
        for least_part in [4 << 10, 64 << 10] {
            all.push(("least_part", least_part.to_string(), Self { least_part, ..of }));
        }
        for candidate_share in [8, 64] {
            all.push(("candidate_share", candidate_share.to_string(), Self { candidate_share, ..of }));
        }
        for refiners in [64, 1024] {
            all.push(("refiners", refiners.to_string(), Self { refiners, ..of }));
        }
        for longest_row in [1 << 12, 1 << 15] {
            all.push(("longest_row", longest_row.to_string(), Self { longest_row, ..of }));
        }
        for spread in [512, 1024] {
            all.push(("spread", spread.to_string(), Self { spread, ..of }));
        }
        for tile_words in [8, 16] {
            all.push(("tile_words", tile_words.to_string(), Self { tile_words, ..of }));
        }
        let small = [(32, 1), (32, 4), (32, 16), (64, 64), (128, 128)];
        all.push(("teams", "of 32 lanes up to 256 entries".to_owned(), Self { teams: small, ..of }));
        let few = [(64, 1), (64, 4), (64, 16), (64, 64), (64, 64)];
        all.push(("teams", "up to 1024 entries".to_owned(), Self { teams: few, ..of }));
        all
    }

    /// Parts of `groups` contests with `group_len` entries each. A contest that does not begin at a multiple of 32 entries has a first part that
    /// is up to 31 entries shorter. `levels`: keys are counted by levels ([`has_levels`]).
    pub(crate) fn parts(&self, group_len: u64, groups: u64, levels: bool) -> Parts {
        let most = (self.most_parts / groups).max(1);
        let len = group_len.div_ceil(most).max(self.least_part).next_multiple_of(32);
        let slack = if groups == 1 { 0 } else { 31 };
        // Where all places for candidates are taken, a lane has sixteen.
        let refiners = (group_len / self.candidate_share).div_ceil(16 * u64::from(self.lanes)).clamp(1, self.refiners);
        let count = (group_len + slack).div_ceil(len);
        let readers = if levels { self.level_readers } else { self.readers };
        let fold = (count * groups).div_ceil(readers).min(count);
        Parts { count, len, fold, refiners: refiners.min(count.div_ceil(fold)) }
    }

    /// Parts whose ties are counted together, and how many such spans a contest has: as many as there may be, since the smaller they
    /// are, the shorter is the search for the last kept tie. `most_bytes` is what a binding holds.
    pub(crate) fn spans(&self, parts: &[Parts], groups: u64, most_bytes: u64) -> (u64, u64) {
        let most = self.most_spans.min(most_bytes / (LOW_BINS * 4)) / groups;
        let spans_of = |span: u64| parts.iter().map(|p| p.count.div_ceil(span)).sum::<u64>();
        let mut span = 1;
        while spans_of(span) > most && parts.iter().any(|p| p.count > span) {
            span *= 2;
        }
        (span, spans_of(span))
    }

    /// Candidates that a contest has room for, in a binding of at most so many bytes.
    pub(crate) fn candidates(&self, contest_len: u64, groups: u64, slices: u64, most_bytes: u64) -> u64 {
        let room = most_bytes / 4 / groups;
        (contest_len / self.candidate_share).max(64).min(room.saturating_sub(slices) / 2).min(u64::from(u32::MAX) / 4)
    }
}

/// How the contests of a slice are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Of a contest.
    pub(crate) count: u64,
    /// Entries of a part: a multiple of 32.
    pub(crate) len: u64,
    /// Parts that a workgroup takes together, in the first read and where there may be nothing to do.
    pub(crate) fold: u64,
    /// Workgroups per contest that look at candidates.
    pub(crate) refiners: u64,
}

/// Bytes that a slice's weights take in a binding: whole words.
pub(crate) fn weight_bytes(len: u64, dtype: Dtype) -> u64 {
    (len * dtype.size() as u64).next_multiple_of(4)
}

/// Whether contests of this length share words with each other, or with what lies behind them.
pub(crate) fn has_edges(group_len: u64, dtype: Dtype) -> bool {
    !(group_len * dtype.size() as u64).is_multiple_of(4)
}

/// Whether so few keys are possible that each has a counter of its own.
pub(crate) fn has_levels(dtype: Dtype, score: Score) -> bool {
    dtype == Dtype::Bf16 && score != Score::Wanda
}

/// Whether contests of this length begin and end at multiples of four words, so that a lane can take as many at once.
pub(crate) fn has_fours(group_len: u64, dtype: Dtype) -> bool {
    (group_len * dtype.size() as u64).is_multiple_of(16)
}

/// Bytes of a slice's mask: whole words.
pub(crate) fn mask_bytes(len: u64) -> u64 {
    len.div_ceil(32) * 4
}
