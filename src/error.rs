//! The one error type. Small, opaque, and it names the argument and both numbers.

use std::fmt;
use std::io;

/// What kind of thing went wrong, to branch on. The text is in the error's `Display`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument that cannot be meant: a length, a row length, beta, norms that do not fit.
    InvalidInput,
    /// A score that is NaN or infinite; [`Error::tensor`] and [`Error::index`] say where the first one is.
    NonFinite,
    /// A [`Source`](crate::Source) failed; [`std::error::Error::source`] is its `io::Error`.
    Io,
    /// The callback of [`Pruner::watched`](crate::Pruner::watched) ended the call.
    Cancelled,
    /// No adapter fits what was asked for.
    NoAdapter,
    /// A limit of the device is too small for the request; or it does not open. Or a source's tensor has more pieces than can be listed.
    Limit,
    /// The device has no memory left, or the host none for so many structures.
    OutOfMemory,
    /// The device is gone.
    DeviceLost,
    /// The driver did something that it must not do, or this crate did.
    Internal,
}

/// Why a call failed. Nothing has been pruned when a call that takes whole tensors returns one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    tensor: Option<usize>,
    index: Option<u64>,
    source: Option<io::Error>,
}

/// The three ways in which a score can fail to be a finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonFinite {
    Nan,
    Infinity,
    /// Finite weight, finite norm, and a product that rounds past the largest `f32`.
    Product,
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NonFinite::Nan => "NaN",
            NonFinite::Infinity => "infinity",
            NonFinite::Product => "a product of weight and norm that overflows f32",
        })
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), tensor: None, index: None, source: None }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn non_finite(tensor: usize, index: u64, what: NonFinite) -> Self {
        let mut error = Self::new(ErrorKind::NonFinite, format!("entry {index} is {what}"));
        error.0.tensor = Some(tensor);
        error.0.index = Some(index);
        error
    }

    /// About the score of a structure, and not about an entry.
    pub(crate) fn of_score(structure: usize, message: String) -> Self {
        let mut error = Self::new(ErrorKind::NonFinite, message);
        error.0.index = Some(structure as u64);
        error
    }

    /// The source of a tensor failed to `do_what`.
    pub(crate) fn io(tensor: usize, do_what: &str, source: io::Error) -> Self {
        let mut error = Self::new(ErrorKind::Io, format!("the source of the weights failed to {do_what}"));
        error.0.tensor = Some(tensor);
        error.0.source = Some(source);
        error
    }

    pub(crate) fn of_tensor(mut self, tensor: usize) -> Self {
        self.0.tensor = Some(tensor);
        self
    }

    /// The kind, to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Position, among the tensors given to the call, of the one at fault.
    pub fn tensor(&self) -> Option<usize> {
        self.0.tensor
    }

    /// Flat index of the first bad entry in that tensor, for [`ErrorKind::NonFinite`]; or the number of the structure whose score is bad.
    pub fn index(&self) -> Option<u64> {
        self.0.index
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("tensor", &self.0.tensor)
            .field("index", &self.0.index)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
