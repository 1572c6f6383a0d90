//! Jobs inside somebody else's GPU program: the caller's device, buffers, encoder and submit.
//!
//! Every adapter is opened twice, with WebGPU's default limits and no feature, and with everything that it has. The caller's
//! buffers are sub-ranges of larger ones full of poison, their scratch is dirty, and after every job each byte is accounted
//! for: it is what the oracle says, or what it was before.
#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

#[path = "../common/mod.rs"]
mod common;

mod anything;
mod bad_input;
mod beside;
mod buffers;
mod devices;
mod jobs;
mod matrix;
mod plans;
mod rule;
mod task;

use common::oracle::Kind;

const KINDS: [Kind; 3] = [Kind::F32, Kind::F16, Kind::Bf16];
