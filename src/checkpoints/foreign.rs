//! What else lies where weights should be: pointers, pages and messages that a download left there, and files
//! of other formats. Told by content.

use anyhow::{Error, anyhow};
use serde_json::Value;

/// Formats by their first bytes, and what to do about each.
const FORMATS: [(&[u8], &str); 8] = [
    (b"GGUF", "a GGUF file (llama.cpp): take the model's safetensors files"),
    (b"\x89HDF\r\n", "an HDF5 file (Keras, TensorFlow): take the model's safetensors or PyTorch files"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"\x93NUMPY", "a numpy array: save a whole state dict with torch.save or safetensors"),
    (b"PK\x05\x06", "an empty zip archive: download or copy it again"),
];

/// Of a text, so much is looked at and shown.
const LOOKED_AT: usize = 64 << 10;
const SHOWN: usize = 80;

/// Why this is no checkpoint and what to do, where its content tells.
pub(super) fn explain(bytes: &[u8]) -> Option<Error> {
    // The length of a header below 2^56 bytes, and the header: safetensors, however damaged.
    if bytes.get(7..9) == Some(b"\0{") {
        return None;
    }
    if let Some((_, what)) = FORMATS.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Some(anyhow!("no weights but {what}"));
    }
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    if start.iter().all(|&byte| byte == 0) {
        return Some(anyhow!("it begins with zeros only: an unfinished download? Download or copy it again"));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(anyhow!("no weights but a tar archive: unpack it first"));
    }
    explain_text(text(start)?, bytes.len())
}

/// The same of a file that should be JSON: None where it is at least a JSON object, of whatever content.
pub(super) fn explain_unless_json(bytes: &[u8]) -> Option<Error> {
    if bytes.trim_ascii_start().starts_with(b"{") { None } else { explain(bytes) }
}

/// The start of a file as text, if it is one.
fn text(start: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut at the end of what is looked at.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}').trim();
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.is_empty() && text.chars().all(is_text)).then_some(text)
}

fn explain_text(text: &str, length: usize) -> Option<Error> {
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
        let size = size.map(|size| format!(" of {size} bytes")).unwrap_or_default();
        return Some(anyhow!(
            "no weights but a Git LFS pointer to a file{size}: run `git lfs pull` where it was cloned, or download the \
             file itself"
        ));
    }
    let again = "download the file itself (on a hub its address has /resolve/, not /blob/; some models need a login)";
    let lower = text.chars().take(1000).collect::<String>().to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") || lower.contains("<head>") {
        let title = between(text, "<title>", "</title>").map(|title| format!(", {:?}", shown(title)));
        return Some(anyhow!("no weights but an HTML page{}: {again}", title.unwrap_or_default()));
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error>") {
        let said = between(text, "<Message>", "</Message>").map(|said| format!(", which says {:?}", shown(said)));
        return Some(anyhow!("no weights but an XML text{}: {again}", said.unwrap_or_default()));
    }
    if let Ok(json) = serde_json::from_str::<Value>(text)
        && length <= LOOKED_AT
    {
        let said = ["error", "message", "detail"].iter().find_map(|key| match &json[*key] {
            Value::Object(inner) => inner.get("message").and_then(Value::as_str),
            said => said.as_str(),
        });
        let said = said.map(|said| format!(", which says {:?}", shown(said))).unwrap_or_default();
        return Some(anyhow!("no weights but a JSON text{said}: {again}"));
    }
    Some(anyhow!("no weights but a text, which begins with {:?}: {again}", shown(text)))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

/// In one line, and not too long.
fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= SHOWN { line } else { line.chars().take(SHOWN).chain(['…']).collect() }
}
