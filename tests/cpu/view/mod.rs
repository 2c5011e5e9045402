//! `toolkit view` over HTTP: what it serves, whom it refuses, and that no answer is lost.

mod server;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use toolkit::run::csv;
use toolkit::run::people::{People, RatingRow, VoteRow};
use toolkit::run::style::ItemRow;

pub use server::Server;

use crate::report::fixture::{Fixture, STYLES};

/// A run folder of some strategies and photos.
pub fn run_folder(strategies: usize, photos: usize) -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("style_ablation");
    std::fs::create_dir(&dir).unwrap();
    Fixture { strategies, photos, side: 48 }.write(&dir).unwrap();
    (temp, dir)
}

fn ratings(dir: &Path) -> Vec<RatingRow> {
    csv::read(&dir.join("ratings.csv"), &["rater", "id", "strategy", "rating", "reason", "at"]).unwrap()
}

fn votes(dir: &Path) -> Vec<VoteRow> {
    csv::read(&dir.join("votes.csv"), &["rater", "id", "left", "right", "choice", "at"]).unwrap()
}

fn rating(rater: &str, id: &str, rating: &str) -> serde_json::Value {
    json!({ "rater": rater, "id": id, "strategy": STYLES[0].0, "rating": rating, "reason": "" })
}

#[test]
fn the_page_and_the_pictures_of_the_run_are_served_and_no_other_file() {
    let (temp, dir) = run_folder(3, 6);
    std::fs::write(temp.path().join("secret.png"), "secret").unwrap();
    std::fs::write(dir.join("images/notes.png"), "not of this run").unwrap();
    let server = Server::start(&dir);
    assert_eq!(server.url, format!("http://127.0.0.1:{}/", server.port));
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let html = page.text();
    let items: Vec<ItemRow> = csv::read(&dir.join("items.csv"), &[]).unwrap();
    for item in &items {
        let cell =
            format!("data-photo=\"{}\" data-strategy=\"{}\" data-status=\"{}\"", item.id, item.strategy, item.status);
        assert_eq!(html.matches(&cell).count(), 1, "{cell}");
    }
    let rated = items.iter().filter(|item| item.status == "done").count();
    assert_eq!(html.matches("data-rate=\"success\"").count(), rated);
    assert!(page.headers.contains("content-security-policy: default-src 'none'; img-src 'self' blob:;"));
    // The page itself names no other host and holds no code.
    assert!(
        !html.contains("http://")
            && !html.contains("https://")
            && !html.contains(" style=")
            && !html.contains("onclick")
    );
    for path in ["/assets/view.css", "/assets/view.js", "/favicon.ico"] {
        assert!((200..300).contains(&server.get(path).status), "{path}");
    }
    let item = items.iter().find(|item| item.status == "done").unwrap();
    let whole = server.get(&format!("/{}", item.image));
    assert_eq!((whole.status, whole.body == std::fs::read(dir.join(&item.image)).unwrap()), (200, true));
    assert!(whole.headers.contains("content-type: image/png"));
    assert_eq!(server.get(&format!("/{}", item.photo)).status, 200);
    let small = server.get(&format!("/thumbs/{}", item.image));
    assert!(small.status == 200 && small.body.starts_with(&[0xff, 0xd8]), "a JPEG");
    // A photo of a camera is as wide as the grid shows it, and twice that on a screen of small pixels.
    image::RgbImage::new(900, 600).save(dir.join(&item.photo)).unwrap();
    for (query, width) in [("", 190), ("?2x", 380)] {
        let small = image::load_from_memory(&server.get(&format!("/thumbs/{}{query}", item.photo)).body).unwrap();
        assert_eq!(small.width(), width);
        assert!(html.contains(&format!("thumbs/{}{query}", item.photo)), "{query}");
    }
    for path in [
        "/images/../../secret.png",
        "/images/%2e%2e/%2e%2e/secret.png",
        "/images/..%2f..%2fsecret.png",
        "/thumbs/../../secret.png",
        "/images/%00.png",
        "/images/%ff.png",
        "//etc/passwd",
        "/images/notes.png",
        "/items.csv",
        "/config.toml",
        "/images/",
        "/nothing",
    ] {
        let answer = server.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("secret"), "{path}");
    }
    // A picture that became a link after the start leads nowhere either.
    std::fs::remove_file(dir.join(&item.image)).unwrap();
    std::os::unix::fs::symlink(temp.path().join("secret.png"), dir.join(&item.image)).unwrap();
    assert_eq!(server.get(&format!("/{}", item.image)).status, 404);
}

#[test]
fn answers_are_on_disk_when_they_are_acknowledged() {
    let (_temp, dir) = run_folder(3, 6);
    let server = Server::start(&dir);
    let (first, second) = (STYLES[0].0, STYLES[1].0);
    let body = json!({ "rater": " Ann \"A\", B ", "id": "face-001", "strategy": first, "rating": "failure", "reason": "deformed" });
    let answer = server.post("/api/ratings", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rows = ratings(&dir);
    let row = RatingRow {
        rater: "Ann \"A\", B".into(),
        id: "face-001".into(),
        strategy: first.into(),
        rating: "failure".into(),
        reason: "deformed".into(),
        at: rows[0].at.clone(),
    };
    assert_eq!(rows, [row]);
    assert!(rows[0].at.len() == 20 && rows[0].at.ends_with('Z'), "{}", rows[0].at);
    assert_eq!(server.post("/api/ratings", &rating("ben", "face-001", "success")).status, 200);
    let put = [("Host", server.host()), ("Content-Type", "application/json".into())];
    let put: Vec<(&str, &str)> = put.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = rating("ben", "face-001", "failure").to_string();
    assert_eq!(server.ask("PUT", "/api/ratings", &put, body.as_bytes()).status, 200, "scripts have no Origin");
    let vote = json!({ "rater": "ben", "id": "face-001", "left": second, "right": first, "choice": "tie" });
    assert_eq!(server.post("/api/votes", &vote).status, 200);
    let text = std::fs::read_to_string(dir.join("votes.csv")).unwrap();
    assert!(
        text.starts_with(&format!("rater,id,left,right,choice,at\nben,face-001,{second},{first},tie,20")),
        "{text}"
    );
    let said = server.get("/api/answers?rater=ben").json();
    assert_eq!((said["ratings"][0]["rating"].as_str(), said["votes"].as_u64()), (Some("failure"), Some(1)));
    assert_eq!(said["ratings"].as_array().unwrap().len(), 1, "the last one counts");
    // What a rater said is there again after a restart.
    drop(server);
    let server = Server::start(&dir);
    assert_eq!(server.get("/api/answers?rater=ben").json()["ratings"][0]["rating"], "failure");
    let undone = server.post("/api/undo", &json!({ "rater": "ben", "table": "ratings" })).json();
    assert_eq!(
        (undone["undone"]["rating"].as_str(), undone["now"]["rating"].as_str()),
        (Some("failure"), Some("success"))
    );
    let undone = server.post("/api/undo", &json!({ "rater": "ben", "table": "votes" })).json();
    assert_eq!((undone["undone"]["left"].as_str(), undone["pair"]["left"].as_str()), (Some(second), Some(second)));
    assert!(votes(&dir).is_empty());
    let raters: Vec<String> = ratings(&dir).into_iter().map(|row| row.rater).collect();
    assert_eq!(raters, ["Ann \"A\", B", "ben"], "nobody else's answer is taken back");
}

#[test]
fn what_is_malformed_is_refused_and_nothing_is_written() {
    let (_temp, dir) = run_folder(3, 8);
    let server = Server::start(&dir);
    let failed = csv::read::<ItemRow>(&dir.join("items.csv"), &[]).unwrap().into_iter().find(|i| i.status == "failed");
    let failed = failed.unwrap();
    let good = rating("ann", "face-001", "success");
    let with = |key: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let mut bodies = vec![json!(null), json!([]), json!({}), json!("x"), json!([good])];
    bodies.extend(["rater", "id", "strategy", "rating"].map(|key| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(key);
        body
    }));
    bodies.extend(["rater", "id", "strategy", "rating"].map(|key| with(key, json!(7))));
    bodies.extend(["good", "", "SUCCESS", "success\n"].map(|value| with("rating", json!(value))));
    bodies.extend(["", "  ", "a\nb", "=1+1", &"x".repeat(81)].map(|value| with("rater", json!(value))));
    bodies.extend(["face-999", "../face-001", ""].map(|value| with("id", json!(value))));
    bodies.push(with("strategy", json!("no such")));
    bodies.push(with("reason", json!("deformed")));
    bodies.push(json!({ "rater": "ann", "id": failed.id, "strategy": failed.strategy, "rating": "failure" }));
    bodies.push(
        json!({ "rater": "ann", "id": "face-001", "strategy": STYLES[0].0, "rating": "failure", "reason": "ugly" }),
    );
    for body in &bodies {
        let answer = server.post("/api/ratings", body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    let (first, second) = (STYLES[0].0, STYLES[1].0);
    for (left, right, choice) in
        [(first, first, "left"), (first, "none", "left"), (first, second, "both"), (first, second, "")]
    {
        let vote = json!({ "rater": "ann", "id": "face-001", "left": left, "right": right, "choice": choice });
        assert_eq!(server.post("/api/votes", &vote).status, 400, "{vote}");
    }
    assert_eq!(server.post("/api/undo", &json!({ "rater": "ann", "table": "items" })).status, 400);
    assert!(!dir.join("ratings.csv").exists() && !dir.join("votes.csv").exists());
    assert_eq!(server.post("/api/ratings", &good).status, 200);
    assert_eq!(ratings(&dir).len(), 1);
}

#[test]
fn others_are_refused() {
    let (_temp, dir) = run_folder(2, 3);
    let server = Server::start(&dir);
    let (host, json_type) = (server.host(), "application/json");
    let body = rating("ann", "face-001", "success").to_string();
    let origin = format!("http://{host}");
    let write =
        |headers: &[(&str, &str)], body: &str| server.ask("POST", "/api/ratings", headers, body.as_bytes()).status;
    let other_port = format!("http://127.0.0.1:{}", server.port.wrapping_add(1));
    for foreign in ["http://evil.example", "null", &other_port] {
        let headers = [("Host", host.as_str()), ("Content-Type", json_type), ("Origin", foreign)];
        assert_eq!(write(&headers, &body), 403, "{foreign}");
    }
    let own = [("Host", host.as_str()), ("Origin", origin.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [own.to_vec(), more.to_vec()].concat();
    assert_eq!(write(&with(&[("Content-Type", json_type), ("Sec-Fetch-Site", "cross-site")]), &body), 403);
    assert_eq!(write(&with(&[("Content-Type", "text/plain")]), &body), 415);
    assert_eq!(write(&with(&[("Content-Type", "application/x-www-form-urlencoded")]), &body), 415);
    assert_eq!(write(&own, &body), 415);
    assert_eq!(write(&[("Host", "evil.example"), ("Content-Type", json_type)], &body), 403);
    let large = json!({ "rater": "ann", "id": "face-001", "strategy": STYLES[0].0, "rating": "success", "reason": "x".repeat(1 << 20) });
    assert_eq!(write(&with(&[("Content-Type", json_type)]), &large.to_string()), 413);
    // A client that writes all of it before it reads still sees the answer.
    let longer = vec![b' '; 8 << 20];
    for (kind, status) in [("application/json", 413), ("text/plain", 415)] {
        let headers = with(&[("Content-Type", kind)]);
        assert_eq!(server.ask("POST", "/api/ratings", &headers, &longer).status, status);
    }
    for method in ["DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(server.ask(method, "/api/ratings", &with(&[("Content-Type", json_type)]), b"{}").status, 405);
    }
    assert_eq!(server.ask("GET", "/", &[("Host", "evil.example")], b"").status, 403);
    assert_eq!(server.ask("GET", "/", &[("Host", &format!("evil.example:{}", server.port))], b"").status, 403);
    assert!((400..500).contains(&server.ask("GET", "/", &[], b"").status));
    assert_eq!(server.ask("GET", "/api/ratings", &[("Host", &host)], b"").status, 405);
    assert_eq!(server.ask("GET", "/", &[("Host", &host), ("Sec-Fetch-Site", "cross-site")], b"").status, 403);
    assert!(!dir.join("ratings.csv").exists());
    assert_eq!(write(&with(&[("Content-Type", json_type), ("Sec-Fetch-Site", "same-origin")]), &body), 200);
}

#[test]
fn two_browsers_and_two_servers_at_once_lose_nothing() {
    let (_temp, dir) = run_folder(2, 30);
    let servers = [Server::start(&dir), Server::start(&dir)];
    let ids = ["a", "b", "c", "d"];
    std::thread::scope(|scope| {
        for (at, rater) in ids.into_iter().enumerate() {
            let server = &servers[at % 2];
            scope.spawn(move || {
                for p in (0..30).filter(|p| p % 19 != 7) {
                    let answer = server.post("/api/ratings", &rating(rater, &format!("face-{p:03}"), "success"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    if p % 10 == 3 {
                        // Taken back and given again: the whole file is written anew while others append.
                        let undo = json!({ "rater": rater, "table": "ratings" });
                        assert_eq!(server.post("/api/undo", &undo).json()["undone"]["id"], format!("face-{p:03}"));
                        let again = server.post("/api/ratings", &rating(rater, &format!("face-{p:03}"), "failure"));
                        assert_eq!(again.status, 200);
                    }
                }
            });
        }
    });
    let rows = ratings(&dir);
    let said: BTreeSet<(String, String)> = rows.iter().map(|row| (row.rater.clone(), row.id.clone())).collect();
    assert_eq!((rows.len(), said.len()), (4 * 28, 4 * 28));
    assert_eq!(rows.iter().filter(|row| row.rating == "failure").count(), 4 * 3);
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let (_temp, dir) = run_folder(1, 12);
    let acknowledged = AtomicUsize::new(0);
    for round in 0..4 {
        let server = Server::start(&dir);
        let port = server.port;
        std::thread::scope(|scope| {
            let acknowledged = &acknowledged;
            let client = server.ask_only();
            scope.spawn(move || {
                for at in 0.. {
                    let rater = format!("rater {round}-{at}");
                    match client.try_post("/api/ratings", &rating(&rater, "face-001", "success")) {
                        Some(200) => acknowledged.fetch_add(1, Ordering::SeqCst),
                        _ => break,
                    };
                }
            });
            std::thread::sleep(Duration::from_millis(120 + 70 * round));
            server.kill();
        });
        assert!(port > 0);
        // One more may have been written whose answer did not come any more; rows follow each other without a gap.
        let rows = ratings(&dir);
        let lost = acknowledged.load(Ordering::SeqCst) as i64 - rows.len() as i64;
        assert!((-(round as i64) - 1..=0).contains(&lost), "round {round}: {lost} acknowledged answers are gone");
        for round in 0..=round {
            let of_round = rows.iter().filter(|row| row.rater.starts_with(&format!("rater {round}-"))).enumerate();
            of_round.for_each(|(at, row)| assert_eq!(row.rater, format!("rater {round}-{at}")));
        }
    }
    assert!(acknowledged.load(Ordering::SeqCst) > 8, "some were acknowledged");
    // A row that was cut off, as a machine that lost its power may leave it, goes; all others stay.
    let whole = std::fs::read(dir.join("ratings.csv")).unwrap();
    std::fs::write(dir.join("ratings.csv"), [whole.as_slice(), b"ann,face-0"].concat()).unwrap();
    assert_eq!(People::read(&dir).unwrap().ratings.len(), ratings_in(&whole), "a report leaves it out");
    let server = Server::start(&dir);
    assert_eq!(server.post("/api/ratings", &rating("ann", "face-001", "success")).status, 200);
    let text = std::fs::read(dir.join("ratings.csv")).unwrap();
    assert!(text.starts_with(&whole) && ratings_in(&text) == ratings_in(&whole) + 1);
}

fn ratings_in(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count() - 1
}

#[test]
fn a_disk_that_is_full_is_said_and_leaves_whole_rows() {
    let (_temp, dir) = run_folder(1, 4);
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 1; exec \"$0\" view --no-open --port 0 \"$1\""]);
    command.arg(assert_cmd::cargo::cargo_bin("toolkit")).arg(&dir);
    let server = Server::of(command);
    let mut stored = 0;
    let refused = loop {
        let answer = server.post("/api/ratings", &rating(&"long ".repeat(12), "face-001", "success"));
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100);
    };
    assert_eq!(refused.status, 500);
    assert!(refused.json()["error"].as_str().unwrap().contains("ratings.csv"), "{}", refused.text());
    assert!(stored > 3 && ratings(&dir).len() == stored);
}

#[test]
fn it_ends_at_once_and_finds_a_free_port() {
    let (_temp, dir) = run_folder(1, 4);
    let first = Server::start(&dir);
    let port = first.port.to_string();
    let second = Server::with(&dir, &["--port", &port]);
    assert_ne!(first.port, second.port);
    assert_eq!(second.get("/").status, 200);
    assert_eq!(second.post("/api/ratings", &rating("ann", "face-001", "success")).status, 200);
    // A browser that keeps its connection, and one that never ends its request, are not waited for.
    let idle = std::net::TcpStream::connect(("127.0.0.1", second.port)).unwrap();
    let mut slow = std::net::TcpStream::connect(("127.0.0.1", second.port)).unwrap();
    std::io::Write::write_all(&mut slow, b"POST /api/ratings HTTP/1.1\r\nHost: ").unwrap();
    let (status, said, took) = second.end(libc::SIGINT);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(said.contains(&format!("ended; {} holds 1 ratings and 0 votes", dir.display())), "{said}");
    drop((idle, slow));
    let (status, said, _) = first.end(libc::SIGTERM);
    assert_eq!(status.code(), Some(0));
    assert!(said.contains("only this machine can open it (--host opens it to a network); Ctrl-C ends it"), "{said}");
}

#[test]
fn a_network_needs_the_token_of_the_address() {
    let (_temp, dir) = run_folder(1, 4);
    let server = Server::with(&dir, &["--host", "0.0.0.0", "--port", "0"]);
    let token = server.url.split_once("/?token=").unwrap().1.to_string();
    assert_eq!(token.len(), 32);
    let host = server.host();
    assert_eq!(server.get("/").status, 401);
    assert_eq!(server.get("/?token=0").status, 401);
    assert_eq!(server.get("/images/watercolour/face-001.png").status, 401);
    let page = server.get(&format!("/?token={token}"));
    assert_eq!(page.status, 200);
    let cookie = page.headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(server.ask("GET", "/", &[("Host", &host), ("Cookie", cookie)], b"").status, 200);
    let body = rating("ann", "face-001", "success").to_string();
    let write = |headers: &[(&str, &str)]| server.ask("POST", "/api/ratings", headers, body.as_bytes()).status;
    assert_eq!(write(&[("Host", &host), ("Content-Type", "application/json")]), 401);
    assert_eq!(write(&[("Host", &host), ("Content-Type", "application/json"), ("Cookie", cookie)]), 200);
    assert_eq!(server.ask("GET", "/", &[("Host", "evil.example"), ("Cookie", cookie)], b"").status, 403);
}

/// What the program says of a folder that it cannot show, and its status.
fn failure(dir: &Path) -> (String, Option<i32>) {
    let output =
        assert_cmd::Command::cargo_bin("toolkit").unwrap().args(["view", "--no-open"]).arg(dir).output().unwrap();
    (String::from_utf8(output.stderr).unwrap().replace(&dir.display().to_string(), "RUN"), output.status.code())
}

#[test]
fn what_cannot_be_shown_is_one_line() {
    let (_temp, dir) = run_folder(1, 4);
    std::fs::write(dir.join("ratings.csv"), "id,note\n1,x\n").unwrap();
    let columns =
        "RUN/ratings.csv, line 1: columns [\"rater\", \"strategy\", \"rating\", \"reason\", \"at\"] are missing";
    assert_eq!(failure(&dir), (format!("error: {columns}\n"), Some(1)));
    std::fs::remove_file(dir.join("ratings.csv")).unwrap();
    std::fs::write(dir.join("config.toml"), "kind = \"caption\"\n").unwrap();
    let (text, status) = failure(&dir);
    assert!(status == Some(2) && text.starts_with("error: RUN is a caption run: view shows"), "{text}");
    std::fs::remove_dir_all(&dir).unwrap();
    let (text, status) = failure(&dir);
    assert!(status == Some(2) && text.contains("RUN is not a folder"), "{text}");
}

/// As another user, or from a file system that is only read.
#[test]
fn a_folder_that_cannot_be_written_to_is_shown_but_not_judged() {
    let (temp, dir) = run_folder(2, 4);
    csv::write(&dir.join("ratings.csv"), &[] as &[RatingRow], &[]).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("toolkit"));
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        // Nothing is forbidden to root: another user runs a copy of the program.
        let program = temp.path().join("toolkit");
        std::fs::copy(assert_cmd::cargo::cargo_bin("toolkit"), &program).unwrap();
        for place in [temp.path(), &program] {
            std::fs::set_permissions(place, PermissionsExt::from_mode(0o755)).unwrap();
        }
        command = Command::new(program);
        command.uid(65534).gid(65534);
        let starts = Command::new(temp.path().join("toolkit")).arg("--version").uid(65534).gid(65534).output();
        if !starts.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: another user cannot start the program here");
            return;
        }
    } else {
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o555)).unwrap();
    }
    command.args(["view", "--no-open", "--port", "0"]).arg(&dir);
    let server = Server::of(command);
    let html = server.get("/").text();
    assert!(html.contains("its pictures can be looked at, not judged") && html.contains("role=\"grid\""), "{html}");
    assert!(!html.contains("data-rate=") && !html.contains("data-vote="), "nothing to press");
    assert_eq!(server.get("/images/watercolour/face-001.png").status, 200);
    let script = server.get("/assets/view.js").text();
    assert!(script.contains("grid-open") && !script.contains("api/"), "its script asks for no answers");
    for (path, body) in [
        ("/api/ratings", rating("ann", "face-001", "success")),
        ("/api/undo", json!({ "rater": "ann", "table": "ratings" })),
    ] {
        let answer = server.post(path, &body);
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (403, Some("the run folder cannot be written to"))
        );
    }
    assert_eq!(server.get("/api/pair?rater=ann").status, 403);
    assert!(!dir.join("view").exists() && ratings(&dir).is_empty());
    let (status, said, _) = server.end(libc::SIGINT);
    assert!(
        status.success() && said.contains("cannot be written to: its pictures can be looked at, not judged"),
        "{said}"
    );
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
}
