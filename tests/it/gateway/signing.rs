//! The gateway signs with tokens of an application that proves itself by its certificate, or for Communication Services.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{KeyPair, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use super::platform;
use crate::support::{
    app::{Settings, TestApp, send},
    fake_issuer::{FakeIssuer, NOW},
};

const CERTIFICATE: &[u8] = b"what is in here is the authority's to read";

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A service that signs as these lines say, sends one request, and what the authority was asked and the platform was sent.
async fn signed(credentials: &str, path: &str) -> (MockServer, std::collections::BTreeMap<String, String>, String) {
    let server = platform(ResponseTemplate::new(202)).await;
    let authority = MockServer::start().await;
    let token = ResponseTemplate::new(200).set_body_json(json!({ "access_token": "given", "expires_in": 3600 }));
    Mock::given(any()).respond_with(token).mount(&authority).await;
    let hash = digest(&SHA256, b"bot").as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let sections = format!(
        "[gateway]\nallow_private_upstreams = true\ngraph = \"{0}\"\nacs = \"{0}\"\n{credentials}tenant = \"home\"\nclient_id = \"app\"\nauthority = \"{1}\"\n[[private.token]]\nname = \"bot\"\nsha256 = \"{hash}\"\nscopes = [\"write\"]\n",
        server.uri(),
        authority.uri()
    );
    let app = TestApp::start_without_keys(FakeIssuer::start().await, Settings { sections, ..Settings::default() }).await;
    let request = app.client.post(format!("{}/gateway/{path}", app.private)).header("authorization", "HMAC-SHA256 the-bots");
    assert_eq!(send(request.header("Callback-Ledger-Token", "bot").body("{}")).await.status, StatusCode::ACCEPTED);
    let asked = authority.received_requests().await.unwrap().remove(0);
    let form = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let sent = server.received_requests().await.unwrap().remove(0);
    (authority, form, sent.headers["authorization"].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_application_proves_itself_by_its_certificate() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.pem");
    std::fs::write(&file, pem("CERTIFICATE", CERTIFICATE) + &pem("PRIVATE KEY", der.as_ref())).unwrap();
    let credentials = format!("[gateway.credentials.graph]\ncertificate_file = \"{}\"\n", file.display());
    let (authority, form, sent) = signed(&credentials, "graph/v1.0/communications/calls/c/record").await;
    assert_eq!(sent, "Bearer given");
    assert!(!form.contains_key("client_secret"));
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let assertion = &form["client_assertion"];
    let (signing_input, signature) = assertion.rsplit_once('.').unwrap();
    let part = |at: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(assertion.split('.').nth(at).unwrap()).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!(
        (&header["alg"], &header["x5t#S256"]),
        (&json!("PS256"), &json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, CERTIFICATE))))
    );
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("app"), &json!("app")));
    assert_eq!(claims["aud"], format!("{}/home/oauth2/v2.0/token", authority.uri()));
    let (from, to) = (claims["nbf"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((NOW..NOW + 60).contains(&from) && to == from + 300, "{claims}");
    let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(signing_input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn all_who_wait_for_a_token_hear_of_one_refusal() {
    let server = platform(ResponseTemplate::new(202)).await;
    let authority = MockServer::start().await;
    let refused = ResponseTemplate::new(400).set_delay(std::time::Duration::from_millis(300));
    Mock::given(any()).respond_with(refused.set_body_json(json!({ "error": "invalid_client" }))).mount(&authority).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "planted").unwrap();
    let hash = digest(&SHA256, b"bot").as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let sections = format!(
        "[gateway]\nallow_private_upstreams = true\ngraph = \"{}\"\n[gateway.credentials.graph]\ntenant = \"home\"\nclient_id = \"app\"\nclient_secret_file = \"{}\"\nauthority = \"{}\"\n[[private.token]]\nname = \"bot\"\nsha256 = \"{hash}\"\nscopes = [\"write\"]\n",
        server.uri(),
        file.display(),
        authority.uri()
    );
    let app = TestApp::start_without_keys(FakeIssuer::start().await, Settings { sections, ..Settings::default() }).await;
    let post = async || {
        let request = app.client.post(format!("{}/gateway/graph/v1.0/communications/calls/c/record", app.private));
        send(request.header("Callback-Ledger-Token", "bot").body("{}")).await.status
    };
    let all = futures_util::future::join_all((0..8).map(|_| post())).await;
    assert_eq!(all, [StatusCode::BAD_GATEWAY; 8]);
    let asked = authority.received_requests().await.unwrap().len();
    assert!(asked < 8, "it was asked {asked} times for 8 requests");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_application_may_use_communication_services() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "planted").unwrap();
    let credentials = format!("[gateway.credentials.acs]\nclient_secret_file = \"{}\"\n", file.display());
    let path = "acs/calling/callConnections/c:play?api-version=2025-06-15";
    let (_authority, form, sent) = signed(&credentials, path).await;
    assert_eq!((form["client_secret"].as_str(), form["client_id"].as_str()), ("planted", "app"));
    assert_eq!(form["scope"], "https://communication.azure.com//.default");
    assert_eq!(sent, "Bearer given");
}
