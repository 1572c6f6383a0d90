//! Where bytes go: into a new file, or against those of a finished one. So what is verified is what would be written.

use crate::interrupt;
use crate::positioned::{read_exact_at, write_all_at};
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Bytes that are copied or compared at once.
const PIECE: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Sink<'a> {
    /// Write them, to what will have this name.
    Write(&'a File, &'a Path),
    /// Fail at the first that is not there already. The number is the file's, for [`Differs`].
    Compare(&'a File, &'a Path, usize),
}

/// A byte is not what it should be.
#[derive(Debug)]
pub(crate) struct Differs {
    /// The number that the sink has.
    pub(crate) file: usize,
    pub(crate) at: u64,
    /// The bits of this byte that are wrong.
    pub(crate) bits: u8,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} differs", self.at)
    }
}

impl Error for Differs {}

impl Differs {
    /// The difference that an error is about.
    pub(crate) fn of(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
    }

    /// The same of an error that nobody has put into words yet.
    fn of_io(error: &io::Error) -> Option<&Self> {
        let first: &(dyn Error + 'static) = error;
        let mut causes = std::iter::successors(Some(first), |&error| error.source());
        causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
    }
}

/// Of the differences in a file that is not compared from its start to its end, the first.
#[derive(Debug, Default)]
pub(crate) struct First(Option<io::Error>);

impl First {
    /// Keep a difference for later; any other error is told at once.
    pub(crate) fn put_off(&mut self, done: io::Result<()>) -> io::Result<()> {
        let place = |error| Differs::of_io(error).map(|differs| (differs.at, differs.bits.trailing_zeros()));
        match done {
            Err(error) if place(&error).is_none() => return Err(error),
            Err(error) if self.0.as_ref().and_then(place).is_none_or(|first| place(&error) < Some(first)) => {
                self.0 = Some(error);
            }
            _ => {}
        }
        Ok(())
    }

    /// When all is compared.
    pub(crate) fn tell(&mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), Err)
    }
}

/// An error of another file than the one that errors are told as.
#[derive(Debug)]
struct Of {
    file: String,
    error: io::Error,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)
    }
}

impl Error for Of {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Name the file that an error is of.
pub(crate) fn of(file: impl fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), Of { file: file.to_string(), error })
}

impl<'a> Sink<'a> {
    /// Have the disk begin with what was written there: who waits for all of it at the end waits less. No error of the disk is told, or used up,
    /// here.
    pub(crate) fn begin_flush(self, bytes: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let (Self::Write(file, _), len) = (self, std::num::NonZero::new(bytes.end - bytes.start)) {
            // What is not yet on the disk is sent there, and stays in memory.
            let _ = rustix::fs::fadvise(file, bytes.start, len, rustix::fs::Advice::DontNeed); // advice
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    /// The file that is written to.
    pub(crate) fn file(self) -> Option<&'a File> {
        match self {
            Sink::Write(file, _) => Some(file),
            Sink::Compare(..) => None,
        }
    }

    /// An error of the file, and not of what goes there.
    fn failed(self) -> impl FnOnce(io::Error) -> io::Error {
        let (what, path) = match self {
            Sink::Write(_, path) => ("write", path),
            Sink::Compare(_, path, _) => ("read", path),
        };
        of(format!("cannot {what} {}", path.display()))
    }

    /// What is done with another file's bytes, for who says that it cannot be done.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Sink::Write(..) => "copy",
            Sink::Compare(..) => "compare",
        }
    }

    /// The file has this many bytes.
    pub(crate) fn set_len(self, len: u64) -> io::Result<()> {
        match self {
            Sink::Write(file, _) => file.set_len(len).map_err(self.failed()),
            Sink::Compare(file, ..) => match file.metadata()?.len() {
                has if has == len => Ok(()),
                has => Err(io::Error::other(format!("it has {has} bytes, and should have {len}"))),
            },
        }
    }

    /// The file has these bytes there.
    pub(crate) fn put(self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (file, number) = match self {
            Sink::Write(file, _) => return write_all_at(file, bytes, offset).map_err(self.failed()),
            Sink::Compare(file, _, number) => (file, number),
        };
        let mut there = vec![0; bytes.len().min(PIECE)];
        for (i, wanted) in bytes.chunks(PIECE).enumerate() {
            let (there, start) = (&mut there[..wanted.len()], offset + (i * PIECE) as u64);
            read_exact_at(file, there, start).map_err(self.failed())?;
            if let Some(at) = (0..wanted.len()).find(|&at| there[at] != wanted[at]) {
                let differs = Differs { file: number, at: start + at as u64, bits: there[at] ^ wanted[at] };
                return Err(io::Error::other(differs));
            }
        }
        Ok(())
    }

    /// The byte that the file has there.
    pub(crate) fn byte(self, offset: u64) -> io::Result<u8> {
        let (Sink::Write(file, _) | Sink::Compare(file, ..)) = self;
        let mut byte = [0];
        read_exact_at(file, &mut byte, offset).map_err(self.failed())?;
        Ok(byte[0])
    }

    /// The file has the same bytes there as another.
    pub(crate) fn copy(self, from: &File, bytes: Range<u64>) -> io::Result<()> {
        self.copy_and(from, bytes, |_| ())
    }

    /// As `copy`, with a look at every byte.
    pub(crate) fn copy_and(self, from: &File, bytes: Range<u64>, mut look: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; PIECE.min((bytes.end - bytes.start) as usize)];
        let mut at = bytes.start;
        while at < bytes.end {
            interrupt::check()?;
            let len = (bytes.end - at).min(PIECE as u64);
            let piece = &mut buffer[..len as usize];
            read_exact_at(from, piece, at)?;
            look(piece);
            self.put(piece, at)?;
            at += len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_another_file_names_it_and_keeps_its_cause() {
        let differs = io::Error::other(Differs { file: 3, at: 7, bits: 1 });
        let error = anyhow::Error::new(of("the masks file")(differs)).context("tensor \"w\"");
        assert_eq!(format!("{error:#}"), "tensor \"w\": the masks file: byte 7 differs");
        assert_eq!(Differs::of(&error).map(|differs| differs.file), Some(3));
        let full = of("the masks file")(io::ErrorKind::StorageFull.into());
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
