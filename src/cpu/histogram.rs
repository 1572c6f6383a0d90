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
                    for eight in tile.chunks(8) {
                        // Few keys agree with the prefix: one test for eight of them.
                        if eight.iter().fold(false, |any, key| any | (key >> above == narrowed.prefix)) {
                            for key in eight {
                                if key >> above == narrowed.prefix {
                                    counts[(key >> shift) as usize & (LOW_BINS - 1)] += 1;
                                }
                            }
                        }
                    }
                },
            );
        }
        counts
    })
}
