//! `[gateway.credentials]`: with what the gateway signs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::values;

/// `[gateway.credentials]`: with what the gateway signs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Of the bot's application, for Graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphCredentials>,
    /// Of the Communication Services resource, or of an application that may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acs: Option<AcsCredentials>,
}

/// `[gateway.credentials.graph]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphCredentials {
    /// The tenant of calls of which none is known.
    pub tenant: String,
    /// The application.
    pub client_id: String,
    /// A file with its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// A file with its certificate and the private key of that (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Where tokens are issued; the global cloud's unless told.
    #[serde(with = "values::upstream", default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Url>,
}

/// `[gateway.credentials.acs]`: an access key, or an application.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcsCredentials {
    /// A file with an access key of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_file: Option<PathBuf>,
    /// The application's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// A file with its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// A file with its certificate and the private key of that (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Where tokens are issued; the global cloud's unless told.
    #[serde(with = "values::upstream", default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Url>,
}

/// An application of Entra: who it is, and what proves it.
#[derive(Clone, Debug)]
pub struct Application<'c> {
    /// Its tenant.
    pub tenant: &'c str,
    /// Its id.
    pub client_id: &'c str,
    /// What proves it.
    pub proof: Proof<'c>,
    /// Where tokens are issued; the global cloud's unless told.
    pub authority: Option<&'c Url>,
}

/// What proves who an application is.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'c> {
    /// A file with its secret.
    Secret(&'c PathBuf),
    /// A file with its certificate and key.
    Certificate(&'c PathBuf),
}

/// What is wrong with credentials: the key, and why.
pub(super) type Fault = (&'static str, &'static str);

fn application<'c>(
    names: [Option<&'c str>; 2],
    proofs: [Option<&'c PathBuf>; 2],
    authority: Option<&'c Url>,
) -> Result<Application<'c>, Fault> {
    let [tenant, client_id] = names.map(|name| name.filter(|name| !name.trim().is_empty()));
    let tenant = tenant.ok_or(("tenant", "must not be empty"))?;
    let client_id = client_id.ok_or(("client_id", "must not be empty"))?;
    let proof = match proofs {
        [Some(secret), None] => Proof::Secret(secret),
        [None, Some(certificate)] => Proof::Certificate(certificate),
        [None, None] => return Err(("client_secret_file", "is missing, and `certificate_file`, too: one of them is needed")),
        [Some(_), Some(_)] => return Err(("certificate_file", "cannot stand beside `client_secret_file`")),
    };
    Ok(Application { tenant, client_id, proof, authority })
}

impl GraphCredentials {
    /// The application.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn application(&self) -> Result<Application<'_>, Fault> {
        let names = [Some(self.tenant.as_str()), Some(self.client_id.as_str())];
        application(names, [self.client_secret_file.as_ref(), self.certificate_file.as_ref()], self.authority.as_ref())
    }
}

impl AcsCredentials {
    /// The application; `None` where an access key signs.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn application(&self) -> Result<Option<Application<'_>>, Fault> {
        let names = [self.tenant.as_deref(), self.client_id.as_deref()];
        let proofs = [self.client_secret_file.as_ref(), self.certificate_file.as_ref()];
        if self.access_key_file.is_none() {
            return application(names, proofs, self.authority.as_ref()).map(Some);
        }
        let nothing_else = names.iter().all(Option::is_none) && proofs.iter().all(Option::is_none) && self.authority.is_none();
        if nothing_else { Ok(None) } else { Err(("access_key_file", "cannot stand beside an application")) }
    }
}
