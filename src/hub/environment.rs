//! What the environment says: where the caches are, which hub, which token, which proxy. The names
//! and their order are those of Python's `huggingface_hub` (`constants.py`, `utils/_auth.py`).

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use percent_encoding::percent_decode_str;
use reqwest::Certificate;
use url::Url;

use crate::error::usage;

/// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub` (`XDG_CACHE_HOME` instead
/// of `~/.cache` where it is set).
pub fn cache_dir() -> PathBuf {
    path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home().join("hub"))
}

/// The user's cache folder: `XDG_CACHE_HOME`, else `~/.cache`.
pub(super) fn user_cache() -> PathBuf {
    path("XDG_CACHE_HOME").unwrap_or_else(|| path("HOME").unwrap_or_else(|| ".".into()).join(".cache"))
}

/// Where `hf auth login` leaves the token; the caches may lie elsewhere.
fn home() -> PathBuf {
    path("HF_HOME").unwrap_or_else(|| user_cache().join("huggingface"))
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}

/// The hub that is asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Without user and password.
    pub url: Url,
    /// The header `Authorization` for this endpoint, and for no other host.
    pub authorization: Option<String>,
}

/// `HF_ENDPOINT`, else the hub itself. A user and password in it are sent as such (as Python's
/// requests does), else the token.
///
/// # Errors
/// When the setting is no address, or the token cannot be one; neither is repeated in the message.
pub(super) fn endpoint() -> Result<Endpoint> {
    let setting = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
    let wrong = || usage("HF_ENDPOINT is not an address like https://huggingface.co");
    let mut url = Url::parse(setting.trim_end_matches('/')).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong());
    }
    let authorization = match (url.username().is_empty(), url.password()) {
        (true, None) => token()?.map(|token| format!("Bearer {token}")),
        (_, password) => {
            let plain = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
            let pair = format!("{}:{}", plain(url.username()), plain(password.unwrap_or("")));
            Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        }
    };
    strip_user(&mut url);
    Ok(Endpoint { url, authorization })
}

/// Takes user and password out of an address.
pub(super) fn strip_user(url: &mut Url) {
    // They fail only on addresses that have no host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// `HF_TOKEN`, else what the file `HF_TOKEN_PATH` holds, else `HF_HOME/token`.
fn token() -> Result<Option<String>> {
    if is_yes("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    if let Some(token) = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")) {
        return checked(token, "HF_TOKEN").map(Some);
    }
    let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home().join("token"));
    match std::fs::read_to_string(&file) {
        Ok(token) if token.trim().is_empty() => Ok(None),
        Ok(token) => checked(token.trim().to_string(), &file.display().to_string()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read the token of the hub, {}", file.display())),
    }
}

/// A token that fits into a header.
fn checked(token: String, place: &str) -> Result<String> {
    if token.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(token);
    }
    Err(usage(format!("{place} does not hold a token of the hub: it has spaces, line ends or other signs in it")))
}

/// The certificates of a file that servers are trusted by, and by no others.
pub(super) struct Roots {
    /// The setting and the file, for messages.
    pub place: String,
    pub certificates: Vec<Certificate>,
}

/// The certificates of `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, as behind a proxy
/// that opens what is sent; None where none is set: those that are trusted everywhere.
///
/// # Errors
/// When the file cannot be read, or holds no certificate.
pub(super) fn roots() -> Result<Option<Roots>> {
    let names = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"];
    let Some((name, file)) = names.iter().find_map(|name| Some((name, path(name)?))) else {
        return Ok(None);
    };
    let place = format!("{name}: {}", file.display());
    let text = std::fs::read(&file).map_err(|error| usage(format!("{place} cannot be read ({error})")))?;
    match Certificate::from_pem_bundle(&text) {
        Ok(certificates) if !certificates.is_empty() => Ok(Some(Roots { place, certificates })),
        _ => Err(no_certificates(&place)),
    }
}

/// The file of [`Roots`] is not what it should be.
pub(super) fn no_certificates(place: &str) -> anyhow::Error {
    usage(format!("{place} holds no certificates in PEM form"))
}

/// Whether large files may come from the hub's Xet storage: not with `HF_HUB_DISABLE_XET`, and not
/// where only certificates are trusted that its client does not read (of the settings above it knows
/// `SSL_CERT_FILE`).
pub(super) fn xet_is_wanted() -> bool {
    let own_roots = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].iter().any(|name| path(name).is_some());
    !is_yes("HF_HUB_DISABLE_XET") && (!own_roots || path("SSL_CERT_FILE").is_some())
}

/// Whether a switch is on, as Python's `huggingface_hub` reads it.
fn is_yes(name: &str) -> bool {
    text(name).is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

/// How long a server may be silent: `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, else 30.
pub(super) fn patience() -> Duration {
    let seconds = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    Duration::from_secs(seconds.unwrap_or(30))
}

/// The proxy for an address, as `curl` and Python choose it: `https_proxy` or `http_proxy` by its
/// scheme, else `all_proxy`, in small or large letters, unless `no_proxy` names the host.
///
/// # Errors
/// When the setting is no proxy; its value, which may hold a password, is not repeated.
pub(super) fn proxy_for(url: &Url) -> Result<Option<Url>> {
    let Some((name, value)) = proxy_setting(url, text) else { return Ok(None) };
    // `host:port` is a proxy too.
    let value = if value.contains("://") { value } else { format!("http://{value}") };
    let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
    match Url::parse(&value) {
        Ok(proxy) if known.contains(&proxy.scheme()) && proxy.host_str().is_some() => Ok(Some(proxy)),
        _ => Err(usage(format!("{name} is not the address of a proxy (http://host:port)"))),
    }
}

fn proxy_setting(url: &Url, get: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    let in_both_cases = |name: &str| {
        let names = [name.to_string(), name.to_ascii_uppercase()];
        names.into_iter().find_map(|name| get(&name).map(|value| (name, value)))
    };
    let own = if url.scheme() == "https" { "https_proxy" } else { "http_proxy" };
    let setting = in_both_cases(own).or_else(|| in_both_cases("all_proxy"))?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_ascii_lowercase();
    let spared = |entry: &str| {
        let entry = entry.trim().to_ascii_lowercase();
        // `host:port` spares one port.
        let entry = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => {
                if port.parse() != Ok(url.port_or_known_default().unwrap_or(0)) {
                    return false;
                }
                host.to_string()
            }
            _ => entry,
        };
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        entry == "*" || (!name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))))
    };
    let no_proxy = in_both_cases("no_proxy").map(|(_, value)| value).unwrap_or_default();
    (!no_proxy.split([',', ' ']).any(spared)).then_some(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, settings: &[(&str, &str)]) -> Option<String> {
        let get = |name: &str| {
            settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()).filter(|v| !v.is_empty())
        };
        proxy_setting(&Url::parse(url).unwrap(), get).map(|(_, value)| value)
    }

    #[test]
    fn proxies_are_chosen_by_scheme_and_host() {
        let both = [("HTTPS_PROXY", "s:1"), ("http_proxy", "p:2")];
        assert_eq!(chosen("https://huggingface.co/x", &both).as_deref(), Some("s:1"));
        assert_eq!(chosen("http://huggingface.co/x", &both).as_deref(), Some("p:2"));
        assert_eq!(chosen("https://a.org", &[("http_proxy", "p:2")]), None);
        assert_eq!(chosen("https://a.org", &[("ALL_PROXY", "a:3")]).as_deref(), Some("a:3"));
        for (spare, url, direct) in [
            ("huggingface.co", "https://huggingface.co", true),
            ("huggingface.co", "https://cdn.huggingface.co", true),
            (".huggingface.co", "https://cdn.huggingface.co", true),
            ("face.co", "https://huggingface.co", false),
            ("a.org, *.co", "https://huggingface.co", true),
            ("*", "https://huggingface.co", true),
            ("huggingface.co:8080", "https://huggingface.co", false),
            ("127.0.0.1:90", "http://127.0.0.1:90/x", true),
            ("", "https://huggingface.co", false),
        ] {
            let set = [("HTTPS_PROXY", "s:1"), ("HTTP_PROXY", "p:2"), ("NO_PROXY", spare)];
            assert_eq!(chosen(url, &set).is_none(), direct, "{spare} {url}");
        }
    }

    #[test]
    fn users_are_taken_out() {
        let mut url = Url::parse("http://me:secret@host:1/hf").unwrap();
        strip_user(&mut url);
        assert_eq!(url.as_str(), "http://host:1/hf");
    }
}
