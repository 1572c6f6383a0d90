//! Many contests of equal length: all stages of one, on one thread, while its keys are in the cache.

use super::apply::{self, Piece};
use super::levels::RowLevels;
use super::short::{self, SHORT_ROW};
use super::stats::{self, Bins, Packed};
use super::{CHUNK, TILE, Tile, each_at_a_desk, histogram, ranges, ties};
use crate::decision::{Group, Quota};
use crate::dtype::Dtype;
use crate::key::{Bad, Keys, significand};
use crate::narrow::{DIGIT_SHIFT, Narrowed};
use crate::rule::Rule;

/// What a thread needs for one row after the other.
struct Desk {
    /// For bf16 magnitudes; a row of f16 ones has too many levels.
    levels: Option<RowLevels>,
    packed: Packed,
    tile: Tile,
    /// Keys that agree with the threshold's first digit: at most a row of them.
    candidates: Vec<u32>,
}

/// A bf16 row of so many entries is worth the table of all levels.
const ENOUGH: usize = 2048;

/// Decide every row of a piece and carry it out. The error is the first bad entry; the rows before it are done.
pub(crate) fn rows(piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    // Batches of a multiple of 8 rows end on a byte of the mask.
    let batch_rows = (CHUNK / row_len).next_multiple_of(8).max(8);
    let batch_len = batch_rows * row_len;
    let (_, dtype, norms) = piece.keys().parts();
    let levels = dtype == Dtype::Bf16 && norms.is_none() && row_len >= ENOUGH;
    let mut groups = Vec::with_capacity(piece.keys().len() / row_len);
    let batches = piece.into_chunks(batch_len);
    let desk =
        || Desk { levels: levels.then(RowLevels::new), packed: Packed::new(), tile: [0; TILE], candidates: Vec::new() };
    let results = each_at_a_desk(batches, desk, |desk, i, piece| {
        let decided =
            if row_len <= SHORT_ROW { short::batch(piece, row_len, rule) } else { batch(desk, piece, row_len, rule) };
        decided.map_err(|bad| Bad { at: bad.at + (i * batch_len) as u64, ..bad })
    });
    for result in results {
        groups.extend(result?);
    }
    Ok(groups)
}

fn batch(desk: &mut Desk, mut piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    let mut row_mask = vec![0; row_len.div_ceil(8)];
    let mut groups = Vec::new();
    // A row need not begin on a byte of the mask: its bits are made elsewhere.
    let mut mask = piece.mask.take();
    for (row, mut row_piece) in piece.into_chunks(row_len).into_iter().enumerate() {
        let start = row * row_len;
        row_piece.mask = mask.is_some().then_some(row_mask.as_mut_slice());
        let group = desk.row(row_piece, rule).map_err(|bad| Bad { at: bad.at + start as u64, ..bad })?;
        groups.push(group);
        if let Some(mask) = mask.as_deref_mut() {
            or_bits(mask, start, &row_mask);
        }
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

impl Desk {
    fn row(&mut self, piece: Piece<'_>, rule: &Rule) -> Result<Group, Bad> {
        let keys = piece.keys();
        let len = keys.len();
        let (group, threshold, cut) = match &mut self.levels {
            Some(levels) => {
                levels.count(&keys)?;
                let finish = |narrowed: &mut Narrowed| levels.finish(narrowed);
                decide(levels, finish, &keys, rule)
            }
            None => {
                stats::chunk(&keys, 0..len, &mut self.tile, &mut self.packed)?;
                let finish = |narrowed: &mut Narrowed| {
                    self.candidates.clear();
                    for part in ranges(len, TILE) {
                        let tile = &mut self.tile[..part.len()];
                        histogram::gather(&keys, part.start, tile, narrowed.prefix, &mut self.candidates);
                    }
                    let (kept, lost) = narrowed.finish(&mut self.candidates, DIGIT_SHIFT.len());
                    let threshold = narrowed.threshold();
                    let more = lost.iter().filter(|&&key| key == threshold).count() as u64;
                    (narrowed.rank + more, kept.iter().map(|&key| u128::from(significand(key))).sum())
                };
                decide(&self.packed, finish, &keys, rule)
            }
        };
        apply::chunk(piece, threshold, cut, &mut self.tile);
        Ok(group)
    }
}

/// The outcome of a row, the threshold and the cut. `finish` finds the digits after the first, how many keys equal the threshold, and what those
/// that are kept of the first digit add up to.
fn decide(
    bins: &impl Bins,
    finish: impl FnOnce(&mut Narrowed) -> (u64, u128),
    keys: &Keys<'_>,
    rule: &Rule,
) -> (Group, u32, usize) {
    let len = keys.len();
    let moments = bins.moments(len as u64);
    let quota = Quota::new(&moments, len as u64, rule);
    if let Some(threshold) = quota.threshold() {
        return (quota.settle(threshold, len as u64, 0.0), threshold, len);
    }
    let mut narrowed = Narrowed::new(quota.kept);
    narrowed.narrow(bins.counts());
    let mut kept_sum = bins.sum_above(narrowed.prefix);
    let (ties, kept) = finish(&mut narrowed);
    let threshold = narrowed.threshold();
    kept_sum.add(kept, stats::place(threshold));
    let cut = if ties > narrowed.rank { ties::cut(keys, 0..len, threshold, narrowed.rank) } else { len };
    (quota.settle(threshold, cut as u64, moments.mass(&kept_sum)), threshold, cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Bytes;
    use proptest::prelude::*;

    fn run(
        bytes: &[u8],
        dtype: Dtype,
        row_len: usize,
    ) -> Result<(Vec<Group>, Vec<u8>), (u64, crate::error::NonFinite)> {
        let mut mask = vec![0; (bytes.len() / dtype.size()).div_ceil(8)];
        let piece = Piece { bytes: Bytes::Shared(bytes), dtype, norms: None, scores: None, mask: Some(&mut mask) };
        let groups = rows(piece, row_len, &Rule::new()).map_err(|bad| (bad.at, bad.what))?;
        Ok((groups, mask))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        /// The same numbers as bf16, whose levels are counted, and as f32, whose keys are added to bins.
        #[test]
        fn levels_tell_what_bins_tell(
            seed in any::<u64>(), row_len in ENOUGH..ENOUGH + 70, rows in 1usize..4, style in 0u32..5, bad in 0usize..100_000,
        ) {
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as u16
            };
            let mut levels: Vec<u16> = (0..rows * row_len).map(|_| match style {
                0 => next() % 0x7f80,
                1 => 0x3f00 + next() % 4,
                2 => if next() % 10 == 0 { next() % 0x4000 } else { 0x8000 },
                3 => 0xbf80,
                _ => next() % 0x100, // subnormal and just above
            }).collect();
            if let Some(level) = levels.get_mut(bad) {
                *level = 0x7f80 | next();
            }
            let narrow: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes()).collect();
            let wide: Vec<u8> = levels.iter().flat_map(|level| (u32::from(*level) << 16).to_le_bytes()).collect();
            prop_assert_eq!(run(&narrow, Dtype::Bf16, row_len), run(&wide, Dtype::F32, row_len));
        }
    }
}
