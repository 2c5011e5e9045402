//! `toolkit submit` with programs made up here in Slurm's place. The real ones are used by tests/slurm.

use crate::doubles;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use doubles::{Doubles, World, assert_same_runs};
use serde_json::{Value, json};
use tempfile::TempDir;
use toolkit::experiment::settings::Settings;
use toolkit::experiment::style::StyleTransfer;
use toolkit::experiment::{Config, find, merge_with};
use toolkit::run::guard;

/// Writes down how it was called, and gives out the numbers 101, 102 …; refuses scripts that it is told to.
const SBATCH: &str = r#"#!/bin/bash
printf 'sbatch' >> "$WORLD/calls"; printf ' %s' "$@" >> "$WORLD/calls"; echo >> "$WORLD/calls"
if grep -q "^${@: -1}$" "$WORLD/refused" 2>/dev/null; then
    printf 'sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: no\n' >&2
    exit 1
fi
grep -c '^sbatch' "$WORLD/calls" | awk '{print 100 + $1 ";here"}'
"#;

/// Tells of the tasks in the file `queue`, each `JOB TASK STATE`.
const SQUEUE: &str = "#!/bin/bash\ncat \"$WORLD/queue\"\n";

const SCANCEL: &str = "#!/bin/bash\necho \"scancel $*\" >> \"$WORLD/calls\"\n";

/// A folder with a cluster's programs, in which an experiment of a few photos is submitted.
struct Cluster(TempDir);

impl Cluster {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir(world.path("bin")).unwrap();
        for (name, text) in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)] {
            fs::write(world.path("bin").join(name), text).unwrap();
            fs::set_permissions(world.path("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(world.path("queue"), "").unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn toolkit(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
        command.args(arguments).current_dir(self.path("")).env("WORLD", self.path("")).env_remove("TOOLKIT_HOME");
        command.env("HF_HUB_OFFLINE", "1").env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command
    }

    /// Submits; gives exit status, stdout and stderr.
    fn submit(&self, more: &[&str]) -> (i32, String, String) {
        let arguments = ["submit", "style_ablation", "--tasks", "3", "--limit", "6", "--out", "run"];
        ended(self.toolkit(&[&arguments, more].concat()))
    }

    /// How Slurm's programs were called since the last time, without the folder's path.
    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let known = fs::read_to_string(self.path("known")).unwrap_or_default();
        fs::write(self.path("known"), &calls).unwrap();
        calls[known.len()..].replace(self.path("").to_str().unwrap(), "")
    }

    /// Leaves what a run that has ended leaves: of a shard, or of the whole.
    fn finish(&self, shard: Option<usize>) {
        let mut config = Config::load(&find("style_ablation").unwrap(), "mini", &[]).unwrap();
        let part = shard.map(|part| format!("{part}/3"));
        config.narrow(Some(6), part.as_deref()).unwrap();
        let dir = self.path(&shard.map_or("run".to_string(), |part| format!("run-shard-{part}-of-3")));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), toml::to_string(&config).unwrap()).unwrap();
        fs::write(dir.join("manifest.json"), r#"{"finished": true}"#).unwrap();
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("run/slurm/job.json")).unwrap()).unwrap()
    }
}

fn ended(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_dry_run_writes_scripts_that_do_what_was_asked() {
    let world = Cluster::new();
    fs::copy(find("style_ablation").unwrap(), world.path("it's mine.toml")).unwrap();
    let set = "style_text.odd=it's \"$HOME\" {1,2}";
    let mut command = world.toolkit(&["-q", "submit", "it's mine.toml", "--tasks", "3", "--dry-run", "--set", set]);
    command.args(["--set", "photos=my photos", "--set", "style_pictures=my photos", "--device", "cuda:0"]);
    command.args(["--partition", "gpu", "--gpus-per-task", "a100:1", "--time", "2:00:00", "--sbatch", "comment=a b"]);
    command.args(["--out", "the run"]).env("HF_HOME", "/a cache").env("HF_TOKEN", "secret");
    fs::create_dir(world.path("my photos")).unwrap();
    for photo in 0..3 {
        image::RgbImage::new(8, 8).save(world.path(&format!("my photos/{photo}.png"))).unwrap();
    }
    let (status, stdout, stderr) = ended(command);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let slurm = world.path("the run/slurm");
    let (array, merge) = (slurm.join("array.sh"), slurm.join("merge.sh"));
    let said = [
        format!("job array: {}", array.display()),
        format!("merge: {}", merge.display()),
        format!("job=$(sbatch --parsable '{}')", array.display()),
        format!("sbatch --parsable --dependency=afterany:${{job%%;*}} '{}'", merge.display()),
    ];
    assert_eq!(stdout, said.join("\n") + "\n");
    assert_eq!(names(&slurm), [".lock", "array.sh", "merge.sh"]);
    assert_eq!(world.calls(), "", "nothing is submitted");

    // What a shell makes of the scripts, with `exec` saying what it would start.
    let words = |script: &Path| {
        let read = format!("exec() {{ printf '%s\\n' \"$PWD\" \"$HF_HOME\" \"$@\"; }}; . '{}'", script.display());
        let mut bash = Command::new("bash");
        bash.args(["-c", &read]).env("SLURM_ARRAY_TASK_ID", "2").env_remove("HF_HOME").current_dir("/");
        ended(bash).1.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let (toolkit, run) = (env!("CARGO_BIN_EXE_toolkit"), world.path("the run").display().to_string());
    let (here, file) = (world.path("").display().to_string(), world.path("it's mine.toml").display().to_string());
    let here = here.trim_end_matches('/');
    let shard = format!("{run}-shard-2-of-3");
    let options = ["--device=cuda:0", "--offline", "--quiet", "experiment", &file, "--profile", "mini", "--set", set];
    let pictures = ["--set", "photos=my photos", "--set", "style_pictures=my photos"];
    let rest = ["--shard", "2/3", "--out", &shard];
    let expected = [&[here, "/a cache", toolkit][..], &options, &pictures, &rest].concat();
    assert_eq!(words(&array), expected);
    let shards = [1, 2, 3].map(|part| format!("{run}-shard-{part}-of-3"));
    let expected = [
        &[here, "/a cache", toolkit, "--device=cuda:0", "--offline", "--quiet", "merge"][..],
        &shards.each_ref().map(String::as_str),
        &["--out", &run],
    ];
    assert_eq!(words(&merge), expected.concat());

    let text = fs::read_to_string(&array).unwrap();
    for option in ["array=1-3", "gpus-per-task=a100:1", "partition=gpu", "time=2:00:00", "comment=\"a b\""] {
        assert!(text.lines().any(|line| line == format!("#SBATCH --{option}")), "{option}: {text}");
    }
    assert!(text.contains(&format!("#SBATCH --output=\"{run}/slurm/shard-%a.log\"\n")), "{text}");
    assert!(!text.contains("secret"), "no token is in a script");

    // A model that is missing is said, and fetched by the real thing only.
    let arguments = ["submit", "style_ablation", "--tasks", "3", "--limit", "6", "--dry-run"];
    let mut command = world.toolkit(&[&arguments[..], &["--set", "generator=sd3-medium"]].concat());
    command.env_remove("HF_HUB_OFFLINE").env("HF_HOME", world.path("nothing")).env_remove("HF_HUB_CACHE");
    let (status, stdout, stderr) = ended(command);
    assert!(status == 0 && stdout.contains("runs/style_ablation/slurm/array.sh"), "{stderr}");
    assert!(stderr.contains("sd3-medium is not on this machine") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn wrong_usage_is_one_line_and_writes_nothing() {
    let world = Cluster::new();
    let cases: [(&[&str], &str); 9] = [
        (&["--set", "photoz=x"], "unknown key \"photoz\", did you mean \"photos\"?"),
        (&["--set", "captioner=mini-sd3"], "it does not describe pictures"),
        (&["--set", "shard=1/2"], "submit itself makes shards"),
        (&["--limit", "2"], "--tasks 3: shard 3/3 has no photos: there are only 2"),
        (&["--tasks", "0"], "--tasks must be at least 1"),
        (&["--device", "cudda"], "unknown device \"cudda\""),
        (&["--sbatch", "output=x"], "output is set by submit itself"),
        (&["--sbatch", "mem 8G"], "is not KEY=VALUE"),
        (&["--out", "a\\b"], "backslash"),
    ];
    let known = names(&world.path(""));
    for (more, expected) in cases {
        let mut arguments = vec!["submit", "style_ablation"];
        for (name, value) in [("--tasks", "3"), ("--limit", "6")] {
            arguments.extend(if more.contains(&name) { vec![] } else { vec![name, value] });
        }
        let (status, stdout, stderr) = ended(world.toolkit(&[&arguments, more].concat()));
        assert_eq!((status, stderr.lines().count(), stdout.as_str()), (2, 1, ""), "{more:?}: {stderr}");
        assert!(stderr.contains(expected), "{more:?}: {stderr}");
    }
    assert_eq!(names(&world.path("")), known);
    let (status, _, stderr) = ended(world.toolkit(&["submit", "caption_benchmark", "--tasks", "99"]));
    assert!(status == 2 && stderr.contains("--tasks 99: shard 99/99 has no pictures"), "{stderr}");
    // A folder of another run, and one of something else.
    world.finish(None);
    let (status, _, stderr) = world.submit(&["--set", "steps=3"]);
    assert!(status == 2 && stderr.contains("run holds another run: axes.steps.16 is 16 there"), "{stderr}");
    fs::remove_file(world.path("run/config.toml")).unwrap();
    let (status, _, stderr) = world.submit(&[]);
    assert!(status == 2 && stderr.contains("run is there already: remove it, or choose another --out"), "{stderr}");
    assert_eq!(world.calls(), "");
}

#[test]
fn without_sbatch_and_where_it_refuses_it_is_one_line() {
    let world = Cluster::new();
    let arguments = ["submit", "style_ablation", "--tasks", "3", "--limit", "6", "--out", "run"];
    let mut command = world.toolkit(&arguments);
    let (status, stdout, stderr) = ended({
        command.env("PATH", world.path("nothing"));
        command
    });
    assert_eq!((status, stderr.lines().count(), stdout.as_str()), (1, 1, ""), "{stderr}");
    assert!(stderr.contains("sbatch is not on the PATH") && stderr.contains("--dry-run"), "{stderr}");
    assert!(!world.path("run").exists(), "nothing is written");

    let script = |name: &str| world.path("run/slurm").join(name).display().to_string();
    fs::write(world.path("refused"), script("array.sh")).unwrap();
    let (status, _, stderr) = world.submit(&[]);
    assert_eq!((status, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("sbatch: invalid partition specified: x; Batch job submission failed: no\n"), "{stderr}");
    assert!(!world.path("run/slurm/job.json").exists());

    // The array is known where only the other job was refused.
    fs::write(world.path("refused"), script("merge.sh")).unwrap();
    assert_eq!(world.submit(&[]).0, 1);
    assert_eq!(world.record()["arrays"], json!([{"job": "102", "shards": [1, 2, 3]}]));
    world.calls();
    fs::write(world.path("queue"), "102 1 RUNNING\n102 2 PENDING\n102 3 PENDING\n").unwrap();
    fs::remove_file(world.path("refused")).unwrap();
    assert_eq!(world.submit(&[]).0, 0);
    assert_eq!(world.calls(), "sbatch --parsable --dependency=afterany:102 run/slurm/merge.sh\n");
}

#[test]
fn submitted_again_only_what_is_missing_is() {
    let world = Cluster::new();
    let (status, stdout, stderr) = world.submit(&[]);
    assert_eq!((status, stderr.as_str()), (0, ""), "{stdout}");
    let submitted =
        "sbatch --parsable run/slurm/array.sh\nsbatch --parsable --dependency=afterany:101 run/slurm/merge.sh\n";
    assert_eq!(world.calls(), submitted);
    assert_eq!(world.record(), json!({"tasks": 3, "arrays": [{"job": "101", "shards": [1, 2, 3]}], "merge": "102"}));

    // All in the queue: nothing is done.
    let queue = |text: &str| fs::write(world.path("queue"), text).unwrap();
    queue("7 1 RUNNING\n101 1 COMPLETING\n101 2 RUNNING\n101 3 PENDING\n102 N/A PENDING\n");
    let (status, stdout, _) = world.submit(&[]);
    assert!(status == 0 && stdout.contains("in the queue: shards 1-3 of 3 (job 101), left alone\n"), "{stdout}");
    assert!(stdout.contains("in the queue: job 102, which merges"), "{stdout}");
    assert_eq!(world.calls(), "");

    // One is complete, one in the queue, one has failed: the job that waits would merge too early.
    world.finish(Some(1));
    queue("101 2 RUNNING\n101 3 FAILED\n102 N/A PENDING\n");
    let (status, stdout, _) = world.submit(&[]);
    let log = world.path("run/slurm/shard-3.log").display().to_string();
    for line in [
        "complete: shard 1 of 3".to_string(),
        "in the queue: shard 2 of 3 (job 101), left alone".to_string(),
        format!("ended without finishing: shard 3 of 3, see {log}"),
    ] {
        assert!(status == 0 && stdout.lines().any(|said| said == line), "{line}: {stdout}");
    }
    let merges = "sbatch --parsable --dependency=afterany:101:103 run/slurm/merge.sh\n";
    assert_eq!(world.calls(), format!("scancel 102\nsbatch --parsable run/slurm/array.sh\n{merges}"));
    let array = fs::read_to_string(world.path("run/slurm/array.sh")).unwrap();
    assert!(array.contains("#SBATCH --array=3\n") && array.contains("$SLURM_ARRAY_TASK_ID/3\""), "{array}");

    // Another run, and another number of shards, are refused while there is something of this one.
    let (status, _, stderr) = world.submit(&["--set", "steps=3"]);
    assert!(status == 2 && stderr.contains("holds another run"), "{stderr}");
    let other = ["submit", "style_ablation", "--tasks", "2", "--limit", "6", "--out", "run"];
    let (status, _, stderr) = ended(world.toolkit(&other));
    assert!(status == 2 && stderr.contains("was submitted in 3 tasks: give --tasks 3"), "{stderr}");

    // All complete, and the job that merges has failed.
    world.finish(Some(2));
    world.finish(Some(3));
    queue("104 N/A FAILED\n");
    let (status, stdout, _) = world.submit(&[]);
    assert!(status == 0 && stdout.starts_with("complete: shards 1-3 of 3\n"), "{stdout}");
    assert_eq!(world.calls(), "sbatch --parsable run/slurm/merge.sh\n");

    world.finish(None);
    let (status, stdout, _) = world.submit(&[]);
    assert!(status == 0 && stdout.starts_with("style_ablation is complete and merged: "), "{stdout}");
    assert_eq!(world.calls(), "");

    // With a greater limit none of it is enough.
    let greater = ["submit", "style_ablation", "--tasks", "3", "--limit", "7", "--out", "run"];
    let (status, _, stderr) = ended(world.toolkit(&greater));
    assert!(status == 2 && stderr.contains("run is there already"), "{stderr}");
}

#[test]
fn a_merge_names_every_shard_that_has_not_ended_with_its_log() {
    let world = Cluster::new();
    world.finish(Some(1));
    world.finish(Some(2));
    fs::write(world.path("run-shard-2-of-3/manifest.json"), r#"{"finished": false}"#).unwrap();
    fs::create_dir_all(world.path("run/slurm")).unwrap();
    let shards = ["run-shard-1-of-3", "run-shard-2-of-3", "run-shard-3-of-3"];
    let (status, _, stderr) = ended(world.toolkit(&[&["merge"], &shards[..]].concat()));
    let expected = "error: not merged: run-shard-2-of-3 is not finished (log run/slurm/shard-2.log), run-shard-3-of-3 has \
                    not begun (log run/slurm/shard-3.log); the same `toolkit submit` goes on with them\n";
    assert_eq!((status, stderr.as_str()), (2, expected));
}

#[test]
fn a_merged_run_takes_the_place_of_what_submitted_it() {
    let world = World::new(4);
    let dirs = ["1", "2"].map(|shard| {
        world.run(shard, &[&format!("shard={shard}/2")], &Doubles::new(1)).unwrap();
        world.path(shard)
    });
    world.run("whole", &[], &Doubles::new(1)).unwrap();
    fs::create_dir_all(world.path("merged/slurm")).unwrap();
    fs::write(world.path("merged/slurm/merge.log"), "so far\n").unwrap();
    fs::write(world.path("merged/notes.txt"), "mine").unwrap();
    let merge = || {
        merge_with::<StyleTransfer>(&dirs, &world.path("merged"), |building| {
            // What another merge beside it does meanwhile.
            guard::remove_abandoned(building.parent().unwrap())?;
            assert!(building.join("results.csv").exists(), "it was taken for abandoned");
            Ok(())
        })
    };
    let error = merge().unwrap_err().to_string();
    assert!(error.contains("merged is there already"), "{error}");
    fs::remove_file(world.path("merged/notes.txt")).unwrap();
    // As Slurm does, the log is open meanwhile.
    let mut log = fs::OpenOptions::new().append(true).open(world.path("merged/slurm/merge.log")).unwrap();
    merge().unwrap();
    std::io::Write::write_all(&mut log, b"merged\n").unwrap();
    assert_eq!(fs::read_to_string(world.path("merged/slurm/merge.log")).unwrap(), "so far\nmerged\n");
    fs::remove_dir_all(world.path("merged/slurm")).unwrap();
    assert_same_runs(&world.path("merged"), &world.path("whole"));
}
