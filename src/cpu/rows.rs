//! Many contests of equal length: all stages of one, on one thread, while its keys are in the cache.

use super::apply::{self, Piece};
use super::short::{self, SHORT_ROW};
use super::stats::{self, Bins, Packed};
use super::{CHUNK, TILE, Tile, each_on_all_cores, histogram, ranges, ties};
use crate::decision::{Group, Quota};
use crate::key::{Bad, significand};
use crate::narrow::{DIGIT_SHIFT, Narrowed};
use crate::rule::Rule;
use crate::sums::Sum;

/// What a thread needs for one row after the other.
struct Desk {
    packed: Packed,
    tile: Tile,
    /// Keys that agree with the threshold's first digit: at most a row of them.
    candidates: Vec<u32>,
}

/// Decide every row of a piece and carry it out. The error is the first bad entry; the rows before it are done.
pub(crate) fn rows(piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    // Batches of a multiple of 8 rows end on a byte of the mask.
    let batch_rows = (CHUNK / row_len).next_multiple_of(8).max(8);
    let batch_len = batch_rows * row_len;
    let batches = piece.into_chunks(batch_len);
    let results = each_on_all_cores(batches, |i, piece| {
        let batch = if row_len <= SHORT_ROW { short::batch } else { batch };
        batch(piece, row_len, rule).map_err(|bad| Bad { at: bad.at + (i * batch_len) as u64, ..bad })
    });
    let mut groups = Vec::new();
    for result in results {
        groups.extend(result?);
    }
    Ok(groups)
}

fn batch(mut piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    let mut desk = Desk { packed: Packed::new(), tile: [0; TILE], candidates: Vec::new() };
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
        stats::chunk(&keys, 0..len, &mut self.tile, &mut self.packed)?;
        let moments = self.packed.moments(len as u64);
        let quota = Quota::new(&moments, len as u64, rule);
        let (mut threshold, mut cut, mut kept_sum) = (quota.threshold().unwrap_or(0), len, Sum::default());
        if quota.threshold().is_none() {
            let mut narrowed = Narrowed::new(quota.kept);
            narrowed.narrow(self.packed.counts());
            kept_sum = self.packed.sum_above(narrowed.prefix);
            self.candidates.clear();
            for part in ranges(len, TILE) {
                let tile = &mut self.tile[..part.len()];
                histogram::gather(&keys, part.start, tile, narrowed.prefix, &mut self.candidates);
            }
            let (kept, lost) = narrowed.finish(&mut self.candidates, DIGIT_SHIFT.len());
            threshold = narrowed.threshold();
            if lost.contains(&threshold) {
                cut = ties::cut(&keys, 0..len, threshold, narrowed.rank);
            }
            kept_sum.add(kept.iter().map(|&key| u128::from(significand(key))).sum(), stats::place(threshold));
        }
        apply::chunk(piece, threshold, cut, &mut self.tile);
        Ok(quota.settle(threshold, cut as u64, moments.mass(&kept_sum)))
    }
}
