//! Text that nobody has verified, made safe to keep, log and show.

/// The most bytes that are kept of an unverified text.
const KEPT_BYTES: usize = 256;

/// `text` cut to 256 bytes at a character boundary and freed of control characters.
#[must_use]
pub fn tame(text: &str) -> String {
    if text.len() <= KEPT_BYTES && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return text.to_owned(); // nearly every header
    }
    let mut kept = String::with_capacity(text.len().min(KEPT_BYTES));
    for character in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + character.len_utf8() > KEPT_BYTES {
            break;
        }
        kept.push(character);
    }
    kept
}

/// What a telephone number begins with, in messages and identifiers of the platforms; each ends in one of [`ENDS`].
const DIALS: &[&str] = &["+", "tel:", "sip:", "sips:", "4:"];
const ENDS: [char; 2] = ['+', ':'];
/// From how many digits on it is one.
const DIGITS: usize = 6;

/// `text` with the digits of telephone numbers replaced (`+`, `tel:`, `sip:` or `4:` and at least six digits, also in groups),
/// so that a platform's message can be kept and shown in the clear.
#[must_use]
pub fn without_telephone_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = behind_dial(rest) {
        let (before, number) = rest.split_at_checked(at).unwrap_or((rest, ""));
        kept.push_str(before);
        rest = number;
        let length = number_length(number);
        let (digits, behind) = number.split_at_checked(length).unwrap_or((number, ""));
        if digits.bytes().filter(u8::is_ascii_digit).count() >= DIGITS {
            kept.push('…');
            rest = behind;
        }
    }
    kept.push_str(rest);
    kept
}

/// Where the first number of `text` may begin. Looks no further than there: a text can be all dials.
fn behind_dial(text: &str) -> Option<usize> {
    let mut ends = text.match_indices(ENDS).map(|(at, end)| at + end.len());
    let is_dial = |end: &usize| text.get(..*end).is_some_and(|before| DIALS.iter().any(|dial| before.ends_with(dial)));
    ends.find(is_dial)
}

/// How far digits go from here, in groups that a sign between them may part.
fn number_length(text: &str) -> usize {
    let mut end = 0;
    let mut parted = false;
    for (at, sign) in text.char_indices() {
        let is_loose = sign.is_whitespace() || matches!(sign, '(' | ')');
        match sign {
            '0'..='9' => (end, parted) = (at + 1, false),
            _ if is_loose => parted = true,
            '-' | '.' | '/' | '\u{2010}'..='\u{2015}' if !parted => parted = true,
            _ => break,
        }
    }
    end
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
        for (told, kept) in [
            ("plain", "plain"),
            ("to 4:+1 425 555 0199.", "to 4:+…."),
            ("+1-425-555-0199 and +1 (425) 555-0199 declined", "+… and +… declined"),
            ("tel:14255550199", "tel:…"),
            ("tel:+1\u{a0}425\u{2011}555/0199/x", "tel:+…/x"),
            ("<sip:14255550199@trunk.example>", "<sip:…@trunk.example>"),
            ("4:14255550199", "4:…"),
            ("2026-01-01T09:24:00.123+00:00", "2026-01-01T09:24:00.123+00:00"),
            ("DiagCode: 487#5234.@", "DiagCode: 487#5234.@"),
            ("+é +", "+é +"),
        ] {
            assert_eq!(without_telephone_numbers(told), kept);
        }
    }

    /// Read again for each of them, it would take minutes; `hot_path` measures the time that it takes.
    #[test]
    fn a_long_text_of_nothing_but_dials_is_read_in_one_go() {
        for dials in ["+", "4:", "tel:"] {
            let text = dials.repeat(512 * 1024 / dials.len());
            assert_eq!(without_telephone_numbers(&text), text);
        }
    }
}
