//! Borrowed weights, and what must be known to judge them: dtype, row length, input norms, scores, segments.

use crate::dtype::{Dtype, Element};
use crate::error::Error;
use crate::key::{Keys, Norms, Scores};
use crate::rule::Score;

/// Weights to look at: little-endian bytes at any alignment, one dtype, rows of equal length.
///
/// Shape: `len` entries in `len / row_len` rows; a row is one index of the first axis.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    bytes: &'a [u8],
    shape: TensorSpec,
    beside: Beside<'a>,
}

/// What comes with the weights and is only looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    pub(crate) norms: Option<&'a [f32]>,
    pub(crate) scores: Option<Scores<'a>>,
    pub(crate) segments: Option<&'a [u64]>,
}

/// Weights to prune in place. As [`Tensor`], mutably.
#[derive(Debug)]
pub struct TensorMut<'a> {
    bytes: &'a mut [u8],
    shape: TensorSpec,
    beside: Beside<'a>,
}

/// What a tensor is without its bytes: `len` entries of `dtype` in rows of `row_len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// How an entry is stored.
    pub dtype: Dtype,
    /// Entries.
    pub len: u64,
    /// Entries of one row; divides `len`.
    pub row_len: u64,
    /// How the scores beside the weights are stored, one each, for [`Score::Given`].
    pub scores: Option<Dtype>,
}

impl TensorSpec {
    /// Check that rows of `row_len` fill `len` entries.
    ///
    /// # Errors
    /// `InvalidInput` when `row_len` is zero or does not divide `len`.
    pub fn new(dtype: Dtype, len: u64, row_len: u64) -> Result<Self, Error> {
        if row_len == 0 || !len.is_multiple_of(row_len) {
            return Err(Error::invalid(format!("row length {row_len} does not divide the length {len}")));
        }
        Ok(Self { dtype, len, row_len, scores: None })
    }

    fn of_bytes(bytes: usize, dtype: Dtype) -> Result<Self, Error> {
        if !bytes.is_multiple_of(dtype.size()) {
            return Err(Error::invalid(format!("{bytes} bytes are no whole number of {dtype} of {}", dtype.size())));
        }
        let len = (bytes / dtype.size()) as u64;
        Ok(Self { dtype, len, row_len: len, scores: None })
    }

    fn with_row_len(self, row_len: u64) -> Result<Self, Error> {
        Ok(Self { scores: self.scores, ..Self::new(self.dtype, self.len, row_len)? })
    }

    /// The same with scores beside the weights, for [`Score::Given`].
    #[must_use]
    pub fn with_scores(self, dtype: Dtype) -> Self {
        Self { scores: Some(dtype), ..self }
    }

    /// How the numbers are stored that the scores of a rule are made of.
    pub(crate) fn key_dtype(&self, score: Score) -> Dtype {
        self.scores.filter(|_| score == Score::Given).unwrap_or(self.dtype)
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.len.checked_div(self.row_len).unwrap_or(0)
    }
}

/// Norms must be finite and one per column; their sign is ignored.
pub(crate) fn check_norms(norms: &[f32], row_len: u64) -> Result<(), Error> {
    if norms.len() as u64 != row_len {
        return Err(Error::invalid(format!("{} norms for rows of length {row_len}", norms.len())));
    }
    match norms.iter().position(|n| !n.is_finite()) {
        Some(at) => Err(Error::invalid(format!("norm {at} is {}", norms[at]))),
        None => Ok(()),
    }
}

/// Segments must have entries, and fill the tensor.
pub(crate) fn check_segments(lens: &[u64], len: u64) -> Result<(), Error> {
    if let Some(at) = lens.iter().position(|&len| len == 0) {
        return Err(Error::invalid(format!("segment {at} has 0 entries")));
    }
    match lens.iter().try_fold(0u64, |sum, &len| sum.checked_add(len)) {
        Some(sum) if sum == len => Ok(()),
        sum => {
            let sum = sum.map_or("more than 2^64".to_owned(), |sum| sum.to_string());
            Err(Error::invalid(format!("segments of {sum} entries in a tensor of {len}")))
        }
    }
}

macro_rules! shared_methods {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// Rows of this length. By default a tensor is one row.
            ///
            /// # Errors
            /// `InvalidInput` when it does not divide the length.
            pub fn with_row_len(mut self, row_len: u64) -> Result<Self, Error> {
                self.shape = self.shape.with_row_len(row_len)?;
                Ok(self)
            }

            /// One input norm per column, for [`Score::Wanda`](crate::Score::Wanda). Set the row length first.
            ///
            /// # Errors
            /// `InvalidInput` when there are not `row_len` of them or one is not finite. The sign is ignored.
            pub fn with_norms(mut self, norms: &'a [f32]) -> Result<Self, Error> {
                check_norms(norms, self.shape.row_len)?;
                self.beside.norms = Some(norms);
                Ok(self)
            }

            /// One score per weight, for [`Score::Given`](crate::Score::Given): numbers of any dtype, of which the magnitude
            /// counts. Set the row length first, where the scores have one. Scores without any weights are a tensor like others, under
            /// [`Score::Magnitude`](crate::Score::Magnitude).
            ///
            /// # Errors
            /// `InvalidInput` when there are not as many as weights, when they come in rows of another length, or with something beside
            /// them.
            pub fn with_scores(mut self, scores: impl Into<Tensor<'a>>) -> Result<Self, Error> {
                let scores = scores.into();
                if scores.len() != self.len() {
                    return Err(Error::invalid(format!("{} scores for {} weights", scores.len(), self.len())));
                }
                let (theirs, ours) = (scores.row_len(), self.row_len());
                if theirs != scores.len() && theirs != ours {
                    return Err(Error::invalid(format!("scores in rows of {theirs} for weights in rows of {ours}")));
                }
                let Beside { norms, scores: more, segments } = scores.beside;
                for (there, what) in
                    [(norms.is_some(), "norms"), (more.is_some(), "scores"), (segments.is_some(), "segments")]
                {
                    if there {
                        return Err(Error::invalid(format!("scores of weights, with {what} of their own")));
                    }
                }
                self.shape.scores = Some(scores.dtype());
                self.beside.scores = Some(Scores { bytes: scores.bytes, dtype: scores.dtype() });
                Ok(self)
            }

            /// The lengths of neighbouring contests, for [`Granularity::Segments`](crate::Granularity::Segments).
            ///
            /// # Errors
            /// `InvalidInput` when one is zero, or when together they are not as long as the tensor.
            pub fn with_segments(mut self, lens: &'a [u64]) -> Result<Self, Error> {
                check_segments(lens, self.len())?;
                self.beside.segments = Some(lens);
                Ok(self)
            }

            /// Number of entries.
            pub fn len(&self) -> u64 {
                self.shape.len
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.shape.len == 0
            }

            /// Entries of one row.
            pub fn row_len(&self) -> u64 {
                self.shape.row_len
            }

            /// How an entry is stored.
            pub fn dtype(&self) -> Dtype {
                self.shape.dtype
            }

            pub(crate) fn spec(&self) -> TensorSpec {
                self.shape
            }

            pub(crate) fn beside(&self) -> Beside<'a> {
                self.beside
            }
        }
    };
}
shared_methods!(Tensor);
shared_methods!(TensorMut);

impl<'a> Tensor<'a> {
    /// Little-endian bytes at any alignment, as a file gives them.
    ///
    /// # Errors
    /// `InvalidInput` when they are no whole number of entries.
    pub fn from_bytes(bytes: &'a [u8], dtype: Dtype) -> Result<Self, Error> {
        let shape = TensorSpec::of_bytes(bytes.len(), dtype)?;
        Ok(Self { bytes, shape, beside: Beside::default() })
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What decides about the entries under a rule with this score; what comes with the tensor fits it.
    pub(crate) fn keys(&self, score: Score) -> Keys<'a> {
        match (score, self.beside) {
            (Score::Given, Beside { scores: Some(Scores { bytes, dtype }), .. }) => Keys::new(bytes, dtype, None),
            (_, Beside { norms, .. }) => {
                Keys::new(self.bytes, self.dtype(), norms.map(|values| Norms { values, column: 0 }))
            }
        }
    }
}

impl<'a> TensorMut<'a> {
    /// Little-endian bytes at any alignment, as a file gives them.
    ///
    /// # Errors
    /// `InvalidInput` when they are no whole number of entries.
    pub fn from_bytes(bytes: &'a mut [u8], dtype: Dtype) -> Result<Self, Error> {
        let shape = TensorSpec::of_bytes(bytes.len(), dtype)?;
        Ok(Self { bytes, shape, beside: Beside::default() })
    }

    /// The same weights, to look at.
    pub fn as_tensor(&self) -> Tensor<'_> {
        Tensor { bytes: self.bytes, shape: self.shape, beside: self.beside }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl<'a, T: Element> From<&'a [T]> for Tensor<'a> {
    fn from(values: &'a [T]) -> Self {
        let len = values.len() as u64;
        let shape = TensorSpec { dtype: T::DTYPE, len, row_len: len, scores: None };
        Self { bytes: bytemuck::cast_slice(values), shape, beside: Beside::default() }
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for Tensor<'a> {
    fn from(values: &'a Vec<T>) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T: Element, const N: usize> From<&'a [T; N]> for Tensor<'a> {
    fn from(values: &'a [T; N]) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T: Element> From<&'a mut [T]> for TensorMut<'a> {
    fn from(values: &'a mut [T]) -> Self {
        let len = values.len() as u64;
        let shape = TensorSpec { dtype: T::DTYPE, len, row_len: len, scores: None };
        Self { bytes: bytemuck::cast_slice_mut(values), shape, beside: Beside::default() }
    }
}

impl<'a, T: Element> From<&'a mut Vec<T>> for TensorMut<'a> {
    fn from(values: &'a mut Vec<T>) -> Self {
        values.as_mut_slice().into()
    }
}

impl<'a, T: Element, const N: usize> From<&'a mut [T; N]> for TensorMut<'a> {
    fn from(values: &'a mut [T; N]) -> Self {
        values.as_mut_slice().into()
    }
}
