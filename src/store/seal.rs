//! Sealing: what the ledger keeps of people and their secrets is readable with its keys alone.
//!
//! A 256-bit master key, outside the ledger, wraps one data key per call; the data key seals the call's bodies and
//! personal facts (AES-256-GCM, random nonces). Erasing a call means deleting its data key.
//!
//! A sealed value is `version (1 byte) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. What it belongs to is its associated data,
//! so that a value moved to another row does not open.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac, rand,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The one form of sealed values so far. A rotation of the master key will need a second.
const VERSION: u8 = 1;
/// The bytes before the ciphertext: the version and the nonce.
const HEAD_LEN: usize = 1 + NONCE_LEN;

/// Something could not be sealed or opened. Deliberately says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed with this key, or not for this place")]
pub struct SealError;

/// A master key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The key file could not be read or written.
    #[error("the master key file {path} cannot be used")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file can be read by others than its owner.
    #[error("the master key file {path} is open to others: chmod 600 it")]
    Open {
        /// Which file.
        path: String,
    },
    /// Not 32 bytes in base64.
    #[error("a master key is 32 bytes in base64")]
    Malformed,
    /// The system gave no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

/// The key that wraps the data keys.
#[derive(Debug)]
pub struct MasterKey(Seal);

impl MasterKey {
    /// Reads a key as it is written in the key file and in the environment: 32 bytes in base64.
    ///
    /// # Errors
    /// [`MasterKeyError::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = Zeroizing::new(BASE64.decode(text.trim()).map_err(|_source| MasterKeyError::Malformed)?);
        let bytes: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_source| MasterKeyError::Malformed)?;
        Seal::new(bytes).map(Self).map_err(|SealError| MasterKeyError::Malformed)
    }

    /// Reads the key file; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, is open to others, or is not a key.
    pub fn load(path: &Path) -> Result<Option<Self>, MasterKeyError> {
        let failed = |source| MasterKeyError::File { path: path.display().to_string(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(MasterKeyError::Open { path: path.display().to_string() });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(failed)?;
        Self::from_text(&text).map(Some)
    }

    /// Makes a key and writes it to a new file of mode 0600, durably: a ledger must never outlive its key.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or there are no random bytes.
    pub fn create(path: &Path) -> Result<Self, MasterKeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut()).map_err(|_source| MasterKeyError::Random)?;
        let text = Zeroizing::new(BASE64.encode(bytes.as_ref()));
        write_durably(path, text.as_bytes())
            .map_err(|source| MasterKeyError::File { path: path.display().to_string(), source })?;
        Self::from_text(&text)
    }

    /// Seals `plain` for `place`.
    pub(super) fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.seal(place, plain)
    }

    /// Opens what was sealed for `place`.
    pub(super) fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(place, sealed)
    }

    /// Makes a data key, and its wrapped form for `place`.
    pub(super) fn new_data_key(&self, place: &str) -> Result<(Seal, Vec<u8>), SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut()).map_err(|_source| SealError)?;
        Ok((Seal::new(&bytes)?, self.seal(place, bytes.as_ref())?))
    }

    /// Unwraps the data key of `place`.
    pub(super) fn data_key(&self, place: &str, wrapped: &[u8]) -> Result<Seal, SealError> {
        let bytes = self.open(place, wrapped)?;
        let bytes: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_source| SealError)?;
        Seal::new(bytes)
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

/// Hashes tokens of callers, so that what one of them brought can be found and nobody can tell from it which token it was.
#[derive(Clone)]
pub(super) struct TokenHasher(hmac::Key);

impl fmt::Debug for TokenHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHasher")
    }
}

impl TokenHasher {
    /// A new key, and its sealed form.
    pub(super) fn create(master: &MasterKey) -> Result<(Self, Vec<u8>), SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut()).map_err(|_source| SealError)?;
        let sealed = master.seal(HASH_KEY_PLACE, bytes.as_ref())?;
        Ok((Self(hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref())), sealed))
    }

    /// The key that was sealed so.
    pub(super) fn open(master: &MasterKey, sealed: &[u8]) -> Result<Self, SealError> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &master.open(HASH_KEY_PLACE, sealed)?)))
    }

    /// 64 bits for a token of this SHA-256.
    pub(super) fn hash(&self, sha256: &[u8; 32]) -> i64 {
        hmac::sign(&self.0, sha256).as_ref().first_chunk().copied().map_or(0, i64::from_be_bytes)
    }
}

/// Where the key of the hashes is sealed for.
pub(super) const HASH_KEY_PLACE: &str = "ledger/hash_key";

/// A key that seals and opens.
pub(super) struct Seal {
    key: RandomizedNonceKey,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

/// What the key for tokens is derived under.
const FOR_TOKENS: &[u8] = b"callback-ledger: tokens of people";

impl Seal {
    fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_source| SealError)?;
        Ok(Self { key, bytes: Zeroizing::new(*bytes) })
    }

    /// What stands for this text wherever this key is used, and says nothing of it to anybody without: 128 bits, in hex.
    pub(super) fn token(&self, text: &str) -> String {
        // a key of its own, derived from the same bytes, so that neither use says anything of the other
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_ref()), FOR_TOKENS);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), text.as_bytes());
        tag.as_ref().iter().take(16).fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// Seals `plain` for `place`.
    pub(super) fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::with_capacity(HEAD_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.resize(HEAD_LEN, 0);
        sealed.extend_from_slice(plain);
        // the text where it is to be, and the nonce that was drawn for it before it
        let (head, text) = sealed.split_at_mut(HEAD_LEN);
        let (nonce, tag) = self.key.seal_in_place_separate_tag(Aad::from(place.as_bytes()), text).map_err(|_source| SealError)?;
        let (_version, place_of_nonce) = head.split_at_mut(1);
        place_of_nonce.copy_from_slice(nonce.as_ref());
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed for `place`.
    pub(super) fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        if *version != VERSION {
            return Err(SealError);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_source| SealError)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).map_err(|_source| SealError)?.len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::create(&folder.path().join("a.key")).unwrap();
        let other = MasterKey::create(&folder.path().join("b.key")).unwrap();
        let sealed = key.seal("here", b"secret").unwrap();

        assert_eq!(key.open("here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(key.open("there", &sealed), Err(SealError));
        assert_eq!(other.open("here", &sealed), Err(SealError));
        for broken in [&sealed[..sealed.len() - 1], &[][..], &[VERSION][..], &sealed[1..]] {
            assert_eq!(key.open("here", broken), Err(SealError));
        }
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_master_key_file_is_private_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.key");
        assert!(MasterKey::load(&path).unwrap().is_none());
        let sealed = MasterKey::create(&path).unwrap().seal("here", b"x").unwrap();
        assert!(MasterKey::create(&path).is_err());
        assert_eq!(MasterKey::load(&path).unwrap().unwrap().open("here", &sealed).unwrap().as_slice(), b"x");

        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, open).unwrap();
        assert!(matches!(MasterKey::load(&path), Err(MasterKeyError::Open { .. })));
    }
}
