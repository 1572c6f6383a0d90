//! Apply: carry the decision out. Mask bits and zeroed losers, in one read and one write.

use super::{CHUNK, TILE, Tile, each_on_all_cores, ranges, simd};
use crate::dtype::Dtype;
use crate::key::{Keys, Norms, Scores};
use crate::source::Bytes;

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
pub(super) fn apply(piece: Piece<'_>, threshold: u32, cut: usize) {
    each_on_all_cores(piece.into_chunks(CHUNK), |i, piece| {
        chunk(piece, threshold, cut.saturating_sub(i * CHUNK), &mut [0; TILE]);
    });
}

/// Carry out on one chunk.
pub(super) fn chunk(mut piece: Piece<'_>, threshold: u32, cut: usize, tile: &mut Tile) {
    if piece.norms.is_none() && piece.scores.is_none() {
        let least = [threshold, threshold + 1].map(|key| piece.dtype.least(key));
        return match piece.dtype {
            Dtype::F32 => stored(piece, least, cut, |entry| u32::from_le_bytes(entry) & 0x7fff_ffff),
            Dtype::F16 | Dtype::Bf16 => {
                stored(piece, least.map(|least| least as u16), cut, |entry| u16::from_le_bytes(entry) & 0x7fff)
            }
            Dtype::F8E4m3 | Dtype::F8E5m2 => stored(piece, least.map(|least| least as u8), cut, |[entry]| entry & 0x7f),
        };
    }
    for part in ranges(piece.keys().len(), TILE) {
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
            },
        );
    }
}

/// Entries whose mask bits are made together.
const WORD: usize = 64;

/// Carry out on weights that are their own scores: their magnitudes compare as they are stored, and no keys are made.
fn stored<const SIZE: usize, M: Copy + PartialOrd>(
    mut piece: Piece<'_>,
    [tie, above]: [M; 2],
    cut: usize,
    magnitude: impl Fn([u8; SIZE]) -> M,
) {
    let keep = |least: M| {
        let magnitude = &magnitude;
        move |_: usize, entry| magnitude(entry) >= least
    };
    let len = piece.bytes.get().len() / SIZE;
    // One word may have ties of both kinds.
    let word = (cut / WORD * WORD).min(len);
    let rest = (word + WORD).min(len);
    words(&mut piece, 0..word, keep(tie));
    words(&mut piece, word..rest, |at, entry| magnitude(entry) >= if word + at < cut { tie } else { above });
    words(&mut piece, rest..len, keep(above));
}

/// Carry out on the entries `range`, which begin on a word: kept is what `keep` says of an index among them and an entry.
fn words<const SIZE: usize>(
    piece: &mut Piece<'_>,
    range: std::ops::Range<usize>,
    keep: impl Fn(usize, [u8; SIZE]) -> bool,
) {
    if range.is_empty() {
        return; // and may begin in the middle of a byte
    }
    let mask = piece.mask.as_deref_mut().map(|mask| &mut mask[range.start / 8..range.end.div_ceil(8)]);
    let bytes = range.start * SIZE..range.end * SIZE;
    simd::with(
        #[inline(always)]
        || match (piece.bytes.get_mut(), mask) {
            (Some(all), Some(mask)) => {
                let (words, rest) = all[bytes].as_chunks_mut::<SIZE>().0.as_chunks_mut::<WORD>();
                let (bits, last) = mask.split_at_mut(words.len() * WORD / 8);
                for (i, (word, bits)) in words.iter_mut().zip(bits.as_chunks_mut().0).enumerate() {
                    *bits = zero_word(word, |at, entry| keep(i * WORD + at, entry)).to_le_bytes();
                }
                let kept = zero_word(rest, |at, entry| keep(words.len() * WORD + at, entry));
                last.copy_from_slice(&kept.to_le_bytes()[..last.len()]);
            }
            (Some(all), None) => {
                for (at, entry) in all[bytes].as_chunks_mut::<SIZE>().0.iter_mut().enumerate() {
                    *entry = if keep(at, *entry) { *entry } else { [0; SIZE] };
                }
            }
            (None, Some(mask)) => {
                let (words, rest) = piece.bytes.get()[bytes].as_chunks::<SIZE>().0.as_chunks::<WORD>();
                let (bits, last) = mask.split_at_mut(words.len() * WORD / 8);
                for (i, (word, bits)) in words.iter().zip(bits.as_chunks_mut().0).enumerate() {
                    *bits = mask_word(word, |at, entry| keep(i * WORD + at, entry)).to_le_bytes();
                }
                let kept = mask_word(rest, |at, entry| keep(words.len() * WORD + at, entry));
                last.copy_from_slice(&kept.to_le_bytes()[..last.len()]);
            }
            (None, None) => {}
        },
    );
}

/// The mask bits of a word.
#[inline(always)]
fn mask_word<const SIZE: usize>(word: &[[u8; SIZE]], keep: impl Fn(usize, [u8; SIZE]) -> bool) -> u64 {
    word.iter().enumerate().fold(0, |bits, (at, &entry)| bits | u64::from(keep(at, entry)) << at)
}

/// The same, and the losers are zeroed.
#[inline(always)]
fn zero_word<const SIZE: usize>(word: &mut [[u8; SIZE]], keep: impl Fn(usize, [u8; SIZE]) -> bool) -> u64 {
    let mut bits = 0;
    for (at, entry) in word.iter_mut().enumerate() {
        let kept = keep(at, *entry);
        bits |= u64::from(kept) << at;
        *entry = if kept { *entry } else { [0; SIZE] };
    }
    bits
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
pub(super) fn drop_losers(keys: &mut [u32], least: u32) {
    for key in keys {
        *key = if *key >= least { *key | KEPT } else { 0 };
    }
}

#[inline(always)]
fn pack(tile: &[u32], mask: &mut [u8]) {
    let (words, rest) = tile.as_chunks::<WORD>();
    let (bits, last) = mask.split_at_mut(words.len() * WORD / 8);
    for (word, bits) in words.iter().zip(bits.as_chunks_mut().0) {
        *bits = word.iter().enumerate().fold(0, |bits, (at, key)| bits | u64::from(key >> 31) << at).to_le_bytes();
    }
    for (byte, eight) in last.iter_mut().zip(rest.chunks(8)) {
        *byte = eight.iter().enumerate().fold(0, |bits, (at, key)| bits | ((key >> 31) as u8) << at);
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
