//! `export mlflow`: runs on a real MLflow server from PyPI, which is fetched once into `target/tmp` (what its server needs of
//! it, without the machine learning libraries: a minute), and read back by REST.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use toolkit::run::csv;
use toolkit::run::style::ResultRow;

use crate::python_packages;
use crate::report::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(300);

/// The server in a process group of its own, since its work is done by a child.
struct Mlflow {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
    http: reqwest::blocking::Client,
}

impl Mlflow {
    fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let packages = python_packages::folder("mlflow-3.17.2", "tests/mlflow/requirements.txt");
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("python3");
        command.args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()]);
        command.args(["--backend-store-uri", "sqlite:///runs.db", "--artifacts-destination", "./artifacts"]);
        command.env("PYTHONPATH", packages).env("HOME", folder.path()).env("MLFLOW_DISABLE_TELEMETRY", "true");
        command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false").current_dir(folder.path()).process_group(0);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let http = reqwest::blocking::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let server = Self { child: command.spawn().unwrap(), url: format!("http://127.0.0.1:{port}"), folder, http };
        let begun = Instant::now();
        while !server.http.get(format!("{}/health", server.url)).send().is_ok_and(|answer| answer.status() == 200) {
            let said = || std::fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "the server does not start: {}", said());
            std::thread::sleep(Duration::from_millis(200));
        }
        server
    }

    fn tell(&self, what: &str, body: &Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{what}", self.url);
        let request = self.http.post(&url).header("Content-Type", "application/json").body(body.to_string());
        let answer = request.send().unwrap();
        let (status, text) = (answer.status(), answer.text().unwrap());
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let answer = self.http.get(format!("{}/{path}", self.url)).send().unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().unwrap().to_vec()
    }

    /// The runs of an experiment.
    fn runs(&self, experiment: &str) -> Vec<Value> {
        let found: Value = serde_json::from_slice(
            &self.get(&format!("api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")),
        )
        .unwrap();
        let id = found["experiment"]["experiment_id"].as_str().unwrap();
        let asked = json!({ "experiment_ids": [id], "max_results": 100 });
        self.tell("runs/search", &asked)["runs"].as_array().cloned().unwrap_or_default()
    }

    fn export(&self, dir: &Path, options: &[&str]) -> Output {
        export(dir, &[&["--uri", self.url.as_str()], options].concat())
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        // SAFETY: a signal to the group that was started above.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn export(dir: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("toolkit"));
    command.args(["export", "mlflow"]).arg(dir).args(options).env("NO_PROXY", "*");
    for name in ["TOKEN", "USERNAME", "PASSWORD", "URI"] {
        command.env_remove(format!("MLFLOW_TRACKING_{name}"));
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a run holds under these names, `key` to `value`.
fn pairs(run: &Value, what: &str) -> Vec<(String, Value)> {
    let listed = run["data"][what].as_array().cloned().unwrap_or_default();
    listed.iter().map(|entry| (entry["key"].as_str().unwrap().to_string(), entry["value"].clone())).collect()
}

fn of<'a>(pairs: &'a [(String, Value)], name: &str) -> &'a Value {
    let found = pairs.iter().find(|(key, _)| key == name);
    &found.unwrap_or_else(|| panic!("{name} is not among {pairs:?}")).1
}

fn run_folder(strategies: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("style_ablation");
    Fixture { strategies, photos: 6, side: 32 }.write(&dir).unwrap();
    // What is no number is left out, and a text that is longer than the server takes is cut.
    let mut rows: Vec<ResultRow> = csv::read(&dir.join("results.csv"), &["strategy"]).unwrap();
    rows[0].values.set_value("lpips", Some(f64::NAN));
    rows[0].axes.set(&toolkit::axes::instruction::AXIS, "why ".repeat(4000).as_str());
    csv::write(&dir.join("results.csv"), &rows, &[]).unwrap();
    toolkit::report::page(&dir).unwrap();
    (temp, dir)
}

#[test]
fn a_server_holds_what_was_exported() {
    let server = Mlflow::start();
    let (_temp, dir) = run_folder(2);
    let told = server.export(&dir, &["--experiment", "styles"]);
    let said = text(&told.stderr);
    assert!(told.status.success(), "{said}");
    assert_eq!(text(&told.stdout).lines().count(), 2, "a line a run");
    let runs = server.runs("styles");
    let results: Vec<ResultRow> = csv::read(&dir.join("results.csv"), &["strategy"]).unwrap();
    assert_eq!(runs.len(), 2);
    let named = |name: &str| runs.iter().find(|run| run["info"]["run_name"] == name).expect("a run of this name");
    for row in &results {
        let run = named(&row.strategy);
        let info = &run["info"];
        assert_eq!(info["status"], "FINISHED");
        assert!(text(&told.stdout).contains(info["run_id"].as_str().unwrap()));
        assert_eq!(info["start_time"], json!(1_780_000_000_000_u64));
        let (metrics, params, tags) = (pairs(run, "metrics"), pairs(run, "params"), pairs(run, "tags"));
        for name in ["artfid", "fid", "lpips"] {
            let known = |value: Option<f64>| value.filter(|value| value.is_finite());
            let value = row.values.get(name);
            for (key, value) in [
                (name.to_string(), value.value),
                (format!("{name}_low"), value.low),
                (format!("{name}_high"), value.high),
            ] {
                match known(value) {
                    Some(value) => assert_eq!(of(&metrics, &key).as_f64(), Some(value), "{key}"),
                    None => assert!(!metrics.iter().any(|(own, _)| *own == key), "{key} is no number"),
                }
            }
        }
        assert_eq!(of(&metrics, "n").as_f64(), Some(row.n as f64));
        assert_eq!(of(&params, "style_text"), row.style_text());
        assert_eq!(of(&params, "guidance_scale"), "7");
        assert_eq!(of(&params, "comparison_size"), "224");
        assert_eq!(of(&params, "device"), "cpu");
        assert_eq!(of(&tags, "toolkit.entry"), row.strategy.as_str());
        let place = info["artifact_uri"].as_str().unwrap().strip_prefix("mlflow-artifacts:/").unwrap();
        for file in ["results.csv", "report.html"] {
            let kept = server.get(&format!("api/2.0/mlflow-artifacts/artifacts/{place}/{file}"));
            assert!(kept == std::fs::read(dir.join(file)).unwrap(), "{file}");
        }
    }
    let first = named(&results[0].strategy);
    assert!(of(&pairs(first, "params"), "instruction").as_str().unwrap().ends_with('…'));
    assert!(!pairs(first, "metrics").iter().any(|(name, _)| name == "lpips"), "NaN is left out");
    again_and_elsewhere(&server, &dir);
    half_way(&server, &dir);
}

/// Twice makes new runs, of one tag, and says so; an experiment may keep its artifacts in a folder.
fn again_and_elsewhere(server: &Mlflow, dir: &Path) {
    let second = server.export(dir, &["--experiment", "styles"]);
    let said = text(&second.stderr);
    assert!(second.status.success() && said.contains("2 of an earlier export of this run folder stay there"), "{said}");
    let runs = server.runs("styles");
    let tags: Vec<Value> = runs.iter().map(|run| of(&pairs(run, "tags"), "toolkit.run").clone()).collect();
    assert!(runs.len() == 4 && tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");

    let place = tempfile::tempdir().unwrap();
    let location = format!("file://{}/kept", place.path().display());
    server.tell("experiments/create", &json!({ "name": "in-a-folder", "artifact_location": location }));
    let done = server.export(dir, &["--experiment", "in-a-folder", "-q"]);
    assert!(done.status.success() && done.stderr.is_empty(), "{}", text(&done.stderr));
    let uri = server.runs("in-a-folder")[1]["info"]["artifact_uri"].as_str().unwrap().to_string();
    let kept = std::fs::read(Path::new(uri.strip_prefix("file://").unwrap()).join("report.html")).unwrap();
    assert!(kept == std::fs::read(dir.join("report.html")).unwrap());

    server.tell("experiments/create", &json!({ "name": "in-a-bucket", "artifact_location": "s3://bucket/x" }));
    let refused = server.export(dir, &["--experiment", "in-a-bucket"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("s3:") && said.contains("--serve-artifacts"), "{said}");
    assert!(server.runs("in-a-bucket").is_empty(), "nothing was begun");

    // Without --experiment it has the run's name.
    assert!(server.export(dir, &[]).status.success());
    assert_eq!(server.runs("style_ablation").len(), 2);
}

/// What fails half-way is marked as failed.
fn half_way(server: &Mlflow, dir: &Path) {
    let kept = server.folder.path().join("artifacts");
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::write(&kept, "no folder").unwrap();
    let failed = server.export(dir, &["--experiment", "half-way"]);
    let said = text(&failed.stderr);
    assert_eq!((failed.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("0 of 2 runs are exported") && said.contains("is marked as failed"), "{said}");
    let runs = server.runs("half-way");
    assert_eq!((runs.len(), &runs[0]["info"]["status"]), (1, &json!("FAILED")));
}

#[test]
fn no_server_is_one_line() {
    let (_temp, dir) = run_folder(1);
    let uri = format!("http://127.0.0.1:{}", free_port());
    for (options, status, said) in [
        (["--uri", uri.as_str()].as_slice(), 1, "no MLflow server answers at"),
        (&["--uri", "mlruns"], 2, "is not the address of an MLflow server"),
        (&["--offline", "--uri", "http://mlflow.example"], 2, "another machine"),
    ] {
        let output = export(&dir, options);
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(status), 1), "{line}");
        assert!(line.contains(said) && output.stdout.is_empty(), "{line}");
    }
    std::fs::remove_file(dir.join("report.html")).unwrap();
    let line = text(&export(&dir, &["--uri", &uri]).stderr);
    assert!(line.contains("has no report.html"), "{line}");
}

/// Who asks is said as MLflow's own client says it, and a server that wants to know says what is to be set.
#[test]
fn a_server_is_shown_who_asks() {
    let (_temp, dir) = run_folder(1);
    let user =
        [("MLFLOW_TRACKING_USERNAME", "me"), ("MLFLOW_TRACKING_PASSWORD", "secret"), ("MLFLOW_TRACKING_TOKEN", "x")];
    for (settings, header) in
        [(user.as_slice(), "Basic bWU6c2VjcmV0"), (&[("MLFLOW_TRACKING_TOKEN", "abc.def")], "Bearer abc.def")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let heard = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).unwrap() > 0 {}
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").unwrap();
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 1]);
            head
        });
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("toolkit"));
        command.args(["export", "mlflow", "--uri", &uri]).arg(&dir).env("NO_PROXY", "*");
        command.env_remove("MLFLOW_TRACKING_USERNAME").envs(settings.iter().copied());
        let output = command.output().unwrap();
        let (head, line) = (heard.join().unwrap().to_lowercase(), text(&output.stderr));
        assert!(head.contains(&format!("authorization: {header}").to_lowercase()), "{head}");
        assert!(line.contains("MLFLOW_TRACKING_TOKEN") && !line.contains("secret"), "{line}");
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    }
}
