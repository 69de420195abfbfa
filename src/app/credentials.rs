//! With what the gateway signs, read from the files that hold it.

use std::{path::Path, sync::Arc};

use url::Url;

use super::BuildError;
use crate::{
    auth::ClientCertificate,
    config::{Application, Config, Proof},
    gateway::{self, AcsSigner, EntraTokens, Signer},
    net::{HttpClient, Secret},
};

/// Where the global cloud issues tokens.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// What tokens for Communication Services are for, with its two slashes.
const ACS_SCOPE: &str = "https://communication.azure.com//.default";

/// Tokens of an application for what is at the upstream.
pub(super) fn for_graph(config: &Config, client: &HttpClient) -> Result<Option<Signer>, BuildError> {
    let (Some(graph), Some(upstream)) = (&config.gateway.credentials.graph, &config.gateway.graph) else { return Ok(None) };
    let scope = format!("{}/.default", upstream.origin().ascii_serialization());
    // what is wrong with it was said when the configuration was checked
    let Ok(application) = graph.application() else { return Ok(None) };
    Ok(Some(Signer::Tokens(tokens(&application, scope, client)?)))
}

/// An access key of the resource, or tokens of an application that may use it.
pub(super) fn for_acs(config: &Config, client: &HttpClient) -> Result<Option<Signer>, BuildError> {
    let Some(acs) = &config.gateway.credentials.acs else { return Ok(None) };
    if let Some(file) = &acs.access_key_file {
        let key = AcsSigner::new(read(file)?.expose()).map_err(|error| unusable(file, &error))?;
        return Ok(Some(Signer::AccessKey(key)));
    }
    let Ok(Some(application)) = acs.application() else { return Ok(None) };
    Ok(Some(Signer::Tokens(tokens(&application, ACS_SCOPE.to_owned(), client)?)))
}

fn tokens(application: &Application<'_>, scope: String, client: &HttpClient) -> Result<EntraTokens, BuildError> {
    let Application { tenant, client_id, proof, authority } = application;
    let proof = match proof {
        Proof::Secret(file) => gateway::Proof::Secret(read(file)?),
        Proof::Certificate(file) => {
            let certificate = ClientCertificate::from_pem(&read(file)?).map_err(|error| unusable(file, &error))?;
            gateway::Proof::Certificate(Arc::new(certificate))
        }
    };
    let authority = match authority {
        Some(authority) => (*authority).clone(),
        None => Url::parse(AUTHORITY).map_err(|error| unusable(Path::new(AUTHORITY), &error))?,
    };
    Ok(EntraTokens::new(authority, ((*tenant).to_owned(), (*client_id).to_owned()), proof, scope, client.clone()))
}

fn read(file: &Path) -> Result<Secret, BuildError> {
    let text = std::fs::read_to_string(file).map_err(|error| unusable(file, &error))?;
    let secret = text.trim();
    if secret.is_empty() { Err(unusable(file, &"it is empty")) } else { Ok(Secret::new(secret.to_owned())) }
}

fn unusable(file: &Path, why: &impl ToString) -> BuildError {
    BuildError::Credentials { file: file.to_owned(), why: why.to_string() }
}
