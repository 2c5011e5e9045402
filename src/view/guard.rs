//! Who is answered: the pages of this server itself, from an address of this machine, and nobody else.
//!
//! Other pages that a browser has open cannot write (Origin, Sec-Fetch-Site, JSON alone), nor reach the server under a
//! name of their own that leads here (Host). What a network can reach needs the token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What the requests are held against.
#[derive(Debug)]
pub struct Guard {
    pub port: u16,
    /// The name given with `--host`, in small letters, if it is one.
    pub name: Option<String>,
    /// Needed where the server is open to a network.
    pub token: Option<String>,
}

/// Lets through what may be answered, and says in every answer what a browser may do with it.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refuse(request.method(), request.uri(), request.headers()) {
        Some((status, why)) => {
            // Who still writes when the connection ends does not see the answer.
            let _ = tokio::time::timeout(PATIENCE, axum::body::to_bytes(request.into_body(), DRAINED)).await;
            (status, format!("{why}\n")).into_response()
        }
        None => {
            let fresh = guard.token.as_ref().filter(|token| in_query(request.uri()) == Some(token.as_str()));
            let cookie = fresh.map(|token| {
                format!("{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000", guard.cookie_name())
            });
            let mut response = next.run(request).await;
            if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A write may be so long.
pub const MOST_BYTES: usize = 1 << 20;
/// So much of one that is refused is read and dropped.
const DRAINED: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(2);

const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

type Refusal = Option<(StatusCode, &'static str)>;

impl Guard {
    fn refuse(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Refusal {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let hosts = headers.get_all(HOST).iter().count();
        let named = uri.authority().map(|authority| authority.as_str());
        let own = |host: Option<&str>| host.is_some_and(|host| self.is_own(host));
        if hosts != 1 || !own(text(HOST.as_str())) || named.is_some_and(|named| !self.is_own(named)) {
            return Some((StatusCode::FORBIDDEN, "this server answers to its own address alone"));
        }
        let writes = !matches!(*method, Method::GET | Method::HEAD);
        if ![Method::GET, Method::HEAD, Method::POST, Method::PUT].contains(method) {
            return Some((StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, POST and PUT only"));
        }
        let navigates = !writes && text("sec-fetch-mode") == Some("navigate");
        match text("sec-fetch-site") {
            None | Some("same-origin" | "none") => {}
            Some("same-site") if navigates => {}
            Some(_) => return Some((StatusCode::FORBIDDEN, "the pages of others may not ask")),
        }
        let origin = text(ORIGIN.as_str());
        let foreign = |origin: &str| !origin.strip_prefix("http://").is_some_and(|host| self.is_own(host));
        if origin.is_some_and(|origin| foreign(origin) && (writes || origin != "null")) {
            return Some((StatusCode::FORBIDDEN, "the pages of others may not ask"));
        }
        if let Some(token) = &self.token
            && !in_query(uri).is_some_and(|given| same(given, token))
            && !self.cookies(headers).any(|given| same(given, token))
        {
            return Some((StatusCode::UNAUTHORIZED, "open the whole address that toolkit view printed, token and all"));
        }
        let json = text("content-type").is_some_and(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
        if writes && !json {
            return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json only"));
        }
        let length = text("content-length").and_then(|length| length.parse::<usize>().ok());
        let long = length.is_some_and(|length| length > MOST_BYTES);
        (writes && long).then_some((StatusCode::PAYLOAD_TOO_LARGE, "longer than 1 MB"))
    }

    /// Whether a browser that calls this server so means this server: a name that anyone could have lead here is none
    /// of its own.
    fn is_own(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse::<u16>().ok()),
            _ => (host.as_str(), Some(80)),
        };
        let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let known = match ip {
            Some(ip) => ip.is_loopback() || self.token.is_some(),
            None => name == "localhost" || self.name.as_deref() == Some(name),
        };
        known && port == Some(self.port)
    }

    fn cookie_name(&self) -> String {
        format!("toolkit_view_{}", self.port)
    }

    fn cookies<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let name = self.cookie_name();
        pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn in_query(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// Compares in a time that does not tell how much is right.
fn same(given: &str, token: &str) -> bool {
    given.len() == token.len() && given.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(guard: &Guard, method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        guard.refuse(&method, &uri.parse().unwrap(), &map).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn reads_are_for_this_address_alone() {
        let guard = Guard { port: 8765, name: None, token: None };
        let host = |host: &str| refused(&guard, Method::GET, "/", &[("host", host)]);
        for own in ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"] {
            assert_eq!(host(own), None, "{own}");
        }
        for other in ["evil.example:8765", "127.0.0.1:8766", "127.0.0.1", "192.168.1.5:8765", "", "localhost.evil:8765"]
        {
            assert_eq!(host(other), Some(403), "{other}");
        }
        assert_eq!(refused(&guard, Method::GET, "/", &[]), Some(403));
        assert_eq!(refused(&guard, Method::GET, "http://evil.example/", &[("host", "127.0.0.1:8765")]), Some(403));
        let twice = [("host", "127.0.0.1:8765"), ("host", "evil.example")];
        assert_eq!(refused(&guard, Method::GET, "/", &twice), Some(403));
        let site = |site: &str, mode: &str| {
            let headers = [("host", "127.0.0.1:8765"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            refused(&guard, Method::GET, "/", &headers)
        };
        assert_eq!(site("cross-site", "navigate"), Some(403));
        assert_eq!(site("same-site", "no-cors"), Some(403));
        assert_eq!(
            (site("same-site", "navigate"), site("none", "navigate"), site("same-origin", "cors")),
            (None, None, None)
        );
    }

    #[test]
    fn writes_are_json_from_its_own_pages() {
        let guard = Guard { port: 8765, name: None, token: None };
        let write = |more: &[(&'static str, &str)]| {
            let mut headers = vec![("host", "127.0.0.1:8765")];
            headers.extend(more);
            refused(&guard, Method::POST, "/api/ratings", &headers)
        };
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(write(&[json]), None);
        assert_eq!(write(&[json, ("origin", "http://127.0.0.1:8765")]), None);
        for origin in
            ["null", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:9999", "http://127.0.0.1"]
        {
            assert_eq!(write(&[json, ("origin", origin)]), Some(403), "{origin}");
        }
        assert_eq!(write(&[json, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(write(&[json, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")]), Some(403));
        assert_eq!(write(&[]), Some(415));
        assert_eq!(write(&[("content-type", "text/plain")]), Some(415));
        assert_eq!(refused(&guard, Method::DELETE, "/", &[("host", "127.0.0.1:8765")]), Some(405));
    }

    #[test]
    fn a_network_needs_the_token() {
        let guard = Guard { port: 8765, name: Some("box.lan".into()), token: Some("abc".into()) };
        let get = |uri: &str, more: &[(&'static str, &str)]| {
            let mut headers = vec![("host", "192.168.1.5:8765")];
            headers.extend(more);
            refused(&guard, Method::GET, uri, &headers)
        };
        assert_eq!(get("/", &[]), Some(401));
        assert_eq!((get("/?token=abd", &[]), get("/?token=ab", &[])), (Some(401), Some(401)));
        assert_eq!((get("/?a=1&token=abc", &[]), get("/", &[("cookie", "x=1; toolkit_view_8765=abc")])), (None, None));
        assert_eq!(get("/", &[("cookie", "toolkit_view_8766=abc")]), Some(401));
        assert_eq!(refused(&guard, Method::GET, "/?token=abc", &[("host", "box.lan:8765")]), None);
        assert_eq!(refused(&guard, Method::GET, "/?token=abc", &[("host", "evil.example:8765")]), Some(403));
    }
}
