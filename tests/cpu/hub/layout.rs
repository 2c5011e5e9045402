//! What lies in the cache after a download.

use std::path::Path;
use std::process::Command;

use super::server::{COMMIT, Plan};
use super::{assert_clean, mini, output, pull, repository, root, snapshot, toolkit};
use crate::python_packages;

#[test]
fn a_hub_id_is_downloaded_once_and_found_after() {
    let mut files = mini("mini-phi-4-multimodal");
    files.insert("examples/large.bin".to_string(), vec![0; 10]);
    let hub = Plan::new(files.clone()).start();
    let home = tempfile::tempdir().unwrap();
    let snapshot = snapshot(home.path());

    let (out, error) = output(&mut pull(home.path(), &hub), 0);
    assert_eq!((out.trim(), error.as_str()), (snapshot.to_str().unwrap(), ""));
    for file in ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"] {
        assert_eq!(std::fs::read(snapshot.join(file)).unwrap(), files[file]);
    }
    assert!(!snapshot.join("README.md").exists() && !snapshot.join("examples").exists());
    assert_clean(home.path());

    // From now on the network is not needed, and not asked.
    let before = hub.asked().len();
    let (out, _) = output(&mut pull(home.path(), &hub), 0);
    assert_eq!(out.trim(), snapshot.to_str().unwrap());
    assert_eq!(hub.asked().len(), before);
    // No client either: one would miss these certificates.
    let mut path = toolkit(home.path());
    output(path.env("SSL_CERT_FILE", "/nowhere").args(["--offline", "models", "path", "owner/name"]), 0);
    output(pull(home.path(), &hub).env("SSL_CERT_FILE", "/nowhere"), 0);
    let cache = home.path().join(".cache/huggingface/hub");
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
        output(toolkit(Path::new("/")).env(name, &cache).args(["models", "path", "owner/name"]), 0);
    }
    output(toolkit(Path::new("/")).env("HF_HOME", cache.parent().unwrap()).args(["models", "path", "owner/name"]), 0);
}

#[test]
fn the_layout_is_that_of_huggingface_hub() {
    let hub = Plan::new(mini("mini-sd-v1-5")).start();
    let home = tempfile::tempdir().unwrap();
    output(&mut pull(home.path(), &hub), 0);
    let repository = repository(home.path());
    assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    for (file, up) in
        [("model_index.json", "../../"), ("unet/config.json", "../../../"), ("tokenizer/vocab.json", "../../../")]
    {
        let target = std::fs::read_link(snapshot(home.path()).join(file)).unwrap();
        let blob = target.to_str().unwrap().strip_prefix(up).and_then(|rest| rest.strip_prefix("blobs/"));
        let blob = blob.unwrap_or_else(|| panic!("{file} links to {}", target.display()));
        assert!(repository.join("blobs").join(blob).is_file() && blob.len() == 40);
    }
    let weights = std::fs::read_link(snapshot(home.path()).join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(weights.file_name().unwrap().len(), 64);
    // The whole cache may be moved.
    let moved = home.path().join("moved");
    std::fs::rename(home.path().join(".cache/huggingface/hub"), &moved).unwrap();
    output(toolkit(home.path()).env("HF_HUB_CACHE", &moved).args(["models", "path", "owner/name"]), 0);
}

/// `HUB_PYTHON=/path/to/python` names one that has huggingface_hub; else it is fetched from PyPI.
fn python() -> Command {
    match std::env::var_os("HUB_PYTHON") {
        Some(python) => Command::new(python),
        None => {
            let mut python = Command::new("python3");
            python.env("PYTHONPATH", python_packages::folder("hub-python", "tests/cpu/hub/requirements.txt"));
            python
        }
    }
}

#[test]
fn python_reads_what_is_cached_and_the_other_way_round() {
    let mut files = mini("mini-sd-v1-5");
    files.remove("README.md");
    let hub = Plan::new(files.clone()).start();
    let home = tempfile::tempdir().unwrap();
    output(&mut pull(home.path(), &hub), 0);
    let cache = home.path().join(".cache/huggingface/hub");
    let python = |mode: &str, cache: &Path| {
        let mut command = python();
        command
            .arg(root().join("tests/cpu/hub/cache.py"))
            .args([mode, "owner/name", COMMIT])
            .arg(cache)
            .args(files.keys());
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HOME", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let output = command.env("HOME", home.path()).env("HF_ENDPOINT", &hub.address).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{mode}: {said}");
    };
    python("read", &cache);
    let theirs = home.path().join("theirs");
    python("write", &theirs);
    let mut path = toolkit(home.path());
    let (out, _) = output(path.env("HF_HUB_CACHE", &theirs).args(["models", "path", "owner/name", "--offline"]), 0);
    assert!(out.trim().ends_with(COMMIT), "{out}");
}
