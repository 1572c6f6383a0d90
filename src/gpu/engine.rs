//! A device of our own, for weights that live on the host.

use super::device::{Adapter, Device, Options};
use super::kernels::{self, Bindings, KernelOptions, Kernels, Slice};
use super::layout::{Params, ROW_SUMS};
use super::transfer;
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::key::{Bad, Keys};
use crate::narrow;
use crate::plan::{self, Parts};
use crate::rule::{Rule, Score};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An open device and its kernels.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) device: Device,
    pub(crate) kernels: Kernels,
    /// Weights of this many bytes stay on the device between passes; fewer, once that was too much for its memory.
    pub(crate) resident: AtomicU64,
    /// One call at a time: what goes wrong on a device is told to all who share it. And a context of GL belongs to one thread; wgpu
    /// panics after waiting for it for a few seconds.
    turns: Mutex<()>,
}

/// Hardware has memory of its own, software shares ours. So does what is integrated, but hardly any program wants less of it for that.
const RESIDENT_HARDWARE: u64 = 2 << 30;
const RESIDENT_SOFTWARE: u64 = 256 << 20;
/// The largest piece: enough to hide a submission, little enough to hold twice.
const PIECE_BYTES: u64 = 64 << 20;
/// Rows that are read back together: 17 MB of sums and records.
const MOST_ROWS: u64 = 1 << 16;

/// Buffers that all slices of some contests share.
#[derive(Debug)]
pub(crate) struct State {
    /// Counters, or a row's three sums.
    pub(crate) tally: wgpu::Buffer,
    pub(crate) records: wgpu::Buffer,
    pub(crate) span_bins: wgpu::Buffer,
    pub(crate) first_bad: wgpu::Buffer,
    pub(crate) candidates: wgpu::Buffer,
}

/// A slice and the buffers that it alone uses.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) slice: Slice,
    pub(crate) mask: wgpu::Buffer,
}

impl Engine {
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let device = Device::open(options)?;
        kernels::check_limits(&device.device.limits())?;
        let choices = KernelOptions::new().with_variant(options.variant).with_checks(options.checks);
        let kernels = Kernels::with_options(&device.device, choices)?;
        device.check()?;
        let shared = options.max_shared_bytes.unwrap_or(RESIDENT_SOFTWARE);
        let resident = if device.adapter.software {
            shared
        } else {
            options.max_shared_bytes.filter(|_| device.adapter.is_integrated()).unwrap_or(RESIDENT_HARDWARE)
        };
        Ok(Self { device, kernels, resident: resident.into(), turns: Mutex::default() })
    }

    /// Wait until it is this call's turn; keep the guard until every object of the device that the call made is gone.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn adapter(&self) -> &Adapter {
        &self.device.adapter
    }

    /// Most bytes of one binding.
    pub(crate) fn max_binding(&self) -> u64 {
        let limits = self.device.device.limits();
        // Some drivers say 2^31 - 1; a binding is whole words.
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) & !255
    }

    pub(crate) fn piece_bytes(&self) -> usize {
        self.max_binding().min(PIECE_BYTES).min(plan::MOST_ENTRIES) as usize
    }

    /// How `groups` contests of `len` neighbours each are divided: parts, spans of them and how many, candidates.
    pub(crate) fn divided(&self, len: u64, groups: u64, levels: bool) -> (Parts, u64, u64, u64) {
        let tuning = self.kernels.tuning();
        let parts = tuning.parts(len, groups, levels);
        let (span, all_spans) = tuning.spans(&[parts], groups, self.max_binding());
        (parts, span, all_spans, tuning.candidates(len, groups, 1, self.max_binding()))
    }

    pub(crate) fn most_rows(&self) -> u64 {
        MOST_ROWS.min(self.max_binding() / (ROW_SUMS * 4)).max(1)
    }

    /// What every slice of contests of `contest_len` entries is told, but for what differs between slices.
    pub(crate) fn params(rule: &Rule, contest_len: u64, dtype: Dtype, want_mask: bool) -> Params {
        let params = Params {
            slices: 1,
            span: 1,
            all_spans: 1,
            columns: 1,
            digits: narrow::digits_of(dtype, rule.score) as u32,
            mask: want_mask.into(),
            ..Params::default()
        };
        params.with_budget(rule, contest_len)
    }

    /// Upload what keys are made of and bind it.
    pub(crate) fn load(&self, mut params: Params, state: &State, keys: &Keys<'_>) -> Result<Loaded, Error> {
        let (bytes, dtype, norms) = keys.parts();
        let score = if norms.is_some() { Score::Wanda } else { Score::Magnitude };
        let device = &self.device.device;
        let weights = transfer::buffer(device, "emprune.weights", plan::weight_bytes(params.len.into(), dtype));
        let mask = transfer::buffer(device, "emprune.mask", plan::mask_bytes(params.len.into()));
        // Where there is no memory for these, there is none to upload from: a device that has none for that is lost.
        self.device.check()?;
        transfer::upload(&self.device, &weights, bytes);
        let norm_buffer = norms.map(|norms| {
            // A piece shorter than a row meets each of its columns once: only those go along.
            let columns = norms.values.len().min(params.len as usize);
            let mine: Vec<f32> = norms.values.iter().cycle().skip(norms.column).take(columns).copied().collect();
            params.columns = columns.max(1) as u32;
            let buffer = transfer::buffer(device, "emprune.norms", (columns * 4) as u64);
            transfer::upload(&self.device, &buffer, bytemuck::cast_slice(&mine));
            buffer
        });
        let params_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("emprune.params"),
            size: size_of::<Params>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.device.queue.write_buffer(&params_buffer, 0, bytemuck::bytes_of(&params));
        let bindings = Bindings {
            params: params_buffer.as_entire_buffer_binding(),
            weights: weights.as_entire_buffer_binding(),
            zeroed: None,
            norms: norm_buffer.as_ref().map(|b| b.as_entire_buffer_binding()),
            tally: state.tally.as_entire_buffer_binding(),
            records: state.records.as_entire_buffer_binding(),
            span_bins: state.span_bins.as_entire_buffer_binding(),
            mask: mask.as_entire_buffer_binding(),
            first_bad: state.first_bad.as_entire_buffer_binding(),
            candidates: state.candidates.as_entire_buffer_binding(),
        };
        let slice = self.kernels.slice(params, dtype, score, true, &bindings);
        self.device.check()?;
        Ok(Loaded { slice, mask })
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("emprune") })
    }

    /// Buffers for `groups` contests, with `tally` bytes for each, `spans` spans, `slices` slices and room for candidates.
    pub(crate) fn state(
        &self,
        groups: u64,
        tally: u64,
        spans: u64,
        slices: u64,
        capacity: u64,
    ) -> Result<State, Error> {
        let device = &self.device.device;
        let sizes = [
            groups * tally,
            groups * size_of::<super::Record>() as u64,
            groups * spans * super::layout::LOW_BINS * 4,
            groups * slices * 4,
            super::layout::candidate_bytes(groups, slices, capacity),
        ];
        if let Some(&size) = sizes.iter().find(|&&size| size > self.max_binding()) {
            let message = format!("a contest's state takes {size} bytes, a binding holds {}", self.max_binding());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let [tally, records, span_bins, first_bad, candidates] = sizes;
        Ok(State {
            tally: transfer::buffer(device, "emprune.tally", tally),
            records: transfer::buffer(device, "emprune.records", records),
            span_bins: transfer::buffer(device, "emprune.span_bins", span_bins),
            first_bad: transfer::buffer(device, "emprune.first_bad", first_bad),
            candidates: transfer::buffer(device, "emprune.candidates", candidates),
        })
    }
}

/// What a slice's word in `first_bad` says.
pub(crate) fn bad(word: u32) -> Option<Bad> {
    use crate::error::NonFinite::{Infinity, Nan, Product};
    if word == 0 {
        return None;
    }
    let (at, kind) = (!word / 4, !word % 4);
    Some(Bad { at: at.into(), what: [Nan, Infinity, Product, Product][kind as usize] })
}
