//! Runs notebooks with nbconvert from PyPI, which is fetched once into `target/tmp/notebook-python`.
//! `NOTEBOOK_PYTHON=/path/to/python` names one that has all of `requirements.txt` instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::python_packages;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| python_packages::folder("notebook-python", "tests/notebook_python/requirements.txt"))
}

/// Runs a notebook where it lies: what it gives must be what it stores (see tests/reference/notebook.py).
pub fn runs_and_gives_what_it_stores(file: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let mut python = match std::env::var_os("NOTEBOOK_PYTHON") {
        Some(python) => Command::new(python),
        None => {
            let mut python = Command::new("python3");
            python.env("PYTHONPATH", packages()).env("JUPYTER_PATH", packages().join("share/jupyter"));
            python
        }
    };
    for folder in ["JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"] {
        python.env(folder, scratch.path().join(folder));
    }
    let output = python.arg(Path::new(ROOT).join("tests/reference/notebook.py")).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}", file.display());
}
