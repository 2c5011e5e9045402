//! `toolkit init`.

use anyhow::Result;

use super::print::say;
use crate::cli::{Global, InitArgs};
use crate::error::{Outcome, usage};
use crate::experiment;
use crate::runtime::{check_writable, write_new};

pub fn run(args: InitArgs, _global: &Global) -> Result<Outcome> {
    let file = &args.file;
    let text = experiment::template(file, &args.from)?;
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(usage(format!("{} is there already: choose another name", file.display())));
    }
    check_writable(file)?;
    write_new(file, text.as_bytes())?;
    say!("{}", file.display());
    Ok(Outcome::Done)
}
