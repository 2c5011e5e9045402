//! `toolkit models`.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tch::Device;

use super::print::{self, say};
use crate::cli::{Format, Global, ModelsCommand};
use crate::error::Outcome;
use crate::models::{self, MODELS, ModelEntry};
use crate::runtime::Runtime;

pub fn run(args: ModelsCommand, global: &Global) -> Result<Outcome> {
    let rt = |offline| Runtime { device: Device::Cpu, dtype: global.dtype, offline };
    match args {
        ModelsCommand::List { format } => list(format)?,
        ModelsCommand::Pull { name } => say!("{}", models::locate(&name, &rt(global.offline))?.path.display()),
        ModelsCommand::Path { name } => say!("{}", models::locate(&name, &rt(true))?.path.display()),
        ModelsCommand::Verify { name } => verify(&name, &rt(true))?,
    }
    Ok(Outcome::Done)
}

fn list(format: Format) -> Result<()> {
    let places: Vec<Option<String>> = MODELS.iter().map(place).collect();
    match format {
        Format::Text => {
            let width = MODELS.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
            for (entry, place) in MODELS.iter().zip(&places) {
                let here = if place.is_some() { "here" } else { "-" };
                say!("{:width$}  {here:4}  {}", entry.name, entry.about);
            }
        }
        Format::Json => {
            let row = |(entry, place): (&ModelEntry, &Option<String>)| json!({"name": entry.name, "family": entry.family.title(), "about": entry.about, "path": place});
            let rows: Vec<_> = MODELS.iter().zip(&places).map(row).collect();
            say!("{}", serde_json::to_string_pretty(&rows)?);
        }
        Format::Csv => {
            print::table(|out| {
                out.write_record(["name", "family", "about", "path"])?;
                MODELS.iter().zip(&places).try_for_each(|(entry, place)| {
                    out.write_record([entry.name, entry.family.title(), entry.about, place.as_deref().unwrap_or("")])
                })
            })?;
        }
    }
    Ok(())
}

fn place(entry: &'static ModelEntry) -> Option<String> {
    models::find_local(entry).map(|path| path.display().to_string())
}

fn verify(name: &str, rt: &Runtime) -> Result<()> {
    let located = models::locate(name, rt)?;
    say!("{}: a {}", located.path.display(), located.family.title());
    for file in models::verify_files(&located)? {
        say!(
            "{}: {} tensors, {} numbers, all finite, {:.1} MB{}{}",
            relative(&file.path, &located.path),
            file.tensors,
            file.parameters,
            file.bytes as f64 / 1e6,
            if file.summed { ", CRC-32 as written" } else { "" },
            if file.hashed { ", sha256 as published" } else { "" }
        );
    }
    let checked = models::verify_build(&located)?;
    if let Some(about) = checked.about {
        say!("{about}");
    }
    if checked.built {
        say!("the model builds: every tensor is there, none too many, each of its shape");
    }
    Ok(())
}

fn relative(file: &Path, folder: &Path) -> String {
    let inside = file.strip_prefix(folder).ok().filter(|rest| !rest.as_os_str().is_empty());
    inside.unwrap_or(file).display().to_string()
}
