//! Who was not let in.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;
use crate::{http::problem::rejection_status, store::rows::RejectionRow};

/// A POST that was not let in.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectionView {
    /// Its id.
    pub id: String,
    /// When.
    pub at: String,
    /// The receiver's path.
    pub receiver: String,
    /// The check that failed.
    #[schema(value_type = String, example = "expired")]
    pub reason: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// The peer's address.
    pub peer: Option<String>,
    /// The `kid`, which nobody has verified.
    pub key_id: Option<String>,
    /// The `iss` of the token, which nobody has verified.
    pub unverified_issuer: Option<String>,
    /// The user agent.
    pub user_agent: Option<String>,
    /// How many alike came, this one included.
    pub count: i64,
    /// When the last of them came.
    pub last_at: String,
}

impl From<RejectionRow> for RejectionView {
    fn from(row: RejectionRow) -> Self {
        Self {
            id: row.id.to_string(),
            at: time(row.at),
            receiver: row.receiver,
            reason: row.reason.as_str().into(),
            status: rejection_status(row.reason),
            peer: row.peer,
            key_id: row.key_id,
            unverified_issuer: row.unverified_issuer,
            user_agent: row.user_agent,
            count: row.count,
            last_at: time(row.last_at),
        }
    }
}
