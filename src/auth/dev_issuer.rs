//! An issuer of our own, so that everything runs without a network. Whoever trusts it trusts its key's file.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use serde_json::{Map, Value};

use super::keys::{algorithm_named, read_jwks, use_one_provider};
use super::token::UnverifiedToken;
use crate::{
    domain::trust::{KeyOrigin, TrustEntry},
    net::Secret,
};

/// How long a minted token is good, in seconds, unless its `exp` says otherwise.
const LIFETIME_SECONDS: i64 = 3600;

/// The most bytes that a key file is read for; ours have some 240.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// The issuer of the development mode.
pub struct DevIssuer {
    key: EncodingKey,
    pem: Secret,
    key_id: String,
    jwks: String,
}

/// Why there is no development issuer, or no token of it.
#[derive(Debug, thiserror::Error)]
pub enum DevIssuerError {
    /// The key's file.
    #[error("the dev issuer's key file {path} cannot be used")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A key that others can read is not a key.
    #[error("the dev issuer's key file {path} can be read by others; make its mode 0600")]
    Exposed {
        /// Where it is.
        path: PathBuf,
    },
    /// Not a key of ours.
    #[error("the dev issuer's key is not a P-256 key in PKCS#8 PEM")]
    Key(#[source] jsonwebtoken::errors::Error),
    /// No key could be made.
    #[error("no key could be made")]
    Generate(#[source] aws_lc_rs::error::Unspecified),
    /// No JWKS could be written.
    #[error("the public key could not be written down")]
    Jwks(#[source] serde_json::Error),
    /// A token could not be signed.
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// A token that was just signed is not believed: the cryptography does not work.
    #[error("a token signed at start-up could not be verified")]
    NotVerified,
}

impl DevIssuer {
    /// The `iss` of its tokens. The name cannot exist (RFC 2606), so it cannot be anybody else's.
    pub const ISSUER: &'static str = "https://dev-issuer.callback-ledger.invalid";

    /// An issuer whose key is gone with it.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create() -> Result<Self, DevIssuerError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(DevIssuerError::Generate)?;
        Self::from_pem(pem(document.as_ref()))
    }

    /// The issuer whose key is in this file.
    ///
    /// # Errors
    /// When there is no such file, or it is readable by others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, DevIssuerError> {
        Self::from_pem(load(path)?)
    }

    /// The issuer whose key is in this file, made there (mode 0600) if there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read or written, is readable by others, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, DevIssuerError> {
        match load(path) {
            Err(DevIssuerError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            loaded => return Self::from_pem(loaded?),
        }
        let issuer = Self::create()?;
        match save(path, issuer.pem.expose()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::from_pem(load(path)?),
            saved => saved.map(|()| issuer).map_err(|source| DevIssuerError::File { path: path.to_owned(), source }),
        }
    }

    /// The public key, as a JWKS document.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.jwks.clone()
    }

    /// What a receiver needs to believe this issuer.
    #[must_use]
    pub fn trust_entry(&self) -> TrustEntry {
        TrustEntry { issuers: vec![Self::ISSUER.to_owned()], keys: KeyOrigin::Given(self.jwks()) }
    }

    /// A token with these claims, and with `iss`, `iat`, `nbf` and `exp` (in an hour) where they are absent.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn mint(&self, mut claims: Map<String, Value>, now: Timestamp) -> Result<String, DevIssuerError> {
        let now = now.as_second();
        claims.entry("iss").or_insert_with(|| Self::ISSUER.into());
        claims.entry("iat").or_insert_with(|| now.into());
        claims.entry("nbf").or_insert_with(|| now.into());
        claims.entry("exp").or_insert_with(|| (now + LIFETIME_SECONDS).into());
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        encode(&header, &claims, &self.key).map_err(DevIssuerError::Sign)
    }

    fn from_pem(pem: Secret) -> Result<Self, DevIssuerError> {
        use_one_provider();
        let key = EncodingKey::from_ec_pem(pem.expose().as_bytes()).map_err(DevIssuerError::Key)?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(DevIssuerError::Key)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(DevIssuerError::Key)?; // RFC 7638
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] }).map_err(DevIssuerError::Jwks)?;
        Ok(Self { key, pem, key_id, jwks })
    }
}

impl std::fmt::Debug for DevIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevIssuer").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Signs a token and verifies it, so that cryptography that does not work shows at the start, not at the first caller.
///
/// # Errors
/// When it does not.
pub fn self_test() -> Result<(), DevIssuerError> {
    let issuer = DevIssuer::create()?;
    let minted = issuer.mint(Map::new(), Timestamp::UNIX_EPOCH)?;
    let keys = read_jwks(issuer.jwks.as_bytes()).unwrap_or_default();
    let token = UnverifiedToken::parse(&minted).ok().ok_or(DevIssuerError::NotVerified)?;
    let algorithm = algorithm_named(token.algorithm()).ok_or(DevIssuerError::NotVerified)?;
    let verified = keys.iter().any(|key| key.signed(&token, algorithm) == Some(true));
    if verified { Ok(()) } else { Err(DevIssuerError::NotVerified) }
}

fn load(path: &Path) -> Result<Secret, DevIssuerError> {
    let failed = |source| DevIssuerError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if exposed(&file).map_err(failed)? {
        return Err(DevIssuerError::Exposed { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Secret::new(text))
}

fn save(path: &Path, pem: &str) -> io::Result<()> {
    let mut file = private().write(true).create_new(true).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn exposed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn exposed(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
}

/// PKCS#8 in the text form of RFC 7468.
fn pem(pkcs8: &[u8]) -> Secret {
    let encoded = STANDARD.encode(pkcs8);
    let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_cryptography_passes_its_own_test() {
        self_test().unwrap();
    }

    #[test]
    fn a_key_is_kept_between_starts_and_refused_once_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev-issuer.pem");
        let made = DevIssuer::load_or_create(&path).unwrap();
        assert_eq!(DevIssuer::load_or_create(&path).unwrap().jwks(), made.jwks());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let permissions = std::fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            assert!(matches!(DevIssuer::load_or_create(&path), Err(DevIssuerError::Exposed { .. })));
        }
    }
}
