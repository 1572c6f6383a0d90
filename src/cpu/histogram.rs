//! Histogram: the counts of the next digit, among the keys that agree with the prefix. One read.

use super::{CHUNK, TILE, fold_on_all_cores, on_all_cores, ranges, simd};
use crate::key::Keys;
use crate::narrow::{DIGIT_SHIFT, LOW_BINS, Narrowed};

/// The keys that agree up to one of the lower digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lower {
    pub(super) count: u64,
    /// Sum of what follows the digit.
    pub(super) rests: u64,
}

/// The digit after `narrowed`: how many keys have it, and the sum of what follows it.
pub(super) fn histogram(keys: &Keys<'_>, narrowed: &Narrowed) -> Box<[Lower; LOW_BINS]> {
    let chunks: Vec<_> = ranges(keys.len(), CHUNK).collect();
    let shift = DIGIT_SHIFT[narrowed.digits];
    let above = shift + LOW_BINS.trailing_zeros();
    fold_on_all_cores(
        chunks.len(),
        || Box::new([Lower::default(); LOW_BINS]),
        |mut bins, i| {
            // The count over the sum of what follows, which is less than 2^10 for each key of a chunk.
            let mut packed = [0u64; LOW_BINS];
            let mut tile = [0; TILE];
            for part in ranges(chunks[i].len(), TILE) {
                let tile = &mut tile[..part.len()];
                fill(keys, chunks[i].start + part.start, tile);
                for &mut key in agreeing(tile, above, narrowed.prefix) {
                    let rest = u64::from(key & ((1 << shift) - 1));
                    packed[(key >> shift) as usize % LOW_BINS] += rest + (1 << 32);
                }
            }
            for (bin, packed) in bins.iter_mut().zip(packed) {
                bin.count += packed >> 32;
                bin.rests += packed & 0xffff_ffff;
            }
            bins
        },
        |mut bins, more| {
            for (bin, more) in bins.iter_mut().zip(more.iter()) {
                bin.count += more.count;
                bin.rests += more.rests;
            }
            bins
        },
    )
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
    fill(keys, first, tile);
    found.extend_from_slice(agreeing(tile, DIGIT_SHIFT[0], prefix));
}

fn fill(keys: &Keys<'_>, first: usize, tile: &mut [u32]) {
    simd::with(
        #[inline(always)]
        || keys.fill(first, tile),
    );
}

/// The keys that agree with a prefix: shifted, they are it.
fn agreeing(keys: &mut [u32], shift: u32, prefix: u32) -> &mut [u32] {
    simd::bring(keys, &(prefix << shift..(prefix + 1) << shift))
}

/// The keys that `is_wanted`, in order, brought to the front. Few are, and nobody can tell which, so no branch asks: first every eight of
/// which one is are moved to the front, then of those the ones themselves.
#[inline(always)]
pub(super) fn matching(keys: &mut [u32], is_wanted: impl Fn(u32) -> bool) -> &mut [u32] {
    let (blocks, _) = keys.as_chunks_mut::<8>();
    let rest = blocks.len() * 8;
    let mut moved = 0;
    for i in 0..blocks.len() {
        let eight = blocks[i];
        let any = eight.iter().fold(false, |any, &key| any | is_wanted(key));
        blocks[moved] = eight;
        moved += usize::from(any);
    }
    let mut found = 0;
    for i in (0..moved * 8).chain(rest..keys.len()) {
        let key = keys[i];
        keys[found] = key;
        found += usize::from(is_wanted(key));
    }
    &mut keys[..found]
}
