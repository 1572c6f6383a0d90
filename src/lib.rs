//! How many entries of a score vector matter, and which ones: effective-number pruning, computed exactly, with one answer on the
//! CPU and on every GPU.
//!
//! For scores `s_1 .. s_N` of a contest, each entry weighs `w_i = |s_i| / sum |s|`, and `N_eff = 1 / sum w_i^2` (the inverse Simpson
//! index) says how many entries carry the mass: `N` when all are equal, 1 when one towers above the rest. The rule of
//! *Effective Model Pruning* (arXiv 2509.25606) keeps the `floor(beta * N_eff)` highest scores and zeroes the others; no ratio is
//! chosen by hand. The share of `sum |s|` that is kept, and the least that it could have been, come with the answer.
//!
//! ```
//! use emprune::{Rule, prune};
//!
//! let mut weights = vec![3.0f32, -0.1, 2.0, 0.05, -2.5, 0.0];
//! let decision = prune(&mut weights, &Rule::new())?;
//! let contest = &decision.groups()[0];
//!
//! assert_eq!(weights, [3.0, 0.0, 2.0, 0.0, -2.5, 0.0]);
//! assert_eq!(contest.kept, 3); // N_eff = 7.65^2 / 19.2625 = 3.04
//! assert!(contest.mass > 0.98 && contest.mass >= contest.mass_bound);
//! # Ok::<(), emprune::Error>(())
//! ```
//!
//! # Three floors
//!
//! 1. [`prune`] and [`mask`]: one call, on the best backend that there is.
//! 2. [`Pruner`]: choose the backend and keep it; rows, several tensors together, and [weights that do not fit memory](Source).
//! 3. [`gpu::Kernels`]: inside a wgpu program of yours, on your device, in your buffers and your command encoder.
//!
//! # One exact answer
//!
//! Every score is an integer times a power of two, so `N_eff` is a ratio of two integers, and `floor(beta * N_eff)` is computed as such.
//! Scores are compared as integers too, and among equal scores the lower index wins. Where a float guesses a quotient, integers prove it or put
//! it right; no rounding takes part in a decision, here or in a shader. So counts, thresholds and masks are those of exact arithmetic, whatever the
//! device, the number of threads or the way in which the weights are cut. The numbers that only measure (`n_eff`, `mass`) are
//! rounded once from exact values; the certificate `mass_bound` is rounded down.
//!
//! # Which contest
//!
//! [`Granularity`] says who competes: every row, column, head or block by itself, a tensor, or several tensors together. [`Score`]
//! says with what: magnitude, magnitude times an input norm (Wanda), or numbers of yours. [`Budget`] says how many are kept: by
//! the rule, or for comparison a count or a sparsity, decided in the same exact way. [`Structure`] makes the entries of a contest out of
//! whole rows, columns, heads or groups of them.
//!
//! # Features
//!
//! * `gpu` (default): the wgpu backend. Without it the crate is plain Rust.
//! * `parallel` (default): the CPU backend on all cores, by rayon. The answer is the same without.

#[cfg(target_endian = "big")]
compile_error!("weights, scores and masks are little-endian, and keys are made of them as they lie in memory");

// In the order of import: a module uses only what stands above it. tests/imports.rs keeps this true.
mod error;
mod exact;
mod rule;
mod dtype;
mod key;
mod tensor;
mod sums;
mod budget;
mod mask;
mod decision;
mod narrow;
mod grid;
mod structure;
mod source;
mod watch;
#[cfg(feature = "gpu")]
mod plan;
mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod drive;
mod pruner;

pub use decision::{Decision, Group};
pub use dtype::{Dtype, Element};
pub use error::{Error, ErrorKind};
pub use mask::Mask;
pub use pruner::{Backend, Pruner, Watched, mask, prune};
pub use rule::{Beta, Budget, Granularity, Rule, Score, Sparsity};
pub use source::{Source, Want};
pub use structure::{Groups, Norm, Structure};
pub use tensor::{Tensor, TensorMut, TensorSpec};
pub use watch::Progress;
