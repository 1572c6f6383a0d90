//! Which shards of an output directory are finished: the journal of a run that may be killed, for the next one to go on from.
//!
//! A line is written when a shard is on the disk. It is trusted when the shard's name, the hash of its input and all that was
//! asked about its tensors are the same again; a line that was cut off says nothing.

use crate::interrupt;
use crate::output::NewDirectory;
use crate::positioned::read_exact_at;
use crate::report::TensorReport;
use crate::safetensors::Model;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// In the partial directory. With the end of a partial name, so that no checkpoint has a file of this name to be copied.
pub(crate) const JOURNAL: &str = ".journal.emprune-partial";
/// Bytes that are hashed at once, by all cores.
const PIECE: usize = 4 << 20;

/// A finished shard, or one that is begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    shard: String,
    /// Hash of the file that was read.
    input: String,
    /// Hash of what was asked about its tensors.
    settings: String,
    tensors: Vec<TensorReport>,
}

/// The journal of this run.
#[derive(Debug)]
pub(crate) struct Journal {
    file: RefCell<File>,
    finished: RefCell<BTreeMap<String, Line>>,
    /// Hashes of what is asked, by the names of the shards that can be finished alone.
    settings: BTreeMap<String, String>,
    /// Shards that are on the disk.
    count: Cell<usize>,
}

/// Whether there is anything to go on from in this directory.
pub(crate) fn is_in(directory: &Path) -> bool {
    !read(directory).is_empty()
}

fn read(directory: &Path) -> BTreeMap<String, Line> {
    let text = std::fs::read(directory.join(JOURNAL)).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    lines.map(|line| (line.shard.clone(), line)).collect()
}

impl Journal {
    /// Go on in a directory: `settings` are the hashes of what is asked now, one for each shard that may be finished alone.
    /// Files of shards that cannot be trusted, and all others, are removed.
    pub(crate) fn open(directory: &NewDirectory, shards: &[Model], settings: &[Option<String>]) -> Result<Self> {
        let mut old = read(directory.partial());
        let named = shards.iter().zip(settings).filter_map(|(shard, settings)| Some((name(shard), settings.clone()?)));
        let settings: BTreeMap<_, _> = named.collect();
        let mut finished = BTreeMap::new();
        for shard in shards {
            let name = name(shard);
            let Some(line) = old.remove(&name) else { continue };
            let output = directory.partial().join(&name).symlink_metadata();
            let whole = output.is_ok_and(|metadata| metadata.is_file() && metadata.len() == shard.len);
            if whole && Some(&line.settings) == settings.get(&name) && line.input == hash_of(shard)? {
                finished.insert(name, line);
            }
        }
        directory.keep_only(|name| finished.contains_key(&*name.to_string_lossy()))?;
        let mut file = directory.file(OsStr::new(JOURNAL))?;
        for line in finished.values() {
            append(&mut file, line)?;
        }
        let count = Cell::new(finished.len());
        Ok(Self { file: file.into(), finished: finished.into(), settings, count })
    }

    /// How many shards are finished.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Whether an earlier run finished this shard.
    pub(crate) fn has(&self, shard: &Model) -> bool {
        self.finished.borrow().contains_key(&name(shard))
    }

    /// What an earlier run reported about a shard.
    pub(crate) fn take(&self, shard: &Model) -> Option<Vec<TensorReport>> {
        Some(self.finished.borrow_mut().remove(&name(shard))?.tensors)
    }

    /// A shard is about to be written, alone. Its input is hashed before any of it is used, so that what changes from then on is
    /// noticed by the next run.
    pub(crate) fn begin(&self, shard: &Model) -> Result<Option<Line>> {
        let name = name(shard);
        let Some(settings) = self.settings.get(&name).cloned() else { return Ok(None) };
        Ok(Some(Line { shard: name, input: hash_of(shard)?, settings, tensors: vec![] }))
    }

    /// That shard is finished.
    pub(crate) fn add(&self, begun: Line, output: &File, tensors: &[TensorReport]) -> Result<()> {
        output.sync_all()?;
        append(&mut self.file.borrow_mut(), &Line { tensors: tensors.to_vec(), ..begun })?;
        self.count.set(self.count.get() + 1);
        Ok(())
    }
}

fn append(file: &mut File, line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text).and_then(|()| file.sync_data()).context("cannot write the journal")
}

fn name(shard: &Model) -> String {
    shard.name().to_string_lossy().into_owned()
}

fn hash_of(shard: &Model) -> Result<String> {
    hash(&shard.file, shard.len).with_context(|| format!("cannot read {}", shard.path.display()))
}

/// The hash of a file's first bytes, which are all of them.
pub(crate) fn hash(file: &File, len: u64) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE.min(len as usize)];
    let mut at = 0;
    while at < len {
        interrupt::check()?;
        let piece = &mut buffer[..(len - at).min(PIECE as u64) as usize];
        read_exact_at(file, piece, at)?;
        hasher.update_rayon(piece);
        at += piece.len() as u64;
    }
    Ok(hasher.finalize().to_string())
}
