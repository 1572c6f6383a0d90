//! Whose a file is, and who may read it: an output is for no other eyes than what it is made of.

use anyhow::{Result, ensure};
use std::fs::{self, File, Metadata, OpenOptions};
use std::path::Path;

/// Who may read, write and execute a file. Where there are no permissions, everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode(u32);

impl Mode {
    pub(super) const NOBODY: Self = Self(0);
    pub(super) const EVERYBODY: Self = Self(0o777);
    /// Of a file that is made of nothing private.
    pub(crate) const PUBLIC: Self = Self(0o666);

    pub(crate) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        #[cfg(not(unix))]
        let (Self(mode), _) = (Self::EVERYBODY, metadata);
        Self(mode)
    }

    /// Of what is made of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Of what is in such a directory, at most: who may not enter it reads nothing there.
    pub(crate) fn inside(self) -> Self {
        Self((self.0 & 0o111) * 7)
    }

    /// Of a directory for those who may read such a file.
    pub(crate) fn around(self) -> Self {
        Self(self.0 | (self.0 & 0o444) >> 2)
    }
}

/// Give a new file the permissions of what it is made of, as a copy has them: none that new files do not usually get, and the owner's own always.
pub(super) fn permit(file: &File, usual: Mode, of: Mode) {
    let executable = of.0 & 0o111 & (usual.0 >> 2);
    set(file, (usual.0 & of.0 & 0o666) | 0o600 | executable);
}

/// The same for a directory, by what new files usually get.
pub(super) fn permit_directory(path: &Path, usual: Mode, of: Mode) {
    // Some file systems know no permissions, and nothing is lost.
    let _ = File::open(path).map(|directory| set(&directory, (usual.around().0 & of.0) | 0o700));
}

fn set(file: &File, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Whose group what is made in a directory gets is the directory's business.
        let kept = file.metadata().map_or(0, |metadata| metadata.permissions().mode() & 0o7000);
        let _ = file.set_permissions(fs::Permissions::from_mode(kept | mode)); // as above
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
}

/// Make a directory that nobody else can enter.
pub(super) fn create_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(path);
    #[cfg(not(unix))]
    fs::create_dir(path)
}

/// What these create nobody else can open.
pub(super) fn make_private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

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
        use anyhow::Context as _;
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
