//! A table of answers on disk: a row is there for good before anyone is told so.
//!
//! Rows are appended and synced under a lock that other processes respect too; what is taken back is written beside the
//! table and renamed. A last row that was cut off (it was never acknowledged) leaves the file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::csv;
use crate::run::people::{Answer, check};
use crate::runtime::{UNFINISHED, write_whole};

/// Below the run folder: what `view` keeps for itself.
pub const PLACE: &str = "view";

/// How a file looked when it was read or written last: size, inode and time of change.
type Stamp = (u64, u64, i64, i64);

/// Whether answers can be put on disk in a run folder; not in one of another user, or on a file system that is only read.
///
/// # Errors
/// Any other reason why nothing can be written.
pub fn can_write(dir: &Path, tables: &[&str]) -> Result<bool> {
    let place = dir.join(PLACE);
    let lock = || {
        fs::create_dir_all(&place)?;
        options().write(true).create(true).truncate(false).open(place.join("lock")).map(drop)
    };
    let table = |name: &&str| match options().append(true).open(dir.join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened.map(drop),
    };
    // A folder of old may be one that a new table cannot be put into.
    let fresh = || tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir).map(drop);
    match lock().and_then(|()| tables.iter().try_for_each(table)).and_then(|()| fresh()) {
        Err(error) if [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem].contains(&error.kind()) => Ok(false),
        other => other.map(|()| true).with_context(|| format!("cannot write into the run folder {}", dir.display())),
    }
}

/// The rows of a table, and the file that holds them.
#[derive(Debug)]
pub struct Ledger<T> {
    path: PathBuf,
    lock: PathBuf,
    rows: Vec<T>,
    stamp: Option<Stamp>,
}

impl<T: Answer> Ledger<T> {
    /// Reads the table, or starts with none. Nothing is written yet, but a row that was cut off goes.
    ///
    /// # Errors
    /// A damaged table, one with other columns.
    pub fn open(dir: &Path, name: &str) -> Result<Self> {
        let mut ledger =
            Self { path: dir.join(name), lock: dir.join(PLACE).join("lock"), rows: Vec::new(), stamp: None };
        let _held = ledger.hold()?;
        ledger.refresh()?;
        Ok(ledger)
    }

    /// The rows as they are on disk now.
    pub fn rows(&mut self) -> Result<&[T]> {
        let _held = self.hold()?;
        self.refresh()?;
        Ok(&self.rows)
    }

    /// Appends a row and returns when it is on disk; when that fails (full disk) the file keeps what it had.
    pub fn append(&mut self, row: T) -> Result<()> {
        let _held = self.hold()?;
        self.refresh()?;
        let is_new = self.stamp.is_none();
        let bytes = csv::to_bytes(std::slice::from_ref(&row), is_new)?;
        let mut file = options().append(true).create(true).open(&self.path).with_context(|| self.cannot("write"))?;
        let before = file.metadata().with_context(|| self.cannot("read"))?.len();
        let written = file.write_all(&bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
            // What cannot be taken back is a row that was cut off.
            let _ = file.set_len(before);
        });
        written.with_context(|| self.cannot("write"))?;
        if is_new {
            self.sync_folder()?;
        }
        self.stamp = stamp(&self.path);
        self.rows.push(row);
        Ok(())
    }

    /// Takes the last row of this rater back. None where there is none.
    pub fn undo(&mut self, rater: &str) -> Result<Option<T>> {
        let _held = self.hold()?;
        self.refresh()?;
        let Some(at) = self.rows.iter().rposition(|row| row.rater() == rater) else { return Ok(None) };
        let mut rows = self.rows.clone();
        let row = rows.remove(at);
        let bytes = csv::to_bytes(&rows, true)?;
        write_whole(&self.path, |file| {
            file.write_all(&bytes)?;
            Ok(file.sync_all()?)
        })?;
        self.sync_folder()?;
        (self.rows, self.stamp) = (rows, stamp(&self.path));
        Ok(Some(row))
    }

    /// Only one process at a time reads and writes the tables of a run.
    fn hold(&self) -> Result<File> {
        let said = || format!("cannot lock {}", self.lock.display());
        let file = options().write(true).create(true).truncate(false).open(&self.lock).with_context(said)?;
        file.lock().with_context(said)?;
        Ok(file)
    }

    /// Reads the file again where it is not as it was left: another process, or an editor, wrote to it.
    fn refresh(&mut self) -> Result<()> {
        let now = stamp(&self.path);
        if now == self.stamp {
            return Ok(());
        }
        self.rows.clear();
        self.stamp = None;
        if now.is_none_or(|(size, ..)| size == 0) {
            return Ok(());
        }
        self.repair()?;
        if stamp(&self.path).is_none_or(|(size, ..)| size == 0) {
            return Ok(());
        }
        let rows: Vec<T> = csv::read(&self.path, T::COLUMNS)?;
        check(&self.path, &rows)?;
        (self.rows, self.stamp) = (rows, stamp(&self.path));
        Ok(())
    }

    /// Cuts off a last row that is not whole, and ends one that lacks only its line end.
    fn repair(&self) -> Result<()> {
        let text = fs::read(&self.path).with_context(|| self.cannot("read"))?;
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(text.as_slice());
        let mut records = reader.byte_records();
        let header = records.next().transpose().with_context(|| self.cannot("read"))?.unwrap_or_default();
        let plain: Vec<&[u8]> = header.iter().map(|name| name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name)).collect();
        let whole_header = plain == T::COLUMNS.iter().map(|name| name.as_bytes()).collect::<Vec<_>>();
        let last = records.last().transpose().with_context(|| self.cannot("read"))?;
        let ended = text.ends_with(b"\n");
        if !whole_header {
            if last.is_none() && !ended {
                return self.cut(0); // the very first write was cut off
            }
            bail!("{}, line 1: the columns are not {}", self.path.display(), T::COLUMNS.join(","));
        }
        let Some(last) = last else { return if ended { Ok(()) } else { self.cut(0) } };
        let has_all = last.len() == T::COLUMNS.len();
        if has_all && (ended || last.iter().next_back().is_some_and(is_time)) {
            return if ended { Ok(()) } else { self.end() };
        }
        if ended && last.len() < T::COLUMNS.len() && !is_open(&text) {
            return Ok(()); // whole, but wrong: reading it says where
        }
        self.cut(last.position().map_or(0, ::csv::Position::byte))
    }

    fn cut(&self, size: u64) -> Result<()> {
        tracing::warn!("{}: the last row was cut off while it was written, and is left out", self.path.display());
        let file = options().write(true).open(&self.path).with_context(|| self.cannot("write"))?;
        file.set_len(size).and_then(|()| file.sync_all()).with_context(|| self.cannot("write"))
    }

    fn end(&self) -> Result<()> {
        let mut file = options().append(true).open(&self.path).with_context(|| self.cannot("write"))?;
        file.write_all(b"\n").and_then(|()| file.sync_all()).with_context(|| self.cannot("write"))
    }

    /// So that a new name is on disk, too.
    fn sync_folder(&self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| self.cannot("write"))
    }

    fn cannot(&self, what: &str) -> String {
        format!("cannot {what} {}", self.path.display())
    }
}

/// Links are not followed.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.size(), found.ino(), found.mtime(), found.mtime_nsec()))
}

/// Whether a time is there to its last letter.
fn is_time(text: &[u8]) -> bool {
    text.len() == "2026-05-28T20:26:40Z".len() && text.ends_with(b"Z")
}

/// Whether a quotation is not closed.
fn is_open(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'"').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::people::{RATINGS, RatingRow};

    fn row(rater: &str, id: &str) -> RatingRow {
        RatingRow {
            rater: rater.into(),
            id: id.into(),
            strategy: "says \"ink\",\nand more".into(),
            rating: "success".into(),
            reason: String::new(),
            at: "2026-05-28T20:26:40Z".into(),
        }
    }

    fn open(dir: &Path) -> Result<Ledger<RatingRow>> {
        assert!(can_write(dir, &[RATINGS])?);
        Ledger::open(dir, RATINGS)
    }

    #[test]
    fn cut_off_anywhere_it_keeps_the_whole_rows_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RATINGS);
        let mut ledger = open(dir.path()).unwrap();
        assert!(!path.exists());
        ledger.append(row("a", "1")).unwrap();
        let one = fs::metadata(&path).unwrap().len() as usize;
        ledger.append(row("b", "2")).unwrap();
        let text = fs::read(&path).unwrap();
        for end in 0..=text.len() {
            fs::write(&path, &text[..end]).unwrap();
            let mut again = open(dir.path()).unwrap();
            // A row that lacks only its line end is whole.
            let expected = usize::from(end + 1 >= one) + usize::from(end + 1 >= text.len());
            assert_eq!(again.rows().unwrap().len(), expected, "cut at {end} of {}", text.len());
            again.append(row("c", "3")).unwrap();
            assert_eq!(csv::read::<RatingRow>(&path, RatingRow::COLUMNS).unwrap().len(), expected + 1, "cut at {end}");
        }
    }

    #[test]
    fn two_of_them_see_each_other_and_undo_takes_the_raters_own() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (open(dir.path()).unwrap(), open(dir.path()).unwrap());
        one.append(row("a", "1")).unwrap();
        other.append(row("b", "2")).unwrap();
        one.append(row("a", "3")).unwrap();
        assert_eq!(other.undo("a").unwrap().unwrap().id, "3");
        assert_eq!(one.rows().unwrap(), [row("a", "1"), row("b", "2")]);
        assert!(one.undo("nobody").unwrap().is_none());
        one.undo("a").unwrap();
        one.undo("b").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(RATINGS)).unwrap(), "rater,id,strategy,rating,reason,at\n");
        other.append(row("b", "4")).unwrap();
        assert_eq!(one.rows().unwrap(), [row("b", "4")]);
    }

    #[test]
    fn foreign_and_damaged_tables_are_refused_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RATINGS);
        let header = "rater,id,strategy,rating,reason,at\n";
        let cases = [
            ("id,note\n1,x\n".to_string(), "line 1: the columns are not rater,id,strategy,rating,reason,at"),
            (format!("{header}a,b\na,1,ink,success,,t\n"), "line 2: 2 fields where the header has 6"),
            (format!("{header}a,1,ink,good,,t\n"), "row 1: rating \"good\""),
        ];
        for (text, expected) in cases {
            fs::write(&path, &text).unwrap();
            let error = format!("{:#}", open(dir.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(open(dir.path()).and_then(|mut ledger| ledger.append(row("a", "1"))).is_err());
        assert!(!elsewhere.exists());
    }
}
