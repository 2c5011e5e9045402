//! The cache that `torch.hub` keeps for single weight files.

use std::env;
use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::hub::user_cache;
use crate::runtime::write_whole;

/// The file, if it is in the cache.
pub(super) fn cached(file: &str) -> Option<PathBuf> {
    Some(folder().join(file)).filter(|path| path.is_file())
}

/// Where the Python package art-fid keeps its weights: the folder for temporary files.
pub(super) fn art_fid_file(file: &str) -> Option<PathBuf> {
    Some(env::temp_dir().join("art_fid").join(file)).filter(|path| path.is_file())
}

/// `TORCH_HOME/hub/checkpoints`, else `~/.cache/torch/hub/checkpoints`.
fn folder() -> PathBuf {
    let home = env::var_os("TORCH_HOME").filter(|home| !home.is_empty());
    home.map_or_else(|| user_cache().join("torch"), PathBuf::from).join("hub/checkpoints")
}

/// Downloads a file into the cache and checks it against the digits of its sha256 that its name
/// ends in (`alexnet-owt-7be5be79.pth`).
pub(super) fn download(file: &str, url: &str) -> Result<PathBuf> {
    let path = folder().join(file);
    std::fs::create_dir_all(folder()).with_context(|| format!("cannot make the folder {}", folder().display()))?;
    let fetch_failed = |error: &dyn std::fmt::Display| anyhow!("cannot download {url}: {error}");
    let response = ureq::get(url).call().map_err(|error| fetch_failed(&error))?;
    let length: u64 = response.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let bar = indicatif::ProgressBar::new(length);
    let mut source = bar.wrap_read(response.into_reader());
    write_whole(&path, |out| {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = source.read(&mut buffer).map_err(|error| fetch_failed(&error))?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            out.write_all(&buffer[..count])?;
        }
        let found = format!("{:x}", digest.finalize());
        match expected_digits(file) {
            Some(expected) if !found.starts_with(expected) => {
                bail!("{url} is not the file that was expected: sha256 {found}, not {expected}…")
            }
            _ => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    Ok(path)
}

/// The hexadecimal digits before the extension.
pub(super) fn expected_digits(file: &str) -> Option<&str> {
    let (_, digits) = file.rsplit_once('.')?.0.rsplit_once('-')?;
    (digits.len() >= 8 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
}
