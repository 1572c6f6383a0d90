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
pub(crate) fn apply(piece: Piece<'_>, threshold: u32, cut: usize) {
    each_on_all_cores(piece.into_chunks(CHUNK), |i, piece| {
        chunk(piece, threshold, cut.saturating_sub(i * CHUNK), &mut [0; TILE]);
    });
}

/// Carry out on one chunk.
pub(super) fn chunk(mut piece: Piece<'_>, threshold: u32, cut: usize, tile: &mut Tile) {
    if piece.norms.is_none() && piece.scores.is_none() {
        let least = [threshold, threshold + 1].map(|key| piece.dtype.least(key));
        return match piece.dtype {
            Dtype::F32 => stored::<u32>(piece, least, cut),
            Dtype::F16 | Dtype::Bf16 => stored::<u16>(piece, least, cut),
            Dtype::F8E4m3 | Dtype::F8E5m2 => stored::<u8>(piece, least, cut),
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

/// A weight as it is stored, when it is its own score: magnitudes compare as their bits do, and no keys are made.
trait Stored: Copy {
    /// As the bytes of a file.
    type Bytes: Copy;
    const ZERO: Self::Bytes;
    fn all(bytes: &[u8]) -> &[Self::Bytes];
    fn all_mut(bytes: &mut [u8]) -> &mut [Self::Bytes];
    fn read(bytes: Self::Bytes) -> Self;
    fn write(self) -> Self::Bytes;
    /// All ones where the magnitude is less than this, which has no sign, else zero.
    fn lost(self, least: u32) -> Self;
    fn and_not(self, lost: Self) -> Self;
    fn is_zero(self) -> bool;
    /// Zero, unless that bit is set.
    fn and_bit(self, bits: u32, at: usize) -> Self;
}

macro_rules! stored {
    ($($type:ty, $signed:ty;)*) => {$(
        impl Stored for $type {
            type Bytes = [u8; size_of::<$type>()];
            const ZERO: Self::Bytes = [0; size_of::<$type>()];

            #[inline(always)]
            fn all(bytes: &[u8]) -> &[Self::Bytes] {
                bytes.as_chunks().0
            }

            #[inline(always)]
            fn all_mut(bytes: &mut [u8]) -> &mut [Self::Bytes] {
                bytes.as_chunks_mut().0
            }

            #[inline(always)]
            fn read(bytes: Self::Bytes) -> Self {
                Self::from_le_bytes(bytes)
            }

            #[inline(always)]
            fn write(self) -> Self::Bytes {
                self.to_le_bytes()
            }

            #[inline(always)]
            fn lost(self, least: u32) -> Self {
                let magnitude = self & (Self::MAX >> 1);
                (magnitude.wrapping_sub(least as Self) as $signed >> (Self::BITS - 1)) as Self
            }

            #[inline(always)]
            fn and_not(self, lost: Self) -> Self {
                self & !lost
            }

            #[inline(always)]
            fn is_zero(self) -> bool {
                self == 0
            }

            #[inline(always)]
            fn and_bit(self, bits: u32, at: usize) -> Self {
                self & ((bits >> at & 1) as Self).wrapping_neg()
            }
        }
    )*};
}

stored! {
    u8, i8;
    u16, i16;
    u32, i32;
}

/// Entries whose mask bits are made together.
const WORD: usize = 64;

/// Carry out on weights that are their own scores. `least` kept magnitudes: of ties, and above them.
fn stored<T: Stored>(mut piece: Piece<'_>, [tie, above]: [u32; 2], cut: usize) {
    let len = T::all(piece.bytes.get()).len();
    // One word may have ties of both kinds.
    let word = (cut / WORD * WORD).min(len);
    let rest = (word + WORD).min(len);
    words::<T>(&mut piece, 0..word, move |_| tie);
    words::<T>(&mut piece, word..rest, move |at| if word + at < cut { tie } else { above });
    words::<T>(&mut piece, rest..len, move |_| above);
}

/// Carry out on the entries `range`, which begin on a word: `least` is the least kept magnitude of an index among them.
fn words<T: Stored>(piece: &mut Piece<'_>, range: std::ops::Range<usize>, least: impl Fn(usize) -> u32) {
    if range.is_empty() {
        return; // and may begin in the middle of a byte
    }
    let mask = piece.mask.as_deref_mut().map(|mask| &mut mask[range.start / 8..range.end.div_ceil(8)]);
    let bytes = range.start * size_of::<T>()..range.end * size_of::<T>();
    simd::with(
        #[inline(always)]
        || match (piece.bytes.get_mut(), mask) {
            (Some(all), Some(mask)) => {
                let (words, rest) = T::all_mut(&mut all[bytes]).as_chunks_mut::<WORD>();
                let (bits, last) = mask.split_at_mut(words.len() * WORD / 8);
                for (i, (word, bits)) in words.iter_mut().zip(bits.as_chunks_mut().0).enumerate() {
                    *bits = zero_word::<T>(word, |at| least(i * WORD + at)).to_le_bytes();
                }
                let kept = zero_word::<T>(rest, |at| least(words.len() * WORD + at));
                last.copy_from_slice(&kept.to_le_bytes()[..last.len()]);
            }
            (Some(all), None) => {
                // By way of a copy: of zeros that are stored where losers were read the compiler makes a store under a mask, which takes many times
                // as long on processors before AVX-512.
                let mut copy = [T::ZERO; TILE];
                for (i, entries) in T::all_mut(&mut all[bytes]).chunks_mut(TILE).enumerate() {
                    let copy = &mut copy[..entries.len()];
                    for (at, (copy, entry)) in copy.iter_mut().zip(entries.iter()).enumerate() {
                        let weight = T::read(*entry);
                        *copy = weight.and_not(weight.lost(least(i * TILE + at))).write();
                    }
                    entries.copy_from_slice(copy);
                }
            }
            (None, Some(mask)) => {
                let (words, rest) = T::all(&piece.bytes.get()[bytes]).as_chunks::<WORD>();
                let (bits, last) = mask.split_at_mut(words.len() * WORD / 8);
                for (i, (word, bits)) in words.iter().zip(bits.as_chunks_mut().0).enumerate() {
                    *bits = mask_word::<T>(word, |at| least(i * WORD + at)).to_le_bytes();
                }
                let kept = mask_word::<T>(rest, |at| least(words.len() * WORD + at));
                last.copy_from_slice(&kept.to_le_bytes()[..last.len()]);
            }
            (None, None) => {}
        },
    );
}

/// The mask bits of a word.
#[inline(always)]
fn mask_word<T: Stored>(word: &[T::Bytes], least: impl Fn(usize) -> u32) -> u64 {
    let is_kept = |(at, &entry)| T::read(entry).lost(least(at)).is_zero();
    word.iter().enumerate().map(|one| (one.0, is_kept(one))).fold(0, |bits, (at, kept)| bits | u64::from(kept) << at)
}

/// The same, and the losers are zeroed.
#[inline(always)]
fn zero_word<T: Stored>(word: &mut [T::Bytes], least: impl Fn(usize) -> u32) -> u64 {
    let mut bits = 0;
    for (at, entry) in word.iter_mut().enumerate() {
        let weight = T::read(*entry);
        let lost = weight.lost(least(at));
        bits |= u64::from(lost.is_zero()) << at;
        *entry = weight.and_not(lost).write();
    }
    bits
}

/// Mask bits and zeros of the entries `part` of a piece, whose keys in `tile` are marked, and used up.
#[inline(always)]
pub(super) fn carry_out(tile: &mut [u32], piece: &mut Piece<'_>, part: std::ops::Range<usize>) {
    let size = piece.dtype.size();
    if let Some(mask) = piece.mask.as_deref_mut() {
        pack(tile, &mut mask[part.start / 8..part.end.div_ceil(8)]);
    }
    if let Some(bytes) = piece.bytes.get_mut() {
        zero(tile, &mut bytes[part.start * size..part.end * size], piece.dtype);
    }
}

/// Mask bits and zeros of the entries `part` of a piece, of which those with a bit are kept.
#[inline(always)]
pub(super) fn carry_out_bits(bits: &[u32], piece: &mut Piece<'_>, part: std::ops::Range<usize>) {
    if let Some(mask) = piece.mask.as_deref_mut() {
        let mask = &mut mask[part.start / 8..part.end.div_ceil(8)];
        mask.copy_from_slice(&bytemuck::cast_slice(bits)[..mask.len()]);
    }
    let size = piece.dtype.size();
    if let Some(bytes) = piece.bytes.get_mut() {
        let bytes = &mut bytes[part.start * size..part.end * size];
        match piece.dtype {
            Dtype::F32 => keep::<u32>(bits, bytes),
            Dtype::F16 | Dtype::Bf16 => keep::<u16>(bits, bytes),
            Dtype::F8E4m3 | Dtype::F8E5m2 => keep::<u8>(bits, bytes),
        }
    }
}

/// Zero what has no bit.
#[inline(always)]
fn keep<T: Stored>(bits: &[u32], bytes: &mut [u8]) {
    let (words, rest) = T::all_mut(bytes).as_chunks_mut::<32>();
    let last = bits.get(words.len()).copied().unwrap_or(0);
    for (word, &bits) in words.iter_mut().zip(bits) {
        // By way of a copy: see `words`.
        let mut copy = [T::ZERO; 32];
        for (at, (copy, entry)) in copy.iter_mut().zip(word.iter()).enumerate() {
            *copy = T::read(*entry).and_bit(bits, at).write();
        }
        *word = copy;
    }
    for (at, entry) in rest.iter_mut().enumerate() {
        *entry = T::read(*entry).and_bit(last, at).write();
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
fn zero(tile: &mut [u32], bytes: &mut [u8], dtype: Dtype) {
    // All ones for a kept key: the sign bit of the mark, spread.
    let keep = |key: u32| ((key as i32) >> 31) as u32;
    match dtype {
        Dtype::F32 => {
            // By way of the tile: see `words`.
            let raw = bytes.as_chunks_mut::<4>().0;
            for (key, raw) in tile.iter_mut().zip(raw.iter()) {
                *key = u32::from_le_bytes(*raw) & keep(*key);
            }
            for (key, raw) in tile.iter().zip(raw) {
                *raw = key.to_le_bytes();
            }
        }
        Dtype::F16 | Dtype::Bf16 => {
            for (raw, &mut key) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(tile) {
                *raw = (u16::from_le_bytes(*raw) & keep(key) as u16).to_le_bytes();
            }
        }
        Dtype::F8E4m3 | Dtype::F8E5m2 => {
            for (raw, &mut key) in bytes.iter_mut().zip(tile) {
                *raw &= keep(key) as u8;
            }
        }
    }
}
