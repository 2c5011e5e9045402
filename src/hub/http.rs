//! Requests to a hub, or to another server: redirects that never carry the token away, and patience with servers that
//! are busy.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, Proxy};
use url::{Origin, Url};

use super::environment::{Endpoint, no_certificates, patience, proxy_for, roots, strip_user};

/// How often a request is made again.
pub(super) const RETRIES: u32 = 4;

/// A server that wants to be left alone for longer than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

const MAX_REDIRECTS: usize = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpFailure {
    /// The server says that it cannot. `place` is the address without user, password and query.
    #[error("{place} answers with status {status}{detail}")]
    Status { status: u16, place: String, code: Option<String>, detail: String },
    /// No answer, or half of one; `transient`: another attempt may help.
    #[error("{place}: {reason}")]
    Unreachable { place: String, reason: String, transient: bool },
    /// An answer that makes no sense, or one that would do harm.
    #[error("{place} {fault}")]
    Wrong { place: String, fault: String },
    /// The settings of this machine.
    #[error(transparent)]
    Settings(anyhow::Error),
}

impl HttpFailure {
    pub fn wrong(url: &Url, fault: impl Into<String>) -> Self {
        Self::Wrong { place: place(url), fault: fault.into() }
    }

    /// As an error of the program; wrong settings stay wrong usage.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Settings(error) => error,
            other => other.into(),
        }
    }

    /// Bytes stopped coming.
    pub fn broken(url: &Url, reason: impl Into<String>) -> Self {
        Self::Unreachable { place: place(url), reason: reason.into(), transient: true }
    }

    /// What may have been done already is not asked for twice.
    fn once_unless(self, repeatable: bool) -> Self {
        match self {
            Self::Unreachable { place, reason, .. } if !repeatable => {
                Self::Unreachable { place, reason, transient: false }
            }
            other => other,
        }
    }

    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Unreachable { transient, .. } => *transient,
            Self::Wrong { .. } | Self::Settings(_) => false,
        }
    }
}

/// An address as it may be shown: no user, no password, and no query, which may be signed.
pub(super) fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// What a server answered, its body not read yet.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Where it came from, after all redirects.
    pub url: Url,
    response: Response,
}

impl HttpAnswer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The number in a header.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The body as it comes.
    pub fn into_reader(self) -> impl Read {
        self.response
    }

    /// The whole body, and an error where it is longer than `most`.
    ///
    /// # Errors
    /// A longer body, or one that stops coming.
    pub fn into_bytes(self, most: u64) -> Result<Vec<u8>, HttpFailure> {
        let (url, mut bytes) = (self.url, Vec::new());
        let read = self.response.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| HttpFailure::broken(&url, error.to_string()))?;
        if bytes.len() as u64 > most {
            return Err(HttpFailure::wrong(&url, format!("sends more than {most} bytes, which is no answer to this")));
        }
        Ok(bytes)
    }
}

/// Asks servers. Shared between threads.
#[derive(Debug)]
pub struct HttpClient {
    client: reqwest::blocking::Client,
    /// Who is given the header `Authorization`.
    secret: Option<(Origin, String)>,
    /// Whether any server has answered yet: from then on a refused connection is a hiccup.
    answered: AtomicBool,
}

impl HttpClient {
    /// One that is known to nobody.
    ///
    /// # Errors
    /// When the certificates that the environment names cannot be read.
    pub fn anonymous() -> Result<Self> {
        // It fails where one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::blocking::Client::builder()
            .redirect(Policy::none())
            // What is wrong with a setting is said before each request.
            .proxy(Proxy::custom(|url| proxy_for(url).ok().flatten()))
            .user_agent(concat!("toolkit/", env!("CARGO_PKG_VERSION")))
            // Lengths and ranges are those of the file itself.
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .connect_timeout(Duration::from_secs(20))
            // For the answer to begin, and then for each piece of it.
            .timeout(patience());
        let client = match roots()? {
            Some(own) => builder.tls_certs_only(own.certificates).build().map_err(|_| no_certificates(&own.place))?,
            // Mozilla's too, since a bare machine has none.
            None => builder.tls_certs_merge(mozilla()).build().context("cannot start the HTTP client")?,
        };
        Ok(Self { client, secret: None, answered: AtomicBool::new(false) })
    }

    /// One that shows the endpoint, and nobody else, who asks.
    ///
    /// # Errors
    /// Those of [`Self::anonymous`].
    pub(super) fn of(endpoint: &Endpoint) -> Result<Self> {
        Self::showing(&endpoint.url, endpoint.authorization.clone())
    }

    /// One that gives the header `Authorization` to the server of an address, and to nobody else.
    ///
    /// # Errors
    /// Those of [`Self::anonymous`].
    pub fn showing(url: &Url, authorization: Option<String>) -> Result<Self> {
        let secret = authorization.map(|text| (url.origin(), text));
        Ok(Self { secret, ..Self::anonymous()? })
    }

    /// The body, from byte `from` on where one is given. Also returns a 416, the answer to a `from`
    /// behind the end.
    pub fn get(&self, url: &Url, from: Option<u64>) -> Result<HttpAnswer, HttpFailure> {
        self.patiently(|| self.follow(&Method::GET, url, from))
    }

    /// The headers of a file of the hub: where its CDN holds the bytes, those of the redirect there.
    pub fn head(&self, url: &Url) -> Result<HttpAnswer, HttpFailure> {
        self.patiently(|| self.follow(&Method::HEAD, url, None))
    }

    /// Sends a body of this type, and gives the answer with its body whatever its status is, so that what the server says
    /// of a refusal can be read. A busy server is asked again; without `repeatable` only where it has not begun.
    ///
    /// # Errors
    /// No answer, or a redirect: it would turn what is sent into a mere question.
    pub fn send(
        &self,
        method: &Method,
        url: &Url,
        sent: (&str, &[u8]),
        repeatable: bool,
    ) -> Result<HttpAnswer, HttpFailure> {
        let may_again =
            |status: u16| matches!(status, 429 | 503) || repeatable && matches!(status, 408 | 500 | 502 | 504);
        let last = std::cell::Cell::new(None);
        let tried = self.patiently(|| {
            let request = self.request(method, url).map_err(|failure| (failure, None))?;
            let request = request.header(CONTENT_TYPE, sent.0).body(sent.1.to_vec());
            let answer = self.answer(url, request).map_err(|failure| (failure.once_unless(repeatable), None))?;
            match answer.status() {
                300..=399 => {
                    let to = next(url, &answer).map_err(|failure| (failure, None))?;
                    Err((HttpFailure::wrong(url, format!("redirects to {}: give that address", place(&to))), None))
                }
                status if may_again(status) => {
                    let refused = refusal(&answer);
                    last.set(Some(answer));
                    Err(refused)
                }
                _ => Ok(answer),
            }
        });
        // The server's own words say more than its status.
        match (tried, last.take()) {
            (Err(HttpFailure::Status { .. }), Some(answer)) => Ok(answer),
            (tried, _) => tried,
        }
    }

    fn patiently(
        &self,
        ask: impl Fn() -> Result<HttpAnswer, (HttpFailure, Option<Duration>)>,
    ) -> Result<HttpAnswer, HttpFailure> {
        let mut failed = 0;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err((failure, wanted)) => {
                    failed += 1;
                    let wait = wanted.unwrap_or_else(|| pause(failed));
                    if failed > RETRIES || !failure.is_transient() || wait > LONGEST_WAIT {
                        return Err(failure);
                    }
                    tracing::debug!("{failure}: again in {} s", wait.as_secs_f32());
                    std::thread::sleep(wait);
                }
            }
        }
    }

    fn follow(
        &self,
        method: &Method,
        url: &Url,
        from: Option<u64>,
    ) -> Result<HttpAnswer, (HttpFailure, Option<Duration>)> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(method, &url, from).map_err(|failure| (failure, None))?;
            // The file's own headers come with the redirect to where its bytes are.
            let is_told = *method == Method::HEAD && answer.header("x-linked-etag").is_some();
            match answer.status() {
                301 | 302 | 303 | 307 | 308 if !is_told => url = next(&url, &answer).map_err(|f| (f, None))?,
                200..=399 => return Ok(answer),
                416 if from.is_some() => return Ok(answer),
                _ => return Err(refusal(&answer)),
            }
        }
        Err((HttpFailure::wrong(&url, "redirects without end"), None))
    }

    fn once(&self, method: &Method, url: &Url, from: Option<u64>) -> Result<HttpAnswer, HttpFailure> {
        let mut request = self.request(method, url)?;
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        self.answer(url, request)
    }

    fn request(&self, method: &Method, url: &Url) -> Result<RequestBuilder, HttpFailure> {
        proxy_for(url).map_err(HttpFailure::Settings)?;
        let mut request = self.client.request(method.clone(), url.clone());
        if let Some((origin, secret)) = &self.secret
            && url.origin() == *origin
        {
            request = request.header(AUTHORIZATION, secret);
        }
        Ok(request)
    }

    fn answer(&self, url: &Url, request: RequestBuilder) -> Result<HttpAnswer, HttpFailure> {
        let response = request.send().map_err(|error| self.unreachable(url, error))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(HttpAnswer { url: url.clone(), response })
    }

    fn unreachable(&self, url: &Url, error: reqwest::Error) -> HttpFailure {
        let transient = if error.is_connect() { self.answered.load(Ordering::Relaxed) } else { !error.is_builder() };
        HttpFailure::Unreachable { place: place(url), reason: reason(&error.without_url()), transient }
    }
}

/// Mozilla's certificates.
fn mozilla() -> impl Iterator<Item = Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok())
}

/// Why a request failed, of the whole chain what says something.
fn reason(error: &reqwest::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.starts_with("client error") && said.last().is_none_or(|last| !last.ends_with(&text)) {
            said.push(text);
        }
        cause = error.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

/// Where a redirect leads.
fn next(url: &Url, answer: &HttpAnswer) -> Result<Url, HttpFailure> {
    let location = answer.header("location").and_then(|location| url.join(location).ok());
    let Some(mut to) = location else {
        return Err(HttpFailure::wrong(url, "redirects to nowhere"));
    };
    if to.scheme() != url.scheme() && to.scheme() != "https" {
        return Err(HttpFailure::wrong(url, format!("redirects to an address of {}:", to.scheme())));
    }
    strip_user(&mut to);
    Ok(to)
}

/// The failure that a status says, and how long the server wants to be left alone.
fn refusal(answer: &HttpAnswer) -> (HttpFailure, Option<Duration>) {
    let code = answer.header("x-error-code").map(str::to_string);
    let limit = || if answer.status() == 429 { answer.header("ratelimit").and_then(seconds_left) } else { None };
    let wait = answer.number("retry-after").or_else(limit).map(Duration::from_secs);
    let detail = match (&code, wait) {
        (_, Some(wait)) if wait > LONGEST_WAIT => format!(" and asks to come again in {} s", wait.as_secs()),
        (Some(code), _) => format!(" ({})", code.chars().filter(char::is_ascii_alphanumeric).collect::<String>()),
        _ => String::new(),
    };
    (HttpFailure::Status { status: answer.status(), place: place(&answer.url), code, detail }, wait)
}

/// `"api";r=0;t=55`, as the hub says where no requests are left: 55 seconds until there are again.
fn seconds_left(limit: &str) -> Option<u64> {
    limit.split(';').find_map(|part| part.trim().strip_prefix("t=")?.trim().parse().ok())
}

/// How long to wait after so many failures in a row.
pub(super) fn pause(failed: u32) -> Duration {
    Duration::from_millis(500) * 2_u32.saturating_pow(failed.saturating_sub(1).min(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let url = Url::parse("https://me:secret@host:8443/a/b?Signature=xyz#f").unwrap();
        assert_eq!(place(&url), "https://host:8443/a/b");
    }

    #[test]
    fn limits_say_when_they_end() {
        assert_eq!(seconds_left("\"api\";r=0;t=55"), Some(55));
        assert_eq!(seconds_left("\"api\"; r=0; t=7;x"), Some(7));
        assert_eq!(seconds_left("100"), None);
    }

    #[test]
    fn pauses_grow() {
        assert_eq!(pause(1), Duration::from_millis(500));
        assert_eq!(pause(3), Duration::from_secs(2));
        assert_eq!(pause(60), Duration::from_secs(32));
    }
}
