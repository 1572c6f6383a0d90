//! Contests of a few keys, end to end: no bins, and where they allow it no wide integers either. A tile of rows is read and carried out
//! at once.

use super::apply::{Piece, carry_out, drop_losers};
use super::windows::{self, HALF, Window};
use super::{ranges, simd, stats};
use crate::budget::{self, Effective};
use crate::decision::{Group, Quota};
use crate::key::{Bad, KEY_END, exponent};
use crate::rule::Rule;

/// Rows up to this many entries are worth no bins.
pub(super) const SHORT_ROW: usize = 512;

/// Keys that are decided between reading and carrying out: eight rows at least, so that each time begins on a byte of the mask.
const TILE: usize = 8 * SHORT_ROW;

/// Keys that are looked at side by side, in loops of a length that the compiler knows.
const LANES: usize = 16;
type Lanes = [u32; LANES];

/// Among so many keys each is compared with each; among more, the threshold is searched for.
const FEW: usize = 64;

/// Decide rows of at most [`SHORT_ROW`] entries and carry that out.
pub(super) fn batch(mut piece: Piece<'_>, row_len: usize, rule: &Rule) -> Result<Vec<Group>, Bad> {
    let len = piece.keys().len();
    let mut groups = Vec::with_capacity(len / row_len);
    let (mut tile, mut lanes) = ([0; TILE], [0; SHORT_ROW]);
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
                    let group = match row.as_chunks::<LANES>() {
                        (lanes, []) => decide(lanes, row_len, rule),
                        // Zeros behind a row change no sum and no rank.
                        _ => {
                            lanes[..row_len].copy_from_slice(row);
                            decide(lanes[..row_len.next_multiple_of(LANES)].as_chunks().0, row_len, rule)
                        }
                    };
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
fn decide(lanes: &[Lanes], len: usize, rule: &Rule) -> Group {
    let largest = fold(lanes, u32::max);
    let top = exponent(largest);
    let window = window(lanes, top);
    let effective = if window.exact { Effective::short(window.sum.into(), window.square(), len as u64) } else { None };
    if effective.is_none() && largest != 0 {
        return decide_wide(&lanes.as_flattened()[..len], rule);
    }
    let quota = Quota::of(effective, len as u64, rule);
    if let Some(threshold) = quota.threshold() {
        return quota.settle(threshold, len as u64, 0.0);
    }
    let kept = quota.kept as usize;
    let threshold = if len <= FEW { rank_all(lanes, kept) } else { search(&lanes.as_flattened()[..len], kept) };
    let (mut above, mut sums) = ([0; LANES], [0; LANES]);
    for keys in lanes {
        for i in 0..LANES {
            let more = keys[i] > threshold;
            above[i] += u32::from(more);
            sums[i] += if more { windows::in_window(keys[i], top).0 } else { 0 };
        }
    }
    let ties = kept as u64 - u64::from(above.iter().sum::<u32>());
    let sum = sums.iter().sum::<u64>() + ties * windows::in_window(threshold, top).0;
    let cut = cut(&lanes.as_flattened()[..len], threshold, ties as usize);
    quota.settle(threshold, cut as u64, budget::mass(sum, window.sum))
}

/// The largest key, and the like.
#[inline(always)]
fn fold(lanes: &[Lanes], best: impl Fn(u32, u32) -> u32) -> u32 {
    let mut found = lanes[0];
    for keys in &lanes[1..] {
        for i in 0..LANES {
            found[i] = best(found[i], keys[i]);
        }
    }
    found.into_iter().reduce(best).unwrap_or(0)
}

/// The sums of all keys that fit.
#[inline(always)]
fn window(lanes: &[Lanes], top: u32) -> Window {
    let [mut sum, mut low, mut cross, mut high, mut lost] = [[0; LANES]; 5];
    for keys in lanes {
        for i in 0..LANES {
            let (value, back, wide) = windows::in_window(keys[i], top);
            let value = if back == wide { value } else { 0 };
            let (a, b) = (value >> HALF, value & ((1 << HALF) - 1));
            lost[i] |= back ^ wide;
            sum[i] += value;
            low[i] += b * b;
            cross[i] += a * b;
            high[i] += a * a;
        }
    }
    let [sum, low, cross, high] = [sum, low, cross, high].map(|lanes: [u64; LANES]| lanes.into_iter().sum());
    Window { sum, squares: [low, cross, high], exact: lost.into_iter().fold(0, |all, lost| all | lost) == 0 }
}

/// The index from which on ties lose, or the row's length.
#[inline(always)]
fn cut(row: &[u32], threshold: u32, kept_ties: usize) -> usize {
    let ties = row.iter().map(|&key| u32::from(key == threshold)).sum::<u32>() as usize;
    if ties == kept_ties {
        return row.len();
    }
    let last = row.iter().enumerate().filter(|&(_, &key)| key == threshold).nth(kept_ties - 1);
    last.map_or(row.len(), |(at, _)| at + 1)
}

/// As [`decide`], for scores so far apart that no window holds them.
#[cold]
fn decide_wide(row: &[u32], rule: &Rule) -> Group {
    let len = row.len() as u64;
    let mut scratch = [0; SHORT_ROW];
    let scratch = &mut scratch[..row.len()];
    scratch.copy_from_slice(row);
    let moments = windows::moments(scratch);
    let quota = Quota::new(&moments, len, rule);
    if let Some(threshold) = quota.threshold() {
        return quota.settle(threshold, len, 0.0);
    }
    let threshold = search(row, quota.kept as usize);
    let above = row.iter().filter(|&&key| key > threshold).count();
    let cut = cut(row, threshold, quota.kept as usize - above);
    scratch.copy_from_slice(row);
    let (before, after) = scratch.split_at_mut(cut);
    before.iter_mut().for_each(|key| *key = if *key >= threshold { *key } else { 0 });
    after.iter_mut().for_each(|key| *key = if *key > threshold { *key } else { 0 });
    quota.settle(threshold, cut as u64, moments.mass(&windows::moments(scratch).sum))
}

/// The key of a rank: the least of those that fewer than `kept` are above. Where that is one of the zeros behind the row, it is also one of
/// the row's own.
#[inline(always)]
fn rank_all(lanes: &[Lanes], kept: usize) -> u32 {
    let mut least = [u32::MAX; LANES];
    for keys in lanes {
        let mut above = [0; LANES];
        for &other in lanes.as_flattened() {
            for i in 0..LANES {
                above[i] += u32::from(other > keys[i]);
            }
        }
        for i in 0..LANES {
            least[i] = least[i].min(if above[i] < kept as u32 { keys[i] } else { u32::MAX });
        }
    }
    least.into_iter().fold(u32::MAX, u32::min)
}

/// The same for more keys.
fn search(row: &[u32], kept: usize) -> u32 {
    let mut scratch = [0; SHORT_ROW];
    let scratch = &mut scratch[..row.len()];
    scratch.copy_from_slice(row);
    *scratch.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a)).1
}
