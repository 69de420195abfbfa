//! A JWKS document, and what can be verified with it.
#![no_main]

use std::sync::LazyLock;

use callback_ledger::auth::fuzzing::keys;
use callback_ledger_fuzz::{
    memory::Bound,
    token::{CLAIMS, HEADER, PUBLIC, admit, receiver, signed},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Two bytes (`[]`) can be a list in a list with room for four values of 32 bytes.
const READING: Bound = Bound { fixed: 16 * 1024, per_byte: 96 };

static TOKEN: LazyLock<String> = LazyLock::new(|| format!("Bearer {}", signed(HEADER.as_bytes(), CLAIMS.as_bytes())));

fuzz_target!(|input: &[u8]| {
    let usable = READING.holds(input.len(), || keys(input));
    let Ok(text) = str::from_utf8(input) else {
        assert!(usable.is_err(), "keys out of what is no text");
        return;
    };
    let receiver = receiver(text, false);
    assert_eq!(usable.is_ok(), receiver.is_some());
    let (Ok(usable), Some(receiver)) = (usable, receiver) else { return };
    let document: Value = serde_json::from_str(text).expect("what keys are read from is JSON");
    let published = document["keys"].as_array().expect("there is a list of keys");
    assert!((1..=published.len()).contains(&usable), "{usable} keys of {}", published.len());
    let ours = |key: &Value| key["kid"] == "k" && key["x"] == PUBLIC[0] && key["y"] == PUBLIC[1];
    if admit(&receiver, &[TOKEN.as_bytes()]).is_ok() {
        assert!(published.iter().any(ours), "a token is verified by a key that was not published");
    }
});
