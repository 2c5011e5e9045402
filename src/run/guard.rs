//! Who may write to a run folder, and that nothing in it leads out of it: a folder that was received from elsewhere
//! must not make this program read, change or remove a file outside.

use std::fs::{self, DirEntry, File, FileType, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::error::usage;
use crate::runtime::UNFINISHED;

const LOCK: &str = ".lock";

/// What this program writes into a run folder, at its top. What else lies there is no concern of it.
pub const PLACES: [&str; 21] = [
    LOCK,
    "captions.csv",
    "comparisons.csv",
    "config.toml",
    "drawn",
    "effects.csv",
    "features",
    "gallery",
    "images",
    "items.csv",
    "manifest.json",
    "photos",
    "pictures",
    "plots",
    "ratings.csv",
    "references",
    "report.html",
    "results.csv",
    "slurm",
    "view",
    "votes.csv",
];

/// A folder that gets a lock within this time of being made is not taken for one that was left behind.
const MOMENT: Duration = Duration::from_secs(60);

/// Refuses a run folder in which one of the program's own places, or anything below one, is a link or a device. A
/// folder that is not there has none.
///
/// # Errors
/// Wrong usage that names what was found; a folder that cannot be listed.
pub fn check(dir: &Path) -> Result<()> {
    walk(dir, |path, kind| {
        if kind.is_file() || kind.is_dir() {
            return Ok(());
        }
        let what = if kind.is_symlink() { "a link" } else { "neither a file nor a folder" };
        Err(usage(format!(
            "{} is {what}: nothing of a run folder may lead out of it; put what it stands for in its place, or remove it",
            path.display()
        )))
    })
}

/// How often a lock that is held is tried again, and after how long.
const ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// Makes this process the only one that writes to the folder, for as long as what it gets is kept. None where another
/// process holds it.
pub fn hold(dir: &Path) -> Result<Option<File>> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    // Whatever lies there keeps its content, and a link is not followed.
    options.read(true).write(true).create(true).truncate(false).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let lock = options.open(&path).with_context(|| format!("cannot write into the run folder {}", dir.display()))?;
    for attempt in 0.. {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            // A process that another thread starts has this one's files until it runs its program: a lock that was given up
            // may be held for that moment.
            Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => std::thread::sleep(BETWEEN_ATTEMPTS),
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    Ok(None)
}

/// Removes the unfinished files of a process that was killed. Only for who holds the folder.
pub fn tidy(dir: &Path) -> Result<()> {
    let remove = |path: &Path, kind: FileType| {
        if kind.is_file() && is_unfinished(path) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    };
    list(dir)?.iter().try_for_each(|(path, kind)| remove(path, *kind))?;
    walk(dir, remove)
}

/// Holds the folder and tidies it, unless another process is at work there.
pub fn hold_tidied(dir: &Path) -> Result<Option<File>> {
    let held = hold(dir)?;
    if held.is_some() {
        tidy(dir)?;
    }
    Ok(held)
}

/// Removes the folders that processes which were killed had begun in `parent`; those that are still worked on stay.
pub fn remove_abandoned(parent: &Path) -> Result<()> {
    for (path, _) in list(parent)?.into_iter().filter(|(path, kind)| kind.is_dir() && is_unfinished(path)) {
        let age = || fs::symlink_metadata(&path).ok()?.modified().ok()?.elapsed().ok();
        let just_made = !path.join(LOCK).exists() && age().is_none_or(|age| age < MOMENT);
        // What cannot be locked is not ours to remove.
        let Ok(Some(_held)) = (if just_made { Ok(None) } else { hold(&path) }) else { continue };
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        tracing::info!("removed {}, which a process that was killed had left", path.display());
    }
    Ok(())
}

/// The file that `relative` names inside the run folder.
///
/// # Errors
/// A name that leads out of it: an absolute one, one with `..`, one that goes through a link.
pub fn inside(dir: &Path, relative: &str) -> Result<PathBuf> {
    let mut path = dir.to_path_buf();
    for part in Path::new(relative).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            _ => bail!("{relative}: not inside the run folder"),
        }
        if path.is_symlink() {
            bail!("{relative}: not inside the run folder, but a link");
        }
    }
    Ok(path)
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
}

/// What is in a folder, with its kind: that of a link is its own.
fn list(dir: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let entry = |entry: DirEntry| Ok((entry.path(), entry.file_type()?));
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|found| entry(found?)).collect());
    entries.with_context(|| format!("cannot list {}", dir.display()))
}

/// Shows `see` each of [`PLACES`] that is there and everything below, without following a link.
fn walk(dir: &Path, see: impl Fn(&Path, FileType) -> Result<()>) -> Result<()> {
    let mut folders = Vec::new();
    for place in PLACES {
        let path = dir.join(place);
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        };
        see(&path, kind)?;
        folders.extend(kind.is_dir().then_some(path));
    }
    while let Some(folder) = folders.pop() {
        for (path, kind) in list(&folder)? {
            see(&path, kind)?;
            folders.extend(kind.is_dir().then_some(path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder `run` and, beside it, a file that must stay as it is.
    fn run_and_victim() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (run, victim) = (dir.path().join("run"), dir.path().join("victim"));
        fs::create_dir_all(run.join("images/ink")).unwrap();
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join(".writing-mine"), "precious").unwrap();
        (dir, run, victim)
    }

    #[test]
    fn a_lock_that_is_given_up_at_once_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(dir.path()).unwrap().expect("nobody has it");
        let releases = std::thread::spawn(move || {
            std::thread::sleep(2 * BETWEEN_ATTEMPTS);
            drop(held);
        });
        let taken = hold(dir.path()).unwrap();
        releases.join().unwrap();
        assert!(taken.is_some());
        assert!(hold(dir.path()).unwrap().is_none(), "it is held for good now");
    }

    #[test]
    fn links_in_its_own_places_are_refused_wherever_they_are() {
        let (_dir, run, victim) = run_and_victim();
        check(&run).unwrap();
        check(&run.join("not/there")).unwrap();
        symlink(&victim, run.join("notes")).unwrap();
        check(&run).unwrap();
        for place in [".lock", "plots", "report.html", "images/ink/a.png", "images/oil"] {
            symlink(&victim, run.join(place)).unwrap();
            let error = check(&run).unwrap_err();
            assert!(error.downcast_ref::<crate::error::UsageError>().is_some());
            assert!(error.to_string().contains(&format!("{place} is a link")), "{error}");
            fs::remove_file(run.join(place)).unwrap();
        }
    }

    #[test]
    fn tidying_and_locking_follow_no_link() {
        let (_dir, run, victim) = run_and_victim();
        symlink(&victim, run.join("plots")).unwrap();
        symlink(&victim, run.join("images/oil")).unwrap();
        symlink(victim.join(".writing-mine"), run.join(".lock")).unwrap();
        for place in [".writing-a", "images/.writing-b", "images/ink/.writing-c"] {
            fs::write(run.join(place), "half").unwrap();
        }
        tidy(&run).unwrap();
        assert!(hold(&run).is_err());
        assert_eq!(fs::read_to_string(victim.join(".writing-mine")).unwrap(), "precious");
        assert_eq!(fs::read_dir(run.join("images/ink")).unwrap().count(), 0);
        assert!(!run.join(".writing-a").exists() && !run.join("images/.writing-b").exists());
    }

    #[test]
    fn one_process_holds_a_folder_and_its_lock_keeps_its_content() {
        let (_dir, run, _victim) = run_and_victim();
        fs::write(run.join(".lock"), "text").unwrap();
        let held = hold(&run).unwrap();
        assert!(held.is_some() && hold(&run).unwrap().is_none());
        drop(held);
        assert!(hold(&run).unwrap().is_some());
        assert_eq!(fs::read_to_string(run.join(".lock")).unwrap(), "text");
    }

    #[test]
    fn only_abandoned_folders_are_removed() {
        let (dir, run, victim) = run_and_victim();
        let parent = dir.path();
        for name in [".writing-dead", ".writing-alive", ".writing-new"] {
            fs::create_dir(parent.join(name)).unwrap();
        }
        symlink(&victim, parent.join(".writing-link")).unwrap();
        fs::write(parent.join(".writing-file"), "of another").unwrap();
        drop(hold(&parent.join(".writing-dead")).unwrap());
        let alive = hold(&parent.join(".writing-alive")).unwrap();
        remove_abandoned(parent).unwrap();
        assert!(!parent.join(".writing-dead").exists());
        for name in [".writing-alive", ".writing-new", ".writing-link", ".writing-file"] {
            assert!(parent.join(name).exists(), "{name}");
        }
        drop(alive);
        remove_abandoned(parent).unwrap();
        assert!(!parent.join(".writing-alive").exists() && run.exists() && victim.join(".writing-mine").exists());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let (_dir, run, victim) = run_and_victim();
        symlink(&victim, run.join("images/oil")).unwrap();
        assert_eq!(inside(&run, "./images/ink/a.png").unwrap(), run.join("images/ink/a.png"));
        for name in ["../victim/.writing-mine", "images/../../x", "/etc/passwd", "images/oil/.writing-mine"] {
            assert!(inside(&run, name).is_err(), "{name}");
        }
    }
}
