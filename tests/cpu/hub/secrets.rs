//! Who is told the token, what is said of failures, and which proxy is asked.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::server::{Fault, Hub, Plan, read_request};
use super::{failure, mini, output, pull, toolkit};

const TOKEN: &str = "hf_secretsecretsecret";

#[track_caller]
fn assert_only_the_hub_is_told(hub: &Hub, expected: &str) {
    let asked = hub.asked();
    assert!(asked.iter().any(|asked| asked.host == "cdn"));
    for one in asked {
        let told = one.headers.get("authorization").map(String::as_str);
        assert_eq!(told, (one.host == "hub").then_some(expected), "{} {}", one.method, one.path);
    }
}

#[test]
fn the_token_stays_with_the_hub() {
    let hub = Plan::new(mini("mini-blip")).start();
    let home = tempfile::tempdir().unwrap();
    let (out, error) = output(pull(home.path(), &hub).env("HF_TOKEN", TOKEN).arg("-vv"), 0);
    assert_only_the_hub_is_told(&hub, &format!("Bearer {TOKEN}"));
    assert!(!out.contains(TOKEN) && !error.contains(TOKEN) && !error.contains("Signature"), "{error}");
}

#[test]
fn tokens_are_found_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my-token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let hf_home = folder.path().join("hf");
    std::fs::create_dir(&hf_home).unwrap();
    std::fs::write(hf_home.join("token"), TOKEN).unwrap();
    let cache = |i: u32| folder.path().join(format!("cache{i}"));
    for (i, settings) in [
        vec![("HF_TOKEN_PATH", file.clone())],
        vec![("HF_HOME", hf_home.clone())],
        // The cache lies elsewhere.
        vec![("HF_HOME", hf_home.clone()), ("HF_HUB_CACHE", cache(2))],
        vec![("HF_HUB_CACHE", cache(3)), ("HF_TOKEN_PATH", file.clone())],
    ]
    .into_iter()
    .enumerate()
    {
        let hub = Plan::new(mini("mini-blip")).start();
        let home = tempfile::tempdir().unwrap();
        output(pull(home.path(), &hub).envs(settings).env("TEST", i.to_string()), 0);
        assert_only_the_hub_is_told(&hub, &format!("Bearer {TOKEN}"));
    }
    // The one in HOME, unless it is not to be used.
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join(".cache/huggingface");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("token"), TOKEN).unwrap();
    let hub = Plan::new(mini("mini-blip")).start();
    output(pull(home.path(), &hub).env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), 0);
    assert!(hub.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    let wrong = pull(tempfile::tempdir().unwrap().path(), &hub).env("HF_TOKEN", "two words").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("two words"));
}

#[test]
fn a_password_of_the_endpoint_is_sent_and_never_shown() {
    let hub = Plan::new(mini("mini-blip")).start();
    let home = tempfile::tempdir().unwrap();
    let secret = hub.address.replace("http://", "http://me:pass%40word@");
    let (_, error) = output(pull(home.path(), &hub).env("HF_ENDPOINT", &secret).arg("-vv"), 0);
    // me:pass@word
    assert_only_the_hub_is_told(&hub, "Basic bWU6cGFzc0B3b3Jk");
    assert!(!error.contains("word"), "{error}");
    for fault in [Fault::Status(404, ""), Fault::Status(401, ""), Fault::Status(400, "")] {
        hub.fault("hub", "GET", "revision/main", fault, 1);
        let home = tempfile::tempdir().unwrap();
        let error = failure(pull(home.path(), &hub).env("HF_ENDPOINT", &secret));
        assert!(!error.contains("word") && error.contains("127.0.0.1"), "{error}");
    }
    for endpoint in
        ["http://me:password@127.0.0.1:9", "http://me:password@ho st/", "me:password@host", "ftp://me:password@host"]
    {
        let failed = pull(home.path(), &hub).env("HF_HOME", "/nowhere").env("HF_ENDPOINT", endpoint).output().unwrap();
        let error = String::from_utf8(failed.stderr).unwrap();
        assert!(matches!(failed.status.code(), Some(1 | 2)) && !error.contains("password"), "{error}");
    }
}

#[test]
fn the_status_decides_what_is_said() {
    let said = |id: &str, fault: Fault| {
        let hub = Plan::new(mini("mini-blip")).id(id).start();
        hub.fault("hub", "GET", "revision/main", fault, 100);
        let home = tempfile::tempdir().unwrap();
        failure(toolkit(home.path()).env("HF_ENDPOINT", &hub.address).args(["models", "pull", id]))
    };
    // Names that hold the digits of another status.
    for id in ["owner/model-404", "o401/model-403", "owner/name"] {
        let busy = said(id, Fault::Status(503, "retry-after: 0\r\n"));
        assert!(busy.contains("too busy") && !busy.contains("not on the hub") && !busy.contains("licence"), "{busy}");
        let unknown = said(id, Fault::Status(404, ""));
        assert!(unknown.contains(&format!("{id} is not on the hub at revision main")), "{unknown}");
        let refused = said(id, Fault::Status(401, ""));
        assert!(refused.contains("accept its licence on its page and set HF_TOKEN, or check the name"), "{refused}");
        let gated = said(id, Fault::Status(403, "x-error-code: GatedRepo\r\n"));
        assert!(gated.contains(&format!("{id} has a licence: accept it on its page")), "{gated}");
        let odd = said(id, Fault::Status(418, ""));
        assert!(odd.contains("status 418") && !odd.contains("licence") && !odd.contains("not on the hub"), "{odd}");
    }
    let home = tempfile::tempdir().unwrap();
    let mut pull = toolkit(home.path());
    let error = failure(pull.env("HF_ENDPOINT", "http://127.0.0.1:9").args(["models", "pull", "o404/n401"]));
    assert!(error.contains("the hub cannot be reached"), "{error}");
}

#[test]
fn wrong_certificates_are_said() {
    let hub = Plan::new(mini("mini-blip")).start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("ca.pem");
    let bad = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    for (name, text) in
        [("SSL_CERT_FILE", None), ("REQUESTS_CA_BUNDLE", Some("no certificate")), ("CURL_CA_BUNDLE", Some(bad))]
    {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let (_, error) = output(pull(home.path(), &hub).env(name, &file), 2);
        assert!(error.contains(name) && error.contains("ca.pem") && error.trim().lines().count() == 1, "{error}");
    }
    assert!(hub.asked().is_empty());
}

#[test]
fn redirects_lead_nowhere_bad() {
    for (to, said) in [
        ("location: file:///etc/passwd\r\n", "redirects to an address of file:"),
        ("location: /api/models/owner/name/revision/main\r\n", "redirects without end"),
        ("", "redirects to nowhere"),
    ] {
        let hub = Plan::new(mini("mini-blip")).start();
        hub.fault("hub", "GET", "revision/main", Fault::Status(302, to), 1000);
        let home = tempfile::tempdir().unwrap();
        let error = failure(&mut pull(home.path(), &hub));
        assert!(error.contains(said), "{error}");
    }
}

/// A proxy that refuses all, and notes what it is asked for.
fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some((method, target, _)) = read_request(&stream) else { continue };
            notes.lock().unwrap().push(format!("{method} {target}"));
            let _ = std::io::Write::write_all(&mut &stream, b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (address, asked)
}

#[test]
fn proxies_are_obeyed() {
    let home = tempfile::tempdir().unwrap();
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (address, asked) = proxy();
        let with_password = address.replace("http://", "http://me:password@");
        let error = failure(toolkit(home.path()).env(name, &with_password).args(["models", "pull", "lpips-alex"]));
        assert!(
            error.contains("cannot download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
            "{error}"
        );
        assert!(!error.contains("password"), "{error}");
        assert_eq!(asked.lock().unwrap()[0], "CONNECT download.pytorch.org:443", "{name}");
    }
    let left = home.path().join(".cache/torch/hub/checkpoints/alexnet-owt-7be5be79.pth");
    assert!(!left.exists());

    // The hub on this machine: through the proxy, unless it is spared.
    let hub = Plan::new(mini("mini-blip")).start();
    let (address, asked) = proxy();
    failure(pull(home.path(), &hub).env("HTTP_PROXY", &address));
    assert_eq!(asked.lock().unwrap()[0], format!("GET {}/api/models/owner/name/revision/main", hub.address));
    let (address, asked) = proxy();
    output(pull(home.path(), &hub).env("HTTP_PROXY", &address).env("NO_PROXY", "localhost, 127.0.0.1"), 0);
    assert!(asked.lock().unwrap().is_empty());
    let wrong = pull(tempfile::tempdir().unwrap().path(), &hub).env("HTTP_PROXY", "::password::").output().unwrap();
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(2) && error.contains("HTTP_PROXY is not the address of a proxy"), "{error}");
    assert!(!error.contains("password"), "{error}");
}
