//! A CSV file that grows row by row and survives being cut off in the middle of one.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::csv::{Row, Table, read_growing, write};
use anyhow::{Context, Result};

/// Rows of type `T`, appended and flushed as they come.
#[derive(Debug)]
pub struct Journal<T> {
    path: PathBuf,
    file: File,
    table: Table<T>,
}

impl<T: Row> Journal<T> {
    /// Opens or starts the file, and returns the rows of an earlier run that `keep` accepts; the
    /// others, and a last row that was cut off, leave the file. `asked` are the metrics of the run, see [`super::csv::write()`].
    pub fn open(path: &Path, asked: &[String], keep: impl Fn(&T) -> bool) -> Result<(Self, Vec<T>)> {
        let mut rows: Vec<T> = if path.exists() { read_growing(path)? } else { Vec::new() };
        rows.retain(keep);
        let table = Table::new(&rows, asked);
        write(path, &rows, asked)?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(|| format!("cannot continue {}", path.display()))?;
        Ok((Self { path: path.to_path_buf(), file, table }, rows))
    }

    /// Appends rows; when that fails (full disk) the file keeps only what it had.
    pub fn append(&mut self, rows: &[T]) -> Result<()> {
        let bytes = self.table.to_csv(rows, false)?;
        let mut append = || -> std::io::Result<()> {
            let before = self.file.seek(SeekFrom::End(0))?;
            self.file.write_all(&bytes).inspect_err(|_| {
                // What cannot be taken back is dropped when the run is continued.
                let _ = self.file.set_len(before);
            })
        };
        append().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::style::ItemRow;

    fn row(id: &str) -> ItemRow {
        let caption = "says \"yes\",\nthen no".to_string();
        let values = [("lpips", Some(0.1 + 0.2))].into_iter().collect();
        ItemRow { id: id.to_string(), caption, values, status: "done".into(), ..Default::default() }
    }

    #[test]
    fn cut_off_anywhere_it_keeps_the_whole_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.csv");
        let (mut journal, rows) = Journal::<ItemRow>::open(&path, &[], |_| true).unwrap();
        assert!(rows.is_empty());
        journal.append(&[row("a")]).unwrap();
        let one = std::fs::metadata(&path).unwrap().len() as usize;
        journal.append(&[row("b"), row("c")]).unwrap();
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        let two = one + (text.len() - one) / 2;
        for end in one..=text.len() {
            std::fs::write(&path, &text[..end]).unwrap();
            let (_, rows) = Journal::<ItemRow>::open(&path, &[], |_| true).unwrap();
            let expected = 1 + usize::from(end >= two) + usize::from(end >= text.len());
            assert_eq!(rows.len(), expected, "cut at {end} of {}", text.len());
            assert_eq!(rows[0], row("a"));
            assert_eq!(read_growing::<ItemRow>(&path).unwrap(), rows, "the file holds what was kept");
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.csv");
        std::fs::write(&path, "id,strategy\na,s\nb\nc,s\n").unwrap();
        let error = format!("{:#}", read_growing::<ItemRow>(&path).unwrap_err());
        assert!(error.contains("items.csv, line 3: 1 fields where the header has 2"), "{error}");
    }

    #[test]
    fn rows_that_are_not_kept_leave_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.csv");
        write(&path, &[row("a"), row("b")], &[]).unwrap();
        let (mut journal, rows) = Journal::<ItemRow>::open(&path, &[], |row| row.id == "b").unwrap();
        assert_eq!(rows, [row("b")]);
        journal.append(&[row("c")]).unwrap();
        assert_eq!(read_growing::<ItemRow>(&path).unwrap(), [row("b"), row("c")]);
    }
}
