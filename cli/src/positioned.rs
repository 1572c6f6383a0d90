//! Reading and writing at a position. Nothing here moves a cursor, and nothing maps a file into memory: a mapped file that
//! another program shortens would kill this one.

use std::fs::File;
use std::io;

/// Fill `bytes` from the file at `offset`.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Bytes of one write. Linux caches what one call writes in blocks as large as the call; from 4 MiB on, finding them took nine times as
/// long as the copy on the virtual machine where this was measured.
#[cfg(unix)]
const ONE_WRITE: usize = 1 << 20;

/// Write all of `bytes` to the file at `offset`.
#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    bytes
        .chunks(ONE_WRITE)
        .zip((offset..).step_by(ONE_WRITE))
        .try_for_each(|(bytes, offset)| std::os::unix::fs::FileExt::write_all_at(file, bytes, offset))
}

/// Fill `bytes` from the file at `offset`.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Write all of `bytes` to the file at `offset`.
#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
