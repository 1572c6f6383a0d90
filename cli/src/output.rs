//! Files and directories that appear whole or not at all: a temporary sibling, flushed, and renamed when all are complete.
//!
//! The temporary names follow from the final ones, and a lock says whether somebody is at work. What is there without a
//! lock is what a killed run left; the next run to the same place takes it away and begins anew.
//!
//! A run may take days, and a place is anybody's meanwhile. So what is found at the start is looked for again before the rename: a directory
//! that is to be replaced is the one that was seen then, and what is renamed is what this run has written. A file that may be replaced
//! may be another one by then.

mod commit;
mod directory;
mod rights;

use crate::events;
use crate::unfinished::{Identity, Unfinished};
use anyhow::{Context, Result, bail, ensure};
use fs4::TryLockError;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use tempfile::{NamedTempFile, TempPath};

pub(crate) use commit::{Flushed, flush, take_back};
pub(crate) use directory::NewDirectory;
pub(crate) use rights::{Mode, open_left};

/// The end of every temporary name: `.NAME` and this for a file, `NAME` and this for a directory.
pub(crate) const PARTIAL: &str = ".emprune-partial";
/// The report in an output directory.
pub(crate) const REPORT: &str = "emprune_report.json";
/// The end of the name that a directory has between being replaced and being removed.
pub(crate) const OLD: &str = ".emprune-old";
/// The end of the name of a note beside the last of several outputs, while they get their names.
pub(crate) const NOTE: &str = ".emprune-note";
/// In a partial directory, which of its shards are finished. With the end of a partial name, so that no checkpoint has a file of this name to
/// be copied.
pub(crate) const JOURNAL: &str = ".journal.emprune-partial";
/// More lost races than this are something else.
const ATTEMPTS: usize = 100;

/// A file that is being written under another name. Dropped before [`Flushed::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct NewFile {
    target: PathBuf,
    /// Locked under whatever name it has.
    temporary: NamedTempFile,
    /// What new files get here.
    usual: Mode,
    named: Option<Named>,
}

/// How an output got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// Nothing was there.
    New,
    /// In the place of what was there.
    Instead,
}

/// Look at all the files that will be written, before any work: none is an input, none is another, none is in a directory
/// that will be replaced, and none exists unless it may be replaced or a killed run has left it. Files and directories come in the order of
/// [`Flushed::commit`].
pub(crate) fn check(targets: &[&Path], inputs: &[PathBuf], directories: &[&Path], overwrite: bool) -> Result<()> {
    let whole = |path: &Path| place(path).map(|(_, whole)| path.canonicalize().unwrap_or(whole));
    let places = directories.iter().map(|path| whole(path)).collect::<Result<Vec<_>>>()?;
    for (i, (path, here)) in directories.iter().zip(&places).enumerate() {
        for (other, there) in directories.iter().zip(&places).skip(i + 1) {
            let apart = !here.starts_with(there) && !there.starts_with(here);
            ensure!(apart, "{} and {} must not be one in the other", path.display(), other.display());
        }
    }
    spare(targets, inputs, directories)?;
    let outputs: Vec<&Path> = targets.iter().chain(directories).copied().collect();
    let unfinished = Unfinished::look(&outputs)?;
    for (i, target) in targets.iter().enumerate() {
        let place = place(target)?;
        let inside = places.iter().any(|directory| place.1.starts_with(directory));
        ensure!(!inside, "{} is in the output directory; write it somewhere else", target.display());
        if let Some(input) = inputs.iter().find(|input| is_same(target, input)) {
            bail!("{} is the same file as the input {}; write somewhere else", target.display(), input.display());
        }
        for other in &targets[..i] {
            let same = place == self::place(other)? || is_same(target, other);
            ensure!(!same, "{} is to be written twice", target.display());
        }
        // Of a link, this is the link: it is what the rename replaces, and what it points to stays as it is.
        match fs::symlink_metadata(target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot look at {}", target.display())),
            Ok(metadata) => {
                let replaceable = metadata.is_file() || metadata.is_symlink();
                ensure!(replaceable, "{} is not a regular file", target.display());
                // A name of the machine's own, such as /dev/stdout, is no file's.
                let leads_to = fs::metadata(target).map(|metadata| metadata.is_file());
                let is_named = fs::read_link(target).is_ok_and(|to| to.starts_with("/proc"));
                let to_file = leads_to.unwrap_or(true) && !is_named;
                ensure!(to_file, "{} is a link to what is not a regular file", target.display());
                let is_left = unfinished.as_ref().is_some_and(|unfinished| unfinished.has(&metadata));
                ensure!(overwrite || is_left, "{} exists; --overwrite replaces it", target.display());
            }
        }
    }
    Ok(())
}

/// No input may have a name that is written to or cleared on the way to an output, nor lie in a directory that will be replaced; and no output
/// such a name of another one.
fn spare(targets: &[&Path], inputs: &[PathBuf], directories: &[&Path]) -> Result<()> {
    let (mut taken, mut replaced) = (Vec::new(), Vec::new());
    for target in targets.iter().chain(directories) {
        let (directory, whole) = place(target)?;
        let unwritten = format!("{NOTE}{PARTIAL}");
        taken.extend([PARTIAL, NOTE, &unwritten].map(|end| directory.join(affixed(".", &whole, end))));
        if directories.contains(target) {
            taken.extend([PARTIAL, OLD].map(|end| directory.join(affixed("", &whole, end))));
            replaced.extend(whole.canonicalize().ok());
            replaced.push(whole);
        }
    }
    for target in targets.iter().chain(directories) {
        let (_, whole) = place(target)?;
        let is_taken = taken.iter().any(|taken| whole.starts_with(taken));
        ensure!(
            !is_taken,
            "{} is what an output is called while it is written; write somewhere else",
            target.display()
        );
    }
    taken.extend(replaced);
    for input in inputs {
        // By the name that was given, and by that of what it leads to.
        let names = [place(input).ok().map(|(_, whole)| whole), input.canonicalize().ok()];
        let is_in = |taken: &&PathBuf| names.iter().flatten().any(|name| name.starts_with(taken));
        if let Some(taken) = taken.iter().find(is_in) {
            let (input, taken) = (input.display(), taken.display());
            bail!("the input {input} is lost when {taken} is written; write somewhere else");
        }
    }
    Ok(())
}

/// An output directory must lie beside the input directory.
pub(crate) fn check_apart(target: &Path, input: &Path) -> Result<()> {
    let (_, place) = place(target)?;
    let real_input = input.canonicalize().with_context(|| format!("cannot look at {}", input.display()))?;
    // Where it exists, by whatever links.
    let real_target = target.canonicalize().unwrap_or_else(|_| place.clone());
    let (out, of) = (target.display(), input.display());
    // By another mount of it, too.
    let is_inside = |path: &Path, of: &Path| path.ancestors().skip(1).any(|above| is_same(above, of));
    ensure!(!is_same(target, input), "{out} is the input {of}; write somewhere else");
    ensure!(!is_inside(&place, input), "{out} is inside the input {of}; write somewhere else");
    ensure!(!is_inside(&real_input, target), "the input {of} is inside {out}; write somewhere else");
    for path in [&place, &real_target] {
        ensure!(*path != real_input, "{out} is the input {of}; write somewhere else");
        ensure!(!path.starts_with(&real_input), "{out} is inside the input {of}; write somewhere else");
        ensure!(!real_input.starts_with(path), "the input {of} is inside {out}; write somewhere else");
    }
    Ok(())
}

/// The directory of a target, and the target with that directory spelled in the one true way.
pub(crate) fn place(target: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = target.file_name().with_context(|| format!("{} is no name for a file", target.display()))?;
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let found =
        directory.canonicalize().with_context(|| format!("cannot write to the directory {}", directory.display()))?;
    ensure!(found.is_dir(), "{} is not a directory", directory.display());
    let whole = found.join(name);
    Ok((found, whole))
}

/// Whether two paths lead to one file, by whatever links.
fn is_same(a: &Path, b: &Path) -> bool {
    // Two names of one file in two directories. Elsewhere than on Unix this goes unnoticed, without harm: a rename replaces
    // one name and leaves the other.
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt;
        return a.dev() == b.dev() && a.ino() == b.ino();
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

impl NewFile {
    /// Start a file that will be called `target`.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        Self::claim(target, false)
    }

    /// As `create`, with the bytes that a killed run left of it.
    pub(crate) fn go_on(target: &Path) -> Result<Self> {
        Self::claim(target, true)
    }

    fn claim(target: &Path, goes_on: bool) -> Result<Self> {
        let (directory, target) = place(target)?;
        let (temporary, usual) = claim(&directory.join(affixed(".", &target, PARTIAL)), &target, goes_on)?;
        Ok(Self { target, temporary, usual, named: None })
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&self.file().metadata()?))
    }

    /// Whether to leave what is there, for another run to go on from.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.temporary.disable_cleanup(keep);
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// It is made of what has these permissions. Until this is said nobody else can open it.
    pub(crate) fn permit_as(&self, of: Mode) {
        rights::permit(self.file(), self.usual, of);
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where it is until then.
    pub(crate) fn partial(&self) -> &Path {
        self.temporary.path()
    }

    /// Whether the temporary name is still this file's.
    fn is_held(&self) -> bool {
        is_at(self.file(), self.temporary.path())
    }

    fn check(&self) -> Result<()> {
        ensure!(self.is_held(), taken_away(self.temporary.path(), &self.target));
        Ok(())
    }

    fn stays(&self) -> String {
        stays(self.temporary.path(), "", &self.target)
    }

    /// Give it its name, which may be another file's if it `replaces` that.
    fn rename(&mut self, replaces: bool) -> Result<()> {
        self.check()?;
        let (from, to) = (self.temporary.path(), &self.target);
        let named = if replaces && exists(to)? { Named::Instead } else { Named::New };
        let renamed = if named == Named::Instead { fs::rename(from, to) } else { rename_to_free(from, to) };
        renamed.with_context(|| format!("cannot create {}", to.display())).with_context(|| self.stays())?;
        self.named = Some(named);
        Ok(())
    }

    fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Have it lose its name again, if nothing else is lost by that. Its temporary name may be another run's by now, and is taken from none.
    fn take_back(&mut self) {
        let is_ours = self.named == Some(Named::New) && is_at(self.file(), &self.target);
        if is_ours && rename_to_free(&self.target, self.temporary.path()).is_ok() {
            self.named = None;
        }
    }

    /// Where it is, if it stays under its temporary name.
    fn left(&self) -> Option<PathBuf> {
        (!self.is_named() && self.is_held()).then(|| self.temporary.path().to_owned())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a rename the name is free again, and without locks it may be another run's: that one needs its file.
        if !self.is_held() {
            self.temporary.disable_cleanup(true);
        }
    }
}

/// Without locks a second run clears away what it takes for a killed one's.
fn taken_away(partial: &Path, target: &Path) -> String {
    format!("another run is writing {} now, and has taken {} away", target.display(), partial.display())
}

/// What is said of an output that is complete and cannot get its name.
fn stays(partial: &Path, then: &str, target: &Path) -> String {
    format!("{} is complete and stays there{then}, for it cannot become {}", partial.display(), target.display())
}

/// Rename a file to a name that is nobody's.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let Err(mut failed) = TempPath::try_from_path(from)?.persist_noclobber(to) else { return Ok(()) };
    failed.path.disable_cleanup(true);
    // Some file systems know neither a rename that replaces nothing nor a second name of a file. After all that work, a look and
    // then a rename is what can be done there.
    let cannot = [io::ErrorKind::Unsupported, io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput];
    let is_free = || fs::symlink_metadata(to).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    if cannot.contains(&failed.error.kind()) && is_free() { fs::rename(from, to) } else { Err(failed.error) }
}

/// The name of a path between two others.
pub(crate) fn affixed(before: &str, path: &Path, after: &str) -> OsString {
    [before.as_ref(), path.file_name().unwrap_or_default(), after.as_ref()].into_iter().collect::<OsString>()
}

/// The lock of an output, be it a file or a directory, while this is kept.
pub(crate) fn claim_of(target: &Path) -> Result<NamedTempFile> {
    let (directory, target) = place(target)?;
    claim(&directory.join(affixed(".", &target, PARTIAL)), &target, false).map(|(lock, _)| lock)
}

/// Create a temporary file on the way to `target`, which nobody else can open, and lock it. One that nobody has locked is in nobody's use: it is
/// taken over if that `goes_on`, and goes away otherwise. Returns what permissions new files get there, too.
fn claim(path: &Path, target: &Path, goes_on: bool) -> Result<(NamedTempFile, Mode)> {
    let cannot = || format!("cannot create {}", path.display());
    // That is seen at a first one, which goes away again: whoever opens a file before it is private reads all that is written later.
    let mut usual = if cfg!(unix) { None } else { Some(Mode::EVERYBODY) };
    for _ in 0..ATTEMPTS {
        let mut options = rights::options();
        if usual.is_some() {
            rights::make_private(&mut options);
        }
        let (file, is_new) = match options.write(true).create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Ok(metadata) if metadata.is_file() => match rights::options().write(true).open(path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    opened => (opened.with_context(cannot)?, false),
                },
                _ => bail!("{} is in the way and is not a regular file", path.display()),
            },
            Err(e) => return Err(e).with_context(cannot),
        };
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            // Some network file systems have no locks; there, two runs must not be sent to one place.
            Err(TryLockError::Error(e)) if has_no_locks(&e) => {
                static SAID: Once = Once::new();
                let place = path.parent().unwrap_or(path).display();
                SAID.call_once(|| {
                    events::note(&format!(
                        "{place} is on a file system without locks: let no two runs write to one output there"
                    ));
                });
            }
            Err(TryLockError::Error(e)) => {
                if is_new {
                    let _ = fs::remove_file(path); // the error that counts is on its way
                }
                return Err(e).with_context(|| format!("cannot lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if is_new => continue, // taken for a leftover in the blink before the lock
            Err(TryLockError::WouldBlock) => bail!("another run is writing {} now", target.display()),
        }
        // Between opening and locking, others may have removed or renamed it.
        if !is_at(&file, path) {
            continue;
        }
        let found = file.metadata().with_context(cannot)?;
        let taken = match usual {
            Some(usual) if is_new => Some(usual),
            _ if is_new => {
                usual = Some(Mode::of(&found));
                None
            }
            _ if goes_on => {
                rights::check_owner(path, &found)?;
                Some(Mode::of(&found))
            }
            _ => None,
        };
        if let Some(usual) = taken {
            let path = TempPath::try_from_path(path).with_context(cannot)?;
            return Ok((NamedTempFile::from_parts(file, path), usual));
        }
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    bail!("another run is writing {} now", target.display())
}

fn has_no_locks(error: &io::Error) -> bool {
    // ENOLCK: a mount without its lock manager.
    const NO_LOCKS: i32 = if cfg!(target_os = "linux") { 37 } else { 77 };
    error.kind() == io::ErrorKind::Unsupported || cfg!(unix) && error.raw_os_error() == Some(NO_LOCKS)
}

/// Whether this open file is the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (file.metadata(), fs::symlink_metadata(path)) {
            (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file; // a file that is open keeps its name here
        path.exists()
    }
}

/// Whether there is anything of this name, be it a link to nowhere.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// So that new names survive a power cut. Some file systems cannot do this, and some directories may be written to and not opened; the files are
/// complete anyway.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let cannot = || format!("cannot put the names in {} on the disk", path.display());
        let directory = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            opened => opened.with_context(cannot)?,
        };
        match directory.sync_all() {
            Err(e) if [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported].contains(&e.kind()) => Ok(()),
            synced => synced.with_context(cannot),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}
