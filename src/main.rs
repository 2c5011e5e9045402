//! Parse, run, one line on an error, exit status.

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::process::ExitCode;

use anyhow::Error;
use clap::Parser;
use toolkit::{cli::Cli, commands, commands::print, error::Outcome, error::UsageError, runtime};

/// Called by the loader before all else (see [`runtime::spin_briefly`]).
#[used]
#[unsafe(link_section = ".preinit_array")]
static FIRST: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = runtime::spin_briefly;

fn main() -> ExitCode {
    runtime::conventional_signals();
    runtime::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version fail only where they cannot be written.
        Err(said) => match said.print().and_then(|()| std::io::stdout().flush()) {
            Err(error) if !said.use_stderr() => {
                return failed(Error::new(error).context("cannot write to standard output"));
            }
            _ => return exit(said.exit_code()),
        },
    };
    runtime::start_logging(cli.global.quiet, cli.global.verbose);
    runtime::report_crashes(cli.global.verbose >= 2);
    runtime::log_moment("the program is loaded");
    match runtime::without_panics(|| commands::run(cli).and_then(|outcome| print::finish().map(|()| outcome))) {
        Ok(Outcome::Done) => exit(0),
        Ok(Outcome::SomeFailed) => exit(3),
        Err(error) => failed(error),
    }
}

fn failed(error: Error) -> ExitCode {
    print::remark(format_args!("error: {}", runtime::one_line(&error)));
    exit(if error.downcast_ref::<UsageError>().is_some() { 2 } else { 1 })
}

fn exit(status: i32) -> ExitCode {
    runtime::end_at_once(status);
    ExitCode::from(status as u8)
}
