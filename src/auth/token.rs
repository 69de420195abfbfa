//! A token taken apart. Nothing in it is verified here.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::domain::rejection::RejectionReason;

/// A JWS in compact form whose three parts can be read.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    /// The header; `alg` in it is a string.
    header: Map<String, Value>,
    /// The payload, to be believed only after the signature.
    pub claims: Map<String, Value>,
    /// What was signed: the first two parts as they came.
    pub message: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

/// The SHA-256 of what is signed in a token; `None` if it is none.
#[must_use]
pub fn signed_part(token: &str) -> Option<[u8; 32]> {
    UnverifiedToken::parse(token).ok().map(|token| token.signed_part())
}

impl<'a> UnverifiedToken<'a> {
    /// The SHA-256 of what was signed.
    pub fn signed_part(&self) -> [u8; 32] {
        digest::digest(&digest::SHA256, self.message).as_ref().try_into().unwrap_or_default()
    }

    /// Takes a token apart: three parts in base64url without padding, the first two of them JSON objects
    /// without a member twice, of which two readers could believe different ones.
    pub fn parse(token: &'a str) -> Result<Self, RejectionReason> {
        let malformed = RejectionReason::MalformedToken;
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = message.split_once('.').ok_or(malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().ok_or(malformed)?;
        let parsed = Self { header: object(header)?, claims: object(payload)?, message: message.as_bytes(), signature };
        let readable = parsed.header.get("alg").is_some_and(Value::is_string);
        let critical = parsed.header.contains_key("crit"); // rule 2: `crit` refused
        if readable && !critical { Ok(parsed) } else { Err(malformed) }
    }

    /// The header's `alg`.
    pub fn algorithm(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    /// The header's `kid`. It is the only other member that is ever looked at: rule 3.
    pub fn key_id(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// The claim `iss`, to find out which keys to ask for and to tell the operator.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

fn object(part: &str) -> Result<Map<String, Value>, RejectionReason> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok().ok_or(RejectionReason::MalformedToken)?;
    let object: DistinctMembers = serde_json::from_slice(&bytes).ok().ok_or(RejectionReason::MalformedToken)?;
    Ok(object.0)
}

/// A JSON object that names each member once.
struct DistinctMembers(Map<String, Value>);

impl<'de> Deserialize<'de> for DistinctMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(members)
    }
}
