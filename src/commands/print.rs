//! What commands say. Results go to stdout, where a write that fails (a full disk) is an error in one line, not a
//! panic; remarks go to stderr, where a write that fails loses nothing that counts.

use std::fmt;
use std::io::{self, Write};

use anyhow::{Context, Result};

/// Writes a line of results, as `println!` does, and returns from the function with an error where that fails.
macro_rules! say {
    ($($text:tt)*) => { $crate::commands::print::line(format_args!($($text)*))? };
}

/// Writes a line to stderr, as `eprintln!` does, whatever becomes of it.
macro_rules! note {
    ($($text:tt)*) => { $crate::commands::print::remark(format_args!($($text)*)) };
}

pub(crate) use {note, say};

/// Writes a line of results.
pub fn line(text: fmt::Arguments) -> Result<()> {
    say_failure(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes results that have their line ends already.
pub fn text(text: &str) -> Result<()> {
    say_failure(io::stdout().lock().write_all(text.as_bytes()))?;
    finish()
}

/// Writes results as CSV.
pub fn table(fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    fill(&mut table)?;
    let bytes = table.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    say_failure(io::stdout().lock().write_all(&bytes))?;
    finish()
}

/// Writes what is still held back; at the end of a program Rust itself would drop it without a word.
pub fn finish() -> Result<()> {
    say_failure(io::stdout().lock().flush())
}

/// Writes a line to stderr. Names of files and errors of a run that was received may hold what a terminal obeys: it is
/// shown, not sent.
pub fn remark(text: fmt::Arguments) {
    let text = text.to_string().replace(|c: char| c.is_control() && !"\n\t".contains(c), "\u{fffd}");
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn say_failure(written: io::Result<()>) -> Result<()> {
    written.context("cannot write to standard output")
}
