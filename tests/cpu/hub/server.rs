//! A hub on this machine that does what the real one does, and what broken and hostile ones do.
//!
//! As on huggingface.co a small file is answered after a relative redirect, its ETag git's digest; a
//! large one is a redirect to another origin (the CDN) whose headers `X-Linked-ETag` (the sha256) and
//! `X-Linked-Size` say what will come. Xet is offered, and refused unless the plan has a storage.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::storage;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A status without a body, with these headers.
    Status(u16, &'static str),
    /// The body ends after so many bytes, its length was announced.
    Break(usize),
    /// The body ends after so many bytes, no length was announced.
    SilentBreak(usize),
    /// The body stops after so many bytes, and the connection stays open.
    Stall(usize),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// Another part than was asked for.
    OtherRange,
    /// One bit of the body is another one.
    Flip,
    /// More bytes than the file has, no length announced.
    Longer,
    /// No length is announced, the body is whole.
    NoLength,
    /// Chunks, each with its length.
    Chunked,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `hub`, `cdn` or `cas`.
    pub host: &'static str,
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
}

struct Rule {
    host: &'static str,
    method: &'static str,
    path: Path,
    fault: Fault,
    left: usize,
}

enum Path {
    Start(&'static str),
    End(String),
}

#[derive(Default)]
struct State {
    id: String,
    files: BTreeMap<String, Vec<u8>>,
    /// Of other names than the files have.
    siblings: Option<Vec<String>>,
    commit: Option<String>,
    etags: BTreeMap<String, String>,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
    cdn: String,
    /// The address of the Xet storage, where there is one.
    cas: Option<String>,
    /// What is answered to the wish to read it, instead of a token.
    leave: Option<String>,
}

pub struct Hub {
    pub address: String,
    state: Arc<State>,
}

/// What a hub shall hold.
#[derive(Default)]
pub struct Plan(State);

impl Plan {
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self(State { id: "owner/name".to_string(), files, ..State::default() })
    }

    pub fn id(mut self, id: &str) -> Self {
        self.0.id = id.to_string();
        self
    }

    pub fn siblings(mut self, names: &[&str]) -> Self {
        self.0.siblings = Some(names.iter().map(|name| name.to_string()).collect());
        self
    }

    pub fn commit(mut self, commit: &str) -> Self {
        self.0.commit = Some(commit.to_string());
        self
    }

    pub fn etag(mut self, file: &str, etag: &str) -> Self {
        self.0.etags.insert(file.to_string(), etag.to_string());
        self
    }

    /// Large files are in a Xet storage too.
    pub fn storage(mut self) -> Self {
        self.0.cas = Some(String::new());
        self
    }

    /// They are, and this is answered to the wish to read it.
    pub fn leave(mut self, text: &str) -> Self {
        self.0.leave = Some(text.to_string());
        self.storage()
    }

    pub fn start(mut self) -> Hub {
        let (hub, cdn, cas) = (listener(), listener(), listener());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        self.0.cdn = address(&cdn);
        self.0.cas = self.0.cas.map(|_| address(&cas));
        let state = Arc::new(self.0);
        let address = address(&hub);
        serve(hub, "hub", state.clone());
        serve(cdn, "cdn", state.clone());
        serve(cas, "cas", state.clone());
        Hub { address, state }
    }
}

impl Hub {
    /// From now on `times` requests whose path ends in `path` go wrong. `host` is `hub`, `cdn` or `cas`.
    pub fn fault(&self, host: &'static str, method: &'static str, path: &str, fault: Fault, times: usize) {
        let path = Path::End(path.to_string());
        self.state.rules.lock().unwrap().push(Rule { host, method, path, fault, left: times });
    }

    /// From now on `times` requests whose path starts with `path` go wrong.
    pub fn fault_under(&self, host: &'static str, path: &'static str, fault: Fault, times: usize) {
        let rule = Rule { host, method: "GET", path: Path::Start(path), fault, left: times };
        self.state.rules.lock().unwrap().push(rule);
    }

    pub fn heal(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// What came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn serve(listener: TcpListener, host: &'static str, state: Arc<State>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = state.clone();
            std::thread::spawn(move || answer(&stream, host, &state));
        }
    });
}

/// The request's first line and headers.
pub fn read_request(stream: &TcpStream) -> Option<(String, String, BTreeMap<String, String>)> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let first = lines.next()?;
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
    });
    let headers = headers.collect();
    let mut words = first.split(' ');
    Some((words.next()?.to_string(), words.next()?.to_string(), headers))
}

fn answer(stream: &TcpStream, host: &'static str, state: &State) {
    let Some((method, path, headers)) = read_request(stream) else { return };
    let asked = Asked { host, method, path, headers };
    state.asked.lock().unwrap().push(asked.clone());
    let fault = state.rules.lock().unwrap().iter_mut().find_map(|rule| {
        let plain = asked.path.split('?').next().unwrap_or("");
        let here = match &rule.path {
            Path::Start(path) => plain.starts_with(path),
            Path::End(path) => plain.ends_with(path),
        };
        let hit = rule.left > 0 && rule.host == host && rule.method == asked.method && here;
        hit.then(|| {
            rule.left -= 1;
            rule.fault.clone()
        })
    });
    let mut out = stream;
    let stalls = matches!(fault, Some(Fault::Stall(_)));
    let _ = out.write_all(&reply(state, &asked, fault));
    if stalls {
        // Until the other side gives up.
        let _ = std::io::Read::read(&mut out, &mut [0]);
    }
}

pub fn head(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n").into_bytes()
}

fn reply(state: &State, asked: &Asked, fault: Option<Fault>) -> Vec<u8> {
    if let Some(Fault::Status(status, headers)) = fault {
        return head(&format!("{status} No"), &format!("{headers}content-length: 0\r\n"));
    }
    let (id, commit) = (&state.id, state.commit.as_deref().unwrap_or(COMMIT));
    let path = asked.path.split('?').next().unwrap_or("");
    if path == format!("/api/models/{id}/revision/main") {
        let names = state.siblings.clone().unwrap_or_else(|| state.files.keys().cloned().collect());
        let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({"rfilename": name})).collect();
        let info = serde_json::json!({"id": id, "sha": commit, "siblings": siblings}).to_string();
        return body(asked, "", info.as_bytes(), fault);
    }
    if let (Some(cas), "cas") = (&state.cas, asked.host) {
        return storage::reply(&state.files, cas, asked, fault);
    }
    if path == format!("/api/models/{id}/xet-read-token/{commit}") {
        return match &state.cas {
            Some(cas) => {
                let leave = state.leave.clone().unwrap_or_else(|| storage::leave(cas, 900));
                body(asked, "", leave.as_bytes(), fault)
            }
            None => head("403 Forbidden", "content-length: 0\r\n"),
        };
    }
    let at_branch = path.replace("/resolve/main/", &format!("/resolve/{commit}/"));
    let resolved =
        [format!("/{id}/resolve/{commit}/"), format!("/api/resolve-cache/{id}/{commit}/"), "/cdn/".to_string()];
    let name = resolved.iter().enumerate().find_map(|(i, prefix)| Some((i, at_branch.strip_prefix(prefix)?)));
    let Some((step, bytes, name)) = name.and_then(|(i, name)| Some((i, state.files.get(name)?, name))) else {
        return head("404 Not Found", "x-error-code: RepoNotFound\r\ncontent-length: 0\r\n");
    };
    let is_large = [".safetensors", ".bin", ".pth"].iter().any(|extension| name.ends_with(extension));
    let sha256 = format!("{:x}", Sha256::digest(bytes));
    let own = if is_large { sha256.clone() } else { sha256[..40].to_string() };
    let etag = state.etags.get(name).unwrap_or(&own);
    let told = format!("x-repo-commit: {commit}\r\n");
    match (step, is_large) {
        (0, true) => head(
            "302 Found",
            &format!(
                "{told}x-linked-size: {}\r\nx-linked-etag: \"{etag}\"\r\nx-xet-hash: {sha256}\r\n\
                 link: </api/models/{id}/xet-read-token/{commit}>; rel=\"xet-auth\"\r\netag: \"other\"\r\n\
                 location: {}/cdn/{name}?Signature=secret\r\ncontent-length: 0\r\n",
                bytes.len(),
                state.cdn
            ),
        ),
        (0, false) => {
            let to = format!("location: /api/resolve-cache/{id}/{commit}/{name}?x=1\r\ncontent-length: 0\r\n");
            head("307 Temporary Redirect", &to)
        }
        (1, _) => body(asked, &format!("{told}etag: W/\"{etag}\"\r\n"), bytes, fault),
        _ => body(asked, "etag: \"0123-7\"\r\n", bytes, fault),
    }
}

/// The whole file, or the part that is asked for.
pub fn body(asked: &Asked, headers: &str, bytes: &[u8], fault: Option<Fault>) -> Vec<u8> {
    let start =
        asked.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let start = start.filter(|_| fault != Some(Fault::IgnoreRange));
    let (status, mut from) = match start {
        None => ("200 OK".to_string(), 0),
        Some(start) if start >= bytes.len() => return head("416 Range Not Satisfiable", "content-length: 0\r\n"),
        Some(start) => ("206 Partial Content".to_string(), start),
    };
    if fault == Some(Fault::OtherRange) {
        from = 0;
    }
    let mut sent = bytes[from..].to_vec();
    let mut headers = headers.to_string();
    if start.is_some() {
        headers += &format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    }
    let length = format!("content-length: {}\r\n", sent.len());
    match fault {
        Some(Fault::SilentBreak(at)) => sent.truncate(at),
        Some(Fault::NoLength) => {}
        Some(Fault::Longer) => sent.extend(b"more"),
        Some(Fault::Chunked) => {
            headers += "transfer-encoding: chunked\r\n";
            let framed = [format!("{:x}\r\n", sent.len()).as_bytes(), &sent, b"\r\n0\r\n\r\n"].concat();
            sent = framed;
        }
        Some(Fault::Break(at) | Fault::Stall(at)) => {
            headers += &length;
            sent.truncate(at);
        }
        Some(Fault::Flip) => {
            headers += &length;
            let middle = sent.len() / 2;
            sent[middle] ^= 1;
        }
        _ => headers += &length,
    }
    if asked.method == "HEAD" {
        sent.clear();
    }
    [head(&status, &headers), sent].concat()
}
