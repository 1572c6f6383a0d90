//! The exact moments of a few keys, without bins: as many as fit a window of 52 bits are added at a time.

use super::histogram::matching;
use super::{TILE, simd};
use crate::key::{KEY_END, Keys, exponent, significand};
use crate::sums::{Moments, Sum, UNIT_BITS};

/// Bits by which a window reaches below the lowest bit of its largest key: further than a GPU's, whose integers are shorter.
const REACH: u32 = 28;
/// Bits of a value: no more than some processors multiply at once.
const BITS: u32 = 24 + REACH;
/// Bits of each half of it: so many that a tile's products of halves fit 64.
const HALF: u32 = BITS / 2;
/// The lowest window: its values are in units of the sums.
const LEAST_TOP: u32 = REACH - UNIT_BITS + 1;

/// What some keys add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) moments: Moments,
    /// The sum of those that were said to be kept.
    pub(super) kept: Sum,
}

impl Tally {
    /// Add some numbers, a tile at most, whose largest is `largest`. Kept are those from `least` on.
    pub(super) fn add(&mut self, keys: &[u32], largest: u32, least: u32) {
        if largest == 0 {
            return;
        }
        let top = exponent(largest).max(LEAST_TOP);
        let window = Window::of(keys, top, least);
        self.add_window(&window, top);
        if !window.exact {
            let mut left = [0; TILE];
            left[..keys.len()].copy_from_slice(keys);
            self.add_rest(&mut left[..keys.len()], top, least);
        }
    }

    /// Whether one window holds these keys, of which the largest is `largest`.
    pub(super) fn is_quick(keys: &[u32], largest: u32) -> bool {
        Window::of(keys, exponent(largest).max(LEAST_TOP), KEY_END).exact
    }

    /// Window after window, each from the largest key that the one before did not hold. The first holds all but one in 10^8 normal scores;
    /// sixty decades take seven.
    #[cold]
    fn add_rest(&mut self, mut keys: &mut [u32], mut top: u32, least: u32) {
        loop {
            let largest;
            (keys, largest) = simd::with(
                #[inline(always)]
                || {
                    let far = matching(keys, |key| is_far(key, top));
                    let largest = far.iter().fold(0, |most, &key| key.max(most));
                    (far, largest)
                },
            );
            if largest == 0 {
                return;
            }
            top = exponent(largest).max(LEAST_TOP);
            self.add_window(&Window::of(keys, top, least), top);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        self.kept.merge(&other.kept);
    }

    fn add_window(&mut self, window: &Window, top: u32) {
        let at = top - LEAST_TOP;
        self.moments.sum.add(window.sum.into(), at);
        self.moments.square.add(window.square(), 2 * at);
        self.kept.add(window.kept.into(), at);
    }
}

/// The sums of any number of numbers. Kept are those from `least` on.
pub(super) fn tally(keys: &[u32], least: u32) -> Tally {
    let mut tally = Tally::default();
    for tile in keys.chunks(TILE) {
        let largest = simd::with(
            #[inline(always)]
            || tile.iter().fold(0, |most, &key| key.max(most)),
        );
        tally.add(tile, largest, least);
    }
    tally
}

/// The moments of the entries `range`, a tile at most and all of them numbers, are added to some moments, and the largest key is found.
pub(super) fn add_keys(keys: &Keys<'_>, range: std::ops::Range<usize>, moments: &mut Moments, most: &mut u32) {
    let mut tile = [0; TILE];
    let tile = &mut tile[..range.len()];
    let tally = simd::with(
        #[inline(always)]
        || {
            keys.fill(range.start, tile);
            let largest = tile.iter().copied().max().unwrap_or(0);
            *most = largest.max(*most);
            let mut tally = Tally::default();
            tally.add(tile, largest, KEY_END);
            tally
        },
    );
    moments.merge(&tally.moments);
}

/// The sums of the keys that a window holds, in units of its lowest bit.
#[derive(Default)]
struct Window {
    sum: u64,
    /// Sums of products of halves: low and low, low and high, high and high.
    squares: [u64; 3],
    kept: u64,
    /// Whether it holds all of them.
    exact: bool,
}

impl Window {
    /// Of a tile at most; `top` is the largest exponent among the keys. Out of line: compiled once, and the same for everybody.
    #[inline(never)]
    fn of(keys: &[u32], top: u32, least: u32) -> Self {
        let smallest = simd::with(
            #[inline(always)]
            // Zeros wrap to the top, where they are not the smallest.
            || keys.iter().fold(u32::MAX, |smallest, key| smallest.min(key.wrapping_sub(1))),
        );
        let exact = !is_far(smallest.wrapping_add(1), top);
        let is_quick = exact && top >= BITS;
        if is_quick && let Some([sum, kept, low, high]) = simd::window(keys, top - REACH, least) {
            return Self { sum, kept, squares: [low, 0, high], exact };
        }
        simd::with(
            #[inline(always)]
            || match is_quick {
                true => Self::quick(keys, top, least),
                false => Self { exact, ..Self::slow(keys, top, least) },
            },
        )
    }

    /// Keys of which none is subnormal. A zero is taken for a power of two, which lies so far below the window that it shifts out of it.
    #[inline(always)]
    fn quick(keys: &[u32], top: u32, least: u32) -> Self {
        // Signed and long: compared in one instruction everywhere. Short, as the compiler would have it, it would have to be made long again.
        let below = std::hint::black_box(i64::from(least) - 1);
        let value = |key: u64| {
            let wide = (key & 0x7f_ffff | 0x80_0000) << REACH;
            let shift = u64::from(top).wrapping_sub(key >> 23);
            let value = if shift < 64 { wide >> shift } else { 0 };
            (value, if key as i64 > below { value } else { 0 })
        };
        let (mut sum, mut kept, mut lows, mut mixed, mut highs) = (0, 0, 0, 0, 0);
        // Two to a load, so that a vector of them is taken apart by shifts alone.
        let (first, pairs, last) = bytemuck::pod_align_to::<u32, u64>(keys);
        for &both in pairs {
            let ((a, kept_a), (b, kept_b)) = (value(both & 0xffff_ffff), value(both >> 32));
            let [(a_high, a_low), (b_high, b_low)] = [halves(a), halves(b)];
            sum += a + b;
            kept += kept_a + kept_b;
            lows += a_low * a_low + b_low * b_low;
            mixed += a_low * a_high + b_low * b_high;
            highs += a_high * a_high + b_high * b_high;
        }
        let mut window = Self { sum, kept, squares: [lows, mixed, highs], exact: true };
        first.iter().chain(last).map(|&key| value(key.into())).for_each(|(value, kept)| window.add(value, kept));
        window
    }

    /// Any keys; those that are far count for nothing.
    #[inline(always)]
    fn slow(keys: &[u32], top: u32, least: u32) -> Self {
        let mut window = Self::default();
        for &key in keys {
            let value = if is_far(key, top) { 0 } else { value(key, top) };
            window.add(value, if key >= least { value } else { 0 });
        }
        window
    }

    #[inline(always)]
    fn add(&mut self, value: u64, kept: u64) {
        let (high, low) = halves(value);
        self.sum += value;
        self.kept += kept;
        self.squares[0] += low * low;
        self.squares[1] += low * high;
        self.squares[2] += high * high;
    }

    fn square(&self) -> u128 {
        let [low, cross, high] = self.squares.map(u128::from);
        (high << (2 * HALF)) + (cross << (HALF + 1)) + low
    }
}

/// The high one and the low one.
#[inline(always)]
fn halves(value: u64) -> (u64, u64) {
    (value >> HALF, value & ((1 << HALF) - 1))
}

/// `m << REACH >> (top - e)`.
#[inline(always)]
fn value(key: u32, top: u32) -> u64 {
    u64::from(significand(key)) << REACH >> (top - exponent(key)).min(63)
}

/// Whether a key has bits below the window, or may have.
#[inline(always)]
fn is_far(key: u32, top: u32) -> bool {
    key != 0 && exponent(key) + REACH < top
}

/// About the mean of some keys, as a key: of a tile at most, whose largest is `largest`.
pub(super) fn mean(keys: &[u32], largest: u32) -> u32 {
    let top = exponent(largest).max(LEAST_TOP);
    let mean = Window::of(keys, top, KEY_END).sum / (keys.len() as u64).max(1);
    let bits = 64 - mean.leading_zeros();
    let fraction = if bits > 24 { mean >> (bits - 24) } else { mean << (24 - bits) } as u32 & 0x7f_ffff;
    (top + bits).saturating_sub(BITS) << 23 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn big(wide: &crate::exact::Wide) -> BigUint {
        (0..18).rev().fold(BigUint::ZERO, |sum, i| (sum << 64u32) + wide.shr(64 * i).low_u64())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Of any exponents, and of few, near the ends of the range and in its middle.
        #[test]
        fn a_tally_is_the_sum_of_its_keys(
            keys in prop_oneof![
                prop::collection::vec(0..KEY_END, 1..TILE),
                (0u32..250, 1u32..40).prop_flat_map(|(first, exponents)| prop::collection::vec(
                    prop_oneof![1 => Just(0), 9 => (first..(first + exponents).min(255), 0u32..1 << 23).prop_map(|(e, m)| e << 23 | m)],
                    1..TILE,
                )),
            ],
            least in 0..KEY_END,
        ) {
            let mut tally = Tally::default();
            tally.add(&keys, keys.iter().copied().max().unwrap_or(0), least);
            let one = |key: u32| BigUint::from(significand(key)) << (exponent(key) - 1 + UNIT_BITS);
            prop_assert_eq!(big(&tally.moments.sum.wide()), keys.iter().map(|&key| one(key)).sum::<BigUint>());
            prop_assert_eq!(big(&tally.moments.square.wide()), keys.iter().map(|&key| one(key) * one(key)).sum::<BigUint>());
            prop_assert_eq!(big(&tally.kept.wide()), keys.iter().filter(|&&key| key >= least).map(|&key| one(key)).sum::<BigUint>());
        }
    }

    #[test]
    fn a_mean_is_about_the_mean() {
        for keys in [[1.0f32, 2.0, 3.0, 6.0], [1e-40, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5e-3], [3e38, 3e38, 3e38, 3e38]] {
            let expected = keys.iter().sum::<f32>() / 4.0;
            let expected = if expected.is_finite() { expected } else { 3e38 };
            let found = f32::from_bits(mean(&keys.map(f32::to_bits), keys.into_iter().fold(0.0, f32::max).to_bits()));
            // A subnormal mean is coarse.
            assert!((found - expected).abs() <= (1e-6 * expected).max(f32::MIN_POSITIVE), "{found} of {keys:?}");
        }
    }
}
