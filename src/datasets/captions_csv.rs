//! One's own data set: a folder of pictures with a `captions.csv` (columns `image` and `caption`, a row per caption,
//! several rows per picture; a column `split` if wanted).

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::captioned::{Annotations, Place, Record, read_text, stem};
use crate::images::{Same, distinct};

/// The id is the picture's path without its ending; with it where two pictures would have the same.
pub fn read(file: &Path) -> Result<Annotations> {
    let shown = file.display();
    let text = read_text(file)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| explain(file, &error))?.clone();
    let column = |name: &str| headers.iter().position(|header| header.trim() == name);
    let (Some(image), Some(caption)) = (column("image"), column("caption")) else {
        let found: Vec<&str> = headers.iter().collect();
        bail!("{shown}, line 1: the columns image and caption are needed, there are: {}", found.join(", "));
    };
    let split = column("split");
    let mut records: Vec<Record> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in reader.records() {
        let row = row.map_err(|error| explain(file, &error))?;
        let line = row.position().map_or(0, csv::Position::line);
        let name = row[image].trim();
        if name.is_empty() {
            bail!("{shown}, line {line}: image is empty");
        }
        let split = split.map_or("", |at| row[at].trim());
        let place = *places.entry(name.to_string()).or_insert_with(|| {
            let (id, split) = (stem(name), split.to_string());
            records.push(Record { id, file: name.to_string(), references: Vec::new(), split });
            records.len() - 1
        });
        if records[place].split != split {
            bail!("{shown}, line {line}: {name} is in the split {:?} and in {split:?}", records[place].split);
        }
        records[place].references.push(row[caption].to_string());
    }
    let stems = records.iter().map(|record| record.id.clone()).collect();
    let names: Vec<String> = records.iter().map(|record| record.file.clone()).collect();
    let ids = distinct(stems, &names, Same::Exactly);
    let ids = ids.map_err(|(one, other)| anyhow!("{shown}: {} and {} are one picture", names[one], names[other]))?;
    records.iter_mut().zip(ids).for_each(|(record, id)| record.id = id);
    Ok(Annotations { file: file.to_path_buf(), records, pictures: Place::Near })
}

/// The csv crate's words with file and line.
pub(super) fn explain(file: &Path, error: &csv::Error) -> anyhow::Error {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow!("{}, line {line}: {len} fields where the header has {expected_len}", file.display())
        }
        _ => anyhow!("{}, line {line}: {error}", file.display()),
    }
}
