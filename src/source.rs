//! Weights that need not be in memory: a source that can be read again, piece by piece.

use crate::dtype::Dtype;
use crate::key::Scores;
use crate::mask::Mask;
use crate::tensor::{Tensor, TensorMut, TensorSpec};
use std::borrow::Cow;
use std::io;
use std::ops::Range;

/// What is wanted besides the decision. By default nothing: a dry run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Zero the losers in the bytes that [`Source::load`] gave.
    pub zeros: bool,
    /// Hand each range's mask to [`Source::store`].
    pub masks: bool,
}

/// Tensors whose entries can be read more than once, such as a file.
///
/// With [`Granularity::Global`](crate::Granularity::Global) every pass visits all tensors; else they are finished one after the other, in order.
pub trait Source {
    /// What there is, in the order in which it competes: among equal scores the earlier entry wins.
    fn tensors(&self) -> &[TensorSpec];

    /// One norm per column of a tensor, for [`Score::Wanda`](crate::Score::Wanda). Asked for before anything is read, whatever the score: norms that
    /// it does not take are refused, as segments are that the granularity does not. Then whenever a
    /// pass comes to the tensor: those of one tensor are kept meanwhile, so a source need not have all of them in memory.
    ///
    /// # Errors
    /// Whatever stops the reading; it ends the call.
    fn norms(&mut self, _tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(None)
    }

    /// The lengths of a tensor's contests, for [`Granularity::Segments`](crate::Granularity::Segments): they fill the tensor.
    fn segments(&self, _tensor: usize) -> Option<&[u64]> {
        None
    }

    /// The most bytes of weights, of scores and of norms that one `load` may ask for. With rows as contests, a row that fits in this many, and
    /// in a device's binding, is never cut. Blocks and columns are laid end to end as keys of four bytes, so these take up to four times as much again.
    /// A device holds 8192 bytes for each piece of a
    /// contest in one binding: a contest of more pieces than that has room for, at least 16384, is refused as a `Limit`.
    fn piece_bytes(&self) -> usize {
        64 << 20
    }

    /// The most bytes that the scores of structures may take that are made of the weights, four for each: rows, columns, heads or channels
    /// that have more are scored anew, some at a time, in every pass over their contest, of which there are up to six. What stays of
    /// each structure is a bit or two. The scores of groups, whose members lie anywhere, are kept; but the exact sums that they are made of, some hundred
    /// and fifty bytes each, take no more than this either, or 32768 of them: where there are more they are made in several passes.
    fn structure_bytes(&self) -> usize {
        usize::MAX
    }

    /// The bytes of the entries `range` of `tensor`, little-endian. Each range is asked for one to six times, ascending
    /// within a pass; with structures more often, where [`structure_bytes`](Self::structure_bytes) is little. Where a row of blocks (or all columns) is larger than a piece, parts of rows are asked for, some blocks at
    /// a time, together with what lies between them where that is little, and then everything once more, ascending.
    ///
    /// A device may be this call's alone meanwhile: do not wait here for threads of a pool that makes other calls to the same [`Pruner`](crate::Pruner).
    ///
    /// # Errors
    /// Whatever stops the reading; it ends the call.
    fn load(&mut self, tensor: usize, range: Range<u64>) -> io::Result<&mut [u8]>;

    /// As [`load`](Self::load), with the scores of the same entries beside the weights. Called instead of it when the rule's
    /// score is [`Score::Given`](crate::Score::Given); the tensor's [`TensorSpec::scores`] says how they are stored.
    ///
    /// # Errors
    /// As `load`.
    fn load_scored(&mut self, _tensor: usize, _range: Range<u64>) -> io::Result<(&mut [u8], &[u8])> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this source has no scores"))
    }

    /// The last word on a range, once each, ascending within a tensor. The bytes of the `load` just before now hold zeros
    /// where entries lost (if wanted); `mask` has one bit per entry of the range (if wanted).
    ///
    /// # Errors
    /// Whatever stops the writing; it ends the call.
    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<&Mask>) -> io::Result<()>;
}

/// Bytes that the driver may look at, or may also zero the losers in.
pub(crate) enum Bytes<'a> {
    Shared(&'a [u8]),
    Exclusive(&'a mut [u8]),
}

impl<'a> Bytes<'a> {
    pub(crate) fn get(&self) -> &[u8] {
        match self {
            Bytes::Shared(bytes) => bytes,
            Bytes::Exclusive(bytes) => bytes,
        }
    }

    /// The bytes to zero losers in, where that is wanted.
    pub(crate) fn get_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Bytes::Shared(_) => None,
            Bytes::Exclusive(bytes) => Some(bytes),
        }
    }

    pub(crate) fn into_chunks(self, len: usize) -> Vec<Bytes<'a>> {
        match self {
            Bytes::Shared(bytes) => bytes.chunks(len).map(Bytes::Shared).collect(),
            Bytes::Exclusive(bytes) => bytes.chunks_mut(len).map(Bytes::Exclusive).collect(),
        }
    }
}

/// What was read of a range.
pub(crate) struct Loaded<'a> {
    pub(crate) bytes: Bytes<'a>,
    pub(crate) scores: Option<Scores<'a>>,
}

/// What the driver reads from: a [`Source`], or tensors in memory.
pub(crate) trait Input {
    fn tensors(&self) -> &[TensorSpec];
    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>>;
    fn segments(&self, tensor: usize) -> Option<&[u64]>;
    fn piece_bytes(&self) -> usize;
    /// What scores of structures may take.
    fn structure_bytes(&self) -> usize {
        usize::MAX
    }
    /// The weights of a range, and their scores where `scored`.
    fn load(&mut self, tensor: usize, range: Range<u64>, scored: bool) -> io::Result<Loaded<'_>>;
    fn wants_masks(&self) -> bool;
    /// Whether nothing is to be carried out, nor stored.
    fn only_looks(&self) -> bool {
        false
    }
    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<Mask>) -> io::Result<()>;
}

/// Somebody's source.
pub(crate) struct Streamed<'a> {
    source: &'a mut dyn Source,
    /// `None` where nothing is stored.
    want: Option<Want>,
}

impl<'a> Streamed<'a> {
    pub(crate) fn new(source: &'a mut dyn Source, want: Want) -> Self {
        Self { source, want: Some(want) }
    }

    /// To be looked at.
    pub(crate) fn looked_at(source: &'a mut dyn Source) -> Self {
        Self { source, want: None }
    }
}

impl Input for Streamed<'_> {
    fn tensors(&self) -> &[TensorSpec] {
        self.source.tensors()
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        self.source.norms(tensor)
    }

    fn segments(&self, tensor: usize) -> Option<&[u64]> {
        self.source.segments(tensor)
    }

    fn piece_bytes(&self) -> usize {
        self.source.piece_bytes()
    }

    fn structure_bytes(&self) -> usize {
        self.source.structure_bytes()
    }

    fn load(&mut self, tensor: usize, range: Range<u64>, scored: bool) -> io::Result<Loaded<'_>> {
        let len = range.end - range.start;
        let expected = len * self.source.tensors()[tensor].dtype.size() as u64;
        let dtype = self.source.tensors()[tensor].scores.filter(|_| scored);
        let (bytes, scores) = match dtype {
            None => (self.source.load(tensor, range)?, None),
            Some(dtype) => {
                let (bytes, scores) = self.source.load_scored(tensor, range)?;
                check_bytes(scores, len * dtype.size() as u64)?;
                (bytes, Some(Scores { bytes: scores, dtype }))
            }
        };
        check_bytes(bytes, expected)?;
        let zeros = self.want.is_some_and(|want| want.zeros);
        Ok(Loaded { bytes: if zeros { Bytes::Exclusive(bytes) } else { Bytes::Shared(bytes) }, scores })
    }

    fn wants_masks(&self) -> bool {
        self.want.is_some_and(|want| want.masks)
    }

    fn only_looks(&self) -> bool {
        self.want.is_none()
    }

    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<Mask>) -> io::Result<()> {
        match self.want {
            Some(_) => self.source.store(tensor, range, mask.as_ref()),
            None => Ok(()),
        }
    }
}

fn check_bytes(bytes: &[u8], expected: u64) -> io::Result<()> {
    if bytes.len() as u64 != expected {
        let message = format!("the source gave {} bytes where {expected} were asked for", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
}

/// Tensors in memory, pruned where they lie.
pub(crate) struct InPlace<'s, 't> {
    tensors: &'s mut [TensorMut<'t>],
    specs: Vec<TensorSpec>,
}

impl<'s, 't> InPlace<'s, 't> {
    pub(crate) fn new(tensors: &'s mut [TensorMut<'t>]) -> Self {
        let specs = tensors.iter().map(TensorMut::spec).collect();
        Self { tensors, specs }
    }
}

impl Input for InPlace<'_, '_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(self.tensors[tensor].beside().norms.map(Cow::Borrowed))
    }

    fn segments(&self, tensor: usize) -> Option<&[u64]> {
        self.tensors[tensor].beside().segments
    }

    fn piece_bytes(&self) -> usize {
        usize::MAX
    }

    fn load(&mut self, tensor: usize, range: Range<u64>, scored: bool) -> io::Result<Loaded<'_>> {
        let scores = self.tensors[tensor].beside().scores.filter(|_| scored).map(|s| some_scores(s, &range));
        let range = byte_range(self.specs[tensor].dtype, &range);
        Ok(Loaded { bytes: Bytes::Exclusive(&mut self.tensors[tensor].bytes_mut()[range]), scores })
    }

    fn wants_masks(&self) -> bool {
        false
    }

    fn store(&mut self, _tensor: usize, _range: Range<u64>, _mask: Option<Mask>) -> io::Result<()> {
        Ok(())
    }
}

/// Tensors in memory that are only looked at; their masks are collected.
pub(crate) struct Borrowed<'s, 't> {
    tensors: &'s [Tensor<'t>],
    specs: Vec<TensorSpec>,
    pub(crate) masks: Vec<Mask>,
}

impl<'s, 't> Borrowed<'s, 't> {
    pub(crate) fn new(tensors: &'s [Tensor<'t>]) -> Self {
        let specs: Vec<_> = tensors.iter().map(Tensor::spec).collect();
        let masks = vec![Mask::new(); specs.len()];
        Self { tensors, specs, masks }
    }
}

impl Input for Borrowed<'_, '_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(self.tensors[tensor].beside().norms.map(Cow::Borrowed))
    }

    fn segments(&self, tensor: usize) -> Option<&[u64]> {
        self.tensors[tensor].beside().segments
    }

    fn piece_bytes(&self) -> usize {
        usize::MAX
    }

    fn load(&mut self, tensor: usize, range: Range<u64>, scored: bool) -> io::Result<Loaded<'_>> {
        let tensor = &self.tensors[tensor];
        let scores = tensor.beside().scores.filter(|_| scored).map(|s| some_scores(s, &range));
        Ok(Loaded { bytes: Bytes::Shared(&tensor.bytes()[byte_range(tensor.dtype(), &range)]), scores })
    }

    fn wants_masks(&self) -> bool {
        true
    }

    fn store(&mut self, tensor: usize, _range: Range<u64>, mask: Option<Mask>) -> io::Result<()> {
        collect(&mut self.masks[tensor], mask);
        Ok(())
    }
}

/// Add the mask of the next piece.
pub(crate) fn collect(masks: &mut Mask, mask: Option<Mask>) {
    match mask {
        Some(mask) if masks.is_empty() => *masks = mask,
        Some(mask) => masks.append(&mask),
        None => {}
    }
}

/// Keys laid end to end, to be decided about and no more.
pub(crate) struct Staged<'a> {
    bytes: &'a [u8],
    spec: [TensorSpec; 1],
}

impl<'a> Staged<'a> {
    /// Rows of `row_len` scores, the bits of `f32`s.
    pub(crate) fn new(bytes: &'a [u8], row_len: u64) -> Self {
        let len = (bytes.len() / Dtype::F32.size()) as u64;
        Self { bytes, spec: [TensorSpec { dtype: Dtype::F32, len, row_len, scores: None }] }
    }
}

impl Input for Staged<'_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.spec
    }

    fn norms(&mut self, _tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        Ok(None)
    }

    fn segments(&self, _tensor: usize) -> Option<&[u64]> {
        None
    }

    fn piece_bytes(&self) -> usize {
        usize::MAX
    }

    fn load(&mut self, _tensor: usize, range: Range<u64>, _scored: bool) -> io::Result<Loaded<'_>> {
        Ok(Loaded { bytes: Bytes::Shared(&self.bytes[byte_range(Dtype::F32, &range)]), scores: None })
    }

    fn wants_masks(&self) -> bool {
        false
    }

    fn store(&mut self, _tensor: usize, _range: Range<u64>, _mask: Option<Mask>) -> io::Result<()> {
        Ok(())
    }
}

/// Tensors in memory were measured in bytes, so these indices fit a `usize`.
fn byte_range(dtype: Dtype, range: &Range<u64>) -> Range<usize> {
    let size = dtype.size();
    range.start as usize * size..range.end as usize * size
}

fn some_scores<'a>(scores: Scores<'a>, range: &Range<u64>) -> Scores<'a> {
    Scores { bytes: &scores.bytes[byte_range(scores.dtype, range)], ..scores }
}
