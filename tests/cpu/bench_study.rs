//! `toolkit bench study` with the embedded models.

use assert_cmd::Command;
use image::{Rgb, RgbImage};
use serde_json::Value;

fn bench(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("toolkit").unwrap().args(["--device", "cpu", "bench"]).args(arguments).assert()
}

#[test]
fn a_whole_study_is_told_phase_by_phase() {
    let dir = tempfile::tempdir().unwrap();
    let styles = dir.path().join("styles");
    std::fs::create_dir(&styles).unwrap();
    for at in 0..3 {
        RgbImage::from_pixel(96, 96, Rgb([at * 90; 3])).save(styles.join(format!("{at}.png"))).unwrap();
    }
    let (out, styles) = (dir.path().join("run"), format!("style_pictures={}", styles.display()));
    let asked =
        ["study", "--profile", "mini", "--photos", "2", "--styles", "2", "--steps", "1", "--max-new-tokens", "3"];
    let kept = ["--set", &styles, "--set", "metrics=[\"artfid\", \"clip_text\"]", "--out", out.to_str().unwrap()];
    let output = bench(&[&asked[..], &kept].concat()).success().get_output().stdout.clone();
    let study: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!((&study["pictures"], &study["styles"], &study["batch_size"]), (&4.into(), &2.into(), &1.into()));
    let phases = study["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    let expected = [
        "starting",
        "checking",
        "metric networks",
        "style pictures",
        "describing",
        "drawing",
        "last pictures",
        "measuring",
        "scoring",
        "page",
        "between these",
    ];
    assert_eq!(names, expected);
    let number = |value: &Value| value.as_f64().unwrap();
    let whole = number(&study["whole_seconds"]);
    let sum = |key: &str| phases.iter().map(|phase| number(&phase[key])).sum::<f64>();
    assert!((sum("seconds") - whole).abs() < 1e-6 * whole && (sum("share") - 1.0).abs() < 1e-6, "{study}");
    assert!((number(&study["pictures_per_second"]) * whole - 4.0).abs() < 1e-6);
    // What the device does and what it waits for are told apart, and make up the phase.
    let drawing = &phases[5];
    let parts = drawing["parts"].as_object().unwrap();
    let names: Vec<&str> = parts.keys().map(String::as_str).collect();
    assert_eq!(names, ["computing", "decoding", "loading", "recording", "resizing", "the rest"]);
    assert!((parts.values().map(number).sum::<f64>() - number(&drawing["seconds"])).abs() < 1e-6, "{drawing}");
    assert!(number(&parts["computing"]) > 0.0 && number(&parts["loading"]) > 0.0);
    assert!(drawing["device_busy"].is_null(), "a CPU tells nothing of it");
    // The same run as `experiment` leaves.
    for file in ["config.toml", "manifest.json", "items.csv", "results.csv", "report.html", "images/style1/000001.png"]
    {
        assert!(out.join(file).is_file(), "{file}");
    }
    bench(&[&asked[..], &kept].concat()).code(2).stderr(predicates::str::contains("there is something in it"));
}

#[test]
fn what_a_study_cannot_do_is_said_at_once() {
    for (arguments, text) in [
        (&["study", "--pictures", "3"][..], "are not for study (--photos N"),
        (&["study", "--photos", "0"][..], "--photos and --styles must be at least 1"),
        (&["study", "--weights", "/nowhere/at/all"][..], "--weights /nowhere/at/all: no such folder"),
        (&["study", "--profile", "mini", "--set", "stepps=3"][..], "stepps"),
        (&["artfid", "--random-weights", "--photos", "3"][..], "are for study"),
        (&["study", "--random-weights", "--set", "generator=blip-base"][..], "blip-base does not draw pictures"),
        (&["study", "--random-weights", "--profile", "mini"][..], "cannot be used with"),
    ] {
        bench(arguments).code(2).stderr(predicates::str::contains(text));
    }
}
