//! Parse, run, one line on an error, exit status.

use std::process::ExitCode;

use clap::Parser;
use toolkit::{cli::Cli, commands, error::Outcome, error::UsageError, runtime};

fn main() -> ExitCode {
    runtime::stop_when_nobody_reads();
    let cli = Cli::parse();
    runtime::start_logging(cli.global.quiet, cli.global.verbose);
    match runtime::without_panics(|| commands::run(cli)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {}", runtime::one_line(&error));
            ExitCode::from(if error.downcast_ref::<UsageError>().is_some() { 2 } else { 1 })
        }
    }
}
