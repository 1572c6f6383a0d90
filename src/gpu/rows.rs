//! Many contests of one workgroup each: upload, one dispatch, decisions and mask back.

use super::engine::{Engine, bad};
use super::layout::{ROW_SQUARE_WORDS, ROW_SUM_WORDS, ROW_SUMS, Record};
use super::transfer;
use crate::cpu;
use crate::decision::{Group, Quota};
use crate::error::Error;
use crate::mask;
use crate::rule::Rule;
use crate::sums::{Accumulator, Moments};

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
        params.parts = 1;
        params.part_len = params.len.next_multiple_of(32);
        let state = self.state(groups as u64, ROW_SUMS * 4, 0, 1, 0)?;
        let loaded = self.load(params, &state, &keys)?;
        let mut encoder = self.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.kernels.rows(&mut pass, &loaded.slice, false);
        }
        let record_bytes = (groups * size_of::<Record>()) as u64;
        let mask_bytes = if wants_bits { crate::plan::mask_bytes(len as u64) } else { 0 };
        let wanted = [
            (&state.first_bad, 4),
            (&state.records, record_bytes),
            (&state.tally, groups as u64 * ROW_SUMS * 4),
            (&loaded.mask, mask_bytes),
        ];
        let back = transfer::read_back(&self.device, encoder, &wanted)?;
        let [first_bad, records, sums, bits] = &back[..] else { unreachable!("four were asked for") };
        if let Some(bad) = bad(bytemuck::pod_read_unaligned(first_bad)) {
            return Err(bad.error(tensor, start));
        }
        if wants_bits {
            carry_out(&mut piece, bits);
        }
        let row = |i: usize| {
            let record: Record =
                bytemuck::pod_read_unaligned(&records[i * size_of::<Record>()..][..size_of::<Record>()]);
            row_group(&record, &sums[i * ROW_SUMS as usize * 4..], row_len as u64)
        };
        Ok((0..groups).map(row).collect())
    }
}

/// A row, from its record and its three sums.
pub(super) fn row_group(record: &Record, sums: &[u8], row_len: u64) -> Group {
    let words = |from: usize, count: usize| &sums[from * 4..(from + count) * 4];
    let moments = Moments {
        sum: from_words(words(0, ROW_SUM_WORDS)),
        square: from_words(words(ROW_SUM_WORDS, ROW_SQUARE_WORDS)),
    };
    let kept_sum = from_words(words(ROW_SUM_WORDS + ROW_SQUARE_WORDS, ROW_SUM_WORDS));
    let cut = if record.cut_span == Record::NO_CUT { row_len } else { record.cut_index.into() };
    Quota::decided(&moments, row_len, record.kept()).settle(record.threshold, cut, moments.mass(&kept_sum))
}

/// Bytes of a mask that are worth a thread's while.
const MASK_RUN: usize = 1 << 13;

/// Put a device's mask where the caller wants it, and zero what it says in the caller's bytes. The weights are in host memory:
/// a bit per entry is all that comes back.
pub(super) fn carry_out(piece: &mut cpu::Piece<'_>, bits: &[u8]) {
    if let Some(out) = piece.mask.as_deref_mut() {
        out.copy_from_slice(&bits[..out.len()]);
    }
    let size = piece.dtype.size();
    if let Some(bytes) = piece.bytes.get_mut() {
        let runs = bits.chunks(MASK_RUN).zip(bytes.chunks_mut(8 * size * MASK_RUN)).collect();
        cpu::each_on_all_cores(runs, |_, (bits, bytes)| mask::zero_losers(bits, bytes, size));
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
