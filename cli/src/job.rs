//! The work on the selected tensors: shard by shard what is decided tensor by tensor, and then the contests over many.

use crate::backend::Workers;
use crate::beside::{Beside, Scores};
use crate::destination::copy_gaps;
use crate::events;
use crate::histogram::Histogram;
use crate::journal::Journal;
use crate::masks::{self, MaskPlace};
use crate::norms::Norms;
use crate::overlap::{Reader, Writer};
use crate::progress::Progress;
use crate::report::{GlobalReport, Rows, TensorReport, sparsity};
use crate::safetensors::{Model, TensorInfo};
use crate::settings::{Score, Settings};
use crate::sink::Sink;
use crate::structures::Structures;
use crate::weights::{Clock, Part, Weights};
use anyhow::{Context, Result};
use emprune::{Decision, Dtype, Error, Granularity, Group, Mask, TensorSpec, Want};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

/// A tensor that is pruned, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) info: &'a TensorInfo,
    pub(crate) dtype: Dtype,
    /// Of the recipe.
    pub(crate) rule: Option<usize>,
    pub(crate) settings: &'a Settings,
}

/// The contests over many tensors: those of each rule, and those of none.
pub(crate) type Contests = BTreeMap<Option<usize>, GlobalReport>;

/// A tensor on its way, and where its mask goes.
type Work<'a> = (Selected<'a>, Option<MaskPlace>);

/// All that the work on tensors needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) shards: &'a [Model],
    pub(crate) norms: Option<&'a Norms>,
    pub(crate) beside: &'a Beside,
    pub(crate) workers: &'a Workers,
    /// One for each shard, or none.
    pub(crate) outputs: &'a [Sink<'a>],
    pub(crate) masks: Option<Sink<'a>>,
    pub(crate) piece_bytes: usize,
    /// What is finished, and is to be told when more is.
    pub(crate) journal: Option<&'a Journal>,
    /// Whether scores are counted, to be drawn.
    pub(crate) plots: bool,
}

impl<'a> Selected<'a> {
    pub(crate) fn row_len(&self) -> u64 {
        self.settings.row_len(&self.info.shape)
    }

    /// The norms file, if this tensor's score needs norms.
    pub(crate) fn norms<'n>(&self, norms: Option<&'n Norms>) -> Option<&'n Norms> {
        norms.filter(|_| self.settings.score == Score::Wanda)
    }

    pub(crate) fn is_global(&self) -> bool {
        self.settings.granularity() == Granularity::Global
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.info.bytes.end - self.info.bytes.start
    }

    /// So many of its entries, in its rows.
    fn spec(&self, len: u64, part: &Part) -> Result<TensorSpec> {
        let spec = TensorSpec::new(self.dtype, len, part.norms_len().unwrap_or(self.row_len()))?;
        Ok(part.score_dtype().map_or(spec, |scores| spec.with_scores(scores)))
    }
}

impl Job<'_> {
    /// Prune the tensors, which come in byte order of their names, as their reports do.
    pub(crate) fn prune(&self, selected: &[Selected<'_>]) -> Result<(Vec<TensorReport>, Contests)> {
        let infos: Vec<_> = selected.iter().map(|one| one.info).collect();
        let places = match self.masks {
            Some(file) => masks::start(file, &infos).context("the masks file")?.into_iter().map(Some).collect(),
            None => selected.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let (mut of_shards, mut of_rules) = (BTreeMap::<_, Vec<Work<'_>>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (one, place) in selected.iter().copied().zip(places) {
            if one.is_global() {
                of_rules.entry(one.rule).or_default().push((one, place));
            } else {
                of_shards.entry(one.info.shard).or_default().push((one, place));
            }
        }
        let is_done = |number: usize| self.journal.is_some_and(|journal| journal.has(&self.shards[number]));
        let to_do = selected.iter().filter(|one| !one.is_global() && !is_done(one.info.shard));
        let progress = Progress::new(to_do.map(Selected::bytes).sum(), false);
        thread::scope(|scope| {
            let (reader, writer) = (Reader::start(scope), Writer::start(scope));
            let mut stream = Stream { job: self, reader, writer, buffer: Vec::new(), progress };
            let mut reports = Vec::new();
            for number in 0..self.shards.len() {
                reports.extend(stream.shard(number, selected, of_shards.remove(&number).unwrap_or_default())?);
            }
            let mut contests = Contests::new();
            for (rule, works) in of_rules {
                let (contest, of_tensors) = stream.contest(works)?;
                reports.extend(of_tensors);
                contests.extend(contest.map(|contest| (rule, contest)));
            }
            reports.sort_by(|a: &TensorReport, b| a.name.cmp(&b.name));
            Ok((reports, contests))
        })
    }

    fn part(&self, one: &Selected<'_>, place: Option<MaskPlace>) -> Result<Part> {
        let norms = one.norms(self.norms).map(|norms| norms.load(one.info, one.row_len())).transpose()?;
        let scores = match self.beside.scores(one.info, one.settings)? {
            Some(Scores::Weights(place)) => Some(place),
            _ => None,
        };
        let mut part = Part::new(one.info, norms.map(Arc::from), scores, place);
        // Weights of eight bits are not drawn.
        let is_drawn = scores.is_some() || matches!(one.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16);
        part.histogram = (self.plots && is_drawn).then(|| Box::new(Histogram::new(scores.is_some())));
        Ok(part)
    }
}

/// What is used again from one tensor to the next.
struct Stream<'a> {
    job: &'a Job<'a>,
    reader: Reader<'a>,
    writer: Writer<'a>,
    buffer: Vec<u8>,
    progress: Progress,
}

impl Stream<'_> {
    /// Write a shard, but for the tensors of contests over many, unless an earlier run has done that.
    fn shard(&mut self, number: usize, selected: &[Selected<'_>], works: Vec<Work<'_>>) -> Result<Vec<TensorReport>> {
        let Job { shards, outputs, journal, .. } = *self.job;
        let shard = &shards[number];
        if let Some(reports) = journal.and_then(|journal| journal.take(shard)) {
            return Ok(reports);
        }
        let begun = journal.map(|journal| journal.begin(shard)).transpose()?.flatten();
        if let Some(output) = outputs.get(number) {
            copy_gaps(shard, number, selected.iter().map(|one| one.info), *output)?;
        }
        let mut reports = Vec::new();
        for (one, place) in works {
            let report = self.tensor(&one, place)?;
            events::tell("tensor", serde_json::to_value(&report)?);
            reports.push(report);
        }
        if let (Some(journal), Some(begun), Some(Sink::Write(output))) = (journal, begun, outputs.get(number)) {
            let added = journal.add(begun, output, &reports);
            added.with_context(|| format!("cannot finish {}", shard.path.display()))?;
        }
        Ok(reports)
    }

    /// Prune tensors as one contest, in this order.
    fn contest(&mut self, works: Vec<Work<'_>>) -> Result<(Option<GlobalReport>, Vec<TensorReport>)> {
        self.progress = Progress::new(works.iter().map(|(one, _)| one.bytes()).sum(), true);
        let (mut selected, mut parts, mut specs) = (Vec::new(), Vec::new(), Vec::new());
        for (one, place) in works {
            let part = self.job.part(&one, place)?;
            specs.push(one.spec(one.info.len, &part)?);
            parts.push(part);
            selected.push(one);
        }
        let (decision, structures, mut parts) = self.run(&selected, specs, parts, 0)?;
        parts.iter_mut().try_for_each(|part| part.finish(self.job.masks)).context("the masks file")?;
        let reports = selected.iter().zip(&mut parts).map(|(one, part)| counted(one.info, 1, part.kept, part));
        let mut reports: Vec<_> = reports.collect();
        for (report, kept) in reports.iter_mut().zip(&structures) {
            report.kept_structures = Some(numbers(kept));
        }
        for report in &reports {
            events::tell("tensor", serde_json::to_value(report)?);
        }
        Ok((decision.groups().first().map(GlobalReport::new), reports))
    }

    /// Prune one tensor, in runs of as many contests as there is memory for their decisions.
    fn tensor(&mut self, one: &Selected<'_>, place: Option<MaskPlace>) -> Result<TensorReport> {
        let info = one.info;
        let mut part = self.job.part(one, place)?;
        let whole = one.spec(info.len, &part)?;
        let by_row = one.settings.granularity() != Granularity::Tensor;
        // Rows of the matrix that belong together, and the contests in them.
        let (band, contests_of_band) = match one.settings.rule(&info.shape)?.granularity {
            Granularity::Row => (1, 1),
            Granularity::Column => (whole.rows(), whole.row_len),
            Granularity::Block { rows, columns } => (rows.min(whole.rows()), whole.row_len.div_ceil(columns)),
            Granularity::Chunks(len) => (1, whole.row_len.div_ceil(len)),
            _ => (whole.rows(), 1),
        };
        let count = whole.rows().div_ceil(band) * contests_of_band;
        let most = (self.job.piece_bytes / size_of::<Group>()) as u64;
        let run = ((most / contests_of_band).max(1) * band * whole.row_len).min(info.len);
        let (mut rows, mut kept, mut contests) = (Rows::new(count), 0, 0);
        let mut report = TensorReport::default();
        let mut start = 0;
        while start < info.len {
            let len = run.min(info.len - start);
            let (decision, structures, parts) = self.run(&[*one], vec![one.spec(len, &part)?], vec![part], start)?;
            report.kept_structures = structures.first().map(numbers);
            part = parts.into_iter().next().unwrap_or_default();
            part.advance(len, one.dtype);
            start += len;
            kept += if structures.is_empty() { decision.kept() } else { part.kept };
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
        let TensorReport { n_eff, mass, mass_bound, threshold, degenerate, .. } = report;
        let TensorReport { rows, kept_per_row, kept_structures, .. } = report;
        let counted = counted(info, contests, kept, &mut part);
        let contest = TensorReport { n_eff, mass, mass_bound, threshold, degenerate, ..counted };
        Ok(TensorReport { rows, kept_per_row, kept_structures, ..contest })
    }

    /// Send tensors, or one from an entry on, through the library. The masks are those of structures, if they are what competes.
    fn run(
        &mut self,
        selected: &[Selected<'_>],
        specs: Vec<TensorSpec>,
        parts: Vec<Part>,
        start: u64,
    ) -> Result<(Decision, Vec<Mask>, Vec<Part>)> {
        let Job { shards, beside, workers, outputs, masks, piece_bytes, plots, .. } = *self.job;
        // All of one contest have the same settings.
        let Selected { info, settings, .. } = selected[0];
        let rule = settings.rule(&info.shape)?;
        // Zeros in a dry run too: then what would be zero afterwards is counted and not derived. Only the bits tell how a
        // contest over many tensors went in each, and which scores to draw as kept.
        let one_of_many = rule.granularity == Granularity::Global || settings.structure.is_some();
        let want = Want { zeros: true, masks: masks.is_some() || one_of_many || plots };
        let scores = beside.scores_file(settings);
        let infos: Vec<_> = selected.iter().map(|one| one.info).collect();
        let structures = Structures::load(&infos, settings, beside)?;
        let mut parts = parts;
        loop {
            // What the CPU goes back to, should a device fail. What is written by then is written once more.
            let before = workers.may_fall_back().then(|| parts.clone());
            let (buffer, progress, clock) = (&mut self.buffer, &mut self.progress, Clock::start());
            let (reader, writer) = (&mut self.reader, &mut self.writer);
            let specs = specs.clone();
            let mut weights = Weights {
                shards,
                scores,
                score_buffer: Vec::new(),
                outputs,
                masks,
                reader,
                writer,
                last: (0, 0),
                specs,
                parts,
                buffer,
                piece_bytes,
                progress,
                clock,
            };
            let pruner = workers.for_dtypes(selected.iter().map(|one| one.dtype));
            let decided = match &structures {
                Some(structures) => structures.stream(pruner, &mut weights, &rule, want),
                None => pruner.stream(&mut weights, &rule, want).map(|decision| (decision, Vec::new())),
            };
            let error = match decided {
                Ok((decision, structures)) => {
                    let place =
                        || if selected.len() == 1 { of(info, shards) } else { "cannot write the output".into() };
                    let parts = weights.finish().with_context(place)?;
                    return Ok((decision, structures, parts));
                }
                Err(error) => error,
            };
            let failed = error.tensor().map(|at| selected[at].info);
            match before {
                Some(before) if workers.fall_back(&error, &failed.unwrap_or(info).name) => parts = before,
                _ => return Err(explain(error, failed, shards, start)),
            }
        }
    }
}

/// Of those that are kept.
fn numbers(kept: &Mask) -> Vec<u64> {
    (0..kept.len()).filter(|&at| kept.get(at)).collect()
}

/// What a tensor is called where several files have some.
fn of(info: &TensorInfo, shards: &[Model]) -> String {
    format!("tensor {:?} of {}", info.name, shards[info.shard].path.display())
}

/// The error of one tensor, from an entry on, in words for people.
fn explain(error: Error, info: Option<&TensorInfo>, shards: &[Model], start: u64) -> anyhow::Error {
    let Some(info) = info else { return error.into() };
    let name = of(info, shards);
    match error.index() {
        Some(index) if start > 0 => anyhow::anyhow!("{name}: {}", from_entry(start, index, &error.to_string())),
        _ => anyhow::Error::new(error).context(name),
    }
}

/// The library counts entries from where a run of rows began; people count from where the tensor does.
fn from_entry(start: u64, index: u64, message: &str) -> String {
    message.replacen(&format!("entry {index} "), &format!("entry {} ", start + index), 1)
}

/// What the header says.
pub(crate) fn about(info: &TensorInfo) -> TensorReport {
    let TensorInfo { name, dtype, shape, len, .. } = info.clone();
    TensorReport { name, dtype, shape, len, ..TensorReport::default() }
}

/// What was counted while the tensor passed.
fn counted(info: &TensorInfo, contests: u64, kept: u64, part: &mut Part) -> TensorReport {
    TensorReport {
        contests,
        kept: Some(kept),
        sparsity: Some(sparsity(kept, info.len)),
        zeros_before: Some(part.zeros_before),
        zeros_after: Some(part.zeros_after),
        seconds: Some(part.seconds),
        spread: part.histogram.take().map(|histogram| histogram.spread()),
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
