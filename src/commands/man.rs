//! `toolkit man`.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};

use super::print::say;
use crate::cli::{Cli, Global, ManArgs};
use crate::error::Outcome;
use crate::runtime::write_whole;

pub fn run(args: ManArgs, _global: &Global) -> Result<Outcome> {
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, &args.dir)?;
    Ok(Outcome::Done)
}

/// The page of a command, and those of the commands below it: `toolkit-evaluate-fid.1`.
fn pages(command: &Command, dir: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    write_whole(&file, |to| Ok(to.write_all(&page)?))?;
    say!("{}", file.display());
    command.get_subcommands().try_for_each(|below| pages(below, dir))
}
