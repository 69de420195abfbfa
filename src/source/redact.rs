//! Bodies as they may be shown.

use serde_json::value::RawValue;

use crate::domain::text::without_telephone_numbers;

/// What stands where a secret was.
const REDACTED: &str = "\"redacted\"";

/// The members, at any depth, that are shown to nobody without leave: what opens something, leads somewhere that is not for
/// everybody, or says who people are and what they said and dialled. One list for all sources: what is in quarantine may be
/// anything, and what one platform calls so the other does not use for something harmless that anybody would miss.
pub const SECRETS: &[&str] = &[
    // credentials, and links that are
    "incomingCallContext",
    "recordingAccessToken",
    "token",
    "replacesContext",
    "replacementLink",
    "joinUrl",
    "joinWebUrl",
    "passcode",
    "validationCode",
    "validationUrl",
    // where recordings lie
    "recordingLocation",
    "contentLocation",
    "metadataLocation",
    "deleteLocation",
    // people
    "identity",
    "displayName",
    "mri",
    "organizer",
    "onBehalfOf",
    "onBehalfOfCallee",
    "transferor",
    "transferee",
    "transferTarget",
    "callRoutes",
    "participant",
    "participants",
    "participantId",
    "from",
    "to",
    "callerDisplayName",
    "startedBy",
    "endedBy",
    "user",
    // what they said, dialled, or sent along
    "tone",
    "dtmfResult",
    "collectTonesResult",
    "choiceResult",
    "speechResult",
    "customContext",
    // anything at all
    "data_base64",
];

/// How long a name must be that cannot stand in a text by chance (bytes).
const TELLING: usize = 12;

/// `body` with the values of its secret members, at any depth, and all telephone numbers replaced; as it is if it has none of
/// them. Values that are lists or objects go as a whole.
///
/// `None` if it cannot be told what in it is secret: it is not JSON, or names a secret somewhere in a text.
#[must_use]
pub fn redacted(body: Vec<u8>) -> Option<Vec<u8>> {
    serde_json::from_slice::<&RawValue>(&body).ok()?;
    let mut shown = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    let mut changed = false;
    while let Some((text, behind)) = next_text(rest) {
        let before = rest.len() - behind.len();
        let name: String = serde_json::from_slice(text).unwrap_or_default();
        let gap = rest.get(..before - text.len()).unwrap_or_default();
        shown.extend_from_slice(gap);
        let plain = std::str::from_utf8(text).ok()?;
        let tame = without_telephone_numbers(plain);
        changed |= tame != plain;
        shown.extend_from_slice(tame.as_bytes());
        rest = behind;
        if !SECRETS.contains(&name.as_str()) {
            // JSON within a text, for one
            if SECRETS.iter().any(|secret| secret.len() >= TELLING && name.contains(secret)) {
                return None;
            }
            continue;
        }
        let gap = behind.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == b':').count();
        let (colon, value) = behind.split_at_checked(gap).unwrap_or((behind, &[]));
        if !colon.contains(&b':') {
            continue; // a value that looks like the name
        }
        shown.extend_from_slice(colon);
        shown.extend_from_slice(REDACTED.as_bytes());
        rest = value.get(value_length(value)..).unwrap_or_default();
        changed = true;
    }
    shown.extend_from_slice(rest);
    Some(if changed { shown } else { body })
}

/// The next JSON text in `json`, with its quotes, and what stands behind it.
fn next_text(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let from = json.iter().position(|byte| *byte == b'"')?;
    let text = json.get(from..)?;
    let length = text_length(text);
    Some((text.get(..length)?, text.get(length..)?))
}

/// How long the JSON text is that begins here, quotes included; an unended one has no end but that of the body.
fn text_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long the JSON value is that begins here.
fn value_length(value: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = value.get(at) {
        match byte {
            b'"' => at += text_length(value.get(at..).unwrap_or_default()),
            b'[' | b'{' => (at, depth) = (at + 1, depth + 1),
            b']' | b'}' if depth > 0 => (at, depth) = (at + 1, depth - 1),
            b',' | b']' | b'}' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str) -> String {
        redacted(body.as_bytes().to_vec())
            .map_or_else(|| "nothing".to_owned(), |shown| String::from_utf8_lossy(&shown).into_owned())
    }

    #[test]
    fn a_secret_goes_at_any_depth_however_its_name_and_its_value_are_written() {
        assert_eq!(shown(r#"[{"a":{"mri":"s\"e,c"},"b":1}]"#), r#"[{"a":{"mri":"redacted"},"b":1}]"#);
        assert_eq!(shown(r#"{"mr\u0069" : "x", "n":"\\"}"#), r#"{"mr\u0069" : "redacted", "n":"\\"}"#);
        assert_eq!(shown(r#"{"mri":{"a":["}",1]},"tone":[1,[2]],"c":2}"#), r#"{"mri":"redacted","tone":"redacted","c":2}"#);
        assert_eq!(shown(r#"{"mri":12,"tone":null}"#), r#"{"mri":"redacted","tone":"redacted"}"#);
        assert_eq!(shown(r#"{"s":"/caller/4:+14255550111/x"}"#), r#"{"s":"/caller/4:+…/x"}"#);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for body in [r#"{ "a": "mri", "b": ["tone", "mri"], "t": "2026-01-01T00:00:00+00:00" }"#, "[]"] {
            assert_eq!(shown(body), body);
        }
    }

    #[test]
    fn nothing_is_shown_of_what_cannot_be_taken_apart() {
        for body in
            ["not JSON", r#"{"mri":"cut sho"#, "", r#"{"data":"{\"incomingCallContext\":\"x\"}"}"#, "{'incomingCallContext':1}"]
        {
            assert_eq!(shown(body), "nothing", "{body}");
        }
    }
}
