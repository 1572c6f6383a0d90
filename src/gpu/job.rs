//! Inside somebody else's GPU program: plan, bind, record. No submit, no wait, no readback, no allocation while recording.

use super::contest::contest_group;
use super::kernels::{self, Bindings, Kernels, Slice};
use super::layout::{self, LOW_BINS, Params, ROW_SUMS, Record, TALLY};
use super::rows::row_group;
use super::shaders::Stage;
use crate::decision::Decision;
use crate::error::{Error, ErrorKind, NonFinite};
use crate::grid::Grid;
use crate::narrow;
use crate::plan::{self, Parts};
use crate::rule::{Granularity, Rule, Score};
use crate::tensor::TensorSpec;

/// What a job will take, known before anything exists: sizes of buffers, number of dispatches, bytes moved.
#[derive(Clone, Debug)]
pub struct Plan {
    rule: Rule,
    slices: Vec<TensorSpec>,
    parts: Vec<Parts>,
    groups: u64,
    /// Entries of one, where a slice holds several.
    group_len: Option<u64>,
    /// Each contest is one workgroup's, from its first sum to its last mask bit.
    rows: bool,
    digits: u32,
    mass: bool,
    /// Parts in a span, and spans of a contest.
    span: u64,
    all_spans: u64,
    /// Candidates of one contest that there is room for.
    capacity: u64,
}

/// The caller's buffers; any sub-range at a legal offset will do. Sizes may be larger than what the plan asks for: bytes
/// outside are never written. Masks, records and workspace may be parts of one buffer, weights of another, norms of a third: WebGPU
/// allows no dispatch to read one part of a buffer and to write another.
#[derive(Clone, Debug)]
pub struct Buffers<'a> {
    /// One for each slice of the plan.
    pub slices: &'a [SliceBuffers<'a>],
    /// `STORAGE`: receives one [`Record`] per contest.
    pub records: wgpu::BufferBinding<'a>,
    /// `STORAGE | COPY_DST`: scratch with any content; may be shared by jobs that run one after the other.
    pub workspace: wgpu::BufferBinding<'a>,
}

/// The buffers of one slice.
#[derive(Clone, Debug)]
pub struct SliceBuffers<'a> {
    /// `STORAGE`: the weights, little-endian; those of 8 and 16 bits rounded up to whole words.
    pub weights: wgpu::BufferBinding<'a>,
    /// `STORAGE`: one `f32` per column, for [`Score::Wanda`]; they must be finite, their sign is ignored.
    pub norms: Option<wgpu::BufferBinding<'a>>,
    /// `STORAGE`: receives one bit per entry, entry `i` at bit `i % 32` of word `i / 32`.
    pub mask: wgpu::BufferBinding<'a>,
}

/// A plan bound to buffers: can be recorded any number of times.
#[derive(Debug)]
pub struct Job {
    kernels: Kernels,
    slices: Vec<Slice>,
    rows: bool,
    workspace: wgpu::Buffer,
    clear: std::ops::Range<u64>,
}

/// Where things lie in the workspace, in bytes from its start. Offsets are multiples of 256, which is legal on every device.
struct Workspace {
    tally: (u64, u64),
    span_bins: (u64, u64),
    first_bad: (u64, u64),
    candidates: (u64, u64),
}

impl Plan {
    fn workspace(&self) -> Workspace {
        let tally = if self.rows { self.groups * ROW_SUMS * 4 } else { self.groups * TALLY * 8 };
        let span_bins = if self.rows { 16 } else { self.groups * self.all_spans * LOW_BINS * 4 };
        let first_bad = (self.groups * self.slices.len() as u64 * 4).max(16);
        let candidates =
            layout::candidate_bytes(if self.rows { 1 } else { self.groups }, self.slices.len() as u64, self.capacity)
                .max(16);
        let bins_at = tally.next_multiple_of(256);
        let bad_at = (bins_at + span_bins).next_multiple_of(256);
        let candidates_at = (bad_at + first_bad).next_multiple_of(256);
        Workspace {
            tally: (0, tally),
            span_bins: (bins_at, span_bins),
            first_bad: (bad_at, first_bad),
            candidates: (candidates_at, candidates),
        }
    }

    /// Bytes of [`Buffers::workspace`].
    pub fn workspace_bytes(&self) -> u64 {
        let (at, len) = self.workspace().candidates;
        at + len
    }

    /// Bytes of [`Buffers::records`].
    pub fn records_bytes(&self) -> u64 {
        self.groups * size_of::<Record>() as u64
    }

    /// Bytes of a slice's [`SliceBuffers::weights`]; `None` past the last slice.
    pub fn weights_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::weight_bytes(s.len, s.dtype))
    }

    /// Bytes of a slice's [`SliceBuffers::mask`]; `None` past the last slice.
    pub fn mask_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::mask_bytes(s.len))
    }

    /// Contests, each with a [`Record`].
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether the sum of the kept scores is computed; by default not. It costs about ten integer operations an entry; the decision
    /// does not depend on it. [`sums_range`](Self::sums_range) says where it is left, and [`decision`](Self::decision) what it means.
    pub fn with_mass(mut self, mass: bool) -> Self {
        self.mass = mass;
        self
    }

    /// Dispatches that [`Job::record_prune`] records.
    pub fn dispatches(&self) -> u32 {
        let slices = self.slices.len() as u32;
        let edges = self.slices.iter().filter(|s| self.has_edges(s)).count() as u32;
        // stats, sift, ties, settle and apply, and for each further digit refine and histogram, on every slice.
        if self.rows { 1 + edges } else { 1 + self.digits + slices * (5 + 2 * (self.digits - 1)) + edges }
    }

    /// Bytes that [`Job::record_prune`] reads and writes in device memory at most, when the first digit's bin is small, as it is for
    /// anything like weights; a sixteenth of the entries is small enough.
    pub fn bytes_moved(&self) -> (u64, u64) {
        let weights: u64 = self.slices.iter().map(|s| plan::weight_bytes(s.len, s.dtype)).sum();
        let masks: u64 = self.slices.iter().map(|s| plan::mask_bytes(s.len)).sum();
        let reads = if self.rows { 1 } else { 2 };
        (weights * reads, weights + masks)
    }

    /// The bytes of [`Buffers::workspace`], from the binding's start, in which a job leaves the exact sums of its contests: of scores, of
    /// their squares and of kept scores. They stay until the next job uses the workspace; copy them out with the records where
    /// [`decision`](Self::decision) is wanted.
    pub fn sums_range(&self) -> std::ops::Range<u64> {
        let (at, len) = self.workspace().tally;
        at..at + len
    }

    /// What [`Pruner`](crate::Pruner) would have returned, bit for bit, from what a job of this plan left on the device: its records, and the
    /// bytes of [`sums_range`](Self::sums_range). Effective numbers and masses are rounded once, from the exact integers.
    ///
    /// # Errors
    /// `InvalidInput` when the plan is not [`with_mass`](Self::with_mass), or when there are not as many bytes as it asks for;
    /// `NonFinite` for the first contest with a score that is no number, its slice for the tensor.
    pub fn decision(&self, records: &[Record], sums: &[u8]) -> Result<Decision, Error> {
        let wanted = self.sums_range();
        if !self.mass {
            return Err(Error::invalid("the plan computes no mass: ask for it by with_mass(true)"));
        }
        if records.len() as u64 != self.groups || sums.len() as u64 != wanted.end - wanted.start {
            return Err(Error::invalid(format!(
                "{} records and {} bytes of sums, the plan has {} and {}",
                records.len(),
                sums.len(),
                self.groups,
                wanted.end - wanted.start
            )));
        }
        let contest_len = self.slices.iter().map(|s| s.len).sum::<u64>() / self.groups;
        let params = self.params();
        let stride = sums.len() / records.len();
        let group = |(record, sums): (&Record, &[u8])| {
            if record.status != 0 {
                let what =
                    [NonFinite::Nan, NonFinite::Infinity, NonFinite::Product][(record.status - 1).min(2) as usize];
                return Err(Error::non_finite(record.bad_slice as usize, record.bad_index.into(), what));
            }
            if self.rows {
                return Ok(row_group(record, sums, contest_len));
            }
            let mut cut = contest_len;
            if record.cut_span != Record::NO_CUT {
                // The last slice that begins at or before the span is the one that holds it.
                let slice = params.iter().rposition(|p| p.first_span <= record.cut_span).unwrap_or(0);
                let before: u64 = params[..slice].iter().map(|p| u64::from(p.group_len)).sum();
                cut = before + u64::from(record.cut_index);
            }
            Ok(contest_group(record, sums, contest_len, cut))
        };
        let groups: Result<Vec<_>, Error> = records.iter().zip(sums.chunks_exact(stride)).map(group).collect();
        Ok(Decision::new(groups?))
    }

    fn has_edges(&self, slice: &TensorSpec) -> bool {
        plan::has_edges(self.group_len.unwrap_or(slice.len), slice.dtype)
    }
}

impl Kernels {
    /// Check and size a job: slices of weights, each in one binding, under one rule.
    ///
    /// With `Global`, all slices together are one contest, ties won by the earlier slice, then the lower index. With others
    /// a plan has one slice: one contest, or one per row, head or chunk, as long as those are equal runs of neighbours.
    ///
    /// # Errors
    /// `InvalidInput` for an empty slice, or more than one where the granularity asks for one; `Limit` when a slice or
    /// what the job needs does not fit a binding of this device.
    pub fn plan(&self, slices: &[TensorSpec], rule: &Rule) -> Result<Plan, Error> {
        kernels::check_limits(&self.device().limits())?;
        if slices.is_empty() || (slices.len() > 1 && rule.granularity != Granularity::Global) {
            let message = format!("{} slices for granularity {}, which takes one", slices.len(), rule.granularity);
            return Err(Error::invalid(message));
        }
        for (i, spec) in slices.iter().enumerate() {
            if spec.len == 0 {
                return Err(Error::invalid("a contest of 0 entries has no effective number").of_tensor(i));
            }
            TensorSpec::new(spec.dtype, spec.len, spec.row_len).map_err(|e| e.of_tensor(i))?;
            if spec.len > plan::MOST_ENTRIES {
                let message = format!("a slice has {} entries, a job takes {}", spec.len, plan::MOST_ENTRIES);
                return Err(Error::new(ErrorKind::Limit, message).of_tensor(i));
            }
        }
        rule.check()?;
        if rule.score == Score::Given {
            return Err(Error::invalid(
                "a job judges what it is given as weights: pass your scores as those, and ask for a mask",
            ));
        }
        let (groups, group_len) = match rule.granularity {
            Granularity::Global | Granularity::Tensor => (1, None),
            granularity => {
                let run = Grid::of(slices[0], granularity)?.run().filter(|_| granularity != Granularity::Segments);
                let run = run.ok_or_else(|| {
                    Error::invalid(format!("a job decides about equal runs of neighbours, and {granularity} is none"))
                })?;
                (slices[0].len / run, Some(run))
            }
        };
        let rows = group_len.is_some_and(|len| len <= plan::LONGEST_ROW);
        let parts = slices.iter().map(|s| Parts::of(group_len.unwrap_or(s.len), groups)).collect();
        let digits = slices.iter().map(|s| narrow::digits_of(s.dtype, rule.score)).max().unwrap_or(3) as u32;
        let limits = self.device().limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let parts: Vec<Parts> = parts;
        let (span, all_spans) = plan::spans(&parts, groups, most);
        let contest_len = slices.iter().map(|s| s.len).sum::<u64>() / groups;
        let capacity = if rows { 0 } else { plan::candidates(contest_len, groups, slices.len() as u64, most) };
        let plan = Plan {
            rule: *rule,
            slices: slices.to_vec(),
            parts,
            groups,
            group_len,
            rows,
            digits,
            mass: false,
            span,
            all_spans,
            capacity,
        };
        let workspace = plan.workspace();
        let largest_slice = slices.iter().map(|s| plan::weight_bytes(s.len, s.dtype)).max().unwrap_or(0);
        let norms =
            if rule.score == Score::Wanda { slices.iter().map(|s| s.row_len * 4).max().unwrap_or(0) } else { 0 };
        for (what, bytes) in [
            ("weights", largest_slice),
            ("norms", norms),
            ("records", plan.records_bytes()),
            ("workspace's counters", workspace.tally.1),
            ("workspace's spans", workspace.span_bins.1),
            ("workspace's candidates", workspace.candidates.1),
        ] {
            if bytes > most {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("the {what} take {bytes} bytes, a binding holds {most}"),
                ));
            }
        }
        Ok(plan)
    }

    /// Compile what a plan needs, so that recording it for the first time does not wait for the compiler.
    pub fn warm_up(&self, plan: &Plan) {
        for slice in &plan.slices {
            let compile = |stage, write| self.compile(stage, slice.dtype, plan.rule.score, write);
            if plan.rows {
                let row_len = plan.group_len.unwrap_or(slice.len);
                let stage = kernels::rows_stage(row_len as u32);
                compile(stage, false);
                compile(stage, true);
            } else {
                use Stage::{Apply, Budget, Histogram, Narrow, Refine, Settle, Sift, Stats, Ties};
                for stage in [Stats, Budget, Narrow, Sift, Refine, Histogram, Ties, Settle, Apply] {
                    compile(stage, false);
                    compile(stage, true);
                }
            }
            if plan.has_edges(slice) {
                compile(Stage::Edges, true);
            }
        }
    }

    /// Bind a plan to buffers: the last step that creates anything (bind groups, and a small parameter buffer).
    ///
    /// # Errors
    /// `InvalidInput` when a buffer is too small, at an offset that the device does not allow, lacks a usage, or norms are missing
    /// or superfluous.
    pub fn bind(&self, plan: &Plan, buffers: &Buffers<'_>) -> Result<Job, Error> {
        if buffers.slices.len() != plan.slices.len() {
            let message = format!("buffers for {} slices, the plan has {}", buffers.slices.len(), plan.slices.len());
            return Err(Error::invalid(message));
        }
        let align = u64::from(self.device().limits().min_storage_buffer_offset_alignment);
        let storage = wgpu::BufferUsages::STORAGE;
        check("workspace", &buffers.workspace, plan.workspace_bytes(), storage | wgpu::BufferUsages::COPY_DST, align)?;
        let records = check("records", &buffers.records, plan.records_bytes(), storage, align)?;
        let workspace = plan.workspace();
        let in_workspace = |(at, len): (u64, u64)| wgpu::BufferBinding {
            buffer: buffers.workspace.buffer,
            offset: buffers.workspace.offset + at,
            size: wgpu::BufferSize::new(len),
        };
        // A dispatch that reads some of a buffer and writes another part of it is what WebGPU forbids.
        let written = |buffer: &wgpu::Buffer| {
            let masks = buffers.slices.iter().map(|s| s.mask.buffer);
            masks.chain([buffers.records.buffer, buffers.workspace.buffer]).any(|b| b == buffer)
        };
        for (i, slice) in buffers.slices.iter().enumerate() {
            if slice.norms.as_ref().is_some_and(|norms| norms.buffer == slice.weights.buffer) {
                return Err(Error::invalid("the norms share a buffer with the weights, which are written").of_tensor(i));
            }
            for (what, binding) in [("weights", Some(&slice.weights)), ("norms", slice.norms.as_ref())] {
                if binding.is_some_and(|b| written(b.buffer)) {
                    let message = format!(
                        "the {what} share a buffer with a mask, the records or the workspace, which are written"
                    );
                    return Err(Error::invalid(message).of_tensor(i));
                }
            }
        }
        plan.check_overlaps(buffers)?;
        let params = plan.params();
        // Uniform bindings begin at multiples of 256.
        let stride = (size_of::<Params>() as u64).next_multiple_of(256);
        let params_buffer = self.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("emprune.params"),
            size: stride * params.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: true,
        });
        {
            let mut mapped = params_buffer
                .slice(..)
                .get_mapped_range_mut()
                .map_err(|e| Error::new(ErrorKind::OutOfMemory, e.to_string()))?;
            for (i, params) in params.iter().enumerate() {
                let at = i * stride as usize;
                mapped.slice(at..at + size_of::<Params>()).copy_from_slice(bytemuck::bytes_of(params));
            }
        }
        params_buffer.unmap();
        let mut slices = Vec::new();
        for (i, (spec, b)) in plan.slices.iter().zip(buffers.slices).enumerate() {
            let of_slice = |e: Error| e.of_tensor(i);
            let weight_bytes = plan::weight_bytes(spec.len, spec.dtype);
            let weights = check("weights", &b.weights, weight_bytes, storage, align).map_err(of_slice)?;
            let mask = check("mask", &b.mask, plan::mask_bytes(spec.len), storage, align).map_err(of_slice)?;
            let norms = match (plan.rule.score, &b.norms) {
                (Score::Wanda, Some(norms)) => {
                    Some(check("norms", norms, spec.row_len * 4, storage, align).map_err(of_slice)?)
                }
                (Score::Magnitude | Score::Given, None) => None,
                (Score::Wanda, None) => {
                    return Err(Error::invalid("the score is Wanda and the slice has no norms").of_tensor(i));
                }
                (Score::Magnitude | Score::Given, Some(_)) => {
                    return Err(Error::invalid("the score is magnitude and the slice has norms").of_tensor(i));
                }
            };
            let bindings = Bindings {
                params: wgpu::BufferBinding {
                    buffer: &params_buffer,
                    offset: i as u64 * stride,
                    size: wgpu::BufferSize::new(size_of::<Params>() as u64),
                },
                weights,
                norms,
                tally: in_workspace(workspace.tally),
                records: records.clone(),
                span_bins: in_workspace(workspace.span_bins),
                mask,
                first_bad: in_workspace(workspace.first_bad),
                candidates: in_workspace(workspace.candidates),
            };
            slices.push(self.slice(params[i], spec.dtype, plan.rule.score, true, &bindings));
        }
        let start = buffers.workspace.offset;
        // Rows overwrite their sums; everything else counts up from zero. Of the candidates, only how many there are.
        let first = if plan.rows { workspace.first_bad.0 } else { 0 };
        let counts = plan.groups * plan.slices.len() as u64 * 4;
        let end = if plan.rows { workspace.candidates.0 } else { workspace.candidates.0 + counts };
        Ok(Job {
            kernels: self.clone(),
            slices,
            rows: plan.rows,
            workspace: buffers.workspace.buffer.clone(),
            clear: start + first..start + end,
        })
    }
}

impl Plan {
    /// What is written must not share bytes: a decision would read what another one wrote.
    fn check_overlaps(&self, buffers: &Buffers<'_>) -> Result<(), Error> {
        let mut written = vec![
            ("records".to_owned(), &buffers.records, self.records_bytes()),
            ("workspace".to_owned(), &buffers.workspace, self.workspace_bytes()),
        ];
        for (i, (slice, spec)) in buffers.slices.iter().zip(&self.slices).enumerate() {
            written.push((format!("mask of slice {i}"), &slice.mask, plan::mask_bytes(spec.len)));
            written.push((format!("weights of slice {i}"), &slice.weights, plan::weight_bytes(spec.len, spec.dtype)));
        }
        // Neighbours in a buffer are neighbours in this order.
        written.sort_by_key(|(_, binding, _)| (binding.buffer, binding.offset));
        for pair in written.windows(2) {
            let [(one, a, bytes), (other, b, _)] = pair else { continue };
            if a.buffer == b.buffer && a.offset + bytes > b.offset {
                return Err(Error::invalid(format!(
                    "the {one} binding, of {bytes} bytes from {}, overlaps the {other} binding, from {}",
                    a.offset, b.offset
                )));
            }
        }
        Ok(())
    }

    fn params(&self) -> Vec<Params> {
        let contest_len = self.group_len.unwrap_or_else(|| self.slices.iter().map(|s| s.len).sum());
        let mut first_span = 0;
        let slices = self.slices.iter().zip(&self.parts).enumerate();
        let params = slices.map(|(i, (spec, parts))| {
            let params = Params {
                len: spec.len as u32,
                group_len: (spec.len / self.groups) as u32,
                groups: self.groups as u32,
                parts: parts.count as u32,
                part_len: parts.len as u32,
                span: self.span as u32,
                first_span,
                all_spans: self.all_spans as u32,
                slice: i as u32,
                slices: self.slices.len() as u32,
                columns: spec.row_len as u32,
                column: 0,
                digits: self.digits,
                mass: self.mass.into(),
                mask: 1,
                capacity: self.capacity as u32,
                ..Params::default()
            };
            let params = params.with_budget(&self.rule, contest_len);
            first_span += parts.count.div_ceil(self.span) as u32;
            params
        });
        params.collect()
    }
}

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
        let Self { kernels, slices, workspace, clear, .. } = self;
        encoder.clear_buffer(workspace, clear.start, Some(clear.end - clear.start));
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("emprune"), timestamp_writes: None });
        let pass = &mut pass;
        if self.rows {
            slices.iter().for_each(|slice| kernels.rows(pass, slice, write));
            return;
        }
        kernels.contest(pass, &slices.iter().collect::<Vec<_>>(), write);
    }
}

/// The binding, cut down to the bytes that are needed.
fn check<'a>(
    what: &str,
    binding: &wgpu::BufferBinding<'a>,
    bytes: u64,
    usage: wgpu::BufferUsages,
    align: u64,
) -> Result<wgpu::BufferBinding<'a>, Error> {
    let rest = binding.buffer.size().saturating_sub(binding.offset);
    let had = binding.size.map_or(rest, |size| size.get().min(rest));
    if had < bytes {
        return Err(Error::invalid(format!("the {what} binding has {had} bytes, the plan needs {bytes}")));
    }
    if !binding.offset.is_multiple_of(align) {
        return Err(Error::invalid(format!("the {what} binding begins at {}, no multiple of {align}", binding.offset)));
    }
    if !binding.buffer.usage().contains(usage) {
        return Err(Error::invalid(format!(
            "the {what} buffer has usage {:?}, it needs {usage:?}",
            binding.buffer.usage()
        )));
    }
    Ok(wgpu::BufferBinding { buffer: binding.buffer, offset: binding.offset, size: wgpu::BufferSize::new(bytes) })
}
