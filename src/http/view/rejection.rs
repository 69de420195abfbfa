//! Who was not let in.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::{http::problem::rejection_status, store::rows::RejectionRow};

/// A POST that was not let in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectionView {
    id: String,
    at: String,
    receiver: String,
    #[schema(value_type = String, example = "expired")]
    reason: &'static str,
    status: u16,
    peer: Option<String>,
    key_id: Option<String>,
    /// The `iss` of the token, which nobody has verified.
    unverified_issuer: Option<String>,
    user_agent: Option<String>,
    /// How many alike came, this one included.
    count: i64,
    last_at: String,
}

impl From<RejectionRow> for RejectionView {
    fn from(row: RejectionRow) -> Self {
        Self {
            id: row.id.to_string(),
            at: time(row.at),
            receiver: row.receiver,
            reason: row.reason.as_str(),
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
