//! Runs notebooks with nbconvert from PyPI, which is fetched once into `target/tmp/notebook-python`.
//! `NOTEBOOK_PYTHON=/path/to/python` names one that has all of `requirements.txt` instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of the packages; pip writes it beside its place, so that it is there whole or not at all.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("notebook-python");
        if !place.is_dir() {
            let fetched = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let list = Path::new(ROOT).join("tests/notebook_python/requirements.txt");
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
            let output = pip.arg(fetched.path()).arg("--requirement").arg(list).output().expect("python3 starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "pip cannot fetch nbconvert (is PyPI in reach?):\n{said}");
            // Another test may have been faster.
            if let Err(error) = std::fs::rename(fetched.keep(), &place) {
                assert!(place.is_dir(), "{error}");
            }
        }
        place
    })
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
