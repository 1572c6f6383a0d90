//! Directories that appear whole or not at all, with all that is in them.

use super::rights::{self, Mode, check_owner};
use super::{
    JOURNAL, Named, OLD, PARTIAL, REPORT, affixed, check_apart, claim, exists, is_at, place, sync_directory, taken_away,
};
use crate::events;
use crate::unfinished::Identity;
use anyhow::{Context, Result, ensure};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A directory that is being written under another name. Dropped before [`Flushed::commit`](super::Flushed::commit), it leaves nothing, unless it
/// is to be kept.
pub(crate) struct NewDirectory {
    pub(super) target: PathBuf,
    partial: PathBuf,
    keep: Cell<bool>,
    /// What new files get here, and what the directory and the files in it are made of. Until it is complete nobody else can enter it.
    usual: Mode,
    of: Mode,
    of_files: Mode,
    /// Beside the directory, not in it: so the finished one has nothing that does not belong there.
    lock: NamedTempFile,
    seen: Seen,
    /// What it replaces, if that has files.
    replaces: Option<Seen>,
    is_ours: IsOurs,
    named: Option<Named>,
}

/// An error says why this program may not replace a directory that has files.
pub(crate) type IsOurs = Box<dyn Fn(&Path) -> Result<()>>;

/// A directory, to know it by whatever it is called later. Opened, so that no other one gets its number; elsewhere than on Unix that would
/// keep its name from changing, and one of its name is taken for it.
#[derive(Debug)]
struct Seen(Option<File>);

impl Seen {
    fn new(path: &Path) -> Self {
        Self(if cfg!(unix) { File::open(path).ok() } else { None })
    }

    fn is_at(&self, path: &Path) -> bool {
        self.0.as_ref().map_or_else(|| path.is_dir(), |file| is_at(file, path))
    }
}

impl NewDirectory {
    /// Start a directory that will be called `target`, beside and not within the directory `input`. What it is made of has the permissions `of`,
    /// and its files those of `of_files`. One that has files may be replaced if it `is_ours`. What a killed run left of it stays if `goes_on`
    /// says so of it, and is removed otherwise.
    pub(crate) fn create(
        target: &Path,
        input: &Path,
        [of, of_files]: [Mode; 2],
        overwrite: bool,
        is_ours: IsOurs,
        goes_on: impl Fn(&Path) -> bool,
    ) -> Result<Self> {
        check_apart(target, input)?;
        let (parent, place) = place(target)?;
        let out = target.display();
        ensure!(
            !is_mounted(&place, &parent),
            "{out} is a mount point, which no other directory can replace; name one in it"
        );
        let (lock, usual) = claim(&parent.join(affixed(".", &place, PARTIAL)), &place, false)?;
        let (partial, old) = (parent.join(affixed("", &place, PARTIAL)), parent.join(affixed("", &place, OLD)));
        let left = fs::symlink_metadata(&partial).ok().filter(fs::Metadata::is_dir);
        if let Some(left) = &left {
            check_owner(&partial, left)?;
        }
        // A run was killed while it replaced the output: what was there before comes back, and is looked at.
        if !exists(&place)? && exists(&old)? {
            fs::rename(&old, &place).with_context(|| format!("cannot rename {}", old.display()))?;
        }
        let mut replaces = None;
        if exists(&place)? && !is_empty(&place)? {
            clear(&place)?;
            ensure!(overwrite, "{out} exists and is not empty; --overwrite replaces it");
            replaces = Some(Seen::new(&place));
            is_ours(&place).with_context(|| format!("{out} is not emprune's to replace"))?;
        }
        // A run that is refused has removed nothing.
        if !(left.is_some() && goes_on(&partial)) {
            remove_directory(&partial)?;
        }
        if exists(&old)? {
            discard(&old, &partial)?;
        }
        if exists(&partial)? {
            rights::permit_directory(&partial, usual, Mode::NOBODY);
        } else {
            rights::create_private(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        }
        let seen = Seen::new(&partial);
        let keep = Cell::new(false);
        Ok(Self { target: place, partial, keep, usual, of, of_files, lock, seen, replaces, is_ours, named: None })
    }

    /// Where it is until then.
    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Whether to leave what is there, for another run to go on from.
    pub(crate) fn keep(&self, keep: bool) {
        self.keep.set(keep);
    }

    /// Remove all that an earlier run left, but for these files.
    pub(crate) fn keep_only(&self, keeps: impl Fn(&OsStr) -> bool) -> Result<()> {
        let cannot = || format!("cannot clear {}", self.partial.display());
        for entry in fs::read_dir(&self.partial).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if keeps(&entry.file_name()) {
                continue;
            }
            let is_directory = entry.file_type().with_context(cannot)?.is_dir();
            let removed = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.with_context(cannot)?;
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&fs::symlink_metadata(&self.partial)?))
    }

    /// Open a file that an earlier run wrote into it, of what has these permissions now.
    pub(crate) fn old_file(&self, name: &OsStr, of: Mode) -> Result<File> {
        let path = self.partial.join(name);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        permitted(file, of).with_context(|| format!("cannot open {}", path.display()))
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Give a file of it the name of another one, in its place.
    pub(crate) fn replace(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.partial.join(from), self.partial.join(to));
        fs::rename(&from, &to).with_context(|| format!("cannot create {}", to.display()))?;
        sync_directory(&self.partial)
    }

    /// Start a file in it.
    pub(crate) fn file(&self, name: &OsStr) -> Result<File> {
        self.file_of(name, self.of_files)
    }

    /// The same, of what has these permissions.
    pub(crate) fn file_of(&self, name: &OsStr, of: Mode) -> Result<File> {
        let path = self.partial.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        permitted(file, of).with_context(|| format!("cannot create {}", path.display()))
    }

    /// Make a directory in it, of one that has these permissions.
    pub(crate) fn folder(&self, name: &Path, of: Mode) -> Result<()> {
        let path = self.partial.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        rights::permit_directory(&path, self.usual, of);
        Ok(())
    }

    /// It is complete: put what is in it on the disk, for those who may see it.
    pub(super) fn flush(&self) -> Result<()> {
        rights::permit_directory(&self.partial, self.usual, self.of);
        sync_directory(&self.partial)
    }

    /// Put the names in a directory of it on the disk.
    pub(crate) fn sync(&self, folder: &Path) -> Result<()> {
        sync_directory(&self.partial.join(folder))
    }

    /// Whether its lock is still the one of its name.
    fn is_locked(&self) -> bool {
        is_at(self.lock.as_file(), self.lock.path())
    }

    /// All of it is written: see whether it may get its name. If not, it stays what it is.
    pub(super) fn check(&self) -> Result<()> {
        let is_held = self.is_locked() && self.seen.is_at(&self.partial);
        ensure!(is_held, taken_away(&self.partial, &self.target));
        self.check_place().with_context(|| self.stays())
    }

    /// What is said where it cannot get its name.
    fn stays(&self) -> String {
        let then = if self.partial.join(JOURNAL).exists() { ", where the same command goes on" } else { "" };
        super::stays(&self.partial, then, &self.target)
    }

    /// Nothing is where it will be but what was there when it was begun, or what nobody misses.
    fn check_place(&self) -> Result<()> {
        let target = self.target.display();
        if !exists(&self.target)? || is_empty(&self.target)? {
            return Ok(());
        }
        let is_known = self.replaces.as_ref().is_some_and(|seen| seen.is_at(&self.target));
        ensure!(is_known, "{target} has come to be there while this run went on");
        (self.is_ours)(&self.target).with_context(|| format!("{target} has changed and is not emprune's to replace"))
    }

    /// Give it its name.
    pub(super) fn rename(&mut self) -> Result<()> {
        self.check()?;
        let (target, old) = (&self.target, self.old());
        let there = exists(target)?;
        let replaces = there && !is_empty(target)?;
        if replaces {
            let cannot = || format!("cannot rename {}", target.display());
            fs::rename(target, &old).with_context(cannot).with_context(|| self.stays())?;
        } else if there {
            let cannot = || format!("cannot remove {}", target.display());
            fs::remove_dir(target).with_context(cannot).with_context(|| self.stays())?;
        }
        // A directory replaces none that has files: what has come to be there in this moment stays.
        let is_known = !replaces || self.replaces.as_ref().is_some_and(|seen| seen.is_at(&old));
        let renamed =
            if is_known { fs::rename(&self.partial, target) } else { Err(io::ErrorKind::AlreadyExists.into()) };
        if let Err(e) = renamed {
            if replaces {
                let _ = fs::rename(&old, target); // the error that counts is on its way
            }
            return Err(e).with_context(|| format!("cannot create {}", target.display())).with_context(|| self.stays());
        }
        self.named = Some(if replaces { Named::Instead } else { Named::New });
        Ok(())
    }

    /// What it replaces is called so as long as it is there.
    fn old(&self) -> PathBuf {
        self.target.with_file_name(affixed("", &self.target, OLD))
    }

    pub(super) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Have it lose its name again, and what was there before have it.
    pub(super) fn take_back(&mut self) {
        let is_ours = self.is_named() && self.seen.is_at(&self.target);
        if is_ours && fs::rename(&self.target, &self.partial).is_ok() {
            if self.named == Some(Named::Instead) {
                let _ = fs::rename(self.old(), &self.target); // or the next run does it
            }
            self.named = None;
        }
    }

    /// All that stays beside the place where it should be.
    pub(super) fn left(&self) -> Vec<PathBuf> {
        let partial = Some(self.partial.clone()).filter(|path| !self.is_named() && self.seen.is_at(path));
        let old = Some(self.old()).filter(|path| self.is_named() && path.exists());
        partial.into_iter().chain(old).collect()
    }

    /// Its name is on the disk, and so are all others': take away what a run that was killed before would have been gone on from, and what was there
    /// before. Who is killed now leaves it to the next run, and nobody reads it.
    pub(super) fn tidy(&self) {
        let target = self.target.display();
        if let Err(e) = remove_journal(&self.target) {
            events::warning(&format!("{target} is written, and its journal is not gone: {e:#}"));
        }
        if self.named == Some(Named::Instead)
            && let Err(e) = discard(&self.old(), &self.partial)
        {
            events::warning(&format!("{target} is written, and what was there before is not gone: {e:#}"));
        }
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.is_locked() {
            // Without locks another run may have begun. It needs both.
            self.lock.disable_cleanup(true);
        } else if !self.keep.get() {
            let _ = fs::remove_dir_all(&self.partial); // after a rename it is not there
        }
    }
}

fn is_empty(path: &Path) -> Result<bool> {
    // A link to a directory is not replaced: what it leads to would stay where nobody looks for it.
    let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let is_link = metadata.is_symlink() && path.is_dir();
    ensure!(!is_link, "{} is a link, which is not replaced; name the directory that it leads to", path.display());
    ensure!(metadata.is_dir(), "{} is not a directory, and the input is one", path.display());
    let mut entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    Ok(entries.next().is_none())
}

/// A file, with no permissions that it did not have.
fn permitted(file: io::Result<File>, of: Mode) -> io::Result<File> {
    let file = file?;
    rights::permit(&file, Mode::of(&file.metadata()?), of);
    Ok(file)
}

/// Whether another file system begins there.
fn is_mounted(path: &Path, parent: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
        device(path).is_some_and(|device_of| device(parent) != Some(device_of))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, parent);
        false
    }
}

/// Whether there was a journal to remove.
fn remove_journal(directory: &Path) -> Result<bool> {
    let journal = directory.join(JOURNAL);
    match fs::remove_file(&journal) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", journal.display())),
    }
}

/// Remove what a run left in a complete directory that was killed in its last moment. One that somebody has given this name before that has no
/// report.
fn clear(directory: &Path) -> Result<()> {
    if directory.join(REPORT).exists() && remove_journal(directory)? {
        let shown = directory.display();
        events::note(&format!(
            "{shown} was complete when the run that wrote it was ended; what that left in it is removed"
        ));
    }
    Ok(())
}

/// Remove a directory of ours, if it is there.
fn remove_directory(path: &Path) -> Result<()> {
    if !exists(path)? {
        return Ok(());
    }
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    ensure!(is_directory, "{} is in the way and is not a directory", path.display());
    fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Remove what was replaced. First it gets the name of what is nobody's, so that no half of it is ever taken for the whole.
fn discard(old: &Path, partial: &Path) -> Result<()> {
    if exists(old)? {
        fs::rename(old, partial).with_context(|| format!("cannot rename {}", old.display()))?;
    }
    remove_directory(partial)
}
