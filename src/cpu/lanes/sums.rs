//! What a contest's keys span and add up to.

#![allow(clippy::needless_range_loop, reason = "loops over lanes index several arrays, and look alike where it is one")]

use super::kinds::{Kind, Lane};
use super::{DEEP, Each, HALF, LANES};
use crate::budget::{self, Effective};
use crate::cpu::pairs;
use crate::rule::Beta;

/// The largest keys, the smallest that are not zero, and how many are not.
pub(super) struct Spans<K> {
    pub(super) largest: Each<K>,
    pub(super) smallest: Each<K>,
    pub(super) nonzero: Each<K>,
}

impl<K: Lane> Spans<K> {
    #[inline(always)]
    pub(super) fn of(deep: &[[Each<K>; DEEP]]) -> Self {
        let (mut largest, mut smallest, mut nonzero) = ([K::ZERO; LANES], [K::MAX; LANES], [K::ZERO; LANES]);
        for keys in deep {
            for lane in 0..LANES {
                let (mut most, mut least, mut count) = (largest[lane], smallest[lane], nonzero[lane]);
                for keys in keys {
                    let key = keys[lane];
                    most = most.max(key);
                    // One less, which for zeros is more than all.
                    least = least.min((key - K::ONE) & K::MAX);
                    count += K::from(key != K::ZERO);
                }
                (largest[lane], smallest[lane], nonzero[lane]) = (most, least, count);
            }
        }
        let smallest = smallest.map(|least| if least == K::MAX { K::ZERO } else { least - !K::ZERO });
        Self { largest, smallest, nonzero }
    }

    /// The exponents of windows.
    #[inline(always)]
    pub(super) fn tops<Of: Kind<Key = K>>(&self) -> Each<u32> {
        self.largest.map(Of::exponent)
    }
}

/// The sums of the contests, in units of the lowest bit of each one's window.
pub(super) struct Sums {
    pub(super) sum: Each<u64>,
    /// Sums of products of halves: low and low, low and high, high and high. Of values that are short the first alone: of squares.
    pub(super) squares: [Each<u64>; 3],
    /// Whether the window holds every key.
    pub(super) exact: Each<bool>,
}

impl Sums {
    #[inline(always)]
    pub(super) fn of<K: Kind>(deep: &[[Each<K::Key>; DEEP]], spans: &Spans<K::Key>) -> Self {
        let tops = spans.tops::<K>();
        let mut sum = [K::Value::from(0); LANES];
        let [mut low, mut cross, mut high] = [[0; LANES]; 3];
        for keys in deep {
            for lane in 0..LANES {
                let (mut all, mut squares) = (sum[lane], low[lane]);
                let [mut mixed, mut highs] = [cross[lane], high[lane]];
                for keys in keys {
                    let value = K::value(keys[lane], tops[lane]);
                    all += value;
                    let value: u64 = value.into();
                    if K::IS_SHORT {
                        squares += value * value;
                    } else {
                        let (a, b) = (value >> HALF, value & ((1 << HALF) - 1));
                        squares += b * b;
                        mixed += a * b;
                        highs += a * a;
                    }
                }
                (sum[lane], low[lane], cross[lane], high[lane]) = (all, squares, mixed, highs);
            }
        }
        let mut exact = [true; LANES];
        for lane in 0..LANES {
            let reaches = K::exponent(spans.smallest[lane]) + K::REACH >= tops[lane];
            exact[lane] = reaches || spans.largest[lane] == K::Key::ZERO;
        }
        Self { sum: sum.map(Into::into), squares: [low, cross, high], exact }
    }

    /// The sum of squares.
    #[inline(always)]
    pub(super) fn square(&self, lane: usize) -> u128 {
        let [low, cross, high] = self.squares.each_ref().map(|sums| u128::from(sums[lane]));
        (high << (2 * HALF)) + (cross << (HALF + 1)) + low
    }

    /// `None` where all scores are zero, or not all of them in the window.
    #[inline(always)]
    pub(super) fn effective(&self, lane: usize, len: u64) -> Option<Effective> {
        if !self.exact[lane] {
            return None;
        }
        let square = self.square(lane);
        // Shorter numbers: without the powers of two that both have.
        let shared = self.sum[lane].trailing_zeros().min(square.trailing_zeros() / 2).min(63);
        Effective::short((self.sum[lane] >> shared).into(), square >> (2 * shared), len)
    }

    /// Whether so many are `floor(beta * N_eff)`, or what is left of that between 1 and `len`.
    #[inline(always)]
    pub(super) fn is_floor(&self, lane: usize, kept: u32, beta: Beta, len: usize) -> bool {
        let sum = u128::from(self.sum[lane]);
        let up = sum * sum * u128::from(beta.numerator());
        let down = self.square(lane) * u128::from(beta.denominator());
        let (least, end) = (down * u128::from(kept), down * u128::from(kept + 1));
        (kept == 1 || least <= up) && (kept as usize == len || up < end)
    }

    /// The parts that `kept` are of the sums.
    #[inline(always)]
    pub(super) fn masses(&self, kept: &Each<u64>) -> Each<f64> {
        let (mut masses, mut sure) = ([0.0; LANES], [0; LANES]);
        for lane in 0..LANES {
            let told = pairs::mass(kept[lane], self.sum[lane].max(1));
            (masses[lane], sure[lane]) = (told.value, told.sure);
        }
        for lane in 0..LANES {
            if sure[lane] == 0 {
                masses[lane] = budget::mass(kept[lane], self.sum[lane].max(1));
            }
        }
        masses
    }
}
