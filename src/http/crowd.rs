//! Who calls, and how many of them at once: no address takes the places of all others.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::http::header::HeaderMap;

use super::metrics::Metrics;
use crate::net::Networks;

/// Who is there, by their addresses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crowd {
    proxies: Networks,
    per_address: usize,
    present: Arc<Mutex<HashMap<IpAddr, usize>>>,
    metrics: Metrics,
}

/// A place that somebody takes; given back when it is dropped.
#[derive(Debug)]
pub struct Presence {
    address: IpAddr,
    present: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Crowd {
    /// Nobody yet. Behind `proxies` it is not the connections of an address that are counted, but its requests.
    #[must_use]
    pub fn new(proxies: Networks, per_address: usize, metrics: Metrics) -> Self {
        Self { proxies, per_address, present: Arc::default(), metrics }
    }

    /// A place for a connection that has just been made; those of a trusted proxy take none.
    ///
    /// # Errors
    /// [`Full`] if its address has as many as it may.
    pub fn admit(&self, peer: Option<SocketAddr>) -> Result<Option<Presence>, Full> {
        match peer {
            Some(peer) if !self.proxies.contain(peer.ip()) => self.enter(peer.ip()).map(Some).ok_or(Full),
            _ => Ok(None),
        }
    }

    /// The address of who calls: the connection's own peer, or for whom a trusted proxy says that it speaks. `None` where a proxy
    /// says it in no way that can be understood.
    #[must_use]
    pub fn caller(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer?.ip().to_canonical();
        if !self.proxies.contain(peer) {
            return Some(peer);
        }
        // each proxy adds, on the right, who spoke to it: what stands left of the first that is no proxy is anybody's word
        let mut nearest = peer;
        for header in headers.get_all("x-forwarded-for").collect::<Vec<_>>().into_iter().rev() {
            // what stands further left is not even text, if its writer likes
            for told in header.as_bytes().rsplit(|byte| *byte == b',') {
                nearest = address(std::str::from_utf8(told).ok()?.trim())?.to_canonical();
                if !self.proxies.contain(nearest) {
                    return Some(nearest);
                }
            }
        }
        Some(nearest)
    }

    /// A place for a request that came through a trusted proxy; others have that of their connection. Callers of whom the proxy says
    /// nothing that can be understood have the proxy's own places: else to be unknown would be to be uncounted.
    ///
    /// # Errors
    /// [`Full`] if its address has as many as it may.
    pub fn place(&self, peer: Option<SocketAddr>, caller: Option<IpAddr>) -> Result<Option<Presence>, Full> {
        match peer {
            Some(peer) if self.proxies.contain(peer.ip()) => self.enter(caller.unwrap_or(peer.ip())).map(Some).ok_or(Full),
            _ => Ok(None),
        }
    }

    fn enter(&self, address: IpAddr) -> Option<Presence> {
        let address = neighbourhood(address);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = present.entry(address).or_insert(0);
        if *count >= self.per_address {
            self.metrics.crowded_out();
            return None;
        }
        *count += 1;
        drop(present);
        Some(Presence { address, present: Arc::clone(&self.present) })
    }
}

/// An address has as many places as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = present.entry(self.address) {
            if *count.get() > 1 {
                *count.get_mut() -= 1;
            } else {
                count.remove();
            }
        }
    }
}

/// One address of IPv4; of IPv6 what one customer gets, a /64.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An address as proxies write it: alone, with a port, IPv6 in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn crowd(proxies: &[&str], per_address: usize) -> Crowd {
        Crowd::new(proxies.iter().map(|network| network.parse().unwrap()).collect(), per_address, Metrics::new())
    }

    fn caller(crowd: &Crowd, peer: &str, forwarded_for: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            headers.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_str(value).unwrap());
        }
        crowd.caller(Some(SocketAddr::new(peer.parse().unwrap(), 1)), &headers).map(|address| address.to_string())
    }

    #[test]
    fn a_proxy_is_believed_for_whom_it_speaks_and_nobody_else_is() {
        let crowd = crowd(&["10.0.0.0/8", "fd00::/8"], 1);
        for (peer, forwarded_for, expected) in [
            ("203.0.113.7", &["198.51.100.1"][..], Some("203.0.113.7")), // not a proxy: its word counts for nothing
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1"], Some("198.51.100.1")), // what the caller itself wrote comes first
            ("10.0.0.1", &["6.6.6.6", "198.51.100.1, 10.9.9.9"], Some("198.51.100.1")),
            ("10.0.0.1", &["198.51.100.1", "10.9.9.9"], Some("198.51.100.1")),
            ("fd00::1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("fd00::1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["198.51.100.1:8080"], Some("198.51.100.1")),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], Some("10.1.1.1")), // all the way from inside
            ("10.0.0.1", &["unknown"], None),
            ("10.0.0.1", &["198.51.100.1, "], None),
        ] {
            assert_eq!(caller(&crowd, peer, forwarded_for).as_deref(), expected, "{peer} {forwarded_for:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nobody_behind_a_proxy() {
        let crowd = crowd(&["10.0.0.0/8"], 1);
        let proxy = Some(SocketAddr::new("10.0.0.1".parse().unwrap(), 1));
        let caller = |told: &[u8]| {
            let name = HeaderName::from_static("x-forwarded-for");
            crowd.caller(proxy, &HeaderMap::from_iter([(name, HeaderValue::from_bytes(told).unwrap())]))
        };
        let (known, unknown) = (caller(b"\xff, 198.51.100.1"), caller(b"198.51.100.1, \xff"));
        assert_eq!((known, unknown), (Some("198.51.100.1".parse().unwrap()), None));
        for who in [known, unknown] {
            let place = crowd.place(proxy, who).unwrap();
            assert!(place.is_some());
            assert_eq!(crowd.place(proxy, who).err(), Some(Full), "{who:?}");
        }
    }

    #[test]
    fn an_address_has_its_places_and_no_more_until_it_leaves_one() {
        let crowd = crowd(&["10.0.0.0/8"], 2);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another address");
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let of_one_customer: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(enter).into();
        assert!(of_one_customer.iter().all(Option::is_some) && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop((second, of_one_customer));
        assert_eq!(crowd.present.lock().unwrap().len(), 0, "nobody is remembered who has left");
    }
}
