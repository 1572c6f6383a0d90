//! The fuzz targets; `EMPRUNE_FUZZ` says which one. One program, because linking takes longer than all that is built here.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::cases::{Bytes, Size, case};
use emprune_cli::fuzz::{header, index, jpeg, masks, norms, patterns, recipe};
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| match std::env::var("EMPRUNE_FUZZ").as_deref() {
    Ok("decision") => decision,
    Ok("header") => header,
    Ok("index") => index,
    Ok("jpeg") => jpeg,
    Ok("masks") => masks,
    Ok("norms") => norms,
    Ok("patterns") => patterns,
    Ok("recipe") => recipe,
    other => panic!("EMPRUNE_FUZZ is {other:?}, and no target"),
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));

/// The library against the oracle of its tests.
fn decision(bytes: &[u8]) {
    case(&mut Bytes(bytes), Size::Tiny).check(common::cpu());
}
