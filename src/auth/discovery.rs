//! From a metadata document to keys: `OpenID` Connect Discovery 1.0, section 4, of which only `jwks_uri` is used.
//!
//! The document's `issuer` is not compared: the platforms' metadata does not live under their issuer's address
//! (which is why the issuers are configured, rule 5).

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::keys::{Key, KeysError, read_jwks};
use crate::net::{FetchError, HttpClient, is_loopback};

/// The most bytes of either document.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// How long either document may take.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Keys as they were published.
#[derive(Debug)]
pub(super) struct Published {
    pub keys: Vec<Key>,
    /// How long their publisher says that they stay good: the shorter of the two documents' ages.
    pub max_age: Option<Duration>,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// No metadata document.
    #[error("the metadata document cannot be fetched")]
    Metadata(#[source] FetchError),
    /// A metadata document that does not say where the keys are.
    #[error("the metadata document names no jwks_uri")]
    NotMetadata(#[source] serde_json::Error),
    /// A `jwks_uri` that is no address.
    #[error("the jwks_uri is not a URL")]
    NotAddress(#[source] url::ParseError),
    /// Keys at an address that is not safe.
    #[error("the jwks_uri is neither https nor, from loopback metadata, http to a loopback host")]
    JwksAddress,
    /// No key document.
    #[error("the JWKS document cannot be fetched")]
    Jwks(#[source] FetchError),
    /// A key document without keys.
    #[error("the JWKS document cannot be used")]
    Keys(#[source] KeysError),
}

#[derive(Deserialize)]
struct Metadata {
    jwks_uri: String,
}

/// Fetches the keys that a metadata document leads to.
pub(super) async fn fetch_keys(client: &HttpClient, metadata: &Url) -> Result<Published, DiscoveryError> {
    let document = client.get(metadata, MAX_DOCUMENT_BYTES, DOCUMENT_TIMEOUT).await.map_err(DiscoveryError::Metadata)?;
    let jwks_uri = jwks_uri(&document.body, metadata)?;
    let jwks = client.get(&jwks_uri, MAX_DOCUMENT_BYTES, DOCUMENT_TIMEOUT).await.map_err(DiscoveryError::Jwks)?;
    let keys = read_jwks(&jwks.body).map_err(DiscoveryError::Keys)?;
    Ok(Published { keys, max_age: [document.max_age, jwks.max_age].into_iter().flatten().min() })
}

/// Where the document at `metadata` says that the keys are.
pub(super) fn jwks_uri(document: &[u8], metadata: &Url) -> Result<Url, DiscoveryError> {
    let Metadata { jwks_uri } = serde_json::from_slice(document).map_err(DiscoveryError::NotMetadata)?;
    let jwks_uri = Url::parse(&jwks_uri).map_err(DiscoveryError::NotAddress)?;
    // rule 4: a loopback `jwks_uri` only from loopback metadata
    if jwks_uri.scheme() != "https" && !(is_loopback(&jwks_uri) && is_loopback(metadata)) {
        return Err(DiscoveryError::JwksAddress);
    }
    Ok(jwks_uri)
}
