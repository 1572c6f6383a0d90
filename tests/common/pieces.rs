//! A source that hands out its weights in small pieces, and holds the library to the contract of `Source`.

use super::check::{Guarded, Outcome};
use super::dtype;
use super::oracle::Weights;
use emprune::{Decision, Error, Mask, Pruner, Rule, Source, TensorSpec, Want};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

pub(crate) struct Pieces<'a> {
    tensors: &'a [Weights],
    specs: Vec<TensorSpec>,
    piece_bytes: usize,
    want: Want,
    /// What the last `load` gave, at an address of its own each time.
    piece: Guarded,
    last: Option<(usize, Range<u64>)>,
    /// How often each range was asked for.
    loads: BTreeMap<(usize, u64, u64), u32>,
    /// The results so far, per tensor; their lengths are what has been stored.
    pruned: Vec<Vec<u8>>,
    masks: Vec<Mask>,
    /// The `load` of this number fails.
    pub(crate) fail_load: Option<usize>,
    /// The `store` of this number fails.
    pub(crate) fail_store: Option<usize>,
    /// The `norms` of this number fails.
    pub(crate) fail_norms: Option<usize>,
    /// Parts of rows may be asked for in any order, for blocks that lie side by side.
    pub(crate) strips: bool,
    /// What scores of structures may take.
    pub(crate) structure_bytes: usize,
    /// How often everything is to be asked for, where that is known.
    pub(crate) reads: Option<u32>,
    pub(crate) loaded: usize,
    pub(crate) stored: usize,
    pub(crate) normed: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(tensors: &'a [Weights], piece_bytes: usize, want: Want) -> Self {
        let spec = |w: &Weights| {
            let spec = TensorSpec::new(dtype(w.kind), w.len() as u64, w.row_len as u64).unwrap();
            w.scores.as_ref().map_or(spec, |scores| spec.with_scores(dtype(scores.kind)))
        };
        Self {
            specs: tensors.iter().map(spec).collect(),
            piece: Guarded::new(&[], 0),
            last: None,
            loads: BTreeMap::new(),
            pruned: vec![Vec::new(); tensors.len()],
            masks: vec![Mask::new(); tensors.len()],
            fail_load: None,
            fail_store: None,
            fail_norms: None,
            strips: false,
            structure_bytes: usize::MAX,
            reads: None,
            loaded: 0,
            stored: 0,
            normed: 0,
            tensors,
            piece_bytes,
            want,
        }
    }

    /// Bytes that have been stored, all tensors together.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.pruned.iter().map(Vec::len).sum()
    }

    /// What was stored, per tensor.
    pub(crate) fn pruned_bytes(&self) -> &[Vec<u8>] {
        &self.pruned
    }

    /// The mask bits that were stored, per tensor.
    pub(crate) fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Stream everything; the outcome is that of one call with the same weights.
    pub(crate) fn stream(mut self, pruner: &Pruner, rule: &Rule) -> Result<Outcome, Error> {
        let want = self.want;
        let decision = pruner.stream(&mut self, rule, want)?;
        self.outcome(&decision)
    }

    /// As `stream`, of what is decided already.
    pub(crate) fn carry_out(mut self, pruner: &Pruner, rule: &Rule, decision: &Decision) -> Result<Outcome, Error> {
        let want = self.want;
        pruner.carry_out(&mut self, rule, decision.groups(), want)?;
        self.outcome(decision)
    }

    fn outcome(self, decision: &Decision) -> Result<Outcome, Error> {
        self.piece.check().unwrap();
        for (t, weights) in self.tensors.iter().enumerate() {
            assert_eq!(self.pruned[t].len(), weights.bytes.len(), "tensor {t} was stored to its end");
        }
        for ((tensor, start, end), count) in &self.loads {
            let as_told = self.reads.map_or((1..=6).contains(count), |reads| reads == *count);
            assert!(as_told, "{start}..{end} of tensor {tensor} was loaded {count} times");
        }
        Ok(Outcome::new(decision, &self.masks, self.pruned))
    }
}

impl Source for Pieces<'_> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn norms(&mut self, tensor: usize) -> io::Result<Option<Cow<'_, [f32]>>> {
        if self.fail_norms == Some(self.normed) {
            return Err(io::Error::other("no more norms"));
        }
        self.normed += 1;
        Ok(self.tensors[tensor].norms.as_deref().map(Cow::Borrowed))
    }

    fn segments(&self, tensor: usize) -> Option<&[u64]> {
        self.tensors[tensor].segments.as_deref()
    }

    fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    fn structure_bytes(&self) -> usize {
        self.structure_bytes
    }

    fn load_scored(&mut self, tensor: usize, range: Range<u64>) -> io::Result<(&mut [u8], &[u8])> {
        let scores = self.tensors[tensor].scores.as_deref().expect("asked for without a reason");
        let size = scores.kind.size();
        let scores = &scores.bytes[range.start as usize * size..range.end as usize * size];
        Ok((self.load(tensor, range)?, scores))
    }

    fn load(&mut self, tensor: usize, range: Range<u64>) -> io::Result<&mut [u8]> {
        if self.fail_load == Some(self.loaded) {
            return Err(io::Error::other("no more to read"));
        }
        let weights = &self.tensors[tensor];
        let size = weights.kind.size();
        let bytes = range.start as usize * size..range.end as usize * size;
        assert!(!bytes.is_empty() && bytes.end <= weights.bytes.len(), "{range:?} of tensor {tensor} is in it");
        assert!(bytes.len() <= self.piece_bytes.max(size), "{range:?} of tensor {tensor} is over {}", self.piece_bytes);
        // Onwards, or to the beginning of a contest: for another pass over it, or for the next one.
        let begins = range.start.is_multiple_of(weights.row_len as u64);
        let follows = begins
            || self.strips
            || self.last.as_ref().is_some_and(|(t, last)| (*t, last.end) == (tensor, range.start));
        let again = self.last == Some((tensor, range.clone()));
        assert!(follows || again, "{range:?} of tensor {tensor} does not follow {:?}", self.last);
        self.piece.check().map_err(io::Error::other)?;
        self.piece = Guarded::new(&weights.bytes[bytes], self.loaded);
        self.loaded += 1;
        *self.loads.entry((tensor, range.start, range.end)).or_default() += 1;
        self.last = Some((tensor, range));
        Ok(self.piece.bytes_mut())
    }

    fn store(&mut self, tensor: usize, range: Range<u64>, mask: Option<&Mask>) -> io::Result<()> {
        if self.fail_store == Some(self.stored) {
            return Err(io::Error::other("no more room"));
        }
        self.stored += 1;
        assert_eq!(self.last, Some((tensor, range.clone())), "what is stored is what was loaded just before");
        let size = self.tensors[tensor].kind.size();
        assert_eq!(self.pruned[tensor].len(), range.start as usize * size, "stored once, ascending");
        if !self.want.zeros {
            let start = range.start as usize * size;
            let before = &self.tensors[tensor].bytes[start..start + self.piece.bytes().len()];
            assert!(self.piece.bytes() == before, "zeros that nobody wanted");
        }
        self.pruned[tensor].extend_from_slice(self.piece.bytes());
        assert_eq!(mask.is_some(), self.want.masks, "a mask when it is wanted");
        if let Some(mask) = mask {
            assert_eq!(mask.len(), range.end - range.start, "one bit per entry");
            self.masks[tensor].append(mask);
        }
        Ok(())
    }
}
