//! Worker processes as the parent sees them.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde::Serialize;

use super::message::{Reply, line, read, read_blobs};

/// The devices that share the work, and how a worker is started.
#[derive(Clone)]
pub struct Team {
    pub devices: Vec<String>,
    /// The program and its arguments, for a device.
    pub command: Arc<dyn Fn(&str) -> Command>,
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Team").field("devices", &self.devices).finish_non_exhaustive()
    }
}

/// What is heard of workers.
pub(super) enum Event {
    Said(Reply, Vec<Vec<u8>>),
    /// It says nothing more.
    Gone,
}

/// Worker, its how-manieth process, and what is heard of it.
pub(super) type Heard = (usize, u64, Event);

/// A worker process.
pub(super) struct Process {
    child: Child,
    socket: UnixStream,
    /// The last line on its standard error.
    last_line: Arc<Mutex<String>>,
    stderr: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it; it waits for its task.
    pub fn spawn(mut command: Command, name: &str) -> Result<Self> {
        let (socket, of_worker) = UnixStream::pair().context("no socket for a worker")?;
        command.stdin(OwnedFd::from(of_worker)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // The command holds the worker's end of the socket, which would seem open for ever.
        drop(command);
        let last_line = Arc::new(Mutex::new(String::new()));
        let (lines, title) = (last_line.clone(), name.to_string());
        let stderr = child.stderr.take().map(|pipe| std::thread::spawn(move || pass_on(&title, pipe, &lines)));
        Ok(Self { child, socket, last_line, stderr })
    }

    /// Gives it its task. `sender` hears of it as the `at`-th worker's process of this `number`.
    pub fn begin(&mut self, task: &impl Serialize, (at, number): (usize, u64), sender: Sender<Heard>) -> Result<()> {
        let mut from = BufReader::new(self.socket.try_clone()?);
        std::thread::spawn(move || {
            while let Ok(Some(reply)) = read::<Reply>(&mut from) {
                let lengths = if let Reply::Made { blobs, .. } = &reply { blobs.as_slice() } else { &[] };
                let Ok(blobs) = read_blobs(&mut from, lengths) else { break };
                if sender.send((at, number, Event::Said(reply, blobs))).is_err() {
                    return;
                }
            }
            let _ = sender.send((at, number, Event::Gone));
        });
        self.say(task)
    }

    /// Sends a message. That nobody listens is heard of as [`Event::Gone`].
    pub fn say(&mut self, message: &impl Serialize) -> Result<()> {
        let line = line(message)?;
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            // SAFETY: the bytes are read only. Unlike a write, this ends no parent whose worker is gone with SIGPIPE.
            let sent =
                unsafe { libc::send(self.socket.as_raw_fd(), rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(count) => rest = &rest[count..],
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, and says how it ended.
    pub fn end(mut self) -> String {
        self.stop();
        let status = self.child.wait();
        let said = self.last_line.lock().map(|line| line.clone()).unwrap_or_default();
        match status {
            Ok(status) => how_ended(status, &said),
            Err(error) => error.to_string(),
        }
    }

    /// Has it end, without waiting for that: the system takes care of what is left of it when this process ends.
    pub fn leave(mut self) {
        self.kill();
        std::mem::forget(self);
    }

    /// Has it end; what is left of it goes with the value.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    fn stop(&mut self) {
        // In this order: one that waits for its task would complain that there is none.
        self.kill();
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = self.child.wait();
        if let Some(stderr) = self.stderr.take() {
            let _ = stderr.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn how_ended(status: ExitStatus, said: &str) -> String {
    let ended = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended by signal {signal}"),
        (_, Some(code)) => format!("ended with status {code}"),
        _ => "ended".to_string(),
    };
    if said.is_empty() { ended } else { format!("{ended}; the last it said: {said}") }
}

/// What a worker says on its standard error comes out on that of the parent, with `-v` under its name.
fn pass_on(name: &str, pipe: impl io::Read, last: &Mutex<String>) {
    let named = tracing::enabled!(tracing::Level::DEBUG);
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let text = String::from_utf8_lossy(&line).into_owned();
        let _ = if named { writeln!(io::stderr(), "{name}: {text}") } else { writeln!(io::stderr(), "{text}") };
        if let Ok(mut last) = last.lock()
            && !text.trim().is_empty()
        {
            *last = text;
        }
    }
}
