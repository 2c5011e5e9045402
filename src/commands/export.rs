//! `toolkit export`.

use anyhow::{Context, Result, bail};

use super::print::{note, say};
use crate::cli::{ExportCommand, Global, MlflowArgs, TableArgs};
use crate::error::{Outcome, nearest, usage};
use crate::mlflow::{Experiment, FOLDER_TAG};
use crate::report;
use crate::report::table::{FORMATS, names};

pub fn run(args: ExportCommand, global: &Global) -> Result<Outcome> {
    match args {
        ExportCommand::Notebook(args) => say!("{}", report::notebook(&args.run, args.out.as_deref())?.display()),
        ExportCommand::Table(args) => table(&args)?,
        ExportCommand::Mlflow(args) => mlflow(&args, global)?,
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

/// Prints the name and the page of each run that is on the server.
fn mlflow(args: &MlflowArgs, global: &Global) -> Result<()> {
    let run = report::tracked(&args.run)?;
    for name in ["results.csv", "report.html"] {
        if !run.files.iter().any(|file| file.ends_with(name)) {
            bail!("{} has no {name}: toolkit report {} makes the page", args.run.display(), run.folder);
        }
    }
    let name = args.experiment.as_deref().unwrap_or(&run.title);
    let experiment = Experiment::open(&args.uri, name, global.offline)?;
    let earlier = experiment.earlier(&run)?;
    for (at, entry) in run.entries.iter().enumerate() {
        let done = experiment.export(&run, entry);
        let done = done.with_context(|| format!("{at} of {} runs are exported", run.entries.len()))?;
        say!("{}\t{}", done.name, done.url);
    }
    if !global.quiet {
        note!("{} runs are new in the experiment {name:?}, with the tag {FOLDER_TAG} = {}", run.entries.len(), run.id);
        if earlier > 0 {
            note!("{earlier} of an earlier export of this run folder stay there, with the same tag");
        }
    }
    Ok(())
}
