//! Whom a Call Automation receiver believes unless it is configured otherwise.

use crate::domain::trust::TrustDefaults;

/// The issuer of callbacks and its metadata, at an address that discovery by issuer would not find: "Secure webhook endpoint"
/// of the Call Automation documentation. It signs for every customer of the service, so the audience (the resource's
/// immutable id) is all that tells them apart; tokens name no tenant.
pub(super) const DEFAULTS: TrustDefaults = TrustDefaults {
    issuers: &["https://acscallautomation.communication.azure.com"],
    metadata: &["https://acscallautomation.communication.azure.com/calling/.well-known/acsopenidconfiguration"],
    tenant_required: false,
    publishers: &[],
    secret_suffices: false,
};
