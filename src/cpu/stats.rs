//! Statistics: how many keys have which first digit, and what these add up to. The exact moments of all scores follow. One read.

use super::bracket::Bracket;
use super::windows::{Tally, tally};
use super::{CHUNK, TILE, Tile, fold_on_all_cores, on_all_cores, ranges, simd};
use crate::decision::Quota;
use crate::key::{Bad, KEY_END, Keys, exponent, significand};
use crate::narrow::{BINS, DIGIT_SHIFT};
use crate::rule::Rule;
use crate::sums::{Moments, Sum, UNIT_BITS};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bits of a key below its first digit.
const REST: u32 = DIGIT_SHIFT[0];

/// The keys of one first digit. They share an exponent, and their significands differ in the rest alone: the sums of the rests and of their
/// squares tell those of the scores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    pub(super) count: u64,
    pub(super) rests: u64,
    pub(super) squares: u128,
}

impl Bin {
    /// Sum of the significands of these keys, which have this first digit.
    fn sum(&self, digit: usize) -> u128 {
        u128::from(self.count) * base(digit) + u128::from(self.rests)
    }

    /// Sum of their squares.
    fn square(&self, digit: usize) -> u128 {
        let base = base(digit);
        base * (u128::from(self.count) * base + 2 * u128::from(self.rests)) + self.squares
    }
}

impl Bin {
    /// The rest that all of these keys have, if they are all equal: the mean is that then, and no square is off it.
    pub(super) fn only_rest(&self) -> Option<u32> {
        let mean = self.rests.checked_div(self.count)?;
        let equal = mean * self.count == self.rests && u128::from(mean * mean) * u128::from(self.count) == self.squares;
        equal.then_some(mean as u32)
    }
}

/// The least significand of a first digit.
fn base(digit: usize) -> u128 {
    significand((digit as u32) << REST).into()
}

/// The bit of a sum at which significands of this key's exponent are added.
pub(super) fn place(key: u32) -> u32 {
    exponent(key) - 1 + UNIT_BITS
}

/// First digits of one exponent.
pub(super) const PER_EXPONENT: usize = 1 << (23 - REST);

/// Bins, however they are stored.
pub(super) trait Bins {
    fn bin(&self, digit: usize) -> Bin;

    /// Above all digits that keys have; a multiple of those of an exponent.
    fn end(&self) -> usize {
        BINS
    }

    /// The counts, as [`Narrowed::narrow`](crate::narrow::Narrowed::narrow) wants them.
    fn counts(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
        (0..self.end()).map(|digit| self.bin(digit).count)
    }

    /// The moments of all `len` keys.
    fn moments(&self, len: u64) -> Moments {
        let mut moments = Moments::default();
        // Most rows have zeros and a few neighbouring exponents: down from the largest, until no key is left.
        let mut left = len - self.bin(0).count;
        for first in (0..self.end()).step_by(PER_EXPONENT).rev() {
            let (mut sum, mut square) = (0, 0);
            for digit in first..first + PER_EXPONENT {
                let bin = self.bin(digit);
                if bin.count != 0 {
                    sum += bin.sum(digit);
                    square += bin.square(digit);
                    left -= if digit == 0 { 0 } else { bin.count };
                }
            }
            if sum != 0 {
                let place = place((first as u32) << REST);
                moments.sum.add(sum, place);
                moments.square.add(square, 2 * place);
            }
            if left == 0 && first != 0 {
                // What is left has the first digit 0.
                let (bin, place) = (self.bin(0), place(0));
                moments.sum.add(bin.sum(0), place);
                moments.square.add(bin.square(0), 2 * place);
                break;
            }
        }
        moments
    }

    /// The sum of the keys whose first digit is above this one.
    fn sum_above(&self, digit: u32) -> Sum {
        let mut sum = Sum::default();
        for digit in digit as usize + 1..self.end() {
            let bin = self.bin(digit);
            if bin.count != 0 {
                sum.add(bin.sum(digit), place((digit as u32) << REST));
            }
        }
        sum
    }
}

/// The bins of any number of keys.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Box<[Bin; BINS]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new([Bin::default(); BINS]))
    }
}

impl Bins for Histogram {
    fn bin(&self, digit: usize) -> Bin {
        self.0[digit]
    }
}

impl Histogram {
    /// Add `count` keys that are all this one.
    pub(super) fn insert(&mut self, key: u32, count: u64) {
        let (bin, rest) = (&mut self.0[(key >> REST) as usize], key & ((1 << REST) - 1));
        bin.count += count;
        bin.rests += count * u64::from(rest);
        bin.squares += u128::from(count) * u128::from(rest) * u128::from(rest);
    }

    pub(super) fn add(&mut self, more: &impl Bins) {
        for (digit, bin) in self.0.iter_mut().enumerate() {
            let more = more.bin(digit);
            bin.count += more.count;
            bin.rests += more.rests;
            bin.squares += more.squares;
        }
    }
}

/// The bins of at most [`Packed::MOST`] keys. A key costs two additions, and no exponent is dearer than another.
pub(super) struct Packed {
    /// The count, over the sum of the rests.
    sums: Box<[u64; BINS]>,
    /// Apart, or the compiler makes a vector of a bin's two words, which takes longer to put together than to add.
    squares: Box<[u64; BINS]>,
    end: usize,
}

impl Packed {
    /// Where the count begins.
    const COUNT: u32 = 40;
    /// Keys that can be added: what their rests add up to stays below the count.
    pub(super) const MOST: usize = 1 << (Self::COUNT - REST);

    pub(super) fn new() -> Self {
        Self { sums: Box::new([0; BINS]), squares: Box::new([0; BINS]), end: BINS }
    }

    pub(super) fn clear(&mut self) {
        self.sums[..self.end].fill(0);
        self.squares[..self.end].fill(0);
        self.end = BINS;
    }

    /// What was added is all.
    fn close(&mut self) {
        let last = self.sums.iter().rposition(|&sum| sum != 0);
        self.end = last.map_or(0, |last| last + 1).next_multiple_of(PER_EXPONENT);
    }

    #[inline(always)]
    fn add(&mut self, keys: &[u32]) {
        let mut add = |digit: u64, rest: u64| {
            let digit = digit as usize % BINS;
            self.sums[digit] += rest + (1 << Self::COUNT);
            self.squares[digit] += rest * rest;
        };
        // Two keys to a load.
        let low = (1 << REST) - 1;
        let (pairs, last) = keys.as_chunks::<2>();
        for &[a, b] in pairs {
            let both = u64::from(a) | u64::from(b) << 32;
            add(both >> REST, both & low);
            add(both >> (32 + REST), both >> 32 & low);
        }
        for &key in last {
            add(u64::from(key >> REST), u64::from(key) & low);
        }
    }

    /// Whether a key is no number.
    fn has_bad(&self) -> bool {
        self.end > (KEY_END >> REST) as usize
    }
}

impl Bins for Packed {
    fn end(&self) -> usize {
        self.end
    }

    #[inline]
    fn bin(&self, digit: usize) -> Bin {
        let sum = self.sums[digit];
        Bin { count: sum >> Self::COUNT, rests: sum & ((1 << Self::COUNT) - 1), squares: self.squares[digit].into() }
    }
}

/// The bins of one piece, chunk by chunk on all cores.
pub(super) fn stats(keys: &Keys<'_>) -> Result<Histogram, Bad> {
    let run = (keys.len() / (8 * super::threads())).next_multiple_of(CHUNK).clamp(CHUNK, Packed::MOST);
    let runs: Vec<_> = ranges(keys.len(), run).collect();
    fold_on_all_cores(
        runs.len(),
        || Ok(Histogram::default()),
        |so_far: Result<Histogram, Bad>, i| {
            let mut histogram = so_far?;
            let (mut packed, mut tile) = (Packed::new(), [0; TILE]);
            chunk(keys, runs[i].clone(), &mut tile, &mut packed)?;
            histogram.add(&packed);
            Ok(histogram)
        },
        |a, b| match (a, b) {
            (Ok(mut histogram), Ok(more)) => {
                histogram.add(&more);
                Ok(histogram)
            }
            // Neighbouring runs are merged in order, so the left error is the first bad entry.
            (Err(bad), _) | (_, Err(bad)) => Err(bad),
        },
    )
}

/// What one read of a piece tells, when it is guessed where the threshold is.
pub(super) struct Stats {
    /// The sums of all keys, and of those above the bracket.
    pub(super) tally: Tally,
    pub(super) bracket: Bracket,
    /// Chunk by chunk, the keys in the bracket.
    pub(super) candidates: Vec<Vec<u32>>,
}

/// The sums of one piece, chunk by chunk on all cores, and its keys among these, unless they are more than there is `room` for.
pub(super) fn stats_about(keys: &Keys<'_>, about: &Range<u32>, room: usize) -> Result<Stats, Bad> {
    let taken = AtomicUsize::new(0);
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    let found = on_all_cores(chunks.len(), |i| {
        let (mut tally, mut bracket) = (Tally::default(), Bracket::of(about.clone()));
        let (mut tile, mut candidates) = ([0; TILE], Vec::new());
        // Whether there is room for all of them is a matter of their number, which does not depend on who comes first.
        let has_room = taken.load(Ordering::Relaxed) <= room;
        for part in ranges(chunks[i].len(), TILE) {
            let (first, tile) = (chunks[i].start + part.start, &mut tile[..part.len()]);
            simd::fetch(keys.stored(first + TILE..first + 2 * TILE));
            let largest = simd::with(
                #[inline(always)]
                || {
                    keys.fill(first, tile);
                    bracket.count(tile);
                    tile.iter().fold(0, |most, &key| key.max(most))
                },
            );
            if largest >= KEY_END {
                bad_in(keys, tile, first)?;
            }
            tally.add(tile, largest, about.end);
            if has_room {
                candidates.extend_from_slice(simd::bring(tile, about));
            }
        }
        taken.fetch_add(candidates.len(), Ordering::Relaxed);
        Ok((tally, bracket, candidates))
    });
    let mut stats = Stats { tally: Tally::default(), bracket: Bracket::of(about.clone()), candidates: Vec::new() };
    for found in found {
        let (tally, bracket, candidates) = found?;
        stats.tally.merge(&tally);
        stats.bracket.add(&bracket);
        stats.candidates.push(candidates);
    }
    Ok(stats)
}

/// The keys between which the threshold of a contest of `len` entries will be that is like some tiles of its first piece, evenly spaced: a few in a
/// hundred. `None` where they would be more than there is `room` for, or many, as of equal scores, and where windows hold too few scores to
/// be worth it.
pub(super) fn sample(keys: &Keys<'_>, rule: &Rule, len: u64, room: u64) -> Option<Range<u32>> {
    // What is left is a part as small as the sample's root is large: the larger the contest, the more is a larger sample worth.
    let wanted = 24 * len.isqrt() / TILE as u64;
    let count = wanted.clamp(64, 1 << 15).min((keys.len() / (4 * TILE)) as u64).max(1) as usize;
    let tiles = ranges(keys.len(), (keys.len() / count).max(TILE)).take(count);
    let (mut sample, mut tile, mut quick) = (Vec::with_capacity(count * TILE), [0; TILE], 0);
    for start in tiles.map(|range| range.start) {
        let tile = &mut tile[..TILE.min(keys.len() - start)];
        quick += simd::with(
            #[inline(always)]
            || {
                keys.fill(start, tile);
                usize::from(Tally::is_quick(tile, tile.iter().fold(0, |most, &key| key.max(most))))
            },
        );
        sample.extend_from_slice(tile);
    }
    if !simd::has_shifts() || quick < count * 7 / 8 || sample.iter().any(|&key| key >= KEY_END) {
        return None;
    }
    let all = len;
    let len = sample.len();
    let quota = Quota::new(&tally(&sample, KEY_END).moments, len as u64, rule);
    if quota.threshold().is_some() {
        return None;
    }
    // The rank of the threshold is off by some square roots of the sample's size.
    let (kept, off) = (quota.kept as usize, 3 * len.isqrt());
    let rank =
        |rank: usize, sample: &mut Vec<u32>| *sample.select_nth_unstable_by(rank.clamp(1, len) - 1, |a, b| b.cmp(a)).1;
    let end = if kept > off { rank(kept - off, &mut sample) + 1 } else { KEY_END };
    let start = if kept + off <= len { rank(kept + off, &mut sample) } else { 0 };
    let inside = sample.iter().filter(|&&key| start <= key && key < end).count();
    let is_few = inside <= len / MANY && inside as u128 * u128::from(all) <= u128::from(room) * len as u128;
    is_few.then_some(start..end)
}

/// One in so many is too many.
const MANY: usize = 8;

/// Look for scores that are no numbers, and nothing else. One read.
pub(crate) fn check_finite(keys: &Keys<'_>) -> Result<(), Bad> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    on_all_cores(chunks.len(), |i| first_bad(keys, chunks[i].clone(), &mut [0; TILE])).into_iter().collect()
}

pub(super) fn first_bad(keys: &Keys<'_>, range: Range<usize>, tile: &mut Tile) -> Result<(), Bad> {
    ranges(range.len(), TILE).try_for_each(|part| {
        let first = range.start + part.start;
        let tile = &mut tile[..part.len()];
        let largest = simd::with(
            #[inline(always)]
            || {
                keys.fill(first, tile);
                tile.iter().copied().max().unwrap_or(0)
            },
        );
        if largest < KEY_END { Ok(()) } else { bad_in(keys, tile, first) }
    })
}

pub(super) fn bad_in(keys: &Keys<'_>, tile: &[u32], first: usize) -> Result<(), Bad> {
    match tile.iter().position(|&key| key >= KEY_END) {
        Some(at) => Err(Bad { at: (first + at) as u64, what: keys.what_is_wrong(first + at) }),
        None => Ok(()),
    }
}

/// The bins of the entries `range`, at most [`Packed::MOST`].
pub(super) fn chunk(keys: &Keys<'_>, range: Range<usize>, tile: &mut Tile, packed: &mut Packed) -> Result<(), Bad> {
    packed.clear();
    for part in ranges(range.len(), TILE) {
        let tile = &mut tile[..part.len()];
        simd::with(
            #[inline(always)]
            || {
                keys.fill(range.start + part.start, tile);
                packed.add(tile);
            },
        );
    }
    packed.close();
    if packed.has_bad() { first_bad(keys, range, tile) } else { Ok(()) }
}
