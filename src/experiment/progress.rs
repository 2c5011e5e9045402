//! Progress with the time left, on stderr, where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a run is. Nothing is shown in a pipe or with `--quiet`.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub quiet: bool,
}

impl Progress {
    /// A bar over `total` things, of which `done` were there before (they do not count for the time left).
    pub fn bar(self, label: &'static str, total: usize, done: usize) -> ProgressBar {
        let bar = ProgressBar::new(total as u64).with_position(done as u64);
        // indicatif itself hides a bar where stderr is no terminal.
        bar.set_draw_target(if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len}  {elapsed} gone, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar.reset_eta();
        bar
    }
}
