//! Whom a Graph receiver believes unless it is configured otherwise.

use crate::domain::trust::TrustDefaults;

/// The two issuers that Microsoft's own bots accept for calling callbacks: `AuthenticationProvider.cs` of
/// microsoftgraph/microsoft-graph-comms-samples. US-government clouds use others (issue 865 there), which a receiver
/// names in its configuration.
const ISSUERS: &[&str] = &["https://api.botframework.com", "https://graph.microsoft.com"];

/// The metadata that names the keys of calling callbacks: "Incoming call notifications" of the Teams platform
/// documentation (msteams-docs, `call-notifications.md`). The Bot Framework's own document
/// (`login.botframework.com`) names the keys of chat messages, which do not sign callbacks.
const METADATA: &[&str] = &["https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration"];

/// The defaults. A token without a tenant is refused, as `AuthenticationProvider.cs` does: the tenant is the only thing
/// that tells the customers of a multi-tenant bot apart.
pub(super) const DEFAULTS: TrustDefaults =
    TrustDefaults { issuers: ISSUERS, metadata: METADATA, tenant_required: true, publishers: &[], secret_suffices: false };
