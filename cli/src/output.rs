//! Files that appear whole or not at all: a temporary sibling, flushed, and renamed when all of them are complete.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// A file that is being written under another name. Dropped before [`commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct NewFile {
    target: PathBuf,
    temporary: NamedTempFile,
}

/// Look at all the files that will be written, before any work: none is an input, none is another, and none exists unless
/// it may be replaced.
pub(crate) fn check(targets: &[&Path], inputs: &[&Path], overwrite: bool) -> Result<()> {
    for (i, target) in targets.iter().enumerate() {
        let place = place(target)?;
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
                ensure!(overwrite, "{} exists; --overwrite replaces it", target.display());
            }
        }
    }
    Ok(())
}

/// The directory of a target, and the target with that directory spelled in the one true way.
fn place(target: &Path) -> Result<(PathBuf, PathBuf)> {
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
        let (directory, target) = place(target)?;
        let mut builder = Builder::new();
        builder.prefix(".emprune-").suffix(".tmp");
        // As any new file: the umask decides. A temporary file would be its owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(&directory);
        let temporary = temporary.with_context(|| format!("cannot write to the directory {}", directory.display()))?;
        Ok(Self { target, temporary })
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    fn rename(self, overwrite: bool) -> Result<PathBuf> {
        let Self { target, temporary } = self;
        let renamed = if overwrite { temporary.persist(&target) } else { temporary.persist_noclobber(&target) };
        renamed.map_err(|e| e.error).with_context(|| format!("cannot create {}", target.display()))?;
        Ok(target)
    }
}

/// Give all the files their names, in order, when the bytes of every one are on the disk.
pub(crate) fn commit(files: Vec<NewFile>, overwrite: bool) -> Result<()> {
    for file in &files {
        file.file().sync_all().with_context(|| format!("cannot write {}", file.target.display()))?;
    }
    let mut renamed = Vec::new();
    for file in files {
        match file.rename(overwrite) {
            Ok(target) => renamed.push(target),
            Err(e) => {
                // What was there before is gone where it was replaced; where it was not, take back what is new.
                for target in renamed.iter().filter(|_| !overwrite) {
                    let _ = fs::remove_file(target); // the error that counts is on its way
                }
                return Err(e);
            }
        }
    }
    #[cfg(unix)]
    for directory in renamed.iter().filter_map(|target| target.parent()) {
        // So that the new names survive a power cut. Some file systems cannot do this; the files are complete anyway.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}
