//! One contest over any number of pieces on the device: the same stages, in the same order, as `cpu/contest.rs`.
//!
//! Pieces that fit stay on the device, and all stages are one submission when the last one is there. Others are uploaded
//! again for every pass.

use super::engine::{Engine, Loaded, State, bad};
use super::layout::{Params, Record, TALLY, TALLY_FOCUS, TALLY_KEPT, TALLY_SQUARE, TALLY_SUM};
use super::rows::carry_out;
use super::transfer;
use crate::cpu;
use crate::decision::{Group, Quota};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::key::Keys;
use crate::plan;
use crate::rule::Rule;
use crate::sums::{Accumulator, Moments, SQUARE_LIMBS, SUM_LIMBS};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

/// A contest in progress; see `cpu::Contest` for the order of calls.
pub(crate) struct Contest<'e> {
    engine: &'e Engine,
    rule: Rule,
    digits: u32,
    /// Digits known so far.
    known: u32,
    pieces: Vec<Piece>,
    resident: bool,
    /// What all pieces take on the device.
    bytes: u64,
    state: State,
    encoder: wgpu::CommandEncoder,
    len: u64,
    /// Last, so that it outlives all of the above.
    _turn: MutexGuard<'e, ()>,
}

struct Piece {
    params: Params,
    /// The contest's entries before this piece.
    start: u64,
    /// The tensor that it is from, and its first entry there.
    tensor: usize,
    in_tensor: u64,
    loaded: Option<Loaded>,
    /// Mask bits, between the pass that made them and the call that takes them.
    bits: Vec<u8>,
}

impl Engine {
    /// A contest over pieces of these lengths, whose keys have `digits` digits.
    pub(crate) fn contest(&self, rule: &Rule, digits: usize, pieces: Vec<(u64, Dtype)>) -> Result<Contest<'_>, Error> {
        let turn = self.turn();
        let tuning = *self.kernels.tuning();
        let parts: Vec<_> =
            pieces.iter().map(|&(len, dtype)| tuning.parts(len, 1, plan::has_levels(dtype, rule.score))).collect();
        let (span, all_spans) = tuning.spans(&parts, 1, self.max_binding());
        let len = pieces.iter().map(|&(len, _)| len).sum();
        let bytes: u64 = pieces.iter().map(|&(len, dtype)| plan::weight_bytes(len, dtype)).sum();
        let resident = bytes <= self.resident.load(Ordering::Relaxed);
        // What is uploaded again is read again: candidates would save nothing.
        let capacity = if resident { tuning.candidates(len, 1, pieces.len() as u64, self.max_binding()) } else { 0 };
        let state = self.state(1, TALLY * 8, all_spans, pieces.len() as u64, capacity)?;
        let (mut start, mut first_span) = (0, 0);
        let slices = pieces.len() as u32;
        let pieces = pieces.iter().zip(parts).enumerate().map(|(slice, (&(piece_len, dtype), parts))| {
            let mut params = Self::params(rule, len, dtype, true);
            params.len = piece_len as u32;
            params.group_len = piece_len as u32;
            params.groups = 1;
            params.parts = parts.count as u32;
            params.part_len = parts.len as u32;
            params.fold = parts.fold as u32;
            params.span = span as u32;
            params.first_span = first_span;
            params.all_spans = all_spans as u32;
            params.slice = slice as u32;
            params.slices = slices;
            params.digits = digits as u32;
            params.capacity = capacity as u32;
            params.refiners = parts.refiners as u32;
            let piece = Piece { params, start, tensor: 0, in_tensor: 0, loaded: None, bits: Vec::new() };
            start += piece_len;
            first_span += parts.count.div_ceil(span) as u32;
            piece
        });
        let pieces = pieces.collect();
        let digits = digits as u32;
        Ok(Contest {
            engine: self,
            rule: *rule,
            digits,
            known: 0,
            pieces,
            resident,
            bytes,
            state,
            encoder: self.encoder(),
            len,
            _turn: turn,
        })
    }
}

impl Contest<'_> {
    pub(crate) fn stats(&mut self, i: usize, keys: &Keys<'_>, tensor: usize, in_tensor: u64) -> Result<(), Error> {
        let piece = &mut self.pieces[i];
        (piece.tensor, piece.in_tensor) = (tensor, in_tensor);
        let loaded = self.load(i, keys)?;
        if self.resident {
            self.pieces[i].loaded = Some(loaded);
            // What was uploaded from lies beside it until then.
            return transfer::wait_for_uploads(&self.engine.device);
        }
        {
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            if i == 0 {
                self.engine.kernels.focus(&mut pass, &loaded.slice);
            }
            self.engine.kernels.stats(&mut pass, &loaded.slice);
        }
        self.submit()
    }

    /// Whether every digit is known, or will be without another call.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.resident || self.known == self.digits
    }

    pub(crate) fn narrow(&mut self) -> Result<(), Error> {
        if self.resident {
            return self.masks_of_all();
        }
        // Any slice knows the contest; an empty one will do.
        let params = Params { len: 0, ..self.pieces[0].params };
        let loaded = self.engine.load(params, &self.state, &Keys::new(&[], Dtype::F32, None))?;
        let slice = &loaded.slice;
        {
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            if self.known == 0 {
                self.engine.kernels.budget(&mut pass, slice);
            } else {
                self.engine.kernels.narrow(&mut pass, slice);
            }
        }
        self.known += 1;
        if self.known == 1 {
            // Before more is read, see that it is worth it.
            self.check_scores()?;
        }
        Ok(())
    }

    pub(crate) fn histogram(&mut self, i: usize, keys: &Keys<'_>) -> Result<(), Error> {
        let loaded = self.load(i, keys)?;
        {
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.engine.kernels.histogram(&mut pass, &loaded.slice);
        }
        self.submit()
    }

    /// Where nothing is to be carried out: whether the last pass is not needed.
    pub(crate) fn passes_by(&self) -> bool {
        self.resident
    }

    /// After the device has run out of memory: whether the contest will take less of it when it is begun again, as all that are as large will. What is
    /// hardly more than a piece would not.
    pub(crate) fn gives_way(&mut self) -> bool {
        if !self.resident || self.bytes <= self.engine.piece_bytes() as u64 {
            return false;
        }
        self.pieces.iter_mut().for_each(|piece| piece.loaded = None);
        // What waits to be uploaded keeps its buffers. Whether that ends well, the next attempt will tell.
        let _ = transfer::wait_for_uploads(&self.engine.device);
        self.engine.resident.fetch_min(self.bytes - 1, Ordering::Relaxed);
        true
    }

    pub(crate) fn apply(&mut self, i: usize, mut piece: cpu::Piece<'_>) -> Result<(), Error> {
        if !self.resident {
            let loaded = self.load(i, &piece.keys())?;
            {
                let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.engine.kernels.ties(&mut pass, &loaded.slice);
                self.engine.kernels.apply(&mut pass, &loaded.slice, false);
            }
            let size = plan::mask_bytes(self.pieces[i].params.len.into());
            let bits = self.read_back(&[(&loaded.mask, size)])?;
            self.pieces[i].bits = bits.into_iter().flatten().collect();
        }
        carry_out(&mut piece, &std::mem::take(&mut self.pieces[i].bits));
        Ok(())
    }

    pub(crate) fn settle(mut self) -> Result<Group, Error> {
        let state = (self.state.records.clone(), self.state.tally.clone());
        let back = self.read_back(&[(&state.0, size_of::<Record>() as u64), (&state.1, TALLY * 8)])?;
        let record: Record = bytemuck::pod_read_unaligned(&back[0]);
        let cut = if record.cut_span == Record::NO_CUT {
            self.len
        } else {
            // The last piece that begins at or before the span is the one that holds it.
            let piece = self.pieces.iter().rev().find(|p| p.params.first_span <= record.cut_span);
            let piece = piece.ok_or_else(|| Error::new(ErrorKind::Internal, "the cut lies in no piece"))?;
            piece.start + u64::from(record.cut_index)
        };
        contest_group(&record, &back[1], self.len, cut, &self.rule).ok_or_else(no_sums)
    }

    fn load(&self, i: usize, keys: &Keys<'_>) -> Result<Loaded, Error> {
        self.engine.load(self.pieces[i].params, &self.state, keys)
    }

    /// Do what was recorded before the next piece comes: one of them is in memory at a time.
    fn submit(&mut self) -> Result<(), Error> {
        let encoder = std::mem::replace(&mut self.encoder, self.engine.encoder());
        transfer::submit_and_wait(&self.engine.device, encoder)
    }

    fn masks_of_all(&mut self) -> Result<(), Error> {
        let loaded: Vec<_> = self.pieces.iter_mut().filter_map(|p| p.loaded.take()).collect();
        {
            let mut pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let slices: Vec<_> = loaded.iter().map(|l| &l.slice).collect();
            self.engine.kernels.contest(&mut pass, &slices, false);
        }
        let mut wanted: Vec<_> =
            loaded.iter().map(|l| (&l.mask, plan::mask_bytes(l.slice.params.len.into()))).collect();
        let first_bad = self.state.first_bad.clone();
        wanted.push((&first_bad, self.pieces.len() as u64 * 4));
        let mut back = self.read_back(&wanted)?;
        let first_bad = back.pop().unwrap_or_default();
        self.report_bad(&first_bad)?;
        for (piece, bits) in self.pieces.iter_mut().zip(back) {
            piece.bits = bits;
        }
        Ok(())
    }

    fn check_scores(&mut self) -> Result<(), Error> {
        let first_bad = self.state.first_bad.clone();
        let back = self.read_back(&[(&first_bad, self.pieces.len() as u64 * 4)])?;
        self.report_bad(&back[0])
    }

    fn report_bad(&self, words: &[u8]) -> Result<(), Error> {
        for (piece, word) in self.pieces.iter().zip(words.chunks_exact(4)) {
            if let Some(bad) = bad(bytemuck::pod_read_unaligned(word)) {
                return Err(bad.error(piece.tensor, piece.in_tensor));
            }
        }
        Ok(())
    }

    fn read_back(&mut self, wanted: &[(&wgpu::Buffer, u64)]) -> Result<Vec<Vec<u8>>, Error> {
        let encoder = std::mem::replace(&mut self.encoder, self.engine.encoder());
        transfer::read_back(&self.engine.device, encoder, wanted)
    }
}

/// What no device should leave.
pub(super) fn no_sums() -> Error {
    Error::new(ErrorKind::Internal, "the device left a count or sums that no scores have")
}

/// A contest, from its record and its counters.
pub(super) fn contest_group(record: &Record, tally: &[u8], len: u64, cut: u64, rule: &Rule) -> Option<Group> {
    let moments = Moments {
        sum: from_counters::<SUM_LIMBS>(tally, TALLY_SUM..TALLY_SQUARE),
        square: from_counters::<SQUARE_LIMBS>(tally, TALLY_SQUARE..TALLY_KEPT),
    };
    let kept_sum = from_counters::<SUM_LIMBS>(tally, TALLY_KEPT..TALLY_FOCUS);
    let quota = Quota::decided(&moments, len, record.kept(), rule)?;
    Some(quota.settle(record.threshold, cut, moments.mass(&kept_sum)))
}

/// An integer of 16-bit digits that are 64-bit counters, their carries not yet spread.
fn from_counters<const LIMBS: usize>(tally: &[u8], counters: std::ops::Range<usize>) -> Accumulator<LIMBS> {
    let mut sum = Accumulator::default();
    for (i, counter) in tally[counters.start * 8..counters.end * 8].chunks_exact(8).enumerate() {
        let value: u64 = bytemuck::pod_read_unaligned(counter);
        sum.add(value.into(), 16 * i as u32);
    }
    sum
}
