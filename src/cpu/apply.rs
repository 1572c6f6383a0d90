//! Apply: carry the decision out. Mask bits, zeroed losers and the sum of what is kept, in one read and one write.

use super::{CHUNK, TILE, Tile, each_on_all_cores, ranges, simd, stats};
use crate::dtype::Dtype;
use crate::key::{Keys, Norms, Scores};
use crate::source::Bytes;
use crate::sums::Sum;

/// A piece of weights to carry a decision out on.
pub(crate) struct Piece<'a> {
    /// Losers are zeroed when the bytes are exclusive.
    pub(crate) bytes: Bytes<'a>,
    pub(crate) dtype: Dtype,
    pub(crate) norms: Option<Norms<'a>>,
    /// One per weight, where the weights are not what is judged.
    pub(crate) scores: Option<Scores<'a>>,
    /// Where to put the mask bits: they start at the first bit.
    pub(crate) mask: Option<&'a mut [u8]>,
}

impl<'a> Piece<'a> {
    pub(crate) fn keys(&self) -> Keys<'_> {
        match self.scores {
            Some(Scores { bytes, dtype }) => Keys::new(bytes, dtype, None),
            None => Keys::new(self.bytes.get(), self.dtype, self.norms),
        }
    }

    /// Neighbouring pieces of `len` entries, and a last one of what is left. With a mask, `len` is a multiple of 8.
    pub(super) fn into_chunks(self, len: usize) -> Vec<Piece<'a>> {
        let Self { bytes, dtype, norms, scores, mask } = self;
        let mut masks = mask.map(|mask| mask.chunks_mut(len / 8));
        let mut scores = scores.map(|s| s.bytes.chunks(len * s.dtype.size()).map(move |bytes| Scores { bytes, ..s }));
        let chunk = |(i, bytes)| Piece {
            bytes,
            dtype,
            norms: norms.map(|n| Norms { column: (n.column + i * len) % n.values.len(), ..n }),
            scores: scores.as_mut().and_then(Iterator::next),
            mask: masks.as_mut().and_then(Iterator::next),
        };
        bytes.into_chunks(len * dtype.size()).into_iter().enumerate().map(chunk).collect()
    }
}

/// Carry out, chunk by chunk on all cores: kept are keys above `threshold`, and those that equal it before entry `cut`.
pub(super) fn apply(piece: Piece<'_>, threshold: u32, cut: usize) -> Sum {
    let chunks = piece.into_chunks(CHUNK);
    let sums =
        each_on_all_cores(chunks, |i, piece| chunk(piece, threshold, cut.saturating_sub(i * CHUNK), &mut [0; TILE]));
    sums.iter().fold(Sum::default(), |mut all, sum| {
        all.merge(sum);
        all
    })
}

/// Carry out on one chunk.
pub(super) fn chunk(mut piece: Piece<'_>, threshold: u32, cut: usize, tile: &mut Tile) -> Sum {
    let len = piece.keys().len();
    let mut sum = Sum::default();
    for part in ranges(len, TILE) {
        let tile = &mut tile[..part.len()];
        simd::with(
            #[inline(always)]
            || {
                piece.keys().fill(part.start, tile);
                // Before the cut a tie is kept, from there on it is not: two runs, each with a least kept key.
                let (before, after) = tile.split_at_mut(cut.saturating_sub(part.start).min(part.len()));
                drop_losers(before, threshold);
                drop_losers(after, threshold + 1);
                carry_out(tile, &mut piece, part.clone());
                for key in tile.iter_mut() {
                    *key &= !KEPT;
                }
                stats::add_sum(tile, &mut sum);
            },
        );
    }
    sum
}

/// Mask bits and zeros of the entries `part` of a piece, whose keys in `tile` are marked.
#[inline(always)]
pub(super) fn carry_out(tile: &[u32], piece: &mut Piece<'_>, part: std::ops::Range<usize>) {
    let size = piece.dtype.size();
    if let Some(mask) = piece.mask.as_deref_mut() {
        pack(tile, &mut mask[part.start / 8..part.end.div_ceil(8)]);
    }
    if let Some(bytes) = piece.bytes.get_mut() {
        zero(tile, &mut bytes[part.start * size..part.end * size], piece.dtype);
    }
}

/// Marks a kept key. Keys have 31 bits, so the bit is free, and a kept zero differs from a loser.
pub(super) const KEPT: u32 = 0x8000_0000;

/// A loser becomes zero, a kept key gets its mark.
#[inline(always)]
fn drop_losers(keys: &mut [u32], least: u32) {
    for key in keys {
        *key = if *key >= least { *key | KEPT } else { 0 };
    }
}

#[inline(always)]
fn pack(tile: &[u32], mask: &mut [u8]) {
    for (byte, eight) in mask.iter_mut().zip(tile.chunks(8)) {
        let mut bits = 0;
        for (j, key) in eight.iter().enumerate() {
            bits |= ((key >> 31) as u8) << j;
        }
        *byte = bits;
    }
}

#[inline(always)]
fn zero(tile: &[u32], bytes: &mut [u8], dtype: Dtype) {
    // All ones for a kept key: the sign bit of the mark, spread.
    let keep = |key: u32| ((key as i32) >> 31) as u32;
    match dtype {
        Dtype::F32 => {
            for (raw, &key) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(tile) {
                *raw = (u32::from_le_bytes(*raw) & keep(key)).to_le_bytes();
            }
        }
        Dtype::F16 | Dtype::Bf16 => {
            for (raw, &key) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(tile) {
                *raw = (u16::from_le_bytes(*raw) & keep(key) as u16).to_le_bytes();
            }
        }
        Dtype::F8E4m3 | Dtype::F8E5m2 => {
            for (raw, &key) in bytes.iter_mut().zip(tile) {
                *raw &= keep(key) as u8;
            }
        }
    }
}
