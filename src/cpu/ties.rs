//! Ties: among entries equal to the threshold the first ones win. Finds the index from which on they lose.

use super::{CHUNK, TILE, on_all_cores, ranges, simd};
use crate::key::Keys;

/// How many keys of each chunk equal the threshold.
pub(super) fn count(keys: &Keys<'_>, threshold: u32) -> Vec<u64> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    on_all_cores(chunks.len(), |i| {
        let mut tile = [0; TILE];
        let parts = ranges(chunks[i].len(), TILE).map(|part| {
            let tile = &mut tile[..part.len()];
            simd::with(
                #[inline(always)]
                || {
                    keys.fill(chunks[i].start + part.start, tile);
                    tile.iter().map(|&key| u32::from(key == threshold)).sum::<u32>()
                },
            )
        });
        parts.map(u64::from).sum()
    })
}

/// The index just past the tie number `rank` (from 1) among the entries `range`.
///
/// There are at least `rank` ties in the range.
pub(super) fn cut(keys: &Keys<'_>, range: std::ops::Range<usize>, threshold: u32, rank: u64) -> usize {
    let mut tile = [0; TILE];
    let mut left = rank as usize;
    for part in ranges(range.len(), TILE) {
        let first = range.start + part.start;
        let tile = &mut tile[..part.len()];
        let ties = simd::with(
            #[inline(always)]
            || {
                keys.fill(first, tile);
                tile.iter().map(|&key| u32::from(key == threshold)).sum::<u32>() as usize
            },
        );
        if ties >= left {
            let last = tile.iter().enumerate().filter(|&(_, &key)| key == threshold).nth(left - 1);
            return first + last.map_or(part.len(), |(i, _)| i + 1);
        }
        left -= ties;
    }
    range.end
}
