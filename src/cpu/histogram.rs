//! Histogram: the counts of the next digit, among the keys that agree with the prefix. One read.

use super::{CHUNK, TILE, on_all_cores, ranges, simd};
use crate::key::Keys;
use crate::narrow::{DIGIT_SHIFT, LOW_BINS, Narrowed};

/// Counts of the digit after `narrowed`, one table per chunk of the piece.
pub(super) fn histogram(keys: &Keys<'_>, narrowed: &Narrowed) -> Vec<Box<[u32; LOW_BINS]>> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    let shift = DIGIT_SHIFT[narrowed.digits];
    let above = shift + LOW_BINS.trailing_zeros();
    on_all_cores(chunks.len(), |i| {
        let mut counts = Box::new([0; LOW_BINS]);
        let mut tile = [0; TILE];
        for part in ranges(chunks[i].len(), TILE) {
            let tile = &mut tile[..part.len()];
            simd::with(
                #[inline(always)]
                || {
                    keys.fill(chunks[i].start + part.start, tile);
                    agreeing(tile, above, narrowed.prefix, |key| {
                        counts[(key >> shift) as usize & (LOW_BINS - 1)] += 1;
                    });
                },
            );
        }
        counts
    })
}

/// The keys of each chunk whose first digit is `prefix`, in order.
pub(super) fn candidates(keys: &Keys<'_>, prefix: u32) -> Vec<Vec<u32>> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    on_all_cores(chunks.len(), |i| {
        let mut found = Vec::new();
        let mut tile = [0; TILE];
        for part in ranges(chunks[i].len(), TILE) {
            gather(keys, chunks[i].start + part.start, &mut tile[..part.len()], prefix, &mut found);
        }
        found
    })
}

/// Add the keys of one tile whose first digit is `prefix`.
pub(super) fn gather(keys: &Keys<'_>, first: usize, tile: &mut [u32], prefix: u32, found: &mut Vec<u32>) {
    simd::with(
        #[inline(always)]
        || {
            keys.fill(first, tile);
            agreeing(tile, DIGIT_SHIFT[0], prefix, |key| found.push(key));
        },
    );
}

/// Call `take` with every key that, shifted, is the prefix. Few are: one test for sixteen of them.
#[inline(always)]
fn agreeing(tile: &[u32], shift: u32, prefix: u32, mut take: impl FnMut(u32)) {
    let (blocks, rest) = tile.as_chunks::<16>();
    for block in blocks {
        let mut hits = 0u32;
        for key in block {
            hits |= u32::from(key >> shift == prefix);
        }
        if hits != 0 {
            block.iter().filter(|&key| key >> shift == prefix).for_each(|&key| take(key));
        }
    }
    rest.iter().filter(|&key| key >> shift == prefix).for_each(|&key| take(key));
}
