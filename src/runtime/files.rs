//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// How the names of unfinished files start: a process that was killed may leave some behind.
pub const UNFINISHED: &str = ".writing-";

/// Whether a file is hidden, as its name says: what macOS, file managers and editors leave in a folder is no content of
/// it, whatever its ending.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Writes a file beside its final place, then renames it: a reader, and a run that was killed, never
/// see half of one. The folder must exist.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut file = unfinished(path)?;
    write(file.as_file_mut()).with_context(|| format!("writing {}", path.display()))?;
    // The error of `persist` itself would keep the unfinished file alive.
    file.persist(path).map_err(|failed| failed.error).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(())
}

/// Writes a new file, whole or not at all; one that is there stays as it is.
///
/// # Errors
/// When it is there, or cannot be written.
pub fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = unfinished(path)?;
    file.write_all(content).with_context(|| format!("writing {}", path.display()))?;
    let placed = file.persist_noclobber(path).map_err(|failed| failed.error);
    placed.map(drop).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether [`write_whole`] could begin, to say so before a long work: the folder is there and can be written into, and
/// `path` itself is no folder.
///
/// # Errors
/// When it could not.
pub fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        bail!("cannot write {}: it is a folder", path.display());
    }
    unfinished(path).map(drop)
}

/// A new file beside `path`, which goes away unless it is renamed.
fn unfinished(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.exists() {
        bail!("cannot write into {}: there is no such folder", folder.display());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        // Readable by others as far as the umask says, like any file; tempfile's own default is not.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).with_context(|| format!("cannot write into {} (read-only or full?)", folder.display()))
}

/// The SHA-256 of a file, in hexadecimal digits.
pub fn sha256_of(file: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let (mut input, mut hasher, mut buffer) = (File::open(file)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(format!("{:x}", hasher.finalize())),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", file.display()))
}

/// A file itself; of a folder every file in it and below, sorted, without hidden ones.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            files.extend(files_below(&entry.path())?);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("none");
        let error = check_writable(&folder.join("b.txt")).unwrap_err().to_string();
        assert_eq!(error, format!("cannot write into {}: there is no such folder", folder.display()));
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.txt");
        write_whole(&path, |file| Ok(file.write_all(b"one")?)).unwrap();
        write_whole(&path, |file| Ok(file.write_all(b"two")?)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_never_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.txt");
        write_new(&path, b"one").unwrap();
        assert!(write_new(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir_all(taken.join("inside")).unwrap();
        let error = write_whole(&taken, |file| Ok(file.write_all(b"x")?)).unwrap_err();
        assert!(format!("{error:#}").contains("taken"), "{error:#}");
        let error = write_whole(&dir.path().join("new"), |_| anyhow::bail!("no more")).unwrap_err();
        assert!(format!("{error:#}").contains("no more"), "{error:#}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
