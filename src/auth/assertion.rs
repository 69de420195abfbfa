//! Who an application is, proved by its certificate instead of a secret ("Microsoft identity platform application authentication
//! certificate credentials"): a JWT, signed with the certificate's key, for the address that it is sent to.

use std::fmt;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

use super::keys::use_one_provider;
use crate::net::Secret;

/// How long an assertion is good (seconds).
const LIFETIME_SECONDS: i64 = 300;

/// A certificate and its key.
pub struct ClientCertificate {
    key: EncodingKey,
    /// The SHA-256 of the certificate.
    thumbprint: String,
}

/// Why there is no certificate, or no assertion.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file has no certificate in it.
    #[error("there is no certificate (BEGIN CERTIFICATE) in it")]
    NoCertificate,
    /// The file has no key in it that can sign.
    #[error("there is no RSA private key in it")]
    NoKey(#[source] jsonwebtoken::errors::Error),
    /// Nothing could be signed.
    #[error("the assertion could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl ClientCertificate {
    /// Reads both from one PEM text, in either order.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn from_pem(pem: &Secret) -> Result<Self, CertificateError> {
        use_one_provider();
        let certificate = block(pem.expose(), |label| label == "CERTIFICATE").ok_or(CertificateError::NoCertificate)?;
        let body: String = certificate.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(body).map_err(|_error| CertificateError::NoCertificate)?;
        let key = block(pem.expose(), |label| label.ends_with("PRIVATE KEY")).unwrap_or_default();
        Ok(Self {
            key: EncodingKey::from_rsa_pem(key.as_bytes()).map_err(CertificateError::NoKey)?,
            thumbprint: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der)),
        })
    }

    /// Proves to `audience`, the address at which tokens are asked for, that this application asks.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn assertion(&self, client_id: &str, audience: &str, now: Timestamp) -> Result<Secret, CertificateError> {
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(self.thumbprint.clone());
        let now = now.as_second();
        let jti = Uuid::new_v4().to_string();
        let claims =
            Claims { aud: audience, iss: client_id, sub: client_id, jti, nbf: now, iat: now, exp: now + LIFETIME_SECONDS };
        encode(&header, &claims, &self.key).map(Secret::new).map_err(CertificateError::Sign)
    }
}

/// The first block of a PEM text with such a label, from its first line to its last.
fn block(pem: &str, is_wanted: impl Fn(&str) -> bool) -> Option<&str> {
    let mut rest = pem;
    loop {
        let from = rest.find("-----BEGIN ")?;
        rest = rest.get(from..)?;
        let label = rest.get(11..)?.split("-----").next()?;
        let end = format!("-----END {label}-----");
        let to = rest.find(&end)? + end.len();
        if is_wanted(label) {
            return rest.get(..to);
        }
        rest = rest.get(to..)?;
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}
