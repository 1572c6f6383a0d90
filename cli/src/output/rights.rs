//! Whose a file is.

use anyhow::{Context, Result, ensure};
use std::fs::{File, Metadata, OpenOptions};
use std::path::Path;

/// To open what has a temporary name: never what a link leads to that somebody has laid out under it.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options
}

/// What is found under a temporary name is trusted if it is this user's: whoever else made it may have put anything there, and may go on doing so.
pub(super) fn check_owner(path: &Path, found: &Metadata) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let shown = path.display();
        // As this file system has it: on some, everything is one user's.
        let ours = tempfile::tempfile_in(path.parent().unwrap_or(Path::new("."))).and_then(|file| file.metadata());
        let (owner, we) = (found.uid(), ours.with_context(|| format!("cannot see whose {shown} is"))?.uid());
        ensure!(owner == we, "{shown} is user {owner}'s, and this run is user {we}'s: have it removed first");
    }
    #[cfg(not(unix))]
    let _ = (path, found);
    Ok(())
}

/// Open a regular file that a run of this user left.
pub(crate) fn open_left(path: &Path) -> Result<File> {
    ensure!(path.symlink_metadata()?.is_file(), "not a regular file");
    let file = options().open(path)?;
    check_owner(path, &file.metadata()?)?;
    Ok(file)
}
