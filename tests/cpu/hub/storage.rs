//! The Xet storage of the hub on this machine: each file is one object of chunks as they are, under
//! its sha256.
//! <https://huggingface.co/docs/xet/api>, <https://huggingface.co/docs/xet/xorb>

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::server::{Asked, Fault, body, head};

pub const TOKEN: &str = "xet.token";

/// Bytes of a chunk.
const CHUNK: usize = 1 << 16;

/// The hub's answer to the wish to read: a token that ends after so many seconds.
pub fn leave(cas: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({"accessToken": TOKEN, "exp": now + seconds, "casUrl": cas}).to_string()
}

pub fn reply(files: &BTreeMap<String, Vec<u8>>, cas: &str, asked: &Asked, fault: Option<Fault>) -> Vec<u8> {
    let path = asked.path.split('?').next().unwrap_or("");
    let hash = path.rsplit('/').next().unwrap_or("");
    let Some(bytes) = files.values().find(|bytes| format!("{:x}", Sha256::digest(bytes)) == hash) else {
        return head("404 Not Found", "content-length: 0\r\n");
    };
    if path.starts_with("/v2/reconstructions/") {
        if asked.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return head("401 Unauthorized", "content-length: 0\r\n");
        }
        return plan(bytes, hash, cas, asked, fault);
    }
    if path.starts_with("/xorbs/") && asked.path.ends_with("?Signature=secret") {
        let object: Vec<u8> = bytes.chunks(CHUNK).flat_map(|chunk| [&header(chunk.len()), chunk].concat()).collect();
        let (from, to) = range(asked).unwrap_or((0, object.len() - 1));
        let part = &object[from..=to.min(object.len() - 1)];
        // The part is sent as if it were all, so that a fault meets it.
        let whole = Asked { headers: BTreeMap::new(), ..asked.clone() };
        let sent = body(&whole, &format!("content-range: bytes {from}-{to}/{}\r\n", object.len()), part, fault);
        return [b"HTTP/1.1 206 Partial Content", sent.strip_prefix(b"HTTP/1.1 200 OK").unwrap()].concat();
    }
    head("404 Not Found", "content-length: 0\r\n")
}

/// Version, length here, scheme (0: not compressed), length unpacked.
fn header(length: usize) -> [u8; 8] {
    let [a, b, c, _] = (length as u32).to_le_bytes();
    [0, a, b, c, 0, a, b, c]
}

/// `bytes=5-9`: (5, 9).
fn range(asked: &Asked) -> Option<(usize, usize)> {
    let (from, to) = asked.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Of which chunks the wanted part of the file is made: the first one, and the others.
fn plan(bytes: &[u8], hash: &str, cas: &str, asked: &Asked, fault: Option<Fault>) -> Vec<u8> {
    let (from, to) = range(asked).unwrap_or((0, bytes.len() - 1));
    if from >= bytes.len() {
        return head("416 Range Not Satisfiable", "content-length: 0\r\n");
    }
    let (first, end) = (from / CHUNK, to.min(bytes.len() - 1) / CHUNK + 1);
    let place = |chunk: usize| (chunk * CHUNK).min(bytes.len());
    let parts: Vec<(usize, usize)> =
        [(first, first + 1), (first + 1, end)].into_iter().filter(|(start, end)| start < end).collect();
    let terms: Vec<_> = parts
        .iter()
        .map(|&(start, end)| {
            let length = place(end) - place(start);
            json!({"hash": hash, "unpacked_length": length, "range": {"start": start, "end": end}})
        })
        .collect();
    let fetches: Vec<_> = parts
        .iter()
        .map(|&(start, end)| {
            let inside = |chunk: usize| place(chunk) + 8 * chunk;
            let ranges = json!([{
                "chunks": {"start": start, "end": end},
                "bytes": {"start": inside(start), "end": inside(end) - 1},
            }]);
            json!({"url": format!("{cas}/xorbs/{hash}?Signature=secret"), "ranges": ranges})
        })
        .collect();
    let plan = json!({"offset_into_first_range": from - place(first), "terms": terms, "xorbs": {hash: fetches}});
    let whole = Asked { headers: BTreeMap::new(), ..asked.clone() };
    body(&whole, "content-type: application/json\r\n", plan.to_string().as_bytes(), fault)
}
