//! Microsoft Graph cloud communications: `commsNotifications`.

use super::{Inbound, NotificationSource, Reading, Unreadable};
use crate::domain::trust::TrustDefaults;

/// Microsoft Graph cloud communications.
#[derive(Clone, Copy, Debug)]
pub struct Graph;

impl NotificationSource for Graph {
    fn name(&self) -> &'static str {
        "graph"
    }

    fn trust_defaults(&self) -> TrustDefaults {
        TrustDefaults { issuers: &[], metadata: &[], tenant_required: true }
    }

    fn read(&self, _inbound: &Inbound<'_>) -> Result<Reading, Unreadable> {
        Err(Unreadable("to come".to_owned()))
    }

    fn meaning(&self, _code: Option<i64>, _subcode: Option<i64>) -> Option<&'static str> {
        None
    }
}
