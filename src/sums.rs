//! Sums of scores and of their squares that do not depend on order: wide integers.
//!
//! A score is `m * 2^(e - 150)` with an integer `m < 2^24` and `1 <= e <= 254`, so scores of one exponent are added as integers of machine
//! size, and what comes of it is added here. Others go through windows: relative to an exponent `E`, `v = m << R >> (E - e)` is an integer
//! `R` bits longer than `m`, exact whenever the shift loses no set bit; `v` and `v * v` are added up, and what the window cannot hold goes through
//! another. `R` is 15 on a GPU, 30 on a CPU. The unit of a sum is the same everywhere, 2^-167, that of a sum of squares its square, so that a
//! window's sums are added at bit `E - 1 + 18 - R` and twice that. Short rows side by side have one window each, of other numbers, whose sums do
//! not come here (`src/cpu/lanes/kinds.rs`). The WGSL twin is `shaders/parts/sums.wgsl`.

use crate::exact::Wide;

/// Bits that the unit of a sum lies below the smallest score, 2^-149: a significand is added so far above bit `e - 1`.
pub(crate) const UNIT_BITS: u32 = 18;

/// Limbs of a sum: 253 + 42 bits and 64 for the count.
pub(crate) const SUM_LIMBS: usize = 6;
/// Limbs of a sum of squares: twice 253 + 42, and 64.
pub(crate) const SQUARE_LIMBS: usize = 11;

/// `sum |s|` of some scores.
pub(crate) type Sum = Accumulator<SUM_LIMBS>;
/// `sum s^2` of some scores.
pub(crate) type SquareSum = Accumulator<SQUARE_LIMBS>;

/// A fixed-point integer that many numbers are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accumulator<const LIMBS: usize> {
    limbs: [u64; LIMBS],
}

impl<const LIMBS: usize> Default for Accumulator<LIMBS> {
    fn default() -> Self {
        Self { limbs: [0; LIMBS] }
    }
}

impl<const LIMBS: usize> Accumulator<LIMBS> {
    /// Add `value << at`.
    #[inline]
    pub(crate) fn add(&mut self, value: u128, at: u32) {
        let (first, bits) = ((at / 64) as usize, at % 64);
        let low = value << bits;
        let high = if bits == 0 { 0 } else { (value >> (128 - bits)) as u64 };
        let mut carry = false;
        for (i, part) in [low as u64, (low >> 64) as u64, high].into_iter().enumerate() {
            if first + i >= LIMBS {
                break; // the value ends below: its bits up here are zeros
            }
            let (sum, one) = self.limbs[first + i].overflowing_add(part);
            let (sum, two) = sum.overflowing_add(u64::from(carry));
            self.limbs[first + i] = sum;
            carry = one || two;
        }
        self.carry(carry, first + 3);
    }

    /// Add another accumulator.
    pub(crate) fn merge(&mut self, other: &Self) {
        let mut carry = false;
        for (mine, theirs) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, one) = mine.overflowing_add(theirs);
            let (sum, two) = sum.overflowing_add(u64::from(carry));
            *mine = sum;
            carry = one || two;
        }
    }

    #[inline]
    fn carry(&mut self, mut carry: bool, from: usize) {
        for limb in self.limbs.iter_mut().skip(from) {
            if !carry {
                break;
            }
            (*limb, carry) = limb.overflowing_add(1);
        }
    }

    pub(crate) fn wide(&self) -> Wide {
        Wide::from_limbs(&self.limbs)
    }
}

/// What a contest's answer is made of: the first two moments of its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) sum: Sum,
    pub(crate) square: SquareSum,
}

impl Moments {
    /// The nearest `f64` to the part of the sum that `kept` is; nothing of nothing is 0.
    pub(crate) fn mass(&self, kept: &Sum) -> f64 {
        if self.sum == Sum::default() { 0.0 } else { kept.wide().ratio(&self.sum.wide()) }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.square.merge(&other.square);
    }
}
