//! Whether the service can do its work.

use serde::Serialize;
use utoipa::ToSchema;

/// Whether the service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadinessView {
    /// Everything below is true.
    pub ready: bool,
    /// Whether the last write to the ledger went well.
    pub ledger: bool,
    /// Each receiver.
    pub receivers: Vec<ReceiverReadiness>,
}

/// Whether a receiver can believe anybody.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiverReadiness {
    /// Its path.
    pub path: String,
    /// Whether it has keys that are not too old.
    pub keys: bool,
}
