//! What can be known before a run: `experiment --dry-run`, `experiment --keys`, `init`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;
use toolkit::experiment::built_in;

/// Runs without a network, with empty caches; gives exit status, stdout and stderr.
fn run(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let cache = folder.join("nothing");
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.args(arguments).current_dir(folder).env_remove("TOOLKIT_HOME").env_remove("HF_HUB_OFFLINE");
    command.env("HF_HOME", &cache).env("TORCH_HOME", &cache).env("HF_ENDPOINT", "http://127.0.0.1:9");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_dry_run_says_what_would_run_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (status, stdout, stderr) = run(&["experiment", "style_ablation", "--dry-run", "--format", "json"], dir.path());
    assert!(start.elapsed() < Duration::from_secs(20), "it loads models: {:?}", start.elapsed());
    assert_eq!((status, stderr.as_str()), (0, ""));
    let plan: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(plan["strategies"], serde_json::json!(["peanuts", "peanuts_detailed", "wrong_style"]));
    assert_eq!((&plan["photos"], &plan["items"], &plan["items_are"]), (&32.into(), &96.into(), &"pictures".into()));
    assert_eq!((&plan["state"], &plan["out"]), (&"new".into(), &"runs/style_ablation".into()));
    assert_eq!((&plan["download_bytes"], &plan["data"][1]["pictures"]), (&0.into(), &64.into()));
    let models = plan["models"].as_array().unwrap();
    assert!(models.iter().all(|model| model["found"] == true && model["bytes"].as_u64() > Some(1000)), "{models:?}");
    assert!(models.iter().any(|model| model["name"] == "mini-sd3" && model["role"] == "generator"), "{models:?}");
    // A picture of 224 x 224 as it is compared, and what else is kept of it.
    assert!(plan["disk_bytes"].as_u64() > Some(128 * 3 * 224 * 224) && plan["disk_free_bytes"].as_u64() > Some(0));
    let metrics = plan["metrics"].as_array().unwrap();
    assert!(["artfid", "fid", "lpips"].iter().all(|name| metrics.contains(&(*name).into())), "{metrics:?}");
    assert_eq!(count(dir.path()), 0, "nothing is written");
}

#[test]
fn a_dry_run_names_missing_models_with_their_size_and_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    for (experiment, model, size) in
        [("style_ablation", "sd3-medium", "15.50 GB"), ("caption_benchmark", "blip-base", "990.00 MB")]
    {
        let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini/photos").display().to_string();
        let set = format!("photos={photos}");
        let (status, stdout, stderr) =
            run(&["experiment", experiment, "--profile", "full", "--dry-run", "--set", &set], dir.path());
        assert_eq!(status, 0, "{stderr}");
        let line = stdout.lines().find(|line| line.contains(&format!(" {model}: "))).unwrap_or(&stdout);
        let expected = format!("missing: about {size} to download (toolkit models pull {model})");
        assert!(line.ends_with(&expected), "{line}");
        assert!(stderr.lines().count() == 1 && stderr.contains("is not checked"), "{stderr}");
    }
    let sets = ["experiment", "style_ablation", "--dry-run", "--set", "generator=owner/unheard-of"];
    let (status, stdout, _) = run(&sets, dir.path());
    assert!(status == 0 && stdout.contains("owner/unheard-of: missing: to be downloaded, its size is not known"));
    assert!(stdout.contains("of unknown size"), "{stdout}");
    let control =
        ["control={ none = '', lines = 'lineart:0.5' }", "controlnet=owner/control-net", "generator=mini-sd-v1-5"];
    let sets = control.iter().flat_map(|set| ["--set", set]);
    let (status, stdout, stderr) =
        run(&["experiment", "style_ablation", "--dry-run"].into_iter().chain(sets).collect::<Vec<_>>(), dir.path());
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("owner/control-net: missing: to be downloaded"), "{stdout}");
    assert!(stdout.contains("peanuts__control-none, peanuts__control-lines"), "{stdout}");
    assert_eq!(count(dir.path()), 0, "nothing is written");
}

#[test]
fn a_dry_run_refuses_what_a_run_refuses() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("other")).unwrap();
    let text = toolkit_config("style_ablation").replace("comparison_size = 224", "comparison_size = 100");
    fs::write(dir.path().join("other/config.toml"), text).unwrap();
    for (arguments, expected) in [
        (&["--set", "photos=not/there"][..], "not/there"),
        (&["--set", "generator=mini-blip"], "it does not draw pictures"),
        (&["--set", "generator=mini-sdd3"], "did you mean \"mini-sd3\"?"),
        (&["--set", "width=100"], "width 100 cannot be drawn"),
        (&["--set", "control=canny", "--set", "controlnet=nets/canny.pth"], "nets/canny.pth: no such ControlNet"),
        (&["--out", "other"], "holds another run: comparison_size is 100 there and 224 here"),
        (&["--format", "csv"], "--dry-run prints text or json"),
    ] {
        let all = [&["experiment", "style_ablation", "--dry-run"], arguments].concat();
        let (status, stdout, stderr) = run(&all, dir.path());
        assert_eq!((status, stderr.lines().count(), stdout.as_str()), (2, 1, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// The resolved configuration of a built-in experiment.
fn toolkit_config(name: &str) -> String {
    use toolkit::experiment::settings::Settings;
    let file = toolkit::experiment::find(name).unwrap();
    toml::to_string(&toolkit::experiment::Config::load(&file, "mini", &[]).unwrap()).unwrap()
}

#[test]
fn keys_are_a_table_and_a_schema() {
    let dir = tempfile::tempdir().unwrap();
    let (status, stdout, _) = run(&["experiment", "--keys"], dir.path());
    assert_eq!(status, 0);
    let line = |start: &str| stdout.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_default();
    assert!(line("photos ").contains("text, required") && line("photos ").ends_with("The folder of photos."));
    assert!(line("comparison_size ").contains("whole number = 224"), "{stdout}");
    assert!(line("strength ").contains("\"none\""), "{stdout}");
    let (status, stdout, _) = run(&["experiment", "--keys", "--format", "csv"], dir.path());
    assert_eq!((status, stdout.lines().next()), (0, Some("kind,key,form,default,required,meaning")));
    let (status, stdout, _) = run(&["experiment", "--keys", "--format", "json"], dir.path());
    let schema: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &schema["$schema"]), (0, &"http://json-schema.org/draft-07/schema#".into()));
    let style = &schema["oneOf"][0];
    assert_eq!(style["properties"]["kind"]["const"], "style_transfer");
    for place in [&style["properties"], &style["properties"]["profiles"]["additionalProperties"]["properties"]] {
        let schedulers = &place["scheduler"]["anyOf"][0]["enum"];
        assert!(schedulers.as_array().unwrap().contains(&"ddim".into()), "{place}");
    }
}

#[test]
fn a_new_file_runs_and_says_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut from: Vec<String> = built_in().unwrap().into_iter().map(|found| found.name).collect();
    from.extend(["style_transfer".to_string(), "caption".to_string()]);
    for (at, from) in from.iter().enumerate() {
        let name = format!("my study {at}");
        let file = format!("{name}.toml");
        let (status, stdout, stderr) = run(&["init", &file, "--from", from], dir.path());
        assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, format!("{file}\n").as_str(), ""));
        let text = fs::read_to_string(dir.path().join(&file)).unwrap();
        let (status, stdout, stderr) = run(&["experiment", &file, "--dry-run"], dir.path());
        assert_eq!(status, 0, "{from}: {stderr}");
        assert!(stdout.contains(&format!("{name}, profile mini")), "{stdout}");
        assert!(text.contains("# num_beams = 1\n") && text.contains("--dry-run"), "{text}");
        // What is a comment is a key: the schema knows it.
        let keys = toolkit::experiment::keys::keys();
        let commented = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = ")).map(|(key, _)| key);
        let unknown: Vec<&str> = commented.filter(|key| keys.iter().all(|row| row.key != *key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let before = fs::read(dir.path().join(&file)).unwrap();
        let (status, _, stderr) = run(&["init", &file, "--from", from], dir.path());
        assert!(status == 2 && stderr.contains("is there already"), "{stderr}");
        assert_eq!(fs::read(dir.path().join(&file)).unwrap(), before);
    }
}

#[test]
fn init_says_what_it_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, status, expected) in [
        (&["init", "my.txt"][..], 2, "an experiment's file ends in .toml"),
        (&["init", "my.toml", "--from", "style_ablatoin"], 2, "did you mean \"style_ablation\"?"),
        (&["init", ".hidden.toml"], 2, "cannot be the name of a folder"),
        (&["init", "no/where/my.toml"], 1, "cannot write into no/where"),
    ] {
        let (code, _, stderr) = run(arguments, dir.path());
        assert_eq!((code, stderr.lines().count()), (status, 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    assert_eq!(count(dir.path()), 0);
}
