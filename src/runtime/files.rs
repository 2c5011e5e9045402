//! Files that are whole or not there.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file beside its final place, then renames it: a reader, and a run that was killed, never
/// see half of one. The folder must exist.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        // Readable by others as far as the umask says, like any file; tempfile's own default is not.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder
        .tempfile_in(folder)
        .with_context(|| format!("cannot write into {} (missing, read-only or full?)", folder.display()))?;
    write(file.as_file_mut())?;
    file.persist(path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(())
}
