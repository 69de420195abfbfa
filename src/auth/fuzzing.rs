//! What fuzz targets need of this room.

use url::Url;

use super::{DiscoveryError, KeysError, discovery, keys};

/// How many keys of a JWKS document can be used.
///
/// # Errors
/// Why there are none.
pub fn keys(document: &[u8]) -> Result<usize, KeysError> {
    keys::read_jwks(document).map(|keys| keys.len())
}

/// Where a metadata document says that the keys are.
///
/// # Errors
/// Why they may not be asked for there.
pub fn jwks_uri(document: &[u8], metadata: &Url) -> Result<Url, DiscoveryError> {
    discovery::jwks_uri(document, metadata)
}
