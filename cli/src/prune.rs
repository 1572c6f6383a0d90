//! `emprune prune` and `emprune inspect`: the same work; the one writes the weights and the other does not.

use crate::args::{FileArgs, Granularity, JobArgs};
use crate::backend;
use crate::checkpoint::Checkpoint;
use crate::destination::{Destination, Paths, copy_gaps};
use crate::interrupt;
use crate::masks;
use crate::norms::Norms;
use crate::progress::Progress;
use crate::report::{GlobalReport, Report, Rows, SCHEMA, TensorReport, Totals, sparsity, write_json};
use crate::safetensors::{Model, TensorInfo};
use crate::select::{Selection, select};
use crate::sink::Sink;
use crate::table;
use crate::weights::{Clock, Part, Weights};
use anyhow::{Context, Result};
use emprune::{Decision, Dtype, Group, Pruner, TensorSpec, Want};
use std::path::Path;
use std::time::Instant;

/// Prune a checkpoint into `output`, or only see what that would do.
pub(crate) fn run(args: &JobArgs, files: &FileArgs, output: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    let question = Question::open(args)?;
    let model = &question.model;
    let paths = Paths {
        weights: output,
        masks: files.masks.as_deref(),
        report: files.report.as_deref(),
        overwrite: files.overwrite,
    };
    paths.check(model, args.norms.clone())?;
    let pruner = backend::open(args.backend, args.adapter.as_deref())?;
    let destination = Destination::create(model, &paths)?;
    let report_of_all = question.answer(&pruner, &destination.outputs(), destination.masks())?;
    destination.commit(&report_of_all)?;

    let mut text = Vec::new();
    if files.json {
        write_json(&mut text, &report_of_all)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        text = table::render(&report_of_all, pruner.backend(), output, seconds).into_bytes();
    }
    crate::print(&text)
}

/// What is asked: a checkpoint, and what the options make of it.
pub(crate) struct Question<'a> {
    args: &'a JobArgs,
    pub(crate) model: Checkpoint,
    norms: Option<Norms>,
    selection: Selection,
}

impl<'a> Question<'a> {
    /// Open the inputs, choose the tensors, and say what people should know of it.
    pub(crate) fn open(args: &'a JobArgs) -> Result<Self> {
        args.check()?;
        interrupt::catch()?;
        let model = Checkpoint::open(&args.input)?;
        let norms = args.norms.as_deref().map(Norms::open).transpose()?;
        let selection = select(&model.tensors, &args.targets, &args.ignore)?;
        for warning in &selection.warnings {
            eprintln!("warning: {warning}");
        }
        for note in model.directory.iter().flat_map(|directory| &directory.notes) {
            eprintln!("note: {note}");
        }
        let question = Self { args, model, norms, selection };
        if let Some(norms) = &question.norms {
            question.selected().iter().try_for_each(|(info, _)| norms.check(info))?;
        }
        Ok(question)
    }

    fn selected(&self) -> Vec<Selected<'_>> {
        let verdicts = self.model.tensors.iter().zip(&self.selection.skipped);
        let selected = verdicts.filter(|(_, skipped)| skipped.is_none());
        selected.filter_map(|(info, _)| Some((info, info.prunable_dtype()?))).collect()
    }

    /// Decide, and send every byte of every shard to its output, if there are outputs.
    pub(crate) fn answer(&self, pruner: &Pruner, outputs: &[Sink<'_>], masks: Option<Sink<'_>>) -> Result<Report> {
        let selected = self.selected();
        for (number, (shard, output)) in self.model.shards.iter().zip(outputs).enumerate() {
            copy_gaps(shard, number, selected.iter().map(|(info, _)| *info), *output)?;
        }
        let (args, shards) = (self.args, self.model.shards.as_slice());
        let job = Job { args, shards, norms: self.norms.as_ref(), pruner, outputs, masks };
        let (pruned, global) = job.prune(&selected)?;
        let mut pruned = pruned.into_iter();
        let tensors = self.model.tensors.iter().zip(&self.selection.skipped);
        let tensors = tensors.filter_map(|(info, skipped)| match skipped {
            Some(_) => Some(TensorReport { skipped: skipped.clone(), ..about(info) }),
            None => pruned.next(),
        });
        Ok(job.report(tensors.collect(), global))
    }
}

/// All that the work on tensors needs to know.
#[derive(Clone, Copy)]
struct Job<'a> {
    args: &'a JobArgs,
    shards: &'a [Model],
    norms: Option<&'a Norms>,
    pruner: &'a Pruner,
    /// One for each shard, or none.
    outputs: &'a [Sink<'a>],
    masks: Option<Sink<'a>>,
}

type Selected<'a> = (&'a TensorInfo, Dtype);

impl Job<'_> {
    /// Prune the tensors, one at a time and shard by shard, or all in one contest and in this order.
    fn prune(&self, selected: &[Selected<'_>]) -> Result<(Vec<TensorReport>, Option<GlobalReport>)> {
        let infos: Vec<_> = selected.iter().map(|(info, _)| *info).collect();
        let places = match self.masks {
            Some(file) => masks::start(file, &infos).context("the masks file")?.into_iter().map(Some).collect(),
            None => selected.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let is_global = self.args.granularity == Granularity::Global;
        let progress = Progress::new(infos.iter().map(|info| info.bytes.end - info.bytes.start).sum(), is_global);
        let mut parts = Vec::new();
        for ((info, _), mask) in selected.iter().zip(places) {
            let norms = self.norms.filter(|_| is_global).map(|norms| norms.load(info)).transpose()?;
            parts.push(Part::new(info, norms, mask));
        }
        let mut stream = Stream { job: self, buffer: Vec::new(), progress };
        if is_global {
            let specs = selected.iter().zip(&parts).map(|((info, dtype), part)| spec(info, *dtype, info.len, part));
            let (decision, mut parts) = stream.run(selected, specs.collect::<Result<_>>()?, parts, 0)?;
            parts.iter_mut().try_for_each(|part| part.finish(self.masks)).context("the masks file")?;
            let reports = infos.iter().zip(&parts).map(|(info, part)| counted(info, 1, part.kept, part));
            return Ok((reports.collect(), decision.groups().first().map(GlobalReport::new)));
        }
        let mut work: Vec<_> = selected.iter().zip(parts).collect();
        work.sort_by_key(|((info, _), _)| info.shard); // stable: by name within a shard
        let mut reports = Vec::new();
        for (one, mut part) in work {
            // One tensor's norms at a time.
            part.set_norms(self.norms.map(|norms| norms.load(one.0)).transpose()?);
            reports.push(stream.tensor(one, part)?);
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((reports, None))
    }

    fn report(&self, tensors: Vec<TensorReport>, global: Option<GlobalReport>) -> Report {
        let mut totals = Totals::default();
        for tensor in tensors.iter().filter(|tensor| tensor.skipped.is_none()) {
            totals.len += tensor.len;
            totals.kept += tensor.kept.unwrap_or_default();
            totals.zeros_before += tensor.zeros_before.unwrap_or_default();
            totals.zeros_after += tensor.zeros_after.unwrap_or_default();
        }
        totals.sparsity = sparsity(totals.kept, totals.len);
        Report {
            schema: SCHEMA,
            emprune_version: env!("CARGO_PKG_VERSION"),
            backend: self.pruner.backend().name(),
            adapter: self.pruner.backend().adapter().map(str::to_owned),
            beta: self.args.beta.get(),
            granularity: self.args.granularity.name(),
            score: self.args.score.name(),
            totals,
            global,
            tensors,
        }
    }
}

/// What is used again from one tensor to the next.
struct Stream<'a> {
    job: &'a Job<'a>,
    buffer: Vec<u8>,
    progress: Progress,
}

impl Stream<'_> {
    /// Prune one tensor, in runs of as many rows as there is memory for their decisions.
    fn tensor(&mut self, one: &Selected<'_>, mut part: Part) -> Result<TensorReport> {
        let (args, (info, dtype)) = (self.job.args, *one);
        let whole = spec(info, dtype, info.len, &part)?;
        let by_row = args.granularity == Granularity::Row;
        // Without a second axis there are no rows to tell apart: the tensor is one contest.
        let count = if info.shape.len() < 2 { 1 } else { whole.rows() };
        let most_rows = (args.piece_bytes() / size_of::<Group>()) as u64;
        let run = if by_row && count > most_rows { most_rows * whole.row_len } else { info.len };
        let (mut rows, mut kept, mut contests) = (Rows::new(count), 0, 0);
        let mut report = TensorReport::default();
        let mut start = 0;
        while start < info.len {
            let len = run.min(info.len - start);
            let (decision, parts) = self.run(&[*one], vec![spec(info, dtype, len, &part)?], vec![part], start)?;
            part = parts.into_iter().next().unwrap_or_default();
            part.advance(len * dtype.size() as u64);
            start += len;
            kept += decision.kept();
            contests += decision.groups().len() as u64;
            match decision.groups() {
                groups if by_row => rows.add(groups),
                contest => contest.iter().for_each(|group| report.set_contest(group)),
            }
        }
        part.finish(self.job.masks).context("the masks file")?;
        if by_row {
            report.set_rows(rows);
        }
        let TensorReport { n_eff, mass, mass_bound, threshold, degenerate, rows, kept_per_row, .. } = report;
        let counted = counted(info, contests, kept, &part);
        Ok(TensorReport { n_eff, mass, mass_bound, threshold, degenerate, rows, kept_per_row, ..counted })
    }

    /// Send tensors, or one from an entry on, through the library.
    fn run(
        &mut self,
        selected: &[Selected<'_>],
        specs: Vec<TensorSpec>,
        parts: Vec<Part>,
        start: u64,
    ) -> Result<(Decision, Vec<Part>)> {
        let Job { args, shards, pruner, outputs, masks, .. } = *self.job;
        let mut rule = args.rule();
        if let ([(info, _)], Granularity::Row) = (selected, args.granularity)
            && info.shape.len() < 2
        {
            rule = rule.with_granularity(emprune::Granularity::Tensor);
        }
        // Zeros in a dry run too: then what would be zero afterwards is counted and not derived. Only the bits tell how a
        // contest over many tensors went in each.
        let want = Want { zeros: true, masks: masks.is_some() || args.granularity == Granularity::Global };
        let (buffer, progress, clock) = (&mut self.buffer, &mut self.progress, Clock::start());
        let piece_bytes = args.piece_bytes();
        let mut weights = Weights { shards, outputs, masks, specs, parts, buffer, piece_bytes, progress, clock };
        let decision = pruner.stream(&mut weights, &rule, want).map_err(|e| match e.tensor() {
            Some(at) => {
                let info = selected[at].0;
                let name = format!("tensor {:?} of {}", info.name, shards[info.shard].path.display());
                match e.index() {
                    Some(index) if start > 0 => anyhow::anyhow!("{name}: {}", from_entry(start, index, &e.to_string())),
                    _ => anyhow::Error::new(e).context(name),
                }
            }
            None => e.into(),
        })?;
        Ok((decision, weights.finish()))
    }
}

/// The library counts entries from where a run of rows began; people count from where the tensor does.
fn from_entry(start: u64, index: u64, message: &str) -> String {
    message.replacen(&format!("entry {index} "), &format!("entry {} ", start + index), 1)
}

/// So many entries of a tensor, in its rows.
fn spec(info: &TensorInfo, dtype: Dtype, len: u64, part: &Part) -> Result<TensorSpec> {
    Ok(TensorSpec::new(dtype, len, part.norms_len().unwrap_or(info.row_len()))?)
}

/// What the header says.
fn about(info: &TensorInfo) -> TensorReport {
    let TensorInfo { name, dtype, shape, len, .. } = info.clone();
    TensorReport { name, dtype, shape, len, ..TensorReport::default() }
}

/// What was counted while the tensor passed.
fn counted(info: &TensorInfo, contests: u64, kept: u64, part: &Part) -> TensorReport {
    TensorReport {
        contests,
        kept: Some(kept),
        sparsity: Some(sparsity(kept, info.len)),
        zeros_before: Some(part.zeros_before),
        zeros_after: Some(part.zeros_after),
        seconds: Some(part.seconds),
        ..about(info)
    }
}

#[cfg(test)]
mod tests {
    use super::from_entry;

    #[test]
    fn a_bad_entry_is_counted_from_the_tensors_first() {
        assert_eq!(from_entry(4_000_000, 17, "entry 17 is NaN"), "entry 4000017 is NaN");
    }
}
