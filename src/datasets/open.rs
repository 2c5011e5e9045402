//! From what the user names to a data set whose pictures are found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::captioned::{Annotations, Item};
use super::pictures::Pictures;
use super::table::{DATASETS, DatasetEntry};
use crate::error::{nearest, usage};

/// What the user says of a data set. Everything but the place can be left to the data set itself.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A folder, an annotation file, or a data set of the hub `owner/name` in the Hugging Face cache.
    pub path: PathBuf,
    /// A name in [`DATASETS`]; none: told by what the folder holds.
    pub format: Option<String>,
    /// None: `test` where there is one, else everything. `all`: everything.
    pub split: Option<String>,
    /// The folder of the pictures where they do not lie with the annotations.
    pub images: Option<PathBuf>,
}

/// A data set, ready to be read.
#[derive(Debug)]
pub struct CaptionSet {
    pub format: &'static str,
    /// The annotation file (of a plain folder of pictures the folder).
    pub file: PathBuf,
    /// The part that was chosen; `all` for everything.
    pub split: String,
    pub items: Vec<Item>,
    /// Files that the annotations name and that are not there.
    pub missing: Vec<String>,
    /// Ids of pictures that nobody described.
    pub without_references: Vec<String>,
}

/// Opens a data set: finds its annotations, chooses the split, looks for every picture. No picture is
/// decoded. What is missing is listed, and an error only when nothing is left.
pub fn open(request: &Request) -> Result<CaptionSet> {
    let path = super::hub::resolve(&request.path)?;
    let (entry, file) = detect(&path, request.format.as_deref())?;
    let mut annotations = (entry.read)(&file)?;
    let split = choose_split(&mut annotations, request.split.as_deref(), entry)?;
    check_ids(&annotations)?;
    let pictures = Pictures::find(&annotations, request.images.as_deref())?;
    let captioned = entry.name != super::plain::NAME;
    let mut set = CaptionSet {
        format: entry.name,
        file: annotations.file,
        split,
        items: Vec::new(),
        missing: Vec::new(),
        without_references: Vec::new(),
    };
    for record in annotations.records {
        let references: Vec<String> = record.references.iter().map(|text| one_line(text)).collect();
        let references: Vec<String> = references.into_iter().filter(|text| !text.is_empty()).collect();
        if references.is_empty() && captioned {
            set.without_references.push(record.id);
            continue;
        }
        match pictures.get(&record.file) {
            Some(picture) => set.items.push(Item { id: record.id, references, file: record.file, picture }),
            None => set.missing.push(record.file),
        }
    }
    if set.items.is_empty() {
        let first = set.missing.first().or(set.without_references.first()).map_or("", String::as_str);
        let why = if set.missing.is_empty() { "has a reference caption" } else { "is there" };
        bail!(
            "{}: none of its {} pictures {why} (the first is {first}; looked in {}); name the folder of the pictures",
            set.file.display(),
            set.missing.len() + set.without_references.len(),
            pictures.places()
        );
    }
    Ok(set)
}

impl CaptionSet {
    /// What the reader must know of what is not there, in one line each.
    pub fn remarks(&self) -> Vec<String> {
        let total = self.items.len() + self.missing.len() + self.without_references.len();
        let line = |names: &[String], what: &str| {
            let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 3 { ", …" } else { "" };
            format!("{}: {} of {total} pictures {what} ({shown}{more})", self.file.display(), names.len())
        };
        let mut remarks = Vec::new();
        if !self.missing.is_empty() {
            remarks.push(line(&self.missing, "are missing"));
        }
        if !self.without_references.is_empty() {
            remarks.push(line(&self.without_references, "have no reference caption and are left out"));
        }
        remarks
    }
}

/// The format and the annotation file.
fn detect(path: &Path, format: Option<&str>) -> Result<(&'static DatasetEntry, PathBuf)> {
    let shown = path.display();
    if !path.exists() {
        return Err(usage(format!("{shown} is not there: name the folder of a data set")));
    }
    if let Some(name) = format {
        let Some(entry) = DATASETS.iter().find(|entry| entry.name == name) else {
            let names: Vec<&str> = DATASETS.iter().map(|entry| entry.name).collect();
            let near = nearest(name, names.iter().copied());
            return Err(usage(format!("no data set format {name:?}{near} (there are: {})", names.join(", "))));
        };
        // A file of any name is taken at the user's word.
        let file = if path.is_file() { Some(path.to_path_buf()) } else { (entry.find)(path)? };
        let file =
            file.ok_or_else(|| usage(format!("{shown} holds no data set of the format {name}: {}", entry.about)))?;
        return Ok((entry, file));
    }
    for entry in DATASETS {
        if let Some(file) = (entry.find)(path)? {
            return Ok((entry, file));
        }
    }
    let known: Vec<&str> = DATASETS.iter().map(|entry| entry.about).collect();
    Err(usage(format!("{shown} holds no data set of a known format (known: {})", known.join("; "))))
}

/// Keeps the records of the split that is asked for and returns its name.
fn choose_split(annotations: &mut Annotations, asked: Option<&str>, entry: &DatasetEntry) -> Result<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in &annotations.records {
        *counts.entry(record.split.clone()).or_default() += 1;
    }
    let split = match asked {
        Some("all") => return Ok("all".to_string()),
        Some(split) => split,
        None if counts.contains_key("test") => "test",
        None => match counts.keys().next() {
            Some(only) if counts.len() == 1 && !only.is_empty() => only.as_str(),
            _ => return Ok("all".to_string()),
        },
    };
    if !counts.contains_key(split) {
        let known: Vec<String> =
            counts.iter().filter(|(name, _)| !name.is_empty()).map(|(name, n)| format!("{name} ({n})")).collect();
        let known = if known.is_empty() {
            format!("the format {} has no splits: leave split out", entry.name)
        } else {
            format!("there are: {}, all", known.join(", "))
        };
        return Err(usage(format!("{}: no split {split:?} ({known})", annotations.file.display())));
    }
    let split = split.to_string();
    annotations.records.retain(|record| record.split == split);
    Ok(split)
}

/// Rows, references and scores are found by id.
fn check_ids(annotations: &Annotations) -> Result<()> {
    let shown = annotations.file.display();
    let mut seen: std::collections::HashMap<&str, &str> = std::collections::HashMap::new();
    for record in &annotations.records {
        if record.id.is_empty() || record.id.contains(char::is_control) {
            bail!("{shown}: the id {:?} (of {:?}) is empty or has control characters", record.id, record.file);
        }
        if let Some(other) = seen.insert(&record.id, &record.file) {
            bail!("{shown}: the id {:?} is there twice ({other} and {})", record.id, record.file);
        }
    }
    Ok(())
}

/// References lose the spaces around them and their line breaks, which mean nothing in any of the formats.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
