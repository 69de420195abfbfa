//! Whom an Event Grid receiver believes unless it is configured otherwise.

use crate::domain::trust::TrustDefaults;

/// Tokens come from the Entra tenant in which the subscription's application is registered; `{tenant}` stands for each of the
/// receiver's tenants. Entra issues two versions of tokens, each under an issuer of its own ("Access tokens in the
/// Microsoft identity platform").
const ISSUERS: &[&str] = &["https://sts.windows.net/{tenant}/", "https://login.microsoftonline.com/{tenant}/v2.0"];

const METADATA: &[&str] = &[
    "https://login.microsoftonline.com/{tenant}/.well-known/openid-configuration",
    "https://login.microsoftonline.com/{tenant}/v2.0/.well-known/openid-configuration",
];

/// Event Grid's own application in the public cloud ("Secure `WebHook` delivery with Microsoft Entra ID in Azure Event Grid").
/// Without it any application of the tenant could ask for a token for our audience.
const PUBLISHERS: &[&str] = &["4962773b-9cdb-44cf-a8bf-237846a00ab7"];

/// The defaults. The tenant is in the issuer, so that a `tid` beside it says nothing new. Where no application is registered,
/// a secret in the query is all that Event Grid has to offer.
pub(super) const DEFAULTS: TrustDefaults =
    TrustDefaults { issuers: ISSUERS, metadata: METADATA, tenant_required: false, publishers: PUBLISHERS, secret_suffices: true };
