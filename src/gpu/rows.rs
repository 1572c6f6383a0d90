//! Many contests of equal length: upload, one sequence of dispatches for all of them, decisions and mask back.

use super::contest::{contest_group, no_sums};
use super::engine::{Engine, bad};
use super::layout::{ROW_SQUARE_WORDS, ROW_SUM_WORDS, ROW_SUMS, Record, TALLY};
use super::transfer;
use crate::cpu;
use crate::decision::{Group, Quota};
use crate::error::Error;
use crate::mask;
use crate::rule::Rule;
use crate::sums::{Accumulator, Moments};
use std::sync::{Mutex, PoisonError};
use std::thread;

impl Engine {
    /// Decide every row of a piece and carry it out. `start` is the piece's first entry in its tensor.
    pub(crate) fn rows(
        &self,
        mut piece: cpu::Piece<'_>,
        row_len: usize,
        rule: &Rule,
        tensor: usize,
        start: u64,
    ) -> Result<Vec<Group>, Error> {
        let _turn = self.turn();
        let wants_bits = piece.mask.is_some() || piece.bytes.get_mut().is_some();
        let keys = piece.keys();
        let len = keys.len();
        let groups = len / row_len;
        let mut params = Self::params(rule, row_len as u64, keys.parts().1, wants_bits);
        params.len = len as u32;
        params.group_len = row_len as u32;
        params.groups = groups as u32;
        // A short row is one workgroup's. Long ones are divided, and each stage is one dispatch for the parts of all.
        let is_long = row_len as u64 > self.kernels.tuning().longest_row;
        let stride = if is_long { TALLY * 8 } else { ROW_SUMS * 4 };
        let state = if is_long {
            let (parts, span, all_spans, capacity) =
                self.divided(row_len as u64, groups as u64, crate::plan::has_levels(keys.parts().1, rule.score));
            params.parts = parts.count as u32;
            params.part_len = parts.len as u32;
            params.fold = parts.fold as u32;
            params.refiners = parts.refiners as u32;
            params.span = span as u32;
            params.all_spans = all_spans as u32;
            params.capacity = capacity as u32;
            self.state(groups as u64, stride, all_spans, 1, capacity)?
        } else {
            params.parts = 1;
            params.part_len = params.len.next_multiple_of(32);
            self.state(groups as u64, stride, 0, 1, 0)?
        };
        let loaded = self.load(params, &state, &keys)?;
        let mut encoder = self.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            if is_long {
                self.kernels.contest(&mut pass, std::slice::from_ref(&loaded.slice), false);
            } else {
                self.kernels.rows(&mut pass, &loaded.slice, false);
            }
        }
        let record_bytes = (groups * size_of::<Record>()) as u64;
        let mask_bytes = if wants_bits { crate::plan::mask_bytes(len as u64) } else { 0 };
        let wanted = [
            // One word for all short rows, or one for each long one.
            (&state.first_bad, if is_long { groups as u64 * 4 } else { 4 }),
            (&state.records, record_bytes),
            (&state.tally, groups as u64 * stride),
            (&loaded.mask, mask_bytes),
        ];
        let back = transfer::read_back(&self.device, encoder, &wanted)?;
        let [first_bad, records, sums, bits] = &back[..] else { unreachable!("four were asked for") };
        // The earlier a score, the larger is its word.
        let first_bad = first_bad.chunks_exact(4).map(bytemuck::pod_read_unaligned).max();
        if let Some(bad) = first_bad.and_then(bad) {
            return Err(bad.error(tensor, start));
        }
        if wants_bits {
            carry_out(&mut piece, bits);
        }
        let row = |i: usize| {
            let record: Record =
                bytemuck::pod_read_unaligned(&records[i * size_of::<Record>()..][..size_of::<Record>()]);
            let sums = &sums[i * stride as usize..][..stride as usize];
            if !is_long {
                return row_group(&record, sums, row_len as u64, rule);
            }
            let cut = if record.cut_span == Record::NO_CUT { row_len as u64 } else { record.cut_index.into() };
            contest_group(&record, sums, row_len as u64, cut, rule)
        };
        (0..groups).map(|i| row(i).ok_or_else(no_sums)).collect()
    }
}

/// A row, from its record and its three sums.
pub(super) fn row_group(record: &Record, sums: &[u8], row_len: u64, rule: &Rule) -> Option<Group> {
    let words = |from: usize, count: usize| &sums[from * 4..(from + count) * 4];
    let moments = Moments {
        sum: from_words(words(0, ROW_SUM_WORDS)),
        square: from_words(words(ROW_SUM_WORDS, ROW_SQUARE_WORDS)),
    };
    let kept_sum = from_words(words(ROW_SUM_WORDS + ROW_SQUARE_WORDS, ROW_SUM_WORDS));
    let cut = if record.cut_span == Record::NO_CUT { row_len } else { record.cut_index.into() };
    let quota = Quota::decided(&moments, row_len, record.kept(), rule)?;
    Some(quota.settle(record.threshold, cut, moments.mass(&kept_sum)))
}

/// Bytes of a mask that are worth a thread of their own.
const MASK_RUN: usize = 1 << 16;

/// Put a device's mask where the caller wants it, and zero what it says in the caller's bytes. The weights are in host memory:
/// a bit per entry is all that comes back.
pub(super) fn carry_out(piece: &mut cpu::Piece<'_>, bits: &[u8]) {
    if let Some(out) = piece.mask.as_deref_mut() {
        out.copy_from_slice(&bits[..out.len()]);
    }
    let size = piece.dtype.size();
    if let Some(bytes) = piece.bytes.get_mut() {
        let run = bits.len().div_ceil(cpu::threads()).max(MASK_RUN);
        let runs = bits.chunks(run).zip(bytes.chunks_mut(8 * size * run));
        let others = runs.len().saturating_sub(1);
        let runs = Mutex::new(runs);
        let next = || runs.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((bits, bytes)) = next() {
                mask::zero_losers(bits, bytes, size);
            }
        };
        // Threads of our own. A pool's would look for other work while they wait for each other, and may find a call that waits for its turn on the
        // device, which is ours. Where none is to be had, those that are there do its part.
        std::thread::scope(|scope| {
            let begun = (0..others).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok());
            begun.for_each(drop);
            work();
        });
    }
}

/// An integer of 32-bit little-endian words.
fn from_words<const LIMBS: usize>(words: &[u8]) -> Accumulator<LIMBS> {
    let mut sum = Accumulator::default();
    for (i, word) in words.chunks_exact(4).enumerate() {
        sum.add(u32::from_le_bytes([word[0], word[1], word[2], word[3]]).into(), 32 * i as u32);
    }
    sum
}
