//! Inside somebody else's GPU program: plan, bind, record. No submit, no wait, no readback, no allocation while recording.

use super::contest::contest_group;
use super::kernels::{self, Bindings, Kernels, Slice};
use super::layout::{self, LOW_BINS, Params, ROW_SUMS, Record, TALLY};
use super::rows::row_group;
use super::shaders::Stage;
use crate::decision::{Decision, Group};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind, NonFinite};
use crate::grid::{Class, Grid};
use crate::narrow;
use crate::plan::{self, Parts, Tuning};
use crate::rule::{Granularity, Rule, Score};
use crate::tensor::TensorSpec;
use std::ops::Range;

/// What a job will take, known before anything exists: sizes of buffers, number of dispatches, bytes moved.
#[derive(Clone, Debug)]
pub struct Plan {
    rule: Rule,
    slices: Vec<TensorSpec>,
    groups: u64,
    /// Contests that are no runs of neighbours: their keys are arranged before they are decided.
    grid: Option<Grid>,
    /// What is decided: the slices as they are, or the arranged keys of contests of equal length.
    batches: Vec<Batch>,
    mass: bool,
}

/// Contests of equal length that are decided together.
#[derive(Clone, Debug)]
struct Batch {
    /// What their keys are made of.
    slices: Vec<TensorSpec>,
    parts: Vec<Parts>,
    groups: u64,
    /// Entries of one contest, in all slices together.
    contest_len: u64,
    /// Each contest is one workgroup's, from its first sum to its last mask bit.
    rows: bool,
    digits: u32,
    /// Parts in a span, and spans of a contest.
    span: u64,
    all_spans: u64,
    /// Candidates of one contest that there is room for.
    capacity: u64,
}

/// The caller's buffers; any sub-range at a legal offset will do. Sizes may be larger than what the plan asks for: bytes
/// outside are never written. Masks, records and workspace may be parts of one buffer, weights of another, norms and scores of a third, keys
/// of a fourth: WebGPU allows no dispatch to read one part of a buffer and to write another.
#[derive(Clone, Debug)]
pub struct Buffers<'a> {
    /// One for each slice of the plan.
    pub slices: &'a [SliceBuffers<'a>],
    /// `STORAGE`: receives one [`Record`] per contest.
    pub records: wgpu::BufferBinding<'a>,
    /// `STORAGE | COPY_DST`: scratch with any content; may be shared by jobs that run one after the other.
    pub workspace: wgpu::BufferBinding<'a>,
    /// `STORAGE`: more such scratch, where [`Plan::keys_bytes`] asks for it: contests that are columns or blocks are laid end to end there.
    pub keys: Option<wgpu::BufferBinding<'a>>,
}

/// The buffers of one slice.
#[derive(Clone, Debug)]
pub struct SliceBuffers<'a> {
    /// `STORAGE`: the weights, little-endian; those of 8 and 16 bits rounded up to whole words.
    pub weights: wgpu::BufferBinding<'a>,
    /// `STORAGE`: one `f32` per column, for [`Score::Wanda`]; they must be finite, their sign is ignored.
    pub norms: Option<wgpu::BufferBinding<'a>>,
    /// `STORAGE`: one score per weight, for [`Score::Given`], stored as [`TensorSpec::scores`] says, in whole words.
    pub scores: Option<wgpu::BufferBinding<'a>>,
    /// `STORAGE`: receives one bit per entry, entry `i` at bit `i % 32` of word `i / 32`.
    pub mask: wgpu::BufferBinding<'a>,
}

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

/// Where things lie in the workspace, in bytes from its start. Offsets are multiples of 256, which is legal on every device.
struct Workspace {
    batches: Vec<Scratch>,
    /// Of arranged keys: the mask, and the records of their contests.
    arranged_mask: Range<u64>,
    arranged_records: Range<u64>,
    end: u64,
}

struct Scratch {
    tally: Range<u64>,
    span_bins: Range<u64>,
    first_bad: Range<u64>,
    candidates: Range<u64>,
}

impl Batch {
    /// `runs` says that contests are runs of one slice, of which a short one is a workgroup's.
    fn new(tuning: &Tuning, slices: Vec<TensorSpec>, groups: u64, runs: bool, digits: usize, most_bytes: u64) -> Self {
        let contest_len = slices.iter().map(|s| s.len).sum::<u64>() / groups;
        let rows = runs && contest_len <= tuning.longest_row;
        let parts: Vec<Parts> = slices.iter().map(|s| tuning.parts(s.len / groups, groups)).collect();
        let (span, all_spans) = tuning.spans(&parts, groups, most_bytes);
        let capacity = if rows { 0 } else { tuning.candidates(contest_len, groups, slices.len() as u64, most_bytes) };
        Self { slices, parts, groups, contest_len, rows, digits: digits as u32, span, all_spans, capacity }
    }

    /// Bytes of a contest's sums.
    fn stride(&self) -> u64 {
        if self.rows { ROW_SUMS * 4 } else { TALLY * 8 }
    }

    fn params(&self, rule: &Rule, mass: bool) -> Vec<Params> {
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
                digits: self.digits,
                mass: mass.into(),
                mask: 1,
                capacity: self.capacity as u32,
                ..Params::default()
            };
            first_span += parts.count.div_ceil(self.span) as u32;
            params.with_budget(rule, self.contest_len)
        });
        params.collect()
    }

    /// Dispatches of its stages, but for shared words.
    fn dispatches(&self) -> u32 {
        // stats, sift, ties, settle and apply, and for each further digit refine and histogram, on every slice.
        let slices = self.slices.len() as u32;
        if self.rows { 1 } else { 1 + self.digits + slices * (5 + 2 * (self.digits - 1)) }
    }

    /// How often its keys are read.
    fn reads(&self) -> u64 {
        if self.rows { 1 } else { 2 }
    }

    fn key_bytes(&self) -> u64 {
        self.slices.iter().map(|s| plan::weight_bytes(s.len, s.dtype)).sum()
    }
}

impl Plan {
    fn workspace(&self) -> Workspace {
        let mut end = 0u64;
        let mut take = |bytes: u64| {
            let start = end.next_multiple_of(256);
            end = start + bytes.max(16);
            start..end
        };
        // All sums come first: they are what a caller may want.
        let tallies: Vec<_> = self.batches.iter().map(|b| take(b.groups * b.stride())).collect();
        let scratch = self.batches.iter().zip(tallies).map(|(batch, tally)| {
            let (groups, slices) = (batch.groups, batch.slices.len() as u64);
            let span_bins = if batch.rows { 0 } else { groups * batch.all_spans * LOW_BINS * 4 };
            let counted = if batch.rows { 1 } else { groups };
            Scratch {
                tally,
                span_bins: take(span_bins),
                first_bad: take(groups * slices * 4),
                candidates: take(layout::candidate_bytes(counted, slices, batch.capacity)),
            }
        });
        let batches = scratch.collect();
        let (mut mask, mut records) = (0..0, 0..0);
        if self.grid.is_some() {
            let contests: u64 = self.batches.iter().map(|b| layout::padded_records(b.groups)).sum();
            mask = take(self.padded_keys() / 8);
            records = take(contests * size_of::<Record>() as u64);
        }
        Workspace { batches, arranged_mask: mask, arranged_records: records, end }
    }

    /// Arranged keys, each batch at a place where a binding of keys and one of mask bits may begin.
    fn padded_keys(&self) -> u64 {
        self.grid.map_or(0, |_| self.batches.iter().map(|b| layout::padded_keys(b.slices[0].len)).sum())
    }

    /// Bytes of [`Buffers::workspace`].
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace().end
    }

    /// Bytes of [`Buffers::keys`]; 0 where contests are runs of neighbours, and no such buffer is needed.
    pub fn keys_bytes(&self) -> u64 {
        self.padded_keys() * 4
    }

    /// Bytes of [`Buffers::records`].
    pub fn records_bytes(&self) -> u64 {
        self.groups * size_of::<Record>() as u64
    }

    /// Bytes of a slice's [`SliceBuffers::weights`]; `None` past the last slice.
    pub fn weights_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::weight_bytes(s.len, s.dtype))
    }

    /// Bytes of a slice's [`SliceBuffers::scores`]; `None` past the last slice, and where the rule takes none.
    pub fn scores_bytes(&self, slice: usize) -> Option<u64> {
        let given = self.slices.get(slice).filter(|_| self.rule.score == Score::Given);
        given.map(|s| plan::weight_bytes(s.len, s.key_dtype(Score::Given)))
    }

    /// Bytes of a slice's [`SliceBuffers::mask`]; `None` past the last slice.
    pub fn mask_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::mask_bytes(s.len))
    }

    /// Contests, each with a [`Record`]: numbered as in a [`Decision`].
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether effective number and preserved mass are computed; by default not. They cost about ten integer operations an entry, and no
    /// decision depends on them. Then [`Record::n_eff`] and [`Record::mass`] have them for a shader,
    /// [`sums_range`](Self::sums_range) says where the exact sums are left, and [`decision`](Self::decision) what those mean.
    pub fn with_mass(mut self, mass: bool) -> Self {
        self.mass = mass;
        self
    }

    /// Dispatches that [`Job::record_prune`] records.
    pub fn dispatches(&self) -> u32 {
        let decided = self.batches.iter().map(|b| b.dispatches() + u32::from(self.mass)).sum::<u32>();
        let slices = self.slices.len() as u32;
        let edges = self.slices.iter().filter(|s| plan::has_edges(s.len / self.groups, s.dtype)).count() as u32;
        let arranged = if self.grid.is_some() { 2 } else { 0 };
        decided + arranged + if self.is_apart() { slices } else { edges }
    }

    /// Whether what is decided is not what is zeroed.
    fn is_apart(&self) -> bool {
        self.grid.is_some() || self.rule.score == Score::Given
    }

    /// Bytes that [`Job::record_prune`] reads and writes in device memory, when the first digit's bin is small, as it is for anything like
    /// weights; a sixteenth of the entries is small enough. An entry in it takes 56 more, which are left out.
    pub fn bytes_moved(&self) -> (u64, u64) {
        let weights: u64 = self.slices.iter().map(|s| plan::weight_bytes(s.len, s.dtype)).sum();
        let masks: u64 = self.slices.iter().map(|s| plan::mask_bytes(s.len)).sum();
        let decided: u64 = self.batches.iter().map(|b| b.key_bytes() * b.reads()).sum();
        let (mut read, mut written) = (decided, weights + masks);
        if self.is_apart() {
            read += masks + weights;
        }
        if self.grid.is_some() {
            // What the keys are made of, they themselves, and their mask on its way to where it belongs.
            read += self.scores_bytes(0).unwrap_or(weights) + masks;
            written += self.batches.iter().map(Batch::key_bytes).sum::<u64>() + masks;
        }
        (read, written)
    }

    /// The bytes of [`Buffers::workspace`], from the binding's start, in which a job leaves the exact sums of its contests: of scores, of
    /// their squares and of kept scores. They stay until the next job uses the workspace; copy them out with the records where
    /// [`decision`](Self::decision) is wanted.
    pub fn sums_range(&self) -> Range<u64> {
        0..self.workspace().batches.last().map_or(0, |last| last.tally.end)
    }

    /// What [`Pruner`](crate::Pruner) would have returned, bit for bit, from what a job of this plan left on the device: its records, and the
    /// bytes of [`sums_range`](Self::sums_range). Effective numbers and masses are rounded once, from the exact integers.
    ///
    /// # Errors
    /// `InvalidInput` when the plan is not [`with_mass`](Self::with_mass), or when there are not as many bytes as it asks for;
    /// `NonFinite` for the first contest with a score that is no number, its slice for the tensor.
    pub fn decision(&self, records: &[Record], sums: &[u8]) -> Result<Decision, Error> {
        let wanted = self.sums_range().end;
        if !self.mass {
            return Err(Error::invalid("the plan computes no mass: ask for it by with_mass(true)"));
        }
        if records.len() as u64 != self.groups || sums.len() as u64 != wanted {
            return Err(Error::invalid(format!(
                "{} records and {} bytes of sums, the plan has {} and {wanted}",
                records.len(),
                sums.len(),
                self.groups,
            )));
        }
        if let Some(bad) = records.iter().find(|record| record.status != 0) {
            let what = [NonFinite::Nan, NonFinite::Infinity, NonFinite::Product][(bad.status - 1).min(2) as usize];
            return Err(Error::non_finite(bad.bad_slice as usize, bad.bad_index.into(), what));
        }
        // The contests of a grid have their sums in the order of its classes.
        let mut numbers: Box<dyn Iterator<Item = usize>> = match &self.grid {
            Some(grid) => Box::new(grid.by_class()),
            None => Box::new(0..records.len()),
        };
        let mut groups: Vec<(usize, Group)> = Vec::with_capacity(records.len());
        for (batch, scratch) in self.batches.iter().zip(self.workspace().batches) {
            let sums = &sums[scratch.tally.start as usize..scratch.tally.end as usize];
            let group = |(sums, number): (&[u8], usize)| (number, batch.group(&records[number], sums));
            // Sums first: where they end, no number is taken from the next batch.
            groups.extend(sums.chunks_exact(batch.stride() as usize).zip(numbers.by_ref()).map(group));
        }
        groups.sort_unstable_by_key(|&(number, _)| number);
        Ok(Decision::new(groups.into_iter().map(|(_, group)| group).collect()))
    }
}

impl Batch {
    /// A contest, from what was left of it on the device.
    fn group(&self, record: &Record, sums: &[u8]) -> Group {
        if self.rows {
            return row_group(record, sums, self.contest_len);
        }
        let mut cut = self.contest_len;
        if record.cut_span != Record::NO_CUT {
            // The slice that holds the span; those before it hold what comes first.
            let (mut before, mut spans) = (0, 0);
            for (slice, parts) in self.slices.iter().zip(&self.parts) {
                spans += parts.count.div_ceil(self.span);
                if u64::from(record.cut_span) < spans {
                    break;
                }
                before += slice.len / self.groups;
            }
            cut = before + u64::from(record.cut_index);
        }
        contest_group(record, sums, self.contest_len, cut)
    }
}

impl Kernels {
    /// Check and size a job: slices of weights, each in one binding, under one rule.
    ///
    /// With `Global`, all slices together are one contest, ties won by the earlier slice, then the lower index. With others
    /// a plan has one slice, of one contest or many: rows, columns, heads, chunks or blocks. Columns and blocks are no runs of neighbours;
    /// their keys are laid end to end in [`Buffers::keys`] and decided there, all of one size together.
    ///
    /// # Errors
    /// `InvalidInput` for an empty slice, more than one where the granularity asks for one, segments, or [`Score::Given`] without
    /// [`TensorSpec::scores`]; `Limit` when a slice or what the job needs does not fit a binding of this device.
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
            match (rule.score, spec.scores) {
                (Score::Given, None) => {
                    return Err(Error::invalid("the score is given and the slice has no scores").of_tensor(i));
                }
                (Score::Magnitude | Score::Wanda, Some(_)) => {
                    let message = format!("the score is {} and the slice has scores of its own", rule.score);
                    return Err(Error::invalid(message).of_tensor(i));
                }
                (Score::Given, Some(_)) | (Score::Magnitude | Score::Wanda, None) => {}
            }
        }
        rule.check()?;
        let limits = self.device().limits();
        // Shaders count words in 32 bits.
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(16 << 30);
        let digits = slices.iter().map(|s| narrow::digits_of(s.key_dtype(rule.score), rule.score)).max().unwrap_or(3);
        let judged: Vec<_> =
            slices.iter().map(|s| TensorSpec { dtype: s.key_dtype(rule.score), scores: None, ..*s }).collect();
        let mut grid = None;
        let batches = match rule.granularity {
            Granularity::Global | Granularity::Tensor => {
                vec![Batch::new(self.tuning(), judged, 1, false, digits, most)]
            }
            Granularity::Segments => {
                return Err(Error::invalid("a job decides about contests of a matrix, and segments are none"));
            }
            granularity => {
                let blocks = Grid::of(slices[0], granularity)?;
                if let Some(run) = blocks.run() {
                    vec![Batch::new(self.tuning(), judged, slices[0].len / run, true, digits, most)]
                } else {
                    grid = Some(blocks);
                    let keys = |Class { count, len }| {
                        let (groups, len) = (count as u64, len as u64);
                        let spec = TensorSpec { dtype: Dtype::F32, len: groups * len, row_len: len, scores: None };
                        Batch::new(self.tuning(), vec![spec], groups, true, digits, most)
                    };
                    blocks.classes().map(keys).collect()
                }
            }
        };
        let groups = batches.iter().map(|b| b.groups).sum();
        let plan = Plan { rule: *rule, slices: slices.to_vec(), groups, grid, batches, mass: false };
        let largest = |bytes: &dyn Fn(usize) -> Option<u64>| (0..slices.len()).filter_map(bytes).max().unwrap_or(0);
        let norms =
            if rule.score == Score::Wanda { slices.iter().map(|s| s.row_len * 4).max().unwrap_or(0) } else { 0 };
        let workspace = plan.workspace();
        let scratch = |range: fn(&Scratch) -> &Range<u64>| {
            workspace.batches.iter().map(range).map(|range| range.end - range.start).max().unwrap_or(0)
        };
        for (what, bytes) in [
            ("weights", largest(&|i| plan.weights_bytes(i))),
            ("scores", largest(&|i| plan.scores_bytes(i))),
            ("norms", norms),
            ("keys", plan.keys_bytes()),
            ("records", plan.records_bytes()),
            ("workspace's counters", scratch(|s| &s.tally)),
            ("workspace's spans", scratch(|s| &s.span_bins)),
            ("workspace's candidates", scratch(|s| &s.candidates)),
            ("workspace's records", workspace.arranged_records.end - workspace.arranged_records.start),
        ] {
            if bytes > most {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("the {what} take {bytes} bytes, a binding holds {most}"),
                ));
            }
        }
        if workspace.end > limits.max_buffer_size {
            let (bytes, most) = (workspace.end, limits.max_buffer_size);
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the workspace takes {bytes} bytes, a buffer holds {most}"),
            ));
        }
        Ok(plan)
    }

    /// Compile what a plan needs, so that recording it for the first time does not wait for the compiler.
    pub fn warm_up(&self, plan: &Plan) {
        use Stage::{
            Apply, Arrange, Budget, Edges, Histogram, Measure, Narrow, Refine, Restore, Settle, Sift, Stats, Ties, Zero,
        };
        let score = if plan.grid.is_some() { Score::Magnitude } else { plan.rule.score };
        for batch in &plan.batches {
            for slice in &batch.slices {
                let compile = |stage, write| self.compile(stage, slice.dtype, score, write);
                let row = [self.rows_stage(batch.contest_len as u32)];
                let contest = [Stats, Budget, Narrow, Sift, Refine, Histogram, Ties, Settle, Apply];
                for &stage in if batch.rows { &row[..] } else { &contest } {
                    compile(stage, false);
                    if !plan.is_apart() {
                        compile(stage, true);
                    }
                }
                if plan.mass {
                    compile(Measure { rows: batch.rows }, false);
                }
            }
        }
        for slice in &plan.slices {
            if plan.grid.is_some() {
                let dtype = slice.key_dtype(plan.rule.score);
                self.compile(Arrange, dtype, plan.rule.score, false);
                self.compile(Restore, dtype, plan.rule.score, false);
            }
            if plan.is_apart() {
                self.compile(Zero, slice.dtype, plan.rule.score, true);
            } else if plan::has_edges(slice.len / plan.groups, slice.dtype) {
                self.compile(Edges, slice.dtype, plan.rule.score, true);
            }
        }
    }

    /// Bind a plan to buffers: the last step that creates anything (bind groups, and a small parameter buffer).
    ///
    /// # Errors
    /// `InvalidInput` when a buffer is too small, at an offset that the device does not allow, lacks a usage, or shares bytes with another that
    /// is written, or when norms, scores or keys are missing or superfluous.
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

        let mut params: Vec<Params> = plan.batches.iter().flat_map(|b| b.params(&plan.rule, plan.mass)).collect();
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
                self.slice(values, dtype, score, &bindings)
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

        let start = buffers.workspace.offset;
        let mut clear = Vec::new();
        for (batch, at) in plan.batches.iter().zip(&workspace.batches) {
            // Rows overwrite their sums; everything else counts up from zero. Of the candidates, only how many there are.
            let mut counters = at.first_bad.clone();
            if !batch.rows {
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

/// What the contests of a slice have to themselves.
#[derive(Clone)]
struct Own<'a> {
    /// What is judged: weights, scores or keys.
    judged: wgpu::BufferBinding<'a>,
    norms: Option<wgpu::BufferBinding<'a>>,
    /// What is zeroed, and how that is stored.
    zeroed: Option<(wgpu::BufferBinding<'a>, Dtype)>,
    mask: wgpu::BufferBinding<'a>,
    records: wgpu::BufferBinding<'a>,
}

impl Plan {
    /// A slice's buffers, each cut down to what is needed of it.
    fn own<'a>(
        &self,
        spec: &TensorSpec,
        b: &SliceBuffers<'a>,
        records: &wgpu::BufferBinding<'a>,
        align: u64,
    ) -> Result<Own<'a>, Error> {
        let storage = wgpu::BufferUsages::STORAGE;
        let score = self.rule.score;
        let weights = check("weights", &b.weights, plan::weight_bytes(spec.len, spec.dtype), storage, align)?;
        let mask = check("mask", &b.mask, plan::mask_bytes(spec.len), storage, align)?;
        let beside = |what: &str, wanted: bool, binding: &Option<wgpu::BufferBinding<'a>>, bytes: u64| match binding {
            Some(binding) if wanted => check(what, binding, bytes, storage, align).map(Some),
            None if wanted => Err(Error::invalid(format!("the score is {score} and the slice has no {what}"))),
            Some(_) => Err(Error::invalid(format!("the score is {score} and the slice has {what}"))),
            None => Ok(None),
        };
        let norms = beside("norms", score == Score::Wanda, &b.norms, spec.row_len * 4)?;
        let score_bytes = plan::weight_bytes(spec.len, spec.key_dtype(score));
        let scores = beside("scores", score == Score::Given, &b.scores, score_bytes)?;
        Ok(Own {
            judged: scores.unwrap_or_else(|| weights.clone()),
            norms,
            zeroed: Some((weights, spec.dtype)),
            mask,
            records: records.clone(),
        })
    }

    /// What is written must not share bytes: a decision would read what another one wrote.
    fn check_overlaps(&self, buffers: &Buffers<'_>) -> Result<(), Error> {
        let mut written = vec![
            ("records".to_owned(), &buffers.records, self.records_bytes()),
            ("workspace".to_owned(), &buffers.workspace, self.workspace_bytes()),
        ];
        written.extend(buffers.keys.as_ref().map(|keys| ("keys".to_owned(), keys, self.keys_bytes())));
        for (i, (slice, spec)) in buffers.slices.iter().zip(&self.slices).enumerate() {
            written.push((format!("mask of slice {i}"), &slice.mask, plan::mask_bytes(spec.len)));
            written.push((format!("weights of slice {i}"), &slice.weights, plan::weight_bytes(spec.len, spec.dtype)));
        }
        // Norms may be shared; what is written before another slice reads them is none.
        for (i, (slice, spec)) in buffers.slices.iter().zip(&self.slices).enumerate() {
            let Some(norms) = &slice.norms else { continue };
            let end = norms.offset + spec.row_len * 4;
            let is_in = |(_, b, bytes): &&(String, &wgpu::BufferBinding<'_>, u64)| {
                b.buffer == norms.buffer && b.offset < end && norms.offset < b.offset + bytes
            };
            if let Some((what, b, bytes)) = written.iter().find(is_in) {
                return Err(Error::invalid(format!(
                    "the norms binding, from {}, overlaps the {what} binding, of {bytes} bytes from {}",
                    norms.offset, b.offset
                ))
                .of_tensor(i));
            }
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

    /// What the slice is told whose contests are the blocks of a grid.
    fn grid_params(&self, grid: &Grid) -> Params {
        Params {
            len: (grid.rows * grid.columns) as u32,
            groups: self.groups as u32,
            columns: grid.columns as u32,
            block_rows: grid.block_rows as u32,
            block_columns: grid.block_columns as u32,
            ..Params::default()
        }
    }
}

impl Buffers<'_> {
    /// A dispatch that reads some of a buffer and writes another part of it is what WebGPU forbids.
    fn check_usages(&self) -> Result<(), Error> {
        let written = |buffer: &wgpu::Buffer| {
            let keys = self.keys.as_ref().map(|keys| keys.buffer);
            let masks = self.slices.iter().map(|s| s.mask.buffer);
            masks.chain(keys).chain([self.records.buffer, self.workspace.buffer]).any(|b| b == buffer)
        };
        if self.keys.as_ref().is_some_and(|keys| keys.buffer == self.workspace.buffer) {
            return Err(Error::invalid(
                "the keys share a buffer with the workspace, which is written while they are read",
            ));
        }
        for (i, slice) in self.slices.iter().enumerate() {
            if slice.norms.as_ref().is_some_and(|norms| norms.buffer == slice.weights.buffer) {
                return Err(Error::invalid("the norms share a buffer with the weights, which are written").of_tensor(i));
            }
            for (what, binding) in
                [("weights", Some(&slice.weights)), ("norms", slice.norms.as_ref()), ("scores", slice.scores.as_ref())]
            {
                if binding.is_some_and(|b| written(b.buffer)) {
                    let message = format!(
                        "the {what} share a buffer with a mask, the records, the workspace or the keys, which are written"
                    );
                    return Err(Error::invalid(message).of_tensor(i));
                }
            }
        }
        Ok(())
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
                kernels.contest(pass, &slices.iter().collect::<Vec<_>>(), write);
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

/// Some bytes of a binding.
fn part<'a>(binding: &wgpu::BufferBinding<'a>, at: u64, bytes: u64) -> wgpu::BufferBinding<'a> {
    wgpu::BufferBinding { buffer: binding.buffer, offset: binding.offset + at, size: wgpu::BufferSize::new(bytes) }
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
