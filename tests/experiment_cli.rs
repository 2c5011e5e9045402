//! `toolkit experiment` and `toolkit merge` as a user meets them.

use std::path::Path;

use assert_cmd::Command;

fn toolkit(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.args(arguments).current_dir(folder).env_remove("TOOLKIT_HOME").env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs, and gives exit status, stdout and stderr.
fn run(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    let output = toolkit(arguments, folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_list_names_every_experiment_and_its_question() {
    let dir = tempfile::tempdir().unwrap();
    let (status, stdout, _) = run(&["experiment", "--list"], dir.path());
    assert_eq!(status, 0);
    assert!(stdout.lines().any(|line| line.starts_with("style_ablation ") && line.ends_with('?')), "{stdout}");
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "name = 'bad'\nkind = 'style_transfer'\nphotoz = 'x'\n").unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["experiment", "style_ablatoin"], "did you mean \"style_ablation\"?"),
        (&["experiment", "none.toml"], "there is no file none.toml"),
        (&["experiment", "bad.toml"], "bad.toml: profile mini: unknown key \"photoz\", did you mean \"photos\"?"),
        (&["experiment", "style_ablation", "--profile", "fll"], "no profile \"fll\", did you mean \"full\"?"),
        (&["experiment", "style_ablation", "--set", "photos=nowhere"], "nowhere"),
        (&["experiment", "style_ablation", "--set", "style_pictures=empty"], "empty: no pictures here"),
        (&["experiment", "style_ablation", "--shard", "3/2"], "shard \"3/2\" is not I/N"),
        (&["experiment", "style_ablation", "--limit", "0"], "limit must be at least 1"),
        (&["experiment", "style_ablation", "--set", "captioner=mini-phi"], "mini-phi"),
    ];
    for (arguments, expected) in cases {
        let (status, _, stderr) = run(arguments, dir.path());
        assert_eq!(status, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    }
    assert!(!dir.path().join("runs").exists(), "nothing is written");
}

#[test]
fn merge_wants_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (status, _, stderr) = run(&["merge", "a-shard-1-of-2"], dir.path());
    assert_eq!((status, stderr.as_str()), (2, "error: a-shard-1-of-2 is no run folder: it has no config.toml\n"));
    let (status, _, stderr) = run(&["merge", "a"], dir.path());
    assert_eq!(status, 2);
    assert!(stderr.contains("give --out DIR"), "{stderr}");
}
