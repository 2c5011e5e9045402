//! Names that a server sends never lead out of the repository's own folder.

use std::collections::BTreeMap;
use std::path::Path;

use super::server::Plan;
use super::{failure, files_of, mini, pull};

/// All that was written: inside the repository's folder, and of it nothing that could be loaded.
#[track_caller]
fn assert_nothing_escaped(home: &Path) {
    for name in files_of(home).keys() {
        let ours =
            [".cache/huggingface/hub/models--owner--name/", ".cache/huggingface/hub/.locks/models--owner--name/"];
        assert!(ours.iter().any(|folder| name.starts_with(folder)), "{name} was written");
        assert!(!name.contains("/refs/"), "{name} was written");
    }
}

#[test]
fn files_that_lead_out_are_refused() {
    let outside = std::env::temp_dir().join("toolkit-hub-test-outside.json");
    for name in [
        "../x.json",
        "../../../../x.json",
        "a/../../../models--other--one/blobs/x.json",
        outside.to_str().unwrap(),
        "..\\x.json",
        "a//x.json",
        "./x.json",
        "x/..",
        "",
    ] {
        let mut files = mini("mini-blip");
        files.insert(name.to_string(), b"{}".to_vec());
        let hub = Plan::new(files).start();
        let home = tempfile::tempdir().unwrap();
        let error = failure(&mut pull(home.path(), &hub));
        assert!(error.contains(&format!("lists the file {name:?}")) && error.contains("leads out"), "{error}");
        assert!(!outside.exists());
        assert_nothing_escaped(home.path());
        assert!(hub.asked().iter().all(|asked| asked.path.contains("/revision/")), "{name}");
    }
}

#[test]
fn parts_that_lead_out_are_refused() {
    for part in ["../x", "/tmp", "..", "a/../../b"] {
        let index = serde_json::json!({
            "_class_name": "StableDiffusionPipeline",
            part: ["diffusers", "UNet2DConditionModel"],
        });
        let mut files = mini("mini-sd-v1-5");
        files.insert("model_index.json".to_string(), index.to_string().into_bytes());
        let hub = Plan::new(files).start();
        let home = tempfile::tempdir().unwrap();
        let error = failure(&mut pull(home.path(), &hub));
        assert!(error.contains(&format!("the part {part:?} is not the name of a folder")), "{error}");
        assert_nothing_escaped(home.path());
    }
}

#[test]
fn etags_that_lead_out_are_refused() {
    for etag in ["../../x", "/tmp/x", "a/b", "..", "", "../../models--other--one/blobs/x", ".hidden"] {
        for file in ["config.json", "pytorch_model.bin"] {
            let hub = Plan::new(mini("mini-blip")).etag(file, etag).start();
            let home = tempfile::tempdir().unwrap();
            let error = failure(&mut pull(home.path(), &hub));
            assert!(error.contains("cannot be the name of a file") && error.contains(file), "{error}");
            assert_nothing_escaped(home.path());
        }
    }
}

#[test]
fn commits_that_lead_out_are_refused() {
    for commit in ["../x", "/tmp/x", "", "..", "a/b"] {
        let hub = Plan::new(mini("mini-blip")).commit(commit).start();
        let home = tempfile::tempdir().unwrap();
        let error = failure(&mut pull(home.path(), &hub));
        assert!(error.contains("which is none"), "{error}");
        assert_nothing_escaped(home.path());
    }
}

#[test]
fn shards_that_lead_out_are_refused() {
    let mut files = mini("mini-blip");
    files.remove("pytorch_model.bin");
    let index = r#"{"weight_map": {"a": "../../../x.safetensors"}}"#;
    files.insert("model.safetensors.index.json".to_string(), index.as_bytes().to_vec());
    let hub = Plan::new(files).start();
    let home = tempfile::tempdir().unwrap();
    let error = failure(&mut pull(home.path(), &hub));
    assert!(error.contains("is not the name of a file beside it"), "{error}");
}

#[test]
fn a_list_that_is_none_is_said() {
    let hub = Plan::new(BTreeMap::new()).siblings(&[]).start();
    let home = tempfile::tempdir().unwrap();
    let error = failure(&mut pull(home.path(), &hub));
    assert!(error.contains("has no model_index.json"), "{error}");
}
