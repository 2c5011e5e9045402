//! Large files from the hub's Xet storage, and from their plain addresses where that fails.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::server::{Asked, Fault, Hub, Plan};
use super::storage::{TOKEN, leave};
use super::{assert_clean, files_of, mini, output, pull, repository, snapshot};

const WEIGHTS: &str = "pytorch_model.bin";

/// What is said, once, where the storage is not used.
const PLAIN: &str = "owner/name comes from the hub's plain addresses";

#[track_caller]
fn assert_right(home: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for file in [WEIGHTS, "config.json", "vocab.txt"] {
        assert!(std::fs::read(snapshot(home).join(file)).unwrap() == files[file], "{file} is another one");
    }
    assert_clean(home);
}

fn asked(hub: &Hub, host: &str) -> Vec<Asked> {
    hub.asked().into_iter().filter(|asked| asked.host == host).collect()
}

#[test]
fn large_files_come_from_the_storage() {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).storage().start();
    let home = tempfile::tempdir().unwrap();
    let (_, said) = output(pull(home.path(), &hub).env("HF_TOKEN", "hf_hubtoken").arg("-vv"), 0);
    assert_right(home.path(), &files);
    assert!(asked(&hub, "cdn").is_empty());
    assert!(!said.contains("hf_hubtoken") && !said.contains(TOKEN) && !said.contains("Signature"), "{said}");
    // The hub is told its token, the storage the one that the hub gave for it, and signed addresses none.
    for one in hub.asked() {
        let told = one.headers.get("authorization").map(String::as_str);
        let expected = match one.host {
            "hub" => Some("Bearer hf_hubtoken".to_string()),
            _ => one.path.starts_with("/v2/").then(|| format!("Bearer {TOKEN}")),
        };
        assert_eq!(told, expected.as_deref(), "{} {}", one.method, one.path);
    }
    let tokens = asked(&hub, "hub").iter().filter(|asked| asked.path.contains("xet-read-token")).count();
    assert_eq!(tokens, 1);
    let cas = asked(&hub, "cas");
    assert!(cas.iter().any(|asked| asked.path.starts_with("/xorbs/")));
    // Nothing is told of what was fetched, and nothing else is kept.
    assert!(cas.iter().all(|asked| asked.method == "GET"));
    let ours = [".cache/huggingface/hub/models--owner--name/", ".cache/huggingface/hub/.locks/models--owner--name/"];
    for name in files_of(home.path()).keys() {
        assert!(ours.iter().any(|folder| name.starts_with(folder)), "{name} was written");
    }
}

#[test]
fn what_was_begun_is_gone_on_from() {
    let files = mini("mini-blip");
    let weights = &files[WEIGHTS];
    let right = weights[..70_000].to_vec();
    let mut wrong = right.clone();
    wrong[10] ^= 1;
    for begun in [right, wrong, vec![7; weights.len()]] {
        let hub = Plan::new(files.clone()).storage().start();
        let home = tempfile::tempdir().unwrap();
        let blobs = repository(home.path()).join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{:x}.incomplete", Sha256::digest(weights))), &begun).unwrap();
        let (_, said) = output(&mut pull(home.path(), &hub), 0);
        assert_right(home.path(), &files);
        assert!(said.is_empty() && asked(&hub, "cdn").is_empty(), "{said}");
        let plans: Vec<_> = asked(&hub, "cas").into_iter().filter(|asked| asked.path.starts_with("/v2/")).collect();
        let range = plans[0].headers.get("range").map_or("", String::as_str);
        assert_eq!(range.starts_with("bytes=70000-"), begun.len() == 70_000, "{range}");
    }
}

#[test]
fn a_storage_that_fails_is_done_without() {
    // Side by side, since each waits between its attempts.
    std::thread::scope(|scope| {
        for (path, fault, reason) in [
            ("", Fault::Status(503, "retry-after: 0\r\n"), "is too busy"),
            ("", Fault::Status(403, ""), ""),
            ("", Fault::Status(404, ""), ""),
            ("/v2/", Fault::Flip, ""),
            ("/v2/", Fault::Break(20), ""),
            ("/xorbs/", Fault::Status(403, ""), ""),
            ("/xorbs/", Fault::Flip, "sends wrong bytes"),
            ("/xorbs/", Fault::Break(1000), ""),
            ("/xorbs/", Fault::SilentBreak(1000), ""),
            ("/xorbs/", Fault::Stall(1000), ""),
        ] {
            scope.spawn(move || is_done_without(path, &fault, reason));
        }
    });
}

#[track_caller]
fn is_done_without(path: &'static str, fault: &Fault, reason: &str) {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).storage().start();
    let home = tempfile::tempdir().unwrap();
    hub.fault_under("cas", path, fault.clone(), 1000);
    let (_, said) = output(pull(home.path(), &hub).env("HF_HUB_DOWNLOAD_TIMEOUT", "4"), 0);
    assert_right(home.path(), &files);
    assert!(said.trim().lines().count() == 1 && said.contains(PLAIN), "{path} {fault:?}: {said}");
    // hf-xet may end its stream before it tells the error.
    let told = said.contains(reason) || said.contains("does not send the whole file");
    assert!(said.contains("the Xet storage http://127.0.0.1:") && told, "{path} {fault:?}: {said}");
    assert!(!asked(&hub, "cas").is_empty() && !asked(&hub, "cdn").is_empty());
}

#[test]
fn a_fault_of_the_storage_that_passes_is_outlived() {
    let files = mini("mini-blip");
    for (path, fault) in [
        ("/v2/", Fault::Status(503, "retry-after: 0\r\n")),
        ("/xorbs/", Fault::Status(503, "retry-after: 0\r\n")),
        ("/xorbs/", Fault::Break(1000)),
    ] {
        let hub = Plan::new(files.clone()).storage().start();
        let home = tempfile::tempdir().unwrap();
        hub.fault_under("cas", path, fault.clone(), 1);
        let (_, said) = output(&mut pull(home.path(), &hub), 0);
        assert_right(home.path(), &files);
        assert!(said.is_empty() && asked(&hub, "cdn").is_empty(), "{path} {fault:?}: {said}");
    }
}

#[test]
fn leave_that_cannot_be_used_is_done_without() {
    let files = mini("mini-blip");
    for (text, said) in [
        // Nobody listens there. Why is not always told: the error may come after the end.
        (leave("http://127.0.0.1:9", 900), "the Xet storage http://127.0.0.1:9/ "),
        (leave("file:///etc/passwd", 900), "no address or token that could be used"),
        (leave("http://127.0.0.1:9", 0), "no address or token that could be used"),
        (leave("http://127.0.0.1:9", 900).replace(TOKEN, "a\\nb"), "no address or token that could be used"),
        ("<html>".to_string(), "no address or token that could be used"),
    ] {
        let hub = Plan::new(files.clone()).leave(&text).start();
        let home = tempfile::tempdir().unwrap();
        let (_, error) = output(&mut pull(home.path(), &hub), 0);
        assert_right(home.path(), &files);
        assert!(error.contains(said) && error.contains(PLAIN) && error.trim().lines().count() == 1, "{text}: {error}");
    }
}

#[test]
fn a_machine_without_certificates_reads_the_plain_address() {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).storage().start();
    let home = tempfile::tempdir().unwrap();
    let (_, error) = output(pull(home.path(), &hub).env("SSL_CERT_DIR", home.path().join("none")), 0);
    assert_right(home.path(), &files);
    assert!(error.contains("cannot be used on this machine") && error.trim().lines().count() == 1, "{error}");
}

#[test]
fn the_storage_is_not_asked_where_it_is_not_wanted() {
    let files = mini("mini-blip");
    let hub = Plan::new(files.clone()).storage().start();
    let home = tempfile::tempdir().unwrap();
    let (_, error) = output(pull(home.path(), &hub).env("HF_HUB_DISABLE_XET", "1"), 0);
    assert_right(home.path(), &files);
    assert!(error.is_empty() && asked(&hub, "cas").is_empty(), "{error}");
    assert!(asked(&hub, "hub").iter().all(|asked| !asked.path.contains("xet-read-token")));
}
