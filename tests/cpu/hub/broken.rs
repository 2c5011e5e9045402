//! Servers that fail: wrong bytes are never published, and what can be mended is mended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::server::{COMMIT, Fault, Hub, Plan};
use super::{assert_clean, failure, files_of, mini, output, pull, repository, snapshot};

/// Large, so on the CDN.
const WEIGHTS: &str = "pytorch_model.bin";

fn blip() -> (BTreeMap<String, Vec<u8>>, Hub) {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).start();
    (files, hub)
}

/// Where the weights are until they are whole.
fn partial(home: &Path, weights: &[u8]) -> PathBuf {
    let blobs = repository(home).join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    blobs.join(format!("{:x}.incomplete", Sha256::digest(weights)))
}

#[track_caller]
fn assert_right(home: &Path, files: &BTreeMap<String, Vec<u8>>) {
    assert_whole(home, files);
    assert_clean(home);
}

#[track_caller]
fn assert_whole(home: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for file in [WEIGHTS, "config.json", "vocab.txt"] {
        assert!(std::fs::read(snapshot(home).join(file)).unwrap() == files[file], "{file} is another one");
    }
}

#[track_caller]
fn assert_not_published(home: &Path) {
    assert!(!snapshot(home).join(WEIGHTS).exists());
    let blobs: Vec<_> = std::fs::read_dir(repository(home).join("blobs")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(blobs.iter().all(|blob| blob.extension().is_some() || blob.file_name().unwrap().len() != 64), "{blobs:?}");
    assert!(!repository(home).join("refs/main").exists());
}

#[test]
fn faults_that_pass_are_outlived() {
    for (host, method, path, fault) in [
        ("cdn", "GET", WEIGHTS, Fault::Break(1000)),
        ("cdn", "GET", WEIGHTS, Fault::SilentBreak(1000)),
        ("cdn", "GET", WEIGHTS, Fault::SilentBreak(0)),
        ("cdn", "GET", WEIGHTS, Fault::Flip),
        ("cdn", "GET", WEIGHTS, Fault::Longer),
        ("cdn", "GET", WEIGHTS, Fault::NoLength),
        ("cdn", "GET", WEIGHTS, Fault::Chunked),
        ("cdn", "GET", WEIGHTS, Fault::Status(503, "retry-after: 0\r\n")),
        ("hub", "GET", WEIGHTS, Fault::Status(500, "")),
        ("hub", "HEAD", WEIGHTS, Fault::Status(429, "retry-after: 0\r\n")),
        ("hub", "HEAD", "config.json", Fault::Status(502, "")),
        ("hub", "GET", "vocab.txt", Fault::Break(10)),
        ("hub", "GET", "vocab.txt", Fault::SilentBreak(10)),
        ("hub", "GET", "vocab.txt", Fault::Chunked),
        ("hub", "GET", "revision/main", Fault::Status(429, "retry-after: 0\r\n")),
        ("hub", "GET", "revision/main", Fault::Status(504, "")),
        ("hub", "GET", "revision/main", Fault::Chunked),
    ] {
        let (files, hub) = blip();
        let home = tempfile::tempdir().unwrap();
        hub.fault(host, method, path, fault.clone(), 1);
        output(&mut pull(home.path(), &hub), 0);
        assert_right(home.path(), &files);
        // A fault that was never met would show nothing.
        let met = hub.asked().iter().filter(|asked| asked.host == host && asked.path.contains(path)).count();
        assert!(met > 0, "{host} {method} {path} {fault:?}");
    }
}

#[test]
fn a_server_is_left_alone_as_long_as_it_asks() {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    hub.fault("hub", "GET", "revision/main", Fault::Status(429, "retry-after: 2\r\n"), 1);
    hub.fault("cdn", "GET", WEIGHTS, Fault::Status(503, "retry-after: 2\r\n"), 1);
    hub.fault("hub", "HEAD", WEIGHTS, Fault::Status(429, "ratelimit: \"api\";r=0;t=2\r\n"), 1);
    let start = Instant::now();
    output(&mut pull(home.path(), &hub), 0);
    assert!(start.elapsed() >= Duration::from_secs(6));
    assert_right(home.path(), &files);

    assert!(hub.asked().iter().all(|asked| asked.headers["accept-encoding"] == "identity"));

    // Nobody waits for an hour.
    hub.fault("hub", "GET", "revision/main", Fault::Status(429, "retry-after: 3600\r\n"), 1);
    let other = tempfile::tempdir().unwrap();
    let error = failure(&mut pull(other.path(), &hub));
    assert!(error.contains("too busy") && error.contains("asks to come again in 3600 s"), "{error}");
}

#[test]
fn faults_that_stay_publish_nothing_and_are_mended_later() {
    // Side by side, since each waits for some seconds between its attempts.
    std::thread::scope(|scope| {
        for (fault, said) in [
            (Fault::Flip, "sends wrong bytes: their sha256 is"),
            (Fault::SilentBreak(1000), "try again, what came so far is kept"),
            (Fault::Break(1000), "the connection broke"),
            (Fault::Status(503, "retry-after: 0\r\n"), "too busy for owner/name: try again later"),
            (Fault::Status(403, ""), "the hub refuses owner/name"),
            (Fault::Longer, "sends more bytes than its file has"),
        ] {
            scope.spawn(move || publishes_nothing(&fault, said));
        }
    });
}

#[track_caller]
fn publishes_nothing(fault: &Fault, said: &str) {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    let breaks = matches!(fault, Fault::SilentBreak(_) | Fault::Break(_));
    hub.fault("cdn", "GET", WEIGHTS, fault.clone(), if breaks { 1 } else { 1000 });
    // After a break what came is gone on from, until no byte more comes.
    hub.fault("cdn", "GET", WEIGHTS, Fault::Break(0), 1000);
    let error = failure(&mut pull(home.path(), &hub));
    assert!(error.contains(said), "{fault:?}: {error}");
    assert_not_published(home.path());
    hub.heal();
    output(&mut pull(home.path(), &hub), 0);
    assert_right(home.path(), &files);
}

#[test]
fn what_was_begun_is_gone_on_from() {
    let (files, hub) = blip();
    let weights = &files[WEIGHTS];
    let home = tempfile::tempdir().unwrap();
    std::fs::write(partial(home.path(), weights), &weights[..5000]).unwrap();
    output(&mut pull(home.path(), &hub), 0);
    assert_right(home.path(), &files);
    let ranges: Vec<_> = hub.asked().into_iter().filter_map(|asked| asked.headers.get("range").cloned()).collect();
    // The hub is asked, and it sends on to the CDN.
    assert_eq!(ranges, ["bytes=5000-", "bytes=5000-"]);

    // A break in the middle too.
    let (_, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    hub.fault("cdn", "GET", WEIGHTS, Fault::Break(7000), 1);
    output(&mut pull(home.path(), &hub), 0);
    assert!(hub.asked().iter().any(|asked| asked.headers.get("range").is_some_and(|range| range == "bytes=7000-")));
}

#[test]
fn a_silent_server_is_asked_again() {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    hub.fault("cdn", "GET", WEIGHTS, Fault::Stall(6000), 1);
    output(pull(home.path(), &hub).env("HF_HUB_DOWNLOAD_TIMEOUT", "1"), 0);
    assert_right(home.path(), &files);
    assert!(hub.asked().iter().any(|asked| asked.headers.get("range").is_some_and(|range| range == "bytes=6000-")));
}

/// The command as a process that may be killed.
fn begin(command: &assert_cmd::Command) -> Child {
    let mut process = Command::new(command.get_program());
    process.args(command.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    }
    process.spawn().unwrap()
}

#[test]
fn a_download_that_was_killed_is_gone_on_with() {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    hub.fault("cdn", "GET", WEIGHTS, Fault::Stall(6000), 1);
    let mut child = begin(&pull(home.path(), &hub));
    let partial = partial(home.path(), &files[WEIGHTS]);
    let start = Instant::now();
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 6000 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_not_published(home.path());
    output(&mut pull(home.path(), &hub), 0);
    assert_right(home.path(), &files);
    assert!(hub.asked().iter().any(|asked| asked.headers.get("range").is_some_and(|range| range == "bytes=6000-")));
}

/// Python takes every link in `snapshots` for a file, and everything in `refs` for a revision.
#[test]
fn wherever_a_download_is_killed_the_cache_is_one_that_python_reads() {
    let (files, hub) = blip();
    output(&mut pull(tempfile::tempdir().unwrap().path(), &hub), 0);
    let of_a_download = hub.asked().len();
    let mut home = tempfile::tempdir().unwrap();
    for requests in 1..=of_a_download {
        // Some begin anew, others go on with what is there, and may come to their end.
        if requests % 3 == 0 {
            home = tempfile::tempdir().unwrap();
        }
        let before = hub.asked().len();
        let mut child = begin(&pull(home.path(), &hub));
        while hub.asked().len() < before + requests && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        child.wait().unwrap();
        let found = |folder: &str| {
            let folder = repository(home.path()).join(folder);
            if folder.is_dir() { files_of(&folder).into_keys().collect() } else { Vec::new() }
        };
        for file in found("snapshots") {
            let known = file.strip_prefix(&format!("{COMMIT}/")).is_some_and(|name| files.contains_key(name));
            assert!(known, "{file} is left after {requests} of {of_a_download} requests");
        }
        assert!(found("refs").iter().all(|name| name == "main"), "after {requests} requests: {:?}", found("refs"));
    }
    output(&mut pull(home.path(), &hub), 0);
    // A revision that was being written may lie unfinished among the blobs, where nobody looks for one.
    assert_whole(home.path(), &files);
}

#[test]
fn wrong_partials_are_thrown_away() {
    let (files, _) = blip();
    let weights = &files[WEIGHTS];
    let other = vec![7; weights.len()];
    for (case, stale) in [
        ("rubbish", &other[..5000]),
        ("rubbish of the whole length", &other[..]),
        ("longer than the file", &[&other[..], b"more"].concat()),
        ("an error page", b"<html>503</html>"),
    ] {
        for fault in [None, Some(Fault::IgnoreRange), Some(Fault::OtherRange), Some(Fault::Status(416, ""))] {
            // To a plain request no server answers so.
            if stale.len() >= weights.len() && fault == Some(Fault::Status(416, "")) {
                continue;
            }
            let (_, hub) = blip();
            let home = tempfile::tempdir().unwrap();
            let partial = partial(home.path(), weights);
            std::fs::write(&partial, stale).unwrap();
            // While the hub fails nothing is made of it.
            if fault.is_none() {
                hub.fault("cdn", "GET", WEIGHTS, Fault::Status(503, "retry-after: 0\r\n"), 1000);
                let error = failure(&mut pull(home.path(), &hub));
                assert!(error.contains("status 503"), "{case}: {error}");
                assert_not_published(home.path());
                hub.heal();
            }
            if let Some(fault) = fault {
                hub.fault("cdn", "GET", WEIGHTS, fault, 1);
            }
            if stale.len() < weights.len() {
                std::fs::write(&partial, stale).unwrap();
            }
            output(&mut pull(home.path(), &hub), 0);
            assert_right(home.path(), &files);
        }
    }
}

#[test]
fn a_file_that_was_published_broken_is_mended() {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    output(&mut pull(home.path(), &hub), 0);
    let blob = std::fs::canonicalize(snapshot(home.path()).join(WEIGHTS)).unwrap();
    // As a client that checks nothing leaves it: too short, or something else.
    for damage in [&files[WEIGHTS][..3000], b"<html>503 Service Unavailable</html>"] {
        std::fs::write(&blob, damage).unwrap();
        let (_, said) = output(&mut pull(home.path(), &hub), 0);
        assert!(said.contains("is damaged: it is downloaded again"), "{said}");
        assert_right(home.path(), &files);
    }
    // Without the hub it cannot be.
    std::fs::write(&blob, &files[WEIGHTS][..3000]).unwrap();
    hub.fault("hub", "GET", "revision/main", Fault::Status(404, ""), 1000);
    let said = failure(&mut pull(home.path(), &hub));
    assert!(said.contains("holds a damaged file: owner/name is not on the hub at revision main"), "{said}");
}

#[test]
fn several_at_once_do_not_disturb_each_other() {
    let (files, hub) = blip();
    let home = tempfile::tempdir().unwrap();
    hub.fault("cdn", "GET", WEIGHTS, Fault::Break(1000), 1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| output(&mut pull(home.path(), &hub), 0));
        }
    });
    assert_right(home.path(), &files);
}
