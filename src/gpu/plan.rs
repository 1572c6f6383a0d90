//! What a job will take: checked and sized before anything exists.

use super::contest::contest_group;
use super::kernels::{self, Kernels};
use super::layout::{self, LOW_BINS, Params, ROW_SUMS, Record, TALLY};
use super::rows::row_group;
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
    pub(super) rule: Rule,
    pub(super) slices: Vec<TensorSpec>,
    pub(super) groups: u64,
    /// Contests that are no runs of neighbours: their keys are arranged before they are decided.
    pub(super) grid: Option<Grid>,
    /// What is decided: the slices as they are, or the arranged keys of contests of equal length.
    pub(super) batches: Vec<Batch>,
    pub(super) mass: bool,
    /// The most bytes of a binding, and of a buffer.
    most: (u64, u64),
}

/// Contests of equal length that are decided together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// What their keys are made of.
    pub(super) slices: Vec<TensorSpec>,
    pub(super) parts: Vec<Parts>,
    pub(super) groups: u64,
    /// Entries of one contest, in all slices together.
    pub(super) contest_len: u64,
    /// Each contest is one workgroup's, from its first sum to its last mask bit.
    pub(super) rows: bool,
    pub(super) digits: u32,
    /// Parts in a span, and spans of a contest.
    pub(super) span: u64,
    pub(super) all_spans: u64,
    /// Candidates of one contest that there is room for.
    pub(super) capacity: u64,
}

/// Where things lie in the workspace, in bytes from its start. Offsets are multiples of 256, which is legal on every device.
pub(super) struct Workspace {
    pub(super) batches: Vec<Scratch>,
    /// Of arranged keys: the mask, and the records of their contests.
    pub(super) arranged_mask: Range<u64>,
    pub(super) arranged_records: Range<u64>,
    pub(super) end: u64,
}

pub(super) struct Scratch {
    pub(super) tally: Range<u64>,
    pub(super) span_bins: Range<u64>,
    pub(super) first_bad: Range<u64>,
    pub(super) candidates: Range<u64>,
}

impl Batch {
    /// `runs` says that contests are runs of one slice, of which a short one is a workgroup's.
    fn new(
        tuning: &Tuning,
        slices: Vec<TensorSpec>,
        score: Score,
        groups: u64,
        runs: bool,
        digits: usize,
        (most_bytes, most_candidates): (u64, u64),
    ) -> Self {
        let contest_len = slices.iter().map(|s| s.len).sum::<u64>() / groups;
        let rows = runs && contest_len <= tuning.longest_row;
        let parts_of = |s: &TensorSpec| tuning.parts(s.len / groups, groups, plan::has_levels(s.dtype, score));
        let parts: Vec<Parts> = slices.iter().map(parts_of).collect();
        let (span, all_spans) = tuning.spans(&parts, groups, most_bytes);
        let capacity =
            if rows { 0 } else { tuning.candidates(contest_len, groups, slices.len() as u64, most_candidates) };
        Self { slices, parts, groups, contest_len, rows, digits: digits as u32, span, all_spans, capacity }
    }

    /// Bytes of a contest's sums. Those of a row are written down for the mass alone.
    fn stride(&self, mass: bool) -> u64 {
        match (self.rows, mass) {
            (true, true) => ROW_SUMS * 4,
            (true, false) => 0,
            (false, _) => TALLY * 8,
        }
    }

    pub(super) fn params(&self, rule: &Rule) -> Vec<Params> {
        let mut first_span = 0;
        let slices = self.slices.iter().zip(&self.parts).enumerate();
        let params = slices.map(|(i, (spec, parts))| {
            let params = Params {
                len: spec.len as u32,
                group_len: (spec.len / self.groups) as u32,
                groups: self.groups as u32,
                parts: parts.count as u32,
                part_len: parts.len as u32,
                fold: parts.fold as u32,
                span: self.span as u32,
                first_span,
                all_spans: self.all_spans as u32,
                slice: i as u32,
                slices: self.slices.len() as u32,
                columns: spec.row_len as u32,
                digits: self.digits,
                mask: 1,
                capacity: self.capacity as u32,
                refiners: parts.refiners as u32,
                ..Params::default()
            };
            first_span += parts.count.div_ceil(self.span) as u32;
            params.with_budget(rule, self.contest_len)
        });
        params.collect()
    }

    /// Dispatches of its stages, but for shared words.
    fn dispatches(&self) -> u32 {
        // focus and budget, and a narrow for each further digit; stats, sift, ties, settle and apply, and a histogram for each further digit, on every slice.
        let slices = self.slices.len() as u32;
        if self.rows { 1 } else { 1 + self.digits + slices * (4 + self.digits) }
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
    pub(super) fn workspace(&self) -> Workspace {
        let mut end = 0u64;
        let mut take = |bytes: u64| {
            let start = end.next_multiple_of(256);
            end = start + bytes.max(16);
            start..end
        };
        // All sums come first: they are what a caller may want.
        let tallies: Vec<_> = self.batches.iter().map(|b| take(b.groups * b.stride(self.mass))).collect();
        let scratch = self.batches.iter().zip(tallies).map(|(batch, tally)| {
            let (groups, slices) = (batch.groups, batch.slices.len() as u64);
            let span_bins = if batch.rows { 0 } else { groups * batch.all_spans * LOW_BINS * 4 };
            let counted = if batch.rows { 1 } else { groups };
            Scratch {
                tally,
                span_bins: take(span_bins),
                // One word for all short rows, or one for each long contest.
                first_bad: take(if batch.rows { slices } else { groups * slices } * 4),
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

    /// Bytes of [`Buffers::workspace`](super::Buffers::workspace).
    pub fn workspace_bytes(&self) -> u64 {
        self.workspace().end
    }

    /// Bytes of [`Buffers::keys`](super::Buffers::keys); 0 where contests are runs of neighbours, and no such buffer is needed.
    pub fn keys_bytes(&self) -> u64 {
        self.padded_keys() * 4
    }

    /// Bytes of [`Buffers::records`](super::Buffers::records).
    pub fn records_bytes(&self) -> u64 {
        self.groups * size_of::<Record>() as u64
    }

    /// Bytes of a slice's [`SliceBuffers::weights`](super::SliceBuffers::weights); `None` past the last slice.
    pub fn weights_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::weight_bytes(s.len, s.dtype))
    }

    /// Bytes of a slice's [`SliceBuffers::scores`](super::SliceBuffers::scores); `None` past the last slice, and where the rule takes none.
    pub fn scores_bytes(&self, slice: usize) -> Option<u64> {
        let given = self.slices.get(slice).filter(|_| self.rule.score == Score::Given);
        given.map(|s| plan::weight_bytes(s.len, s.key_dtype(Score::Given)))
    }

    /// Bytes of a slice's [`SliceBuffers::mask`](super::SliceBuffers::mask); `None` past the last slice.
    pub fn mask_bytes(&self, slice: usize) -> Option<u64> {
        self.slices.get(slice).map(|s| plan::mask_bytes(s.len))
    }

    /// Contests, each with a [`Record`]: numbered as in a [`Decision`].
    pub fn group_count(&self) -> u64 {
        self.groups
    }

    /// Whether effective number and preserved mass are computed; by default not. They cost about ten integer operations an entry, and no
    /// decision depends on them. Then [`Record::n_eff`] and [`Record::mass`] have them for a shader,
    /// [`sums_range`](Self::sums_range) says where the exact sums are left, and [`decision`](Self::decision) what those mean.
    ///
    /// # Errors
    /// `Limit` when the sums of so many contests, 184 bytes for each short row, do not fit a binding of this device.
    pub fn with_mass(mut self, mass: bool) -> Result<Self, Error> {
        self.mass = mass;
        self.check_sizes()?;
        Ok(self)
    }

    /// Dispatches that [`Job::record_prune`](super::Job::record_prune) records.
    pub fn dispatches(&self) -> u32 {
        let decided = self.batches.iter().map(|b| b.dispatches() + u32::from(self.mass)).sum::<u32>();
        let slices = self.slices.len() as u32;
        let edges = self.slices.iter().filter(|s| plan::has_edges(s.len / self.groups, s.dtype)).count() as u32;
        let arranged = if self.grid.is_some() { 2 } else { 0 };
        decided + arranged + if self.is_apart() { slices } else { edges }
    }

    /// Whether what is decided is not what is zeroed.
    pub(super) fn is_apart(&self) -> bool {
        self.grid.is_some() || self.rule.score == Score::Given
    }

    /// Bytes that [`Job::record_prune`](super::Job::record_prune) reads and writes in device memory, when the first digit's bin is small, as it is for anything like
    /// weights; a sixteenth of the entries is small enough. Weights, scores, masks, keys and records count, and with a mass the sums of short
    /// rows; left out are an entry of that bin, which takes 56 more, and the counters of contests that are no short rows, 21 KB each and besides 33 MB, or 8 KB for each slice, at
    /// most, which are cleared and read.
    pub fn bytes_moved(&self) -> (u64, u64) {
        let weights: u64 = self.slices.iter().map(|s| plan::weight_bytes(s.len, s.dtype)).sum();
        let masks: u64 = self.slices.iter().map(|s| plan::mask_bytes(s.len)).sum();
        let decided: u64 = self.batches.iter().map(|b| b.key_bytes() * b.reads()).sum();
        let (mut read, mut written) = (decided, weights + masks + self.records_bytes());
        if self.mass {
            let sums: u64 = self.batches.iter().filter(|b| b.rows).map(|b| b.groups * b.stride(true)).sum();
            (read, written) = (read + sums + self.records_bytes(), written + sums + self.records_bytes());
        }
        if self.is_apart() {
            read += masks + weights;
        }
        if self.grid.is_some() {
            // What the keys are made of, they themselves, and their mask and records on their way to where they belong.
            read += self.scores_bytes(0).unwrap_or(weights) + masks + self.records_bytes();
            written += self.batches.iter().map(Batch::key_bytes).sum::<u64>() + masks + self.records_bytes();
        }
        (read, written)
    }

    /// The bytes of [`Buffers::workspace`](super::Buffers::workspace), from the binding's start, in which a job leaves the exact sums of its contests: of scores, of
    /// their squares and of kept scores. They stay until the next job uses the workspace; copy them out with the records where
    /// [`decision`](Self::decision) is wanted. Empty without a mass.
    pub fn sums_range(&self) -> Range<u64> {
        let batches = if self.mass { self.workspace().batches } else { Vec::new() };
        0..batches.last().map_or(0, |last| last.tally.end)
    }

    /// What [`Pruner`](crate::Pruner) would have returned, bit for bit, from what a job of this plan left on the device: its records, and the
    /// bytes of [`sums_range`](Self::sums_range). Effective numbers and masses are rounded once, from the exact integers.
    ///
    /// # Errors
    /// `InvalidInput` when the plan is not [`with_mass`](Self::with_mass), when there are not as many bytes as it asks for, or when they are
    /// sums that no scores have, or whose count is another than the record's: before the job is done, say;
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
            if bad.status > 3 || bad.bad_slice as usize >= self.slices.len() {
                let (status, slice, all) = (bad.status, bad.bad_slice, self.slices.len());
                return Err(Error::invalid(format!("a record has the status {status} and slice {slice} of {all}")));
            }
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
            // Sums first: where they end, no number is taken from the next batch.
            for (sums, number) in sums.chunks_exact(batch.stride(true) as usize).zip(numbers.by_ref()) {
                let no_sums = || Error::invalid(format!("contest {number} has a count or sums that no scores have"));
                groups.push((number, batch.group(&records[number], sums, &self.rule).ok_or_else(no_sums)?));
            }
        }
        groups.sort_unstable_by_key(|&(number, _)| number);
        Ok(Decision::new(groups.into_iter().map(|(_, group)| group).collect()))
    }

    /// Whether a device holds all of it.
    fn check_sizes(&self) -> Result<(), Error> {
        let slices = &self.slices;
        let largest = |bytes: &dyn Fn(usize) -> Option<u64>| (0..slices.len()).filter_map(bytes).max().unwrap_or(0);
        let norms =
            if self.rule.score == Score::Wanda { slices.iter().map(|s| s.row_len * 4).max().unwrap_or(0) } else { 0 };
        let workspace = self.workspace();
        let (most, most_of_buffer) = self.most;
        let scratch = |range: fn(&Scratch) -> &Range<u64>| {
            workspace.batches.iter().map(range).map(|range| range.end - range.start).max().unwrap_or(0)
        };
        for (what, bytes) in [
            ("weights", largest(&|i| self.weights_bytes(i))),
            ("scores", largest(&|i| self.scores_bytes(i))),
            ("norms", norms),
            ("keys", self.keys_bytes()),
            ("records", self.records_bytes()),
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
        if workspace.end > most_of_buffer {
            let (bytes, most) = (workspace.end, most_of_buffer);
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the workspace takes {bytes} bytes, a buffer holds {most}"),
            ));
        }
        Ok(())
    }

    /// What the slice is told whose contests are the blocks of a grid.
    pub(super) fn grid_params(&self, grid: &Grid) -> Params {
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

impl Batch {
    /// A contest, from what was left of it on the device.
    fn group(&self, record: &Record, sums: &[u8], rule: &Rule) -> Option<Group> {
        if self.rows {
            return row_group(record, sums, self.contest_len, rule);
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
        contest_group(record, sums, self.contest_len, cut, rule)
    }
}

impl Kernels {
    /// Check and size a job: slices of weights, each in one binding, under one rule.
    ///
    /// With `Global`, all slices together are one contest, ties won by the earlier slice, then the lower index. With others
    /// a plan has one slice, of one contest or many: rows, columns, heads, chunks or blocks. Columns and blocks are no runs of neighbours;
    /// their keys are laid end to end in [`Buffers::keys`](super::Buffers::keys) and decided there, all of one size together.
    ///
    /// # Errors
    /// `InvalidInput` for an empty slice, more than one where the granularity asks for one, segments, or [`Score::Given`] without
    /// [`TensorSpec::scores`]; `Limit` when a slice or what the job needs does not fit a binding of this device. [`Error::tensor`] is the
    /// number of the slice, if the error is of one.
    pub fn plan(&self, slices: &[TensorSpec], rule: &Rule) -> Result<Plan, Error> {
        kernels::check_limits(&self.device().limits())?;
        if slices.is_empty() || (slices.len() > 1 && rule.granularity != Granularity::Global) {
            let wants = if rule.granularity == Granularity::Global { "one or more" } else { "one" };
            let message = format!("{} slices for granularity {}, which takes {wants}", slices.len(), rule.granularity);
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
        // In one buffer with the rest of the workspace.
        let room = (most, most.min(limits.max_buffer_size / 2));
        let digits = slices.iter().map(|s| narrow::digits_of(s.key_dtype(rule.score), rule.score)).max().unwrap_or(3);
        let judged: Vec<_> =
            slices.iter().map(|s| TensorSpec { dtype: s.key_dtype(rule.score), scores: None, ..*s }).collect();
        let mut grid = None;
        let batches = match rule.granularity {
            Granularity::Global | Granularity::Tensor => {
                vec![Batch::new(self.tuning(), judged, rule.score, 1, false, digits, room)]
            }
            Granularity::Segments => {
                return Err(Error::invalid("a job decides about contests of a matrix, and segments are none"));
            }
            granularity => {
                let blocks = Grid::of(slices[0], granularity)?;
                if let Some(run) = blocks.run() {
                    vec![Batch::new(self.tuning(), judged, rule.score, slices[0].len / run, true, digits, room)]
                } else {
                    grid = Some(blocks);
                    let keys = |Class { count, len }| {
                        let (groups, len) = (count as u64, len as u64);
                        let spec = TensorSpec { dtype: Dtype::F32, len: groups * len, row_len: len, scores: None };
                        Batch::new(self.tuning(), vec![spec], Score::Magnitude, groups, true, digits, room)
                    };
                    blocks.classes().map(keys).collect()
                }
            }
        };
        let groups = batches.iter().map(|b| b.groups).sum();
        let most = (most, limits.max_buffer_size);
        let plan = Plan { rule: *rule, slices: slices.to_vec(), groups, grid, batches, mass: false, most };
        plan.check_sizes()?;
        Ok(plan)
    }
}
