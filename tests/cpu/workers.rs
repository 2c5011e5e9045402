//! Several devices: results equal those of one, whoever computes and whoever is killed.
//!
//! Where models are doubles, a worker is this test program itself, started again on the test `child` alone.

use crate::doubles;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doubles::{DEADLY, Doubles, World, assert_same_runs, contents};
use toolkit::experiment::serve::{Run, TASK, serve};
use toolkit::experiment::style::StyleTransfer;
use toolkit::runtime::one_line;
use toolkit::workers::{Desk, Team};

/// No multiple of a batch, nor of the workers.
const PHOTOS: u32 = 7;
const WORLD: &str = "TOOLKIT_TEST_WORKER";

/// Does nothing unless started as a worker by the other tests.
#[test]
fn child() {
    if std::env::var_os(WORLD).is_none() {
        return;
    }
    let mut desk = Desk::open().unwrap();
    let run: Run = desk.task(TASK).unwrap().unwrap();
    let doubles = Doubles { pause: Duration::from_millis(4), ..Doubles::new(2) };
    let ended = serve::<StyleTransfer>(&run, &doubles, &mut desk);
    desk.close(ended).unwrap();
}

/// So many workers of a world.
fn team(world: &World, count: usize) -> Team {
    let dir = world.dir.path().to_path_buf();
    let command = move |_: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "workers::child", "--nocapture"]).env(WORLD, &dir);
        command
    };
    Team { devices: vec!["cpu".to_string(); count], command: Arc::new(command) }
}

fn shared(world: &World, workers: usize) -> Doubles {
    Doubles { team: Some(team(world, workers)), ..Doubles::new(2) }
}

/// The processes with this text in their environment or command line.
fn processes(of: &str) -> BTreeSet<u32> {
    let is = |pid: &u32| {
        ["environ", "cmdline"].iter().any(|file| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(of.len()).any(|part| part == of.as_bytes())
        })
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is).collect()
}

/// The worker processes that this process started.
fn workers_of(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&parent.to_string())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn kill(signal: &str, pid: u32) {
    Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let patience = Instant::now();
    while !is() {
        assert!(patience.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_two_and_three_workers_make_what_one_process_makes() {
    let world = World::new(PHOTOS);
    world.run("plain", &[], &Doubles::new(2)).unwrap();
    for workers in [1, 2, 3] {
        let doubles = shared(&world, workers);
        let summary = world.run(&format!("run{workers}"), &[], &doubles).unwrap();
        assert!(summary.failed.is_empty());
        assert_eq!(doubles.loaded.load(std::sync::atomic::Ordering::SeqCst), 0, "the parent loads no model");
        assert_same_runs(&world.path(&format!("run{workers}")), &world.path("plain"));
    }
    // Photos are seen alike by all of them, too.
    let fitted = ["limit=5", "fit=crop", "strength=['none', 0.5]"];
    world.run("crop", &fitted, &Doubles::new(2)).unwrap();
    world.run("crop2", &fitted, &shared(&world, 2)).unwrap();
    assert_same_runs(&world.path("crop2"), &world.path("crop"));
    // One that is finished asks nobody, and one that is not goes on.
    world.run("run2", &[], &shared(&world, 2)).unwrap();
    world.run("run3", &["limit=3"], &Doubles::new(2)).unwrap_err();
    world.run("less", &["limit=3"], &shared(&world, 2)).unwrap();
    world.run("less", &[], &shared(&world, 3)).unwrap();
    assert_same_runs(&world.path("less"), &world.path("plain"));
    wait_until("workers that outlive their run", || processes(world.dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn a_worker_that_is_killed_costs_nothing_but_time() {
    let world = World::new(PHOTOS);
    world.run("plain", &[], &Doubles::new(2)).unwrap();
    let mark = format!("{WORLD}={}", world.dir.path().display());
    let items = world.path("run/items.csv");
    let killer = std::thread::spawn(move || {
        // One that starts, one that describes or draws, and one that draws.
        for count in [0, 1, 4] {
            wait_until("the run does not get on", || lines(&items) >= count && !processes(&mark).is_empty());
            processes(&mark).into_iter().take(1).for_each(|pid| kill("-KILL", pid));
        }
    });
    let summary = world.run("run", &[], &shared(&world, 2)).unwrap();
    killer.join().unwrap();
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
    assert_same_runs(&world.path("run"), &world.path("plain"));
}

#[test]
fn a_batch_that_ends_every_worker_fails_alone() {
    let world = World::new(PHOTOS);
    let deadly = world.path("photos/p04.png");
    let mut photo = image::open(&deadly).unwrap().to_rgb8();
    photo.put_pixel(0, 0, DEADLY);
    photo.save(&deadly).unwrap();
    let summary = world.run("run", &[], &shared(&world, 2)).unwrap();
    // It shares a batch with p05.
    let failed: BTreeSet<&str> = summary.failed.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(failed.into_iter().collect::<Vec<_>>(), ["p04", "p05"]);
    let error = &summary.failed[0].error;
    assert!(error.contains("3 workers ended over it, the last: ended by signal 6"), "{error}");
    assert_eq!(summary.count, 2 * PHOTOS as usize);
    assert!(
        fs::read_dir(world.path("run"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with(".writing-") })
    );
}

#[test]
fn workers_that_cannot_start_are_one_clear_error() {
    let world = World::new(1);
    let command = Arc::new(|_: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such device >&2; exit 1"]);
        command
    });
    let team = Team { devices: vec!["cpu".to_string(); 2], command };
    let error = world.run("run", &[], &Doubles { team: Some(team), ..Doubles::new(2) }).unwrap_err();
    let line = one_line(&error);
    assert!(line.starts_with("worker ") && line.contains("cannot be started"), "{line}");
    assert!(line.contains("no such device"), "{line}");
}

fn toolkit(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toolkit"));
    command.args(arguments).env("HF_HUB_OFFLINE", "1").env_remove("TOOLKIT_HOME");
    command
}

fn output(arguments: &[&str]) -> Output {
    let output = toolkit(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Tables without times, and pictures; pages and plots show times.
fn assert_same_results(a: &Path, b: &Path) {
    let results = |run: &Path| {
        let is = |name: &str| !name.starts_with("plots/") && !name.ends_with(".html");
        contents(run)
            .into_iter()
            .filter(|(name, _)| is(name))
            .map(|(name, bytes)| (name.clone(), without_speed(name, bytes)))
            .collect::<Vec<_>>()
    };
    let (a, b) = (results(a), results(b));
    assert_eq!(a.iter().map(|(name, _)| name).collect::<Vec<_>>(), b.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, one), (_, other)) in a.iter().zip(&b) {
        assert!(one == other, "{name} differs:\n{}\n{}", String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    }
}

/// `results.csv` of captions has a column of speed.
fn without_speed(name: String, bytes: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some(at) =
        text.lines().next().and_then(|header| header.split('|').position(|name| name == "images_per_second"))
    else {
        return bytes;
    };
    assert_eq!(name, "results.csv");
    let without = |line: &str| {
        line.split('|')
            .enumerate()
            .filter(|(column, _)| *column != at)
            .map(|(_, field)| field)
            .collect::<Vec<_>>()
            .join("|")
    };
    text.lines().map(without).collect::<Vec<_>>().join("\n").into_bytes()
}

fn end(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

/// A worker is killed, then the whole run is told to end, then it goes on with another number of workers.
#[test]
fn a_disturbed_run_of_the_program_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, run) = (dir.path().join("plain"), dir.path().join("run"));
    let arguments = |out: &Path, device: &str| {
        let of = ["experiment", "style_ablation", "--limit", "3", "--set", "steps=2", "--set", "batch_size=2"];
        let rest = ["--device", device, "--out", out.to_str().unwrap()];
        of.iter().chain(&rest).map(|word| word.to_string()).collect::<Vec<_>>()
    };
    let words = |list: &Vec<String>| -> Vec<String> { list.clone() };
    let start = |device: &str| {
        let list = words(&arguments(&run, device));
        toolkit(&list.iter().map(String::as_str).collect::<Vec<_>>())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let list = arguments(&plain, "cpu");
    output(&list.iter().map(String::as_str).collect::<Vec<_>>());

    let child = start("cpu,cpu");
    let parent = child.id();
    wait_until("nothing is described", || lines(&run.join("captions.csv")) >= 2);
    let first = workers_of(parent);
    assert_eq!(first.len(), 2);
    kill("-KILL", first[0]);
    wait_until("nothing is drawn", || lines(&run.join("items.csv")) >= 2);
    let workers = workers_of(parent);
    kill("-TERM", parent);
    assert_eq!(end(child), Some(143));
    wait_until("orphans", || workers.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));

    let output = start("cpu,cpu,cpu").wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("grey level"), "{stderr}");
    assert_same_results(&run, &plain);
    let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"device\": \"cpu,cpu,cpu\""), "{manifest}");
}

#[test]
fn caption_runs_and_commands_are_the_same_on_several_devices() {
    let dir = tempfile::tempdir().unwrap();
    let mini = |path: &str| format!("{}/experiments/mini/{path}", env!("CARGO_MANIFEST_DIR"));
    let photos = mini("photos");
    let runs = ["cpu", "cpu,cpu"].map(|device| {
        let out = dir.path().join(device);
        let run = output(&[
            "-v",
            "experiment",
            "caption_benchmark",
            "--limit",
            "3",
            "--device",
            device,
            "--out",
            out.to_str().unwrap(),
        ]);
        let said = String::from_utf8_lossy(&run.stderr);
        // CLIPScore's pictures and texts too.
        assert_eq!(said.contains("worker 1 (cpu): measuring"), device != "cpu", "{said}");
        out
    });
    assert_same_results(&runs[1], &runs[0]);
    let files: Vec<String> =
        fs::read_dir(&photos).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).filter(|file| file.ends_with(".png")).collect();
    files.sort_unstable();
    files.truncate(5);
    let caption = |device: &str, format: &str| {
        let of = ["caption", "--model", "mini-blip", "--batch-size", "2", "--device", device, "--format", format];
        output(&[&of[..], &files].concat()).stdout
    };
    for format in ["text", "json"] {
        assert_eq!(caption("cpu,cpu,cpu", format), caption("cpu", format));
    }
    let nets = ["--lpips-backbone", "mini-lpips", "--lpips-linear", "mini-lpips"];
    let (style, drawn) = (mini("styles/lorelei"), mini("styles/open-peeps"));
    let images = dir.path().join("described");
    fs::create_dir(&images).unwrap();
    for file in &files {
        fs::copy(file, images.join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let ids: Vec<String> =
        files.iter().map(|file| Path::new(file).file_stem().unwrap().to_str().unwrap().to_string()).collect();
    let captions: serde_json::Map<String, serde_json::Value> =
        ids.iter().map(|id| (id.clone(), format!("a face of {id}").into())).collect();
    let references: serde_json::Map<String, serde_json::Value> =
        ids.iter().map(|id| (id.clone(), serde_json::json!(["a face", format!("{id} looks on")]))).collect();
    let [captions, references] = [("captions.json", captions), ("references.json", references)].map(|(name, map)| {
        let file = dir.path().join(name);
        fs::write(&file, serde_json::to_vec(&map).unwrap()).unwrap();
        file.to_str().unwrap().to_string()
    });
    let images = images.to_str().unwrap();
    let dinov2 = format!("{}/tests/golden/embeddings/dinov2_a", env!("CARGO_MANIFEST_DIR"));
    let evaluations: [&[&str]; 7] = [
        &["fd_dinov2", &style, &drawn, "--model", &dinov2],
        &[
            "clip-score",
            "--images",
            images,
            "--predictions",
            &captions,
            "--references",
            &references,
            "--model",
            "mini-clip",
        ],
        &["cmmd", &style, &drawn, "--model", "mini-clip"],
        &[
            "artfid",
            "--content",
            &photos,
            "--stylized",
            &photos,
            "--style",
            &style,
            "--inception",
            "mini-art-inception",
        ],
        &["lpips", "--content", &photos, "--stylized", &photos],
        &["fid", &style, &drawn, "--inception", "mini-art-inception"],
        &["lpips", "--content", &photos, "--stylized", &photos, "--size", "64", "--fit", "pad"],
    ];
    for evaluation in evaluations {
        let more: &[&str] = if ["artfid", "lpips"].contains(&evaluation[0]) { &nets } else { &[] };
        let evaluate = |device: &str| {
            let rest = ["--batch-size", "3", "--format", "json", "--device", device];
            output(&[&["evaluate"], evaluation, more, &rest].concat()).stdout
        };
        let plain = evaluate("cpu");
        assert_eq!(evaluate("cpu,cpu"), plain, "{evaluation:?}");
        // As two GPUs do it, of few pictures: one process, a thread for each.
        let rest = ["--batch-size", "3", "--format", "json", "--device", "cpu,cpu"];
        let mut threads = toolkit(&[&["-v", "evaluate"], evaluation, more, &rest].concat());
        let threads = threads.env("TOOLKIT_EVALUATE_BY", "threads").output().unwrap();
        let said = String::from_utf8_lossy(&threads.stderr);
        assert!(threads.status.success() && threads.stdout == plain, "{evaluation:?}: {said}");
        assert!(!said.contains("worker") && said.contains("s: cpu: the networks are loaded"), "{said}");
    }
}

/// `evaluate`, whose workers are started early and hold many batches: killed while they load, and while they measure.
#[test]
fn an_evaluation_whose_workers_are_killed_ends_the_same() {
    let mini = |path: &str| format!("{}/experiments/mini/{path}", env!("CARGO_MANIFEST_DIR"));
    let (style, photos) = (mini("styles/lorelei"), mini("photos"));
    let evaluation = ["fid", &photos, &style, "--inception", "mini-art-inception", "--batch-size", "1"];
    let start = |device: &str| {
        let rest = ["-v", "--format", "json", "--device", device];
        let mut command = toolkit(&[&["evaluate"], &evaluation[..], &rest].concat());
        command.env("TOOLKIT_CRASH_REPORT", "1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let plain = start("cpu").wait_with_output().unwrap().stdout;
    for measured in [0, 5] {
        let mut child = start("cpu,cpu");
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        wait_until("no worker", || workers_of(child.id()).len() == 2);
        let mut victim = workers_of(child.id())[0];
        if measured > 0 {
            // One that has measured something, as its parent tells.
            let (mut told, mut count) = (Vec::new(), 0);
            while count < measured {
                told.push(said.next().unwrap());
                count += usize::from(told.last().is_some_and(|line| line.contains(": measuring ")));
            }
            let name = told.last().and_then(|line| line.split_once(": measuring ")).unwrap().0;
            let start = format!("{name}: started as process ");
            victim = told.iter().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap();
        }
        // The second dies as of a fault of its own, and says where it was.
        let (signal, number) = if measured > 0 { ("-SEGV", 11) } else { ("-KILL", 9) };
        kill(signal, victim);
        let rest: Vec<String> = said.collect();
        let output = child.wait_with_output().unwrap();
        let says = |text: &str| rest.iter().any(|line| line.contains(text));
        assert!(output.status.success() && output.stdout == plain, "{}", rest.join("\n"));
        assert!(says(&format!("ended by signal {number}")), "{}", rest.join("\n"));
        if number == 11 {
            assert!(says("crash: signal 11 (SIGSEGV) sent by a process, thread "), "{}", rest.join("\n"));
            assert!(says(", last: ") && says("toolkit("), "{}", rest.join("\n"));
        }
    }
}

#[test]
fn devices_that_cannot_be_meant_are_wrong_usage() {
    for (device, says) in [("cpu,cuda:99", "cuda:99 is not here"), ("cpu,gpu", "\"gpu\" is no device")] {
        let output = toolkit(&["caption", "--model", "mini-blip", "--device", device, "x.png"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The picture is looked at first where it is there.
        let photo = format!("{}/experiments/mini/photos", env!("CARGO_MANIFEST_DIR"));
        let again = toolkit(&["caption", "--model", "mini-blip", "--device", device, &photo]).output().unwrap();
        let line = String::from_utf8_lossy(&again.stderr);
        assert_eq!(again.status.code(), Some(2), "{stderr}{line}");
        assert!(line.contains(says) && line.lines().count() == 1, "{line}");
    }
    let output = toolkit(&["worker"]).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("start it themselves"), "{stderr}");
    let prompt = ["prompt", "--model", "mini-sd3", "--description", "a", "--style", "b", "--device", "cpu,cpu"];
    let output = toolkit(&prompt).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("one device is used here: cpu"));
}

#[test]
fn tf32_has_no_effect_on_the_cpu_and_says_so() {
    let mini = |path: &str| format!("{}/experiments/mini/{path}", env!("CARGO_MANIFEST_DIR"));
    let (style, drawn) = (mini("styles/lorelei"), mini("styles/open-peeps"));
    let evaluation =
        ["evaluate", "fid", &style, &drawn, "--inception", "mini-art-inception", "--format", "json", "--device", "cpu"];
    let plain = output(&evaluation);
    let rounded = output(&[&evaluation[..], &["--tf32"]].concat());
    assert_eq!(rounded.stdout, plain.stdout);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("--tf32 has no effect here");
    assert!(said(&rounded) && !said(&plain));
}
