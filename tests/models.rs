//! Finding, downloading and checking models: the table, the Hugging Face cache, a hub on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use sha2::{Digest, Sha256};
use toolkit::models::{self, Family, MODELS, Source};
use toolkit::runtime::{DtypeChoice, Runtime};

const RT: Runtime = Runtime { device: tch::Device::Cpu, dtype: DtypeChoice::Auto, offline: true };

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program with caches in `home` and nothing else.
fn toolkit(home: &Path) -> Command {
    let mut command = Command::cargo_bin("toolkit").unwrap();
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TORCH_HOME", "XDG_CACHE_HOME"]
    {
        command.env_remove(name);
    }
    command.env("HOME", home).env("TMPDIR", home).env("TOOLKIT_HOME", root());
    command
}

fn output(command: &mut Command, status: i32) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    (out, err)
}

#[test]
fn the_table_is_sound() {
    for (i, entry) in MODELS.iter().enumerate() {
        assert!(MODELS[..i].iter().all(|other| other.name != entry.name), "{} is there twice", entry.name);
        assert!(!entry.about.is_empty());
        match entry.source {
            Source::Embedded(_) => {
                // The family that the table says is the one that the files say.
                let located = models::locate(entry.name, &RT).unwrap();
                assert_eq!(models::family_of(&located.path).unwrap(), entry.family, "{}", entry.name);
            }
            Source::Torch { file, url } => assert!(url.ends_with(file)),
            Source::Hub(id) | Source::HubFile { repo: id, .. } => assert_eq!(id.split('/').count(), 2),
        }
    }
    for name in ["blip-base", "blip-large", "phi-4-multimodal", "sd3-medium", "sd-v1-5", "art-inception", "lpips-alex"]
    {
        assert_eq!(models::find(name).unwrap().name, name);
    }
}

#[test]
fn metric_files_are_found_by_their_tensors() {
    let mini = root().join("experiments/mini/models");
    let inception = models::locate_inception("mini-art-inception", &RT).unwrap();
    assert_eq!(inception, mini.join("mini-art-inception/art_inception.pth"));
    let lpips = models::locate_lpips("mini-lpips", "mini-lpips", &RT).unwrap();
    assert_eq!(lpips.backbone, mini.join("mini-lpips/alexnet.pth"));
    assert_eq!(lpips.linear, mini.join("mini-lpips/alex.pth"));
    // The published heads are part of the repository, with any trunk.
    let lpips = models::locate_lpips(lpips.backbone.to_str().unwrap(), "lpips-alex", &RT).unwrap();
    assert_eq!(lpips.linear, root().join("assets/lpips/alex.pth"));
    let wrong = models::locate_inception("mini-lpips", &RT).unwrap_err().to_string();
    assert!(wrong.contains("mini-lpips is a metric net LPIPS, not a metric net art-Inception"), "{wrong}");
    let swapped = models::locate_lpips(lpips.linear.to_str().unwrap(), "mini-lpips", &RT).unwrap_err().to_string();
    assert!(swapped.contains("no tensor features.0.weight here"), "{swapped}");
}

#[test]
fn the_family_is_read_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    for (text, family) in [
        (r#"{"model_type": "blip"}"#, Family::Blip),
        (r#"{"model_type": "phi4mm"}"#, Family::Phi4Multimodal),
        (r#"{"model_type": "phi4_multimodal"}"#, Family::Phi4Multimodal),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(models::family_of(dir.path()).unwrap(), family);
    }
    let error = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let error = toolkit::runtime::one_line(&models::family_of(dir.path()).unwrap_err());
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        error
    };
    assert!(error(r#"{"model_type": "llama"}"#).contains("\"llama\" is not a family known here (blip, phi4mm"));
    assert!(error("{}").contains("no model_type"));
    assert!(error("{").contains("not valid JSON"));
    let index = dir.path().join("model_index.json");
    std::fs::write(&index, r#"{"_class_name": "StableDiffusion3Pipeline"}"#).unwrap();
    assert_eq!(models::family_of(dir.path()).unwrap(), Family::StableDiffusion3);
    std::fs::write(&index, r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
    assert_eq!(models::family_of(dir.path()).unwrap(), Family::StableDiffusion);
}

#[test]
fn a_wrong_name_suggests_the_nearest() {
    let home = tempfile::tempdir().unwrap();
    let (_, error) = output(toolkit(home.path()).args(["models", "path", "mini-sd"]), 2);
    assert!(error.contains("\"mini-sd\", did you mean \"mini-sd3\"?"), "{error}");
    let (_, error) = output(toolkit(home.path()).args(["models", "path", "zebra"]), 2);
    assert!(error.contains("`toolkit models list` shows the names"), "{error}");
    let heads = root().join("assets/lpips/alex.pth");
    let error = models::load_captioner(heads.to_str().unwrap(), &RT).err().unwrap();
    assert!(error.downcast_ref::<toolkit::error::UsageError>().is_some());
    assert!(error.to_string().contains("does not describe pictures: use one of blip-base"), "{error}");
}

#[test]
fn nothing_is_downloaded_offline() {
    let home = tempfile::tempdir().unwrap();
    for name in ["blip-base", "art-inception", "lpips-alex", "owner/name"] {
        let mut pull = toolkit(home.path());
        // Nobody listens there: an attempt would be another error.
        pull.env("HF_ENDPOINT", "http://127.0.0.1:9").args(["models", "pull", name, "--offline"]);
        let (_, error) = output(&mut pull, 1);
        assert!(error.contains("the network is not to be used"), "{error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
    }
    let mut pull = toolkit(home.path());
    pull.env("HF_ENDPOINT", "http://127.0.0.1:9").args(["models", "pull", "owner/name"]);
    let (_, error) = output(&mut pull, 1);
    assert!(error.contains("the hub cannot be reached"), "{error}");
}

#[test]
fn verify_says_what_was_checked() {
    let home = tempfile::tempdir().unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "verify", "mini-lpips"]), 0);
    assert!(out.contains("alexnet.pth: ") && out.contains("all finite"), "{out}");

    // A file of torch's cache that is not what its name says.
    let cache = home.path().join(".cache/torch/hub/checkpoints");
    std::fs::create_dir_all(&cache).unwrap();
    let fake = cache.join("alexnet-owt-7be5be79.pth");
    std::fs::copy(root().join("experiments/mini/models/mini-lpips/alexnet.pth"), &fake).unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "path", "lpips-alex"]), 0);
    assert_eq!(out.trim(), fake.to_str().unwrap());
    let (_, error) = output(toolkit(home.path()).args(["models", "verify", "lpips-alex"]), 1);
    assert!(error.contains("it should be 7be5be79: a broken download?"), "{error}");

    // A NaN anywhere is named.
    let tensor = tch::Tensor::from_slice(&[1.0f32, f32::NAN]);
    let file = home.path().join("x.safetensors");
    tch::Tensor::write_safetensors(&[("features.0.weight", &tensor)], &file).unwrap();
    let (_, error) = output(toolkit(home.path()).args(["models", "verify"]).arg(&file), 1);
    assert!(error.contains("x.safetensors: tensor features.0.weight holds NaN"), "{error}");
}

#[test]
fn the_list_knows_what_is_here() {
    let home = tempfile::tempdir().unwrap();
    let (out, _) = output(toolkit(home.path()).args(["models", "list", "--format", "json"]), 0);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len(), MODELS.len());
    for (row, entry) in rows.iter().zip(MODELS) {
        assert_eq!(row["name"], entry.name);
        assert_eq!(row["path"].is_string(), matches!(entry.source, Source::Embedded(_)), "{row}");
    }
    let (out, _) = output(toolkit(home.path()).args(["models", "list"]), 0);
    assert_eq!(out.lines().count(), MODELS.len());
    let (out, _) = output(toolkit(home.path()).args(["models", "list", "--format", "csv"]), 0);
    assert_eq!(out.lines().next(), Some("name,family,about,path"));
}

/// A hub that holds one repository, `owner/name`, and notes what it is asked for.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hub(files: BTreeMap<String, Vec<u8>>) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = request.split(' ').nth(1).unwrap_or("").to_string();
            notes.lock().unwrap().push(path.clone());
            let _ = (&stream).write_all(&answer(&path, &headers, &files));
        }
    });
    Hub { address, asked }
}

fn answer(path: &str, headers: &[String], files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let reply = |status: &str, extra: String, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    if path == "/api/models/owner/name/revision/main" {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let info = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return reply("200 OK", "content-type: application/json\r\n".to_string(), info.as_bytes());
    }
    let Some(body) = path.strip_prefix("/owner/name/resolve/main/").and_then(|name| files.get(name)) else {
        return reply("404 Not Found", String::new(), b"");
    };
    let etag = format!("etag: \"{:x}\"\r\nx-repo-commit: {COMMIT}\r\n", Sha256::digest(body));
    let range =
        headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_string));
    let Some((start, end)) = range.as_deref().and_then(|range| range.split_once('-')) else {
        return reply("200 OK", etag, body);
    };
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(body.len(), |end: usize| body.len().min(end + 1));
    let extra = format!("{etag}content-range: bytes {start}-{}/{}\r\n", end.saturating_sub(1), body.len());
    reply("206 Partial Content", extra, &body[start..end])
}

#[test]
fn a_hub_id_is_downloaded_once_and_found_after() {
    let mini = root().join("experiments/mini/models/mini-phi-4-multimodal");
    let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&mini)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.insert("examples/large.bin".to_string(), vec![0; 10]);
    let hub = hub(files);
    let home = tempfile::tempdir().unwrap();

    let mut pull = toolkit(home.path());
    let (out, _) = output(pull.env("HF_ENDPOINT", &hub.address).args(["models", "pull", "owner/name"]), 0);
    let snapshot = home.path().join(".cache/huggingface/hub/models--owner--name/snapshots").join(COMMIT);
    assert_eq!(out.trim(), snapshot.to_str().unwrap());
    for file in ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"] {
        assert_eq!(std::fs::read(snapshot.join(file)).unwrap(), std::fs::read(mini.join(file)).unwrap());
    }
    assert!(!snapshot.join("README.md").exists() && !snapshot.join("examples").exists());

    // From now on the network is not needed, and not asked.
    let before = hub.asked.lock().unwrap().len();
    let mut path = toolkit(home.path());
    let (out, _) = output(path.env("HF_ENDPOINT", &hub.address).args(["models", "pull", "owner/name"]), 0);
    assert_eq!(out.trim(), snapshot.to_str().unwrap());
    assert_eq!(hub.asked.lock().unwrap().len(), before);
    output(toolkit(home.path()).args(["models", "path", "owner/name"]), 0);
    let cache = home.path().join(".cache/huggingface/hub");
    output(toolkit(Path::new("/")).env("HF_HUB_CACHE", &cache).args(["models", "path", "owner/name"]), 0);
    output(toolkit(Path::new("/")).env("HF_HOME", cache.parent().unwrap()).args(["models", "path", "owner/name"]), 0);

    // A part that is lost is fetched again.
    std::fs::remove_file(snapshot.join("model-00002-of-00002.safetensors")).unwrap();
    output(toolkit(home.path()).args(["models", "path", "owner/name"]), 1);
    let mut pull = toolkit(home.path());
    output(pull.env("HF_ENDPOINT", &hub.address).args(["models", "pull", "owner/name"]), 0);
    assert!(snapshot.join("model-00002-of-00002.safetensors").exists());

    let mut wrong = toolkit(home.path());
    let (_, error) = output(wrong.env("HF_ENDPOINT", &hub.address).args(["models", "pull", "owner/other"]), 1);
    assert!(error.contains("owner/other is not on the hub at revision main"), "{error}");
}
