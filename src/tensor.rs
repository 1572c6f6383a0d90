//! Borrowed weights, and what must be known to judge them: dtype, row length, input norms.

use crate::dtype::{Dtype, Element};
use crate::error::Error;

/// Weights to look at: little-endian bytes at any alignment, one dtype, rows of equal length.
///
/// Shape: `len` entries in `len / row_len` rows; a row is one index of the first axis.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    bytes: &'a [u8],
    shape: TensorSpec,
    norms: Option<&'a [f32]>,
}

/// Weights to prune in place. As [`Tensor`], mutably.
#[derive(Debug)]
pub struct TensorMut<'a> {
    bytes: &'a mut [u8],
    shape: TensorSpec,
    norms: Option<&'a [f32]>,
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
        Ok(Self { dtype, len, row_len })
    }

    fn of_bytes(bytes: usize, dtype: Dtype) -> Result<Self, Error> {
        if !bytes.is_multiple_of(dtype.size()) {
            return Err(Error::invalid(format!("{bytes} bytes are no whole number of {dtype} of {}", dtype.size())));
        }
        let len = (bytes / dtype.size()) as u64;
        Ok(Self { dtype, len, row_len: len })
    }

    fn with_row_len(self, row_len: u64) -> Result<Self, Error> {
        Self::new(self.dtype, self.len, row_len)
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
                self.norms = Some(norms);
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

            pub(crate) fn norms(&self) -> Option<&'a [f32]> {
                self.norms
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
        Ok(Self { bytes, shape, norms: None })
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> TensorMut<'a> {
    /// Little-endian bytes at any alignment, as a file gives them.
    ///
    /// # Errors
    /// `InvalidInput` when they are no whole number of entries.
    pub fn from_bytes(bytes: &'a mut [u8], dtype: Dtype) -> Result<Self, Error> {
        let shape = TensorSpec::of_bytes(bytes.len(), dtype)?;
        Ok(Self { bytes, shape, norms: None })
    }

    /// The same weights, to look at.
    pub fn as_tensor(&self) -> Tensor<'_> {
        Tensor { bytes: self.bytes, shape: self.shape, norms: self.norms }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl<'a, T: Element> From<&'a [T]> for Tensor<'a> {
    fn from(values: &'a [T]) -> Self {
        let len = values.len() as u64;
        let shape = TensorSpec { dtype: T::DTYPE, len, row_len: len };
        Self { bytes: bytemuck::cast_slice(values), shape, norms: None }
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for Tensor<'a> {
    fn from(values: &'a Vec<T>) -> Self {
        values.as_slice().into()
    }
}

impl<'a, T: Element> From<&'a mut [T]> for TensorMut<'a> {
    fn from(values: &'a mut [T]) -> Self {
        let len = values.len() as u64;
        let shape = TensorSpec { dtype: T::DTYPE, len, row_len: len };
        Self { bytes: bytemuck::cast_slice_mut(values), shape, norms: None }
    }
}

impl<'a, T: Element> From<&'a mut Vec<T>> for TensorMut<'a> {
    fn from(values: &'a mut Vec<T>) -> Self {
        values.as_mut_slice().into()
    }
}
