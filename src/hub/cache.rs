//! The folder of one repository in the cache that Python's `huggingface_hub` keeps:
//! `refs/REVISION` names a commit, `snapshots/COMMIT/FILE` links to `blobs/ETAG`.
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::fetch::{Expected, sha256};
use crate::runtime::UNFINISHED;

/// Whether a name that a server sends may be the name of a file in the cache.
pub(super) fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(fits)
}

/// Whether a file's name, as a server lists it, stays inside its repository.
pub(super) fn stays_inside(file: &str) -> bool {
    !file.contains(['\\', '\0']) && file.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A repository's folder in the cache.
#[derive(Debug, Clone)]
pub(super) struct RepositoryFolder {
    cache: PathBuf,
    /// `models--owner--name`.
    name: String,
}

impl RepositoryFolder {
    pub fn new(cache: PathBuf, name: String) -> Self {
        Self { cache, name }
    }

    fn path(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// The snapshot that a revision names, if it is there.
    pub fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.path().join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_string(), |commit| commit.trim().to_string());
        Some(self.snapshot_of(&commit)).filter(|folder| stays_inside(&commit) && folder.is_dir())
    }

    /// Where the files of a commit are.
    pub fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    /// Writes down which commit a revision is.
    pub fn point(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let file = self.path().join("refs").join(revision);
        make_parent(&file)?;
        let staging = self.staging()?;
        let new = staging.path().join("ref");
        let written = fs::write(&new, commit).and_then(|()| fs::rename(&new, &file));
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    /// A folder for what is not whole yet, on the disk of the repository. It is beside the partial files: Python takes
    /// everything in `refs` for a revision and every link in `snapshots` for a file, so that what a killed process
    /// leaves there would make the repository a corrupted one.
    fn staging(&self) -> Result<TempDir> {
        let blobs = self.path().join("blobs");
        let made =
            fs::create_dir_all(&blobs).and_then(|()| tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&blobs));
        made.with_context(|| format!("cannot write into {} (read-only or full?)", blobs.display()))
    }

    /// Keeps other processes, also those of Python, from writing this blob until it is dropped.
    pub fn lock(&self, etag: &str) -> Result<Option<File>> {
        let path = self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => {
                tracing::debug!("waiting for another download of {etag} into {}", self.path().display());
                file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
                Ok(Some(file))
            }
            // Some shared file systems know no locks.
            Err(fs::TryLockError::Error(error)) => {
                tracing::debug!("no lock on {}: {error}", path.display());
                Ok(None)
            }
        }
    }

    /// Where a blob is written until it is whole.
    pub fn partial(&self, etag: &str) -> Result<PathBuf> {
        let path = self.path().join("blobs").join(format!("{etag}.incomplete"));
        make_parent(&path)?;
        Ok(path)
    }

    /// Whether the blob is there as it was promised. One of another length, or with `thoroughly` of
    /// another sha256, is thrown away.
    pub fn has_blob(&self, etag: &str, expected: &Expected, thoroughly: bool) -> Result<bool> {
        let blob = self.path().join("blobs").join(etag);
        let Ok(metadata) = fs::metadata(&blob) else { return Ok(false) };
        let mut right = metadata.is_file() && expected.size.is_none_or(|size| size == metadata.len());
        if let Some(promised) = expected.sha256.as_ref().filter(|_| right && thoroughly) {
            right = sha256(&blob)?.starts_with(promised);
        }
        if !right {
            tracing::warn!("{} is damaged: it is downloaded again", blob.display());
            fs::remove_file(&blob).with_context(|| format!("cannot remove the damaged {}", blob.display()))?;
        }
        Ok(right)
    }

    /// Makes a whole partial file the blob.
    pub fn publish(&self, etag: &str) -> Result<()> {
        let (partial, blob) = (self.partial(etag)?, self.path().join("blobs").join(etag));
        fs::rename(&partial, &blob).with_context(|| format!("cannot move {} to {}", partial.display(), blob.display()))
    }

    /// Puts a blob under its name into the snapshot of a commit.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        if !(is_plain(commit) && stays_inside(file) && is_plain(etag)) {
            bail!("{file:?}, {commit:?}, {etag:?}: not names of the cache");
        }
        let link = self.snapshot_of(commit).join(file);
        make_parent(&link)?;
        let up = "../".repeat(2 + file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|now| now == target) {
            return Ok(link);
        }
        let blob = self.path().join("blobs").join(etag);
        // A new one is made at once, so that a process that is killed leaves nothing behind.
        if symbolic_or_hard(&link, &target, &blob).is_err() {
            let staging = self.staging()?;
            let new = staging.path().join("link");
            let made = symbolic_or_hard(&new, &target, &blob).or_else(|_| fs::copy(&blob, &new).map(drop));
            made.and_then(|()| fs::rename(&new, &link)).with_context(|| format!("cannot write {}", link.display()))?;
        }
        Ok(link)
    }
}

/// A relative link, so that the cache may be moved; where the file system has none, a second name of the blob.
fn symbolic_or_hard(link: &Path, target: &Path, blob: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(target, link);
    #[cfg(not(unix))]
    let made: std::io::Result<()> = Err(std::io::ErrorKind::Unsupported.into());
    made.or_else(|error| {
        tracing::debug!("no link to {}: {error}", target.display());
        fs::hard_link(blob, link)
    })
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_told() {
        for name in ["a", "0f", "5-12", "abc.x_"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "a/b", ".lock", "a b", "é", "a\\b", &"x".repeat(201)] {
            assert!(!is_plain(name), "{name}");
        }
        for file in ["config.json", "a/b.txt", ".gitattributes", "a/..b", "a b"] {
            assert!(stays_inside(file), "{file}");
        }
        for file in ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", "./x", "..", "a\\..\\x", "a\0"] {
            assert!(!stays_inside(file), "{file}");
        }
    }

    #[test]
    fn at_no_moment_is_there_anything_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepositoryFolder::new(dir.path().into(), "models--o--n".into());
        let (refs, snapshot) = (folder.path().join("refs"), folder.snapshot_of("c"));
        folder.point("main", "0").unwrap();
        folder.link("c", "file", "0").unwrap();
        let names = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for step in 0..300 {
                    folder.point("main", &step.to_string()).unwrap();
                    folder.link("c", "file", &step.to_string()).unwrap();
                }
            });
            while !writer.is_finished() {
                assert_eq!(names(&refs).find(|name| name != "main"), None);
                assert_eq!(names(&snapshot).find(|name| name != "file"), None);
            }
        });
        assert_eq!(fs::read_link(snapshot.join("file")).unwrap(), Path::new("../../blobs/299"));
        assert_eq!(names(&folder.path().join("blobs")).count(), 0);
    }

    #[test]
    fn a_damaged_blob_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepositoryFolder::new(dir.path().into(), "models--o--n".into());
        let put = |bytes: &[u8]| {
            fs::write(folder.partial("e").unwrap(), bytes).unwrap();
            folder.publish("e").unwrap();
        };
        let expected =
            Expected { size: Some(3), sha256: Some(format!("{:x}", <sha2::Sha256 as sha2::Digest>::digest(b"abc"))) };
        put(b"abc");
        assert!(folder.has_blob("e", &expected, true).unwrap());
        put(b"abd");
        assert!(folder.has_blob("e", &expected, false).unwrap());
        assert!(!folder.has_blob("e", &expected, true).unwrap());
        assert!(!folder.has_blob("e", &expected, false).unwrap());
        put(b"ab");
        assert!(!folder.has_blob("e", &expected, false).unwrap());
    }
}
