//! Inside somebody else's GPU program: plan, bind, record. No submit, no wait, no readback, no allocation while recording.

use super::buffers::{Buffers, Own, check, part};
use super::kernels::{Bindings, Kernels, Slice};
use super::layout::{self, Params, Record};
use super::plan::{Batch, Plan};
use super::shaders::Stage;
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind};
use crate::plan;
use crate::rule::Score;
use std::ops::Range;

/// A plan bound to buffers: can be recorded any number of times.
#[derive(Debug)]
pub struct Job {
    kernels: Kernels,
    /// The caller's slice, where it is arranged before it is decided.
    whole: Option<Slice>,
    batches: Vec<Bound>,
    /// What is decided is not what is zeroed: it is arranged keys, or scores beside the weights.
    apart: bool,
    mass: bool,
    workspace: wgpu::Buffer,
    clear: Vec<Range<u64>>,
}

/// A batch bound to buffers.
#[derive(Debug)]
struct Bound {
    slices: Vec<Slice>,
    rows: bool,
}

impl Kernels {
    /// Compile what a plan needs, so that binding it for the first time does not wait for the compiler: unless weights begin at an offset that is no multiple of
    /// 16 bytes, which few devices allow and whose pipelines are others.
    pub fn warm_up(&self, plan: &Plan) {
        for batch in &plan.batches {
            for slice in &batch.slices {
                let fours = plan::has_fours(slice.len / batch.groups, slice.dtype);
                self.compile_stages(plan, batch, slice.dtype, fours);
            }
        }
        self.compile_rest(plan);
    }

    /// All but the stages that decide a slice.
    fn compile_rest(&self, plan: &Plan) {
        use Stage::{Arrange, Edges, Measure, Restore, Zero};
        for batch in plan.batches.iter().filter(|_| plan.mass) {
            self.compile(Measure { rows: batch.rows }, Dtype::F32, plan.rule.score, false, true, false);
        }
        for slice in &plan.slices {
            if plan.grid.is_some() {
                let dtype = slice.key_dtype(plan.rule.score);
                self.compile(Arrange, dtype, plan.rule.score, false, false, false);
                self.compile(Restore, dtype, plan.rule.score, false, false, false);
            }
            if plan.is_apart() {
                self.compile(Zero, slice.dtype, plan.rule.score, true, false, false);
            } else if plan::has_edges(slice.len / plan.groups, slice.dtype) {
                self.compile(Edges, slice.dtype, plan.rule.score, true, false, false);
            }
        }
    }

    /// The stages that decide a slice.
    fn compile_stages(&self, plan: &Plan, batch: &Batch, dtype: Dtype, fours: bool) {
        use Stage::{Apply, Budget, Focus, Histogram, Narrow, Settle, Sift, Stats, Ties};
        let score = if plan.grid.is_some() { Score::Magnitude } else { plan.rule.score };
        let row = [self.rows_stage(batch.contest_len)];
        let contest = [Focus, Stats, Budget, Narrow, Sift, Histogram, Ties, Settle, Apply];
        for &stage in if batch.rows { &row[..] } else { &contest } {
            self.compile(stage, dtype, score, false, plan.mass, fours);
            if !plan.is_apart() {
                self.compile(stage, dtype, score, true, plan.mass, fours);
            }
        }
    }

    /// Bind a plan to buffers: the last step that creates anything (bind groups, a small parameter buffer, and pipelines that no
    /// [`warm_up`](Self::warm_up) has compiled yet). The plan may be of other kernels, if they are of the same device, as the buffers are.
    ///
    /// # Errors
    /// `InvalidInput` when a buffer is too small, at an offset that the device does not allow, lacks a usage, or shares bytes with another that
    /// is written, or when norms, scores or keys are missing or superfluous; and for a plan that takes sums, of
    /// [kernels that leave them out](Self::for_timing_without_sums). [`Error::tensor`] is the number of the slice, if the error is of one.
    pub fn bind(&self, plan: &Plan, buffers: &Buffers<'_>) -> Result<Job, Error> {
        if buffers.slices.len() != plan.slices.len() {
            let message = format!("buffers for {} slices, the plan has {}", buffers.slices.len(), plan.slices.len());
            return Err(Error::invalid(message));
        }
        self.check_sums(&plan.rule, plan.mass)?;
        let align = u64::from(self.device().limits().min_storage_buffer_offset_alignment);
        let storage = wgpu::BufferUsages::STORAGE;
        check("workspace", &buffers.workspace, plan.workspace_bytes(), storage | wgpu::BufferUsages::COPY_DST, align)?;
        let records = check("records", &buffers.records, plan.records_bytes(), storage, align)?;
        let keys = match (plan.keys_bytes(), &buffers.keys) {
            (0, None) => None,
            (0, Some(_)) => return Err(Error::invalid("the plan needs no keys and there is a buffer for them")),
            (bytes, None) => {
                return Err(Error::invalid(format!("the plan needs {bytes} bytes of keys, there are none")));
            }
            (bytes, Some(keys)) => Some(check("keys", keys, bytes, storage, align)?),
        };
        let slices = plan.slices.iter().zip(buffers.slices).enumerate();
        let own = slices.map(|(i, (spec, b))| plan.own(spec, b, &records, align).map_err(|e| e.of_tensor(i)));
        let own = own.collect::<Result<Vec<_>, _>>()?;
        buffers.check_usages()?;
        plan.check_overlaps(buffers)?;

        let mut params: Vec<Params> = plan.batches.iter().flat_map(|b| b.params(&plan.rule)).collect();
        params.extend(plan.grid.map(|grid| plan.grid_params(&grid)));
        let params_buffer = self.params_buffer(&params)?;
        let mut params = params.into_iter().zip((0..).map(|i| wgpu::BufferBinding {
            buffer: &params_buffer,
            offset: i * PARAMS_STRIDE,
            size: wgpu::BufferSize::new(size_of::<Params>() as u64),
        }));
        let mut slice = |dtype, score, own: &Own<'_>, [tally, span_bins, first_bad, candidates]: [_; 4]| {
            params.next().map(|(values, params)| {
                let Own { judged, norms, zeroed, mask, records } = own.clone();
                let weights = judged;
                let bindings =
                    Bindings { params, weights, norms, zeroed, tally, records, span_bins, mask, first_bad, candidates };
                self.slice(values, dtype, score, plan.mass, &bindings)
            })
        };

        let workspace = plan.workspace();
        let scratch = |range: &Range<u64>| part(&buffers.workspace, range.start, range.end - range.start);
        let score = if keys.is_some() { Score::Magnitude } else { plan.rule.score };
        let (mut first_key, mut first_record) = (0, 0);
        let mut batches = Vec::new();
        for (batch, at) in plan.batches.iter().zip(&workspace.batches) {
            let mut slices = Vec::new();
            for (i, spec) in batch.slices.iter().enumerate() {
                let own = match &keys {
                    None => own[i].clone(),
                    Some(keys) => {
                        let (key, record) = (first_key, first_record);
                        first_key += layout::padded_keys(spec.len);
                        first_record += layout::padded_records(batch.groups);
                        let mask = workspace.arranged_mask.start + key / 8;
                        let records = workspace.arranged_records.start + record * size_of::<Record>() as u64;
                        Own {
                            judged: part(keys, key * 4, spec.len * 4),
                            norms: None,
                            zeroed: None,
                            mask: part(&buffers.workspace, mask, plan::mask_bytes(spec.len)),
                            records: part(&buffers.workspace, records, batch.groups * size_of::<Record>() as u64),
                        }
                    }
                };
                let state = [&at.tally, &at.span_bins, &at.first_bad, &at.candidates].map(scratch);
                slices.extend(slice(spec.dtype, score, &own, state));
            }
            batches.push(Bound { slices, rows: batch.rows });
        }
        let whole = keys.and_then(|keys| {
            let [records, bad, mask] =
                [&workspace.arranged_records, &workspace.batches[0].first_bad, &workspace.arranged_mask].map(scratch);
            slice(plan.slices[0].key_dtype(plan.rule.score), plan.rule.score, &own[0], [keys, records, bad, mask])
        });

        for (batch, bound) in plan.batches.iter().zip(&batches) {
            bound.slices.iter().for_each(|slice| self.compile_stages(plan, batch, slice.dtype, slice.fours));
        }
        self.compile_rest(plan);
        let start = buffers.workspace.offset;
        let mut clear = Vec::new();
        for (batch, at) in plan.batches.iter().zip(&workspace.batches) {
            // Rows overwrite their sums; everything else counts up from zero. Of the candidates, only how many there are.
            let mut counters = at.first_bad.clone();
            if !batch.rows {
                debug_assert!(at.span_bins.end <= at.first_bad.start && at.first_bad.end <= at.candidates.start);
                clear.push(at.tally.clone());
                counters = at.span_bins.start..at.candidates.start + batch.groups * batch.slices.len() as u64 * 4;
            }
            clear.push(counters);
        }
        Ok(Job {
            kernels: self.clone(),
            whole,
            batches,
            apart: plan.is_apart(),
            mass: plan.mass,
            workspace: buffers.workspace.buffer.clone(),
            clear: clear.into_iter().map(|range| start + range.start..start + range.end).collect(),
        })
    }

    /// What every slice is told, each at its place in one buffer.
    fn params_buffer(&self, params: &[Params]) -> Result<wgpu::Buffer, Error> {
        let buffer = self.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("emprune.params"),
            size: PARAMS_STRIDE * params.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: true,
        });
        {
            let mut mapped = buffer
                .slice(..)
                .get_mapped_range_mut()
                .map_err(|e| Error::new(ErrorKind::OutOfMemory, e.to_string()))?;
            for (i, params) in params.iter().enumerate() {
                let at = i * PARAMS_STRIDE as usize;
                mapped.slice(at..at + size_of::<Params>()).copy_from_slice(bytemuck::bytes_of(params));
            }
        }
        buffer.unmap();
        Ok(buffer)
    }
}

/// Uniform bindings begin at multiples of 256.
const PARAMS_STRIDE: u64 = (size_of::<Params>() as u64).next_multiple_of(256);
impl Job {
    /// Record the decision and the mask; the weights are only read. Records are written too.
    pub fn record_mask(&self, encoder: &mut wgpu::CommandEncoder) {
        self.record(encoder, false);
    }

    /// As [`record_mask`](Self::record_mask), and zero the losers in the weights.
    ///
    /// When some score of a contest is no number, its record says so, and the contest's weights and mask stay as they are.
    pub fn record_prune(&self, encoder: &mut wgpu::CommandEncoder) {
        self.record(encoder, true);
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder, write: bool) {
        let Self { kernels, whole, batches, workspace, .. } = self;
        for range in &self.clear {
            encoder.clear_buffer(workspace, range.start, Some(range.end - range.start));
        }
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("emprune"), timestamp_writes: None });
        let pass = &mut pass;
        whole.iter().for_each(|whole| kernels.arrange(pass, whole));
        for Bound { slices, rows } in batches {
            let write = write && !self.apart;
            if *rows {
                slices.iter().for_each(|slice| kernels.rows(pass, slice, write));
            } else {
                kernels.contest(pass, slices, write);
            }
            if self.mass {
                slices.first().into_iter().for_each(|slice| kernels.measure(pass, slice, *rows));
            }
        }
        whole.iter().for_each(|whole| kernels.restore(pass, whole));
        if write && self.apart {
            let decided = batches.iter().flat_map(|batch| &batch.slices).filter(|_| whole.is_none());
            whole.iter().chain(decided).for_each(|slice| kernels.zero(pass, slice));
        }
    }
}
