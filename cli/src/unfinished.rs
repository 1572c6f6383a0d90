//! What is left of a run that was killed while it gave several outputs their names: some have them, and the last has not.
//!
//! No file system renames several files at once. So before the first rename a note lies beside the last output, and says of the others
//! how they can be told from anybody else's files. The next run to the same place takes away what it finds of them. It looks at its own
//! outputs alone: a note makes nobody lose anything else.

use crate::events;
use crate::output::{NOTE, affixed, claim_of, exists, is_empty, place, sync_directory};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::NamedTempFile;

/// What a file keeps when it is renamed, and no other file has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    len: u64,
    modified: Option<SystemTime>,
    inode: Option<u64>,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = Some(std::os::unix::fs::MetadataExt::ino(metadata));
        #[cfg(not(unix))]
        let inode = None;
        // A directory's length is the file system's business.
        let len = if metadata.is_dir() { 0 } else { metadata.len() };
        Self { len, modified: metadata.modified().ok(), inode }
    }
}

/// The note of a run that is about to give its outputs their names. Dropped when they have them, or have lost them again.
pub(crate) struct Note(PathBuf);

impl Note {
    pub(crate) fn write(last: &Path, others: &[Identity]) -> Result<Self> {
        let note = Self(note_of(last)?);
        let write = || {
            let mut file = File::options().write(true).create_new(true).open(&note.0)?;
            file.write_all(&serde_json::to_vec(others)?)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot create {}", note.0.display()))?;
        note.0.parent().into_iter().for_each(sync_directory);
        Ok(note)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // where the last output is, it has no say
    }
}

fn note_of(last: &Path) -> Result<PathBuf> {
    let (directory, last) = place(last)?;
    Ok(directory.join(affixed(".", &last, NOTE)))
}

/// The outputs that a killed run had given their names, when the last of them has none.
pub(crate) struct Unfinished {
    note: PathBuf,
    outputs: Vec<Identity>,
    /// Nobody else is at work here.
    _lock: NamedTempFile,
}

impl Unfinished {
    /// Look for a note beside the last output; there hardly ever is one.
    pub(crate) fn beside(last: &Path) -> Result<Option<Self>> {
        let note = note_of(last)?;
        if !exists(&note)? {
            return Ok(None);
        }
        let lock = claim_of(last)?;
        if exists(last)? && !(last.is_dir() && is_empty(last)?) {
            // The last one has its name, and so all have.
            fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))?;
            return Ok(None);
        }
        // One that was cut off was written before any output had its name.
        let outputs = fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Ok(Some(Self { note, outputs, _lock: lock }))
    }

    pub(crate) fn has(&self, output: &Metadata) -> bool {
        self.outputs.contains(&Identity::of(output))
    }

    /// Take away those of the killed run, and then what it said of them.
    pub(crate) fn remove(self, outputs: &[&Path]) -> Result<()> {
        for output in outputs {
            let Ok(metadata) = fs::symlink_metadata(output) else { continue };
            if self.has(&metadata) {
                let removed = if metadata.is_dir() { fs::remove_dir_all(output) } else { fs::remove_file(output) };
                removed.with_context(|| format!("cannot remove {}", output.display()))?;
                let name = output.display();
                events::note(&format!(
                    "{name} was left by a run that was killed when it was nearly done, and is removed"
                ));
            }
        }
        fs::remove_file(&self.note).with_context(|| format!("cannot remove {}", self.note.display()))
    }
}
