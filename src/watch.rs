//! Watching a call that takes long, and ending it.

use crate::error::{Error, ErrorKind};
use crate::mask::Mask;
use crate::source::{Input, Loaded};
use crate::tensor::TensorSpec;
use std::borrow::Cow;
use std::io;
use std::ops::{ControlFlow, Range};

/// How far a call is, in entries. A contest is read several times over before the first of its entries is done: how often
/// depends on the weights.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries that are decided for good; never goes back. Where nothing is carried out it stands still to the end.
    pub done: u64,
    /// Entries that were read so far, each as often as it was; goes on while `done` stands still.
    pub read: u64,
    /// Entries of all tensors together. When `done` is as many, the call is about to return.
    pub len: u64,
}

/// Who is told, and says whether the call goes on.
pub(crate) type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Weights in memory are taken in pieces of so many bytes when somebody watches.
const PIECE_BYTES: usize = 16 << 20;
/// Nobody needs to hear of fewer entries.
const STEP: u64 = 1 << 16;

/// An input whose reading is watched.
pub(crate) struct Observed<'a, 'w> {
    input: &'a mut dyn Input,
    watch: &'a mut Watch<'w>,
    progress: Progress,
    /// What was read when it was told last.
    told: Option<u64>,
    cancelled: bool,
}

impl<'a, 'w> Observed<'a, 'w> {
    pub(crate) fn new(input: &'a mut dyn Input, watch: &'a mut Watch<'w>) -> Self {
        let len = input.tensors().iter().map(|spec| spec.len).fold(0, u64::saturating_add);
        Self { input, watch, progress: Progress { done: 0, read: 0, len }, told: None, cancelled: false }
    }

    /// What came of the call: where it was cancelled, that is why it failed.
    pub(crate) fn finish<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        let Progress { done, len, .. } = self.progress;
        match result {
            Err(_) if self.cancelled => {
                Err(Error::new(ErrorKind::Cancelled, format!("cancelled with {done} of {len} entries done")))
            }
            Ok(done) => {
                // There is nothing left to cancel.
                let _ = (self.watch)(Progress { done: len, ..self.progress });
                Ok(done)
            }
            failed => failed,
        }
    }
}

impl Input for Observed<'_, '_> {
    fn tensors(&self) -> &[TensorSpec] {
        self.input.tensors()
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        self.input.norms(tensor)
    }

    fn segments(&self, tensor: usize) -> Option<&[u64]> {
        self.input.segments(tensor)
    }

    fn piece_bytes(&self) -> usize {
        match self.input.piece_bytes() {
            usize::MAX => PIECE_BYTES,
            bytes => bytes,
        }
    }

    fn structure_bytes(&self) -> usize {
        self.input.structure_bytes()
    }

    fn load(&mut self, tensor: usize, range: Range<u64>, scored: bool) -> io::Result<Loaded<'_>> {
        let len = range.end - range.start;
        if self.told.is_none_or(|told| self.progress.read + len - told >= STEP) {
            self.told = Some(self.progress.read);
            self.cancelled = (self.watch)(self.progress).is_break();
        }
        if self.cancelled {
            return Err(io::Error::other("cancelled"));
        }
        self.progress.read += len;
        self.input.load(tensor, range, scored)
    }

    fn wants_masks(&self) -> bool {
        self.input.wants_masks()
    }

    fn only_looks(&self) -> bool {
        self.input.only_looks()
    }

    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<Mask>) -> io::Result<()> {
        let len = range.end - range.start;
        self.input.store(tensor, range, mask)?;
        // Nothing is done for good where somebody only looks.
        self.progress.done += if self.only_looks() { 0 } else { len };
        Ok(())
    }
}
