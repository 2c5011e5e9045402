//! What lies where weights should be, and what becomes of it: one line that says what it is and what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use tch::{Device, Kind, Tensor};
use toolkit::checkpoints::Checkpoint;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden(name: &str) -> PathBuf {
    root().join("tests/golden/checkpoints").join(name)
}

const CUT: &str = "TOOLKIT_TEST_CUT_FILE";

/// Not a test by itself: what the next one starts.
#[test]
fn reads_a_file_that_is_cut_meanwhile() {
    let Some(file) = std::env::var_os(CUT) else { return };
    let checkpoint = Checkpoint::open(&[&file]).unwrap();
    let other = Checkpoint::open(&[golden("unaligned.safetensors")]).unwrap();
    let x = checkpoint.read("x", Device::Cpu, Kind::Float).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
    // On another thread, as libtorch's and rayon's are.
    let sum = std::thread::spawn(move || x.sum(Kind::Float).double_value(&[])).join().unwrap();
    panic!("read {sum} from a file that is gone, {other:?}");
}

#[test]
fn a_mapped_file_that_is_cut_meanwhile_ends_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    Tensor::write_safetensors(&[("x", Tensor::ones([100_000], (Kind::Float, Device::Cpu)))], &file).unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["reads_a_file_that_is_cut_meanwhile", "--nocapture"]).env(CUT, &file);
    let output = test.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{:?}: {error}", output.status);
    let line = format!("error: {}: a part of the file is gone or cannot be read any more", file.display());
    assert!(error.trim().lines().any(|found| found.starts_with(&line)), "{error}");
}

/// A bus error in memory that no checkpoint is in is none of its business: it ends the process by its signal.
#[test]
fn other_bus_errors_end_as_they_did() {
    use std::os::unix::process::ExitStatusExt;
    if let Some(path) = std::env::var_os(CUT) {
        let _open = Checkpoint::open(&[golden("unaligned.safetensors")]).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        // SAFETY: the file is cut on purpose; reading the map ends this process.
        let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
        file.set_len(0).unwrap();
        panic!("read {} from a file that is gone", map[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    std::fs::write(&file, [1; 100]).unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["other_bus_errors_end_as_they_did", "--nocapture"]).env(CUT, &file);
    let status = test.output().unwrap().status;
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
}
