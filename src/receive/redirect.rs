//! Incoming calls that another region is to answer (Graph's answer 302: "region affinity",
//! <https://learn.microsoft.com/microsoftteams/platform/bots/calls-and-meetings/call-notifications>).

use aws_lc_rs::digest;
use url::Url;

use crate::domain::{
    call::{CallFact, CallState},
    ids::PlatformId,
    notification::{Fact, Notification},
};

/// A rule: incoming calls that match go there. Empty members match any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where they are to be sent.
    pub to: Url,
    /// Those of these tenants.
    pub tenants: Vec<PlatformId>,
    /// Those whose caller is in one of these regions (`X-Microsoft-Skype-Caller-Region`), in any case.
    pub regions: Vec<String>,
    /// So many of a hundred.
    pub percent: u8,
}

/// The call that a delivery announces, if it does nothing else.
pub(super) fn incoming(items: &[Notification]) -> Option<&PlatformId> {
    let [item] = items else { return None };
    let Fact::Call(CallFact { state: Some(CallState::Incoming), .. }) = &item.facts.fact else { return None };
    item.call.as_ref()
}

/// Where this call is to go, by the first rule that matches: the same for every copy of it.
pub(super) fn destination<'r>(
    rules: &'r [Redirect],
    call: &PlatformId,
    tenant: Option<&str>,
    region: Option<&str>,
) -> Option<&'r Url> {
    let tenant = tenant.and_then(PlatformId::parse);
    let of_tenant =
        |rule: &Redirect| rule.tenants.is_empty() || tenant.as_ref().is_some_and(|tenant| rule.tenants.contains(tenant));
    let of_region = |rule: &Redirect| {
        let is_it = |region: &str| rule.regions.iter().any(|named| named.eq_ignore_ascii_case(region));
        rule.regions.is_empty() || region.is_some_and(is_it)
    };
    let mut matching = rules.iter().enumerate().filter(|(_, rule)| of_tenant(rule) && of_region(rule));
    matching.find(|(place, rule)| lot(*place, call) < u64::from(rule.percent)).map(|(_, rule)| &rule.to)
}

/// A number below 100 that a call draws at a rule, always the same.
fn lot(place: usize, call: &PlatformId) -> u64 {
    let drawn = digest::digest(&digest::SHA256, format!("{place} {call}").as_bytes());
    drawn.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes) % 100)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn rule(to: &str, tenant: Option<&str>, region: Option<&str>, percent: u8) -> Redirect {
        Redirect {
            to: to.parse().unwrap(),
            tenants: tenant.and_then(PlatformId::parse).into_iter().collect(),
            regions: region.map(ToOwned::to_owned).into_iter().collect(),
            percent,
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            rule("https://a.example/", Some("11111111-1111-1111-1111-111111111111"), None, 100),
            rule("https://b.example/", None, Some("EMEA"), 100),
        ];
        let call = PlatformId::parse("c").unwrap();
        let to = |tenant, region| destination(&rules, &call, tenant, region).map(Url::as_str);
        assert_eq!(to(Some("11111111111111111111111111111111"), Some("emea")), Some("https://a.example/"));
        assert_eq!(to(Some("other"), Some("emea")), Some("https://b.example/"));
        assert_eq!(to(None, Some("APAC")), None);
        assert_eq!(to(None, None), None);
    }

    #[test]
    fn a_percentage_is_of_the_calls_and_each_call_keeps_its_lot() {
        let rules = [rule("https://a.example/", None, None, 30), rule("https://b.example/", None, None, 50)];
        let (mut a, mut b) = (0, 0);
        for n in 0..10_000 {
            let call = PlatformId::parse(&format!("call-{n}")).unwrap();
            let to = destination(&rules, &call, None, None);
            assert_eq!(to, destination(&rules, &call, None, None));
            match to.map(Url::as_str) {
                Some("https://a.example/") => a += 1,
                Some(_) => b += 1,
                None => {}
            }
        }
        // of the 70 % that the first leaves, the second takes half
        assert!((2700..3300).contains(&a) && (3200..3800).contains(&b), "{a} {b}");
    }
}
