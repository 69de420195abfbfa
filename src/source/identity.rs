//! What makes a second copy of a notification recognisable: a hash over the parts that tell it from all others.

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::notification::Identity;

/// The identity that these parts, in this order, make.
pub(in crate::source) fn identity_of(parts: &[&[u8]]) -> Identity {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        // the length first, so that no two lists of parts look alike
        digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finish();
    Identity(digest.as_ref().first_chunk().copied().unwrap_or_default())
}
