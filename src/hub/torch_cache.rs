//! The cache that `torch.hub` keeps for single weight files.

use std::env;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use url::Url;

use super::environment::user_cache;
use super::fetch::{Expected, Source, fetch, sha256};
use super::http::HttpClient;
use super::progress::Progress;

/// The file, if it is in the cache.
pub fn cached(file: &str) -> Option<PathBuf> {
    Some(folder().join(file)).filter(|path| path.is_file())
}

/// Where the Python package art-fid keeps its weights: the folder for temporary files.
pub fn art_fid_file(file: &str) -> Option<PathBuf> {
    Some(env::temp_dir().join("art_fid").join(file)).filter(|path| path.is_file())
}

/// `TORCH_HOME/hub/checkpoints`, else `~/.cache/torch/hub/checkpoints`.
fn folder() -> PathBuf {
    let home = env::var_os("TORCH_HOME").filter(|home| !home.is_empty());
    home.map_or_else(|| user_cache().join("torch"), PathBuf::from).join("hub/checkpoints")
}

/// Downloads a file into the cache, unless the right one is there, and checks it against the digits of its sha256 that its name
/// ends in (`alexnet-owt-7be5be79.pth`).
///
/// # Errors
/// When the server cannot be reached or sends something else, or the cache cannot be written.
pub fn download(file: &str, url: &str) -> Result<PathBuf> {
    download_into(&folder(), file, url)
}

fn download_into(folder: &Path, file: &str, url: &str) -> Result<PathBuf> {
    let path = folder.join(file);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let address = Url::parse(url).with_context(|| format!("{url} is not an address"))?;
    let expected = Expected { size: None, sha256: expected_digits(file).map(str::to_string) };
    if expected.sha256.is_none() {
        bail!("{file}: its name ends in no digits of its sha256, so that nothing is known of it");
    }
    let partial = folder.join(format!("{file}.incomplete"));
    if is_right(&path, &expected) {
        return Ok(path);
    }
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&partial);
    let lock = lock.with_context(|| format!("cannot write {}", partial.display()))?;
    // Shared file systems may know no locks.
    let _ = lock.lock();
    if is_right(&path, &expected) {
        // Another process was faster.
        let _ = std::fs::remove_file(&partial);
        return Ok(path);
    }
    let source = Source { client: &HttpClient::anonymous()?, url: &address, xet: None };
    fetch(&source, &partial, &expected, &Progress::new(file, 0)).with_context(|| format!("cannot download {url}"))?;
    std::fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Whether the file is there as its name promises.
fn is_right(path: &Path, expected: &Expected) -> bool {
    path.is_file() && sha256(path).is_ok_and(|digest| expected.agrees(&digest))
}

/// The hexadecimal digits before the extension.
pub fn expected_digits(file: &str) -> Option<&str> {
    let (_, digits) = file.rsplit_once('.')?.0.rsplit_once('-')?;
    (digits.len() >= 8 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every request with this body.
    fn server(body: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/x.pth", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = (&stream).write_all(&[head.as_bytes(), body].concat());
            }
        });
        address
    }

    #[test]
    fn only_the_file_that_its_name_promises_is_kept() {
        // sha256 of "abc".
        let file = "net-ba7816bf.pth";
        let folder = tempfile::tempdir().unwrap();
        let error = download_into(folder.path(), file, &server(b"abd")).unwrap_err();
        assert!(format!("{error:#}").contains("sends wrong bytes: their sha256 is a52d159f"), "{error:#}");
        assert!(!folder.path().join(file).exists());
        // What is left of it does no harm, nor does a damaged file.
        for damaged in [None, Some("ab")] {
            if let Some(text) = damaged {
                std::fs::write(folder.path().join(file), text).unwrap();
            }
            let path = download_into(folder.path(), file, &server(b"abc")).unwrap();
            assert_eq!(std::fs::read(path).unwrap(), b"abc");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        assert!(download_into(folder.path(), "net.pth", &server(b"abc")).is_err());
    }
}
