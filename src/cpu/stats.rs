//! Statistics: the exact first two moments of the scores, and the histogram of the first digit of their keys. One read.

use super::{CHUNK, TILE, Tile, fold_on_all_cores, on_all_cores, ranges, simd};
use crate::key::{Bad, KEY_END, Keys, exponent, significand};
use crate::narrow::{BINS, DIGIT_SHIFT};
use crate::sums::{Moments, Sum, WINDOW};

/// What one read of some scores tells.
#[derive(Clone)]
pub(super) struct Stats {
    pub(super) moments: Moments,
    /// Two tables, for entries in turn: equal neighbours then do not wait for each other. Together they stay in the
    /// first-level cache with the tile.
    bins: Box<[[u32; BINS]; 2]>,
}

/// The histogram of the first digit.
pub(super) type Histogram = [u64; BINS];

impl Stats {
    pub(super) fn clear(&mut self) {
        self.moments = Moments::default();
        self.bins.as_flattened_mut().fill(0);
    }

    /// Add the counts to a histogram.
    pub(super) fn add_to(&self, histogram: &mut Histogram) {
        for (sum, (&a, &b)) in histogram.iter_mut().zip(self.bins[0].iter().zip(self.bins[1].iter())) {
            *sum += u64::from(a) + u64::from(b);
        }
    }

    /// Counts from the top, bin by bin: the bin in which they reach `rank`, and what is left of the rank there.
    pub(super) fn find(&self, mut rank: u64) -> (u32, u64) {
        for bin in (1..BINS).rev() {
            let count = u64::from(self.bins[0][bin]) + u64::from(self.bins[1][bin]);
            if count >= rank {
                return (bin as u32, rank);
            }
            rank -= count;
        }
        (0, rank)
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self { moments: Moments::default(), bins: Box::new([[0; BINS]; 2]) }
    }
}

/// The statistics of one piece, chunk by chunk on all cores.
pub(super) fn stats(keys: &Keys<'_>) -> Result<(Moments, Box<Histogram>), Bad> {
    // A run of chunks stays below 2^32 entries, so that a bin's counts fit their 32 bits.
    let runs: Vec<_> = ranges(keys.len(), CHUNK).collect();
    let runs: Vec<_> = runs.chunks((runs.len() / (8 * super::threads())).clamp(1, 1 << 14)).collect();
    fold_on_all_cores(
        runs.len(),
        || Ok((Moments::default(), Box::new([0; BINS]))),
        |so_far: Result<(Moments, Box<Histogram>), Bad>, i| {
            let (mut moments, mut histogram) = so_far?;
            let (mut stats, mut tile) = (Stats::default(), [0; TILE]);
            for range in runs[i] {
                chunk(keys, range.clone(), &mut tile, &mut stats)?;
            }
            moments.merge(&stats.moments);
            stats.add_to(&mut histogram);
            Ok((moments, histogram))
        },
        |a, b| match (a, b) {
            (Ok((mut moments, mut histogram)), Ok((more, counts))) => {
                moments.merge(&more);
                for (sum, count) in histogram.iter_mut().zip(counts.iter()) {
                    *sum += count;
                }
                Ok((moments, histogram))
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

/// The moments of a short run, whose keys are `all`.
pub(super) fn moments(keys: &Keys<'_>, all: &[u32], tile: &mut Tile) -> Result<Moments, Bad> {
    let tile = &mut tile[..all.len()];
    tile.copy_from_slice(all);
    let mut moments = Moments::default();
    let largest = tile.iter().copied().max().unwrap_or(0);
    if largest >= KEY_END {
        bad_in(keys, tile, 0)?;
    }
    simd::with(
        #[inline(always)]
        || add_windows::<true>(tile, largest, &mut moments),
    );
    Ok(moments)
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
            add_windows::<true>(tile, largest, moments);
        },
    );
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
    let [even, odd] = &mut *stats.bins;
    let (pairs, last) = tile.as_chunks::<2>();
    for [a, b] in pairs {
        even[(a >> DIGIT_SHIFT[0]) as usize] += 1;
        odd[(b >> DIGIT_SHIFT[0]) as usize] += 1;
    }
    for key in last {
        even[(key >> DIGIT_SHIFT[0]) as usize] += 1;
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
