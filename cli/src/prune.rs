//! `emprune prune` and `emprune inspect`: the same work; the one writes the weights and the other does not.

use crate::args::{Granularity, JobArgs};
use crate::backend;
use crate::masks::{self, MaskPlace};
use crate::norms::Norms;
use crate::output::{self, NewFile};
use crate::positioned::{read_exact_at, write_all_at};
use crate::progress::Progress;
use crate::report::{GlobalReport, Report, SCHEMA, TensorReport, Totals, sparsity, write_json};
use crate::safetensors::{Model, TensorInfo};
use crate::select::select;
use crate::table;
use crate::weights::{Clock, Part, Weights};
use anyhow::{Context, Result};
use emprune::{Decision, Dtype, Pruner, TensorSpec, Want};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

/// Prune a file into `output`, or only see what that would do.
pub(crate) fn run(args: &JobArgs, output: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    args.check()?;
    let model = Model::open(&args.input)?;
    let norms = args.norms.as_deref().map(Norms::open).transpose()?;
    let targets: Vec<&Path> = [args.masks.as_deref(), args.report.as_deref(), output].into_iter().flatten().collect();
    let inputs: Vec<&Path> = [Some(args.input.as_path()), args.norms.as_deref()].into_iter().flatten().collect();
    output::check(&targets, &inputs, args.overwrite)?;

    let selection = select(&model, &args.targets, &args.ignore)?;
    for warning in &selection.warnings {
        eprintln!("warning: {warning}");
    }
    let verdicts = || model.tensors.iter().zip(&selection.skipped);
    let selected = verdicts().filter(|(_, skipped)| skipped.is_none());
    let selected: Vec<_> = selected.filter_map(|(info, _)| Some((info, info.prunable_dtype()?))).collect();
    if let Some(norms) = &norms {
        selected.iter().try_for_each(|(info, _)| norms.check(info))?;
    }
    let pruner = backend::open(args.backend, args.adapter.as_deref())?;

    let create = |path: Option<&Path>| path.map(NewFile::create).transpose();
    let (masks, report, weights) = (create(args.masks.as_deref())?, create(args.report.as_deref())?, create(output)?);
    if let Some(weights) = &weights {
        let kept_as_is = copy_gaps(&model, &selected, weights.file());
        kept_as_is.with_context(|| format!("cannot copy {}", model.path.display()))?;
    }
    let job = Job {
        args,
        model: &model,
        norms: norms.as_ref(),
        pruner: &pruner,
        output: weights.as_ref().map(NewFile::file),
        masks: masks.as_ref().map(NewFile::file),
    };
    let (pruned, global) = job.prune(&selected)?;

    let mut pruned = pruned.into_iter();
    let tensors = verdicts().filter_map(|(info, skipped)| match skipped {
        Some(_) => Some(TensorReport { skipped: skipped.clone(), ..about(info) }),
        None => pruned.next(),
    });
    let report_of_all = job.report(tensors.collect(), global);
    if let Some(report) = &report {
        let mut out = BufWriter::new(report.file());
        let written =
            write_json(&mut out, &report_of_all).and_then(|()| out.into_inner().map_err(|e| e.into_error()).map(drop));
        written.context("cannot write the report")?;
    }
    // The weights last: where they are, the rest is.
    output::commit([masks, report, weights].into_iter().flatten().collect(), args.overwrite)?;

    let mut text = Vec::new();
    if args.json {
        write_json(&mut text, &report_of_all)?;
    } else {
        let seconds = start.elapsed().as_secs_f64();
        text = table::render(&report_of_all, pruner.backend(), output, seconds).into_bytes();
    }
    crate::print(&text)
}

/// All that the work on tensors needs to know.
struct Job<'a> {
    args: &'a JobArgs,
    model: &'a Model,
    norms: Option<&'a Norms>,
    pruner: &'a Pruner,
    output: Option<&'a File>,
    masks: Option<&'a File>,
}

type Selected<'a> = (&'a TensorInfo, Dtype);

impl Job<'_> {
    /// Prune the tensors, in this order, one at a time or all in one contest.
    fn prune(&self, selected: &[Selected<'_>]) -> Result<(Vec<TensorReport>, Option<GlobalReport>)> {
        let infos: Vec<_> = selected.iter().map(|(info, _)| *info).collect();
        let places = match self.masks {
            Some(file) => masks::start(file, &infos).context("cannot write the masks")?.into_iter().map(Some).collect(),
            None => selected.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let is_global = self.args.granularity == Granularity::Global;
        let mut progress = Progress::new(infos.iter().map(|info| info.bytes.end - info.bytes.start).sum(), is_global);
        let mut buffer = Vec::new();
        if is_global {
            let (decision, parts) = self.stream(selected, places, &mut buffer, &mut progress)?;
            let reports = infos.iter().zip(&parts).map(|(info, part)| counted(info, 1, part.kept, part));
            return Ok((reports.collect(), decision.groups().first().map(GlobalReport::new)));
        }
        let mut reports = Vec::new();
        for (one, place) in selected.iter().zip(places) {
            let (decision, parts) = self.stream(&[*one], vec![place], &mut buffer, &mut progress)?;
            for part in &parts {
                let mut report = counted(one.0, decision.groups().len() as u64, decision.kept(), part);
                match (self.args.granularity, decision.groups()) {
                    (Granularity::Row, rows) => report.set_rows(rows),
                    (_, contest) => contest.iter().for_each(|group| report.set_contest(group)),
                }
                reports.push(report);
            }
        }
        Ok((reports, None))
    }

    /// Send tensors through the library.
    fn stream(
        &self,
        selected: &[Selected<'_>],
        places: Vec<Option<MaskPlace>>,
        buffer: &mut Vec<u8>,
        progress: &mut Progress,
    ) -> Result<(Decision, Vec<Part>)> {
        let clock = Clock::start();
        let (mut specs, mut parts) = (Vec::new(), Vec::new());
        for ((info, dtype), mask) in selected.iter().zip(places) {
            let norms = self.norms.map(|norms| norms.load(info)).transpose()?;
            // The norms of one row; that is the length of a row, except where one norm serves a whole vector.
            let row_len = norms.as_ref().map_or(info.row_len(), |norms| norms.len() as u64);
            specs.push(TensorSpec::new(*dtype, info.len, row_len)?);
            parts.push(Part::new(info.bytes.start, norms, mask));
        }
        let mut rule = self.args.rule();
        if let ([(info, _)], Granularity::Row) = (selected, self.args.granularity)
            && info.shape.len() < 2
        {
            // Without a second axis there are no rows to tell apart: the tensor is one contest.
            rule = rule.with_granularity(emprune::Granularity::Tensor);
        }
        let (input, output, masks) = (&self.model.file, self.output, self.masks);
        let mut weights = Weights { input, output, masks, specs, parts, buffer, progress, clock };
        // Zeros in a dry run too: then what would be zero afterwards is counted and not derived. Only the bits tell how a
        // contest over many tensors went in each.
        let masks = masks.is_some() || self.args.granularity == Granularity::Global;
        let want = Want { zeros: true, masks };
        let decision = self.pruner.stream(&mut weights, &rule, want).map_err(|e| match e.tensor() {
            Some(at) => {
                let name = format!("tensor {:?} of {}", selected[at].0.name, self.model.path.display());
                anyhow::Error::new(e).context(name)
            }
            None => e.into(),
        })?;
        let parts = weights.finish().context("cannot write the masks")?;
        Ok((decision, parts))
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

/// Copy all that no contest touches, the header first: every byte that belongs to no selected tensor.
fn copy_gaps(model: &Model, selected: &[Selected<'_>], output: &File) -> Result<()> {
    output.set_len(model.len)?;
    let mut taken: Vec<_> = selected.iter().map(|(info, _)| info.bytes.clone()).collect();
    taken.sort_by_key(|bytes| bytes.start);
    taken.push(model.len..model.len);
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    for bytes in taken {
        while at < bytes.start {
            let len = (bytes.start - at).min(buffer.len() as u64);
            let piece = &mut buffer[..len as usize];
            read_exact_at(&model.file, piece, at)?;
            write_all_at(output, piece, at)?;
            at += len;
        }
        at = bytes.end;
    }
    Ok(())
}
