//! Whole rows, columns or heads, kept or zeroed together: which they are, and how their weights become one score.

use crate::error::Error;
use crate::exact::Wide;
use crate::rule::Granularity;
use crate::sums::Moments;
use std::cmp::Ordering;

/// What is kept or zeroed as a whole. A tensor is seen as a matrix: a row is one index of its first axis.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// Every row.
    Row,
    /// Every column.
    Column,
    /// So many equal groups of neighbouring rows; the number must divide that of the rows.
    Heads(u64),
}

/// The score of a structure, from the magnitudes of its weights: the exact value, rounded once to the nearest `f32`, ties to even.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norm {
    /// Their sum.
    L1,
    /// The root of the sum of their squares.
    L2,
    /// The largest.
    Max,
}

impl Structure {
    /// Contests of the same shape.
    pub(crate) fn granularity(self) -> Granularity {
        match self {
            Self::Row => Granularity::Row,
            Self::Column => Granularity::Column,
            Self::Heads(heads) => Granularity::Heads(heads),
        }
    }
}

/// What must be known of a structure's weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) moments: Moments,
    /// The largest key.
    pub(crate) most: u32,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.most = self.most.max(other.most);
    }

    /// The key of the score.
    ///
    /// # Errors
    /// `InvalidInput` when it is too large for an `f32`; `number` says whose it is.
    pub(crate) fn key(&self, norm: Norm, number: usize) -> Result<u32, Error> {
        let key = match norm {
            Norm::L1 => nearest(&self.moments.sum.wide()),
            Norm::L2 => nearest_root(&self.moments.square.wide()),
            Norm::Max => Some(self.most),
        };
        key.ok_or_else(|| Error::invalid(format!("the score of structure {number} overflows f32")))
    }
}

/// The power of two that a sum is counted in; a sum of squares in its square.
const UNIT: i32 = -167;

/// Bits of the `f32` nearest to `sum * 2^UNIT`, ties to even; `None` when that is infinite.
fn nearest(sum: &Wide) -> Option<u32> {
    if sum.is_zero() {
        return Some(0);
    }
    let last = last_place(sum.bits() as i32);
    let places = (last - UNIT) as u32;
    let floor = sum.shr(places).low_u64();
    // Half of the last place, against what is below it.
    let half = Wide::from_limbs(&[2 * floor + 1]).shl(places - 1);
    bits(last, floor, sum.cmp(&half))
}

/// Bits of the `f32` nearest to `sqrt(squares) * 2^UNIT`, ties to even.
fn nearest_root(squares: &Wide) -> Option<u32> {
    if squares.is_zero() {
        return Some(0);
    }
    let last = last_place(squares.bits().div_ceil(2) as i32);
    let places = (last - UNIT) as u32;
    // floor(sqrt(x) / 2^p) is floor(sqrt(floor(x / 4^p))).
    let floor = squares.shr(2 * places).low_u64().isqrt();
    let half = 2 * floor + 1;
    bits(last, floor, squares.cmp(&Wide::from_limbs(&[half * half]).shl(2 * places - 2)))
}

/// The power of two of the last place of an `f32` whose integer part, in units, has so many bits. Never below the smallest subnormal.
fn last_place(integer_bits: i32) -> i32 {
    (integer_bits + UNIT - 24).max(-149)
}

/// `floor` counts last places; the exact value compared to half a place more says which way it goes.
fn bits(last: i32, floor: u64, against_half: Ordering) -> Option<u32> {
    let up = against_half == Ordering::Greater || (against_half == Ordering::Equal && floor % 2 == 1);
    // The hidden bit adds one to the exponent field, and so does a fraction that is rounded up to it.
    let bits = (((last + 149) as u64) << 23) + floor + u64::from(up);
    (bits < 0x7f80_0000).then_some(bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{exponent, significand};
    use crate::sums::WINDOW;
    use proptest::prelude::*;

    fn tally(keys: &[u32]) -> Tally {
        let mut tally = Tally::default();
        for &key in keys {
            let (value, at) = (u128::from(significand(key)) << WINDOW, exponent(key) - 1);
            tally.moments.sum.add(value, at);
            tally.moments.square.add(value * value, 2 * at);
            tally.most = tally.most.max(key);
        }
        tally
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Two floats: their sum is rounded by the processor as asked for, and the norm of one is itself.
        #[test]
        fn norms_are_the_nearest_floats(a in 0u32..0x7f80_0000, b in 0u32..0x7f80_0000, near in 0u32..0x0200_0000) {
            for (a, b) in [(a, b), (a, a.saturating_sub(near)), (near, near / 3)] {
                let sum = f32::from_bits(a) + f32::from_bits(b);
                let both = tally(&[a, b]);
                prop_assert_eq!(both.key(Norm::L1, 0).ok(), sum.is_finite().then_some(sum.to_bits()));
                prop_assert_eq!(both.key(Norm::Max, 0).ok(), Some(a.max(b)));
                prop_assert_eq!(tally(&[a]).key(Norm::L2, 0).ok(), Some(a), "one entry is its own norm");
            }
        }

        /// Integers of 24 bits: the midpoints between floats near their root are multiples of a quarter.
        #[test]
        fn roots_are_the_nearest_floats(a in 1u32 << 23..1 << 24, b in 1u32 << 23..1 << 24) {
            let keys = [a as f32, b as f32].map(f32::to_bits);
            let got = f32::from_bits(tally(&keys).key(Norm::L2, 0).expect("a finite norm"));
            let square = u128::from(a) * u128::from(a) + u128::from(b) * u128::from(b);
            let scaled = |x: f64| (x * 4.0) as u128;
            let middle = |x: f32, y: f32| scaled(f64::from(x) + f64::from(y)) / 2;
            let (low, high) = (middle(got.next_down().max(0.0), got), middle(got, got.next_up()));
            prop_assert!(low * low <= 16 * square && 16 * square <= high * high, "{} {} {}", a, b, got);
        }
    }

    #[test]
    fn a_score_that_overflows_is_an_error_and_a_large_norm_is_none() {
        let largest = f32::MAX.to_bits();
        assert!(tally(&[largest, largest]).key(Norm::L1, 7).expect_err("an infinite sum").to_string().contains('7'));
        assert!(tally(&[largest, largest]).key(Norm::L2, 0).is_err(), "the root of two times the largest");
        assert_eq!(tally(&[largest]).key(Norm::L1, 0).expect("a finite sum"), largest);
        assert_eq!(tally(&[0, 0]).key(Norm::L2, 0).expect("a finite norm"), 0);
        // 3 and 4 times the smallest subnormal.
        assert_eq!(tally(&[3, 4]).key(Norm::L2, 0).expect("a finite norm"), 5);
    }
}
