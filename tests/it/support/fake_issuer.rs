//! An issuer that really serves discovery and keys, on loopback, and signs what it is told to.
//!
//! It signs with `aws_lc_rs` alone, so that our own use of `jsonwebtoken` is checked by something else.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use callback_ledger::domain::trust::{KeyOrigin, TrustDefaults, TrustEntry, TrustPolicy};
use serde_json::{Map, Value, json};
use url::Url;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

/// The instant at which tokens are made, unless a test says otherwise: 2026-01-01T00:00:00Z.
pub const NOW: i64 = 1_767_225_600;
/// The audience of a default token.
pub const AUDIENCE: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
/// The tenant of a default token.
pub const TENANT: &str = "1fdd12d0-4620-44ed-baec-459b611f84b2";
/// The application that asked for a default token: Event Grid.
pub const PUBLISHER: &str = "4962773b-9cdb-44cf-a8bf-237846a00ab7";
/// The issuer of a default token.
pub const ISSUER: &str = "https://api.botframework.com";

const METADATA: &str = "/v1/.well-known/OpenIdConfiguration";
const JWKS: &str = "/v1/keys";

/// A key pair that the issuer publishes under an id.
#[derive(Clone)]
pub struct SigningKey {
    pub id: String,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(&'static RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// The issuer.
pub struct FakeIssuer {
    server: MockServer,
    name: String,
    audience: String,
    state: Arc<State>,
}

struct State {
    uri: String,
    keys: Mutex<Vec<SigningKey>>,
    behaviour: Mutex<Behaviour>,
    metadata_fetches: AtomicUsize,
    jwks_fetches: AtomicUsize,
}

#[derive(Default)]
struct Behaviour {
    failing: bool,
    delay: Duration,
    extra_keys: Vec<Value>,
    jwks_uri: Option<String>,
    metadata: Option<ResponseTemplate>,
    jwks: Option<ResponseTemplate>,
    cache_control: Option<String>,
}

/// How often each document was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetches {
    pub metadata: usize,
    pub jwks: usize,
}

impl FakeIssuer {
    /// The issuer that Microsoft's calling platform names.
    pub async fn start() -> Self {
        Self::named(ISSUER).await
    }

    /// An issuer of another name.
    pub async fn named(name: &str) -> Self {
        let server = MockServer::start().await;
        let state = Arc::new(State {
            uri: server.uri(),
            keys: Mutex::new(vec![SigningKey::rsa("rsa-1", 0), SigningKey::ec("ec-1")]),
            behaviour: Mutex::default(),
            metadata_fetches: AtomicUsize::new(0),
            jwks_fetches: AtomicUsize::new(0),
        });
        let (metadata, jwks) = (Arc::clone(&state), Arc::clone(&state));
        Mock::given(path(METADATA)).respond_with(move |_: &wiremock::Request| metadata.metadata()).mount(&server).await;
        Mock::given(path(JWKS)).respond_with(move |_: &wiremock::Request| jwks.jwks()).mount(&server).await;
        Self { server, name: name.to_owned(), audience: AUDIENCE.to_owned(), state }
    }

    pub fn issuer(&self) -> &str {
        &self.name
    }

    pub fn audience(&self) -> &str {
        &self.audience
    }

    pub fn metadata_url(&self) -> Url {
        format!("{}{METADATA}", self.server.uri()).parse().unwrap()
    }

    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS}", self.server.uri())
    }

    pub fn trust_entry(&self) -> TrustEntry {
        TrustEntry { issuers: vec![self.name.clone()], keys: KeyOrigin::Metadata(vec![self.metadata_url()]) }
    }

    /// What a receiver with these defaults asks of this issuer's tokens.
    pub fn policy_of(&self, defaults: TrustDefaults) -> TrustPolicy {
        let publishers = defaults.publishers.iter().map(|publisher| (*publisher).to_owned()).collect();
        TrustPolicy { tenant_required: defaults.tenant_required, publishers, ..self.policy() }
    }

    /// What a Graph receiver asks of this issuer's tokens.
    pub fn policy(&self) -> TrustPolicy {
        TrustPolicy {
            audiences: vec![self.audience.clone()],
            tenant_required: true,
            tenants: Vec::new(),
            publishers: Vec::new(),
            secret: None,
            entries: vec![self.trust_entry()],
        }
    }

    pub fn fetches(&self) -> Fetches {
        Fetches {
            metadata: self.state.metadata_fetches.load(Ordering::SeqCst),
            jwks: self.state.jwks_fetches.load(Ordering::SeqCst),
        }
    }

    /// Answers 500 from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        self.state.behaviour.lock().unwrap().failing = failing;
    }

    /// Takes its time for every document.
    pub fn delay(&self, delay: Duration) {
        self.state.behaviour.lock().unwrap().delay = delay;
    }

    /// Publishes this beside its own keys.
    pub fn publish(&self, jwk: Value) {
        self.state.behaviour.lock().unwrap().extra_keys.push(jwk);
    }

    /// Says that its keys are elsewhere.
    pub fn point_to(&self, jwks_uri: &str) {
        self.state.behaviour.lock().unwrap().jwks_uri = Some(jwks_uri.to_owned());
    }

    /// Answers this for the metadata document.
    pub fn answer_metadata(&self, answer: ResponseTemplate) {
        self.state.behaviour.lock().unwrap().metadata = Some(answer);
    }

    /// Answers this for the JWKS document.
    pub fn answer_jwks(&self, answer: ResponseTemplate) {
        self.state.behaviour.lock().unwrap().jwks = Some(answer);
    }

    /// Sends this `Cache-Control` with its JWKS document.
    pub fn cache_control(&self, value: &str) {
        self.state.behaviour.lock().unwrap().cache_control = Some(value.to_owned());
    }

    /// Throws its keys away for one new key, and signs with that.
    pub fn rotate(&self) -> String {
        static ROTATIONS: AtomicUsize = AtomicUsize::new(0);
        let id = format!("rotated-{}", ROTATIONS.fetch_add(1, Ordering::SeqCst));
        *self.state.keys.lock().unwrap() = vec![SigningKey::rsa(&id, 1)];
        id
    }

    /// The key with this id.
    pub fn key(&self, id: &str) -> SigningKey {
        self.state.keys.lock().unwrap().iter().find(|key| key.id == id).expect("the issuer has this key").clone()
    }

    /// A token that is good in every respect, to be spoilt.
    pub fn token(&self) -> TokenBuilder {
        let key = self.state.keys.lock().unwrap()[0].clone();
        let claims = json!({ "iss": self.name, "aud": self.audience, "tid": TENANT, "azp": PUBLISHER,
                             "iat": NOW, "nbf": NOW, "exp": NOW + 3900 });
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key.id });
        TokenBuilder { key, header: members(header), claims: members(claims), raw_claims: None, now: NOW }
    }

    /// Signs these claims as they are, with its first key.
    pub fn sign(&self, claims: Value) -> String {
        let mut token = self.token();
        token.claims = members(claims);
        token.sign()
    }

    /// Signs this header and these claims as they are, with its first key.
    pub fn sign_with(&self, header: Value, claims: Value) -> String {
        let mut token = self.token();
        token.header = members(header);
        token.claims = members(claims);
        token.sign()
    }
}

impl State {
    fn metadata(&self) -> ResponseTemplate {
        self.metadata_fetches.fetch_add(1, Ordering::SeqCst);
        let behaviour = self.behaviour.lock().unwrap();
        let jwks_uri = behaviour.jwks_uri.clone().unwrap_or_else(|| format!("{}{JWKS}", self.uri));
        // The platform's own issuer is not the address of its metadata either.
        let document = json!({ "issuer": "https://api.botframework.com", "jwks_uri": jwks_uri });
        let answer = ResponseTemplate::new(200).set_body_json(document);
        behaviour.finish(behaviour.metadata.clone().unwrap_or(answer))
    }

    fn jwks(&self) -> ResponseTemplate {
        self.jwks_fetches.fetch_add(1, Ordering::SeqCst);
        let behaviour = self.behaviour.lock().unwrap();
        let mut keys: Vec<Value> = self.keys.lock().unwrap().iter().map(SigningKey::jwk).collect();
        keys.extend(behaviour.extra_keys.iter().cloned());
        let mut answer = ResponseTemplate::new(200).set_body_json(json!({ "keys": keys }));
        if let Some(value) = &behaviour.cache_control {
            answer = answer.insert_header("Cache-Control", value.as_str());
        }
        behaviour.finish(behaviour.jwks.clone().unwrap_or(answer))
    }
}

impl Behaviour {
    fn finish(&self, answer: ResponseTemplate) -> ResponseTemplate {
        let answer = if self.failing { ResponseTemplate::new(500) } else { answer };
        answer.set_delay(self.delay)
    }
}

impl SigningKey {
    /// An RSA key under this id; of the same number, the same key (they take long to make).
    pub fn rsa(id: &str, number: usize) -> Self {
        static PAIRS: [OnceLock<RsaKeyPair>; 3] = [const { OnceLock::new() }; 3];
        let pair = PAIRS[number].get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        Self { id: id.to_owned(), pair: Arc::new(Pair::Rsa(pair)) }
    }

    /// A new P-256 key under this id.
    pub fn ec(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { id: id.to_owned(), pair: Arc::new(Pair::Ec(pair)) }
    }

    /// The public key, as published.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &*self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "use": "sig", "kid": self.id, "n": encode(&public.n), "e": encode(&public.e),
                        "x5t": self.id, "endorsements": ["msteams"] })
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "x": encode(&point[1..33]), "y": encode(&point[33..]) })
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => {
                let encoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        }
    }
}

/// A token in the making.
#[derive(Clone)]
pub struct TokenBuilder {
    key: SigningKey,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    raw_claims: Option<String>,
    now: i64,
}

impl TokenBuilder {
    /// Moves `iat`, `nbf` and `exp` to this instant (seconds since 1970).
    pub fn at(mut self, now: i64) -> Self {
        self.now = now;
        self.claim("iat", now).claim("nbf", now).claim("exp", now + 3900)
    }

    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    pub fn tenant(self, tenant: &str) -> Self {
        self.claim("tid", tenant)
    }

    /// In so many seconds; negative: that long ago.
    pub fn expires_in(self, seconds: i64) -> Self {
        let at = self.now + seconds;
        self.claim("exp", at)
    }

    pub fn not_before_in(self, seconds: i64) -> Self {
        let at = self.now + seconds;
        self.claim("nbf", at)
    }

    pub fn issued_in(self, seconds: i64) -> Self {
        let at = self.now + seconds;
        self.claim("iat", at)
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name).expect("the token has this claim");
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name).expect("the token has this header");
        self
    }

    pub fn algorithm(self, algorithm: &str) -> Self {
        self.header("alg", algorithm)
    }

    /// Names this key, whoever signs.
    pub fn key_id(self, id: &str) -> Self {
        self.header("kid", id)
    }

    /// Signs with this key, whichever is named.
    pub fn signed_by(mut self, key: &SigningKey) -> Self {
        self.key = key.clone();
        self
    }

    /// Exactly this text as payload.
    pub fn raw_claims(mut self, text: &str) -> Self {
        self.raw_claims = Some(text.to_owned());
        self
    }

    pub fn sign(&self) -> String {
        self.sign_as(self.header.get("alg").and_then(Value::as_str).unwrap_or_default())
    }

    /// Signed with this algorithm, whichever is named.
    pub fn sign_as(&self, algorithm: &str) -> String {
        let message = self.message();
        let signature = self.key.sign(algorithm, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Signed with an HMAC under this secret.
    pub fn sign_hmac(&self, secret: &[u8]) -> String {
        let message = self.message();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// With an empty signature.
    pub fn unsigned(&self) -> String {
        format!("{}.", self.message())
    }

    fn message(&self) -> String {
        let claims = self.raw_claims.clone().unwrap_or_else(|| Value::from(self.claims.clone()).to_string());
        let header = Value::from(self.header.clone()).to_string();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other}"),
    }
}
