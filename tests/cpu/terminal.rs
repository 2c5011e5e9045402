//! What the program says beside results: completions, manual pages, `-q`, `NO_COLOR`.

use std::fs;

use assert_cmd::Command;

fn toolkit() -> Command {
    Command::cargo_bin("toolkit").unwrap()
}

#[test]
fn every_shell_gets_its_completions() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef toolkit"), ("fish", "complete -c toolkit")] {
        let script = toolkit().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains(word) && script.contains("experiment"), "{shell}: {script}");
    }
    let wrong = toolkit().args(["completions", "tcsh"]).output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(["bash", "zsh", "fish"].iter().all(|shell| said.contains(shell)), "{said}");
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let output = toolkit().arg("man").arg(&pages).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(listed.lines().count(), fs::read_dir(&pages).unwrap().count());
    let page = fs::read_to_string(pages.join("toolkit-evaluate-artfid.1")).unwrap();
    assert!(
        page.contains(".TH toolkit\\-evaluate\\-artfid 1") || page.contains(".TH toolkit-evaluate-artfid 1"),
        "{page}"
    );
    assert!(page.contains("stylized") && !pages.join("toolkit-help.1").exists(), "{page}");
}

/// A folder in which one file is no picture, of which a line is said.
fn broken(dir: &std::path::Path) -> std::path::PathBuf {
    let file = dir.join("broken.png");
    fs::write(&file, "no picture").unwrap();
    file
}

#[test]
fn colours_need_a_terminal_and_quiet_keeps_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let output = toolkit().args(["-q", "caption", "--model", "mini-blip"]).arg(broken(dir.path())).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("broken.png") && !said.contains('\u{1b}'), "{said:?}");
}

/// The last line of stderr of a command that fails with this status.
fn last_words(args: &[&str], home: &std::path::Path, status: i32) -> String {
    let output = toolkit().args(args).env("HF_HOME", home).env("TORCH_HOME", home).env_remove("HF_HUB_CACHE").output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{said}");
    said.lines().last().unwrap_or_default().to_string()
}

#[test]
fn a_picture_that_cannot_be_written_is_said_before_anything_is_loaded() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("taken.png");
    fs::create_dir(&folder).unwrap();
    let draw =
        |out: &str| last_words(&["stylize", "--model", "no-such-model", "--prompt", "x", "--out", out], home.path(), 1);
    let missing = home.path().join("missing/x.png");
    let said = draw(missing.to_str().unwrap());
    assert!(said.starts_with("error: cannot write into ") && said.contains("missing"), "{said}");
    let said = draw(folder.to_str().unwrap());
    assert!(said.ends_with("it is a folder"), "{said}");
}

#[test]
fn the_path_of_a_model_that_is_not_here_comes_with_the_command_that_brings_it() {
    let home = tempfile::tempdir().unwrap();
    let said = last_words(&["models", "path", "blip-base"], home.path(), 1);
    assert!(said.contains("`toolkit models pull blip-base`") && !said.contains("--offline"), "{said}");
}

#[test]
fn results_alone_go_to_stdout_and_a_broken_photo_is_one_warning_and_one_failure() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    let photo = |number: usize| crate::mini::mini(&format!("photos/face-{number:03}.png"));
    fs::copy(photo(1), photos.join("good.png")).unwrap();
    // One whose header tells, and one that breaks off behind it.
    fs::write(photos.join("text.png"), "no picture").unwrap();
    let whole = fs::read(photo(2)).unwrap();
    fs::write(photos.join("half.png"), &whole[..whole.len() / 2]).unwrap();
    for quiet in [false, true] {
        let mut command = toolkit();
        let set = format!("photos={}", photos.display());
        command.args(["experiment", "style_ablation", "--device", "cpu", "--set", "steps=1", "--set", &set]);
        command.arg("--out").arg(dir.path().join("run")).args(quiet.then_some("-q"));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with("strategy "));
        assert_eq!(
            said.lines().next().unwrap().starts_with("style_ablation with profile mini on cpu"),
            !quiet,
            "{said}"
        );
        for (id, reason) in [("text", "not a JPEG, PNG or WebP picture"), ("half", "damaged PNG")] {
            let file = format!("{id}.png: {reason}");
            let warned = said.lines().filter(|line| line.contains("WARN") && line.contains(&file)).count();
            let failed = format!("failed: {id} under peanuts, peanuts_detailed and wrong_style: ");
            let listed = said.lines().filter(|line| line.starts_with(&failed) && line.contains(&file)).count();
            assert_eq!((warned, listed, said.matches(&file).count()), (1, 1, 2), "{id}: {said}");
        }
        assert!(said.contains("6 of 9 pictures failed"), "{said}");
    }
}

/// What a command says on a terminal (util-linux's `script` makes one); None where there is no `script`.
fn on_terminal(arguments: &[&str], no_color: bool) -> Option<String> {
    let quoted: Vec<String> = [env!("CARGO_BIN_EXE_toolkit")]
        .iter()
        .chain(arguments)
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &quoted.join(" "), "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let output = command.output().inspect_err(|error| eprintln!("skipped: no script here: {error}")).ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_has_colours_unless_no_color_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let file = broken(dir.path());
    let arguments = ["caption", "--model", "mini-blip", file.to_str().unwrap()];
    let Some(coloured) = on_terminal(&arguments, false) else { return };
    let plain = on_terminal(&arguments, true).unwrap();
    let colour = |said: &str| said.contains("\u{1b}[3") || said.contains("\u{1b}[1m");
    assert!(coloured.contains("broken.png") && plain.contains("broken.png"), "{coloured:?} {plain:?}");
    assert!(colour(&coloured) && !colour(&plain), "{coloured:?} {plain:?}");
}

#[test]
fn a_bar_says_the_stage_and_never_that_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let arguments = ["experiment", "style_ablation", "--device", "cpu", "--limit", "2", "--set", "steps=1", "--out"];
    let Some(said) = on_terminal(&[&arguments[..], &[out.to_str().unwrap()]].concat(), false) else { return };
    // How many there are depends on the metrics.
    for stage in ["1 of ", ", style pictures", "2 of ", ", describing", "3 of ", ", drawing", ", scoring"] {
        assert!(said.contains(stage), "{stage} in {said:?}");
    }
    assert!(said.contains(" gone, ") && said.contains(" s left"), "{said:?}");
    assert!(!said.contains(" 0 s left") && !said.contains(" 0s left"), "{said:?}");
}
