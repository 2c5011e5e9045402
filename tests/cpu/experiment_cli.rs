//! `toolkit experiment` and `toolkit merge` as a user meets them.

use std::path::Path;

use assert_cmd::Command;

fn toolkit(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    command.args(arguments).current_dir(folder).env_remove("TOOLKIT_HOME").env("HF_HUB_OFFLINE", "1");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLURM_")) {
        command.env_remove(name);
    }
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
    for (folder, names) in
        [("empty", &[".hidden.png", "old.bmp"][..]), ("twins", &["A.png", "a.png"]), ("broken", &["b.png"])]
    {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
        names.iter().for_each(|name| std::fs::write(dir.path().join(folder).join(name), "x").unwrap());
    }
    image::RgbImage::new(64, 64).save(dir.path().join("photo.png")).unwrap();
    let long = format!("mini-blip.instruction={}", "word ".repeat(600));
    let cases: [(&[&str], &str); 34] = [
        (&["experiment", "style_ablatoin"], "did you mean \"style_ablation\"?"),
        (&["experiment", "none.toml"], "there is no file none.toml"),
        (&["experiment", "bad.toml"], "bad.toml: profile mini: unknown key \"photoz\", did you mean \"photos\"?"),
        (&["experiment", "style_ablation", "--profile", "fll"], "no profile \"fll\", did you mean \"full\"?"),
        (&["experiment", "style_ablation", "--set", "photos=nowhere"], "nowhere"),
        (&["experiment", "style_ablation", "--set", "style_pictures=empty"], "empty: no pictures here"),
        (
            &["experiment", "style_ablation", "--set", "photos=empty"],
            "but 1 picture of another kind (1 .bmp): save them as",
        ),
        (&["experiment", "style_ablation", "--set", "photos=twins"], "would be pictures of one id, or of the same one"),
        (
            &["experiment", "style_ablation", "--set", "style_pictures=broken"],
            "style_pictures: 1 of 1 pictures cannot be read",
        ),
        (&["experiment", "style_ablation", "--shard", "3/2"], "shard \"3/2\" is not I/N"),
        (&["experiment", "style_ablation", "--shard", "auto"], "or give --shard I/N"),
        (&["experiment", "style_ablation", "--limit", "0"], "limit must be at least 1"),
        (&["experiment", "style_ablation", "--set", "captioner=mini-phi"], "mini-phi"),
        (&["experiment", "style_ablation", "--set", "captioner=mini-sd3"], "it does not describe pictures"),
        (&["experiment", "style_ablation", "--set", "generator=mini-blip"], "it does not draw pictures"),
        (
            &["experiment", "style_ablation", "--set", "width=100"],
            "width 100 cannot be drawn: it must be a multiple of",
        ),
        (
            &["experiment", "style_ablation", "--set", "instruction=a <|endoftext10|>"],
            "must not contain <|endoftext10|>",
        ),
        (
            &["experiment", "style_ablation", "--set", "mode=art_fid_inf", "--set", "points=1"],
            "points must be at least 2: art_fid_inf fits a line",
        ),
        (
            &["experiment", "img2img_ablation", "--set", "strength=[0.5, 0.05]"],
            "strength 0.05 of 10 steps leaves no step: raise one of them",
        ),
        (&["experiment", "img2img_ablation", "--set", "steps=2000"], "2000 steps, and the model was trained with 1000"),
        (&["experiment", "img2img_ablation", "--set", "guidance_scale=inf"], "guidance_scale = inf is not a number"),
        (&["experiment", "img2img_ablation", "--set", "eta=1.5"], "eta = 1.5 is not between 0 and 1"),
        (
            &["experiment", "img2img_ablation", "--set", "eta=[0, 0.5]"],
            "scheduler pndm takes no eta (it is 0.5): leave it out, or choose scheduler ddim",
        ),
        (
            &["experiment", "style_ablation", "--set", "eta=0.5"],
            "Stable Diffusion 3 (flow matching) takes no eta (it is 0.5)",
        ),
        (&["experiment", "caption_benchmark", "--set", &long], "model mini-blip: a prompt of 1201 tokens"),
        (&["experiment", "caption_benchmark", "--set", "mini-blip=mini-sd3"], "it does not describe pictures"),
        (
            &[
                "stylize",
                "--model",
                "mini-sd-v1-5",
                "--photo",
                "photo.png",
                "--describe",
                "mini-blip",
                "--style",
                "ink",
                "--strength",
                "0.001",
                "--out",
                "out.png",
            ],
            "strength 0.001 of 50 steps leaves no step: raise one of them",
        ),
        (
            &["stylize", "--model", "mini-sd3", "--prompt", "a", "--lora", "ink.pt:0.5", "--out", "out.png"],
            "ink.pt: no such file of low-rank adapters (LoRA)",
        ),
        (
            &[
                "stylize",
                "--model",
                "mini-sd-v1-5",
                "--prompt",
                "a",
                "--controlnet",
                "net",
                "--control-image",
                "canny",
                "--out",
                "out.png",
            ],
            "--control-image canny needs a photo to be computed of: --image FILE, or --photo FILE",
        ),
        (
            &[
                "stylize",
                "--model",
                "mini-sd-v1-5",
                "--prompt",
                "a",
                "--image",
                "photo.png",
                "--controlnet",
                "net",
                "--control-image",
                "canny",
                "--out",
                "out.png",
            ],
            "net: no such ControlNet (a folder, an original single file, or a hub id)",
        ),
        (&["experiment", "style_ablation", "--set", "lora=ink.pt"], "ink.pt: no such file"),
        (
            &[
                "stylize",
                "--model",
                "mini-sd-v1-5",
                "--prompt",
                "a",
                "--ip-adapter",
                "ip.bin",
                "--ip-image",
                "photo.png",
                "--out",
                "out.png",
            ],
            "ip.bin: no such IP-Adapter (a file like ip-adapter_sd15.safetensors, with the folder image_encoder beside it",
        ),
        (
            &["experiment", "style_ablation", "--set", "ip_adapter=ip.bin"],
            "is shown no picture: give ip_images = FOLDER, or the pictures behind it",
        ),
        (
            &["experiment", "style_ablation", "--set", "ip_adapter=ip.bin", "--set", "ip_images=gone"],
            "gone: no such picture to draw after (IP-Adapter)",
        ),
    ];
    for (arguments, expected) in cases {
        let (status, _, stderr) = run(arguments, dir.path());
        assert_eq!(status, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        // What an experiment uses may stand before it.
        let header =
            |line: &&str| line.contains(" with profile ") || line.ends_with(" pictures") || line.ends_with(" captions");
        assert_eq!(stderr.lines().filter(|line| !header(line)).count(), 1, "{arguments:?}: {stderr}");
    }
    assert!(!dir.path().join("runs").exists(), "nothing is written");
}

/// Both kinds of experiments take it; a part without photos says which part it would be.
#[test]
fn shard_auto_is_the_part_that_slurm_says() {
    let dir = tempfile::tempdir().unwrap();
    for experiment in ["style_ablation", "caption_benchmark"] {
        let mut command = toolkit(&["experiment", experiment, "--limit", "1", "--shard", "auto"], dir.path());
        for (name, value) in [("ID", "8"), ("COUNT", "3"), ("MIN", "4"), ("MAX", "8"), ("STEP", "2")] {
            command.env(format!("SLURM_ARRAY_TASK_{name}"), value);
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: shard 3/3 has no p"), "{stderr}");
    }
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

#[test]
fn a_name_that_leads_out_of_runs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside").display().to_string();
    for name in ["../outside", &outside, "a/b", "..", ".hidden", " ", "a\\tb", &"x".repeat(300)] {
        for experiment in ["style_ablation", "caption_benchmark"] {
            let (status, _, stderr) = run(&["experiment", experiment, "--set", &format!("name='{name}'")], dir.path());
            assert_eq!((status, stderr.lines().count()), (2, 1), "{name:?}: {stderr}");
            assert!(stderr.contains("cannot be the name of a folder"), "{name:?}: {stderr}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn a_key_of_many_levels_is_one_short_line() {
    let dir = tempfile::tempdir().unwrap();
    let deep = ["a"; 20_000].join(".");
    for experiment in ["style_ablation", "caption_benchmark"] {
        for key in [&deep, &format!("datasets.{deep}"), &format!("models.m.{deep}"), &format!("style_text.{deep}")] {
            let (status, _, stderr) = run(&["experiment", experiment, "--set", &format!("{key}=1")], dir.path());
            assert_eq!((status, stderr.lines().count()), (2, 1), "{stderr}");
            assert!(stderr.contains("no key has more than 8") && stderr.len() < 300, "{stderr}");
        }
    }
}

/// Runs the program with its output where the shell puts it.
fn in_shell(arguments: &str, output: &str, folder: &Path) -> (Option<i32>, String, String) {
    let exe = assert_cmd::cargo::cargo_bin("toolkit");
    let script = format!("exec {:?} {arguments} {output}", exe.display().to_string());
    let done = std::process::Command::new("bash").args(["-c", &script]).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn a_full_disk_behind_the_output_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let commands = [
        "experiment --list",
        "models list",
        "models list --format csv",
        "models list --format json",
        "doctor",
        "doctor --format csv",
        "prompt --model mini-sd3 --description 'a man' --style ink",
        "prompt --model mini-sd3 --description 'a man' --style ink --format csv",
        "--help",
        "--version",
    ];
    for command in commands {
        let (status, _, stderr) = in_shell(command, "> /dev/full", dir.path());
        assert_eq!(status, Some(1), "{command}: {stderr}");
        let expected = "error: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(stderr, expected, "{command}");
    }
    // Where the complaint itself cannot be written the status still says it.
    assert_eq!(in_shell("experiment nothing", "2> /dev/full", dir.path()).0, Some(2));
    assert_eq!(in_shell("experiment --nothing", "2> /dev/full", dir.path()).0, Some(2));
    assert_eq!(in_shell("models list", "> /dev/full 2>&1", dir.path()).0, Some(1));
    let (status, stdout, _) = in_shell("-v models list", "2> /dev/full", dir.path());
    assert!(status == Some(0) && stdout.contains("mini-sd3"), "a log that is full stops nothing");
}

#[test]
fn what_a_terminal_obeys_is_not_sent_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (status, _, stderr) = run(&["report", "a\u{1b}]0;title\u{7}b"], dir.path());
    assert_eq!(status, 2);
    assert!(stderr.starts_with("error: a\u{fffd}]0;title\u{fffd}b is not a folder"), "{stderr:?}");
}

#[test]
fn a_reader_that_has_gone_ends_it_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("toolkit"));
    let child = command.args(["experiment", "--list"]).stdout(writer).stderr(std::process::Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.stderr.len()), (Some(libc::SIGPIPE), 0));
}
