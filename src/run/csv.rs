//! The tables of a run folder, to and from rows: strict, and an error says file, line and column.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use csv::{DeserializeErrorKind, ErrorKind, StringRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::runtime::write_whole;

/// Reads every row of a CSV file with a header. `required` columns must be there; other columns may
/// be missing (the row type's defaults) or more than the row type knows (ignored).
pub fn read<T: DeserializeOwned>(path: &Path, required: &[&str]) -> Result<Vec<T>> {
    rows(path, required, false)
}

/// The same of a file that may have been cut off while it was written: a last row that is not whole is left out.
pub fn read_growing<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    rows(path, &[], true)
}

fn rows<T: DeserializeOwned>(path: &Path, required: &[&str], growing: bool) -> Result<Vec<T>> {
    let file = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {file}"))?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text); // spreadsheets add a byte order mark
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let headers = reader.headers().map_err(|error| explain(&error, &file, None))?.clone();
    check_headers(&headers, required).with_context(|| format!("{file}, line 1"))?;
    let records: Vec<StringRecord> =
        reader.records().collect::<Result<_, _>>().map_err(|error| explain(&error, &file, None))?;
    let mut rows = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let last = at + 1 == records.len();
        if growing && last && (!text.ends_with(b"\n") || record.len() < headers.len()) {
            break;
        }
        if record.len() != headers.len() {
            let line = record.position().map_or(0, csv::Position::line);
            bail!("{file}, line {line}: {} fields where the header has {}", record.len(), headers.len());
        }
        let row = record.deserialize(Some(&headers)).map_err(|error| explain(&error, &file, Some((&headers, record))));
        rows.push(row?);
    }
    Ok(rows)
}

/// Writes a CSV file with its header, whole or not at all.
pub fn write<T: Serialize + Default>(path: &Path, rows: &[T]) -> Result<()> {
    let bytes = if rows.is_empty() {
        // The header alone: that of a default row without the row.
        let text = to_csv(&[T::default()], true)?;
        let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
        text[..end].to_vec()
    } else {
        to_csv(rows, true)?
    };
    write_whole(path, |file| Ok(file.write_all(&bytes)?))
}

pub(super) fn to_csv<T: Serialize>(rows: &[T], header: bool) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(header).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| anyhow!("{error}"))
}

fn check_headers(headers: &StringRecord, required: &[&str]) -> Result<()> {
    for (at, name) in headers.iter().enumerate() {
        if headers.iter().take(at).any(|earlier| earlier == name) {
            bail!("column {name:?} is there twice");
        }
    }
    let missing: Vec<_> = required.iter().filter(|name| !headers.iter().any(|h| h == **name)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => bail!("column {one:?} is missing"),
        many => bail!("columns {many:?} are missing"),
    }
}

/// The csv crate counts fields; a user looks for a line and the name of a column.
fn explain(error: &csv::Error, file: &dyn Display, row: Option<(&StringRecord, &StringRecord)>) -> anyhow::Error {
    let line = error.position().or(row.and_then(|(_, record)| record.position())).map_or(0, |at| at.line());
    match error.kind() {
        ErrorKind::Utf8 { .. } => anyhow!("{file}, line {line}: not UTF-8 text"),
        ErrorKind::Deserialize { err, .. } => {
            let at = err.field().map(|field| field as usize);
            let name = at.and_then(|at| row?.0.get(at)).unwrap_or("?");
            let value = at.and_then(|at| row?.1.get(at)).unwrap_or_default();
            let what = match err.kind() {
                DeserializeErrorKind::ParseFloat(_) => "is not a number".to_string(),
                DeserializeErrorKind::ParseInt(_) => "is not a whole number".to_string(),
                other => format!("cannot be read: {other}"),
            };
            anyhow!("{file}, line {line}, column {name:?}: {value:?} {what}")
        }
        _ => anyhow!("{file}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{read, write};
    use crate::run::style::ItemRow;

    fn error_of(text: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.csv");
        std::fs::write(&path, text).unwrap();
        let error = read::<ItemRow>(&path, &["id", "strategy"]).unwrap_err();
        format!("{error:#}").replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn errors_name_file_line_and_column() {
        assert_eq!(error_of(b""), "items.csv, line 1: columns [\"id\", \"strategy\"] are missing");
        assert_eq!(error_of(b"id,seed\na,1\n"), "items.csv, line 1: column \"strategy\" is missing");
        assert_eq!(error_of(b"id,strategy,id\n"), "items.csv, line 1: column \"id\" is there twice");
        assert_eq!(
            error_of(b"id,strategy,lpips\na,s,0.5\n\"b\nb\",s,half\n"),
            "items.csv, line 3, column \"lpips\": \"half\" is not a number"
        );
        assert_eq!(
            error_of(b"id,strategy,seed\na,s,-1\n"),
            "items.csv, line 2, column \"seed\": \"-1\" is not a whole number"
        );
        assert_eq!(error_of(b"id,strategy\na,s\nb\n"), "items.csv, line 3: 1 fields where the header has 2");
        assert_eq!(error_of(b"id,strategy\na,\xff\n"), "items.csv, line 2: not UTF-8 text");
    }

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("items.csv");
        let row = ItemRow {
            id: "a,\"b\"\nc".into(),
            strategy: "é".into(),
            lpips: Some(0.1 + 0.2),
            seed: u64::MAX,
            ..Default::default()
        };
        write(&path, &[row.clone(), ItemRow::default()])?;
        assert_eq!(read::<ItemRow>(&path, &["id"])?, [row, ItemRow::default()]);
        Ok(())
    }
}
