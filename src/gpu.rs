//! The GPU backend (wgpu, WGSL).
//!
//! [`Pruner::gpu`](crate::Pruner::gpu) is the easy way in. Inside a wgpu program of your own, use [`Kernels`]: your device,
//! your buffers, your encoder; no submit, no wait, no readback. In a browser that is the only way, since nothing can wait there.

mod contest;
mod device;
mod engine;
mod job;
mod kernels;
mod layout;
mod rows;
mod shaders;
#[cfg(test)]
mod tests;
mod transfer;

pub use device::{Adapter, Options, adapters};
pub use job::{Buffers, Job, Plan, SliceBuffers};
pub use kernels::{Checks, KernelOptions, Kernels, Variant, required_limits};
pub use layout::Record;
/// The version of wgpu that this crate speaks.
pub use wgpu;

pub(crate) use contest::Contest;
pub(crate) use engine::Engine;
