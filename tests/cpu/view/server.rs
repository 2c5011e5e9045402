//! `toolkit view` as a program, and a client that says exactly what is to be said.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A server on a port of its own, ended when it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
    pub port: u16,
}

/// An answer: status, headers as text, body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, &["--port", "0"])
    }

    pub fn with(dir: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("toolkit"));
        command.args(["view", "--no-open"]).args(options).arg(dir);
        Self::of(command)
    }

    pub fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_string();
        let port = url.split(':').nth(2).and_then(|rest| rest.split('/').next()).and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| {
            let mut said = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut said);
            panic!("no address in {url:?}: {said}")
        });
        Self { child, url, port }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("Host", &self.host())], b"")
    }

    /// A write as the page sends it.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        let origin = format!("http://{}", self.host());
        let headers = [("Host", self.host()), ("Content-Type", "application/json".into()), ("Origin", origin)];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.ask("POST", path, &headers, body.to_string().as_bytes())
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_ask(method, path, headers, body).unwrap()
    }

    /// A request to the letter: nothing is added but the length and the end of the connection.
    pub fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        Client(self.port).try_ask(method, path, headers, body)
    }

    /// One that writes from another thread while the server is ended.
    pub fn ask_only(&self) -> Client {
        Client(self.port)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal; gives the status, what it said, and how long it took to end.
    pub fn end(mut self, signal: libc::c_int) -> (ExitStatus, String, Duration) {
        let start = Instant::now();
        // SAFETY: the child has not been waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (status, said, start.elapsed())
    }
}

/// Who speaks to a server that may go away.
pub struct Client(u16);

impl Client {
    /// The status of a write; None where no answer came.
    pub fn try_post(&self, path: &str, body: &serde_json::Value) -> Option<u16> {
        let host = format!("127.0.0.1:{}", self.0);
        let headers = [("Host", host.as_str()), ("Content-Type", "application/json")];
        Some(self.try_ask("POST", path, &headers, body.to_string().as_bytes()).ok()?.status)
    }

    fn try_ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.0))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes())?;
        // A server that refuses may not read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => return Err(error),
            _ => {}
        }
        let incomplete = || std::io::Error::other("no whole answer");
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(incomplete)?;
        let headers = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(incomplete)?;
        let body = answer[end + 4..].to_vec();
        let body = if headers.to_lowercase().contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
        Ok(Answer { status, headers, body })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|part| part == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}
