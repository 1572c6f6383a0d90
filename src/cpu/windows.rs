//! The exact moments of a few keys, without bins: as many as fit a window of 42 bits are added at a time.

use super::{TILE, simd};
use crate::key::{Keys, exponent, significand};
use crate::sums::{Moments, WINDOW};

/// The moments of some numbers, a tile at most, which are used up.
pub(super) fn moments(keys: &mut [u32]) -> Moments {
    let largest = keys.iter().copied().max().unwrap_or(0);
    let mut moments = Moments::default();
    simd::with(
        #[inline(always)]
        || add_windows(keys, largest, &mut moments),
    );
    moments
}

/// Add the entries `range`, a tile at most and all of them numbers, to some moments, and find the largest key.
pub(super) fn add_keys(keys: &Keys<'_>, range: std::ops::Range<usize>, moments: &mut Moments, most: &mut u32) {
    let mut tile = [0; TILE];
    let tile = &mut tile[..range.len()];
    simd::with(
        #[inline(always)]
        || {
            keys.fill(range.start, tile);
            let largest = tile.iter().copied().max().unwrap_or(0);
            *most = largest.max(*most);
            add_windows(tile, largest, moments);
        },
    );
}

/// Window after window, each from the largest key that is left, until none is. One window holds all but one in 10^5 normal scores;
/// sixty decades take eleven.
#[inline(always)]
fn add_windows(mut tile: &mut [u32], mut largest: u32, moments: &mut Moments) {
    while largest != 0 {
        let window = add_window(tile, exponent(largest));
        let at = exponent(largest) - 1;
        moments.sum.add(window.sum.into(), at);
        moments.square.add(window.square(), 2 * at);
        if window.exact {
            return;
        }
        // Keep what did not fit, in front.
        let mut left = 0;
        let top = exponent(largest);
        largest = 0;
        for i in 0..tile.len() {
            let key = tile[i];
            tile[left] = key;
            let keep = !fits(key, top);
            left += usize::from(keep);
            largest = if keep { largest.max(key) } else { largest };
        }
        tile = &mut tile[..left];
    }
}

/// The sums of the keys that a window holds, in units of its lowest bit.
pub(super) struct Window {
    pub(super) sum: u64,
    pub(super) squares: [u64; 3],
    /// Whether it holds all of them.
    pub(super) exact: bool,
}

impl Window {
    pub(super) fn square(&self) -> u128 {
        let [low, cross, high] = self.squares.map(u128::from);
        (high << (2 * HALF)) + (cross << (HALF + 1)) + low
    }
}

/// A window's value has 42 bits: two halves of 21, so that 4096 products of halves fit 64 bits.
pub(super) const HALF: u32 = (24 + WINDOW) / 2;

/// `v = m << 18 >> (top - e)`, and what comes of shifting it back.
#[inline(always)]
pub(super) fn in_window(key: u32, top: u32) -> (u64, u64, u64) {
    let wide = u64::from(significand(key)) << WINDOW;
    let shift = u64::from(top - exponent(key)).min(63);
    let value = wide >> shift;
    (value, value << shift, wide)
}

#[inline(always)]
fn fits(key: u32, top: u32) -> bool {
    let (_, back, wide) = in_window(key, top);
    back == wide
}

/// Sums of the keys that fit below `top`, the largest exponent among them.
#[inline(always)]
fn add_window(tile: &[u32], top: u32) -> Window {
    let (mut sum, mut low, mut cross, mut high, mut lost) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for &key in tile {
        let (value, back, wide) = in_window(key, top);
        let value = if back == wide { value } else { 0 };
        lost |= back ^ wide;
        sum += value;
        let (a, b) = (value >> HALF, value & ((1 << HALF) - 1));
        low += b * b;
        cross += a * b;
        high += a * a;
    }
    Window { sum, squares: [low, cross, high], exact: lost == 0 }
}
