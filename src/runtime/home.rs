//! Where things are: the repository, with the built-in experiments and the embedded models and pictures, and the folder of
//! what is only kept to be faster the next time.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The root of the repository: the folder that holds `experiments/`. In this order: `TOOLKIT_HOME`,
/// the nearest folder above the executable, the folder that the program was compiled in.
pub fn home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("TOOLKIT_HOME").filter(|home| !home.is_empty()) {
        let home = PathBuf::from(home);
        if !is_home(&home) {
            bail!("TOOLKIT_HOME={}: no folder experiments/ in there", home.display());
        }
        return Ok(home);
    }
    let executable = env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR"));
    executable
        .ancestors()
        .skip(1)
        .chain([compiled_in])
        .find(|folder| is_home(folder))
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            anyhow::anyhow!(
                "the toolkit's folder experiments/ is not found: set TOOLKIT_HOME to the folder that holds it"
            )
        })
}

/// The folder of what is kept to be faster the next time, and can be removed at any time: `toolkit` in `XDG_CACHE_HOME`, else
/// in `~/.cache`. It need not be there. None where the environment names neither.
pub fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // As the convention has it, a path that is not absolute does not count.
    let cache = named("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    Some(cache.or_else(|| Some(named("HOME")?.join(".cache")))?.join("toolkit"))
}

fn is_home(folder: &Path) -> bool {
    folder.join("experiments").is_dir()
}
