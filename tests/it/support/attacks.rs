//! What attackers send: tokens that differ from a good one in one respect each.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use callback_ledger::domain::{
    rejection::RejectionReason::{self, *},
    trust::TrustDefaults,
};
use serde_json::json;

use super::fake_issuer::{AUDIENCE, FakeIssuer, NOW, PUBLISHER, SigningKey, TENANT};

/// Publishes, beside the issuer's good keys, those that must not be used. To be called before the keys are fetched.
pub fn publish_unusable_keys(issuer: &FakeIssuer) {
    let weak = URL_SAFE_NO_PAD.encode([0xc5; 128]);
    issuer.publish(json!({ "kty": "RSA", "kid": "weak", "use": "sig", "n": weak, "e": "AQAB" }));
    let mut jwk = SigningKey::rsa("sealing", 2).jwk();
    jwk["use"] = "enc".into();
    issuer.publish(jwk);
    let mut narrow = SigningKey::rsa("narrow", 2).jwk();
    narrow["alg"] = "RS512".into();
    issuer.publish(narrow);
    for odd in [json!(7), json!({}), json!({ "kty": "oct", "kid": "oct", "k": "AAAA" }), json!({ "kty": "OKP", "kid": "okp" })] {
        issuer.publish(odd);
    }
}

/// What each is, the token, and why a receiver with these defaults refuses it.
pub fn attacks(issuer: &FakeIssuer, defaults: TrustDefaults) -> Vec<(&'static str, String, RejectionReason)> {
    let mut all = attacks_on_any(issuer);
    let token = || issuer.token();
    if defaults.tenant_required {
        all.push(("no tid", token().without("tid").sign(), MissingClaim));
        all.push(("blank tid", token().tenant(" ").sign(), MissingClaim));
    }
    if !defaults.publishers.is_empty() {
        all.extend([
            ("no publisher", token().without("azp").sign(), MissingClaim),
            ("a publisher that is no text", token().claim("azp", json!([PUBLISHER])).sign(), MissingClaim),
            ("another publisher", token().claim("azp", AUDIENCE).sign(), WrongPublisher),
            ("another publisher by its older name", token().without("azp").claim("appid", AUDIENCE).sign(), WrongPublisher),
            (
                "another publisher beside the right one",
                token().claim("azp", AUDIENCE).claim("appid", PUBLISHER).sign(),
                WrongPublisher,
            ),
            ("another publisher, expired", token().claim("azp", AUDIENCE).expires_in(-301).sign(), Expired),
        ]);
    }
    all
}

fn attacks_on_any(issuer: &FakeIssuer) -> Vec<(&'static str, String, RejectionReason)> {
    let sealing = SigningKey::rsa("sealing", 2);
    let stranger = SigningKey::rsa("rsa-1", 2);
    let token = || issuer.token();
    let public_key = URL_SAFE_NO_PAD.decode(issuer.key("rsa-1").jwk()["n"].as_str().unwrap()).unwrap();
    let good = token().sign();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let payload =
        URL_SAFE_NO_PAD.encode(json!({ "iss": issuer.issuer(), "aud": AUDIENCE, "tid": "other", "exp": NOW + 9 }).to_string());
    let twice = format!(r#"{{"iss":"{0}","aud":"{AUDIENCE}","tid":"{TENANT}","exp":{1},"exp":{1}}}"#, issuer.issuer(), NOW + 9);

    vec![
        ("no token at all", "x".to_owned(), MalformedToken),
        ("two parts", signed.to_owned(), MalformedToken),
        ("four parts", format!("{good}.x"), MalformedToken),
        ("padding", format!("{good}="), MalformedToken),
        ("a payload that is no object", token().raw_claims("[]").sign(), MalformedToken),
        ("claims twice", token().raw_claims(&twice).sign(), MalformedToken),
        ("crit", token().header("crit", json!(["exp"])).sign(), MalformedToken),
        ("no alg", token().without_header("alg").sign(), MalformedToken),
        ("alg none", token().algorithm("none").unsigned(), UnsupportedAlgorithm),
        ("alg nOnE", token().algorithm("nOnE").unsigned(), UnsupportedAlgorithm),
        ("HS256 with the public key", token().algorithm("HS256").sign_hmac(&public_key), UnsupportedAlgorithm),
        ("PS256", token().algorithm("PS256").sign(), UnsupportedAlgorithm),
        ("ES256 with an RSA key", token().algorithm("ES256").sign(), UnsupportedAlgorithm),
        ("RS256 with an EC key", token().key_id("ec-1").sign(), UnsupportedAlgorithm),
        ("RS256 with a key for RS512", token().key_id("narrow").signed_by(&sealing).sign(), UnsupportedAlgorithm),
        ("no kid", token().without_header("kid").sign(), UnknownKey),
        ("a kid that is no text", token().header("kid", 7).sign(), UnknownKey),
        ("unknown kid", token().key_id("nobody").sign(), UnknownKey),
        ("embedded jwk", token().key_id("own").header("jwk", stranger.jwk()).signed_by(&stranger).sign(), UnknownKey),
        ("RSA of 1024 bits", token().key_id("weak").sign(), UnknownKey),
        ("a key for encryption", token().key_id("sealing").signed_by(&sealing).sign(), UnknownKey),
        ("a symmetric key", token().key_id("oct").sign(), UnknownKey),
        ("stripped signature", format!("{signed}."), BadSignature),
        ("swapped payload", format!("{header}.{payload}.{signature}"), BadSignature),
        ("wrong key, right kid", token().signed_by(&stranger).sign(), BadSignature),
        ("wrong key, right kid, jwk", token().header("jwk", stranger.jwk()).signed_by(&stranger).sign(), BadSignature),
        ("RS384 said, RS256 meant", token().algorithm("RS384").sign_as("RS256"), BadSignature),
        ("other issuer", token().issuer("https://evil.example").sign(), WrongIssuer),
        ("issuer with a slash", token().issuer(&format!("{}/", issuer.issuer())).sign(), WrongIssuer),
        ("other audience", token().audience("ffffffff-41c3-47a4-8775-7259bfef4241").sign(), WrongAudience),
        ("no audience of several", token().claim("aud", json!(["a", "b"])).sign(), WrongAudience),
        ("expired", token().expires_in(-301).sign(), Expired),
        ("of yesterday", token().at(NOW - 86400).sign(), Expired),
        ("a bare token", issuer.sign(json!({})), MissingClaim),
        ("future nbf", token().not_before_in(301).sign(), NotYetValid),
        ("future iat", token().issued_in(301).sign(), NotYetValid),
        ("nbf that is no number", token().claim("nbf", "0").sign(), NotYetValid),
        ("no iss", token().without("iss").sign(), MissingClaim),
        ("no aud", token().without("aud").sign(), MissingClaim),
        ("no exp", token().without("exp").sign(), MissingClaim),
        ("exp that is text", token().claim("exp", "9999999999").sign(), MissingClaim),
        // Of several faults the first is reported; an absent claim is looked for last.
        ("other audience, expired", token().audience("x").expires_in(-301).sign(), WrongAudience),
        ("no iss, expired", token().without("iss").expires_in(-301).sign(), Expired),
        ("no exp, future nbf", token().without("exp").not_before_in(301).sign(), NotYetValid),
    ]
}
