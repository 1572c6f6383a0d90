//! Which shards of an output directory are finished: the journal of a run that may be killed, for the next one to go on from.
//!
//! A line is written when a shard is on the disk. It is trusted when the shard's name, the hash of its input and all that was
//! asked about its tensors are the same again, nobody has written to it since, and its masks, if some are wanted, are those that were
//! written; a line that was cut off says nothing, and the last one about a shard counts.

use crate::events;
use crate::histogram::Spread;
use crate::interrupt;
use crate::output::{JOURNAL, NewDirectory};
use crate::positioned::read_exact_at;
use crate::report::TensorReport;
use crate::safetensors::Model;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// What the journal is called until all of it is there.
const NEXT_JOURNAL: &str = ".next-journal.emprune-partial";
/// Bytes that are hashed at once, by all cores.
const PIECE: usize = 4 << 20;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A finished shard.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'t> {
    shard: String,
    /// Hash of the file that was read.
    input: String,
    /// Hash of what was asked about its tensors, and of the version.
    settings: String,
    /// Of this program, for who asks why the hash is another.
    #[serde(default)]
    version: String,
    /// When its file was written to for the last time, where that is told exactly.
    #[serde(default)]
    changed: Option<SystemTime>,
    /// Hash of their masks, if some were wanted.
    #[serde(default)]
    masks: Option<String>,
    /// Hash of what contests over many tensors said about these, if they took part in some.
    #[serde(default)]
    decided: Option<String>,
    tensors: Cow<'t, [TensorReport]>,
    /// What is to be drawn of each of them, which no report has.
    #[serde(default)]
    spreads: Vec<Option<Spread>>,
}

impl Line<'_> {
    /// Takes back what was said about a shard: nobody asks this.
    fn of_nothing(shard: String) -> Self {
        Self {
            shard,
            input: String::new(),
            settings: String::new(),
            version: String::new(),
            changed: None,
            masks: None,
            decided: None,
            tensors: Cow::default(),
            spreads: vec![],
        }
    }
}

/// What is asked of a shard.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Hash of what is asked about its tensors.
    pub(crate) settings: String,
    /// Neighbouring bytes that are read together: its tensors, and what is between them.
    pub(crate) regions: Vec<Range<u64>>,
    /// Where the masks of its tensors go.
    pub(crate) masks: Vec<Range<u64>>,
}

/// The hash of a file of regions, which come in any order.
#[derive(Debug, Default)]
pub(crate) struct Hashes(BTreeMap<u64, blake3::Hash>);

impl Hashes {
    /// That of the region that starts there.
    pub(crate) fn add(&mut self, start: u64, hash: blake3::Hash) {
        self.0.insert(start, hash);
    }

    fn finish(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (start, hash) in &self.0 {
            hasher.update(&start.to_le_bytes()).update(hash.as_bytes());
        }
        hasher.finalize().to_string()
    }

    fn of(file: &File, regions: &[Range<u64>]) -> io::Result<String> {
        let mut hashes = Self::default();
        for region in regions {
            hashes.add(region.start, hash(file, region.clone())?);
        }
        Ok(hashes.finish())
    }
}

/// The journal of this run.
#[derive(Debug)]
pub(crate) struct Journal {
    file: RefCell<File>,
    finished: RefCell<BTreeMap<String, Line<'static>>>,
    /// By the names of the shards that can be finished before all is.
    asked: BTreeMap<String, Asked>,
    /// Shards that are on the disk.
    count: Cell<usize>,
}

/// How many finished shards are in this directory, to go on from.
pub(crate) fn count_in(directory: &Path) -> usize {
    read(directory).len()
}

/// Say that the work of an earlier run is lost, and of how many of its shards for which reason.
pub(crate) fn tell_lost(directory: &Path, reasons: &BTreeMap<&str, usize>) {
    let all: usize = reasons.values().sum();
    if all > 0 {
        let shards = if all == 1 { "finished shard does" } else { "finished shards do" };
        let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let (directory, reasons) = (directory.display(), reasons.join(", "));
        events::note(&format!("{all} {shards} not fit this command and will be removed from {directory}: {reasons}"));
    }
}

fn read(directory: &Path) -> BTreeMap<String, Line<'static>> {
    let mut last = BTreeMap::new();
    if let Ok(file) = File::open(directory.join(JOURNAL)) {
        let mut text = BufReader::new(file);
        while text.fill_buf().is_ok_and(|more| !more.is_empty()) {
            let mut line = OneLine { text: &mut text, is_over: false };
            // As it comes: a line may list more numbers than there is memory for its text.
            if let Ok(line) = serde_json::from_reader::<_, Line<'_>>(&mut line) {
                last.insert(line.shard.clone(), line);
            }
            if io::copy(&mut line, &mut io::sink()).is_err() {
                break;
            }
        }
    }
    last.retain(|_, line| !line.settings.is_empty());
    last
}

/// What comes before the end of a line, which is taken too.
struct OneLine<'t, R> {
    text: &'t mut R,
    is_over: bool,
}

impl<R: BufRead> Read for OneLine<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        let there = self.text.fill_buf()?;
        let there = &there[..there.len().min(buffer.len())];
        let end = there.iter().position(|byte| *byte == b'\n');
        let len = end.unwrap_or(there.len());
        buffer[..len].copy_from_slice(&there[..len]);
        self.is_over = end.is_some() || there.is_empty();
        self.text.consume(len + usize::from(end.is_some()));
        Ok(len)
    }
}

impl Journal {
    /// Go on in a directory: `asked` is of each shard what is asked now. Files of shards that cannot be trusted, and all others, are removed.
    pub(crate) fn open(
        directory: &NewDirectory,
        shards: &[Model],
        asked: Vec<Asked>,
        masks: Option<&File>,
    ) -> Result<Self> {
        let mut old = read(directory.partial());
        let asked: BTreeMap<_, _> = shards.iter().map(name).zip(asked).collect();
        let (mut finished, mut lost) = (BTreeMap::new(), BTreeMap::new());
        for shard in shards {
            let name = name(shard);
            let (Some(line), Some(asked)) = (old.remove(&name), asked.get(&name)) else { continue };
            let output = directory.partial().join(&name).symlink_metadata().ok().filter(Metadata::is_file);
            let whole = output.as_ref().is_some_and(|metadata| metadata.len() == shard.len);
            let changed = output.and_then(|metadata| changed(&metadata));
            // A masks file that is too short has other masks than those.
            let is_of = |file, hash: &String| Hashes::of(file, &asked.masks).is_ok_and(|is| is == *hash);
            let masked = || masks.is_none_or(|file| line.masks.as_ref().is_some_and(|hash| is_of(file, hash)));
            let reason = if line.settings != asked.settings {
                if line.version == VERSION { "with other settings" } else { "of another version of emprune" }
            } else if !whole {
                "of another size"
            } else if line.changed != changed {
                "changed since"
            } else if !masked() {
                "without these masks"
            } else {
                let input = Hashes::of(&shard.file, &asked.regions);
                if line.input == input.with_context(|| format!("cannot read {}", shard.path.display()))? {
                    finished.insert(name, line);
                    continue;
                }
                "of another input"
            };
            *lost.entry(reason).or_default() += 1;
        }
        // Masks that were not read to their end for a signal are not other masks: nothing is removed for that.
        interrupt::check()?;
        if !old.is_empty() {
            lost.insert("of no shard of this input", old.len());
        }
        tell_lost(directory.partial(), &lost);
        directory.keep_only(|name| name == JOURNAL || finished.contains_key(&*name.to_string_lossy()))?;
        // The old one stays until all of the new one is there.
        let mut file = directory.file(OsStr::new(NEXT_JOURNAL))?;
        for line in finished.values() {
            append(&mut file, line)?;
        }
        file.sync_all().context("cannot write the journal")?;
        directory.replace(NEXT_JOURNAL, JOURNAL)?;
        let count = Cell::new(finished.len());
        Ok(Self { file: file.into(), finished: finished.into(), asked, count })
    }

    /// How many shards are finished.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Whether an earlier run finished this shard.
    pub(crate) fn has(&self, shard: &Model) -> bool {
        self.finished.borrow().contains_key(&name(shard))
    }

    /// What an earlier run reported about a shard, if contests over many tensors have `decided` then what they have now.
    pub(crate) fn take(&self, shard: &Model, decided: Option<&str>) -> Result<Option<Vec<TensorReport>>> {
        let Some(line) = self.finished.borrow_mut().remove(&name(shard)) else { return Ok(None) };
        if line.decided.as_deref() == decided {
            let mut tensors = line.tensors.into_owned();
            tensors.iter_mut().zip(line.spreads).for_each(|(tensor, spread)| tensor.spread = spread);
            return Ok(Some(tensors));
        }
        events::note(&format!("{} is written anew: another tensor of its contest has changed", shard.path.display()));
        // From the first byte on that is written anew, nobody may trust what was there.
        append(&mut self.file.borrow_mut(), &Line::of_nothing(line.shard))?;
        self.count.set(self.count.get() - 1);
        Ok(None)
    }

    /// A shard is about to be written: its input is to be hashed as it is read, so that what changes from then on is noticed by
    /// the next run.
    pub(crate) fn begin(&self, shard: &Model) -> Option<Hashes> {
        self.asked.contains_key(&name(shard)).then(Hashes::default)
    }

    /// That shard is finished.
    pub(crate) fn add(
        &self,
        shard: &Model,
        input: &Hashes,
        output: &File,
        masks: Option<&File>,
        decided: Option<String>,
        tensors: &[TensorReport],
    ) -> Result<()> {
        let shard = name(shard);
        let Some(asked) = self.asked.get(&shard) else { return Ok(()) };
        output.sync_all()?;
        let changed = changed(&output.metadata()?);
        let of_masks = |file: &File| file.sync_data().and_then(|()| Hashes::of(file, &asked.masks));
        let masks = masks.map(of_masks).transpose().context("the masks file")?;
        let (input, settings) = (input.finish(), asked.settings.clone());
        let spreads = tensors.iter().map(|tensor| tensor.spread.clone()).collect();
        append(
            &mut self.file.borrow_mut(),
            &Line {
                shard,
                input,
                settings,
                version: VERSION.to_owned(),
                changed,
                masks,
                decided,
                tensors: tensors.into(),
                spreads,
            },
        )?;
        self.count.set(self.count.get() + 1);
        Ok(())
    }
}

/// Each line is written as it is made, for it may be long. One that is cut off says nothing.
fn append(file: &mut File, line: &Line<'_>) -> Result<()> {
    let mut out = BufWriter::new(&mut *file);
    let written = serde_json::to_writer(&mut out, line).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
    // What is left is not to be tried once more.
    let written = written.and_then(|()| out.flush());
    drop(out.into_parts());
    written.and_then(|()| file.sync_data()).context("cannot write the journal")
}

/// Elsewhere than on Unix a file's times may still change when it is closed.
fn changed(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok().filter(|_| cfg!(unix))
}

fn name(shard: &Model) -> String {
    shard.name().to_string_lossy().into_owned()
}

/// The hash of some bytes of a file.
pub(crate) fn hash(file: &File, bytes: Range<u64>) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE.min((bytes.end - bytes.start) as usize)];
    for at in bytes.clone().step_by(PIECE) {
        interrupt::check()?;
        let piece = &mut buffer[..(bytes.end - at).min(PIECE as u64) as usize];
        read_exact_at(file, piece, at)?;
        hasher.update_rayon(piece);
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_come_and_what_is_no_line_says_nothing() {
        let line = |shard: &str, settings: &str| {
            let line = Line { settings: settings.into(), ..Line::of_nothing(shard.into()) };
            serde_json::to_string(&line).unwrap()
        };
        let (a, b, c) = (line("a", "1"), line("b", "1"), line("c", "1"));
        let (cut, taken_back) = (&a[..a.len() / 2], line("b", ""));
        let text = format!("{a}\n\n{cut}{a}\n{b}\nno line\n{b} and more\n{}\n{taken_back}\n{c}\n{cut}", line("a", "2"));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(JOURNAL), &text).unwrap();
        let read = read(directory.path());
        let settings: Vec<_> = read.iter().map(|(name, line)| (name.as_str(), line.settings.as_str())).collect();
        assert_eq!(settings, [("a", "2"), ("c", "1")]);
        // However little comes at once.
        let mut text = BufReader::with_capacity(3, text.as_bytes());
        for expected in [&a, "", &format!("{cut}{a}"), &b, "no line"] {
            let mut line = String::new();
            OneLine { text: &mut text, is_over: false }.read_to_string(&mut line).unwrap();
            assert_eq!(line, *expected);
        }
    }
}
