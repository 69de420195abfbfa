//! Who is believed, and where the keys come from: through [`Authenticator::admit`], against an issuer that
//! really serves its documents.

use std::{sync::Arc, time::Duration};

use callback_ledger::{
    auth::{Admission, Authenticator, DevIssuer, KeySettings, KeyStore, Refusal, SetupError},
    domain::{
        clock::Clock,
        rejection::RejectionReason::{self, *},
        trust::{Admitted, KeyOrigin, SharedSecret, TrustEntry, TrustPolicy},
    },
    net::HttpClient,
    source::SOURCES,
};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use wiremock::ResponseTemplate;

use crate::support::{
    attacks::{attacks, publish_unusable_keys},
    fake_issuer::{AUDIENCE, FakeIssuer, Fetches, NOW, PUBLISHER, SigningKey, TENANT, TokenBuilder},
};

const RECEIVER: &str = "/api/calls";

/// Far more than any of these tests takes.
const LONG: Duration = Duration::from_mins(5);

/// A door and the keys behind it.
struct Door {
    authenticator: Authenticator,
    keys: KeyStore,
}

impl std::ops::Deref for Door {
    type Target = Authenticator;

    fn deref(&self) -> &Authenticator {
        &self.authenticator
    }
}

fn authenticator(policy: &TrustPolicy, settings: KeySettings) -> Arc<Door> {
    let keys = KeyStore::new(HttpClient::new().unwrap(), settings);
    let clock = Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
    let authenticator = Authenticator::new(RECEIVER, policy, &keys, clock).unwrap();
    Arc::new(Door { authenticator, keys })
}

/// Settings under which nothing is fetched but what requests ask for.
fn patient() -> KeySettings {
    KeySettings { refresh_every: LONG, min_refresh_interval: LONG, retry_every: LONG, ..KeySettings::default() }
}

async fn admit(door: &Authenticator, token: &str) -> Result<Admission, Refusal> {
    door.admit(&[format!("Bearer {token}").as_bytes()], None).await
}

/// The reason of a refusal; a panic if there was another outcome.
fn reason(outcome: Result<Admission, Refusal>) -> RejectionReason {
    match outcome {
        Err(Refusal::Rejected(rejected)) => rejected.reason,
        other => panic!("not a rejection: {other:?}"),
    }
}

fn unavailable(outcome: &Result<Admission, Refusal>) -> bool {
    matches!(outcome, Err(Refusal::Unavailable { .. }))
}

/// Waits for something that others do, and fails if they do not.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_mins(1), "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_good_token_of_every_allowed_algorithm_is_believed() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    for algorithm in ["RS256", "RS384", "RS512"] {
        let admission = admit(&door, &issuer.token().algorithm(algorithm).sign()).await.unwrap();
        assert_eq!(admission.key_id(), "rsa-1");
        assert_eq!(admission.issuer(), issuer.issuer());
        assert_eq!(admission.receiver(), RECEIVER);
        assert_eq!(admission.audience(), AUDIENCE);
        assert_eq!(admission.tenant(), Some(TENANT));
    }
    let ec = issuer.key("ec-1");
    let admission = admit(&door, &issuer.token().algorithm("ES256").key_id("ec-1").signed_by(&ec).sign()).await.unwrap();
    assert_eq!(admission.key_id(), "ec-1");
    assert_eq!(issuer.fetches(), Fetches { metadata: 1, jwks: 1 });
}

#[tokio::test]
async fn everything_that_may_vary_in_a_good_token_is_believed() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    let token = || issuer.token();
    let good: Vec<(&str, TokenBuilder)> = vec![
        ("several audiences", token().claim("aud", json!(["other", 7, AUDIENCE]))),
        ("expired within the skew", token().expires_in(-300)),
        ("valid within the skew", token().not_before_in(300)),
        ("issued within the skew", token().issued_in(300)),
        ("without nbf and iat", token().without("nbf").without("iat")),
        ("fractions of seconds", token().claim("exp", 1_767_225_600.5)),
        ("a tenant without dashes", token().tenant("1FDD12D0462044EDBAEC459B611F84B2")),
        ("headers that are ignored", token().header("jku", "https://evil.example/keys").header("x5t", "x").header("typ", 7)),
        ("claims that are ignored", token().claim("appid", 7).claim("scp", json!({ "a": [1] })).claim("jti", Value::Null)),
    ];
    for (name, token) in good {
        let admission = admit(&door, &token.sign()).await;
        assert_eq!(admission.as_ref().map(Admitted::tenant), Ok(Some(TENANT)), "{name}");
    }
}

#[tokio::test]
async fn every_way_to_write_the_header_is_judged() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    let token = issuer.token().sign();
    for good in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER  {token} ")] {
        assert!(door.admit(&[good.as_bytes()], None).await.is_ok(), "{good}");
    }
    let bearer = format!("Bearer {token}");
    let long = format!("Bearer {}", issuer.token().claim("padding", "x".repeat(13 * 1024)).sign());
    assert!(long.len() > 17 * 1024);
    let bad: [(&[&[u8]], RejectionReason); 7] = [
        (&[], MissingToken),
        (&[b""], MissingToken),
        (&[b"Basic dXNlcjpwYXNz"], NotBearer),
        (&[token.as_bytes()], NotBearer),
        (&[b"Bearer"], MalformedToken),
        (&[bearer.as_bytes(), bearer.as_bytes()], MalformedToken),
        (&[long.as_bytes()], MalformedToken),
    ];
    for (authorization, expected) in bad {
        assert_eq!(reason(door.admit(authorization, None).await), expected);
    }
}

#[tokio::test]
async fn every_attack_is_refused_for_its_reason() {
    let issuer = FakeIssuer::start().await;
    publish_unusable_keys(&issuer);
    for source in SOURCES {
        let (of, defaults) = (source.name(), source.trust_defaults());
        let door = authenticator(&issuer.policy_of(defaults), patient());
        for (name, token, expected) in attacks(&issuer, defaults) {
            assert_eq!(reason(admit(&door, &token).await), expected, "{of}: {name}");
        }
        assert!(admit(&door, &issuer.token().sign()).await.is_ok(), "{of}: the issuer's own tokens are still good");
    }
}

#[tokio::test]
async fn a_key_that_a_token_brings_or_points_to_is_not_even_fetched() {
    let (issuer, attacker) = (FakeIssuer::start().await, FakeIssuer::start().await);
    let own = attacker.rotate();
    let door = authenticator(&issuer.policy(), patient());
    let header = json!({ "alg": "RS256", "kid": own, "jku": attacker.jwks_url(), "x5u": attacker.jwks_url() });
    let claims = json!({ "iss": issuer.issuer(), "aud": issuer.audience(), "tid": TENANT, "exp": NOW + 60 });
    assert_eq!(reason(admit(&door, &attacker.sign_with(header, claims)).await), UnknownKey);
    assert_eq!(attacker.fetches(), Fetches { metadata: 0, jwks: 0 });
}

#[tokio::test]
async fn a_tenant_that_is_not_on_the_list_is_named_as_such_in_any_spelling() {
    let issuer = FakeIssuer::start().await;
    let policy = TrustPolicy { tenants: vec!["1FDD12D0462044EDBAEC459B611F84B2".to_owned()], ..issuer.policy() };
    let door = authenticator(&policy, patient());
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    let other = issuer.token().tenant("2fdd12d0-4620-44ed-baec-459b611f84b2").sign();
    assert_eq!(reason(admit(&door, &other).await), TenantNotAllowed);
    let lax = authenticator(&TrustPolicy { tenant_required: false, ..issuer.policy() }, patient());
    assert_eq!(admit(&lax, &issuer.token().without("tid").sign()).await.unwrap().tenant(), None);
}

#[tokio::test]
async fn a_publisher_is_known_by_either_of_its_claims_in_any_spelling() {
    let issuer = FakeIssuer::start().await;
    let policy = TrustPolicy { publishers: vec![PUBLISHER.to_uppercase().replace('-', "")], ..issuer.policy() };
    let door = authenticator(&policy, patient());
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    assert!(admit(&door, &issuer.token().without("azp").claim("appid", PUBLISHER).sign()).await.is_ok());
}

#[tokio::test]
async fn a_secret_is_demanded_besides_the_token_and_looked_at_behind_it() {
    let issuer = FakeIssuer::start().await;
    let secret = SharedSecret::new("correct horse battery");
    let tenants = vec!["2fdd12d0-4620-44ed-baec-459b611f84b2".to_owned()];
    let policy = TrustPolicy { secret: Some(secret), ..issuer.policy() };
    let door = authenticator(&policy, patient());
    let header = format!("Bearer {}", issuer.token().sign());
    assert!(door.admit(&[header.as_bytes()], Some("correct horse battery")).await.is_ok());
    for wrong in [None, Some(""), Some("correct horse"), Some("correct horse battery ")] {
        assert_eq!(reason(door.admit(&[header.as_bytes()], wrong).await), WrongSecret, "{wrong:?}");
    }
    let expired = format!("Bearer {}", issuer.token().expires_in(-301).sign());
    assert_eq!(reason(door.admit(&[expired.as_bytes()], None).await), Expired);
    assert_eq!(reason(door.admit(&[], Some("correct horse battery")).await), MissingToken);
    let elsewhere = authenticator(&TrustPolicy { tenants, ..policy.clone() }, patient());
    assert_eq!(reason(elsewhere.admit(&[header.as_bytes()], None).await), WrongSecret);
    assert_eq!(reason(elsewhere.admit(&[header.as_bytes()], Some("correct horse battery")).await), TenantNotAllowed);
    assert!(!format!("{policy:?}").contains("horse"));
}

#[tokio::test]
async fn where_no_token_is_demanded_the_secret_is_the_only_lock_and_there_must_be_one() {
    let issuer = FakeIssuer::start().await;
    let secret = Some(SharedSecret::new("correct horse battery"));
    let policy = TrustPolicy { audiences: Vec::new(), secret, ..issuer.policy() };
    let door = authenticator(&policy, patient());
    assert!(door.is_ready(), "there are no keys to wait for");
    let admission = door.admit(&[b"Bearer x"], Some("correct horse battery")).await.unwrap();
    assert_eq!((admission.audience(), admission.tenant()), ("(secret)", None));
    assert_eq!(reason(door.admit(&[], None).await), WrongSecret);
    assert_eq!(issuer.fetches(), Fetches { metadata: 0, jwks: 0 });

    let open = TrustPolicy { secret: None, ..policy };
    let keys = KeyStore::new(HttpClient::new().unwrap(), KeySettings::default());
    assert!(matches!(Authenticator::new(RECEIVER, &open, &keys, Clock::system()), Err(SetupError::Unlocked)));
}

#[tokio::test]
async fn what_a_refused_token_says_of_itself_is_tamed() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    let token = issuer.token().key_id("a\r\nb").issuer(&"i".repeat(300)).sign();
    let Err(Refusal::Rejected(rejected)) = admit(&door, &token).await else { panic!("not a rejection") };
    assert_eq!(rejected.unverified_key_id.as_deref(), Some("ab"));
    assert_eq!(rejected.unverified_issuer, Some("i".repeat(256)));
}

#[tokio::test]
async fn keys_of_one_cloud_never_speak_for_another() {
    let (public, government) = (FakeIssuer::start().await, FakeIssuer::named("https://api.botframework.us").await);
    let own = government.rotate(); // another key than the public cloud's
    let policy = TrustPolicy { entries: vec![public.trust_entry(), government.trust_entry()], ..public.policy() };
    let door = authenticator(&policy, patient());
    assert!(admit(&door, &public.token().sign()).await.is_ok());
    assert!(admit(&door, &government.token().sign()).await.is_ok());
    assert_eq!(reason(admit(&door, &public.token().issuer(government.issuer()).sign()).await), WrongIssuer);
    assert_eq!(reason(admit(&door, &government.token().issuer(public.issuer()).sign()).await), WrongIssuer);

    // The same id in both: each is tried, and still speaks for its own issuer only.
    public.publish(SigningKey::rsa(&own, 2).jwk());
    let door = authenticator(&policy, patient());
    assert!(admit(&door, &public.token().sign()).await.is_ok());
    assert!(admit(&door, &government.token().sign()).await.is_ok());
    let theirs = public.token().key_id(&own).signed_by(&SigningKey::rsa(&own, 2));
    assert!(admit(&door, &theirs.sign()).await.is_ok());
    assert_eq!(reason(admit(&door, &theirs.issuer(government.issuer()).sign()).await), WrongIssuer);
}

#[tokio::test]
async fn an_outage_of_one_cloud_does_not_touch_another() {
    let (public, government) = (FakeIssuer::start().await, FakeIssuer::named("https://api.botframework.us").await);
    government.fail(true);
    let policy = TrustPolicy { entries: vec![public.trust_entry(), government.trust_entry()], ..public.policy() };
    let door = authenticator(&policy, patient());
    assert!(admit(&door, &public.token().sign()).await.is_ok());
    assert_eq!(reason(admit(&door, &public.token().key_id("nobody").sign()).await), UnknownKey);
    assert!(unavailable(&admit(&door, &government.token().sign()).await), "nobody knows whether this one is good");
    assert!(!door.is_ready());
}

#[tokio::test]
async fn a_rotated_key_is_picked_up_at_its_first_token() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    let old = issuer.token();
    assert!(admit(&door, &old.sign()).await.is_ok());
    issuer.rotate();
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    assert_eq!(issuer.fetches(), Fetches { metadata: 2, jwks: 2 });
    assert_eq!(reason(admit(&door, &old.sign()).await), UnknownKey, "the old key is gone");
}

#[tokio::test]
async fn a_token_that_is_remembered_is_refused_with_its_keys() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), KeySettings { refresh_every: Duration::from_millis(50), ..patient() });
    let token = issuer.token().sign();
    for _again in 0..3 {
        assert_eq!(admit(&door, &token).await.unwrap().key_id(), "rsa-1");
    }
    // what only looks like it is another token
    let (rest, last) = token.split_at(token.len() - 2);
    let other = format!("{rest}{}", if last == "AA" { "BB" } else { "AA" });
    assert!(admit(&door, &other).await.is_err());
    issuer.rotate();
    let (stop, keys) = (CancellationToken::new(), door.keys.clone());
    let keeper = tokio::spawn(keys.keep_fresh(stop.clone()));
    eventually("the old key is gone", async || admit(&door, &token).await.is_err()).await;
    stop.cancel();
    keeper.await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_remembered_does_not_stand_in_for_the_secret() {
    let issuer = FakeIssuer::start().await;
    let secret = Some(SharedSecret::new("0123456789abcdef"));
    let door = authenticator(&TrustPolicy { secret, ..issuer.policy() }, patient());
    let authorization = format!("Bearer {}", issuer.token().sign());
    let admit = async |secret| door.admit(&[authorization.as_bytes()], secret).await;
    assert!(admit(Some("0123456789abcdef")).await.is_ok());
    for wrong in [None, Some("0123456789abcdee")] {
        let Err(Refusal::Rejected(rejected)) = admit(wrong).await else { panic!("let in with {wrong:?}") };
        assert_eq!(rejected.reason, RejectionReason::WrongSecret);
        assert_eq!(rejected.unverified_key_id.as_deref(), Some("rsa-1"));
    }
    assert!(admit(Some("0123456789abcdef")).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_is_picked_up_in_the_background() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), KeySettings { refresh_every: Duration::from_millis(100), ..patient() });
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn(door.keys.clone().keep_fresh(shutdown.clone()));
    eventually("the keys are loaded", async || door.is_ready()).await;
    let old = issuer.token();
    issuer.rotate();
    eventually("the old key is gone", async || admit(&door, &old.sign()).await.is_err()).await;
    shutdown.cancel();
    tokio::time::timeout(LONG, keeping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_publisher_may_ask_for_more_patience() {
    let issuer = FakeIssuer::start().await;
    issuer.cache_control("public, max-age=1"); // respected, but not below five minutes
    let door = authenticator(&issuer.policy(), KeySettings { refresh_every: Duration::from_millis(50), ..patient() });
    let keeping = tokio::spawn(door.keys.clone().keep_fresh(CancellationToken::new()));
    eventually("the keys are loaded", async || door.is_ready()).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(issuer.fetches(), Fetches { metadata: 1, jwks: 1 });
    keeping.abort();
}

#[tokio::test]
async fn without_any_keys_nobody_is_judged_until_the_issuer_is_back() {
    let issuer = FakeIssuer::start().await;
    issuer.fail(true);
    let settings = KeySettings { retry_every: Duration::from_millis(100), ..patient() };
    let door = authenticator(&issuer.policy(), settings);
    let keeping = tokio::spawn(door.keys.clone().keep_fresh(CancellationToken::new()));
    eventually("a fetch has failed", async || door.keys.key_sets()[0].refreshes_failed > 0).await;
    let outcome = admit(&door, &issuer.token().sign()).await;
    assert_eq!(outcome, Err(Refusal::Unavailable { retry_after: settings.retry_every }));
    assert!(!door.is_ready());
    assert_eq!(reason(admit(&door, &issuer.token().algorithm("none").unsigned()).await), UnsupportedAlgorithm);

    issuer.fail(false);
    eventually("the keys are loaded", async || door.is_ready()).await;
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    keeping.abort();
}

#[tokio::test]
async fn while_there_are_no_keys_requests_do_not_hammer_the_issuer() {
    let issuer = FakeIssuer::start().await;
    issuer.fail(true);
    let door = authenticator(&issuer.policy(), patient());
    for _ in 0..5 {
        assert!(unavailable(&admit(&door, &issuer.token().sign()).await));
    }
    assert_eq!(issuer.fetches().metadata, 1);
}

#[tokio::test]
async fn the_last_good_keys_serve_through_an_outage_and_not_forever() {
    let issuer = FakeIssuer::start().await;
    let settings = KeySettings {
        refresh_every: Duration::from_millis(50),
        min_refresh_interval: Duration::from_millis(50),
        max_stale: Duration::from_secs(10),
        retry_every: Duration::from_millis(50),
        ..KeySettings::default()
    };
    let door = authenticator(&issuer.policy(), settings);
    let keeping = tokio::spawn(door.keys.clone().keep_fresh(CancellationToken::new()));
    eventually("the keys are loaded", async || door.is_ready()).await;
    issuer.fail(true);
    eventually("a refresh has failed", async || door.keys.key_sets()[0].refreshes_failed > 0).await;
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    eventually("the keys are too old", async || unavailable(&admit(&door, &issuer.token().sign()).await)).await;
    assert!(!door.is_ready());
    let status = door.keys.key_sets().remove(0);
    assert!(!status.loaded && status.keys == 2 && status.age >= Some(settings.max_stale), "{status:?}");
    issuer.fail(false);
    eventually("the keys are back", async || admit(&door, &issuer.token().sign()).await.is_ok()).await;
    keeping.abort();
}

#[tokio::test]
async fn an_unknown_key_while_the_issuer_is_down_is_our_trouble() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    issuer.fail(true);
    for _ in 0..3 {
        assert!(unavailable(&admit(&door, &issuer.token().key_id("new").sign()).await));
    }
    assert_eq!(issuer.fetches().metadata, 2, "one load, one refresh");
    assert!(admit(&door, &issuer.token().sign()).await.is_ok(), "the known key still is");
}

#[tokio::test]
async fn a_slow_issuer_does_not_hold_a_request_longer_than_allowed() {
    let issuer = FakeIssuer::start().await;
    issuer.delay(LONG);
    let door = authenticator(&issuer.policy(), KeySettings { request_wait: Duration::from_millis(200), ..patient() });
    let started = Instant::now();
    assert!(unavailable(&admit(&door, &issuer.token().sign()).await));
    assert!(started.elapsed() < Duration::from_secs(5), "not with the end of the fetch");
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_end_the_fetch_for_the_others() {
    let issuer = FakeIssuer::start().await;
    issuer.delay(Duration::from_millis(300));
    let door = authenticator(&issuer.policy(), patient());
    let token = issuer.token().sign();
    assert!(tokio::time::timeout(Duration::from_millis(100), admit(&door, &token)).await.is_err());
    assert!(admit(&door, &token).await.is_ok());
    assert_eq!(issuer.fetches(), Fetches { metadata: 1, jwks: 1 });
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch() {
    let issuer = FakeIssuer::start().await;
    let door = authenticator(&issuer.policy(), patient());
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    issuer.delay(Duration::from_millis(100));
    let tokens: Vec<String> = (0..200).map(|n| issuer.token().key_id(&format!("flood-{n}")).sign()).collect();
    for outcome in join_all(tokens.iter().map(|token| admit(&door, token))).await {
        assert_eq!(reason(outcome), UnknownKey);
    }
    assert_eq!(reason(admit(&door, &tokens[0]).await), UnknownKey, "and later ones none");
    assert_eq!(issuer.fetches(), Fetches { metadata: 2, jwks: 2 });
}

#[tokio::test]
async fn a_flood_before_the_first_load_shares_it() {
    let issuer = FakeIssuer::start().await;
    issuer.delay(Duration::from_millis(100));
    let door = authenticator(&issuer.policy(), patient());
    let token = issuer.token().sign();
    for outcome in join_all((0..200).map(|_| admit(&door, &token))).await {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    assert_eq!(issuer.fetches(), Fetches { metadata: 1, jwks: 1 });
    issuer.rotate();
    assert!(admit(&door, &issuer.token().sign()).await.is_ok(), "the first load does not count against the limit");
}

#[tokio::test]
async fn keys_may_be_on_another_port_of_this_machine() {
    let (issuer, elsewhere) = (FakeIssuer::start().await, FakeIssuer::start().await);
    issuer.point_to(&elsewhere.jwks_url());
    let door = authenticator(&issuer.policy(), patient());
    assert!(admit(&door, &issuer.token().sign()).await.is_ok());
    assert_eq!((issuer.fetches().jwks, elsewhere.fetches().jwks), (0, 1));
}

#[tokio::test]
async fn documents_that_are_not_to_be_trusted_load_nothing() {
    type Spoil = fn(&FakeIssuer);
    let spoilt: [(&str, Spoil); 9] = [
        ("metadata that redirects", |issuer| {
            issuer.answer_metadata(ResponseTemplate::new(302).insert_header("Location", issuer.jwks_url().as_str()));
        }),
        ("keys that redirect", |issuer| {
            issuer.answer_jwks(ResponseTemplate::new(307).insert_header("Location", issuer.metadata_url().as_str()));
        }),
        ("keys over plain http elsewhere", |issuer| issuer.point_to("http://192.0.2.1/keys")),
        ("keys in a file", |issuer| issuer.point_to("file:///etc/passwd")),
        ("keys nowhere", |issuer| issuer.answer_metadata(ResponseTemplate::new(200).set_body_json(json!({ "issuer": "x" })))),
        ("oversize metadata", |issuer| {
            let padding = " ".repeat(1024 * 1024);
            let body = json!({ "jwks_uri": issuer.jwks_url(), "padding": padding });
            issuer.answer_metadata(ResponseTemplate::new(200).set_body_json(body));
        }),
        ("oversize keys", |issuer| issuer.publish(json!({ "padding": " ".repeat(1024 * 1024) }))),
        ("no JSON", |issuer| issuer.answer_jwks(ResponseTemplate::new(200).set_body_string("<html>"))),
        ("no usable key", |issuer| {
            issuer.answer_jwks(ResponseTemplate::new(200).set_body_json(json!({ "keys": [{ "kty": "oct", "kid": "rsa-1" }] })));
        }),
    ];
    for (name, spoil) in spoilt {
        let issuer = FakeIssuer::start().await;
        spoil(&issuer);
        let door = authenticator(&issuer.policy(), patient());
        assert!(unavailable(&admit(&door, &issuer.token().sign()).await), "{name}");
        assert_eq!(door.keys.key_sets()[0].refreshes_failed, 1, "{name}");
        assert!(issuer.fetches().metadata == 1 && issuer.fetches().jwks <= 1, "{name}");
    }
}

#[tokio::test]
async fn several_receivers_that_believe_one_issuer_fetch_its_keys_once() {
    let issuer = FakeIssuer::start().await;
    let keys = KeyStore::new(HttpClient::new().unwrap(), patient());
    let clock = || Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
    let doors = ["/one", "/two"].map(|path| Authenticator::new(path, &issuer.policy(), &keys, clock()).unwrap());
    for door in &doors {
        admit(door, &issuer.token().sign()).await.unwrap();
        assert!(door.is_ready());
    }
    assert_eq!(issuer.fetches(), Fetches { metadata: 1, jwks: 1 });
}

#[tokio::test]
async fn metadata_over_plain_http_elsewhere_is_refused_at_the_start() {
    let issuer = FakeIssuer::start().await;
    let keys = KeyOrigin::Metadata(vec!["http://192.0.2.1/metadata".parse().unwrap()]);
    let policy = TrustPolicy { entries: vec![TrustEntry { keys, ..issuer.trust_entry() }], ..issuer.policy() };
    let keys = KeyStore::new(HttpClient::new().unwrap(), KeySettings::default());
    let door = Authenticator::new(RECEIVER, &policy, &keys, Clock::system());
    assert!(matches!(door, Err(SetupError::MetadataAddress { .. })));
}

#[tokio::test]
async fn the_dev_issuer_is_believed_without_a_network() {
    let dev = DevIssuer::create().unwrap();
    let policy = TrustPolicy {
        audiences: vec![AUDIENCE.to_owned()],
        tenant_required: true,
        tenants: Vec::new(),
        publishers: Vec::new(),
        secret: None,
        entries: vec![dev.trust_entry()],
    };
    let door = authenticator(&policy, KeySettings::default());
    assert!(door.is_ready() && door.keys.key_sets().is_empty());
    let now = Timestamp::from_second(NOW).unwrap();
    let claims = json!({ "aud": AUDIENCE, "tid": TENANT }).as_object().unwrap().clone();
    let admission = admit(&door, &dev.mint(claims.clone(), now).unwrap()).await.unwrap();
    assert_eq!(admission.issuer(), DevIssuer::ISSUER);
    let another = DevIssuer::create().unwrap().mint(claims, now).unwrap();
    assert_eq!(reason(admit(&door, &another).await), UnknownKey);
}
