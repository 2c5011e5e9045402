//! Downloads: from a hub on this machine that does what the real one does, and what broken and
//! hostile ones do. What is cached must be what Python's `huggingface_hub` reads.

mod adapters;
mod broken;
mod hostile;
mod layout;
mod partial;
mod secrets;
mod server;
mod storage;
mod xet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use server::{COMMIT, Hub};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program with caches in `home` and nothing else of the environment that a download obeys.
fn toolkit(home: &Path) -> Command {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    for (name, _) in std::env::vars_os() {
        let small = name.to_string_lossy().to_ascii_lowercase();
        let ours = ["hf_", "hugging", "torch_home", "xdg_cache_home", "ssl_cert", "requests_ca", "curl_ca"]
            .iter()
            .any(|start| small.starts_with(start));
        if ours || small.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", home).env("TMPDIR", home).env("TOOLKIT_HOME", root());
    command
}

fn pull(home: &Path, hub: &Hub) -> Command {
    let mut command = toolkit(home);
    command.env("HF_ENDPOINT", &hub.address).args(["models", "pull", "owner/name"]);
    command
}

/// What is printed and said, when the program ends with this status.
#[track_caller]
fn output(command: &mut Command, status: i32) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    (out, err)
}

/// The one line that a failure says.
#[track_caller]
fn failure(command: &mut Command) -> String {
    let (_, error) = output(command, 1);
    assert_eq!(error.trim().lines().count(), 1, "{error}");
    error
}

/// The files of a folder, with `/`.
fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_string();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// An embedded model as a repository.
fn mini(name: &str) -> BTreeMap<String, Vec<u8>> {
    files_of(&root().join("experiments/mini/models").join(name))
}

fn repository(home: &Path) -> PathBuf {
    home.join(".cache/huggingface/hub/models--owner--name")
}

fn snapshot(home: &Path) -> PathBuf {
    repository(home).join("snapshots").join(COMMIT)
}

/// Nothing unfinished lies about, and every blob is what its name says.
#[track_caller]
fn assert_clean(home: &Path) {
    use sha2::{Digest, Sha256};
    for (name, bytes) in files_of(&repository(home)) {
        assert!(!name.contains(".incomplete") && !name.contains(".writing") && !name.contains(".link"), "{name}");
        if let Some(blob) = name.strip_prefix("blobs/") {
            let sha256 = format!("{:x}", Sha256::digest(&bytes));
            assert!(sha256.starts_with(blob), "{name} is {sha256}");
        }
    }
}
