//! `Authorization` header to claims: headers as they are, one a line; or, behind a `{`, the JSON of a token's header and of its
//! claims in two lines (in one line the claims alone), signed with the key that the receiver believes.
#![no_main]

use std::sync::LazyLock;

use callback_ledger::{
    auth::{Admission, Authenticator, Refusal, bearer},
    domain::trust::Admitted,
};
use callback_ledger_fuzz::{
    memory::Bound,
    token::{AUDIENCE, HEADER, ISSUER, KEYS, NOW, admit, receiver, signed},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Two bytes of claims (`[]`) can be a list in a list with room for four values of 32 bytes.
const CHECKING: Bound = Bound { fixed: 16 * 1024, per_byte: 96 };

static LENIENT: LazyLock<Authenticator> = LazyLock::new(|| receiver(KEYS, false).expect("the keys are good"));
static STRICT: LazyLock<Authenticator> = LazyLock::new(|| receiver(KEYS, true).expect("the keys are good"));

fuzz_target!(|input: &[u8]| {
    if input.starts_with(b"{") {
        with_key(input);
    } else {
        without_key(input);
    }
});

/// Whoever does not have the key is not believed, whatever they send.
fn without_key(input: &[u8]) {
    let headers: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let none = judged(&LENIENT, &headers);
    let Err(Refusal::Rejected(rejected)) = none else { panic!("believed without a signature: {none:?}") };
    match bearer(&headers) {
        Ok(token) => assert!(token.is_ascii() && !token.contains(char::is_whitespace)),
        Err(reason) => assert_eq!(rejected.reason, reason),
    }
}

/// Whoever has it is believed if the claims are right.
fn with_key(input: &[u8]) {
    let (header, claims) =
        input.iter().position(|byte| *byte == b'\n').map_or((HEADER.as_bytes(), input), |at| input.split_at(at));
    let value = format!("Bearer {}", signed(header, claims));
    let lenient = judged(&LENIENT, &[value.as_bytes()]);
    let strict = judged(&STRICT, &[value.as_bytes()]);
    assert!(strict.is_err() || lenient.is_ok(), "who demands more believes more");
    if let Ok(admission) = &lenient {
        believed(admission, claims);
    }
    if let Ok(admission) = &strict {
        assert_eq!(admission.tenant(), Some("1fdd12d0-4620-44ed-baec-459b611f84b2"));
    }
}

fn believed(admission: &Admission, claims: &[u8]) {
    let claims: Value = serde_json::from_slice(claims).expect("claims that are believed are JSON");
    assert_eq!((admission.issuer(), admission.audience()), (ISSUER, AUDIENCE));
    assert_eq!(claims["iss"], ISSUER);
    assert!(claims["aud"] == AUDIENCE || claims["aud"].as_array().is_some_and(|named| named.contains(&AUDIENCE.into())));
    #[expect(clippy::cast_precision_loss, reason = "a time of our days")]
    let is_good = claims["exp"].as_f64().is_some_and(|end| end + 300.0 >= NOW as f64);
    assert!(is_good, "it has expired: {claims}");
}

/// What a receiver says, the second time (when it remembers) as the first.
fn judged(receiver: &Authenticator, headers: &[&[u8]]) -> Result<Admission, Refusal> {
    let length = headers.iter().map(|header| header.len()).sum();
    let judged = CHECKING.holds(length, || admit(receiver, headers));
    assert_eq!(admit(receiver, headers), judged, "a receiver changes its mind");
    judged
}
