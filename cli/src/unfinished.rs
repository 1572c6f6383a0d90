//! What is left of a run that was killed while it gave several outputs their names: some have them, and the last has not.
//!
//! No file system renames several files at once. So before the first rename a note lies beside the last output, and says of all
//! how they can be told from anybody else's files. The next run to the same place may replace what it finds of the others, when it is done
//! itself; where it finds the last one, nothing was left to do. It looks at its own outputs alone: a note makes nobody lose anything else.

use crate::output::{NOTE, PARTIAL, affixed, claim_of, exists, open_left, place, sync_directory};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a file keeps when it is renamed, and no other file has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    len: u64,
    /// When it was written to for the last time; of a directory, when it was made.
    time: Option<SystemTime>,
    inode: Option<u64>,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = Some(std::os::unix::fs::MetadataExt::ino(metadata));
        #[cfg(not(unix))]
        let inode = None;
        // A directory's length is the file system's business, and what is put into it or taken away leaves it what it is.
        let (len, time) =
            if metadata.is_dir() { (0, metadata.created()) } else { (metadata.len(), metadata.modified()) };
        Self { len, time: time.ok(), inode }
    }
}

/// The note of a run that is about to give its outputs their names. Dropped, it goes where no output has its name, be it of an earlier run.
pub(crate) struct Note {
    path: PathBuf,
    stays: bool,
}

impl Note {
    /// Before any output has its name, of all of them in order; what an earlier note says, in `left`, stays true until then.
    pub(crate) fn write(last: &Path, outputs: Vec<Identity>, left: Option<&Unfinished>) -> Result<Self> {
        let note = note_of(last)?;
        let all: Vec<_> = left.iter().flat_map(|left| &left.0).chain(&outputs).collect();
        let cannot = || format!("cannot create {}", note.display());
        // In the place of an earlier one, at once: without a note nobody would know.
        let new = unwritten(&note);
        // One of a run that was killed. Nobody else is at work there.
        let _ = fs::remove_file(&new); // if it is there
        let write = |text: &[u8]| {
            let mut file = File::create_new(&new)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&new, &note)
        };
        let written = write(&serde_json::to_vec(&all)?).inspect_err(|_| drop(fs::remove_file(&new)));
        written.with_context(cannot)?;
        let note = Self { path: note, stays: left.is_some() };
        note.path.parent().map_or(Ok(()), sync_directory)?;
        Ok(note)
    }

    /// Some outputs have their names, and the last may not have its own. Returns where it is.
    pub(crate) fn stay(mut self) -> PathBuf {
        self.stays = true;
        self.path.clone()
    }

    /// All have their names.
    pub(crate) fn remove(mut self) {
        self.stays = false;
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if !self.stays {
            let _ = fs::remove_file(&self.path); // where the last output is, it has no say
        }
    }
}

/// What a note is called until all of it is on the disk.
fn unwritten(note: &Path) -> PathBuf {
    note.with_file_name(affixed("", note, PARTIAL))
}

/// Remove what a run left that was killed while it wrote its note.
pub(crate) fn clear(last: &Path) {
    let _ = note_of(last).map(|note| fs::remove_file(unwritten(&note))); // there hardly ever is one
}

fn note_of(last: &Path) -> Result<PathBuf> {
    let (directory, last) = place(last)?;
    Ok(directory.join(affixed(".", &last, NOTE)))
}

/// The outputs that a killed run had given their names, when the last of them has none. They may be replaced. The last comes last here too.
pub(crate) struct Unfinished(Vec<Identity>);

impl Unfinished {
    /// Look for a note beside the last of these outputs; there hardly ever is one. Nobody may be at work there.
    pub(crate) fn look(outputs: &[&Path]) -> Result<Option<Self>> {
        let Some(last) = outputs.last() else { return Ok(None) };
        if !exists(&note_of(last)?)? {
            return Ok(None);
        }
        let _lock = claim_of(last)?;
        let left = Self::read(last)?;
        if left.is_none() {
            // The last one has its name, and so all have. Locks of directories may be left; one that is held is another run's.
            outputs.iter().filter(|output| output.is_dir()).for_each(|output| drop(claim_of(output)));
            let _ = fs::remove_file(note_of(last)?); // or somebody else has removed it
        }
        Ok(left)
    }

    /// The same for who is at work there.
    pub(crate) fn read(last: &Path) -> Result<Option<Self>> {
        let note = note_of(last)?;
        if !exists(&note)? {
            return Ok(None);
        }
        let mut text = Vec::new();
        let read = open_left(&note).and_then(|file| Ok(file.take(LONGEST).read_to_end(&mut text)?));
        read.with_context(|| format!("cannot read {}", note.display()))?;
        // One that was cut off was written before any output had its name.
        let all: Vec<Identity> = serde_json::from_slice(&text).unwrap_or_default();
        // What has the last one's name may be what it was to replace.
        let is_last = |metadata: Metadata| all.last() == Some(&Identity::of(&metadata));
        let is_over = fs::symlink_metadata(last).is_ok_and(is_last);
        Ok(Some(Self(all)).filter(|_| !is_over))
    }

    pub(crate) fn has(&self, output: &Metadata) -> bool {
        self.0.contains(&Identity::of(output))
    }

    /// Whether an output of this name was left by that run.
    pub(crate) fn left(this: Option<&Self>, output: &Path) -> bool {
        this.is_some_and(|this| fs::symlink_metadata(output).is_ok_and(|metadata| this.has(&metadata)))
    }
}

/// Bytes of a note; a few outputs take a few hundred.
const LONGEST: u64 = 1 << 16;
