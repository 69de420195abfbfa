//! Bodies as they may be shown.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::lenient;
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
    "recordResourceAccessToken",
    "token",
    "replacesContext",
    "replacementLink",
    "joinUrl",
    "joinWebUrl",
    "passcode",
    "validationCode",
    "validationUrl",
    "callbackUri", // may bring a secret in its query
    // where recordings lie
    "recordingLocation",
    "recordResourceLocation",
    "contentLocation",
    "metadataLocation",
    "deleteLocation",
    // people
    "identity",
    "displayName",
    "mri",
    "rawId",
    "communicationUser",
    "microsoftTeamsUser",
    "microsoftTeamsApp",
    "teamsExtensionUser",
    "phoneNumber",
    "phone",
    "guest",
    "organizer",
    "coOrganizers",
    "initiator",
    "initiatedBy",
    "answeredBy",
    "sourceDisplayName",
    "sourceCallerIdNumber",
    "sourceParticipantId",
    "observedParticipantId",
    "terminationSender",
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

/// How long a name must be that cannot stand in a text by chance (bytes), if it is no plain word.
const TELLING: usize = 12;

/// How often JSON may lie in a text of JSON. Each time is one more reading of the same bytes; no platform does it twice.
const NESTED: usize = 3;

/// `body` with the values of its secret members, at any depth, and all telephone numbers replaced; as it is if it has none of
/// them. Values that are lists or objects go as a whole.
///
/// `None` if it cannot be told what in it is secret: it is not JSON, or a secret is in a text of it.
#[must_use]
pub fn redacted(body: Vec<u8>) -> Option<Vec<u8>> {
    let json = std::str::from_utf8(&body).ok()?;
    serde_json::from_str::<&RawValue>(json).ok()?;
    let mut shown = String::with_capacity(json.len());
    let mut rest = json;
    let mut changed = false;
    while let Some(text) = Text::next(rest) {
        let meant = text.meant()?;
        let tame = without_telephone_numbers(&meant);
        shown.push_str(text.before);
        if tame == meant {
            shown.push_str(text.written);
        } else {
            shown.push_str(&serde_json::to_string(&tame).ok()?);
            changed = true;
        }
        rest = text.behind;
        if !is_secret(&meant) {
            if hides(&tame, NESTED) {
                return None;
            }
            continue;
        }
        let Some((colon, value)) = text.value() else { continue }; // a value that looks like the name
        shown.push_str(colon);
        shown.push_str(REDACTED);
        rest = value.get(value_length(value.as_bytes())..).unwrap_or_default();
        changed = true;
    }
    shown.push_str(rest);
    Some(if changed { shown.into_bytes() } else { body })
}

/// Senders differ in how they write the first letter, and readers of JSON in whether they mind.
fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// Whether something is in `text` that is not to be shown: as JSON, of which `levels` are looked into, or in words.
fn hides(text: &str, levels: usize) -> bool {
    if !is_json(text) {
        return mentions(text);
    }
    let Some(levels) = levels.checked_sub(1) else { return true };
    let mut rest = text;
    while let Some(text) = Text::next(rest) {
        let Some(meant) = text.meant() else { return true };
        let found = if is_secret(&meant) {
            text.value().is_some()
        } else {
            without_telephone_numbers(&meant) != meant || hides(&meant, levels)
        };
        if found {
            return true;
        }
        rest = text.behind;
    }
    false
}

/// JSON that can hold a text.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"']) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// JSON that was cut or has something around it, for one: a name that is long enough, or any that stands in quotes before a colon.
fn mentions(text: &str) -> bool {
    SECRETS.iter().any(|secret| is_telling(secret) && text.contains(secret))
        || text.match_indices(':').any(|(colon, _)| text.get(..colon).is_some_and(ends_in_a_quoted_secret))
}

fn is_telling(secret: &str) -> bool {
    secret.len() >= TELLING && secret.contains(|c: char| c.is_ascii_uppercase())
}

fn ends_in_a_quoted_secret(text: &str) -> bool {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let quoted = text.trim_end();
    let text = quoted.trim_end_matches(QUOTES);
    let ends_in = |secret: &str| {
        let (before, name) = text.len().checked_sub(secret.len()).and_then(|at| text.split_at_checked(at))?;
        Some(before.ends_with(QUOTES) && name.eq_ignore_ascii_case(secret))
    };
    text.len() < quoted.len() && SECRETS.iter().any(|secret| ends_in(secret) == Some(true))
}

/// A text in JSON.
struct Text<'a> {
    before: &'a str,
    /// With its quotes.
    written: &'a str,
    behind: &'a str,
}

impl<'a> Text<'a> {
    /// The next one in `json`.
    fn next(json: &'a str) -> Option<Self> {
        let (before, rest) = json.split_at_checked(json.find('"')?)?;
        let (written, behind) = rest.split_at_checked(text_length(rest.as_bytes()))?;
        Some(Self { before, written, behind })
    }

    /// What it says; half a character in it counts as U+FFFD. `None` if it says nothing.
    fn meant(&self) -> Option<Cow<'a, str>> {
        if !self.written.contains('\\') {
            return self.written.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed);
        }
        lenient("a text", self.written).ok().map(Cow::Owned)
    }

    /// If it is the name of a member, what stands behind it: up to the value, and from there.
    fn value(&self) -> Option<(&'a str, &'a str)> {
        let value = self.behind.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
        self.behind.split_at_checked(self.behind.len() - value.len())
    }
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
    fn a_roster_is_shown_without_its_people() {
        let told = r#"{"resourceUrl":"/communications/calls/1/participants","resourceData":[{"info":{"identity":{"user":{}}},"id":"p"}]}"#;
        assert_eq!(shown(told), told.replace(r#"{"user":{}}"#, r#""redacted""#));
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for body in [r#"{ "a": "mri", "b": ["tone", "mri"], "t": "2026-01-01T00:00:00+00:00" }"#, "[]"] {
            assert_eq!(shown(body), body);
        }
    }

    #[test]
    fn a_member_is_secret_in_whatever_case_it_is_written() {
        assert_eq!(
            shown(r#"{"MRI":1,"DisplayName":"x","token":2}"#),
            r#"{"MRI":"redacted","DisplayName":"redacted","token":"redacted"}"#
        );
    }

    #[test]
    fn a_telephone_number_goes_however_it_is_escaped_and_parted() {
        for number in [
            r"\u002B14255550111",
            r"4:\u002B14255550111",
            r"4\u003a14255550111",
            r"tel:+1\u00a0425\u00a05550111",
            r"+1\/425\/5550111",
            r"\u002b\u0031\u0034255550111",
        ] {
            let shown = shown(&format!(r#"{{"said":"é {number}\n"}}"#));
            assert!(shown.starts_with(r#"{"said":"é "#) && shown.ends_with(r#"…\n"}"#), "{number}: {shown}");
        }
    }

    #[test]
    fn what_is_json_within_a_text_is_read_as_such() {
        for hidden in [
            r#"{"s":"half \ud83d {\"incomingCallContext\":\"x\"}"}"#,
            r#"{"s":"{\"mri\":\"x\"}"}"#,
            r#"{"s":" [{\"a\":{\"Token\" : 1}}]"}"#,
            r#"{"s":"{\"a\":\"\\u002B14255550111\"}"}"#,
            r#"{"s":"\"{\\\"joinUrl\\\":1}\""}"#,
            r#"{"s":"{\"identity\":{\"user\":1"}"#,
            r#"["told: {'mri' : 'x'}"]"#,
        ] {
            assert_eq!(shown(hidden), "nothing", "{hidden}");
        }
        for harmless in [r#"{"s":"{\"a\":\"mri\",\"b\":[1]}"}"#, r#"["[]","{","\"mri\"","half \ud83d","\u00e9 \/ mri: 1"]"#] {
            assert_eq!(shown(harmless), harmless);
        }
    }

    #[test]
    fn json_in_json_in_json_is_looked_into_only_so_far() {
        let wrapped =
            |times: usize| (0..times).fold("[]".to_owned(), |inner, _| serde_json::to_string(&[inner]).unwrap_or_default());
        assert_eq!(shown(&wrapped(NESTED)), wrapped(NESTED));
        assert_eq!(shown(&wrapped(NESTED + 1)), "nothing");
    }

    /// Read again for each of its parts, each of these would take minutes; `hot_path` measures the time that they take.
    #[test]
    fn what_is_nothing_but_beginnings_is_read_in_one_go() {
        for part in [r#"\""#, r#"{\"mri\" "#, "[", r#"\":"#, "'':", r#"\\\""#, r"\ud83d"] {
            let body = format!(r#"["{}"]"#, part.repeat(256 * 1024 / part.len()));
            assert!(shown(&body) == body, "{part}");
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
