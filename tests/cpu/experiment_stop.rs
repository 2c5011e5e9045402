//! Runs that are really killed, and disks that are really full.
//!
//! The killed process is this test program itself, started again on the test `child` alone.

use crate::doubles;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use doubles::{Doubles, World, assert_same_runs, run_in};
use rand::{Rng, SeedableRng};
use toolkit::experiment::say_on_stop;
use toolkit::experiment::settings::Settings;

const PHOTOS: u32 = 9;
const PICTURES: usize = 2 * PHOTOS as usize;

/// Does nothing unless started by the other tests: then it is the process that is killed.
#[test]
fn child() {
    let Ok(world) = std::env::var("TOOLKIT_TEST_WORLD") else { return };
    let sets: Vec<String> = std::env::var("TOOLKIT_TEST_SETS").unwrap_or_default().lines().map(String::from).collect();
    let config = toolkit::experiment::Config::load(&Path::new(&world).join("test.toml"), "mini", &sets).unwrap();
    say_on_stop("the same command goes on\n".to_string());
    let doubles = Doubles { pause: Duration::from_millis(4), ..Doubles::new(2) };
    if let Err(error) = run_in(&Path::new(&world).join("run"), &config, &doubles) {
        eprintln!("child: {error:#}");
        std::process::exit(1);
    }
}

fn start(world: &World) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "experiment_stop::child", "--nocapture"]).env("TOOLKIT_TEST_WORLD", world.dir.path());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let heed = || {
        // SAFETY: a system call, as is allowed between fork and exec.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: it allocates nothing. The tests may be run by `nohup`, whose processes are deaf to the end of a session.
    unsafe { command.pre_exec(heed) };
    command
}

/// Rows of a CSV file whose rows have `lines` lines each, as far as they are written.
fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// Waits until the run has got as far as asked (lines of a file, then a moment), or has ended.
fn wait_for(child: &mut Child, file: &Path, count: usize, moment: Duration) -> Option<ExitStatus> {
    let patience = Instant::now();
    while lines(file) < count {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        assert!(patience.elapsed() < Duration::from_secs(60), "the run does not get on");
        std::thread::sleep(Duration::from_micros(300));
    }
    std::thread::sleep(moment);
    child.try_wait().unwrap()
}

#[test]
fn killed_at_any_moment_a_run_ends_the_same() {
    let (kills, in_the_middle) = kill_and_continue(6, &[]);
    assert!(kills >= 8 && in_the_middle >= 3, "{kills} kills, {in_the_middle} of them between two rows");
}

#[test]
fn killed_between_text_and_photo_a_run_ends_the_same() {
    let (kills, in_the_middle) = kill_and_continue(3, &["strength=['none', 0.4]", "scheduler=['pndm', 'ddim']"]);
    assert!(kills >= 3 && in_the_middle >= 2, "{kills} kills, {in_the_middle} of them between two rows");
}

/// The script that makes the figure of RELIABILITY.md, in short.
#[test]
#[ignore = "takes a minute of a release build, several of another"]
fn commands_that_are_killed_leave_what_undisturbed_ones_do() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/reliability/kills.py");
    let mut python = Command::new("python3");
    python.args(["-B", script, "--toolkit", env!("CARGO_BIN_EXE_toolkit"), "--kills", "12"]);
    let output = python.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("no difference\n") && said.contains("12 kills in"), "{said}");
}

/// Kills runs at random moments until each has ended; returns the kills, and those between two rows.
fn kill_and_continue(rounds: usize, sets: &[&str]) -> (usize, usize) {
    let whole = World::new(PHOTOS);
    whole.run("run", sets, &Doubles::new(2)).unwrap();
    let complete = lines(&whole.path("run/items.csv"));
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let (mut kills, mut in_the_middle) = (0, 0);
    for _ in 0..rounds {
        let world = World::new(PHOTOS);
        let items = world.path("run/items.csv");
        loop {
            let mut child = start(&world).env("TOOLKIT_TEST_SETS", sets.join("\n")).spawn().unwrap();
            let (file, most) = if random.random_bool(0.3) {
                ("run/captions.csv", 2 * PHOTOS as usize)
            } else {
                ("run/items.csv", complete)
            };
            let goal = random.random_range(1..most + 2);
            let moment = Duration::from_micros(random.random_range(0..9000));
            match wait_for(&mut child, &world.path(file), goal, moment) {
                Some(status) => {
                    assert!(status.success());
                    break;
                }
                None => {
                    child.kill().unwrap(); // SIGKILL
                    child.wait().unwrap();
                    kills += 1;
                    in_the_middle += usize::from(lines(&items) > 1 && lines(&items) < complete);
                }
            }
            // A row that was cut off, as a machine that loses power leaves it.
            if items.exists() && random.random_bool(0.3) {
                let text = fs::read(&items).unwrap();
                fs::write(&items, &text[..text.len() - random.random_range(0..text.len().min(60))]).unwrap();
            }
        }
        assert_same_runs(&world.path("run"), &whole.path("run"));
    }
    (kills, in_the_middle)
}

#[test]
fn ctrl_c_and_its_like_stop_at_once_and_say_how_to_go_on() {
    let world = World::new(PHOTOS);
    for (at, (signal, status)) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)].into_iter().enumerate() {
        let mut child = start(&world).spawn().unwrap();
        assert!(wait_for(&mut child, &world.path("run/items.csv"), 4 + 3 * at, Duration::ZERO).is_none());
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{signal}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "the same command goes on\n", "{signal}");
    }
    // With `nohup` the end of the session stops nothing.
    let mut child = Command::new("bash");
    child
        .args(["-c", "trap '' HUP; exec \"$0\" --exact experiment_stop::child --nocapture"])
        .arg(std::env::current_exe().unwrap());
    child.env("TOOLKIT_TEST_WORLD", world.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let more = lines(&world.path("run/items.csv")) + 3;
    let mut child = child.spawn().unwrap();
    assert!(wait_for(&mut child, &world.path("run/items.csv"), more, Duration::ZERO).is_none());
    Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let rows = csv::Reader::from_path(world.path("run/items.csv")).unwrap().into_records().count();
    assert_eq!(rows, PICTURES);
}

/// A limit on the size of files makes writes fail where a full disk would, without needing one.
#[test]
fn a_full_disk_is_one_line_and_leaves_nothing_half_written() {
    let world = World::new(PHOTOS);
    let exe = std::env::current_exe().unwrap();
    // items.csv outgrows 2 blocks of 1024 bytes in the middle of the run; SIGXFSZ is ignored so that writes fail.
    let script = "trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact experiment_stop::child --nocapture";
    let mut command = Command::new("bash");
    command.args(["-c", script]).arg(exe).env("TOOLKIT_TEST_WORLD", world.dir.path());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let message: Vec<&str> = stderr.lines().filter(|line| line.starts_with("child: ")).collect();
    assert_eq!(message.len(), 1, "{stderr}");
    assert!(message[0].contains("cannot write") && message[0].contains("run/"), "{stderr}");
    for (name, content) in doubles::contents(&world.path("run")) {
        assert!(!name.contains(".writing-"), "{name} is left over");
        if name.ends_with(".png") {
            assert!(image::load_from_memory(&content).is_ok(), "{name} is half-written");
        }
    }
    assert!(start(&world).status().unwrap().success(), "with room it goes on");
    let whole = World::new(PHOTOS);
    whole.run("run", &[], &Doubles::new(2)).unwrap();
    assert_same_runs(&world.path("run"), &whole.path("run"));
}

#[test]
fn a_folder_that_cannot_be_written_is_one_line() {
    let world = World::new(1);
    fs::write(world.path("file"), b"").unwrap();
    let error = world.run("file/run", &[], &Doubles::new(1)).unwrap_err();
    let line = toolkit::runtime::one_line(&error);
    assert!(line.contains("cannot make the run folder") && line.contains("file/run"), "{line}");
    // Read-only even for the administrator.
    let error = run_in(Path::new("/proc/run"), &world.config(&[]), &Doubles::new(1)).unwrap_err();
    assert!(toolkit::runtime::one_line(&error).contains("cannot make the run folder /proc/run"));
}
