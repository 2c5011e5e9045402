//! One file from a server into a partial file, whole and checked, or not at all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use url::Url;
use xet::xet_session::XetDownloadStream;

use super::http::{HttpAnswer, HttpClient, HttpFailure, RETRIES, pause};
use super::progress::Progress;
use super::xet::{Storage, reason};

/// What was promised of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    pub size: Option<u64>,
    /// Its first hexadecimal digits at least, in small letters.
    pub sha256: Option<String>,
}

impl Expected {
    /// Of a digest in hexadecimal digits: whether it is the promised one.
    pub fn agrees(&self, digest: &str) -> bool {
        self.sha256.as_ref().is_none_or(|expected| digest.starts_with(expected))
    }
}

/// Where a file comes from.
pub(super) struct Source<'a> {
    pub client: &'a HttpClient,
    /// Its plain address: every file has one.
    pub url: &'a Url,
    /// The Xet storage, which is asked first, and the file's name there.
    pub xet: Option<(&'a Storage, &'a str)>,
}

impl<'a> Source<'a> {
    /// The bytes from `from` on, where the storage is to be used: it proves nothing, so only of what
    /// can be checked.
    fn open_storage(&self, from: u64, expected: &Expected) -> Option<(&'a Storage, XetDownloadStream)> {
        let (storage, hash) = self.xet.filter(|_| expected.sha256.is_some())?;
        let size = expected.size.filter(|size| from < *size)?;
        Some((storage, storage.open(self.client, hash, from, size)?))
    }
}

/// What went wrong in one attempt.
enum Trouble {
    /// What came was broken or wrong: another attempt may help.
    Remote(HttpFailure),
    /// The server refuses although it was asked several times, or this machine fails: a full disk, say.
    Final(anyhow::Error),
}

impl From<HttpFailure> for Trouble {
    fn from(failure: HttpFailure) -> Self {
        Self::Remote(failure)
    }
}

/// Downloads a file into `partial`. What lies there already is gone on from where its sha256 is
/// promised, since only then it can be told from rubbish. Wrong bytes are thrown away.
///
/// # Errors
/// When the server fails several times in a row without one more byte, sends wrong bytes again and
/// again, or when the disk fails. A partial file may then be left, to go on from.
pub(super) fn fetch(source: &Source, partial: &Path, expected: &Expected, progress: &Progress) -> Result<()> {
    let in_partial = || format!("writing {}", partial.display());
    let mut file = Partial::open(partial, expected, progress).with_context(in_partial)?;
    let mut failed = 0;
    loop {
        let before = file.length;
        match attempt(source, &mut file, expected) {
            Ok(()) => return file.file.sync_all().with_context(in_partial),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Remote(failure)) => {
                failed = if file.length > before { 1 } else { failed + 1 };
                if failed > RETRIES {
                    return Err(failure.into_error());
                }
                tracing::debug!("{failure}: attempt {} follows", failed + 1);
                std::thread::sleep(pause(failed));
            }
        }
    }
}

/// The sha256 of a file, in hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    feed(&mut file, &mut digest).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", digest.finalize()))
}

fn feed(source: &mut impl Read, digest: &mut Sha256) -> std::io::Result<u64> {
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                digest.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

/// The file that is being written.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    digest: Sha256,
    progress: &'a Progress,
}

impl<'a> Partial<'a> {
    fn open(path: &'a Path, expected: &Expected, progress: &'a Progress) -> Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let (mut digest, mut length) = (Sha256::new(), 0);
        if expected.sha256.is_some() {
            length = feed(&mut file, &mut digest)?;
        } else {
            file.set_len(0)?;
        }
        progress.add(length);
        Ok(Self { path, file, length, digest, progress })
    }

    /// The disk fails.
    fn full(&self, error: std::io::Error) -> Trouble {
        Trouble::Final(anyhow::Error::from(error).context(format!("writing {}", self.path.display())))
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        self.progress.add(bytes.len() as u64);
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Trouble> {
        self.progress.take_back(self.length);
        self.digest = Sha256::new();
        self.length = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(|error| self.full(error))
    }

    fn digits(&self) -> String {
        format!("{:x}", self.digest.clone().finalize())
    }
}

fn attempt(source: &Source, file: &mut Partial, expected: &Expected) -> Result<(), Trouble> {
    if expected.sha256.is_none() || expected.size.is_some_and(|size| file.length > size) {
        file.discard()?;
    }
    if file.length > 0 && expected.size == Some(file.length) {
        if expected.agrees(&file.digits()) {
            return Ok(());
        }
        file.discard()?;
    }
    let before = file.length;
    let storage = match source.open_storage(file.length, expected) {
        Some((storage, stream)) => {
            from_storage(storage, stream, source.url, file, expected)?;
            Some(storage)
        }
        None => {
            from_address(source, file, expected)?;
            None
        }
    };
    let digits = file.digits();
    if expected.agrees(&digits) {
        return Ok(());
    }
    // Else what lay there may be the wrong part.
    if let (Some(storage), 0) = (storage, before) {
        storage.give_up("sends wrong bytes");
    }
    file.discard()?;
    let wanted = expected.sha256.as_deref().unwrap_or_default();
    Err(HttpFailure::wrong(source.url, format!("sends wrong bytes: their sha256 is {digits}, not {wanted}")).into())
}

/// `url` is the plain address, for what is said.
fn from_storage(
    storage: &Storage,
    mut stream: XetDownloadStream,
    url: &Url,
    file: &mut Partial,
    expected: &Expected,
) -> Result<(), Trouble> {
    let (before, size) = (file.length, expected.size.unwrap_or(0));
    let fault = loop {
        match stream.blocking_next() {
            Ok(None) if file.length == size => return Ok(()),
            // After an error that came too late to be told, too.
            Ok(None) => break "does not send the whole file",
            Ok(Some(bytes)) if file.length + bytes.len() as u64 > size => {
                file.discard()?;
                break "sends more bytes than the file has";
            }
            Ok(Some(bytes)) => file.write(&bytes).map_err(|error| file.full(error))?,
            Err(error) => break reason(&error),
        }
    };
    // What has sent something, until its token ended perhaps, is asked again.
    if file.length <= before {
        storage.give_up(fault);
    }
    Err(HttpFailure::broken(url, format!("the Xet storage {fault}")).into())
}

fn from_address(source: &Source, file: &mut Partial, expected: &Expected) -> Result<(), Trouble> {
    let from = (file.length > 0).then_some(file.length);
    let answer = source.client.get(source.url, from).map_err(|failure| Trouble::Final(failure.into_error()))?;
    match answer.status() {
        // It ignores the range.
        200 => file.discard()?,
        206 if from.is_some() && range_start(&answer) == from => {}
        206 | 416 => {
            file.discard()?;
            return Err(HttpFailure::wrong(&answer.url, "sends another part than was asked for").into());
        }
        status => return Err(HttpFailure::wrong(&answer.url, format!("answers with status {status}")).into()),
    }
    let total = total(&answer, file.length, expected)?;
    if let (None, Some(total)) = (expected.size, total) {
        file.progress.expect(total);
    }
    receive(answer, file, total)
}

/// `Content-Range: bytes 7-99/100`: 7.
fn range_start(answer: &HttpAnswer) -> Option<u64> {
    answer.header("content-range")?.trim().strip_prefix("bytes")?.trim().split_once('-')?.0.parse().ok()
}

/// The length of the whole file, of which `here` bytes are there; None where only the chunks say
/// where it ends.
fn total(answer: &HttpAnswer, here: u64, expected: &Expected) -> Result<Option<u64>, HttpFailure> {
    let announced = answer.number("content-length").map(|rest| here + rest);
    let chunked = answer.header("transfer-encoding").is_some_and(|text| text.to_ascii_lowercase().contains("chunked"));
    match (expected.size, announced) {
        (Some(size), Some(announced)) if size != announced => {
            Err(HttpFailure::wrong(&answer.url, format!("sends {announced} bytes of a file of {size}")))
        }
        (None, None) if !chunked => Err(HttpFailure::wrong(&answer.url, "does not say how long its file is")),
        (size, announced) => Ok(size.or(announced)),
    }
}

fn receive(answer: HttpAnswer, file: &mut Partial, total: Option<u64>) -> Result<(), Trouble> {
    let url = answer.url.clone();
    let mut source = answer.into_reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(HttpFailure::broken(&url, format!("the connection broke ({error})")).into()),
        };
        if total.is_some_and(|total| file.length + count as u64 > total) {
            file.discard()?;
            return Err(HttpFailure::wrong(&url, "sends more bytes than its file has").into());
        }
        file.write(&buffer[..count]).map_err(|error| file.full(error))?;
    }
    match total {
        Some(total) if file.length < total => {
            let (here, of) = (file.length, total);
            Err(HttpFailure::broken(&url, format!("the connection broke after {here} of {of} bytes")).into())
        }
        _ => Ok(()),
    }
}
