//! Many contests of equal length: all stages of one, on one thread, while its keys are in the cache.

use super::apply::{self, Piece};
use super::bracket::{Bracket, Guess};
use super::lanes::{self, SHORT, Shape};
use super::levels::RowLevels;
use super::stats::{self, Bins, Packed};
use super::windows::{Tally, mean, tally};
use super::{CHUNK, TILE, Tile, each_at_a_desk, histogram, ranges, simd, ties, zeroed};
use crate::decision::{Group, Quota};
use crate::dtype::Dtype;
use crate::key::{Bad, KEY_END, Keys, significand};
use crate::narrow::{DIGIT_SHIFT, Narrowed};
use crate::rule::Rule;
use crate::sums::Sum;

/// What a thread needs for one row after the other.
struct Desk {
    tile: Tile,
    /// The keys of a row that stays in the cache, or of a longer one those that agree with the threshold's first digit.
    keys: Vec<u32>,
    guess: Guess,
    packed: Packed,
    levels: RowLevels,
}

/// A row of so many keys stays in the second-level cache.
const CACHED: usize = 1 << 15;

/// A bf16 row of so many entries is worth the table of all levels; one of f16 has too many.
const LEVELLED: usize = 2048;

/// Decide every row of a piece and carry it out. The error is the first bad entry; the rows before it are done.
pub(crate) fn rows(piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    // Batches end on a byte of the mask.
    let whole = if piece.mask.is_some() { 8 >> row_len.trailing_zeros().min(3) } else { 1 };
    let batch_rows = (CHUNK / row_len).next_multiple_of(whole).max(whole);
    let batch_len = batch_rows * row_len;
    let mut groups = zeroed(piece.keys().len() / row_len);
    let batches = piece.into_chunks(batch_len).into_iter().zip(groups.chunks_mut(batch_rows)).collect();
    if row_len <= SHORT {
        let shape = Shape { height: 1, width: row_len, stride: row_len, side_by_side: usize::MAX };
        lanes::each_piece(batches, shape, rule, batch_len as u64)?;
    } else {
        let done = each_at_a_desk(batches, Desk::new, |desk, i, (piece, groups)| {
            let of_batch = |bad: Bad| Bad { at: bad.at + (i * batch_len) as u64, ..bad };
            desk.batch(piece, row_len, rule, groups).map_err(of_batch)
        });
        done.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(groups)
}

/// Put `bits` into `mask`, which is zero from bit `at` on.
fn or_bits(mask: &mut [u8], at: usize, bits: &[u8]) {
    let (first, shift) = (at / 8, at % 8);
    if shift == 0 {
        mask[first..first + bits.len()].copy_from_slice(bits);
        return;
    }
    for (i, &byte) in bits.iter().enumerate() {
        mask[first + i] |= byte << shift;
        let high = byte >> (8 - shift);
        if high != 0 {
            mask[first + i + 1] |= high;
        }
    }
}

/// A threshold, the entry from which on ties lose, and the outcome that says so.
struct Decided {
    group: Group,
    threshold: u32,
    cut: usize,
}

impl Decided {
    /// Nothing had to be looked for.
    fn by(quota: &Quota, threshold: u32) -> Self {
        Self { group: quota.settle(threshold, quota.len, 0.0), threshold, cut: quota.len as usize }
    }
}

impl Desk {
    fn new() -> Self {
        Self { tile: [0; TILE], keys: Vec::new(), guess: Guess::new(), packed: Packed::new(), levels: RowLevels::new() }
    }

    fn batch(&mut self, mut piece: Piece<'_>, row_len: usize, rule: &Rule, groups: &mut [Group]) -> Result<(), Bad> {
        let mut row_mask = vec![0; row_len.div_ceil(8)];
        // A row need not begin on a byte of the mask: its bits are made elsewhere.
        let mut mask = piece.mask.take();
        let mut rows = piece.into_chunks(row_len).into_iter().enumerate().peekable();
        while let Some((row, mut piece)) = rows.next() {
            let start = row * row_len;
            piece.mask = mask.is_some().then_some(row_mask.as_mut_slice());
            let keys = piece.keys();
            let (_, dtype, norms) = keys.parts();
            let decided = if dtype == Dtype::Bf16 && norms.is_none() && row_len >= LEVELLED {
                self.levelled(&keys, rule)
            } else if row_len <= CACHED {
                self.cached(&keys, rule)
            } else {
                self.counted(&keys, rule)
            };
            let Decided { group, threshold, cut } = decided.map_err(|bad| Bad { at: bad.at + start as u64, ..bad })?;
            groups[row] = group;
            if let Some((_, next)) = rows.peek() {
                simd::fetch(next.keys().stored(0..TILE));
            }
            apply::chunk(piece, threshold, cut, &mut self.tile);
            if let Some(mask) = mask.as_deref_mut() {
                or_bits(mask, start, &row_mask);
            }
        }
        Ok(())
    }

    /// A row whose keys stay in the cache: one look for the sums, which also counts those about where the threshold may be.
    fn cached(&mut self, keys: &Keys<'_>, rule: &Rule) -> Result<Decided, Bad> {
        let len = keys.len();
        self.keys.resize(len, 0);
        let mut sums = Tally::default();
        let mut about = 0;
        let mut guess = Bracket::of(KEY_END..KEY_END);
        for part in ranges(len, TILE) {
            let tile = &mut self.keys[part.clone()];
            simd::fetch(keys.stored(part.start + TILE..part.start + 2 * TILE));
            simd::with(
                #[inline(always)]
                || {
                    keys.fill(part.start, tile);
                    let largest = tile.iter().fold(0, |most, &key| key.max(most));
                    if largest >= KEY_END {
                        return stats::bad_in(keys, tile, part.start);
                    }
                    if part.start == 0 {
                        about = mean(tile, largest);
                        guess.keys = self.guess.keys(about);
                    }
                    sums.add(tile, largest, guess.keys.end);
                    guess.count(tile);
                    Ok(())
                },
            )?;
        }
        let quota = Quota::new(&sums.moments, len as u64, rule);
        if let Some(threshold) = quota.threshold() {
            return Ok(Decided::by(&quota, threshold));
        }
        let kept = quota.kept as usize;
        let mut bracket = guess.clone();
        if !guess.is_tight(kept, len) {
            bracket = Bracket::search(&self.keys, kept);
            sums.kept = if bracket.from.start > 0 { tally(&self.keys, bracket.keys.end).kept } else { Sum::default() };
        }
        let (threshold, inside) = bracket.close(&mut self.keys, kept);
        let above = inside.iter().filter(|&&key| key > threshold).count();
        let all_ties = inside.iter().filter(|&&key| key == threshold).count();
        if above > 0 {
            sums.kept.merge(&tally(inside, threshold + 1).kept);
        }
        let ties = kept - bracket.from.start - above;
        sums.kept.add(ties as u128 * u128::from(significand(threshold)), stats::place(threshold));
        let cut = if ties < all_ties { ties::cut(keys, 0..len, threshold, ties as u64) } else { len };
        self.guess.learn(about, threshold, &guess, kept, len);
        Ok(Decided { group: quota.settle(threshold, cut as u64, sums.moments.mass(&sums.kept)), threshold, cut })
    }

    /// A row of bf16 magnitudes: levels, which tell all.
    fn levelled(&mut self, keys: &Keys<'_>, rule: &Rule) -> Result<Decided, Bad> {
        self.levels.count(keys)?;
        Ok(decide(&self.levels, keys, rule, |narrowed| self.levels.finish(narrowed)))
    }

    /// A longer row: bins, and another look for the keys of one of them.
    fn counted(&mut self, keys: &Keys<'_>, rule: &Rule) -> Result<Decided, Bad> {
        stats::chunk(keys, 0..keys.len(), &mut self.tile, &mut self.packed)?;
        Ok(decide(&self.packed, keys, rule, |narrowed| {
            self.keys.clear();
            for part in ranges(keys.len(), TILE) {
                let tile = &mut self.tile[..part.len()];
                histogram::gather(keys, part.start, tile, narrowed.prefix, &mut self.keys);
            }
            let (kept, lost) = narrowed.finish(&mut self.keys, DIGIT_SHIFT.len());
            let threshold = narrowed.threshold();
            let more = lost.iter().filter(|&&key| key == threshold).count() as u64;
            (narrowed.rank + more, kept.iter().map(|&key| u128::from(significand(key))).sum())
        }))
    }
}

/// A row's outcome. `finish` finds the digits after the first, how many keys equal the threshold, and what those that are kept of the first
/// digit add up to.
fn decide(
    bins: &impl Bins,
    keys: &Keys<'_>,
    rule: &Rule,
    finish: impl FnOnce(&mut Narrowed) -> (u64, u128),
) -> Decided {
    let len = keys.len();
    let moments = bins.moments(len as u64);
    let quota = Quota::new(&moments, len as u64, rule);
    if let Some(threshold) = quota.threshold() {
        return Decided::by(&quota, threshold);
    }
    let mut narrowed = Narrowed::new(quota.kept);
    narrowed.narrow(bins.counts());
    let mut kept_sum = bins.sum_above(narrowed.prefix);
    let (ties, kept) = finish(&mut narrowed);
    let threshold = narrowed.threshold();
    kept_sum.add(kept, stats::place(threshold));
    let cut = if ties > narrowed.rank { ties::cut(keys, 0..len, threshold, narrowed.rank) } else { len };
    Decided { group: quota.settle(threshold, cut as u64, moments.mass(&kept_sum)), threshold, cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Bytes;
    use proptest::prelude::*;

    fn told(decided: Result<Decided, Bad>) -> Result<(Group, u32, usize), u64> {
        decided.map(|d| (d.group, d.threshold, d.cut)).map_err(|bad| bad.at)
    }

    /// Decided one after the other: the outcomes, and what is kept.
    fn one_by_one(bytes: &[u8], dtype: Dtype, row_len: usize, rule: &Rule) -> Result<(Vec<Group>, Vec<bool>), u64> {
        let (mut desk, mut groups, mut kept) = (Desk::new(), Vec::new(), Vec::new());
        for (row, bytes) in bytes.chunks(row_len * dtype.size()).enumerate() {
            let keys = Keys::new(bytes, dtype, None);
            let (group, threshold, cut) = told(desk.cached(&keys, rule)).map_err(|at| (row * row_len) as u64 + at)?;
            groups.push(group);
            let mut row = vec![0; row_len];
            keys.fill(0, &mut row);
            kept.extend(row.iter().enumerate().map(|(i, &key)| key > threshold || (key == threshold && i < cut)));
        }
        Ok((groups, kept))
    }

    /// Many of them at once.
    fn side_by_side(bytes: &[u8], dtype: Dtype, row_len: usize, rule: &Rule) -> Result<(Vec<Group>, Vec<bool>), u64> {
        let len = bytes.len() / dtype.size();
        let mut groups: Vec<Group> = bytemuck::zeroed_vec(len / row_len);
        let mut mask = vec![0xaa; len.div_ceil(8)];
        let piece = Piece { bytes: Bytes::Shared(bytes), dtype, norms: None, scores: None, mask: Some(&mut mask) };
        let shape = Shape { height: 1, width: row_len, stride: row_len, side_by_side: usize::MAX };
        lanes::each_piece(vec![(piece, &mut groups)], shape, rule, 0).map_err(|bad| bad.at)?;
        Ok((groups, (0..len).map(|i| mask[i / 8] >> (i % 8) & 1 == 1).collect()))
    }

    fn keys(style: u32, len: usize, seed: u64) -> Vec<u32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32
        };
        let key = |_| match style {
            0 => next() % KEY_END,
            1 => 0x3f00_0000 + next() % 4,
            2 => {
                if next() % 10 == 0 {
                    0x3e00_0000 + next() % 0x0200_0000
                } else {
                    0
                }
            }
            3 => 0x3f80_0000,
            4 => next() % 0x0100_0000, // subnormal and just above
            5 => (100 + next() % 40) << 23 | (next() % 8) << 20,
            _ => 0x3e00_0000 + next() % 0x0180_0000,
        };
        (0..len).map(key).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        /// Sums in windows and a threshold that is guessed or searched for, sums in bins and a radix selection, and where they are short
        /// enough, many rows side by side: three ways to one answer.
        #[test]
        fn every_way_decides_a_row_alike(
            seed in any::<u64>(), style in 0u32..7, short in 0usize..4, len in 1usize..3000, rows in 1usize..70,
            budget in 0usize..5, bad in 0usize..100_000,
        ) {
            let (len, rows) = match short {
                0 => (len, rows.min(6)),
                1 => (len % SHORT + 1, rows),
                // Those that are put in order.
                _ => (len % 18 + 1, rows),
            };
            let rule = match budget {
                0 => Rule::new(),
                1 => Rule::new().with_min_kept(3),
                2 => Rule::new().with_budget(crate::Budget::Count(len as u64 / 3)),
                3 => Rule::new().with_budget(crate::Budget::Count(seed % 3 * len as u64)),
                _ => Rule::new().with_beta(crate::Beta::ratio(3, 10).map_err(|e| TestCaseError::fail(e.to_string()))?),
            };
            let mut weights = keys(style, len * rows, seed);
            if let Some(weight) = weights.get_mut(bad) {
                *weight = KEY_END + 1;
            }
            let bytes: &[u8] = bytemuck::cast_slice(&weights);
            let mut desk = Desk::new();
            for (row, bytes) in bytes.chunks(4 * len).enumerate() {
                let keys = Keys::new(bytes, Dtype::F32, None);
                // The upper halves of the keys, as numbers of their own.
                let brain: Vec<u8> = bytes.chunks(4).flat_map(|key| [key[2], key[3]]).collect();
                let keys_of_brain = Keys::new(&brain, Dtype::Bf16, None);
                let levelled = told(desk.levelled(&keys_of_brain, &rule));
                prop_assert_eq!(&levelled, &told(desk.cached(&keys_of_brain, &rule)), "row {}", row);
                prop_assert_eq!(&levelled, &told(desk.counted(&keys_of_brain, &rule)), "row {}", row);
                prop_assert_eq!(&told(desk.cached(&keys, &rule)), &told(desk.counted(&keys, &rule)), "row {}", row);
            }
            if len <= SHORT {
                // The same bytes as numbers of every dtype: f16 has more that are none, so those get an exponent that is in the middle.
                for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16, Dtype::F8E4m3, Dtype::F8E5m2] {
                    let mut bytes: Vec<u8> = bytes.chunks(4).flat_map(|key| &key[4 - dtype.size()..]).copied().collect();
                    if matches!(dtype, Dtype::F16 | Dtype::F8E5m2) && seed % 4 > 0 {
                        bytes.chunks_mut(dtype.size()).filter_map(<[u8]>::last_mut).for_each(|high| *high &= 0xbb);
                    }
                    let expected = one_by_one(&bytes, dtype, len, &rule);
                    prop_assert_eq!(side_by_side(&bytes, dtype, len, &rule), expected, "{}", dtype);
                }
            }
        }
    }
}
