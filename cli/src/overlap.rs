//! Reading ahead and writing behind: a thread each, so that a disk works while a backend does.

use crate::positioned::read_exact_at;
use crate::safetensors::TensorInfo;
use crate::sink::Sink;
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
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.file, other.file) && (self.offset, self.len) == (other.offset, other.len)
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
            for (Place { file, offset, .. }, mut buffer) in asked {
                let done = read_exact_at(file, &mut buffer, offset);
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
        let mut buffer = self.buffers.take(place.len);
        read_exact_at(place.file, &mut buffer, place.offset)?;
        Ok(buffer)
    }

    /// These will be asked for next, in this order.
    pub(crate) fn read_ahead(&mut self, places: impl IntoIterator<Item = Place<'f>>) -> io::Result<()> {
        let mut bytes = 0;
        for (i, place) in places.into_iter().take(MOST_REQUESTS).enumerate() {
            bytes += place.len;
            match self.ahead.get(i) {
                Some(asked) if *asked == place => {}
                None if i == 0 || bytes <= self.most => {
                    let buffer = self.buffers.take(place.len);
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
        f.write_str("it cannot be written")
    }
}

impl std::error::Error for Unwritten {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What is to be written: where, and of which tensor.
type Piece<'f> = (Sink<'f>, u64, &'f TensorInfo);

/// Writes, or compares, what is handed to it, in that order. What went wrong is told with a later piece or at the end.
pub(crate) struct Writer<'f> {
    requests: Sender<(Piece<'f>, Buffer)>,
    answers: Receiver<(usize, io::Result<()>)>,
    /// Pieces and bytes on their way.
    behind: (usize, usize),
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
            for ((sink, offset, tensor), bytes) in asked {
                let done = sink.put(&bytes, offset);
                let done = done.map_err(|error| io::Error::other(Unwritten { tensor: tensor.clone(), error }));
                let (len, failed) = (bytes.len(), done.is_err());
                buffers.give(bytes);
                if answer.send((len, done)).is_err() || failed {
                    break;
                }
            }
        });
        Self { requests, answers, behind: (0, 0), most }
    }

    pub(crate) fn put(&mut self, sink: Sink<'f>, offset: u64, tensor: &'f TensorInfo, bytes: Buffer) -> io::Result<()> {
        while self.behind.0 >= MOST_REQUESTS || self.behind.0 > 0 && self.behind.1 + bytes.len() > self.most {
            self.wait()?;
        }
        let len = bytes.len();
        if self.requests.send(((sink, offset, tensor), bytes)).is_err() {
            self.finish()?; // says why
            return Err(gone());
        }
        self.behind = (self.behind.0 + 1, self.behind.1 + len);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let (len, done) = self.answers.recv().map_err(|_| gone())?;
        self.behind = (self.behind.0 - 1, self.behind.1 - len);
        done
    }

    /// Wait until all is written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        while self.behind.0 > 0 {
            self.wait()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positioned::write_all_at;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_is_read_is_what_is_asked_for_however_wrong_the_guess() {
        let bytes: Vec<u8> = (0..100).collect();
        let (one, other) = (file(&bytes), file(&[7; 100]));
        let place = |file, offset, len| Place { file, offset, len };
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
                assert!(reader.ahead.iter().map(|place| place.len).sum::<usize>() <= 25);
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
            let mut writer = Writer::start(scope, buffers.clone(), 6);
            for at in 0..10u8 {
                writer.put(Sink::Write(&to), 3 * u64::from(at), &a, buffer(&[at; 3])).unwrap();
            }
            writer.finish().unwrap();
            let mut written = [0; 30];
            read_exact_at(&to, &mut written, 0).unwrap();
            assert!(written.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / 3));
            writer.put(Sink::Compare(&to, 0), 0, &a, buffer(&[0, 1])).unwrap();
            // The other thread may have met the difference already: then this piece tells it, else the end does.
            let later = writer.put(Sink::Compare(&to, 0), 0, &b, buffer(&[0, 0]));
            let error = anyhow::Error::new(later.and_then(|()| writer.finish()).unwrap_err());
            assert_eq!(format!("{error:#}"), "it cannot be written: byte 1 differs");
            assert_eq!(Unwritten::of(error.as_ref()).unwrap().tensor.name, "a");
            assert!(crate::sink::Differs::of(&error).is_some());
        });
    }
}
