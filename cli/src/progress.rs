//! Progress of work over a second: a bar on stderr for people, or events for machines.

use crate::events;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Shorter work needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that are done, out of all bytes to prune.
pub(crate) struct Progress {
    /// Hidden until patience is over, and where nobody looks.
    bar: ProgressBar,
    /// Where every pass goes over all tensors, the bar shows one pass after the other: how many there will be depends on the
    /// weights.
    pass: Option<u32>,
    /// Of the pass, or of all the work.
    start: Instant,
    /// When to show the bar; nothing when that is done, or is not to be done.
    show_at: Option<Instant>,
    /// When to tell machines, if they are to be told.
    tell_at: Option<Instant>,
}

impl Progress {
    /// `total` bytes; `by_pass`: all tensors are one contest.
    pub(crate) fn new(total: u64, by_pass: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = "{prefix} {wide_bar} {bytes} of {total_bytes}, {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix("pruning");
        let start = Instant::now();
        let machines = events::are_for_machines();
        let show_at = (std::io::stderr().is_terminal() && !machines).then(|| start + PATIENCE);
        Self { bar, pass: by_pass.then_some(0), start, show_at, tell_at: machines.then(|| start + PATIENCE) }
    }

    /// What is being done, where that is not pruning.
    pub(crate) fn named(self, what: &'static str) -> Self {
        self.bar.set_prefix(what);
        self
    }

    /// Bytes were read, from an entry of a tensor on.
    pub(crate) fn loaded(&mut self, tensor: usize, from: u64, bytes: usize) {
        if let Some(pass) = &mut self.pass {
            if (tensor, from) == (0, 0) {
                *pass += 1;
                self.bar.set_prefix(format!("pass {pass}"));
                self.bar.set_position(0);
                self.start = Instant::now();
            }
            self.advance(bytes);
        }
    }

    /// Bytes are done with.
    pub(crate) fn stored(&mut self, bytes: usize) {
        if self.pass.is_none() {
            self.advance(bytes);
        }
    }

    fn advance(&mut self, bytes: usize) {
        // The mean since the start: the bar's own estimate is a moving one, and needs longer than most passes to settle.
        let done = self.bar.position() + bytes as u64;
        let rate = done as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        let left = self.bar.length().unwrap_or_default().saturating_sub(done) as f64 / rate;
        let left = HumanDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
        self.bar.set_message(format!("{}/s, {left:#} left", HumanBytes(rate as u64)));
        self.bar.set_position(done);
        let now = Instant::now();
        if self.tell_at.is_some_and(|at| at <= now) {
            self.tell_at = Some(now + PATIENCE);
            let fields = json!({"pass": self.pass, "bytes_done": done, "bytes_total": self.bar.length()});
            events::tell("progress", fields);
        }
        if self.show_at.is_some_and(|at| at <= now) {
            self.show_at = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    /// Leave a clean line, after errors too.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_bytes_rate_and_time_left() {
        let mut bytewise = Progress::new(4 << 20, false);
        bytewise.loaded(0, 0, 1 << 20);
        assert_eq!(bytewise.bar.position(), 0, "what is read is not done yet");
        bytewise.stored(1 << 20);
        assert_eq!(bytewise.bar.position(), 1 << 20);
        assert!(bytewise.bar.message().contains("B/s, ") && bytewise.bar.message().ends_with(" left"));
        // Of a contest over many tensors every pass begins again.
        let mut by_pass = Progress::new(4 << 20, true);
        for (pass, done) in [("pass 1", 3 << 20), ("pass 2", 1 << 20)] {
            by_pass.loaded(0, 0, 1 << 20);
            by_pass.loaded(1, 0, done - (1 << 20));
            assert_eq!((by_pass.bar.prefix().as_str(), by_pass.bar.position()), (pass, done as u64));
        }
    }
}
