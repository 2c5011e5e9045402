//! Files that are written whole or not at all.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts `bytes` at `path`, making its folder first. Whoever looks sees the old file or the new one,
/// never a part: the bytes go to a temporary file of the same folder, which then takes the name.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let write = || -> std::io::Result<()> {
        let mut file = temporary(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A temporary file with the permissions of any other file (tempfile's own are for its owner only).
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::write_whole;

    #[test]
    fn writes_whole_files_and_leaves_nothing_beside_them() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("new/file.csv");
        write_whole(&path, b"one")?;
        write_whole(&path, b"two")?;
        assert_eq!(std::fs::read(&path)?, b"two");
        assert_eq!(std::fs::read_dir(dir.path().join("new"))?.count(), 1);
        // A folder stands where the file should go: nothing is left behind either.
        std::fs::create_dir(dir.path().join("taken"))?;
        let error = write_whole(&dir.path().join("taken"), b"x").unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 2);
        Ok(())
    }
}
