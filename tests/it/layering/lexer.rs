//! Rust text to tokens, as far as paths need it: no comments, no strings.

/// A word, `::`, or another character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word or the character(s).
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// The tokens of a file; strings and characters become one `"`.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = comment(rest).unwrap_or(0);
        if length == 0 && !next.is_whitespace() {
            let (token, length) = token(rest, next);
            tokens.push(Token { text: token, line: 1 + text[..text.len() - rest.len()].matches('\n').count() });
            rest = &rest[length..];
        } else {
            rest = &rest[length.max(if length == 0 { next.len_utf8() } else { 0 })..];
        }
    }
    tokens
}

/// The token that begins here, and its length.
fn token(rest: &str, next: char) -> (String, usize) {
    if let Some(length) = string(rest).or_else(|| character(rest)) {
        return ("\"".to_owned(), length);
    }
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let length = match word {
        0 if rest.starts_with("::") => 2,
        0 => next.len_utf8(),
        word => word,
    };
    (rest[..length].to_owned(), length)
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of the string literal that begins here: plain, byte, C or raw.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    let (raw, after) = (rest[..prefix].contains('r'), &rest[prefix..]);
    let hashes = if raw { after.len() - after.trim_start_matches('#').len() } else { 0 };
    let body = after[hashes..].strip_prefix('"')?;
    let opening = prefix + hashes + 1;
    if raw {
        let closing = format!("\"{}", "#".repeat(hashes));
        return Some(body.find(&closing).map_or(rest.len(), |end| opening + end + closing.len()));
    }
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(opening + at + 1),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Some(rest.len())
}

/// The length of the character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let prefix = usize::from(rest.starts_with("b'"));
    let body = rest[prefix..].strip_prefix('\'')?;
    let first = body.chars().next()?;
    let length = match first {
        '\\' => 2 + body[2..].find('\'')?,
        _ => first.len_utf8(),
    };
    body[length..].starts_with('\'').then_some(prefix + length + 2)
}
