//! The signature of Communication Services: HMAC-SHA256 over the request, with an access key of the resource ("Sign an HTTP
//! request with HMAC" of the Azure documentation).

use std::{fmt, sync::Arc};

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use url::Url;

/// An access key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access key is not base64")]
pub struct BadKey;

/// Signs requests to one resource. Cheap to clone.
#[derive(Clone)]
pub struct AcsSigner(Arc<hmac::Key>);

impl AcsSigner {
    /// Signs with this access key, as the portal shows it.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn new(access_key: &str) -> Result<Self, BadKey> {
        let key = STANDARD.decode(access_key.trim()).map_err(|_error| BadKey)?;
        if key.is_empty() {
            return Err(BadKey);
        }
        Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key))))
    }

    /// The headers of a signed request; they replace those of the same names.
    pub(super) fn sign(&self, method: &str, url: &Url, body: &[u8], now: Timestamp) -> Vec<(&'static str, String)> {
        let date = imf_fixdate(now);
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, body));
        // upstreams have neither user nor password in front of their host
        let (host, path) = (url.authority(), url.path());
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let signed = format!("{method}\n{path}{query}\n{date};{host};{hash}");
        let signature = STANDARD.encode(hmac::sign(&self.0, signed.as_bytes()));
        let authorization = format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}");
        vec![("x-ms-date", date), ("x-ms-content-sha256", hash), ("authorization", authorization)]
    }
}

impl fmt::Debug for AcsSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcsSigner(…)")
    }
}

/// A time as HTTP writes it (RFC 9110, §5.6.7).
pub(super) fn imf_fixdate(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Computed with Python's `hmac` and `hashlib` from the same parts.
    #[test]
    fn a_signature_is_over_method_path_date_host_and_body() {
        let signer = AcsSigner::new("c2VjcmV0LWtleQ==").unwrap();
        let url =
            "https://contoso.communication.azure.com/calling/callConnections/c:play?api-version=2025-06-15".parse().unwrap();
        let at = Timestamp::from_second(1_767_225_600).unwrap();
        let headers = signer.sign("POST", &url, b"{}", at);
        assert_eq!(
            headers,
            [
                ("x-ms-date", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()),
                ("x-ms-content-sha256", "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=".to_owned()),
                ("authorization", format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={SIGNATURE}")),
            ]
        );
        assert_eq!(AcsSigner::new("not base64!").unwrap_err(), BadKey);
        assert_eq!(AcsSigner::new(" ").unwrap_err(), BadKey);
        assert!(!format!("{signer:?}").contains("secret"));
    }

    const SIGNATURE: &str = "ozFoZ3ccJOoBBfDLQuaxjgX4w3LI83BpvSWzKA/dCYQ=";
}
