//! Reading ahead and writing behind: a thread each, so that a disk works while a backend does.

use crate::lines::Lines;
use crate::positioned::read_exact_at;
use crate::safetensors::TensorInfo;
use crate::sink::{First, Sink};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// More requests than this are not on their way at once, however small they are.
pub(crate) const MOST_REQUESTS: usize = 64;

/// Some bytes. They are used again: of a new buffer every page costs a fault, and of one that grows every byte a fill.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    all: Vec<u8>,
    len: usize,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.all[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.all[..self.len]
    }
}

/// Buffers that nobody uses now, the one that was given back last at the end.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    idle: Arc<Mutex<Vec<Buffer>>>,
    /// As many bytes as they may have together.
    most: usize,
}

impl Buffers {
    pub(crate) fn new(most: usize) -> Self {
        Self { idle: Arc::default(), most }
    }

    fn take(&self, len: usize) -> Buffer {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // None that is much too large: a small piece that waits would hold all of it.
        let fits = |buffer: &Buffer| (len..=2 * len.max(SMALL)).contains(&buffer.all.len());
        let mut buffer = match idle.iter().rposition(fits) {
            Some(at) => idle.remove(at),
            None => Buffer { all: vec![0; len], len },
        };
        buffer.len = len;
        buffer
    }

    /// One that was never taken from here is worth nothing.
    pub(crate) fn give(&self, buffer: Buffer) {
        if buffer.all.is_empty() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(buffer);
        while idle.iter().map(|buffer| buffer.all.len()).sum::<usize>() > self.most {
            idle.remove(0);
        }
    }
}

/// Buffers up to this size are all alike.
const SMALL: usize = 1 << 14;

/// Only a panic ends a worker before its owner.
fn gone() -> io::Error {
    io::Error::other("a thread that reads or writes has ended")
}

/// Some bytes of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'f> {
    pub(crate) file: &'f File,
    pub(crate) bytes: Lines,
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.file, other.file) && self.bytes == other.bytes
    }
}

impl Place<'_> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len as usize
    }

    /// Fill a buffer of that length.
    pub(crate) fn read(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        for run in self.bytes.runs() {
            let (line, rest) = buffer.split_at_mut((run.end - run.start) as usize);
            read_exact_at(self.file, line, run.start)?;
            buffer = rest;
        }
        Ok(())
    }
}

/// Reads what is asked for, and meanwhile what will be.
pub(crate) struct Reader<'f> {
    buffers: Buffers,
    requests: Sender<(Place<'f>, Buffer)>,
    answers: Receiver<(Buffer, io::Result<()>)>,
    /// What the worker is reading or has read, in this order.
    ahead: VecDeque<Place<'f>>,
    /// As many bytes as that may be, if it is more than one piece.
    most: usize,
}

impl<'f> Reader<'f> {
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, buffers: Buffers, most: usize) -> Self
    where
        'f: 'scope,
    {
        let (requests, asked) = channel::<(Place<'f>, Buffer)>();
        let (answer, answers) = channel();
        scope.spawn(move || {
            // Until nobody asks or nobody listens.
            for (place, mut buffer) in asked {
                let done = place.read(&mut buffer);
                if answer.send((buffer, done)).is_err() {
                    break;
                }
            }
        });
        Self { buffers, requests, answers, ahead: VecDeque::new(), most }
    }

    pub(crate) fn read(&mut self, place: Place<'f>) -> io::Result<Buffer> {
        while let Some(next) = self.ahead.pop_front() {
            let (buffer, done) = self.answers.recv().map_err(|_| gone())?;
            if next == place {
                return done.map(|()| buffer);
            }
            self.buffers.give(buffer); // guessed wrongly, whatever came of it
        }
        let mut buffer = self.buffers.take(place.len());
        place.read(&mut buffer)?;
        Ok(buffer)
    }

    /// These will be asked for next, in this order.
    pub(crate) fn read_ahead(&mut self, places: impl IntoIterator<Item = Place<'f>>) -> io::Result<()> {
        let mut bytes = 0;
        for (i, place) in places.into_iter().take(MOST_REQUESTS).enumerate() {
            bytes += place.len();
            match self.ahead.get(i) {
                Some(asked) if *asked == place => {}
                None if i == 0 || bytes <= self.most => {
                    let buffer = self.buffers.take(place.len());
                    self.requests.send((place, buffer)).map_err(|_| gone())?;
                    self.ahead.push_back(place);
                }
                _ => break,
            }
        }
        Ok(())
    }
}

/// Bytes of a tensor could not be written, or differ: this is told later than the tensor is handed over.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) tensor: TensorInfo,
    error: io::Error,
}

impl Unwritten {
    /// What an error is about, or its cause.
    pub(crate) fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Self> {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        causes.find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("in the output")
    }
}

impl std::error::Error for Unwritten {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What is to be written.
pub(crate) struct Piece<'f> {
    pub(crate) sink: Sink<'f>,
    /// Where.
    pub(crate) bytes: Lines,
    pub(crate) tensor: &'f TensorInfo,
    /// Whether pieces that come later lie before it.
    pub(crate) is_early: bool,
}

impl Piece<'_> {
    fn put(&self, mut bytes: &[u8]) -> io::Result<()> {
        for run in self.bytes.runs() {
            let (line, rest) = bytes.split_at((run.end - run.start) as usize);
            self.sink.put(line, run.start)?;
            if line.len() >= FLUSHED {
                self.sink.begin_flush(run);
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// Bytes from which on it is worth a call to have the disk begin with them.
const FLUSHED: usize = 1 << 20;

/// Writes, or compares, what is handed to it, in that order. What went wrong is told with a later piece or at the end.
pub(crate) struct Writer<'f> {
    requests: Sender<(Piece<'f>, Buffer)>,
    /// Bytes that are done with, whether they were early, and how that went.
    answers: Receiver<(usize, bool, io::Result<()>)>,
    /// Pieces and bytes on their way.
    behind: (usize, usize),
    /// Of differences in early pieces.
    first: First,
    /// As many bytes as that may be, if it is more than one piece.
    most: usize,
}

impl<'f> Writer<'f> {
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, buffers: Buffers, most: usize) -> Self
    where
        'f: 'scope,
    {
        let (requests, asked) = channel::<(Piece<'f>, Buffer)>();
        let (answer, answers) = channel();
        scope.spawn(move || {
            for (piece, bytes) in asked {
                let unwritten = |error| io::Error::other(Unwritten { tensor: piece.tensor.clone(), error });
                let (done, len) = (piece.put(&bytes).map_err(unwritten), bytes.len());
                buffers.give(bytes);
                let ends = done.is_err() && !piece.is_early;
                if answer.send((len, piece.is_early, done)).is_err() || ends {
                    break;
                }
            }
        });
        Self { requests, answers, behind: (0, 0), first: First::default(), most }
    }

    pub(crate) fn put(&mut self, piece: Piece<'f>, bytes: Buffer) -> io::Result<()> {
        while self.behind.0 >= MOST_REQUESTS || self.behind.0 > 0 && self.behind.1 + bytes.len() > self.most {
            self.wait()?;
        }
        let len = bytes.len();
        if self.requests.send((piece, bytes)).is_err() {
            self.finish()?; // says why
            return Err(gone());
        }
        self.behind = (self.behind.0 + 1, self.behind.1 + len);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let (len, is_early, done) = self.answers.recv().map_err(|_| gone())?;
        self.behind = (self.behind.0 - 1, self.behind.1 - len);
        if is_early { self.first.put_off(done) } else { done }
    }

    /// Wait until all is written. Nothing that comes later lies before it.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while self.behind.0 > 0 {
            self.wait()?;
        }
        self.first.tell()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positioned::write_all_at;
    use std::path::Path;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_is_read_is_what_is_asked_for_however_wrong_the_guess() {
        let bytes: Vec<u8> = (0..100).collect();
        let (one, other) = (file(&bytes), file(&[7; 100]));
        let place = |file, offset, len| Place { file, bytes: Lines::run(offset..offset + len) };
        std::thread::scope(|scope| {
            let mut reader = Reader::start(scope, Buffers::new(100), 25);
            for (at, guesses) in [
                (0, vec![(&one, 10, 10), (&one, 20, 10)]),
                (10, vec![(&one, 20, 10), (&one, 40, 10), (&one, 50, 10)]),
                (20, vec![(&other, 30, 10)]),
                (30, vec![(&other, 30, 10), (&one, 40, 9)]),
                (40, vec![]),
            ] {
                assert_eq!(reader.read(place(&one, at, 10)).unwrap()[..], bytes[at as usize..at as usize + 10]);
                reader.read_ahead(guesses.into_iter().map(|(file, at, len)| place(file, at, len))).unwrap();
                assert!(reader.ahead.iter().map(Place::len).sum::<usize>() <= 25);
            }
            assert_eq!(reader.read(place(&one, 95, 5)).unwrap()[..], bytes[95..]);
            // Past the end: an error when it is asked for, and none when it was only guessed.
            reader.read_ahead([place(&one, 95, 10)]).unwrap();
            reader.read(place(&one, 0, 1)).unwrap();
            reader.read_ahead([place(&one, 95, 10)]).unwrap();
            assert_eq!(reader.read(place(&one, 95, 10)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn a_small_piece_takes_no_large_buffer_and_idle_ones_are_few() {
        let buffers = Buffers::new(1 << 20);
        for round in 0..100 {
            let (small, large) = (buffers.take(100_000 + round), buffers.take(700_000 - round));
            assert_eq!((small.len(), large.len()), (100_000 + round, 700_000 - round));
            assert!(small.all.len() < 300_000, "{}", small.all.len());
            buffers.give(large);
            buffers.give(small);
            let idle: usize = buffers.idle.lock().unwrap().iter().map(|buffer| buffer.all.len()).sum();
            assert!(idle <= 1 << 20, "{idle}");
        }
        let again = buffers.take(650_000);
        assert!(again.all.len() > 650_000, "used again");
    }

    #[test]
    fn what_is_written_is_there_at_the_end_and_an_error_names_its_tensor() {
        let to = file(&[]);
        let info = |name: &str| TensorInfo {
            name: name.into(),
            dtype: "U8".into(),
            shape: vec![],
            len: 0,
            bytes: 0..0,
            shard: 0,
        };
        let (a, b) = (info("a"), info("b"));
        std::thread::scope(|scope| {
            let buffers = Buffers::new(1 << 20);
            let buffer = |bytes: &[u8]| {
                let mut buffer = buffers.take(bytes.len());
                buffer.copy_from_slice(bytes);
                buffer
            };
            let piece =
                |sink, at, len, tensor, is_early| Piece { sink, bytes: Lines::run(at..at + len), tensor, is_early };
            let mut writer = Writer::start(scope, buffers.clone(), 6);
            for at in 0..10u8 {
                let there = piece(Sink::Write(&to, Path::new("to")), 3 * u64::from(at), 3, &a, false);
                writer.put(there, buffer(&[at; 3])).unwrap();
            }
            writer.finish().unwrap();
            let mut written = [0; 30];
            read_exact_at(&to, &mut written, 0).unwrap();
            assert!(written.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / 3));
            // Of early pieces the first difference in the file is told, and at the end.
            for (at, bytes) in [(24, [8, 8]), (27, [9, 8]), (15, [5, 6]), (18, [7, 6])] {
                writer.put(piece(Sink::Compare(&to, Path::new("to"), 0), at, 2, &b, true), buffer(&bytes)).unwrap();
            }
            let error = anyhow::Error::new(writer.finish().unwrap_err());
            assert_eq!(format!("{error:#}"), "in the output: byte 16 differs");
            writer.finish().unwrap();
            writer.put(piece(Sink::Compare(&to, Path::new("to"), 0), 0, 2, &a, false), buffer(&[0, 1])).unwrap();
            // The other thread may have met the difference already: then this piece tells it, else the end does.
            let later = writer.put(piece(Sink::Compare(&to, Path::new("to"), 0), 0, 2, &b, false), buffer(&[0, 0]));
            let error = anyhow::Error::new(later.and_then(|()| writer.finish()).unwrap_err());
            assert_eq!(format!("{error:#}"), "in the output: byte 1 differs");
            assert_eq!(Unwritten::of(error.as_ref()).unwrap().tensor.name, "a");
            assert!(crate::sink::Differs::of(&error).is_some());
        });
    }
}
