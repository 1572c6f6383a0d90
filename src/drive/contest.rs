//! A contest on either backend: the same stages under the same names.

use super::Piece;
use crate::cpu;
use crate::decision::Group;
use crate::error::Error;
#[cfg(feature = "gpu")]
use crate::gpu;
use crate::key::Keys;
use std::marker::PhantomData;

/// The calls come in this order: `stats` on every piece, `narrow`; until narrowed: `histogram` on every piece, `narrow`; `apply` on
/// every piece; `settle`.
pub(super) enum Contest<'e> {
    Cpu(Box<cpu::Contest>, PhantomData<&'e ()>),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Contest<'e>>),
}

impl Contest<'_> {
    pub(super) fn stats(&mut self, _i: usize, keys: &Keys<'_>, piece: &Piece) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => contest.stats(keys).map_err(|bad| bad.error(piece.tensor, piece.range.start)),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.stats(_i, keys, piece.tensor, piece.range.start),
        }
    }

    pub(super) fn narrow(&mut self) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.narrow();
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.narrow(),
        }
    }

    pub(super) fn is_narrowed(&self) -> bool {
        match self {
            Contest::Cpu(contest, _) => contest.is_narrowed(),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.is_narrowed(),
        }
    }

    pub(super) fn histogram(&mut self, _i: usize, keys: &Keys<'_>) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.histogram(keys);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.histogram(_i, keys),
        }
    }

    /// Where nothing is to be carried out: whether the last pass can do without this piece of so many entries.
    pub(super) fn passes_by(&mut self, len: u64) -> bool {
        match self {
            Contest::Cpu(contest, _) => contest.passes_by(len),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.passes_by(),
        }
    }

    /// Whether it is worth beginning again after there was no memory.
    pub(super) fn gives_way(&mut self) -> bool {
        match self {
            Contest::Cpu(..) => false,
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.gives_way(),
        }
    }

    pub(super) fn apply(&mut self, _i: usize, piece: cpu::Piece<'_>) -> Result<(), Error> {
        match self {
            Contest::Cpu(contest, _) => {
                contest.apply(piece);
                Ok(())
            }
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.apply(_i, piece),
        }
    }

    pub(super) fn settle(self) -> Result<Group, Error> {
        match self {
            Contest::Cpu(contest, _) => Ok(contest.settle()),
            #[cfg(feature = "gpu")]
            Contest::Gpu(contest) => contest.settle(),
        }
    }
}
