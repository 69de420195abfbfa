//! The tokens of the private API that were made by command.

use jiff::Timestamp;

use super::{
    batch::{instant, json},
    open_beside,
    read::LedgerReader,
    sealed_hash_key,
};
use crate::store::{
    Ledger, Options, StoreError,
    seal::TokenHasher,
    tokens::{KeptToken, TokenError},
};

pub(in crate::store) async fn keep(options: &Options, token: &KeptToken) -> Result<(), TokenError> {
    if !options.path.is_file() {
        // so that a service can be told before its first start whom to believe
        let (ledger, writing) = Ledger::open(options.clone()).await?;
        ledger.close().await;
        let _closed = writing.await;
    }
    let mut connection = open_beside(options).await?;
    let kept = sqlx::query(
        "INSERT INTO private_token (name, sha256, scopes, created_at, expires_at)
         SELECT ?1, ?2, ?3, ?4, ?5
         WHERE NOT EXISTS (SELECT 1 FROM private_token WHERE name = ?1 AND revoked_at IS NULL)",
    )
    .bind(&token.name)
    .bind(&token.sha256)
    .bind(json(&token.scopes)?)
    .bind(token.created_at.as_millisecond())
    .bind(token.expires_at.map(Timestamp::as_millisecond))
    .execute(&mut connection)
    .await
    .map_err(StoreError::from)?;
    if kept.rows_affected() == 1 { Ok(()) } else { Err(TokenError::NameTaken(token.name.clone())) }
}

pub(in crate::store) async fn revoke(options: &Options, name: &str, now: Timestamp) -> Result<(), TokenError> {
    let mut connection = open_beside(options).await?;
    let revoked = sqlx::query("UPDATE private_token SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL")
        .bind(name)
        .bind(now.as_millisecond())
        .execute(&mut connection)
        .await
        .map_err(StoreError::from)?;
    if revoked.rows_affected() == 1 { Ok(()) } else { Err(TokenError::Unknown(name.to_owned())) }
}

pub(in crate::store) async fn hash(reader: &LedgerReader, sha256: &[u8; 32]) -> Result<Option<i64>, StoreError> {
    let sealed = sealed_hash_key(&mut *reader.connection().await?).await?;
    let hasher = sealed.map(|sealed| TokenHasher::open(reader.master(), &sealed)).transpose()?;
    Ok(hasher.map(|hasher| hasher.hash(sha256)))
}

pub(in crate::store) async fn all(reader: &LedgerReader) -> Result<Vec<KeptToken>, StoreError> {
    type Row = (i64, String, Vec<u8>, String, i64, Option<i64>, Option<i64>);
    let mut connection = reader.connection().await?;
    let rows: Vec<Row> =
        sqlx::query_as("SELECT id, name, sha256, scopes, created_at, expires_at, revoked_at FROM private_token ORDER BY id")
            .fetch_all(&mut *connection)
            .await?;
    let token = |(id, name, sha256, scopes, created_at, expires_at, revoked_at): Row| {
        let wrong = |_error| StoreError::Inconsistent { table: "private_token", column: "scopes", id };
        let at = |time| instant("private_token", id, time);
        Ok(KeptToken {
            name,
            sha256,
            scopes: serde_json::from_str(&scopes).map_err(wrong)?,
            created_at: at(created_at)?,
            expires_at: expires_at.map(at).transpose()?,
            revoked_at: revoked_at.map(at).transpose()?,
        })
    };
    rows.into_iter().map(token).collect()
}
