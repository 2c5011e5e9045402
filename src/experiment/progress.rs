//! How far a run is, on stderr: a bar with the time left on a terminal, else a line at most every half minute.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where stderr is no terminal.
const EVERY: Duration = Duration::from_secs(30);

/// Whether it is shown how far a run is; nothing is with `--quiet`.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub quiet: bool,
}

impl Progress {
    /// A bar over `total` things, of which `done` were there before (they do not count for the time left).
    pub fn bar(self, label: &'static str, total: usize, done: usize) -> Bar {
        let bar = ProgressBar::new(total as u64).with_position(done as u64);
        // indicatif itself hides a bar where stderr is no terminal.
        bar.set_draw_target(if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        // What is left is known as soon as one thing is done.
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len}  {elapsed} gone") {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar.reset_eta();
        let plain = !self.quiet && !std::io::stderr().is_terminal();
        Bar { bar, done: done as u64, started: Instant::now(), said: plain.then(|| Mutex::new(Instant::now())) }
    }
}

/// How far one phase is.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    /// What was done before.
    done: u64,
    started: Instant,
    /// When the last line was said, where lines are said.
    said: Option<Mutex<Instant>>,
}

impl Bar {
    /// So many more are done.
    pub fn inc(&self, count: u64) {
        if self.bar.position() == self.done
            && count > 0
            && let Ok(style) =
                ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len}  {elapsed} gone, {eta} left")
        {
            self.bar.set_style(style);
        }
        self.bar.inc(count);
        let Some(Ok(mut last)) = self.said.as_ref().map(Mutex::lock) else { return };
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            tracing::info!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        let (position, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let new = position.saturating_sub(self.done).max(1);
        let left = self.started.elapsed().as_secs_f64() / new as f64 * total.saturating_sub(position) as f64;
        format!("{}: {position} of {total}, {left:.0} s left", self.bar.message())
    }

    /// The bar goes away.
    pub fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_what_was_there_before_but_not_for_the_time_left() {
        let bar = Progress { quiet: true }.bar("drawing", 10, 4);
        bar.inc(2);
        let line = bar.line();
        assert!(line.starts_with("drawing: 6 of 10, "), "{line}");
        assert!(bar.said.is_none(), "--quiet says nothing");
    }
}
