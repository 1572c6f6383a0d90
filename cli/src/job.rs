//! The work on the selected tensors: shard by shard what is decided tensor by tensor, and then the contests over many.

use crate::backend::Workers;
use crate::bad_entry::{BadEntry, explain, of, of_scores};
use crate::beside::{Beside, Scores};
use crate::destination::copy_gaps;
use crate::events;
use crate::histogram::Histogram;
use crate::journal::{self, Hashes, Journal};
use crate::lines::Lines;
use crate::masks::{self, MaskPlace};
use crate::norms::Norms;
use crate::overlap::{Buffer, Buffers, MOST_REQUESTS, Place, Reader, Unwritten, Writer};
use crate::plot::Pictures;
use crate::progress::Progress;
use crate::report::{GlobalReport, MOST_ROWS_OF_ALL, Numbers, Rows, TensorReport, are_few, sparsity};
use crate::safetensors::{Model, TensorInfo};
use crate::selected::{Selected, Window, Windows};
use crate::settings::Score;
use crate::sink::{First, Sink};
use crate::structures::Structures;
use crate::weights::{Clock, NormsPlace, Part, Weights};
use anyhow::{Context, Result};
use emprune::{Backend, Decision, Granularity, Group, Mask, TensorSpec, Want};
use std::collections::BTreeMap;
use std::thread;

/// What the processor takes at once of what is read in runs: between two threads it stays in a cache.
const STREAMED: usize = 4 << 20;
/// Pieces that are kept from one pass to the next.
const HELD: usize = 4;
/// On the processor, longer rows are contests of their own.
const LONG_ROW: u64 = 1 << 20;

/// The contests over many tensors: those of each rule, and those of none.
pub(crate) type Contests = BTreeMap<Option<usize>, GlobalReport>;

/// A tensor on its way.
struct Work<'a> {
    one: Selected<'a>,
    /// Where its mask goes.
    place: Option<MaskPlace>,
    /// What a contest over many has decided about it.
    decided: Option<Decided>,
}

/// What is known of a tensor after that.
struct Decided {
    /// What was counted meanwhile.
    part: Part,
    fate: Fate,
}

/// What a contest over many says about one tensor.
enum Fate {
    /// As if it were a contest of its own.
    Group(Group),
    /// Which of its structures are kept; of groups that tensors share, all are numbered.
    Structures(Mask),
}

/// How far the library is to go.
#[derive(Clone, Copy)]
enum Step<'f> {
    Decide,
    /// What was decided about the only tensor.
    CarryOut(&'f Fate),
    Both,
}

/// What the library said.
#[derive(Default)]
struct Outcome {
    decision: Decision,
    /// Where structures compete: which of them are kept, tensor by tensor.
    masks: Vec<Mask>,
    /// Their numbers, of one tensor.
    kept: Option<Numbers>,
}

impl Outcome {
    fn of_entries(decision: Decision) -> Self {
        Self { decision, ..Self::default() }
    }
}

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
    /// What all of it may take, and the pieces of that.
    pub(crate) memory: u64,
    pub(crate) piece_bytes: usize,
    /// What is finished, and is to be told when more is.
    pub(crate) journal: Option<&'a Journal>,
    /// Who draws the scores, if they are to be drawn.
    pub(crate) plots: Option<&'a Pictures<'a>>,
}

impl<'a> Job<'a> {
    /// Prune the tensors, which come in byte order of their names, as their reports do. First the contests over many are decided, then all is
    /// written shard by shard.
    pub(crate) fn prune(&'a self, selected: &[Selected<'a>]) -> Result<(Vec<TensorReport>, Contests)> {
        let infos: Vec<_> = selected.iter().map(|one| one.info).collect();
        let places = match self.masks {
            Some(file) => masks::start(file, &infos).context("the masks file")?.into_iter().map(Some).collect(),
            None => selected.iter().map(|_| None).collect::<Vec<_>>(),
        };
        let (mut of_rules, mut of_shards) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for (one, place) in selected.iter().copied().zip(places) {
            let work = Work { one, place, decided: None };
            if one.is_global() {
                of_rules.entry(one.rule).or_default().push(work);
            } else {
                of_shards.entry(one.info.shard).or_default().push(work);
            }
        }
        let is_done = |number: usize| self.journal.is_some_and(|journal| journal.has(&self.shards[number]));
        let to_do = selected.iter().filter(|one| !is_done(one.info.shard));
        let to_do = to_do.map(Selected::bytes).sum();
        thread::scope(|scope| {
            let buffers = Buffers::new(HELD * self.piece_bytes);
            let reader = Reader::start(scope, buffers.clone(), self.piece_bytes);
            let writer = Writer::start(scope, buffers.clone(), self.piece_bytes);
            let mut listed = 0;
            for one in selected.iter().filter(|one| !one.is_global()) {
                listed += Some(one.contests(one.row_len())?).filter(|count| are_few(*count)).unwrap_or_default();
            }
            let lists_rows = listed <= MOST_ROWS_OF_ALL;
            let progress = Progress::new(to_do, false);
            let contests = Contests::new();
            let first = First::default();
            let mut stream = Stream { job: self, buffers, reader, writer, first, progress, lists_rows, contests };
            for (rule, mut works) in of_rules {
                let contest = stream.decide(&mut works)?;
                stream.contests.extend(contest.map(|contest| (rule, contest)));
                works.into_iter().for_each(|work| of_shards.entry(work.one.info.shard).or_default().push(work));
            }
            stream.progress = Progress::new(to_do, false);
            let mut reports = Vec::new();
            for number in 0..self.shards.len() {
                let mut works = of_shards.remove(&number).unwrap_or_default();
                works.sort_by(|a, b| a.one.info.name.cmp(&b.one.info.name));
                reports.extend(stream.shard(number, selected, works)?);
            }
            stream.finish()?;
            reports.sort_by(|a: &TensorReport, b| a.name.cmp(&b.name));
            Ok((reports, stream.contests))
        })
    }

    fn part(&self, one: &Selected<'_>, place: Option<MaskPlace>) -> Result<Part> {
        let (of_row, count) = (one.row_len(), one.norms_len(self.norms)?);
        if let (Some(norms), Some(count)) = (one.norms(self.norms), count) {
            // Better known now than in the middle.
            let (_, columns) = one.at_once(count, Some(count), self.memory)?;
            for left in (0..count).step_by(columns as usize) {
                norms.load(one.info, of_row, left..count.min(left + columns))?;
            }
        }
        let norms = count.map(|count| NormsPlace { of_row, columns: 0..count });
        let scores = match self.beside.scores(one.info, one.settings)? {
            Some(Scores::Weights(place)) => Some(place),
            _ => None,
        };
        let mut part = Part::new(one.info, norms, scores, place);
        part.histogram = self.plots.map(|_| Box::new(Histogram::new(scores.is_some())));
        Ok(part)
    }

    /// The bytes of a piece of this tensor.
    fn piece_bytes_of(&self, one: &Selected<'_>) -> usize {
        let is_run = one.is_read_again() || one.settings.granularity() == Granularity::Row;
        if is_run && self.is_for_cpu() { self.piece_bytes.min(STREAMED) } else { self.piece_bytes }
    }

    fn is_for_cpu(&self) -> bool {
        matches!(self.workers.current().backend(), Backend::Cpu { .. })
    }

    /// The entries of a piece of it.
    fn piece_len(&self, one: &Selected<'_>) -> u64 {
        let norms = if one.settings.score == Score::Wanda { size_of::<f32>() } else { 1 };
        let scores = match self.beside.scores(one.info, one.settings) {
            Ok(Some(Scores::Weights(place))) => Some(place),
            _ => None,
        };
        let widest = one.dtype.size().max(norms).max(scores.map_or(1, |place| place.dtype.size()));
        ((self.piece_bytes_of(one) / widest) as u64).max(1)
    }

    /// Where the pieces are that the library will ask for of some of a tensor's entries, in rows of this length. A wrong guess costs time alone.
    fn places(&self, one: &Selected<'_>, entries: Lines, row_len: u64) -> Vec<Place<'a>> {
        let piece = self.piece_len(one);
        let whole = entries.len;
        let run = if one.is_read_again() { 1 } else { one.band(one.row_len()).map_or(1, |band| band.rows * row_len) };
        // Runs that fit a piece are taken together, as many as fit; else each by itself.
        let is_short = run <= piece && (run <= LONG_ROW || piece > STREAMED as u64);
        let (stride, step) = if is_short { (whole, piece / run.max(1) * run) } else { (run, piece) };
        let file = &self.shards[one.info.shard].file;
        let pieces = (0..whole).step_by(stride.max(1) as usize).flat_map(|start| {
            let end = whole.min(start + stride);
            (start..end).step_by(step.max(1) as usize).map(move |at| at..end.min(at + step))
        });
        let bytes = |piece| entries.part(piece).bytes(one.dtype.size(), one.info.bytes.start);
        pieces.map(|piece| Place { file, bytes: bytes(piece) }).collect()
    }

    /// The first of those that it will ask for of these windows, as far as they are known.
    fn first_places<'s>(&self, windows: impl Iterator<Item = (&'s Selected<'s>, Window)>) -> Vec<Place<'a>> {
        let known = windows.take_while(|(one, window)| {
            // Of what is longer than a piece, some contests are asked for before the others beside them.
            let is_side_by_side = one.band(window.width()).is_ok_and(|band| band.rows > 1 && band.contests > 1);
            !is_side_by_side || window.entries.len <= self.piece_len(one)
        });
        let places = known.flat_map(|(one, window)| self.places(one, window.entries, window.width()));
        places.take(MOST_REQUESTS).collect()
    }

    /// What is decided at once of tensors.
    fn windows<'s>(&self, all: &'s [Selected<'s>]) -> impl Iterator<Item = (&'s Selected<'s>, Window)> {
        all.iter().flat_map(|one| {
            let norms = one.norms_len(self.norms);
            let windows = norms.and_then(|norms| one.windows(norms.unwrap_or(one.row_len()), norms, self.memory));
            windows.into_iter().flat_map(Windows::all).map(move |window| (one, window))
        })
    }
}

/// What is used again from one tensor to the next.
struct Stream<'a> {
    job: &'a Job<'a>,
    buffers: Buffers,
    reader: Reader<'a>,
    writer: Writer<'a>,
    /// Of differences in masks that are not compared in order.
    first: First,
    progress: Progress,
    /// Whether reports name each row.
    lists_rows: bool,
    /// Those over many tensors, which are decided.
    contests: Contests,
}

impl<'a> Stream<'a> {
    /// Wait until all is written.
    fn finish(&mut self) -> Result<()> {
        self.writer.finish().map_err(|error| {
            let error = anyhow::Error::new(error);
            match Unwritten::of(error.as_ref()).map(|late| of(&late.tensor, self.job.shards)) {
                Some(place) => error.context(place),
                None => error,
            }
        })
    }

    /// Write a shard, unless an earlier run has done that.
    fn shard(&mut self, number: usize, selected: &[Selected<'a>], works: Vec<Work<'a>>) -> Result<Vec<TensorReport>> {
        let Job { shards, outputs, masks, journal, .. } = *self.job;
        let shard = &shards[number];
        let decided = decided(&works);
        let known = journal.map(|journal| journal.take(shard, decided.as_deref())).transpose()?;
        if let Some(mut reports) = known.flatten() {
            for (report, work) in reports.iter_mut().zip(&works) {
                report.rule = work.one.rule.map(|at| at + 1);
                // Who listens hears of them too, as of those that were pruned now.
                tell(report);
                self.draw(report)?;
                report.spread = None;
            }
            return Ok(reports);
        }
        let mut hashes = journal.and_then(|journal| journal.begin(shard));
        if let Some(output) = outputs.get(number) {
            copy_gaps(shard, number, selected.iter().map(|one| one.info), *output, hashes.as_mut())?;
        }
        let (mut reports, is_journaled) = (Vec::new(), hashes.is_some());
        let order: Vec<_> = works.iter().map(|work| work.one).collect();
        for (at, work) in works.into_iter().enumerate() {
            let (later, hashes, rule) = (&order[at + 1..], hashes.as_mut(), work.one.rule);
            let report = match work.decided {
                Some(decided) => self.carry_out(&work.one, decided, later, hashes)?,
                None => self.tensor(&work.one, work.place, later, hashes)?,
            };
            let mut report = TensorReport { rule: rule.map(|at| at + 1), ..report };
            tell(&report);
            self.draw(&report)?;
            // The journal remembers it for a run that goes on.
            report.spread = report.spread.filter(|_| is_journaled);
            reports.push(report);
        }
        if let (Some(journal), Some(hashes), Some(Sink::Write(output, _))) = (journal, hashes, outputs.get(number)) {
            self.finish()?;
            shard.check_unchanged()?;
            let masks = masks.and_then(Sink::file);
            let added = journal.add(shard, &hashes, output, masks, decided, &reports);
            added.with_context(|| format!("cannot finish {}", shard.path.display()))?;
        }
        reports.iter_mut().for_each(|report| report.spread = None);
        Ok(reports)
    }

    fn draw(&self, report: &TensorReport) -> Result<()> {
        self.job.plots.map_or(Ok(()), |plots| plots.draw(report, &self.contests))
    }

    /// Decide about tensors as one contest, in this order.
    fn decide(&mut self, works: &mut [Work<'a>]) -> Result<Option<GlobalReport>> {
        let (selected, specs, parts) = self.start(works)?;
        let (Outcome { decision, masks, .. }, parts) = self.run(&selected, specs, parts, vec![], Step::Decide)?;
        let Some(contest) = decision.groups().first() else { return Ok(None) };
        let (mut before, mut masks) = (0, masks.into_iter());
        for (work, part) in works.iter_mut().zip(parts) {
            let (mut group, len) = (*contest, work.one.info.len);
            (group.len, group.cut) = (len, contest.cut.saturating_sub(before).min(len));
            before += len;
            let fate = masks.next().map_or(Fate::Group(group), Fate::Structures);
            work.decided = Some(Decided { part, fate });
        }
        Ok(Some(GlobalReport::new(contest)))
    }

    /// All that the library asks about the tensors of one contest.
    fn start(&mut self, works: &mut [Work<'a>]) -> Result<(Vec<Selected<'a>>, Vec<TensorSpec>, Vec<Part>)> {
        self.progress = Progress::new(works.iter().map(|work| work.one.bytes()).sum(), true);
        let (mut selected, mut parts, mut specs) = (Vec::new(), Vec::new(), Vec::new());
        for Work { one, place, .. } in works {
            let part = self.job.part(one, place.take())?;
            specs.push(one.spec(one.info.len, &part)?);
            parts.push(part);
            selected.push(*one);
        }
        Ok((selected, specs, parts))
    }

    /// Write a tensor of a contest over many.
    fn carry_out(
        &mut self,
        one: &Selected<'a>,
        Decided { mut part, fate }: Decided,
        later: &[Selected<'a>],
        hashes: Option<&mut Hashes>,
    ) -> Result<TensorReport> {
        let info = one.info;
        part.hasher = hashes.is_some().then(|| Box::new((blake3::Hasher::new(), info.bytes.start)));
        let then = self.job.first_places(self.job.windows(later));
        let specs = vec![one.spec(info.len, &part)?];
        let (outcome, parts) = self.run(&[*one], specs, vec![part], then, Step::CarryOut(&fate))?;
        part = parts.into_iter().next().unwrap_or_default();
        self.end(info, &mut part, hashes);
        Ok(TensorReport { kept_structures: outcome.kept, ..counted(info, 1, part.kept, &mut part) })
    }

    /// A tensor has been read from its start to its end.
    fn end(&self, info: &TensorInfo, part: &mut Part, hashes: Option<&mut Hashes>) {
        if let (Some(hashes), Some(hasher)) = (hashes, part.hasher.take()) {
            hashes.add(info.bytes.start, hasher.0.finalize());
        }
    }

    /// Prune one tensor: of as many contests at a time as there is memory for their decisions.
    fn tensor(
        &mut self,
        one: &Selected<'a>,
        place: Option<MaskPlace>,
        later: &[Selected<'a>],
        mut hashes: Option<&mut Hashes>,
    ) -> Result<TensorReport> {
        let info = one.info;
        let mut part = self.job.part(one, place)?;
        let row_len = one.spec(info.len, &part)?.row_len;
        let by_row = one.settings.granularity() != Granularity::Tensor;
        let windows = one.windows(row_len, part.norms_len(), self.job.memory)?;
        match &mut hashes {
            // Before anything of it is used: what changes from then on is noticed by the next run.
            Some(hashes) if !windows.are_in_order() => {
                let hash = journal::hash(&self.job.shards[info.shard].file, info.bytes.clone());
                hashes.add(info.bytes.start, hash.with_context(|| of(info, self.job.shards))?);
            }
            hashes => part.hasher = hashes.is_some().then(|| Box::new((blake3::Hasher::new(), info.bytes.start))),
        }
        let (mut rows, mut kept, mut contests) = (Rows::new(one.contests(row_len)?, self.lists_rows), 0, 0);
        let mut report = TensorReport::default();
        let mut bad: Option<BadEntry> = None;
        for window in windows.all() {
            let entries = window.entries;
            part.go_on(entries, window.columns.clone());
            let next = windows.after(&window).map(|window| (one, window));
            let then = self.job.first_places(next.chain(self.job.windows(later)));
            let specs = vec![one.spec_of_rows(entries.len, window.width(), &part)?];
            // Beside a bad entry nothing is stored any more.
            let step = if bad.is_some() { Step::Decide } else { Step::Both };
            match self.run(&[*one], specs, vec![part.clone()], then, step) {
                Ok((Outcome { decision, kept: kept_structures, .. }, parts)) => {
                    let are_structures = kept_structures.is_some();
                    report.kept_structures = kept_structures;
                    part = parts.into_iter().next().unwrap_or_default();
                    kept += if are_structures { part.kept } else { decision.kept() };
                    contests += decision.groups().len() as u64;
                    match decision.groups() {
                        groups if by_row => rows.add(groups),
                        contest => contest.iter().for_each(|group| report.set_contest(group)),
                    }
                }
                // Of the columns to the right one may have an earlier one.
                Err(error) if entries.are_apart() => {
                    let found = error.downcast::<BadEntry>()?;
                    bad = bad.into_iter().chain([found]).min_by_key(|bad| bad.at);
                }
                Err(error) => return Err(error),
            }
            if !windows.ends_rows(&window) {
                continue;
            }
            if let Some(bad) = bad.take() {
                let scores = one.settings.scores();
                return Err(anyhow::Error::new(bad).context(of_scores(info, self.job.shards, scores)));
            }
            if !windows.are_in_order() {
                self.first.tell()?;
                self.finish()?;
            }
        }
        self.end(info, &mut part, hashes);
        if by_row {
            report.set_rows(rows);
        }
        let TensorReport { n_eff, mass, mass_bound, threshold, degenerate, .. } = report;
        let TensorReport { rows, kept_per_row, kept_structures, .. } = report;
        let counted = counted(info, contests, kept, &mut part);
        let contest = TensorReport { n_eff, mass, mass_bound, threshold, degenerate, ..counted };
        Ok(TensorReport { rows, kept_per_row, kept_structures, ..contest })
    }

    /// Send tensors, or some entries of one, through the library.
    fn run(
        &mut self,
        selected: &[Selected<'a>],
        specs: Vec<TensorSpec>,
        parts: Vec<Part>,
        then: Vec<Place<'a>>,
        step: Step<'_>,
    ) -> Result<(Outcome, Vec<Part>)> {
        let Job { shards, norms, beside, workers, outputs, masks, plots, .. } = *self.job;
        // All of one contest have the same settings.
        let Selected { info, settings, .. } = selected[0];
        let rule = settings.rule(&info.shape)?;
        // Zeros in a dry run too: then what would be zero afterwards is counted and not derived. Only the bits tell how a
        // contest over many tensors went in each, and which scores to draw as kept.
        let one_of_many = rule.granularity == Granularity::Global || settings.structure.is_some();
        let want = Want { zeros: true, masks: masks.is_some() || one_of_many || plots.is_some() };
        let scores = beside.scores_file(settings);
        let infos: Vec<_> = selected.iter().map(|one| one.info).collect();
        let structures = Structures::load(&infos, settings, beside)?;
        let entries: Vec<_> = parts.iter().map(|part| part.entries).collect();
        let plan = selected.iter().zip(&entries).zip(&specs);
        let plan: Vec<_> =
            plan.flat_map(|((one, entries), spec)| self.job.places(one, *entries, spec.row_len)).collect();
        let again = selected[0].is_read_again() && !matches!(step, Step::CarryOut(_));
        let is_little = plan.iter().map(Place::len).sum::<usize>() <= HELD * self.job.piece_bytes;
        let mut parts = parts;
        loop {
            // What the CPU goes back to, should a device fail. What is written by then is written once more.
            let before = workers.may_fall_back().then(|| parts.clone());
            let (buffers, progress, clock) = (&self.buffers, &mut self.progress, Clock::start());
            let (reader, writer, first) = (&mut self.reader, &mut self.writer, &mut self.first);
            let mut weights = Weights {
                shards,
                scores,
                score_buffer: Vec::new(),
                norms,
                norms_read: None,
                outputs,
                masks,
                first,
                buffers,
                reader,
                writer,
                infos: selected.iter().map(|one| one.info).collect(),
                specs: specs.clone(),
                parts,
                plan: &plan,
                then: then.clone(),
                next: 0,
                again,
                // A GPU takes memory of its own, or of ours.
                held: (again && is_little && self.job.is_for_cpu()).then(BTreeMap::new),
                buffer: Buffer::default(),
                current: None,
                piece_bytes: self.job.piece_bytes_of(&selected[0]),
                // Beside them nothing is written yet.
                structure_bytes: 2 * self.job.piece_bytes,
                progress,
                clock,
            };
            let pruner = workers.current();
            let decided = match (&structures, step) {
                (Some(structures), Step::Both) => {
                    structures.stream(pruner, &mut weights, &rule, want).map(|(decision, masks)| Outcome {
                        decision,
                        kept: masks.into_iter().next().map(Numbers),
                        masks: vec![],
                    })
                }
                (Some(structures), Step::Decide) => structures
                    .decide(pruner, &mut weights, &rule)
                    .map(|(decision, masks)| Outcome { decision, masks, ..Outcome::default() }),
                (Some(structures), Step::CarryOut(Fate::Structures(kept))) => structures
                    .carry_out(pruner, &mut weights, &rule, kept, want)
                    .map(|kept| Outcome { kept: Some(kept), ..Outcome::default() }),
                (_, Step::Both) => pruner.stream(&mut weights, &rule, want).map(Outcome::of_entries),
                (_, Step::Decide) => pruner.decide(&mut weights, &rule).map(Outcome::of_entries),
                (_, Step::CarryOut(Fate::Group(group))) => {
                    let rule = rule.with_granularity(Granularity::Tensor);
                    let done = pruner.carry_out(&mut weights, &rule, std::slice::from_ref(group), want);
                    done.map(|()| Outcome::default())
                }
                (None, Step::CarryOut(Fate::Structures(_))) => unreachable!("structures were decided about"),
            };
            let error = match decided {
                Ok(outcome) => return Ok((outcome, weights.finish())),
                Err(error) => error,
            };
            let at = error.tensor();
            let failed = at.map(|at| selected[at].info);
            let name = &failed.unwrap_or(info).name;
            match before {
                Some(before) if workers.fall_back(&error, name, &format!("tensor {name:?}")) => parts = before,
                _ => {
                    let entries = entries.first().copied().unwrap_or_default();
                    let scores = at.and_then(|at| selected[at].settings.scores());
                    return Err(explain(error, failed, shards, entries, scores));
                }
            }
        }
    }
}

/// What contests over many tensors say about these, if some take part in any.
fn decided(works: &[Work<'_>]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for work in works {
        let Some(Decided { fate, .. }) = &work.decided else { continue };
        hasher.update(format!("{:?} ", work.one.info.name).as_bytes());
        match fate {
            Fate::Group(group) => {
                hasher.update(format!("{:x} {}\n", group.threshold.to_bits(), group.cut).as_bytes());
            }
            Fate::Structures(kept) => {
                hasher.update(kept.as_bytes());
            }
        }
        any = true;
    }
    any.then(|| hasher.finalize().to_string())
}

/// Of a tensor, to who listens.
fn tell(report: &TensorReport) {
    events::tell("tensor", report);
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
