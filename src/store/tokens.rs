//! Tokens of the private API that were made by command.

use jiff::Timestamp;

use super::{LedgerReader, OpenError, Options, StoreError, sqlite};

/// A token as it is kept: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptToken {
    /// Tells those in force apart.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
    /// What it is good for, by name.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is good for nothing; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A token cannot be kept or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another in force has the name.
    #[error("another token is named {0} already")]
    NameTaken(String),
    /// None in force has the name.
    #[error("no token is named {0}")]
    Unknown(String),
}

/// Keeps a token, beside a running service or without one, which then believes it within seconds.
///
/// # Errors
/// [`TokenError`].
pub async fn keep_token(options: &Options, token: &KeptToken) -> Result<(), TokenError> {
    sqlite::tokens::keep(options, token).await
}

/// Revokes the token of this name; a running service no longer believes it within seconds.
///
/// # Errors
/// [`TokenError`].
pub async fn revoke_token(options: &Options, name: &str, now: Timestamp) -> Result<(), TokenError> {
    sqlite::tokens::revoke(options, name, now).await
}

impl LedgerReader {
    /// What the ledger calls a caller's token, given the SHA-256 of what was signed in it; `None` if it has called none so yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn token_hash(&self, sha256: &[u8; 32]) -> Result<Option<i64>, StoreError> {
        sqlite::tokens::hash(self, sha256).await
    }

    /// Every token that was ever made, revoked ones included, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn private_tokens(&self) -> Result<Vec<KeptToken>, StoreError> {
        sqlite::tokens::all(self).await
    }
}
