//! Flickr30k's own captions, `results_20130124.token`: a line `NAME.jpg#K`, a tab, a caption.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::captioned::{Annotations, Place, Record, read_text, stem};
use crate::runtime::is_hidden;

/// The `.token` file: `path` itself, or the first in the folder.
pub fn find(path: &Path) -> Result<Option<PathBuf>> {
    let is_one = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "token") && file.is_file();
    if path.is_file() {
        return Ok(Some(path.to_path_buf()).filter(is_one));
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| !is_hidden(file));
    Ok(files.filter(is_one).min())
}

/// The id is the file's stem. The format has no splits.
pub fn read(file: &Path) -> Result<Annotations> {
    let shown = file.display();
    let text = read_text(file)?;
    let mut records: Vec<Record> = Vec::new();
    let mut numbers: Vec<Vec<u32>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        if line.trim().is_empty() {
            continue;
        }
        let Some((name, caption)) = line.split_once('\t') else {
            bail!("{shown}, line {at}: no tab between the picture and its caption");
        };
        let Some((picture, number)) = name.rsplit_once('#').and_then(|(name, k)| Some((name, k.trim().parse().ok()?)))
        else {
            bail!("{shown}, line {at}: {name:?} is not NAME.jpg#K");
        };
        let place = *places.entry(picture.to_string()).or_insert_with(|| {
            let (id, split) = (stem(picture), String::new());
            records.push(Record { id, file: picture.to_string(), references: Vec::new(), split });
            numbers.push(Vec::new());
            records.len() - 1
        });
        if numbers[place].contains(&number) {
            bail!("{shown}, line {at}: {name} is there twice");
        }
        numbers[place].push(number);
        records[place].references.push(caption.to_string());
    }
    Ok(Annotations { file: file.to_path_buf(), records, pictures: Place::Near })
}
