//! The GPU backend (wgpu, WGSL).
//!
//! [`Pruner::gpu`](crate::Pruner::gpu) is the easy way in. Inside a wgpu program of your own, use [`Kernels`]: your device,
//! your buffers, your encoder; no submit, no wait, no readback. In a browser that is the only way, since nothing can wait there.
//!
//! Any device will do that has WebGPU's default limits; [`required_limits`] and [`required_features`] open one that binds more and runs faster.
//!
//! ```no_run
//! use emprune::gpu::{Buffers, Kernels, SliceBuffers, wgpu};
//! use emprune::{Dtype, Error, Rule, TensorSpec};
//!
//! fn prune(device: &wgpu::Device, weights: &wgpu::Buffer, encoder: &mut wgpu::CommandEncoder) -> Result<(), Error> {
//!     // Once: pipelines, sizes, buffers. `bind` is the last call that creates anything.
//!     let kernels = Kernels::new(device);
//!     let len = weights.size() / 4;
//!     let plan = kernels.plan(&[TensorSpec::new(Dtype::F32, len, len)?], &Rule::new())?;
//!     let buffer = |size| {
//!         let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
//!         device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
//!     };
//!     let mask = buffer(plan.mask_bytes(0).unwrap_or(0));
//!     let (records, workspace) = (buffer(plan.records_bytes()), buffer(plan.workspace_bytes()));
//!     let slice = SliceBuffers {
//!         weights: weights.as_entire_buffer_binding(),
//!         norms: None,
//!         scores: None,
//!         mask: mask.as_entire_buffer_binding(),
//!     };
//!     let buffers = Buffers {
//!         slices: &[slice],
//!         records: records.as_entire_buffer_binding(),
//!         workspace: workspace.as_entire_buffer_binding(),
//!         keys: None,
//!     };
//!     let job = kernels.bind(&plan, &buffers)?;
//!     // In every frame, between passes of yours.
//!     job.record_prune(encoder);
//!     Ok(())
//! }
//! ```
//!
//! What a job decides stays on the device: pruned weights, masks, and a [`Record`] per contest that a shader of yours can read
//! ([`Record::WGSL`]). `examples/in_your_wgpu_app.rs` runs between two passes, `examples/scores_of_your_own.rs` behind a shader that makes scores,
//! `examples/in_a_browser.rs` in a web page.

mod buffers;
mod contest;
mod device;
mod engine;
mod job;
mod kernels;
mod layout;
mod plan;
mod rows;
mod shaders;
#[cfg(test)]
mod tests;
mod transfer;

pub use crate::plan::Tuning;
pub use buffers::{Buffers, SliceBuffers};
pub use device::{Adapter, Options, adapters};
pub use job::Job;
pub use kernels::{Checks, KernelOptions, Kernels, Variant, required_features, required_limits};
pub use layout::Record;
pub use plan::Plan;
/// The version of wgpu that this crate speaks.
pub use wgpu;

pub(crate) use contest::Contest;
pub(crate) use engine::Engine;
