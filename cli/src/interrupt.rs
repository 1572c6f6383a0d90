//! Ctrl-C and its like: noticed between two pieces, so that the work ends as after any error and removes what it began.

use anyhow::{Context, Result};
use std::fmt;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// 128 and the number of SIGINT, as shells have it.
pub(crate) const EXIT_CODE: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on a signal sets a flag. A second one ends the program at once; what that leaves, the next run takes away.
pub(crate) fn catch() -> Result<()> {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_CODE.into());
        }
    };
    ctrlc::set_handler(handler).context("cannot catch signals")
}

pub(crate) fn happened() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// An error if the work is to end. Not of the kind `Interrupted`, which means "try again".
pub(crate) fn check() -> io::Result<()> {
    if happened() { Err(io::Error::other(Interrupted)) } else { Ok(()) }
}
