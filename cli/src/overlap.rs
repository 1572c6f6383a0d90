//! Reading ahead and writing behind: a thread each, so that a disk works while a backend does. Of every piece there are three
//! buffers: one that is read into, one that is worked on, one that is written from.

use crate::positioned::read_exact_at;
use crate::sink::Sink;
use std::fs::File;
use std::io;
use std::mem::take;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// A thread that does one thing to one buffer after the other, and hands each back with what came of it.
struct Worker<Q> {
    requests: SyncSender<(Q, Vec<u8>)>,
    answers: Receiver<(Vec<u8>, io::Result<()>)>,
}

impl<'scope, Q: Send + 'scope> Worker<Q> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        work: impl Fn(Q, &mut [u8]) -> io::Result<()> + Send + 'scope,
    ) -> Self {
        let (requests, asked) = sync_channel::<(Q, Vec<u8>)>(1);
        let (answer, answers) = sync_channel(1);
        scope.spawn(move || {
            // Until nobody asks or nobody listens.
            for (request, mut buffer) in asked {
                let done = work(request, &mut buffer);
                if answer.send((buffer, done)).is_err() {
                    break;
                }
            }
        });
        Self { requests, answers }
    }

    fn ask(&self, request: Q, buffer: Vec<u8>) -> io::Result<()> {
        self.requests.send((request, buffer)).map_err(|_| gone())
    }

    fn wait(&self) -> (Vec<u8>, io::Result<()>) {
        self.answers.recv().unwrap_or_else(|_| (Vec::new(), Err(gone())))
    }
}

/// Only a panic ends a worker before its owner.
fn gone() -> io::Error {
    io::Error::other("a thread that reads or writes has ended")
}

/// Reads what is asked for, and meanwhile what will be.
pub(crate) struct Reader<'f> {
    worker: Worker<(&'f File, u64)>,
    /// What the worker is reading, or has read.
    ahead: Option<(&'f File, u64, usize)>,
    spare: Vec<u8>,
}

impl<'f> Reader<'f> {
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self
    where
        'f: 'scope,
    {
        let worker = Worker::start(scope, |(file, offset), buffer: &mut [u8]| read_exact_at(file, buffer, offset));
        Self { worker, ahead: None, spare: Vec::new() }
    }

    /// Fill `buffer` with `len` bytes of a file.
    pub(crate) fn read(&mut self, file: &'f File, offset: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        if let Some((of, at, bytes)) = self.ahead.take() {
            let (read, done) = self.worker.wait();
            if std::ptr::eq(of, file) && (at, bytes) == (offset, len) {
                self.spare = std::mem::replace(buffer, read);
                return done;
            }
            self.spare = read; // guessed wrongly, whatever came of it
        }
        buffer.resize(len, 0);
        read_exact_at(file, buffer, offset)
    }

    /// These bytes will be asked for next.
    pub(crate) fn read_ahead(&mut self, file: &'f File, offset: u64, len: usize) -> io::Result<()> {
        if self.ahead.is_none() {
            self.spare.resize(len, 0);
            self.worker.ask((file, offset), take(&mut self.spare))?;
            self.ahead = Some((file, offset, len));
        }
        Ok(())
    }
}

/// Writes, or compares, what is handed to it, in that order. What went wrong is told with the next piece or at the end.
pub(crate) struct Writer<'f> {
    worker: Worker<(Sink<'f>, u64)>,
    is_busy: bool,
    spare: Vec<u8>,
}

impl<'f> Writer<'f> {
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> Self
    where
        'f: 'scope,
    {
        let worker = Worker::start(scope, |(sink, offset): (Sink<'f>, u64), bytes: &mut [u8]| sink.put(bytes, offset));
        Self { worker, is_busy: false, spare: Vec::new() }
    }

    /// Take the bytes, and leave another buffer in their place.
    pub(crate) fn put(&mut self, sink: Sink<'f>, offset: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.finish()?;
        let spare = take(&mut self.spare);
        self.worker.ask((sink, offset), std::mem::replace(bytes, spare))?;
        self.is_busy = true;
        Ok(())
    }

    /// Wait until all is written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if take(&mut self.is_busy) {
            let (buffer, done) = self.worker.wait();
            self.spare = buffer;
            done?;
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
        std::thread::scope(|scope| {
            let mut reader = Reader::start(scope);
            let mut buffer = Vec::new();
            for (at, guess) in [(0, (&one, 10, 10)), (10, (&one, 40, 10)), (20, (&other, 30, 10)), (30, (&one, 40, 9))]
            {
                reader.read(&one, at, 10, &mut buffer).unwrap();
                assert_eq!(buffer, bytes[at as usize..at as usize + 10]);
                reader.read_ahead(guess.0, guess.1, guess.2).unwrap();
            }
            reader.read(&one, 95, 5, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[95..]);
            // Past the end: an error when it is asked for, and none when it was only guessed.
            reader.read_ahead(&one, 95, 10).unwrap();
            reader.read(&one, 0, 1, &mut buffer).unwrap();
            reader.read_ahead(&one, 95, 10).unwrap();
            assert_eq!(reader.read(&one, 95, 10, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn what_is_written_is_there_at_the_end_and_an_error_is_told() {
        let to = file(&[]);
        std::thread::scope(|scope| {
            let mut writer = Writer::start(scope);
            let mut buffer = Vec::new();
            for at in 0..10u64 {
                buffer.resize(3, 0);
                buffer.fill(at as u8);
                writer.put(Sink::Write(&to), 3 * at, &mut buffer).unwrap();
            }
            writer.finish().unwrap();
            let mut written = [0; 30];
            read_exact_at(&to, &mut written, 0).unwrap();
            assert!(written.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / 3));
            writer.put(Sink::Compare(&to, 0), 0, &mut vec![0, 1]).unwrap();
            assert_eq!(writer.finish().unwrap_err().to_string(), "byte 1 differs");
            writer.finish().unwrap();
        });
    }
}
