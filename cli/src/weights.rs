//! The selected tensors of a checkpoint as the library's source: read ahead and written behind the piece that is worked on.

use crate::beside::ScorePlace;
use crate::histogram::{Histogram, Numbers};
use crate::interrupt;
use crate::lines::Lines;
use crate::masks::MaskPlace;
use crate::norms::Norms;
use crate::overlap::{Buffer, Buffers, Piece, Place, Reader, Writer};
use crate::progress::Progress;
use crate::safetensors::{Model, TensorInfo};
use crate::sink::{First, Sink, of};
use emprune::{Dtype, Mask, Source, TensorSpec};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::mem::take;
use std::ops::Range;
use std::time::Instant;

/// Tensors that are streamed together.
pub(crate) struct Weights<'a, 'f> {
    pub(crate) shards: &'f [Model],
    /// Scores beside the weights.
    pub(crate) scores: Option<&'a Model>,
    pub(crate) score_buffer: Vec<u8>,
    /// What norms are read from, and those of one tensor: all of a checkpoint's take as much memory as a shard of it.
    pub(crate) norms: Option<&'a Norms>,
    pub(crate) norms_read: Option<(usize, Vec<f32>)>,
    /// Where the pruned bytes go, to the places that they came from; one for each shard, or none.
    pub(crate) outputs: &'f [Sink<'f>],
    pub(crate) masks: Option<Sink<'a>>,
    /// Of differences in masks, where they are not compared in order.
    pub(crate) first: &'a mut First,
    pub(crate) buffers: &'a Buffers,
    pub(crate) reader: &'a mut Reader<'f>,
    pub(crate) writer: &'a mut Writer<'f>,
    pub(crate) infos: Vec<&'f TensorInfo>,
    pub(crate) specs: Vec<TensorSpec>,
    pub(crate) parts: Vec<Part>,
    /// What one pass asks for, as far as that can be told.
    pub(crate) plan: &'a [Place<'f>],
    /// What is asked for when all of this is stored.
    pub(crate) then: Vec<Place<'f>>,
    /// Of the plan, what is asked for next.
    pub(crate) next: usize,
    /// Whether there is a pass after this one.
    pub(crate) again: bool,
    /// Pieces between two passes, by tensor and first entry, where there is memory for all of them.
    pub(crate) held: Option<BTreeMap<(usize, u64), Buffer>>,
    /// The piece that is worked on, and which one it is until it is stored.
    pub(crate) buffer: Buffer,
    pub(crate) current: Option<(usize, u64)>,
    pub(crate) piece_bytes: usize,
    pub(crate) structure_bytes: usize,
    pub(crate) progress: &'a mut Progress,
    pub(crate) clock: Clock,
}

/// One tensor: what is known of it, and what is counted while it passes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    shard: usize,
    /// Of its first byte, in input and output.
    offset: u64,
    /// What of it is streamed now.
    pub(crate) entries: Lines,
    norms: Option<NormsPlace>,
    scores: Option<ScorePlace>,
    mask: Option<MaskPlace>,
    /// Entries below this one are in `zeros_before`. A range is read several times, and counted once.
    counted: u64,
    pub(crate) zeros_before: u64,
    pub(crate) zeros_after: u64,
    /// Ones in its masks, if masks were asked for.
    pub(crate) kept: u64,
    pub(crate) seconds: f64,
    /// Of its scores, where they are to be drawn.
    pub(crate) histogram: Option<Box<Histogram>>,
    /// Of its bytes, where they are to be recognized, and where in the file it has come to.
    pub(crate) hasher: Option<Box<(blake3::Hasher, u64)>>,
}

impl Part {
    pub(crate) fn new(
        info: &TensorInfo,
        norms: Option<NormsPlace>,
        scores: Option<ScorePlace>,
        mask: Option<MaskPlace>,
    ) -> Self {
        let (offset, entries) = (info.bytes.start, Lines::run(0..info.len));
        Self { shard: info.shard, offset, entries, norms, scores, mask, ..Self::default() }
    }

    /// The norms of one row; that is the length of a row, except where one norm serves a whole vector.
    pub(crate) fn norms_len(&self) -> Option<u64> {
        self.norms.as_ref().map(|norms| norms.columns.end - norms.columns.start)
    }

    /// How its scores are stored, if there are some.
    pub(crate) fn score_dtype(&self) -> Option<Dtype> {
        self.scores.map(|place| place.dtype)
    }

    /// Go on with these entries, which are of these columns.
    pub(crate) fn go_on(&mut self, entries: Lines, columns: Range<u64>) {
        self.entries = entries;
        if let Some(norms) = &mut self.norms {
            norms.columns = columns;
        }
        self.counted = 0;
    }

    /// Hash what has not been hashed yet of bytes that were read there. Ranges are read several times, in the end all in order.
    fn hash(&mut self, offset: u64, bytes: &[u8]) {
        if let Some((hasher, to)) = self.hasher.as_deref_mut()
            && let Some(seen) = to.checked_sub(offset)
            && let Some(new) = bytes.get(seen as usize..)
        {
            hasher.update_rayon(new);
            *to += new.len() as u64;
        }
    }
}

/// The norms that a weight's scores are made with.
#[derive(Clone, Debug)]
pub(crate) struct NormsPlace {
    /// The length of the rows that have them.
    pub(crate) of_row: u64,
    /// Of these columns they are wanted: of all, except where one serves a whole vector, or where not all are streamed.
    pub(crate) columns: Range<u64>,
}

/// Time goes to the tensor whose bytes were asked for last: they are what is being worked on until the next are.
pub(crate) struct Clock {
    tensor: usize,
    since: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { tensor: 0, since: Instant::now() }
    }
}

impl Weights<'_, '_> {
    fn tick(&mut self, tensor: usize) {
        let now = Instant::now();
        self.parts[self.clock.tensor].seconds += (now - self.clock.since).as_secs_f64();
        self.clock = Clock { tensor, since: now };
    }

    /// Stop the clock and hand back what was counted.
    pub(crate) fn finish(mut self) -> Vec<Part> {
        self.tick(0);
        self.set_aside();
        self.parts
    }

    /// Read a piece, count its zeros, and say which of its entries are there for the first time: those from this one on.
    fn read(&mut self, tensor: usize, range: &Range<u64>) -> io::Result<u64> {
        interrupt::check()?;
        self.tick(tensor);
        self.fetch(tensor, range)?;
        let (part, dtype) = (&mut self.parts[tensor], self.specs[tensor].dtype);
        let size = dtype.size() as u64;
        part.hash(part.offset + part.entries.at(range.start) * size, &self.buffer);
        // What is read in strips is read once more from end to end: behind a gap, nothing is counted yet.
        let new = match part.counted {
            counted if counted < range.start => range.end,
            counted => counted.clamp(range.start, range.end),
        } - range.start;
        if range.start + new < range.end {
            part.zeros_before += count_zeros(&self.buffer[(new * size) as usize..], dtype);
            part.counted = range.end;
        }
        self.progress.loaded(tensor, range.start, self.buffer.len());
        Ok(new)
    }

    /// Have a tensor's norms at hand, if its scores are made with some.
    fn fetch_norms(&mut self, tensor: usize) -> io::Result<Option<&[f32]>> {
        let (Some(place), Some(file)) = (&self.parts[tensor].norms, self.norms) else { return Ok(None) };
        if self.norms_read.as_ref().is_none_or(|&(of, _)| of != tensor) {
            self.norms_read = None;
            let norms = file.load(self.infos[tensor], place.of_row, place.columns.clone());
            self.norms_read = Some((tensor, norms.map_err(|e| io::Error::other(format!("{e:#}")))?));
        }
        Ok(self.norms_read.as_ref().map(|(_, norms)| norms.as_slice()))
    }

    /// Count the scores of a piece: as kept where a mask says so, or those from its entry `new` on for the first time.
    fn count(&mut self, tensor: usize, new: u64, start: u64, mask: Option<&Mask>) -> io::Result<()> {
        let Some(mut histogram) = self.parts[tensor].histogram.take() else { return Ok(()) };
        self.fetch_norms(tensor)?;
        let (part, spec) = (&self.parts[tensor], self.specs[tensor]);
        let norms = part.norms.as_ref().and(self.norms_read.as_ref()).map(|(_, norms)| norms.as_slice());
        let (bytes, dtype) = scored(part, &self.buffer, &self.score_buffer, spec.dtype);
        let bytes = &bytes[new as usize * dtype.size()..];
        let numbers = Numbers { bytes, dtype, norms, column: ((start + new) % spec.row_len) as usize };
        match mask {
            Some(mask) => histogram.keep(numbers, mask),
            None => histogram.see(numbers),
        }
        self.parts[tensor].histogram = Some(histogram);
        Ok(())
    }

    /// Keep the piece that is worked on for the next pass, or its buffer for another piece.
    fn set_aside(&mut self) {
        let buffer = take(&mut self.buffer);
        match (self.current.take(), &mut self.held) {
            (Some(place), Some(held)) => drop(held.insert(place, buffer)),
            _ => self.buffers.give(buffer),
        }
    }

    /// The bytes of a range, read or held, and meanwhile those that follow.
    fn fetch(&mut self, tensor: usize, range: &Range<u64>) -> io::Result<()> {
        let part = &self.parts[tensor];
        let bytes = part.entries.part(range.clone()).bytes(self.specs[tensor].dtype.size(), part.offset);
        let place = Place { file: &self.shards[part.shard].file, bytes };
        self.set_aside();
        let held = self.held.as_mut().and_then(|held| held.remove(&(tensor, range.start)));
        let held = held.filter(|held| held.len() == place.len());
        let is_held = held.is_some();
        self.buffer = match held {
            Some(held) => held,
            None => self.reader.read(place)?,
        };
        self.current = Some((tensor, range.start));
        let at = [self.next, 0].into_iter().find(|&at| self.plan.get(at) == Some(&place));
        // Not so where parts of rows are asked for, which have gaps between.
        let Some(at) = at else { return Ok(()) };
        self.next = at + 1;
        let ends_here = is_held || self.held.is_some() || !self.again;
        let (later, first) = (&self.plan[self.next..], if ends_here { &self.then } else { self.plan });
        let later = if is_held { &[] } else { later };
        self.reader.read_ahead(later.iter().chain(first).copied())
    }
}

impl Source for Weights<'_, '_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(self.fetch_norms(tensor)?.map(Cow::Borrowed))
    }

    fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    fn structure_bytes(&self) -> usize {
        self.structure_bytes
    }

    fn load(&mut self, tensor: usize, range: Range<u64>) -> io::Result<&mut [u8]> {
        let new = self.read(tensor, &range)?;
        self.count(tensor, new, range.start, None)?;
        Ok(&mut self.buffer)
    }

    fn load_scored(&mut self, tensor: usize, range: Range<u64>) -> io::Result<(&mut [u8], &[u8])> {
        let new = self.read(tensor, &range)?;
        if let (Some(model), Some(place)) = (self.scores, self.parts[tensor].scores) {
            let bytes = self.parts[tensor].entries.part(range.clone()).bytes(place.dtype.size(), place.offset);
            self.score_buffer.resize(bytes.len as usize, 0);
            let read = Place { file: &model.file, bytes }.read(&mut self.score_buffer);
            read.map_err(of(model.path.display()))?;
        }
        self.count(tensor, new, range.start, None)?;
        Ok((&mut self.buffer, &self.score_buffer))
    }

    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<&Mask>) -> io::Result<()> {
        let (part, spec) = (&mut self.parts[tensor], self.specs[tensor]);
        part.zeros_after += count_zeros(&self.buffer, spec.dtype);
        self.progress.stored(self.buffer.len());
        let (entries, is_early) = (part.entries.part(range.clone()), part.entries.are_apart());
        if let Some(mask) = mask {
            part.kept += mask.kept();
            if let (Some(file), Some(place)) = (self.masks, part.mask) {
                let done = place.put(file, entries, mask).map_err(of("the masks file"));
                if is_early { self.first.put_off(done)? } else { done? }
            }
            self.count(tensor, 0, range.start, Some(mask))?;
        }
        let (part, buffer) = (&self.parts[tensor], take(&mut self.buffer));
        (self.current, self.again) = (None, false);
        match self.outputs.get(part.shard) {
            Some(&sink) => {
                let bytes = entries.bytes(spec.dtype.size(), part.offset);
                self.writer.put(Piece { sink, bytes, tensor: self.infos[tensor], is_early }, buffer)
            }
            None => {
                self.buffers.give(buffer);
                Ok(())
            }
        }
    }
}

/// What the scores of a piece are made of.
fn scored<'b>(part: &Part, weights: &'b [u8], scores: &'b [u8], dtype: Dtype) -> (&'b [u8], Dtype) {
    part.scores.map_or((weights, dtype), |place| (scores, place.dtype))
}

/// Bytes that one thread counts.
const COUNTED: usize = 1 << 18;

/// Entries that are +0 or -0.
pub(crate) fn count_zeros(bytes: &[u8], dtype: Dtype) -> u64 {
    bytes.par_chunks(COUNTED).map(|bytes| zeros_of(bytes, dtype)).sum()
}

fn zeros_of(bytes: &[u8], dtype: Dtype) -> u64 {
    // Blocks whose counts fit an entry's own width: the compiler then keeps the counts in vectors as wide as the entries.
    match dtype.size() {
        4 => bytes.as_chunks::<4>().0.chunks(1 << 16).map(zeros_of_4).sum(),
        1 => bytes.chunks(u8::MAX as usize).map(zeros_of_1).sum(),
        _ => bytes.as_chunks::<2>().0.chunks(u16::MAX as usize).map(zeros_of_2).sum(),
    }
}

fn zeros_of_4(entries: &[[u8; 4]]) -> u64 {
    entries.iter().map(|entry| u32::from(u32::from_le_bytes(*entry) << 1 == 0)).sum::<u32>().into()
}

fn zeros_of_1(entries: &[u8]) -> u64 {
    entries.iter().map(|entry| u8::from(entry << 1 == 0)).sum::<u8>().into()
}

fn zeros_of_2(entries: &[[u8; 2]]) -> u64 {
    entries.iter().map(|entry| u16::from(u16::from_le_bytes(*entry) << 1 == 0)).sum::<u16>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_by_value_and_not_by_sign() {
        let values = [0.0f32, -0.0, f32::from_bits(1), -1.0, f32::NAN];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(count_zeros(&bytes, Dtype::F32), 2);
        // 0x0000 0x8000 0x0001 0x0080 0x7fff: as f16 and as bf16 two zeros.
        let bytes = [0, 0, 0, 0x80, 1, 0, 0x80, 0, 0xff, 0x7f];
        assert_eq!(count_zeros(&bytes, Dtype::F16), 2);
        assert_eq!(count_zeros(&bytes, Dtype::Bf16), 2);
        assert_eq!(count_zeros(&[0, 0x80, 1, 0x81, 0x7f], Dtype::F8E4m3), 2);
        for len in [65534, 65535, 65536, 65537, 200_000] {
            assert_eq!(count_zeros(&vec![0; 2 * len], Dtype::F16), len as u64, "the counts of blocks do not overflow");
            assert_eq!(count_zeros(&vec![0; 4 * len], Dtype::F32), len as u64);
            assert_eq!(count_zeros(&vec![0; len], Dtype::F8E5m2), len as u64);
        }
    }
}
