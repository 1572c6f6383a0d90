//! Statistics: the exact first two moments of the scores, and the histogram of the first digit of their keys. One read.

use super::{CHUNK, TILE, Tile, fold_on_all_cores, on_all_cores, ranges, simd};
use crate::key::{Bad, KEY_END, Keys, exponent, significand};
use crate::narrow::{BINS, DIGIT_SHIFT};
use crate::sums::{Moments, Sum, WINDOW};

/// What one read of some scores tells.
#[derive(Clone)]
pub(super) struct Stats {
    pub(super) moments: Moments,
    pub(super) histogram: Box<[u64; BINS]>,
}

impl Stats {
    pub(super) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        for (mine, theirs) in self.histogram.iter_mut().zip(other.histogram.iter()) {
            *mine += theirs;
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self { moments: Moments::default(), histogram: Box::new([0; BINS]) }
    }
}

/// The statistics of one piece, chunk by chunk on all cores.
pub(super) fn stats(keys: &Keys<'_>) -> Result<Stats, Bad> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    fold_on_all_cores(
        chunks.len(),
        || Ok(Stats::default()),
        |so_far: Result<Stats, Bad>, i| {
            let mut stats = so_far?;
            chunk(keys, chunks[i].clone(), &mut [0; TILE], &mut stats).map(|()| stats)
        },
        |a, b| match (a, b) {
            (Ok(mut a), Ok(b)) => {
                a.merge(&b);
                Ok(a)
            }
            // Neighbouring runs are merged in order, so the left error is the first bad entry.
            (Err(bad), _) | (_, Err(bad)) => Err(bad),
        },
    )
}

/// Look for scores that are no numbers, and nothing else. One read.
pub(crate) fn check_finite(keys: &Keys<'_>) -> Result<(), Bad> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    on_all_cores(chunks.len(), |i| {
        let mut tile = [0; TILE];
        ranges(chunks[i].len(), TILE).try_for_each(|part| {
            let first = chunks[i].start + part.start;
            let tile = &mut tile[..part.len()];
            simd::with(
                #[inline(always)]
                || keys.fill(first, tile),
            );
            bad_in(keys, tile, first)
        })
    })
    .into_iter()
    .collect()
}

fn bad_in(keys: &Keys<'_>, tile: &[u32], first: usize) -> Result<(), Bad> {
    match tile.iter().position(|&key| key >= KEY_END) {
        Some(at) => Err(Bad { at: (first + at) as u64, what: keys.what_is_wrong(first + at) }),
        None => Ok(()),
    }
}

/// Add the entries `range` to `stats`.
pub(super) fn chunk(
    keys: &Keys<'_>,
    range: std::ops::Range<usize>,
    tile: &mut Tile,
    stats: &mut Stats,
) -> Result<(), Bad> {
    for part in ranges(range.len(), TILE) {
        let first = range.start + part.start;
        let tile = &mut tile[..part.len()];
        let fine = simd::with(
            #[inline(always)]
            || {
                keys.fill(first, tile);
                add_tile(tile, stats)
            },
        );
        if !fine {
            bad_in(keys, tile, first)?;
        }
    }
    Ok(())
}

/// `false` when a key is no number.
#[inline(always)]
fn add_tile(tile: &mut [u32], stats: &mut Stats) -> bool {
    let largest = tile.iter().copied().max().unwrap_or(0);
    if largest >= KEY_END {
        return false;
    }
    for &key in tile.iter() {
        stats.histogram[(key >> DIGIT_SHIFT[0]) as usize] += 1;
    }
    add_windows::<true>(tile, largest, &mut stats.moments);
    true
}

/// Add the sum of the keys of `tile`, which is used up.
#[inline(always)]
pub(super) fn add_sum(tile: &mut [u32], sum: &mut Sum) {
    let largest = tile.iter().copied().max().unwrap_or(0);
    let mut moments = Moments::default();
    add_windows::<false>(tile, largest, &mut moments);
    sum.merge(&moments.sum);
}

/// Window after window, each from the largest key that is left, until none is. One window holds all but one in 10^5 entries
/// of a normal tile; sixty decades take eleven.
#[inline(always)]
fn add_windows<const SQUARES: bool>(mut tile: &mut [u32], mut largest: u32, moments: &mut Moments) {
    while largest != 0 {
        let window = add_window::<SQUARES>(tile, exponent(largest));
        let at = exponent(largest) - 1;
        moments.sum.add(window.sum.into(), at);
        if SQUARES {
            moments.square.add(window.square(), 2 * at);
        }
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

struct Window {
    sum: u64,
    squares: [u64; 3],
    exact: bool,
}

impl Window {
    fn square(&self) -> u128 {
        let [low, cross, high] = self.squares.map(u128::from);
        (high << (2 * HALF)) + (cross << (HALF + 1)) + low
    }
}

/// A window's value has 42 bits: two halves of 21, so that 4096 products of halves fit 64 bits.
const HALF: u32 = (24 + WINDOW) / 2;

/// `v = m << 18 >> (top - e)`, and what comes of shifting it back.
#[inline(always)]
fn in_window(key: u32, top: u32) -> (u64, u64, u64) {
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
fn add_window<const SQUARES: bool>(tile: &[u32], top: u32) -> Window {
    let (mut sum, mut low, mut cross, mut high, mut lost) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for &key in tile {
        let (value, back, wide) = in_window(key, top);
        let value = if back == wide { value } else { 0 };
        lost |= back ^ wide;
        sum += value;
        if SQUARES {
            let (a, b) = (value >> HALF, value & ((1 << HALF) - 1));
            low += b * b;
            cross += a * b;
            high += a * a;
        }
    }
    Window { sum, squares: [low, cross, high], exact: lost == 0 }
}
