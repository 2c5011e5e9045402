//! `toolkit doctor`: what is here, what is missing, and the command that mends it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// The checks that `doctor` prints, with an empty Hugging Face and torch cache.
fn doctor(home: &Path, format: &str) -> String {
    let output = Command::cargo_bin("toolkit")
        .unwrap()
        .args(["doctor", "--format", format])
        .env("HF_HOME", home)
        .env("TORCH_HOME", home)
        .env("TMPDIR", home)
        .env_remove("HF_HUB_CACHE")
        .current_dir(home)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    checks.as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn it_tells_what_is_here_and_how_to_get_the_rest() {
    let home = tempfile::tempdir().unwrap();
    let checks: Value = serde_json::from_str(&doctor(home.path(), "json")).unwrap();
    let libtorch = check(&checks, "version");
    assert_eq!(libtorch["state"], "ok");
    assert!(libtorch["value"].as_str().unwrap().starts_with("2.11.0"), "{libtorch}");
    let mini = check(&checks, "mini-sd3");
    assert_eq!(mini["state"], "ok");
    assert!(mini["value"].as_str().unwrap().ends_with("experiments/mini/models/mini-sd3"));
    let blip = check(&checks, "blip-base");
    assert_eq!((&blip["state"], &blip["remedy"]), (&"missing".into(), &"./toolkit models pull blip-base".into()));
    let disk = check(&checks, "disk for models")["value"].as_str().unwrap();
    assert!(disk.contains(home.path().to_str().unwrap()), "{disk}");
}

#[test]
fn a_model_in_the_hugging_face_cache_is_found() {
    let home = tempfile::tempdir().unwrap();
    let repo = home.path().join("hub/models--Salesforce--blip-image-captioning-base");
    let commit = "0123456789012345678901234567890123456789";
    let snapshot = repo.join("snapshots").join(commit);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), commit).unwrap();
    fs::write(snapshot.join("config.json"), r#"{"model_type": "blip"}"#).unwrap();
    fs::write(snapshot.join("pytorch_model.bin"), "").unwrap();
    // Weights alone are no model.
    let checks: Value = serde_json::from_str(&doctor(home.path(), "json")).unwrap();
    assert_eq!(check(&checks, "blip-base")["state"], "missing");
    fs::write(snapshot.join("vocab.txt"), "").unwrap();
    fs::write(snapshot.join("preprocessor_config.json"), "{}").unwrap();
    let checks: Value = serde_json::from_str(&doctor(home.path(), "json")).unwrap();
    let blip = check(&checks, "blip-base");
    assert_eq!(blip["state"], "ok", "{blip}");
    assert_eq!(blip["value"].as_str().unwrap(), snapshot.to_str().unwrap());
}

#[test]
fn text_and_csv_say_the_same() {
    let home = tempfile::tempdir().unwrap();
    let text = doctor(home.path(), "text");
    assert!(text.contains("  missing  sd3-medium "), "{text}");
    assert!(text.contains("→ ./toolkit models pull sd3-medium\n"), "{text}");
    let csv = doctor(home.path(), "csv");
    assert!(csv.starts_with("part,name,state,value,remedy\n"), "{csv}");
    assert!(csv.contains("\nmodel,sd3-medium,missing,"), "{csv}");
    assert_eq!(
        csv.lines().count(),
        1 + serde_json::from_str::<Vec<Value>>(&doctor(home.path(), "json")).unwrap().len()
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let doctor = assert_cmd::cargo::cargo_bin("toolkit");
    let mut child = std::process::Command::new(doctor)
        .arg("doctor")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
