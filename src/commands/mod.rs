//! One thin file a subcommand: options in, library call, print out.

// A full disk behind stdout or stderr is an error or nothing, never a panic: [`print`] says it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod caption;
mod compare;
mod completions;
mod doctor;
mod evaluate;
mod evaluate_captions;
mod evaluate_clip_score;
mod evaluate_pictures;
mod evaluate_shared;
mod evaluate_size;
mod experiment;
mod export;
mod init;
mod man;
mod merge;
mod metrics;
mod models;
mod plot;
pub mod print;
mod prompt;
mod report;
mod stylize;
mod submit;
mod team;
mod view;
mod worker;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::error::Outcome;

/// Runs the command that was asked for.
pub fn run(cli: Cli) -> Result<Outcome> {
    let global = &cli.global;
    global.check_precision(&cli.command)?;
    match cli.command {
        Command::Caption(args) => caption::run(args, global),
        Command::Stylize(args) => stylize::run(*args, global),
        Command::Prompt(args) => prompt::run(args, global),
        Command::Evaluate(args) => evaluate::run(args, global),
        Command::Experiment(args) => experiment::run(args, global),
        Command::Init(args) => init::run(args, global),
        Command::Submit(args) => submit::run(args, global),
        Command::Merge(args) => merge::run(args, global),
        Command::Report(args) => report::run(args, global),
        Command::Plot(args) => plot::run(args, global),
        Command::View(args) => view::run(args, global),
        Command::Compare(args) => compare::run(args, global),
        Command::Export(args) => export::run(args, global),
        Command::Models(args) => models::run(args, global),
        Command::Metrics(args) => metrics::run(args, global),
        Command::Bench(args) => bench::run(args, global),
        Command::Doctor(args) => doctor::run(args, global),
        Command::Completions(args) => completions::run(args, global),
        Command::Man(args) => man::run(args, global),
        Command::Worker => worker::run(global),
    }
}
