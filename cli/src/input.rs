//! Files that are read: opened with suspicion, and watched for changes while they are.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// Open a file that is one: to open a pipe is to wait for its other end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).context("cannot open it")?;
    ensure!(metadata.is_file(), "not a regular file");
    File::open(path).context("cannot open it")
}

/// A text that is read whole, if it is no longer than this. It may come from another program, by `<(..)` or /dev/stdin.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    let mut text = String::new();
    let file = if path.starts_with("/dev") { File::open(path).context("cannot open it") } else { open_regular(path) };
    let read = file?.take(most + 1).read_to_string(&mut text).context("cannot read it")?;
    ensure!(read as u64 <= most, "it is longer than {most} bytes");
    Ok(text)
}

/// What a file was like when it was opened.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) len: u64,
    modified: Option<SystemTime>,
}

impl Seen {
    pub(crate) fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata().context("cannot look at it")?;
        Ok(Self { len: metadata.len(), modified: metadata.modified().ok() })
    }

    /// Nobody has written to it since: what was read at different times belongs together.
    pub(crate) fn check(&self, path: &Path, file: &File) -> Result<()> {
        let path = path.display();
        let now = Self::of(file).with_context(|| path.to_string())?;
        ensure!(
            now.len == self.len,
            "{path} changed while it was read: it had {} bytes, and has {} now",
            self.len,
            now.len
        );
        ensure!(now.modified == self.modified, "{path} changed while it was read");
        Ok(())
    }
}
