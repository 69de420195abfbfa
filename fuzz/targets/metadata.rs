//! A metadata document: where it may lead.
#![no_main]

use std::sync::LazyLock;

use callback_ledger::{auth::fuzzing::jwks_uri, net::is_loopback};
use callback_ledger_fuzz::memory::Bound;
use libfuzzer_sys::fuzz_target;
use url::Url;

/// A letter of a host's name in Punycode is a place in a list of 16 bytes, which grows by doubling.
const READING: Bound = Bound { fixed: 4096, per_byte: 64 };

static FAR: LazyLock<Url> = LazyLock::new(|| "https://login.example/metadata".parse().expect("it is an address"));
static NEAR: LazyLock<Url> = LazyLock::new(|| "http://127.0.0.1:9000/metadata".parse().expect("it is an address"));

fuzz_target!(|input: &[u8]| {
    let far = READING.holds(input.len(), || jwks_uri(input, &FAR));
    let near = jwks_uri(input, &NEAR);
    if let Ok(url) = &far {
        assert_eq!(url.scheme(), "https");
        assert_eq!(near.as_ref().ok(), Some(url), "loopback metadata may lead anywhere that others may");
    }
    if let Ok(url) = &near {
        assert!(url.scheme() == "https" || is_loopback(url), "{url}");
    }
});
