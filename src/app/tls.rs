//! TLS on the public listener: a certificate that is renewed while it runs.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;

use super::BuildError;
use crate::config::Tls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificate in force, and where the next will be. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Certificate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Tls,
    /// What was there when it was first read.
    first: Marks,
    now: ArcSwap<CertifiedKey>,
}

/// What changes when somebody writes a file: where it lies, its times and its length.
type Mark = Option<(u64, i64, i64, i64, u64)>;
/// Of certificate and key.
type Marks = [Mark; 2];

impl Certificate {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`BuildError::Certificate`] if they are none, or not of each other.
    pub(super) fn load(files: &Tls) -> Result<Self, BuildError> {
        // before they are read: what is written meanwhile is read again, rather than missed
        let first = marks(files);
        let now = ArcSwap::from_pointee(read(files)?);
        Ok(Self(Arc::new(Inner { files: files.clone(), first, now })))
    }

    /// For a listener: TLS 1.2 and 1.3, HTTP/1.1.
    ///
    /// # Errors
    /// If the cryptography knows neither version.
    pub(super) fn server_config(&self) -> io::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        Ok(builder.with_no_client_auth().with_cert_resolver(Arc::<Inner>::clone(&self.0)))
    }

    /// Reads the files again whenever they have changed, until `stop`. What cannot be used changes nothing.
    pub(super) async fn keep_fresh(self, stop: CancellationToken) {
        let mut seen = self.0.first;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            seen = self.renew(seen);
        }
    }

    /// Reads the files again if they have changed since `seen`; returns what was seen now.
    fn renew(&self, seen: Marks) -> Marks {
        let marks = marks(&self.0.files);
        if marks == seen {
            return seen;
        }
        match read(&self.0.files) {
            Ok(renewed) => {
                self.0.now.store(Arc::new(renewed));
                tracing::info!("the certificate of the public listener was read again");
            }
            Err(error) => tracing::error!(%error, "the old certificate stays in force"),
        }
        marks
    }
}

fn marks(files: &Tls) -> Marks {
    [&files.certificate_file, &files.key_file].map(|file| {
        let data = fs::metadata(file).ok()?;
        Some((data.ino(), data.mtime(), data.mtime_nsec(), data.ctime_nsec(), data.len()))
    })
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.load_full())
    }
}

fn read(files: &Tls) -> Result<CertifiedKey, BuildError> {
    let failed = |file: &Path, why: String| BuildError::Certificate { file: PathBuf::from(file), why };
    let of_chain = |why: String| failed(&files.certificate_file, why);
    let of_key = |why: String| failed(&files.key_file, why);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate_file)
        .and_then(Iterator::collect)
        .map_err(|error| of_chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_chain("it holds no certificate".to_owned()));
    }
    let open = fs::metadata(&files.key_file).map_err(|error| of_key(error.to_string()))?.mode() & 0o007 != 0;
    if open {
        return Err(of_key("it is open to others: chmod 600 it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| of_key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| of_key(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn certify(files: &Tls, name: &str) {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(&files.certificate_file, certified.cert.pem()).unwrap();
        fs::write(&files.key_file, certified.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&files.key_file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[tokio::test]
    async fn a_certificate_that_is_renewed_while_the_service_starts_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = Tls { certificate_file: folder.path().join("certificate.pem"), key_file: folder.path().join("key.pem") };
        certify(&files, "a.example");
        let certificate = Certificate::load(&files).unwrap();
        let first = certificate.0.now.load_full();
        certify(&files, "another.example");

        let stop = CancellationToken::new();
        let keeper = tokio::spawn(certificate.clone().keep_fresh(stop.clone()));
        let taken = async {
            while certificate.0.now.load().cert == first.cert {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LOOK_EVERY * 10, taken).await.unwrap();
        stop.cancel();
        keeper.await.unwrap();
    }
}
