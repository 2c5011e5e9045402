//! The storage in which the hub keeps large files as chunks that many files share (Xet).
//! <https://huggingface.co/docs/xet>
//!
//! Chunks are found, fetched and put together by `hf-xet`, which the hub's own clients are built on.
//! The rest of the official client, `hf-hub` 1.0.0, cannot keep what is promised here, so that the
//! requests to the hub itself are made by [`super::http`]:
//!
//! | its call | what it leaves open |
//! |---|---|
//! | `download_file`, `snapshot_download` | the status of a plain answer is not looked at, so that the text of a 503 becomes the file; neither length nor sha256 is checked; what was begun is begun anew; an ETag or a file's name with `../` leads out of the cache |
//! | `download_file_stream` | follows the redirect to the CDN and loses `X-Xet-Hash` with it: Xet is never used (<https://github.com/huggingface/hf-hub/issues/208>); whether a range was obeyed is not told |
//! | `get_file_metadata` | loses the headers of the redirect likewise, and fails for every large file (<https://github.com/huggingface/hf-hub/pull/212>) |
//! | `info` | `Retry-After` of a 5xx and `ratelimit` are not told, and an answer without end fills the memory |
//! | downloads into the cache | what is asked first goes through a client that cannot be set: it knows no timeout, and no certificates but the system's |
//!
//! `hf-xet` compares what it puts together with no digest. So only a file of known length and sha256
//! is read from here, and whatever goes wrong here is no failure: the same bytes are at the plain
//! address.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Deserialize;
use url::Url;
use xet::XetError;
use xet::xet_session::{XetConfig, XetDownloadStream, XetDownloadStreamGroup, XetFileInfo, XetSessionBuilder};

use super::environment::{patience, strip_user};
use super::http::{HttpClient, place};
use crate::runtime::catch_panics;

/// A token is renewed when it ends in less than so many seconds; `hf-xet` takes none in its last 30.
const MARGIN: u64 = 60;

/// The storage of one repository at one commit. Shared between threads; nothing is started before
/// the first file is wanted.
pub(super) struct Storage {
    /// The repository, for what is said.
    id: String,
    /// Where the hub gives a token to read with. The hub's own token goes there and no further.
    token_address: Url,
    state: Mutex<State>,
}

enum State {
    Unasked,
    Open(Access),
    /// It cannot be used; why has been said.
    Closed,
}

struct Access {
    group: XetDownloadStreamGroup,
    /// The storage's address, for what is said.
    place: String,
    /// When the token ends, in seconds of Unix time.
    until: u64,
}

/// What the hub answers to the wish to read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    access_token: String,
    exp: u64,
    cas_url: String,
}

impl Storage {
    pub fn new(id: &str, token_address: Url) -> Self {
        Self { id: id.to_string(), token_address, state: Mutex::new(State::Unasked) }
    }

    /// The bytes of a file from `from` on, which come as they are asked for. None where it is to be
    /// taken from the plain address.
    pub fn open(&self, client: &HttpClient, hash: &str, from: u64, size: u64) -> Option<XetDownloadStream> {
        // The others wait here for the one that asks.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*state, State::Open(access) if access.until < now() + MARGIN) {
            *state = State::Unasked;
        }
        if matches!(*state, State::Unasked) {
            *state = self.ask(client);
        }
        let State::Open(access) = &*state else { return None };
        let file = XetFileInfo::new(hash.to_string(), size);
        let range = (from > 0).then_some(from..size);
        match quietly(|| access.group.download_stream_blocking(file, range)) {
            Ok(stream) => Some(stream),
            Err(reason) => {
                self.close(&mut state, reason);
                None
            }
        }
    }

    /// From now on all files come from their plain addresses. `reason` is what the storage does.
    pub fn give_up(&self, reason: &str) {
        self.close(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), reason);
    }

    fn close(&self, state: &mut State, reason: &str) {
        if let State::Open(Access { place, .. }) = std::mem::replace(state, State::Closed) {
            self.warn(&place, reason);
        }
    }

    fn warn(&self, place: &str, reason: &str) {
        tracing::warn!("the Xet storage {place} {reason}: {} comes from the hub's plain addresses", self.id);
    }

    fn ask(&self, client: &HttpClient) -> State {
        let asked = client.get(&self.token_address, None).and_then(|answer| answer.into_bytes(1 << 16));
        let token = match asked {
            Ok(token) => token,
            // As a mirror does that has the plain files alone.
            Err(failure) => {
                tracing::debug!("no leave to read from Xet: {failure}");
                return State::Closed;
            }
        };
        let Some((token, address)) = self.parse(&token) else {
            self.warn(
                &format!("that {} names", place(&self.token_address)),
                "has no address or token that could be used",
            );
            return State::Closed;
        };
        let place = place(&address);
        match quietly(|| group(&address, &token)) {
            Ok(group) => State::Open(Access { group, place, until: token.exp }),
            Err(_) => {
                self.warn(&place, "cannot be used on this machine, whose certificates may be missing");
                State::Closed
            }
        }
    }

    /// A token that fits into a header and lasts, and an address no less safe than the hub's.
    fn parse(&self, text: &[u8]) -> Option<(Token, Url)> {
        let token: Token = serde_json::from_slice(text).ok()?;
        let mut address = Url::parse(&token.cas_url).ok().filter(Url::has_host)?;
        strip_user(&mut address);
        let safe = address.scheme() == "https" || (address.scheme() == "http" && self.token_address.scheme() == "http");
        let fits = !token.access_token.is_empty() && token.access_token.chars().all(|c| c.is_ascii_graphic());
        (safe && fits && token.exp > now() + MARGIN).then_some((token, address))
    }
}

/// Starts the threads of `hf-xet`.
fn group(address: &Url, token: &Token) -> Result<XetDownloadStreamGroup, XetError> {
    let session = XetSessionBuilder::new_with_config(config()?).build()?;
    let group = session.new_download_stream_group()?;
    group
        .with_endpoint(address.as_str().trim_end_matches('/'))
        .with_token_info(token.access_token.clone(), token.exp)
        .build_blocking()
}

/// Not as patient as with the hub, since there is another way, and silent about what is fetched. Its own environment variables win,
/// but for the last.
fn config() -> Result<XetConfig, XetError> {
    let patience = format!("{}s", patience().as_secs());
    let mut config = XetConfig::new();
    for (key, value) in [
        ("client.retry_max_attempts", "2"),
        ("client.retry_base_delay", "500ms"),
        ("client.connect_timeout", "10s"),
        ("client.read_timeout", &patience),
    ] {
        if std::env::var_os(format!("HF_XET_{}", key.replace('.', "_").to_ascii_uppercase())).is_none() {
            config = config.with_config(key, value).map_err(|error| XetError::Configuration(error.to_string()))?;
        }
    }
    config.telemetry.enabled = false;
    Ok(config)
}

/// Calls `hf-xet`, in which a machine without certificates is a panic.
fn quietly<T>(work: impl FnOnce() -> Result<T, XetError>) -> Result<T, &'static str> {
    match catch_panics(|| Ok(work())) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err("fails"),
    }
}

/// In words of our own: the texts of `hf-xet` may hold signed addresses.
pub(super) fn reason(error: &XetError) -> &'static str {
    match error {
        XetError::Network(_) => "cannot be reached",
        XetError::Timeout(_) => "does not answer in time",
        XetError::RateLimited(_) | XetError::ServerError(_) => "is too busy",
        XetError::Authentication(_) => "refuses to be read",
        XetError::NotFound(_) => "does not have the file",
        XetError::DataIntegrity(_) => "sends broken data",
        _ => "fails",
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_and_addresses_that_do_no_harm_are_taken() {
        let taken = |hub: &str, token: &str, address: &str, exp: u64| {
            let storage = Storage::new("o/n", Url::parse(hub).unwrap());
            let text = serde_json::json!({"accessToken": token, "casUrl": address, "exp": exp}).to_string();
            storage.parse(text.as_bytes()).map(|(_, address)| address.to_string())
        };
        let (hub, later) = ("https://hub.org/t", now() + 900);
        assert_eq!(taken(hub, "a.b_c-", "https://me:pass@cas.org", later).as_deref(), Some("https://cas.org/"));
        assert!(taken("http://hub.org/t", "a", "http://cas.org", later).is_some());
        for (token, address, exp) in [
            ("", "https://cas.org", later),
            ("a\nb", "https://cas.org", later),
            ("a", "http://cas.org", later),
            ("a", "file:///etc/passwd", later),
            ("a", "cas.org", later),
            ("a", "https://cas.org", now()),
        ] {
            assert_eq!(taken(hub, token, address, exp), None, "{token:?} {address} {exp}");
        }
        assert!(Storage::new("o/n", Url::parse(hub).unwrap()).parse(b"<html>").is_none());
    }

    /// The names of settings that `hf-xet` knows.
    #[test]
    fn the_settings_are_taken() {
        let config = config().unwrap();
        assert!(!config.telemetry.enabled);
        assert_eq!(config.get("client.retry_max_attempts").unwrap(), "2");
        assert_eq!(config.client.connect_timeout, std::time::Duration::from_secs(10));
    }
}
