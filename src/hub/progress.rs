//! How far a download is: a bar on a terminal, else a line every half minute.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Between two lines where stderr is no terminal.
const EVERY: Duration = Duration::from_secs(30);

/// Bytes that have come, over all files of one download. Shared between threads.
pub(super) struct Progress {
    bar: ProgressBar,
    said: Option<Mutex<Instant>>,
}

impl Progress {
    /// Over `total` bytes; silent under `--quiet`.
    pub fn new(label: &str, total: u64) -> Self {
        let told = tracing::enabled!(tracing::Level::INFO);
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new(total);
        bar.set_draw_target(if told { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}{left}";
        // Nothing is known of the time before the first bytes came.
        let left = |state: &ProgressState, text: &mut dyn Write| {
            let known = state.pos() > 0 && state.eta().as_secs() > 0;
            let _ = if known { write!(text, ", {} left", HumanDuration(state.eta())) } else { Ok(()) };
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("left", left));
        }
        bar.set_message(label.to_string());
        Self { bar, said: (told && !terminal).then(|| Mutex::new(Instant::now())) }
    }

    /// The total, where it becomes known only now.
    pub fn expect(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// These many bytes more.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        let Some(Ok(mut last)) = self.said.as_ref().map(Mutex::lock) else { return };
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            let (here, all) = (self.bar.position() as f64 / 1e6, self.bar.length().unwrap_or(0) as f64 / 1e6);
            tracing::info!("{}: {here:.0} of {all:.0} MB", self.bar.message());
        }
    }

    /// These many bytes were thrown away.
    pub fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
