//! `toolkit export`.

use anyhow::Result;

use super::print::say;
use crate::cli::{ExportCommand, Global, TableArgs};
use crate::error::{Outcome, nearest, usage};
use crate::report;
use crate::report::table::{FORMATS, names};

pub fn run(args: ExportCommand, _global: &Global) -> Result<Outcome> {
    match args {
        ExportCommand::Notebook(args) => say!("{}", report::notebook(&args.run, args.out.as_deref())?.display()),
        ExportCommand::Table(args) => table(&args)?,
    }
    Ok(Outcome::Done)
}

/// Prints the table, or writes it and prints where.
fn table(args: &TableArgs) -> Result<()> {
    let Some(format) = FORMATS.iter().find(|format| format.name == args.to) else {
        let near = nearest(&args.to, names());
        let known: Vec<&str> = names().collect();
        return Err(usage(format!("--to {:?} is no format of tables{near} (known: {})", args.to, known.join(", "))));
    };
    let text = report::table(&args.run, format)?;
    match &args.out {
        Some(file) => {
            report::write_text(file, &text)?;
            say!("{}", file.display());
        }
        None => say!("{}", text.trim_end()),
    }
    Ok(())
}
