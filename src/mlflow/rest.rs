//! The REST API: addresses, who asks, and what the server says where it refuses.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::Value;
use url::{Host, Url};

use crate::error::usage;
use crate::hub::{HttpClient, HttpFailure};

/// No answer of the API is longer.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A server.
#[derive(Debug)]
pub struct Rest {
    client: HttpClient,
    /// Without user, password and the slash at its end.
    base: Url,
}

/// Why the server did not do it.
#[derive(Debug)]
pub enum Refusal {
    /// It says so itself.
    Told { code: String, said: String },
    /// It cannot be asked.
    Silent(anyhow::Error),
}

impl Refusal {
    /// MLflow's own code, such as `RESOURCE_DOES_NOT_EXIST`.
    pub fn code(&self) -> &str {
        match self {
            Self::Told { code, .. } => code,
            Self::Silent(_) => "",
        }
    }

    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Told { said, .. } => anyhow!(said),
            Self::Silent(error) => error,
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl Rest {
    /// The server at an address; nothing is asked yet. Who asks is said as MLflow's own client says it.
    ///
    /// # Errors
    /// Wrong usage: what is no address of a server, or, `offline`, one of another machine.
    pub fn at(uri: &str, offline: bool) -> Result<Self> {
        let wrong = || {
            // An address may hold a password.
            let shown = if uri.contains('@') { String::new() } else { format!(" {uri:?}") };
            usage(format!("--uri{shown} is not the address of an MLflow server, such as http://127.0.0.1:5000"))
        };
        let mut base = Url::parse(uri).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong());
        }
        let authorization = authorization(&base)?;
        // They fail only on addresses that have no host.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_string();
        base.set_path(&path);
        let rest = Self { client: HttpClient::showing(&base, authorization)?, base };
        if offline && !rest.is_here() {
            return Err(usage(format!("{rest} is another machine: not with --offline, nor with HF_HUB_OFFLINE=1")));
        }
        Ok(rest)
    }

    /// Whether the server is on this machine.
    pub fn is_here(&self) -> bool {
        match self.base.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
            None => false,
        }
    }

    /// The address of a page for people.
    pub fn page(&self, place: &str) -> String {
        format!("{self}/#/{place}")
    }

    /// An address of the server's own.
    pub fn below(&self, path: &str) -> Result<Url> {
        Ok(Url::parse(&format!("{self}/{path}"))?)
    }

    /// Asks for something.
    pub fn ask(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, Refusal> {
        let mut url = self.method(what)?;
        url.query_pairs_mut().extend_pairs(query);
        self.send(&Method::GET, &url, ("application/json", &[]), true)
    }

    /// Has something done; `repeatable`: that it is done twice does no harm.
    pub fn tell(&self, what: &str, body: &Value, repeatable: bool) -> Result<Value, Refusal> {
        self.send(&Method::POST, &self.method(what)?, ("application/json", body.to_string().as_bytes()), repeatable)
    }

    /// Puts bytes at an address.
    pub fn put(&self, url: &Url, bytes: &[u8]) -> Result<(), Refusal> {
        self.send(&Method::PUT, url, ("application/octet-stream", bytes), true).map(|_| ())
    }

    fn method(&self, what: &str) -> Result<Url, Refusal> {
        self.below(&format!("api/2.0/mlflow/{what}")).map_err(Refusal::Silent)
    }

    fn send(&self, method: &Method, url: &Url, sent: (&str, &[u8]), repeatable: bool) -> Result<Value, Refusal> {
        let answer = self.client.send(method, url, sent, repeatable).map_err(|failure| self.silent(failure))?;
        let status = answer.status();
        let body = answer.into_bytes(LONGEST_ANSWER).map_err(|failure| self.silent(failure))?;
        if status < 300 {
            let empty = body.iter().all(u8::is_ascii_whitespace);
            let read = if empty { Ok(Value::Null) } else { serde_json::from_slice(&body) };
            return read.map_err(|_| Refusal::Silent(anyhow!("{self} does not answer as an MLflow server does")));
        }
        Err(self.refusal(status, url, &body))
    }

    /// What a status and the body with it mean.
    fn refusal(&self, status: u16, url: &Url, body: &[u8]) -> Refusal {
        let told: Option<Value> = serde_json::from_slice(body).ok();
        let text = |key: &str| told.as_ref()?.get(key)?.as_str().map(str::to_string);
        if matches!(status, 401 | 403) {
            let remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN";
            return Refusal::Silent(anyhow!("{self} does not let you (status {status}): {remedy}"));
        }
        match (text("error_code"), text("message")) {
            (Some(code), message) => {
                let message = message.unwrap_or_default();
                // One line, and not the whole of what was sent.
                let message: String =
                    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect();
                Refusal::Told { said: format!("{self} refuses: {code}: {message}"), code }
            }
            _ => {
                let hint = if status == 404 { ": is it the address of an MLflow server?" } else { "" };
                Refusal::Silent(anyhow!("{self}{} answers with status {status}{hint}", self.beyond(url)))
            }
        }
    }

    /// An address of the server's without its beginning.
    fn beyond<'a>(&self, url: &'a Url) -> &'a str {
        let path = url.path();
        path.strip_prefix(self.base.path().trim_end_matches('/')).unwrap_or(path)
    }

    fn silent(&self, failure: HttpFailure) -> Refusal {
        Refusal::Silent(match failure {
            HttpFailure::Unreachable { reason, .. } => anyhow!("no MLflow server answers at {self}: {reason}"),
            other => other.into_error(),
        })
    }
}

/// The header `Authorization`: user and password of the address or of the environment, else the token, as
/// `mlflow/utils/rest_utils.py` chooses.
fn authorization(base: &Url) -> Result<Option<String>> {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let plain = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let of_address =
        (!base.username().is_empty()).then(|| (plain(base.username()), plain(base.password().unwrap_or(""))));
    let of_environment = || Some((setting("MLFLOW_TRACKING_USERNAME")?, setting("MLFLOW_TRACKING_PASSWORD")?));
    if let Some((user, password)) = of_address.or_else(of_environment) {
        return Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))));
    }
    match setting("MLFLOW_TRACKING_TOKEN").map(|token| token.trim().to_string()) {
        Some(token) if token.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(format!("Bearer {token}"))),
        Some(_) => Err(usage("MLFLOW_TRACKING_TOKEN holds no token: it has spaces, line ends or other signs in it")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_servers() {
        for wrong in ["mlruns", "file:///mlruns", "sqlite:///mlflow.db", "databricks", "127.0.0.1:5000", "http://"] {
            let error = Rest::at(wrong, false).unwrap_err().to_string();
            assert!(error.contains("is not the address of an MLflow server"), "{wrong}: {error}");
        }
        let rest = Rest::at("http://me:secret@localhost:5000/ml/?x=1#y", true).unwrap();
        assert_eq!(rest.to_string(), "http://localhost:5000/ml");
        assert_eq!(rest.below("api/2.0/x").unwrap().as_str(), "http://localhost:5000/ml/api/2.0/x");
        assert!(!Rest::at("ftp://me:secret@x", false).unwrap_err().to_string().contains("secret"));
        assert!(Rest::at("http://mlflow.example", true).unwrap_err().to_string().contains("another machine"));
        assert!(Rest::at("http://[::1]:5000", true).is_ok());
    }
}
