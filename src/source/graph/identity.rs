//! What makes a second copy of a notification recognisable.
//!
//! No body has an id or a time of its own, so a copy is known by the platform's Message-ID, one per request, and by
//! its content. Neither alone would do: a roster that returns to an earlier content is news, and one request may bring
//! several items. An operation ends once, however often its end is sent: there the content alone decides.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2_iter, memchr3};

use crate::{domain::notification::Identity, source::identity::identity_of};

/// The identity of an item's JSON. The item holds its own URL, so that call and resource are a part of it.
///
/// Without `message_id` the content alone decides.
pub(super) fn identity(message_id: Option<&str>, json: &str) -> Identity {
    identity_of(&[message_id.unwrap_or_default().as_bytes(), &compact(json)])
}

/// JSON without insignificant white space (RFC 8259 §2): proxies may lay a body out anew.
fn compact(json: &str) -> Cow<'_, [u8]> {
    let json = json.as_bytes();
    if is_compact(json) {
        return json.into();
    }
    let mut compact = Vec::with_capacity(json.len());
    let (mut begin, mut in_text) = (0, false);
    for end in memchr_iter(b'"', json).chain([json.len()]) {
        let part = json.get(begin..end).unwrap_or_default();
        if in_text {
            compact.extend_from_slice(part);
            // an escaped quotation mark does not end the text
            in_text = part.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        } else {
            compact.extend(part.iter().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')));
            in_text = true;
        }
        compact.extend(json.get(end)); // the mark itself
        begin = end + 1;
    }
    compact.into()
}

/// Whether all its white space is spaces within texts, so that there is nothing to leave out. Looks at spaces and escapes alone.
fn is_compact(json: &[u8]) -> bool {
    let (mut begin, mut in_text) = (0, false);
    let is_within_text = |at: usize| {
        let Some(part) = json.get(begin..at) else { return true }; // escaped itself
        in_text ^= memchr_iter(b'"', part).count() % 2 == 1;
        begin = if json.get(at) == Some(&b'\\') { at + 2 } else { at + 1 };
        in_text
    };
    memchr3(b'\t', b'\n', b'\r', json).is_none() && memchr2_iter(b' ', b'\\', json).all(is_within_text)
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn white_space_between_tokens_does_not_matter_and_within_texts_it_does() {
        let compact = |json| compact(json).into_owned();
        assert_eq!(compact("{ \"a b\" :\r\n[ 1,\t\"c\\\" d\" ] }"), br#"{"a b":[1,"c\" d"]}"#);
        assert_eq!(
            compact(r#"{"a" : "\\\\" , "b\\\" \"c" : " " , "" : "\\\\\" " }"#),
            br#"{"a":"\\\\","b\\\" \"c":" ","":"\\\\\" "}"#
        );
        assert_eq!(compact(r#"{"a b":" c ","d" :1}"#), br#"{"a b":" c ","d":1}"#);
        assert_eq!(compact(r#"{"a b":" c ","d":[1]}"#), br#"{"a b":" c ","d":[1]}"#);
        assert_eq!(identity(None, r#"{"a":1}"#), identity(None, "{\n \"a\" : 1 }"));
        assert_ne!(identity(None, r#"{"a":"b c"}"#), identity(None, r#"{"a":"bc"}"#));
    }

    proptest! {
        /// Identities are kept: whatever finds them, they stay the same.
        #[test]
        fn white_space_is_found_as_by_who_looks_at_each_byte(json in r#"[ \n"\\a:,]{0,60}|[ "a]{0,12}"#) {
            let (mut in_text, mut escaped) = (false, false);
            let expected: Vec<u8> = json
                .bytes()
                .filter(|byte| {
                    if !in_text {
                        in_text = *byte == b'"';
                        return !matches!(byte, b' ' | b'\n');
                    }
                    in_text = escaped || *byte != b'"';
                    escaped = !escaped && *byte == b'\\';
                    true
                })
                .collect();
            prop_assert_eq!(compact(&json).into_owned(), expected);
        }
    }

    #[test]
    fn the_message_id_and_the_content_cannot_be_taken_for_one_another() {
        assert_ne!(identity(Some("a"), "1"), identity(Some("b"), "1"));
        assert_ne!(identity(Some("a"), "1"), identity(None, "a1"));
        assert_eq!(identity(None, "1"), identity(Some(""), "1"));
    }
}
