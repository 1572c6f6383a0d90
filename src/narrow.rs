//! Radix selection: the threshold is found digit by digit, from the top.
//!
//! A key has 31 bits, read as digits of 11, 10 and 10. A histogram counts the next digit of all keys that agree with
//! the prefix found so far; the digit of the threshold is the bin in which the count from the top reaches the rank. The
//! WGSL twin is `shaders/narrow.wgsl`, whose digits are others: the first one is finer where a sample has its threshold
//! (`shaders/parts/first_digit.wgsl`), the others have eleven bits, a row's ten.

use crate::dtype::Dtype;
use crate::rule::Score;

/// Lowest bit of each digit.
pub(crate) const DIGIT_SHIFT: [u32; 3] = [20, 10, 0];
/// Bins of the first digit; the others have half of it.
pub(crate) const BINS: usize = 1 << 11;
/// Bins of the digits after the first.
pub(crate) const LOW_BINS: usize = 1 << 10;

/// How many digits of a key can differ that is made from numbers of this dtype: those of 16 bits leave the lowest thirteen bits zero.
pub(crate) fn digits_of(dtype: Dtype, score: Score) -> usize {
    match (dtype, score) {
        (Dtype::F16 | Dtype::Bf16 | Dtype::F8E4m3 | Dtype::F8E5m2, Score::Magnitude | Score::Given) => 2,
        _ => 3,
    }
}

/// What is known about a contest's threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Narrowed {
    /// Digits known.
    pub(crate) digits: usize,
    /// Their value: the threshold shifted down to its last known digit.
    pub(crate) prefix: u32,
    /// How many of the keys that agree with the prefix are kept; at least one.
    pub(crate) rank: u64,
}

impl Narrowed {
    pub(crate) fn new(kept: u64) -> Self {
        Self { digits: 0, prefix: 0, rank: kept }
    }

    /// One digit more, from the counts of the keys that agree so far.
    pub(crate) fn narrow(&mut self, counts: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator) {
        let mut rank = self.rank;
        // The counts hold at least `rank` keys, so the loop ends in a bin; bin 0 stands for that promise.
        let mut digit = 0;
        for (bin, count) in counts.enumerate().rev() {
            digit = bin as u32;
            if count >= rank {
                break;
            }
            rank -= count;
        }
        let bits = if self.digits == 0 { 0 } else { LOW_BINS.trailing_zeros() };
        *self = Self { digits: self.digits + 1, prefix: self.prefix << bits | digit, rank };
    }

    /// All digits, of the threshold itself. The rank is that among the keys that equal it.
    pub(crate) fn close(&mut self, threshold: u32, digits: usize) {
        *self = Self { digits, prefix: threshold >> DIGIT_SHIFT[digits - 1], rank: self.rank };
    }

    /// All digits that are missing, from the keys that agree so far. Returns those of them that are kept, and the others.
    pub(crate) fn finish<'a>(&mut self, keys: &'a mut [u32], digits: usize) -> (&'a mut [u32], &'a mut [u32]) {
        // Fewer keys than the rank would break the promise of the first digit's counts.
        let count = (self.rank as usize).min(keys.len());
        let Some(last) = count.checked_sub(1) else { return (&mut [], keys) };
        let (_, &mut key, _) = keys.select_nth_unstable_by(last, |a, b| b.cmp(a));
        let (kept, lost) = keys.split_at_mut(count);
        let ties = kept.iter().filter(|&&k| k == key).count() as u64;
        self.rank = ties;
        self.close(key, digits);
        (kept, lost)
    }

    /// The threshold, once its digits are known; digits that no key has are zeros.
    pub(crate) fn threshold(&self) -> u32 {
        self.prefix << DIGIT_SHIFT[self.digits - 1]
    }
}
