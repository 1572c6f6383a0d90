//! Ctrl-C and its like: noticed between two pieces, so that the work ends as after any error and removes what it began.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// 128 and the number of SIGINT, as shells have it.
pub(crate) const EXIT_CODE: u8 = 130;

/// The last signal, or 0.
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on a signal is noted. A second one ends the program at once; what that leaves, the next run takes away.
pub(crate) fn catch() -> Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM].into_iter().chain(HANG_UP).filter(|signal| !is_ignored(*signal)) {
        // In this order: the first signal must not find its own note. That a terminal has gone is often said twice.
        if [SIGINT, SIGTERM].contains(&signal) {
            flag::register_conditional_shutdown(signal, EXIT_CODE.into(), again.clone())
                .context("cannot catch signals")?;
        }
        flag::register(signal, again.clone()).context("cannot catch signals")?;
        flag::register_usize(signal, SIGNAL.clone(), signal as usize).context("cannot catch signals")?;
    }
    // A limit on the size of files is an error of the write that meets it.
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).context("cannot catch signals")?;
    Ok(())
}

/// The signal that a terminal has gone. Where it cannot be seen whether `nohup` wants it ignored, catching it would end what is to go on; there the
/// system ends the program, or does not, and the next run takes away or takes over what is left.
#[cfg(target_os = "linux")]
const HANG_UP: Option<i32> = Some(signal_hook::consts::SIGHUP);
#[cfg(not(target_os = "linux"))]
const HANG_UP: Option<i32> = None;

/// Whether somebody has said before that a signal is to be ignored: `nohup`, or a shell of what it starts in the background.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
}

/// Whether this is what ended the work, and nothing else.
pub(crate) fn is(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<Interrupted>() || inner.is_some_and(|inner| inner.is::<Interrupted>())
    })
}

pub(crate) fn happened() -> bool {
    SIGNAL.load(Ordering::Relaxed) != 0
}

/// Whether it was a person at a keyboard, who wants to be rid of it.
pub(crate) fn is_by_hand() -> bool {
    SIGNAL.load(Ordering::Relaxed) == SIGINT as usize
}

/// An error if the work is to end. Not of the kind `Interrupted`, which means "try again".
pub(crate) fn check() -> io::Result<()> {
    if happened() { Err(io::Error::other(Interrupted)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::of;

    #[test]
    fn what_a_signal_ended_is_told_from_what_failed() {
        let interrupted = || io::Error::other(Interrupted);
        assert!(is(&interrupted().into()));
        assert!(is(&anyhow::Error::new(of("the masks file")(interrupted())).context("tensor \"w\"")));
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(!is(&full().into()));
        assert!(!is(&anyhow::Error::new(of("the masks file")(full())).context("interrupted")));
        // Its kind is "try again".
        assert!(!is(&io::Error::from(io::ErrorKind::Interrupted).into()));
    }
}
