//! The token in the `Authorization` header.

use crate::domain::rejection::RejectionReason;

/// The most bytes of a token that are looked at; the platforms' tokens have one or two thousand.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The token of a request, given the values of all its `Authorization` headers.
///
/// `Bearer` without a token is a malformed token: somebody meant to send one.
///
/// # Errors
/// The reason why there is none to look at.
pub fn bearer<'a>(authorization: &[&'a [u8]]) -> Result<&'a str, RejectionReason> {
    let value = match authorization {
        [] => return Err(RejectionReason::MissingToken),
        [value] => value.trim_ascii(),
        [..] => return Err(RejectionReason::MalformedToken), // rule 1: exactly one header
    };
    if value.is_empty() {
        return Err(RejectionReason::MissingToken);
    }
    let scheme_end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, token) = value.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(RejectionReason::NotBearer); // rule 1: the scheme, in any case
    }
    let token = token.trim_ascii_start();
    // all of them, without an early end: that goes many bytes at a time
    let is_graphic = |token: &[u8]| token.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !is_graphic(token) {
        return Err(RejectionReason::MalformedToken); // rule 1: at most 16 KiB
    }
    str::from_utf8(token).ok().ok_or(RejectionReason::MalformedToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bearer_header_with_one_token_is_read() {
        type Case<'a> = (&'a [&'a [u8]], Result<&'a str, RejectionReason>);
        let cases: [Case<'_>; 11] = [
            (&[b"Bearer a.b.c"], Ok("a.b.c")),
            (&[b"bEARER   a.b.c "], Ok("a.b.c")),
            (&[], Err(RejectionReason::MissingToken)),
            (&[b" "], Err(RejectionReason::MissingToken)),
            (&[b"Bearer a", b"Bearer a"], Err(RejectionReason::MalformedToken)),
            (&[b"Bearer"], Err(RejectionReason::MalformedToken)),
            (&[b"Bearer a b"], Err(RejectionReason::MalformedToken)),
            (&[b"Bearer a,Bearer b\xff"], Err(RejectionReason::MalformedToken)),
            (&[b"Basic YTpi"], Err(RejectionReason::NotBearer)),
            (&[b"Bearera.b.c"], Err(RejectionReason::NotBearer)),
            (&[b"a.b.c"], Err(RejectionReason::NotBearer)),
        ];
        for (authorization, expected) in cases {
            assert_eq!(bearer(authorization), expected, "{authorization:?}");
        }
    }
}
