//! From temporary names to their own: outputs that are on the disk get them one after the other, or those that have them lose them again.

use super::{NewDirectory, NewFile, exists, place, sync_directory};
use crate::events;
use crate::unfinished::{self, Note, Unfinished};
use anyhow::{Context, Error, Result};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Outputs that are on the disk, and what is known of them until all have their names.
pub(crate) struct Flushed {
    left: Option<Unfinished>,
    note: Option<Note>,
}

/// Put every one on the disk, and a note beside the last. The order is that of [`Flushed::commit`]. After an error here nothing stays but what is
/// to be kept.
pub(crate) fn flush(files: &[&NewFile], directories: &[&NewDirectory]) -> Result<Flushed> {
    for file in files {
        file.file().sync_all().with_context(|| format!("cannot write {}", file.target().display()))?;
    }
    directories.iter().try_for_each(|directory| directory.flush())?;
    let of_files = files.iter().map(|file| (file.target(), file.identity()));
    let outputs: Vec<_> = of_files.chain(directories.iter().map(|new| (new.target(), new.identity()))).collect();
    let Some((last, _)) = outputs.last() else { return Ok(Flushed { left: None, note: None }) };
    let last = *last;
    unfinished::clear(last);
    let left = Unfinished::read(last)?;
    // Others have their names when the last has not, and an earlier note goes with this one.
    let note = if outputs.len() > 1 || left.is_some() {
        let all = outputs.into_iter().map(|(_, identity)| identity).collect::<io::Result<Vec<_>>>();
        Some(Note::write(last, all.context("cannot look at what was written")?, left.as_ref())?)
    } else {
        None
    };
    Ok(Flushed { left, note })
}

impl Flushed {
    /// Give all the files their names, in order, and then the directories theirs. From now on no error removes anything: what does not get its name
    /// stays under the temporary one. All are locked until the last has its name, or none has.
    pub(crate) fn commit(
        self,
        mut files: Vec<NewFile>,
        mut directories: Vec<NewDirectory>,
        overwrite: bool,
    ) -> Result<()> {
        files.iter_mut().for_each(|file| file.keep(true));
        directories.iter().for_each(|directory| directory.keep(true));
        let named = self.name(&mut files, &mut directories, overwrite);
        if named.is_err() {
            // The error that counts is on its way.
            files.iter_mut().for_each(NewFile::take_back);
            directories.iter_mut().for_each(NewDirectory::take_back);
        }
        let done = named.and_then(|()| {
            let targets = files.iter().map(NewFile::target).chain(directories.iter().map(NewDirectory::target));
            let parents: BTreeSet<&Path> = targets.filter_map(Path::parent).collect();
            parents.into_iter().try_for_each(sync_directory).context("all is written, and a power cut may undo it")
        });
        if let Err(error) = done {
            // What has replaced something keeps its name. The next run may do the same.
            let has_name = files.iter().any(NewFile::is_named) || directories.iter().any(NewDirectory::is_named);
            let note = self.note.filter(|_| has_name).map(Note::stay);
            tell_left(&error, &files, &directories, note);
            return Err(error);
        }
        directories.iter().for_each(NewDirectory::tidy);
        // Last of all: who finds it takes away what else a run left that was killed here.
        drop((files, directories));
        self.note.into_iter().for_each(Note::remove);
        Ok(())
    }

    fn name(&self, files: &mut [NewFile], directories: &mut [NewDirectory], overwrite: bool) -> Result<()> {
        // As long as nothing has its name.
        files.iter().try_for_each(NewFile::check)?;
        directories.iter().try_for_each(NewDirectory::check)?;
        for file in files {
            file.rename(overwrite || Unfinished::left(self.left.as_ref(), file.target()))?;
        }
        directories.iter_mut().try_for_each(NewDirectory::rename)
    }
}

/// Name what stays that an error does not speak of.
fn tell_left(error: &Error, files: &[NewFile], directories: &[NewDirectory], note: Option<PathBuf>) {
    let said = format!("{error:#}");
    let left = files.iter().filter_map(NewFile::left).chain(directories.iter().flat_map(NewDirectory::left));
    let left: Vec<_> =
        left.chain(note).map(|path| path.display().to_string()).filter(|path| !said.contains(path)).collect();
    if !left.is_empty() {
        events::note(&format!("left for the next run: {}", left.join(", ")));
    }
}

/// Have what a killed run had given its name already go on under the temporary one, unless that is another's.
pub(crate) fn take_back(target: &Path) -> Result<()> {
    let (directory, whole) = place(target)?;
    let partial = directory.join(super::affixed(".", &whole, super::PARTIAL));
    if exists(&partial)? {
        return Ok(());
    }
    super::rename_to_free(&whole, &partial).with_context(|| format!("cannot rename {}", target.display()))
}
