//! What the gateway thinks of a path before it reads it.

/// A path that the platform could read in another way than we do.
pub(super) fn is_odd(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let dots = path.split('/').any(|part| matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."));
    let disguised = path.split('%').skip(1).any(|behind| {
        // what need not be encoded is not (RFC 3986, §2.3)
        let byte = behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_none_or(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte))
    });
    !path.starts_with('/') || dots || disguised || ["//", "\\", "%2f", "%5c", "%00"].iter().any(|odd| lower.contains(odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_odd() {
        for odd in [
            "",
            "x",
            "/a/../b",
            "/a/%2E%2e/b",
            "//a",
            "/a//b",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/.",
            "/a/%2e",
            "/%63alls",
            "/a%3Aplay",
            "/a%",
            "/a%zz",
        ] {
            assert!(is_odd(odd), "{odd}");
        }
        for plain in ["/", "/v1.0/communications/calls", "/calling/callConnections/c:play", "/a..b/%20/…"] {
            assert!(!is_odd(plain), "{plain}");
        }
    }
}
