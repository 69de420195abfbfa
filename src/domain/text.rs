//! Text that nobody has verified, made safe to keep, log and show.

/// The most bytes that are kept of an unverified text.
const KEPT_BYTES: usize = 256;

/// `text` cut to 256 bytes at a character boundary and freed of control characters.
#[must_use]
pub fn tame(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(KEPT_BYTES));
    for character in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + character.len_utf8() > KEPT_BYTES {
            break;
        }
        kept.push(character);
    }
    kept
}

/// `text` with the digits of telephone numbers (`+` and at least six digits) replaced, so that a platform's
/// message can be kept and shown in the clear.
#[must_use]
pub fn without_telephone_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        kept.push_str(before);
        kept.push('+');
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        rest = after.get(digits..).unwrap_or_default();
        kept.push_str(if digits >= 6 { "…" } else { after.get(..digits).unwrap_or_default() });
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unverified_text_is_cut_at_a_character_and_loses_its_control_characters() {
        assert_eq!(tame("a\r\nb\u{1b}[31m\0c"), "ab[31mc");
        assert_eq!(tame(&"é".repeat(200)).len(), 256);
        assert_eq!(tame(&format!("a{}", "é".repeat(200))).len(), 255);
    }

    #[test]
    fn a_telephone_number_in_a_message_is_not_kept() {
        assert_eq!(without_telephone_numbers("4:+14255550123 declined, code 1+1"), "4:+… declined, code 1+1");
        assert_eq!(without_telephone_numbers("plain"), "plain");
    }
}
