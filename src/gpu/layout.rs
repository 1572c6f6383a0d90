//! Twins of what the shaders declare: structs, bindings, sizes. `src/gpu/tests.rs` compares the two by reflection.

use crate::rule::{Beta, Budget, Rule};
use bytemuck::{Pod, Zeroable};

/// Counters of one contest, 64 bits each; where the three sums begin among them, and where the first digit's focus is.
pub(crate) const TALLY: u64 = 2653;
pub(crate) const TALLY_SUM: usize = 2560;
pub(crate) const TALLY_SQUARE: usize = 2584;
pub(crate) const TALLY_KEPT: usize = 2628;
pub(crate) const TALLY_FOCUS: usize = 2652;
/// Words of a row's three sums: S, Q and the kept sum.
pub(crate) const ROW_SUM_WORDS: usize = 12;
pub(crate) const ROW_SQUARE_WORDS: usize = 22;
pub(crate) const ROW_SUMS: u64 = 46;
/// Bins of the last digit, kept for every span of parts.
pub(crate) use crate::plan::LOW_BINS;

/// Binding numbers, the same for every stage.
pub(crate) mod binding {
    pub(crate) const PARAMS: u32 = 0;
    pub(crate) const WEIGHTS: u32 = 1;
    pub(crate) const NORMS: u32 = 2;
    pub(crate) const TALLY: u32 = 3;
    pub(crate) const RECORDS: u32 = 4;
    pub(crate) const SPAN_BINS: u32 = 5;
    pub(crate) const MASK: u32 = 6;
    pub(crate) const FIRST_BAD: u32 = 7;
    pub(crate) const CANDIDATES: u32 = 8;
}

/// `Params` of `shaders/parts/params.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub(crate) struct Params {
    pub(crate) beta_up: [u32; 2],
    pub(crate) beta_down: [u32; 2],
    pub(crate) contest_len: [u32; 2],
    pub(crate) count: [u32; 2],
    pub(crate) least: [u32; 2],
    pub(crate) len: u32,
    pub(crate) group_len: u32,
    pub(crate) groups: u32,
    pub(crate) parts: u32,
    pub(crate) part_len: u32,
    pub(crate) span: u32,
    pub(crate) first_span: u32,
    pub(crate) all_spans: u32,
    pub(crate) slice: u32,
    pub(crate) slices: u32,
    pub(crate) columns: u32,
    pub(crate) digits: u32,
    pub(crate) mask: u32,
    pub(crate) capacity: u32,
    pub(crate) refiners: u32,
    pub(crate) counted: u32,
    pub(crate) share: u32,
    pub(crate) block_rows: u32,
    pub(crate) block_columns: u32,
    pub(crate) fold: u32,
}

impl Params {
    /// What is kept of contests of `len` entries.
    pub(crate) fn with_budget(self, rule: &Rule, len: u64) -> Self {
        let beta = match rule.budget {
            Budget::Effective(beta) => beta,
            _ => Beta::ONE,
        };
        let count = rule.budget.fixed(len);
        let part_of = |part: u64, whole: u64, of: u128| u128::from(part) * of / u128::from(whole.max(1));
        let share = match count {
            Some(count) => part_of(count, len, 1024).min(1024),
            None => part_of(beta.numerator(), beta.denominator(), 256).min(1 << 16),
        };
        Self {
            beta_up: split(beta.numerator()),
            beta_down: split(beta.denominator()),
            contest_len: split(len),
            count: split(count.unwrap_or(0)),
            counted: count.is_some().into(),
            share: share as u32,
            least: split(rule.min_kept.min(len)),
            ..self
        }
    }
}

/// The decision about one contest, as it lies in the records buffer.
///
/// An entry is kept when the bits of its score are above `threshold`, or equal it and the entry comes before the cut: in a
/// span before `cut_span`, or in that span and before entry `cut_index` of the contest within the slice. A span is a run of
/// entries that the plan chose; [`Record::NO_CUT`] says that no tie loses. A shader of yours that meets a tie where some lose asks the mask.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Record {
    /// 0: decided. Else some score is no number and nothing was written: 1 NaN, 2 infinity, 3 a Wanda product that
    /// overflowed `f32`, or whose norm is no number. The decision's other fields say nothing then, `kept` neither.
    pub status: u32,
    /// 1: all scores are zero.
    pub degenerate: u32,
    /// Entries kept, low word first.
    pub kept: [u32; 2],
    /// The smallest kept key: the bits of a non-negative `f32`; those of infinity when nothing is kept.
    pub threshold: u32,
    /// The span in which the last kept tie lies.
    pub cut_span: u32,
    /// The entry after it, counted from the contest's first entry in the slice.
    pub cut_index: u32,
    /// Digits of the threshold that are known.
    pub digits: u32,
    /// How many of its lowest bits are not: zeros until they are.
    pub left: u32,
    /// Ties kept within `cut_span`.
    pub cut_rank: u32,
    /// How many of the keys that agree with it so far are kept, low word first.
    pub rank: [u32; 2],
    /// The slice of the first bad score ..
    pub bad_slice: u32,
    /// .. and its entry there.
    pub bad_index: u32,
    /// 1: the first digit's bin was small, and its entries were the candidates for the rest.
    pub sifted: u32,
    /// The bits of [`n_eff`](Self::n_eff).
    pub n_eff: u32,
    /// The bits of [`mass`](Self::mass).
    pub mass: u32,
    #[doc(hidden)]
    pub _pad: u32,
}

impl Record {
    /// `cut_span` when no tie loses.
    pub const NO_CUT: u32 = u32::MAX;

    /// The same struct in WGSL, and the constant `NO_CUT`, for a shader of yours.
    pub const WGSL: &str = super::shaders::RECORD;

    /// Entries kept.
    pub fn kept(&self) -> u64 {
        words(self.kept)
    }

    /// The effective number, at most one unit in the last place off the exact one; 0 unless the plan is
    /// [`with_mass`](super::Plan::with_mass). In a shader `bitcast<f32>(record.n_eff)`.
    pub fn n_eff(&self) -> f32 {
        f32::from_bits(self.n_eff)
    }

    /// The preserved mass, at most one unit in the last place off the exact one, and never above 1; 0 unless the plan is
    /// [`with_mass`](super::Plan::with_mass). In a shader `bitcast<f32>(record.mass)`.
    pub fn mass(&self) -> f32 {
        f32::from_bits(self.mass)
    }
}

/// Arranged keys begin at multiples of so many, for their mask to begin at a legal offset; so do the records of their contests.
pub(crate) const KEY_PAD: u64 = 2048;
pub(crate) const RECORD_PAD: u64 = 32;

/// Places that `len` keys of contests of one length take.
pub(crate) fn padded_keys(len: u64) -> u64 {
    len.next_multiple_of(KEY_PAD)
}

/// Places that the records of `groups` contests of one length take.
pub(crate) fn padded_records(groups: u64) -> u64 {
    groups.next_multiple_of(RECORD_PAD)
}

/// Bytes of the candidates of `groups` contests in `slices` slices: how many each slice has, then keys and entries.
pub(crate) fn candidate_bytes(groups: u64, slices: u64, capacity: u64) -> u64 {
    (groups * slices + groups * 2 * capacity) * 4
}

pub(crate) fn words(low_high: [u32; 2]) -> u64 {
    u64::from(low_high[0]) | u64::from(low_high[1]) << 32
}

pub(crate) fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
