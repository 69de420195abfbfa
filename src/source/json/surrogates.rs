//! Halves of characters.
//!
//! Senders on UTF-16 platforms cut texts (a display name that ends in an emoji) in the middle of a surrogate pair and write the
//! half as `\ud83d`. RFC 8259 §8.2 calls the effect on readers unpredictable; ours refuses. A notification is worth
//! more than half an emoji, so halves are replaced and the item is read again.

/// `json` with each lone surrogate escape replaced by U+FFFD; `None` if it has none.
pub(in crate::source) fn mended(json: &str) -> Option<String> {
    let mut mended = String::with_capacity(json.len());
    let mut changed = false;
    let mut rest = json;
    while let Some((before, after)) = rest.split_once('\\') {
        mended.push_str(before);
        let (escape, tail) = escape(after);
        if escape.is_lone_surrogate {
            mended.push_str("\\ufffd");
            changed = true;
        } else {
            mended.push('\\');
            mended.push_str(escape.text);
        }
        rest = tail;
    }
    mended.push_str(rest);
    changed.then_some(mended)
}

/// What follows a backslash.
struct Escape<'a> {
    text: &'a str,
    is_lone_surrogate: bool,
}

/// The escape at the start of `after`, a pair of surrogates counting as one, and what comes behind it.
fn escape(after: &str) -> (Escape<'_>, &str) {
    let (len, is_lone_surrogate) = match unit(after) {
        Some(0xD800..=0xDBFF) => match after.get(5..).and_then(|next| next.strip_prefix('\\')).and_then(unit) {
            Some(0xDC00..=0xDFFF) => (11, false),
            _ => (5, true),
        },
        Some(0xDC00..=0xDFFF) => (5, true),
        Some(_) => (5, false),
        None => (after.chars().next().map_or(0, char::len_utf8), false),
    };
    let (text, tail) = after.split_at_checked(len).unwrap_or((after, ""));
    (Escape { text, is_lone_surrogate }, tail)
}

/// The UTF-16 unit that `u` and four digits name.
fn unit(escape: &str) -> Option<u16> {
    let digits = escape.strip_prefix('u')?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::mended;

    #[test]
    fn half_a_character_is_replaced_and_everything_else_is_left_alone() {
        assert_eq!(mended(r#"{"a":"x\ud83d"}"#).as_deref(), Some(r#"{"a":"x\ufffd"}"#));
        assert_eq!(mended(r#""\ude00\uD83D\uDE00\ud83d\n""#).as_deref(), Some(r#""\ufffd\uD83D\uDE00\ufffd\n""#));
        for whole in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u00e9\"""#, "\\", "\\u", "\\ué123"] {
            assert_eq!(mended(whole), None, "{whole}");
        }
    }
}
