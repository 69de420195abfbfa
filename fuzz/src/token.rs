//! A key that receivers believe, and tokens signed with it.

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use callback_ledger::{
    auth::{Admission, Authenticator, KeySettings, KeyStore, Refusal},
    domain::{
        clock::Clock,
        trust::{KeyOrigin, TrustEntry, TrustPolicy},
    },
    net::HttpClient,
};
use jiff::Timestamp;

/// The private half of the example key of RFC 7515, A.3, which is everybody's.
const PRIVATE: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
/// Its public half.
pub const PUBLIC: [&str; 2] = ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];

/// The keys that receivers believe: the one above, and the public half of the example key of RFC 7515, A.2.
pub const KEYS: &str = r#"{"keys":[
    {"kty":"EC","kid":"k","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"RSA","kid":"r","use":"sig","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;

/// A header with which a token signed with the key is looked at.
pub const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;
/// Claims that every receiver believes.
pub const CLAIMS: &str = r#"{"iss":"https://issuer.example/","aud":"us","exp":1800000600,"tid":"1fdd12d0-4620-44ed-baec-459b611f84b2","azp":"b1c1d2e3-0000-4000-8000-000000000001"}"#;
/// Who issues them.
pub const ISSUER: &str = "https://issuer.example/";
/// For whom.
pub const AUDIENCE: &str = "us";
/// When they are looked at, in seconds since 1970.
pub const NOW: i64 = 1_800_000_000;

static KEY: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let decoded = |text: &str| BASE64.decode(text).expect("it is base64");
    let point = [vec![4], decoded(PUBLIC[0]), decoded(PUBLIC[1])].concat();
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &decoded(PRIVATE), &point)
        .expect("it is a pair of keys")
});

/// A token with this header and these claims, whatever they are, signed with the key.
///
/// # Panics
/// If the cryptography fails.
#[must_use]
pub fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = KEY.sign(&SystemRandom::new(), message.as_bytes()).expect("the key signs");
    format!("{message}.{}", BASE64.encode(signature))
}

/// A receiver that believes these keys. A `strict` one demands a tenant and a publisher besides.
#[must_use]
pub fn receiver(keys: &str, strict: bool) -> Option<Authenticator> {
    let only = |text: &str| if strict { vec![text.to_owned()] } else { Vec::new() };
    let policy = TrustPolicy {
        audiences: vec![AUDIENCE.to_owned()],
        tenant_required: strict,
        tenants: only("1fdd12d0-4620-44ed-baec-459b611f84b2"),
        publishers: only("b1c1d2e3-0000-4000-8000-000000000001"),
        secret: None,
        entries: vec![TrustEntry { issuers: vec![ISSUER.to_owned()], keys: KeyOrigin::Given(keys.to_owned()) }],
    };
    Authenticator::new("/api/calls", &policy, &STORE, Clock::from_fn(now)).ok()
}

/// A few remembered tokens are enough for one that comes twice, and are no leak.
static STORE: LazyLock<KeyStore> = LazyLock::new(|| {
    let settings = KeySettings { remembered_tokens: 8, ..KeySettings::default() };
    KeyStore::new(HttpClient::new().expect("TLS can be set up"), settings)
});

fn now() -> Timestamp {
    Timestamp::new(NOW, 0).expect("it is in range")
}

/// Shows a receiver these `Authorization` headers.
///
/// # Errors
/// Why it does not believe them.
///
/// # Panics
/// If it waits for something: its keys are given.
pub fn admit(receiver: &Authenticator, authorization: &[&[u8]]) -> Result<Admission, Refusal> {
    match pin!(receiver.admit(authorization, None)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(admitted) => admitted,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}
