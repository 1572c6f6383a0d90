//! The built program, on temporary files: what it prunes, writes, prints and refuses, and with which exit code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod apply;
mod backends;
mod bench;
mod bad_files;
mod bad_values;
mod columns;
mod desk;
mod eight_bits;
mod diff;
mod diffusers;
mod events;
mod files;
mod full;
mod image;
mod imatrix;
mod interrupted;
mod memory;
mod patterns;
mod pieces;
mod plot;
mod questions;
mod recipe;
mod report;
mod resumed;
mod schema;
mod shards;
mod steps;
mod structures;
mod usage;
mod verify;
