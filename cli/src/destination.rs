//! Where a model goes: a file, or a directory that has all of the input's other files too.

use crate::apply;
use crate::checkpoint::{Checkpoint, is_left, shard_names};
use crate::events;
use crate::input::{Seen, open_regular};
use crate::interrupt;
use crate::journal::{self, Asked, Hashes, Journal};
use crate::output::{self, Flushed, Mode, NewDirectory, NewFile, REPORT};
use crate::plot::PICTURE;
use crate::report::{self, write_json};
use crate::safetensors::{Model, TensorInfo};
use crate::sink::Sink;
use crate::unfinished::Unfinished;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf, is_separator};

/// The outputs of one run, under temporary names. Dropped before [`commit`](Self::commit), they leave nothing.
pub(crate) struct Destination<'a> {
    model: &'a Checkpoint,
    overwrite: bool,
    masks: Option<NewFile>,
    report: Option<NewFile>,
    weights: Option<NewFile>,
    directory: Option<NewDirectory>,
    /// Those of the directory.
    shards: Vec<File>,
    /// What the files of weights will be called.
    names: Vec<PathBuf>,
    journal: Option<Journal>,
    plots: Option<NewDirectory>,
}

/// What a command line says about outputs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Paths<'a> {
    /// A file or a directory, as the input is; nothing for a dry run.
    pub(crate) weights: Option<&'a Path>,
    pub(crate) masks: Option<&'a Path>,
    pub(crate) report: Option<&'a Path>,
    /// A directory.
    pub(crate) plots: Option<&'a Path>,
    pub(crate) overwrite: bool,
}

impl Paths<'_> {
    /// Look at all of them before any work; `inputs` are files that are read besides the model's own.
    pub(crate) fn check(&self, model: &Checkpoint, inputs: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        let (file, directory) = self.split(model);
        let targets: Vec<&Path> = [self.masks, self.report, file].into_iter().flatten().collect();
        let inputs: Vec<PathBuf> = model.files().into_iter().chain(inputs).collect();
        let directories: Vec<&Path> = self.plots.into_iter().chain(directory).collect();
        directories.iter().try_for_each(|directory| output::check_apart(directory, &model.path))?;
        if model.directory.is_some() {
            // The next run would take it for a file of the model.
            targets.iter().try_for_each(|target| output::check_apart(target, &model.path))?;
        }
        if let Some(file) = file {
            let is_folder = file.as_os_str().as_encoded_bytes().last().is_some_and(|&last| is_separator(last.into()));
            ensure!(!is_folder, "{} is a directory's name, and the input is a file", file.display());
        }
        output::check(&targets, &inputs, &directories, self.overwrite)?;
        // What cannot be read is better known before the work than after it.
        let others = model.directory.iter().filter(|_| directory.is_some()).flat_map(|beside| &beside.others);
        others.map(|name| model.path.join(name)).try_for_each(|path| {
            let opened = File::open(&path).map(drop);
            opened.with_context(|| format!("cannot copy {}", path.display()))
        })
    }

    /// Whether a run that is ended can be gone on from: one that writes several shards.
    pub(crate) fn resumes(&self, model: &Checkpoint) -> bool {
        self.weights.is_some() && model.shards.len() > 1
    }

    fn split(&self, model: &Checkpoint) -> (Option<&Path>, Option<&Path>) {
        if model.directory.is_some() { (None, self.weights) } else { (self.weights, None) }
    }
}

impl<'a> Destination<'a> {
    /// Start all the files. With what is asked about each shard, a directory goes on where a killed run stopped.
    pub(crate) fn create(model: &'a Checkpoint, paths: &Paths<'_>, asked: Vec<Asked>) -> Result<Self> {
        let (file, directory) = paths.split(model);
        let last = directory.or(paths.plots).or(file).or(paths.report).or(paths.masks);
        let left = last.map_or(Ok(None), Unfinished::read)?;
        let left = |path: &Path| Unfinished::left(left.as_ref(), path);
        let resumes = !asked.is_empty() && paths.resumes(model);
        let goes_on = |partial: &Path| match journal::count_in(partial) {
            0 => false,
            count if !resumes => {
                journal::tell_lost(partial, &[("of another command", count)].into());
                false
            }
            _ => true,
        };
        let of_model = mode(model).with_context(|| format!("cannot look at {}", model.path.display()))?;
        let create = |path: Option<&Path>| path.map(NewFile::create).transpose();
        let (report, weights) = (create(paths.report)?, create(file)?);
        // Pictures may be refused: before anything of an earlier run is looked at.
        let overwrites = |path| paths.overwrite || left(path);
        let modes = [of_model.around(), of_model];
        let drawn =
            |path| NewDirectory::create(path, &model.path, modes, overwrites(path), Box::new(is_plots), |_| false);
        let plots = paths.plots.map(drawn).transpose()?;
        let names = model.output_names();
        let is_ours = Box::new(move |directory: &Path| is_model(directory, &names));
        let modes = [mode_of(&model.path)?, of_model];
        let directory =
            directory.map(|path| NewDirectory::create(path, &model.path, modes, paths.overwrite, is_ours, goes_on));
        let directory = directory.transpose()?;
        // Until all is begun, nothing of an earlier run is lost, whatever happens.
        let keep = |keep| directory.iter().for_each(|new: &NewDirectory| new.keep(keep));
        let went_on = directory.as_ref().is_some_and(|new| goes_on(new.partial()));
        keep(went_on);
        let mut masks = match paths.masks {
            Some(path) if went_on => {
                if left(path) {
                    output::take_back(path)?;
                }
                Some(NewFile::go_on(path)?)
            }
            path => create(path)?,
        };
        masks.iter_mut().for_each(|masks| masks.keep(went_on));
        let open = |new| Journal::open(new, &model.shards, asked, masks.as_ref().map(NewFile::file));
        let journal = directory.as_ref().filter(|_| resumes).map(open).transpose()?;
        if let Some(journal) = journal.as_ref().filter(|journal| journal.count() > 0) {
            let (done, all) = (journal.count(), model.shards.len());
            events::note(&format!("finished by a run that was ended, and taken over: {done} of {all} shards"));
        }
        let open = |new: &NewDirectory, shard: &Model| {
            let of = Mode::of(&shard.file.metadata()?);
            match &journal {
                Some(journal) if journal.has(shard) => new.old_file(shard.name(), of),
                _ => new.file_of(shard.name(), of),
            }
        };
        let shards = match &directory {
            Some(new) => model.shards.iter().map(|shard| open(new, shard)).collect::<Result<Vec<_>>>()?,
            None => vec![],
        };
        let names = match (&directory, &weights) {
            (Some(new), _) => model.shards.iter().map(|shard| new.target().join(shard.name())).collect(),
            (None, file) => file.iter().map(|new| new.target().to_owned()).collect(),
        };
        weights.iter().chain(&masks).chain(&report).for_each(|new| new.permit_as(of_model));
        keep(false);
        masks.iter_mut().for_each(|masks| masks.keep(false));
        let overwrite = paths.overwrite;
        Ok(Self { model, overwrite, masks, report, weights, directory, shards, names, journal, plots })
    }

    /// Of finished shards, where a killed run can be gone on from.
    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Before the run ends too early: leave what is finished, unless a person at a keyboard wants to be rid of it.
    pub(crate) fn keep_finished(&mut self) {
        if let (Some(directory), Some(journal)) = (&self.directory, &self.journal)
            && !interrupt::is_by_hand()
            && journal.count() > 0
        {
            let (done, all) = (journal.count(), self.model.shards.len());
            let masks =
                self.masks.as_ref().map_or_else(String::new, |masks| format!(" and {}", masks.partial().display()));
            let place = directory.partial().display();
            events::note(&format!(
                "finished, and left in {place}{masks} for the same command to go on from: {done} of {all} shards"
            ));
            directory.keep(true);
            self.masks.iter_mut().for_each(|masks| masks.keep(true));
        }
    }

    /// One for each shard, or none in a dry run.
    pub(crate) fn outputs(&self) -> Vec<Sink<'_>> {
        let files = self.weights.iter().map(NewFile::file).chain(&self.shards);
        files.zip(&self.names).map(|(file, name)| Sink::Write(file, name)).collect()
    }

    /// Where to draw.
    pub(crate) fn plots(&self) -> Option<&NewDirectory> {
        self.plots.as_ref()
    }

    pub(crate) fn masks(&self) -> Option<Sink<'_>> {
        self.masks.as_ref().map(|masks| Sink::Write(masks.file(), masks.target()))
    }

    /// Write the report, copy what else belongs there, and give everything its name: all of it or nothing.
    pub(crate) fn commit(mut self, report: &impl Serialize) -> Result<()> {
        let flushed = self.complete(report).and_then(|()| self.flush()).inspect_err(|_| self.keep_finished())?;
        let Self { overwrite, masks, report, weights, directory, shards, journal, plots, .. } = self;
        // Elsewhere than on Unix a directory with open files cannot be renamed.
        drop((shards, journal));
        // The weights last: where they are, the rest is.
        let files = [masks, report, weights].into_iter().flatten().collect();
        flushed.commit(files, plots.into_iter().chain(directory).collect(), overwrite)
    }

    /// All of it, in the order of the names.
    fn flush(&self) -> Result<Flushed> {
        let files: Vec<_> = [&self.masks, &self.report, &self.weights].into_iter().flatten().collect();
        let directories: Vec<_> = [&self.plots, &self.directory].into_iter().flatten().collect();
        output::flush(&files, &directories)
    }

    /// Write all that is missing under the temporary names.
    fn complete(&self, report: &impl Serialize) -> Result<()> {
        let write = |file: &File, name: &Path| -> Result<()> {
            let mut out = BufWriter::new(file);
            let written =
                write_json(&mut out, report).and_then(|()| out.into_inner().map_err(|e| e.into_error()).map(drop));
            written.with_context(|| format!("cannot write the report {}", name.display()))
        };
        self.report.as_ref().map_or(Ok(()), |report| write(report.file(), report.target()))?;
        if let Some(directory) = &self.directory {
            let (from, to) = (self.model.path.display(), directory.target().display());
            finish(self.model, directory, &self.shards, write)
                .with_context(|| format!("cannot copy {from} to {to}"))?;
        }
        if let Some(plots) = &self.plots {
            // It says what was drawn, and that the directory is ours to replace.
            let file = plots.file(REPORT.as_ref())?;
            write(&file, &plots.target().join(REPORT))?;
            file.sync_all().with_context(|| format!("cannot write {}", plots.target().display()))?;
        }
        Ok(interrupt::check()?)
    }
}

/// Who may read all of a model: what is made of it is for no other eyes.
fn mode(model: &Checkpoint) -> Result<Mode> {
    let mut modes = vec![];
    if model.directory.is_some() {
        modes.push(mode_of(&model.path)?.inside());
    }
    for shard in &model.shards {
        modes.push(Mode::of(&shard.file.metadata()?));
    }
    modes.into_iter().reduce(Mode::and).context("it has no shards")
}

fn mode_of(path: &Path) -> Result<Mode> {
    Ok(Mode::of(&fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?))
}

/// A directory with a model is ours to replace when it has our report beside weights, and nothing that this run would not write again: not
/// even a history of it.
fn is_model(directory: &Path, new: &BTreeSet<PathBuf>) -> Result<()> {
    has_report(directory)?;
    let is_weights =
        |(name, is_file): &(PathBuf, bool)| *is_file && name.extension().is_some_and(|end| end == "safetensors");
    ensure!(entries(directory)?.iter().any(is_weights), "it has a {REPORT} and no weights");
    let old = shard_names(directory);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for (name, is_file) in entries(&directory.join(&folder))? {
            let is_left = is_left(name.as_os_str());
            let name = folder.join(name);
            let is_known = new.contains(&name) || old.contains(&name) || is_left;
            ensure!(
                is_known,
                "it has {}, which would be lost: this run does not write it. Move it away",
                name.display()
            );
            if !is_file && directory.join(&name).symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && !is_left
            {
                folders.push(name);
            }
        }
    }
    Ok(())
}

/// A directory with pictures is ours to replace when it has nothing else than what is drawn there, and our report.
fn is_plots(directory: &Path) -> Result<()> {
    let entries = entries(directory)?;
    let has = |wanted: &str| entries.iter().any(|(name, _)| name.as_os_str() == wanted);
    ensure!(has(PICTURE), "it has no {PICTURE}");
    let is_drawn =
        |name: &str| name == REPORT || name == PICTURE || name.starts_with("tensor-") && name.ends_with(".svg");
    let foreign = entries.iter().find(|(name, is_file)| !is_file || !name.to_str().is_some_and(is_drawn));
    if let Some((name, _)) = foreign {
        bail!("it has {}, which is no picture of a model", name.display());
    }
    has_report(directory)
}

/// The names in a directory, in order, and whether each is a regular file's.
fn entries(directory: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let entries = fs::read_dir(directory).and_then(|entries| {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().into(), entry.file_type()?.is_file()))
        };
        entries.map(entry).collect::<io::Result<Vec<_>>>()
    });
    let mut entries = entries.with_context(|| format!("cannot list {}", directory.display()))?;
    entries.sort();
    Ok(entries)
}

/// Whether this program has written the report there, in whatever version.
fn has_report(directory: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Start {
        schema: String,
    }
    let path = directory.join(REPORT);
    ensure!(fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()), "it has no {REPORT}");
    let file = open_regular(&path).context(REPORT)?;
    let start: Option<Start> = serde_json::from_reader(BufReader::new(file.take(LONGEST))).ok();
    let kind = |schema: &str| schema.split_once('/').map(|(kind, _)| kind.to_owned());
    let is_ours = start.is_some_and(|start| [report::SCHEMA, apply::SCHEMA].map(kind).contains(&kind(&start.schema)));
    ensure!(is_ours, "its {REPORT} is none of a model that emprune wrote");
    Ok(())
}

/// Bytes of a report. Those of the longest lists take some ten millions, and are not held in memory here.
const LONGEST: u64 = 1 << 30;

/// Put beside the shards what else belongs there, the index last, all of it on the disk.
fn finish(
    model: &Checkpoint,
    directory: &NewDirectory,
    shards: &[File],
    report: impl Fn(&File, &Path) -> Result<()>,
) -> Result<()> {
    shards.iter().try_for_each(File::sync_all)?;
    let copy = |name: &Path| -> Result<()> {
        let path = model.path.join(name);
        let copied = || -> Result<()> {
            let from = File::open(&path)?;
            let seen = Seen::of(&from)?;
            let to = directory.file_of(name.as_ref(), Mode::of(&from.metadata()?))?;
            Sink::Write(&to, &directory.target().join(name)).copy(&from, 0..seen.len)?;
            seen.check(&path, &from)?;
            Ok(to.sync_all()?)
        };
        copied().with_context(|| name.display().to_string())
    };
    let Some(beside) = &model.directory else { return Ok(()) };
    // Outer ones first.
    for folder in &beside.folders {
        directory.folder(folder, mode_of(&model.path.join(folder))?)?;
    }
    beside.others.iter().try_for_each(|file| copy(file))?;
    beside.folders.iter().try_for_each(|folder| directory.sync(folder))?;
    let file = directory.file(REPORT.as_ref())?;
    report(&file, &directory.target().join(REPORT))?;
    file.sync_all()?;
    beside.index.map_or(Ok(()), |index| copy(index.as_ref()))
}

/// Copy all that is not rewritten, the header first: every byte of a shard that belongs to none of these tensors.
pub(crate) fn copy_gaps<'t>(
    shard: &Model,
    number: usize,
    rewritten: impl IntoIterator<Item = &'t TensorInfo>,
    output: Sink<'_>,
    mut hashes: Option<&mut Hashes>,
) -> Result<()> {
    let copy = || -> io::Result<()> {
        output.set_len(shard.len)?;
        for (bytes, _) in regions(shard, number, rewritten).into_iter().filter(|(_, is_rewritten)| !is_rewritten) {
            let mut hasher = hashes.as_ref().map(|_| blake3::Hasher::new());
            output.copy_and(&shard.file, bytes.clone(), |piece| {
                if let Some(hasher) = &mut hasher {
                    hasher.update(piece);
                }
            })?;
            if let (Some(hashes), Some(hasher)) = (&mut hashes, hasher) {
                hashes.add(bytes.start, hasher.finalize());
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot {} {}", output.verb(), shard.path.display()))
}

/// The bytes of a shard, in order: those of each of these tensors, and those between them, which are not rewritten.
pub(crate) fn regions<'t>(
    shard: &Model,
    number: usize,
    rewritten: impl IntoIterator<Item = &'t TensorInfo>,
) -> Vec<(Range<u64>, bool)> {
    let of_shard = rewritten.into_iter().filter(|info| info.shard == number);
    let mut taken: Vec<_> = of_shard.map(|info| info.bytes.clone()).collect();
    taken.sort_by_key(|bytes| bytes.start);
    taken.push(shard.len..shard.len);
    let starts = [0].into_iter().chain(taken.iter().map(|bytes| bytes.end)).collect::<Vec<_>>();
    let both = starts.iter().zip(&taken).flat_map(|(&at, bytes)| [(at..bytes.start, false), (bytes.clone(), true)]);
    both.filter(|(bytes, _)| !bytes.is_empty()).collect()
}
