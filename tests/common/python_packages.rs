//! Packages from PyPI for tests that ask Python, fetched once into `target/tmp`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder `name` of these requirements (a file below the repository); pip writes it beside its
/// place, so that it is there whole or not at all.
pub fn folder(name: &str, requirements: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !place.is_dir() {
        let fetched = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements);
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        let output = pip.arg(fetched.path()).arg("--requirement").arg(list).output().expect("python3 starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pip cannot fetch {requirements} (is PyPI in reach?):\n{said}");
        // Another test may have been faster.
        if let Err(error) = std::fs::rename(fetched.keep(), &place) {
            assert!(place.is_dir(), "{error}");
        }
    }
    place
}
