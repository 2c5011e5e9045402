//! How far a run is, on stderr: a bar with the time left on a terminal, else a line at most every half minute.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Between two lines where stderr is no terminal.
const EVERY: Duration = Duration::from_secs(30);
/// Between two pictures of a bar that nothing else moves.
const TICK: Duration = Duration::from_millis(200);

/// Whether it is shown how far a run is; nothing is with `--quiet`.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    quiet: bool,
    /// The labels of the run's stages, in their order.
    stages: &'static [&'static str],
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, stages: &[] }
    }

    /// The same of a run with these stages: a bar with the label of one says which of how many it is.
    pub fn of(self, stages: &'static [&'static str]) -> Self {
        Self { stages, ..self }
    }

    /// A bar over `total` things, of which `done` were there before (they do not count for the time left).
    pub fn bar(self, label: &'static str, total: usize, done: usize) -> Bar {
        let bar = self.shown(label, ProgressBar::new(total as u64).with_position(done as u64));
        let done = done as u64;
        let time = move |state: &ProgressState, text: &mut dyn Write| {
            let left = time_left(state.elapsed(), done, state.pos(), state.len().unwrap_or(0));
            let _ = left.map_or(Ok(()), |left| write!(text, ", {left}"));
        };
        if let Ok(style) = ProgressStyle::with_template("{prefix}{msg:14} {wide_bar} {pos}/{len}  {elapsed} gone{left}")
        {
            bar.set_style(style.with_key("left", time));
        }
        bar.tick();
        let plain = !self.quiet && !std::io::stderr().is_terminal();
        Bar { bar, done, started: Instant::now(), said: plain.then(|| Mutex::new(Instant::now())) }
    }

    /// A stage that is not counted in things, as long as what is returned lives.
    pub fn stage(self, label: &'static str) -> Bar {
        let bar = self.shown(label, ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{prefix}{msg:14} {spinner}  {elapsed} gone") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Bar { bar, done: 0, started: Instant::now(), said: None }
    }

    /// The bar with its label and its place among the stages. indicatif itself hides it where stderr is no terminal.
    fn shown(self, label: &'static str, bar: ProgressBar) -> ProgressBar {
        bar.set_draw_target(if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        if let Some(at) = self.stages.iter().position(|stage| *stage == label) {
            bar.set_prefix(format!("{} of {}, ", at + 1, self.stages.len()));
        }
        bar.set_message(label);
        bar
    }
}

/// How far one stage is. It goes away with this.
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
        self.bar.inc(count);
        let Some(Ok(mut last)) = self.said.as_ref().map(Mutex::lock) else { return };
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            tracing::info!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        let (position, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let left = time_left(self.started.elapsed(), self.done, position, total);
        let left = left.map_or(String::new(), |left| format!(", {left}"));
        format!("{}{}: {position} of {total}{left}", self.bar.prefix(), self.bar.message())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How long the rest will take, by what was done since the start; None before anything was, and when all is.
fn time_left(gone: Duration, before: u64, position: u64, total: u64) -> Option<String> {
    let new = position.saturating_sub(before);
    let rest = total.saturating_sub(position);
    if new == 0 || rest == 0 {
        return None;
    }
    let seconds = (gone.as_secs_f64() / new as f64 * rest as f64).ceil().max(1.0);
    Some(match seconds {
        ..120.0 => format!("{seconds:.0} s left"),
        ..7200.0 => format!("{:.0} min left", seconds / 60.0),
        _ => format!("{:.1} h left", seconds / 3600.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_the_stage_and_counts_what_was_there_before_but_not_for_the_time_left() {
        let progress = Progress::new(true).of(&["describing", "drawing"]);
        let bar = progress.bar("drawing", 10, 4);
        assert_eq!(bar.line(), "2 of 2, drawing: 4 of 10", "nothing is known of the time yet");
        bar.inc(2);
        assert_eq!(bar.line(), "2 of 2, drawing: 6 of 10, 1 s left");
        bar.inc(4);
        assert_eq!(bar.line(), "2 of 2, drawing: 10 of 10");
        assert!(bar.said.is_none(), "--quiet says nothing");
        assert_eq!(progress.bar("other", 2, 0).line(), "other: 0 of 2");
    }

    #[test]
    fn the_time_left_follows_from_what_is_new() {
        let left = |gone, before, position| time_left(Duration::from_secs(gone), before, position, 100);
        assert_eq!((left(5, 0, 0), left(5, 40, 40), left(50, 0, 100)), (None, None, None));
        assert_eq!(left(10, 40, 50).as_deref(), Some("50 s left"));
        assert_eq!(left(60, 0, 10).as_deref(), Some("9 min left"));
        assert_eq!(left(3600, 0, 10).as_deref(), Some("9.0 h left"));
        assert_eq!(left(0, 0, 1).as_deref(), Some("1 s left"), "never 0");
    }
}
