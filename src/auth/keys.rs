//! The keys of a JWKS document, read leniently: what cannot be used is passed over, never fatal.

use aws_lc_rs::{
    error::KeyRejected,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto};
use serde::Deserialize;
use serde_json::Value;

use super::token::UnverifiedToken;
use crate::domain::text::tame;

/// The bits of an RSA modulus that are enough (NIST SP 800-131A) and not too many (what the verifier takes).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The bytes of a coordinate on P-256 (RFC 7518, 6.2.1.2).
const P256_COORDINATE_BYTES: usize = 32;

/// A public key that can verify tokens.
#[derive(Debug)]
pub(super) struct Key {
    /// Its `kid`.
    pub id: String,
    /// The key as it is prepared for each algorithm that it may be used with. `jsonwebtoken` would prepare it anew for every token: a
    /// tenth of what verifying a signature costs.
    prepared: Vec<Prepared>,
}

type Prepared = (Algorithm, ParsedPublicKey);

/// Why there are no keys in a document.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not JSON, or without a list of keys.
    #[error("not a JWKS document")]
    NotJwks(#[source] serde_json::Error),
    /// A list of keys with which nothing can be verified.
    #[error("no key that tokens can be verified with")]
    NoUsableKey,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// The usable keys of a JWKS document.
///
/// A document without any is an error: to believe it would throw away the good keys that we have.
pub(super) fn read_jwks(document: &[u8]) -> Result<Vec<Key>, KeysError> {
    let jwks: Jwks = serde_json::from_slice(document).map_err(KeysError::NotJwks)?;
    let mut keys = Vec::with_capacity(jwks.keys.len());
    for jwk in &jwks.keys {
        match Key::read(jwk) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let id = tame(text(jwk, "kid").unwrap_or_default());
                tracing::debug!(key.id = id, why, "a published key is not used");
            }
        }
    }
    if keys.is_empty() { Err(KeysError::NoUsableKey) } else { Ok(keys) }
}

impl Key {
    /// rule 4: keys for other uses, of other types or too short are passed over.
    fn read(jwk: &Value) -> Result<Self, &'static str> {
        let id = text(jwk, "kid").ok_or("it has no id")?.to_owned();
        if jwk.get("use").is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures");
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err("it is not for verifying");
        }
        let mut prepared = match text(jwk, "kty") {
            Some("RSA") => rsa(jwk),
            Some("EC") => p256(jwk),
            _ => Err("its type is not RSA or EC"),
        }?;
        if let Some(only) = text(jwk, "alg") {
            prepared.retain(|(algorithm, _)| algorithm_named(only) == Some(*algorithm));
        }
        Ok(Self { id, prepared })
    }

    /// Whether the token's signature is this key's; `None` if the key may not be used with this algorithm (rule 2: as the key allows).
    pub fn signed(&self, token: &UnverifiedToken<'_>, algorithm: Algorithm) -> Option<bool> {
        let (_, key) = self.prepared.iter().find(|(known, _)| *known == algorithm)?;
        Some(key.verify_sig(token.message, &token.signature).is_ok())
    }
}

/// rule 2: the algorithms that are allowed at all.
pub(super) fn algorithm_named(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "ES256" => Some(Algorithm::ES256),
        _ => None,
    }
}

fn rsa(jwk: &Value) -> Result<Vec<Prepared>, &'static str> {
    let (modulus, exponent) = (unsigned(jwk, "n")?, unsigned(jwk, "e")?);
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(unused).unwrap_or(0));
    if !RSA_BITS.contains(&bits) {
        return Err("its modulus is not of 2048 to 8192 bits");
    }
    let components = PublicKeyComponents { n: &modulus, e: &exponent };
    let algorithms = [
        (Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512),
    ];
    let prepared = algorithms.map(|(algorithm, with)| Ok((algorithm, components.to_parsed_public_key(with)?)));
    prepared.into_iter().collect::<Result<_, KeyRejected>>().map_err(|_rejected| "it is not an RSA key")
}

fn p256(jwk: &Value) -> Result<Vec<Prepared>, &'static str> {
    if text(jwk, "crv") != Some("P-256") {
        return Err("its curve is not P-256");
    }
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
        return Err("its coordinates are not of 32 bytes");
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat(); // 4: uncompressed (SEC 1, 2.3.3)
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_rejected| "it is not a point of its curve")?;
    Ok(vec![(Algorithm::ES256, key)])
}

/// A whole number without leading zeros.
fn unsigned(jwk: &Value, member: &str) -> Result<Vec<u8>, &'static str> {
    Ok(bytes(jwk, member)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(jwk: &Value, member: &str) -> Result<Vec<u8>, &'static str> {
    text(jwk, member).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok()).ok_or("a part of it is missing")
}

fn text<'a>(jwk: &'a Value, member: &str) -> Option<&'a str> {
    jwk.get(member).and_then(Value::as_str)
}

/// Makes `jsonwebtoken` use the one provider of this crate, whatever features others turn on in it.
pub(super) fn use_one_provider() {
    // An error says that one is installed already: by this function, as nobody else may use that crate.
    let _already = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
