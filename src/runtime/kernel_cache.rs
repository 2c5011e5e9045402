//! Compiled kernels on disk, so that a process does not compile again what an earlier one has: a second or two of a start.
//!
//! A file each, `KEY.kernels` in the user's cache folder, where KEY is a digest of all that decides how it comes out. It is
//! written whole or not at all, and read only with the sum that it carries. Nothing depends on it: what cannot be read,
//! written or loaded is compiled, and said with `-v` alone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::files::{UNFINISHED, write_whole};
use super::home::cache_folder;

/// How the content of a file begins; another form begins otherwise.
const MAGIC: &[u8] = b"toolkit kernels 1\n";
const ENDING: &str = "kernels";
const SUM: usize = 32;
/// Bytes of all files together; those that were not used for longest go. A source takes about 150 KB.
const MOST_BYTES: u64 = 64 << 20;
/// How old the time of a file's last use may become before it is written again.
const NOTED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After so long nobody writes an unfinished file any more.
const GIVEN_UP: Duration = Duration::from_secs(3600);

/// What compiled kernels are found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// Of all that decides what the compiler makes, in a fixed order: source, options, device, compiler, driver.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // With its length: no two lists of parts are one text.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self(format!("{:x}", digest.finalize()))
    }
}

/// A folder of compiled kernels.
#[derive(Debug)]
pub(super) struct KernelCache {
    /// None: everything is compiled.
    folder: Option<PathBuf>,
    most_bytes: u64,
}

impl KernelCache {
    /// The one of this user.
    pub fn of_user() -> Self {
        Self { folder: cache_folder().map(|folder| folder.join("kernels")), most_bytes: MOST_BYTES }
    }

    /// What `load` makes of the kernels with this key: of those that are kept, or else of what `compile` gives, which is then
    /// kept. `name` is for the log.
    ///
    /// # Errors
    /// Of `compile`, and of `load` with what was compiled.
    pub fn load<T>(
        &self,
        name: &str,
        key: &Key,
        load: impl Fn(&[u8]) -> Result<T>,
        compile: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<T> {
        let path = self.folder.as_ref().map(|folder| folder.join(&key.0).with_extension(ENDING));
        if let Some(path) = &path {
            match read(path).and_then(|kept| kept.map(|binary| load(&binary)).transpose()) {
                Ok(Some(loaded)) => return Ok(loaded),
                Ok(None) => {}
                Err(error) => tracing::debug!("{}: compiled again: {error:#}", path.display()),
            }
        }
        let began = Instant::now();
        let binary = compile()?;
        tracing::debug!("{:.2} s to compile the kernels of {name}", began.elapsed().as_secs_f64());
        let loaded = load(&binary)?;
        if let Some(path) = &path {
            let kept = keep(path, &binary).and_then(|()| self.trim(path));
            let _ = kept.inspect_err(|error| tracing::debug!("compiled kernels are not kept: {error:#}"));
        }
        Ok(loaded)
    }

    /// Removes what was not used for longest until the rest is small enough, and what a process that was killed left. Others
    /// may do the same meanwhile.
    fn trim(&self, newest: &Path) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut kept = Vec::new();
        let list = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        // What has just gone has no size any more.
        for (path, file) in list.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
            let used = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if path.extension().is_some_and(|ending| ending == ENDING) {
                kept.push((
                    path != newest,
                    SystemTime::now().duration_since(used).unwrap_or_default(),
                    file.len(),
                    path,
                ));
            } else if is_left_over(&path, used) {
                let _ = fs::remove_file(path);
            }
        }
        kept.sort();
        let mut bytes = 0;
        for (is_older, _, size, path) in kept {
            bytes += size;
            if is_older && bytes > self.most_bytes {
                // Another process may have been faster.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

fn is_left_over(path: &Path, written: SystemTime) -> bool {
    let is_unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
    is_unfinished && written.elapsed().is_ok_and(|age| age > GIVEN_UP)
}

/// What is kept there; None where there is nothing.
///
/// # Errors
/// When it cannot be read, or is not what was written.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some((sum, binary)) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(SUM)) else {
        bail!("not a file of compiled kernels");
    };
    if *sum != *Sha256::digest(binary) {
        bail!("its sum is another one");
    }
    note_use(path);
    Ok(Some(binary.to_vec()))
}

/// The time of a file is that of its last use. It says no more than what to remove first, so that nothing is said where it
/// cannot be written.
fn note_use(path: &Path) {
    let note = || -> std::io::Result<()> {
        let file = File::open(path)?;
        match file.metadata()?.modified()?.elapsed() {
            Ok(age) if age < NOTED_EVERY => Ok(()),
            _ => file.set_modified(SystemTime::now()),
        }
    };
    let _ = note();
}

fn keep(path: &Path, binary: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_whole(path, |file| {
        [MAGIC, &Sha256::digest(binary), binary].iter().try_for_each(|part| file.write_all(part))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache_in(folder: &Path, most_bytes: u64) -> KernelCache {
        KernelCache { folder: Some(folder.to_path_buf()), most_bytes }
    }

    /// What the cache gives, and whether it was compiled; kernels that begin with `?` cannot be loaded.
    fn found(cache: &KernelCache, key: &str, compiled: &[u8]) -> (Vec<u8>, bool) {
        let was_compiled = Cell::new(false);
        let load = |binary: &[u8]| match binary {
            [b'?', ..] => bail!("the driver refuses it"),
            _ => Ok(binary.to_vec()),
        };
        let compile = || {
            was_compiled.set(true);
            Ok(compiled.to_vec())
        };
        (cache.load("kernels", &Key::of([key]), load, compile).unwrap(), was_compiled.get())
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn path_of(folder: &Path, key: &str) -> PathBuf {
        folder.join(Key::of([key]).0).with_extension(ENDING)
    }

    fn age(path: &Path, age: Duration) {
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn keys_know_every_part_and_where_it_ends() {
        let keys = [
            Key::of(["source", "-DBF16", "sm_90"]),
            Key::of(["source", "-DF16", "sm_90"]),
            Key::of(["source", "-DBF16", "sm_100"]),
            Key::of(["source-DBF16", "sm_90"]),
            Key::of(["source", "-DBF16sm_90"]),
            Key::of(["-DBF16", "source", "sm_90"]),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key), "{i}");
        }
        assert_eq!(Key::of(["source", "-DBF16", "sm_90"]), keys[0]);
    }

    #[test]
    fn what_was_compiled_once_is_found_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("not/there/yet");
        assert_eq!(found(&cache_in(&folder, 1 << 20), "a", b"one"), (b"one".to_vec(), true));
        assert_eq!(found(&cache_in(&folder, 1 << 20), "a", b"two"), (b"one".to_vec(), false));
        assert_eq!(found(&cache_in(&folder, 1 << 20), "b", b"two"), (b"two".to_vec(), true));
        assert_eq!(names(&folder).len(), 2, "and nothing unfinished");
    }

    #[test]
    fn a_damaged_file_is_compiled_again_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (cache_in(dir.path(), 1 << 20), path_of(dir.path(), "a"));
        found(&cache, "a", b"one");
        let whole = fs::read(&path).unwrap();
        let flipped: Vec<u8> = [&whole[..whole.len() - 1], b"X"].concat();
        for damaged in [&b""[..], &whole[..MAGIC.len() + 3], &whole[..whole.len() - 1], &flipped, b"something else"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(found(&cache, "a", b"one"), (b"one".to_vec(), true));
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn what_the_driver_refuses_is_compiled_again_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        keep(&path_of(dir.path(), "a"), b"?of another driver").unwrap();
        let cache = cache_in(dir.path(), 1 << 20);
        assert_eq!(found(&cache, "a", b"one"), (b"one".to_vec(), true));
        assert_eq!(found(&cache, "a", b"two"), (b"one".to_vec(), false));
    }

    #[test]
    fn an_error_of_the_compiler_is_told_and_nothing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache_in(dir.path(), 1 << 20);
        let failed = cache.load("a", &Key::of(["a"]), |_| Ok(()), || bail!("expected a `;`")).unwrap_err();
        assert_eq!(failed.to_string(), "expected a `;`");
        let refused = cache.load("a", &Key::of(["a"]), |_| -> Result<()> { bail!("no") }, || Ok(vec![1])).unwrap_err();
        assert_eq!(refused.to_string(), "no");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "in the way").unwrap();
        assert_eq!(found(&cache_in(&file.join("kernels"), 1 << 20), "a", b"one"), (b"one".to_vec(), true));
        assert_eq!(found(&KernelCache { folder: None, most_bytes: 0 }, "a", b"one"), (b"one".to_vec(), true));
        // The superuser may write anywhere, and then it is kept.
        let folder = dir.path().join("read-only");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
        assert_eq!(found(&cache_in(&folder, 1 << 20), "a", b"one"), (b"one".to_vec(), true));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(names(&folder).iter().all(|name| name.ends_with(ENDING)), "{:?}", names(&folder));
        // In the place of a file there is a folder.
        fs::create_dir_all(path_of(dir.path(), "a")).unwrap();
        assert_eq!(found(&cache_in(dir.path(), 1 << 20), "a", b"one"), (b"one".to_vec(), true));
    }

    #[test]
    fn writers_at_once_leave_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let folder = dir.path();
                scope.spawn(move || {
                    for round in 0..25 {
                        let key = (round % 5).to_string();
                        let content = key.repeat(5000).into_bytes();
                        // Each has a cache that is too small for all, so that files go while others read them.
                        assert_eq!(found(&cache_in(folder, 12_000), &key, &content).0, content);
                    }
                });
            }
        });
        assert!(names(dir.path()).iter().all(|name| name.ends_with(ENDING)), "{:?}", names(dir.path()));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache_in(dir.path(), 3 * (MAGIC.len() + SUM + 100) as u64);
        let content = [7; 100];
        for (days, key) in [(30, "a"), (20, "b"), (10, "c")] {
            found(&cache, key, &content);
            age(&path_of(dir.path(), key), Duration::from_secs(days * 24 * 3600));
        }
        let left_over = dir.path().join(format!("{UNFINISHED}abc"));
        let (being_written, other) = (dir.path().join(format!("{UNFINISHED}def")), dir.path().join("notes.txt"));
        for path in [&left_over, &being_written, &other] {
            fs::write(path, "x").unwrap();
        }
        age(&left_over, 2 * GIVEN_UP);
        age(&other, 2 * GIVEN_UP);
        assert!(!found(&cache, "a", &content).1, "the oldest is used");
        assert!(found(&cache, "d", &content).1);
        for (key, stays) in [("a", true), ("b", false), ("c", true), ("d", true)] {
            assert_eq!(path_of(dir.path(), key).exists(), stays, "{key}");
        }
        assert_eq!([&left_over, &being_written, &other].map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn one_that_is_larger_than_all_may_be_is_kept_alone() {
        let dir = tempfile::tempdir().unwrap();
        found(&cache_in(dir.path(), 1 << 20), "a", b"one");
        assert!(found(&cache_in(dir.path(), 10), "b", &[7; 1000]).1);
        assert_eq!(names(dir.path()).len(), 1);
        assert!(!found(&cache_in(dir.path(), 10), "b", b"").1);
    }
}
