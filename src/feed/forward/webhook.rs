//! Signatures of Standard Webhooks 1.0 (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

/// What a secret begins with, and how many bytes it is.
const PREFIX: &str = "whsec_";
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and 24 to 64 bytes in base64")]
pub struct BadSecret;

/// Signs with a secret.
#[derive(Clone)]
pub struct WebhookKey(hmac::Key);

impl WebhookKey {
    /// Reads a secret: strictly, because receivers' libraries differ in what they make of one that is not quite right.
    ///
    /// # Errors
    /// [`BadSecret`].
    pub fn new(secret: &str) -> Result<Self, BadSecret> {
        let bytes = secret.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).ok_or(BadSecret)?;
        if !BYTES.contains(&bytes.len()) {
            return Err(BadSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", STANDARD.encode(signing.sign()))
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(…)")
    }
}

/// The value of `webhook-signature`: a signature with each of the keys.
pub(super) fn signatures(keys: &[WebhookKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    keys.iter().map(|key| key.signature(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// The first is published by the specification's project; the others were made by its Python and JavaScript libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let known = [
            (
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "{\"test\": 2432232314}",
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "42",
                1_767_225_600,
                "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
                "{\"name\":\"Zoë 🎉 日本\"}",
                "v1,Qc2SSybN+ZkjsFO371NPgxAcfbqs5ZslvNIuFSiEBKU=",
            ),
            (
                "evt_0",
                0,
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==",
                "",
                "v1,X9bkjT8dAINwnm+jiF3osfvj8pF8psWRinRGsDiZ7+A=",
            ),
            (
                "evt_2",
                2_147_483_648,
                "whsec_+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/",
                "{}",
                "v1,DQRWuyE5Etf3yJJG1OQR7XdKKIM79urAPNFQODhEwrc=",
            ),
        ];
        for (id, timestamp, secret, body, signature) in known {
            let key = WebhookKey::new(secret).unwrap();
            assert_eq!(signatures(std::slice::from_ref(&key), id, timestamp, body.as_bytes()), signature);
            assert_eq!(
                signatures(&[key.clone(), key], id, timestamp, body.as_bytes()),
                format!("{signature} {signature}"),
                "both while a secret is replaced"
            );
        }
    }

    #[test]
    fn a_secret_is_read_strictly_and_never_shown() {
        for bad in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_",
            "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
            " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert_eq!(WebhookKey::new(bad).unwrap_err(), BadSecret, "{bad}");
        }
        assert_eq!(format!("{:?}", WebhookKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()), "WebhookKey(…)");
    }
}
