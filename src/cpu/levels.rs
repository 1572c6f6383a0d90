//! Statistics of 16-bit weights: there are 2^15 magnitudes, so counting each of them tells the sums and the threshold at once. One read.

use super::stats::{Bin, Bins, Histogram, PER_EXPONENT, first_bad};
use super::{CHUNK, TILE, fold_on_all_cores, ranges, simd};
use crate::dtype::Dtype;
use crate::key::{Bad, KEY_END, Keys, significand};
use crate::narrow::{BINS, DIGIT_SHIFT, Narrowed};

const LEVELS: usize = 1 << 15;

/// From here on a contest is worth a table of all levels.
pub(crate) const WORTH_LEVELS: u64 = 1 << 18;

/// How many weights have which magnitude, as it is stored.
pub(super) struct Levels {
    dtype: Dtype,
    counts: Vec<u64>,
}

impl Levels {
    /// For weights of this dtype, which has 16 bits.
    pub(super) fn new(dtype: Dtype) -> Self {
        Self { dtype, counts: vec![0; LEVELS] }
    }

    pub(super) fn add(&mut self, keys: &Keys<'_>) -> Result<(), Bad> {
        let (bytes, dtype, _) = keys.parts();
        let numbers = dtype.least(KEY_END) as usize;
        let run = (keys.len() / (2 * super::threads())).next_multiple_of(CHUNK).clamp(CHUNK, 1 << 30);
        let runs: Vec<_> = ranges(keys.len(), run).collect();
        let counts = fold_on_all_cores(
            runs.len(),
            || Ok(vec![0; LEVELS]),
            |so_far: Result<Vec<u64>, Bad>, i| {
                let mut sums = so_far?;
                let run = &bytes[2 * runs[i].start..2 * runs[i].end];
                if has_many_zeros(run) {
                    count::<4>(run, &mut sums)
                } else {
                    count::<2>(run, &mut sums)
                }
                if sums[numbers..].iter().any(|&count| count != 0) {
                    first_bad(keys, runs[i].clone(), &mut [0; TILE])?;
                }
                Ok(sums)
            },
            |a, b| match (a, b) {
                (Ok(mut sums), Ok(more)) => {
                    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    Ok(sums)
                }
                // Neighbouring runs are merged in order, so the left error is the first bad entry.
                (Err(bad), _) | (_, Err(bad)) => Err(bad),
            },
        )?;
        self.counts.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
        Ok(())
    }

    /// The same as bins.
    pub(super) fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for (key, &count) in self.keys().into_iter().zip(&self.counts) {
            if count != 0 {
                histogram.insert(key, count);
            }
        }
        histogram
    }

    /// The keys of all levels.
    fn keys(&self) -> Vec<u32> {
        let stored: Vec<u8> = (0..LEVELS as u16).flat_map(u16::to_le_bytes).collect();
        let mut keys = vec![0; LEVELS];
        Keys::new(&stored, self.dtype, None).fill(0, &mut keys);
        keys
    }

    /// All digits after the first. Returns how many entries equal the threshold, and the sum of the significands of those that are kept and
    /// agree with it in the first.
    pub(super) fn finish(&self, narrowed: &mut Narrowed, digits: usize) -> (u64, u128) {
        let keys = self.keys();
        let [first, end] = [0, 1].map(|next| self.dtype.least((narrowed.prefix + next) << DIGIT_SHIFT[0]) as usize);
        finish(narrowed, digits, (first..end).rev().map(|level| (self.counts[level], keys[level])))
    }
}

/// The levels of one bf16 row after the other, in one table: what a row has used of it is cleared before the next.
pub(super) struct RowLevels {
    counts: Vec<u32>,
    /// Where the row's levels are, but for zero.
    used: std::ops::Range<usize>,
}

/// Levels of a first digit.
const PER_DIGIT: usize = LEVELS / BINS;

impl RowLevels {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; LEVELS], used: 0..0 }
    }

    /// Count a row of bf16 magnitudes.
    pub(super) fn count(&mut self, keys: &Keys<'_>) -> Result<(), Bad> {
        self.counts[self.used.clone()].fill(0);
        self.counts[0] = 0;
        let (bytes, ..) = keys.parts();
        let (least, most) = simd::with(
            #[inline(always)]
            || {
                let levels = bytes.as_chunks::<2>().0.iter().map(|raw| u16::from_le_bytes(*raw) & 0x7fff);
                // Zeros wrap to the top, where they are not the least.
                levels.fold((u16::MAX, 0), |(least, most), level| (least.min(level.wrapping_sub(1)), most.max(level)))
            },
        );
        self.used = usize::from(least.wrapping_add(1))..usize::from(most) + 1;
        if usize::from(most) >= (KEY_END >> 16) as usize {
            self.used = 0..0;
            return first_bad(keys, 0..keys.len(), &mut [0; TILE]);
        }
        let counts = &mut self.counts;
        let mut add = |level: u64| counts[level as usize % LEVELS] += 1;
        let (fours, rest) = bytes.as_chunks::<8>();
        for four in fours {
            let four = u64::from_le_bytes(*four);
            [four, four >> 16, four >> 32, four >> 48].into_iter().for_each(&mut add);
        }
        rest.as_chunks::<2>().0.iter().for_each(|one| add(u16::from_le_bytes(*one).into()));
        Ok(())
    }

    /// As [`Levels::finish`].
    pub(super) fn finish(&self, narrowed: &mut Narrowed) -> (u64, u128) {
        let first = narrowed.prefix as usize * PER_DIGIT;
        finish(
            narrowed,
            DIGIT_SHIFT.len(),
            (first..first + PER_DIGIT).rev().map(|level| (u64::from(self.counts[level]), (level as u32) << 16)),
        )
    }
}

impl Bins for RowLevels {
    fn bin(&self, digit: usize) -> Bin {
        let (mut count, mut rests, mut squares) = (0, 0, 0);
        if let Some(levels) = self.counts.as_chunks::<PER_DIGIT>().0.get(digit) {
            for (rest, &level) in (0..).zip(levels) {
                let level = u64::from(level);
                count += level;
                rests += level * rest;
                squares += level * rest * rest;
            }
        }
        Bin { count, rests: rests << 16, squares: u128::from(squares) << 32 }
    }

    fn end(&self) -> usize {
        self.used.end.div_ceil(PER_DIGIT).next_multiple_of(PER_EXPONENT)
    }
}

/// All digits after the first, from the counts and keys of its levels, downwards.
fn finish(narrowed: &mut Narrowed, digits: usize, levels: impl Iterator<Item = (u64, u32)>) -> (u64, u128) {
    let mut kept = 0;
    for (count, key) in levels {
        let significand = u128::from(significand(key));
        if count >= narrowed.rank {
            kept += u128::from(narrowed.rank) * significand;
            narrowed.close(key, digits);
            return (count, kept);
        }
        narrowed.rank -= count;
        kept += u128::from(count) * significand;
    }
    (narrowed.rank, kept) // never: the digit has as many as the rank
}

/// What the first of some weights tell.
fn has_many_zeros(bytes: &[u8]) -> bool {
    let first = &bytes[..bytes.len().min(2 * TILE)];
    let zeros = first.as_chunks::<2>().0.iter().filter(|raw| u16::from_le_bytes(**raw) << 1 == 0).count();
    8 * zeros > first.len() / 2
}

/// In several tables, for entries in turn: equal neighbours then do not wait for each other. Two are enough for weights that are not often zero, and
/// take less of the cache. Fewer than 2^31 entries.
fn count<const TABLES: usize>(bytes: &[u8], sums: &mut [u64]) {
    let mut counts = vec![[0u32; TABLES]; LEVELS];
    let mut add = |table: usize, stored: u64| counts[stored as usize % LEVELS][table % TABLES] += 1;
    // Four weights to a load.
    let (fours, rest) = bytes.as_chunks::<8>();
    for four in fours {
        let four = u64::from_le_bytes(*four);
        add(0, four);
        add(1, four >> 16);
        add(2, four >> 32);
        add(3, four >> 48);
    }
    for one in rest.as_chunks::<2>().0 {
        add(0, u16::from_le_bytes(*one).into());
    }
    sums.iter_mut()
        .zip(&counts)
        .for_each(|(sum, tables)| *sum += tables.iter().map(|&count| u64::from(count)).sum::<u64>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tables_as_there_may_be_count_alike() {
        for (nonzero, many) in [(10, true), (2, true), (1, false)] {
            let level = |i: usize| if i.is_multiple_of(nonzero) { (i * 7919 + 1) as u16 | 1 } else { (i as u16) << 15 };
            let levels: Vec<u16> = (0..100_003).map(level).collect();
            let bytes: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes()).collect();
            assert_eq!(has_many_zeros(&bytes), many, "{nonzero}");
            let mut want = vec![1; LEVELS];
            levels.iter().for_each(|level| want[usize::from(level & 0x7fff)] += 1);
            // Added to what was there.
            let [mut two, mut four] = [vec![1; LEVELS], vec![1; LEVELS]];
            count::<2>(&bytes, &mut two);
            count::<4>(&bytes, &mut four);
            assert!(two == want && four == want, "{nonzero}");
        }
        assert!(!has_many_zeros(&[]));
    }
}
