//! `toolkit completions`.

use anyhow::Result;
use clap::CommandFactory;

use super::print;
use crate::cli::{Cli, CompletionsArgs, Global};
use crate::error::Outcome;

pub fn run(args: CompletionsArgs, _global: &Global) -> Result<Outcome> {
    // Written at once: clap_complete itself panics where its output fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "toolkit", &mut script);
    print::text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
