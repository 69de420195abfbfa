//! What an address says of the machine behind it.

use std::net::IpAddr;

use url::{Host, Url};

/// Whether an address is one of the internet: none of this machine, of a private network, or of no use (RFC 6890).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || (a == 198 && (18..20).contains(&b));
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_multicast() || shared || reserved)
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            let local = (first & 0xfe00) == 0xfc00 || (first & 0xffc0) == 0xfe80;
            // 64:ff9b::/96 and 2002::/16 lead to IPv4 addresses by another way
            let translated = first == 0x64 || first == 0x2002;
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || local || translated)
        }
    }
}

/// Whether this is plain http to this very machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http" && is_here(url)
}

/// Whether this leads to this very machine, by whichever scheme.
#[must_use]
pub fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for here in [
            "http://127.0.0.1:1/x",
            "http://127.9.9.9/",
            "http://[::1]:2/",
            "http://localhost/",
            "http://LOCALHOST:3/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(is_loopback(&here.parse().unwrap()), "{here}");
        }
        for elsewhere in ["http://10.0.0.1/", "http://localhost.example/", "http://127.0.0.1.example/", "https://127.0.0.1/"] {
            assert!(!is_loopback(&elsewhere.parse().unwrap()), "{elsewhere}");
        }
    }

    #[test]
    fn an_address_of_the_internet_is_told_from_all_others() {
        for public in ["20.1.2.3", "8.8.8.8", "100.128.0.1", "2603:1063::1", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }
}
