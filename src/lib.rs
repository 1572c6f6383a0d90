//! How many entries of a score vector matter, and which: exact effective-number pruning.
#![cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "tmp"))]

mod error;
mod exact;
mod dtype;
mod tensor;
mod rule;
mod key;
mod sums;
mod budget;
mod mask;
mod decision;
mod narrow;
#[cfg(feature = "gpu")]
mod plan;
mod source;
mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod pruner;

pub use decision::{Decision, Group};
pub use dtype::{Dtype, Element};
pub use error::{Error, ErrorKind};
pub use mask::Mask;
pub use pruner::{Backend, Pruner, mask, prune};
pub use rule::{Beta, Granularity, Rule, Score};
pub use source::{Source, Want};
pub use tensor::{Tensor, TensorMut, TensorSpec};
