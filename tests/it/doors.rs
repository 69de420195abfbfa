//! The public listener's outer door: which networks may call, for whom a proxy speaks, TLS of its own.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::{Client, StatusCode, tls::Certificate};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::{
    app::{Settings, TestApp, graph, send},
    child::{binary, configuration_with},
};

/// A call begins.
fn body() -> String {
    let data = json!({ "@odata.type": "#microsoft.graph.call", "state": "establishing" });
    graph("created", "calls/61e0be9f-6b13-4a5c-9a3a-2d8d5b7a51c1", &data).to_string()
}

async fn app(receiver: &str, proxies: &str) -> TestApp {
    let env = vec![("PUBLIC__TRUSTED_PROXIES", proxies.to_owned())];
    TestApp::start_with(Settings { receiver: receiver.to_owned(), env, ..Settings::default() }).await
}

#[tokio::test]
async fn who_comes_from_a_network_that_is_not_allowed_is_refused_whatever_they_bring() {
    let app = app("allow_networks = [\"198.51.100.0/24\", \"2001:db8::/32\"]", "[\"127.0.0.1\"]").await;
    let from = |forwarded_for: &'static str| {
        let request = app.callback().header("x-forwarded-for", forwarded_for).header("user-agent", forwarded_for);
        send(request.bearer_auth(app.issuer.token().sign()).body(body()))
    };

    let plain = send(app.callback().bearer_auth(app.issuer.token().sign()).body(body())).await;
    assert_eq!(plain.status, StatusCode::FORBIDDEN, "the proxy itself is in no such network");
    for stranger in ["203.0.113.7", "198.51.100.7, 203.0.113.7", "nonsense", "2001:db9::1"] {
        let refused = from(stranger).await;
        assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::FORBIDDEN, &Value::from("forbidden")), "{stranger}");
    }
    assert!(app.list("/v1/notifications").await.is_empty());
    for friend in ["198.51.100.7", "203.0.113.7, 198.51.100.8", "[2001:db8::1]:443"] {
        assert_eq!(from(friend).await.status, StatusCode::ACCEPTED, "{friend}");
    }

    let rejections = app.rejections(5).await;
    assert!(rejections.len() == 5 && rejections.iter().all(|rejection| rejection["reason"] == "network_not_allowed"));
    let peer = |agent: &str| {
        let of = rejections.iter().find(|rejection| rejection["userAgent"] == agent);
        of.map(|rejection| (rejection["peer"].clone(), rejection["status"].clone()))
    };
    assert_eq!(peer("198.51.100.7, 203.0.113.7"), Some(("203.0.113.7".into(), 403.into())));
    assert_eq!(peer("nonsense"), Some((Value::Null, 403.into())));
}

#[tokio::test]
async fn a_header_that_anybody_can_write_is_not_believed() {
    let app = app("allow_networks = [\"198.51.100.0/24\"]", "[]").await;
    let request = app.callback().header("x-forwarded-for", "198.51.100.7").bearer_auth(app.issuer.token().sign());
    assert_eq!(send(request.body("{}")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(app.rejections(1).await[0]["peer"], "127.0.0.1");
}

// ---- TLS

/// Writes a certificate for this name and its key; returns the certificate.
fn certify(folder: &Path, name: &str) -> String {
    let certified = rcgen::generate_simple_self_signed([name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    write_private(&folder.join("key.pem"), &key);
    fs::write(folder.join("certificate.pem"), &certificate).unwrap();
    certificate
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const TLS: &str = "[public.tls]\ncertificate_file = \"certificate.pem\"\nkey_file = \"key.pem\"\n";

fn who_trusts(certificate: &str) -> Client {
    let root = Certificate::from_pem(certificate.as_bytes()).unwrap();
    Client::builder().no_proxy().tls_certs_only([root]).pool_max_idle_per_host(0).build().unwrap()
}

#[tokio::test]
async fn the_public_listener_speaks_tls_and_takes_a_new_certificate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path(), "bot.example.org");
    let served = crate::support::child::Served::start_with(folder.path(), TLS);
    let url = format!("{}/api/calls", served.public);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");

    let answered = who_trusts(&first).post(&url).send().await.unwrap();
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    let token = crate::support::child::token(folder.path());
    let posted = who_trusts(&first).post(&url).bearer_auth(token).body(body()).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::ACCEPTED);
    let plain = Client::builder().no_proxy().build().unwrap().post(url.replace("https", "http")).send().await;
    assert!(plain.is_err() || plain.unwrap().status() == StatusCode::BAD_REQUEST, "no callback in the clear");

    // a key that is of another certificate changes nothing
    write_private(&folder.path().join("key.pem"), &rcgen::KeyPair::generate().unwrap().serialize_pem());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(who_trusts(&first).post(&url).send().await.is_ok(), "the old one stays in force");

    let second = certify(folder.path(), "bot.example.org");
    let renewed = who_trusts(&second);
    let mut tries = 0;
    while renewed.post(&url).send().await.is_err() {
        tries += 1;
        assert!(tries < 300, "the new certificate was not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(who_trusts(&first).post(&url).send().await.is_err());
}

#[tokio::test]
async fn who_connects_and_never_begins_tls_takes_only_the_places_of_one_address() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certify(folder.path(), "bot.example.org");
    // with half of the places for one address, another is served at once, though handshakes are awaited for seconds
    let limits = [
        ("PUBLIC__MAX_CONNECTIONS", "600"),
        ("PUBLIC__MAX_CONNECTIONS_PER_ADDRESS", "300"),
        ("PUBLIC__TLS__CERTIFICATE_FILE", "certificate.pem"),
        ("PUBLIC__TLS__KEY_FILE", "key.pem"),
    ];
    let served = crate::support::child::Served::start_limited(folder.path(), &limits, &folder.path().join("log"));
    let door: SocketAddr = served.public.strip_prefix("https://").unwrap().parse().unwrap();
    let stranger = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.1.1:0".parse().unwrap()).unwrap();
        socket.connect(door).await.unwrap()
    };
    let mut tries = 0;
    loop {
        let mut silent = Vec::new();
        for _ in 0..700 {
            silent.push(stranger().await);
        }
        let asked = Instant::now();
        let answered = who_trusts(&trusted).post(format!("{}/api/calls", served.public)).send().await.unwrap();
        assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
        if asked.elapsed() < Duration::from_secs(2) {
            break;
        }
        tries += 1; // a machine with much else to do may make one wait once, handshakes of three seconds would each time
        assert!(tries < 5, "{:?}", asked.elapsed());
    }
    let metrics = reqwest::get(format!("{}/metrics", served.private)).await.unwrap().text().await.unwrap();
    let refused = metrics.lines().find(|line| line.contains("crowded_out") && !line.starts_with('#')).unwrap();
    assert!(!refused.ends_with(" 0"), "{refused}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let fault = || {
        let file = configuration_with(folder.path(), TLS);
        let ended = binary(folder.path()).args(["serve", "--dev", "--config"]).arg(file).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    };
    assert!(fault().contains("the certificate in certificate.pem cannot be used"));
    certify(folder.path(), "bot.example.org");
    write_private(&folder.path().join("key.pem"), &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let said = fault();
    assert!(said.contains("key.pem cannot be used"), "{said}");
    fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = fault();
    assert!(said.contains("open to others"), "{said}");
}
