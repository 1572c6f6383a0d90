//! Contests of a few keys, end to end: no bins, and where they allow it no wide integers either. A tile of rows is read and carried out
//! at once.

use super::apply::{Piece, carry_out, drop_losers};
use super::stats;
use super::{ranges, simd};
use crate::budget::{self, Effective};
use crate::decision::{Group, Quota};
use crate::key::{Bad, KEY_END, exponent};
use crate::rule::Rule;

/// Rows up to this many entries are worth no bins.
pub(super) const SHORT_ROW: usize = 512;

/// Keys that are decided between reading and carrying out: eight rows at least, so that each time begins on a byte of the mask.
const TILE: usize = 8 * SHORT_ROW;

/// Among so many keys each is compared with each; among more, the threshold is searched for.
const FEW: usize = 64;

/// Decide rows of at most [`SHORT_ROW`] entries and carry that out.
pub(super) fn batch(mut piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    let len = piece.keys().len();
    let mut groups = Vec::with_capacity(len / row_len);
    let mut tile = [0; TILE];
    for part in ranges(len, TILE / row_len / 8 * 8 * row_len) {
        let tile = &mut tile[..part.len()];
        simd::with(
            #[inline(always)]
            || {
                piece.keys().fill(part.start, tile);
                if tile.iter().copied().max().unwrap_or(0) >= KEY_END {
                    return stats::bad_in(&piece.keys(), tile, part.start);
                }
                for row in tile.chunks_exact_mut(row_len) {
                    let group = decide(row, rule);
                    let (before, after) = row.split_at_mut(group.cut as usize);
                    drop_losers(before, group.threshold.to_bits());
                    drop_losers(after, group.threshold.to_bits() + 1);
                    groups.push(group);
                }
                carry_out(tile, &mut piece, part.clone());
                Ok(())
            },
        )?;
    }
    Ok(groups)
}

#[inline(always)]
fn decide(row: &[u32], rule: &Rule) -> Group {
    let len = row.len() as u64;
    let top = exponent(row.iter().copied().max().unwrap_or(0));
    let window = stats::add_window(row, top);
    let effective = if window.exact { Effective::short(window.sum.into(), window.square(), len) } else { None };
    if effective.is_none() && (window.sum != 0 || !window.exact) {
        return decide_wide(row, rule);
    }
    let quota = Quota::of(effective, len, rule);
    if let Some(threshold) = quota.threshold() {
        return quota.settle(threshold, len, 0.0);
    }
    let (threshold, cut) = select(row, quota.kept as usize);
    let kept: u64 = row
        .iter()
        .enumerate()
        .map(|(i, &key)| {
            let least = threshold + u32::from(i >= cut);
            if key >= least { stats::in_window(key, top).0 } else { 0 }
        })
        .sum();
    quota.settle(threshold, cut as u64, budget::mass(kept, window.sum))
}

/// As [`decide`], for scores so far apart that no window holds them.
#[cold]
fn decide_wide(row: &[u32], rule: &Rule) -> Group {
    let len = row.len() as u64;
    let mut scratch = [0; SHORT_ROW];
    let scratch = &mut scratch[..row.len()];
    scratch.copy_from_slice(row);
    let moments = stats::moments(scratch);
    let quota = Quota::new(&moments, len, rule);
    if let Some(threshold) = quota.threshold() {
        return quota.settle(threshold, len, 0.0);
    }
    let (threshold, cut) = select(row, quota.kept as usize);
    scratch.copy_from_slice(row);
    let (before, after) = scratch.split_at_mut(cut);
    before.iter_mut().for_each(|key| *key = if *key >= threshold { *key } else { 0 });
    after.iter_mut().for_each(|key| *key = if *key > threshold { *key } else { 0 });
    quota.settle(threshold, cut as u64, moments.mass(&stats::moments(scratch).sum))
}

/// The least kept key, and the index from which on those that equal it lose, or the row's length.
#[inline(always)]
fn select(row: &[u32], kept: usize) -> (u32, usize) {
    let threshold = if row.len() <= FEW { rank_all(row, kept) } else { search(row, kept) };
    let (mut above, mut ties) = (0, 0);
    for &key in row {
        above += usize::from(key > threshold);
        ties += usize::from(key == threshold);
    }
    if above + ties == kept {
        return (threshold, row.len());
    }
    let last = row.iter().enumerate().filter(|&(_, &key)| key == threshold).nth(kept - above - 1);
    (threshold, last.map_or(row.len(), |(at, _)| at + 1))
}

/// The key of a rank: the least of those that fewer than `kept` are above.
#[inline(always)]
fn rank_all(row: &[u32], kept: usize) -> u32 {
    // Zeros behind the row change nothing: where they have the rank, so has one of the row's own.
    const LANES: usize = 16;
    let mut keys = [0; FEW];
    keys[..row.len()].copy_from_slice(row);
    let mut least = u32::MAX;
    for lanes in keys[..row.len().next_multiple_of(LANES)].as_chunks::<LANES>().0 {
        let mut above = [0; LANES];
        for &other in row {
            for (above, &key) in above.iter_mut().zip(lanes) {
                *above += u32::from(other > key);
            }
        }
        for (&key, above) in lanes.iter().zip(above) {
            least = least.min(if (above as usize) < kept { key } else { u32::MAX });
        }
    }
    least
}

fn search(row: &[u32], kept: usize) -> u32 {
    let mut scratch = [0; SHORT_ROW];
    let scratch = &mut scratch[..row.len()];
    scratch.copy_from_slice(row);
    *scratch.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a)).1
}
