//! What a token must say, once its signature is known to be good.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::domain::{ids::PlatformId, rejection::RejectionReason, trust::TrustPolicy};

/// How far the platforms' clocks and ours may differ, in seconds.
const SKEW_SECONDS: f64 = 300.0;

/// What we believe of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Believed {
    pub issuer: String,
    pub audience: String,
    pub tenant: Option<PlatformId>,
}

/// What a receiver demands of claims; rule 9: of all others, nothing.
#[derive(Debug)]
pub(super) struct Demands {
    audiences: Vec<String>,
    tenant_required: bool,
    tenants: Vec<PlatformId>,
}

impl Demands {
    pub fn of(policy: &TrustPolicy) -> Self {
        Self {
            audiences: policy.audiences.clone(),
            tenant_required: policy.tenant_required || !policy.tenants.is_empty(),
            tenants: policy.tenants.iter().filter_map(|tenant| PlatformId::parse(tenant)).collect(),
        }
    }

    /// Believes a token's claims or says the first thing that is wrong, in the order of [`RejectionReason`]: an
    /// absent claim is looked for only after those that are there. A claim of the wrong type counts as absent.
    ///
    /// `issuers` are those for which the key that signed speaks.
    pub fn check(&self, claims: &Claims<'_>, issuers: &[&str], now: Timestamp) -> Result<Believed, RejectionReason> {
        let issuer = claims.issuer(issuers)?;
        let audience = claims.audience(&self.audiences)?;
        claims.times(now)?;
        let tenant = claims.text("tid").and_then(PlatformId::parse);
        let (Some(issuer), Some(audience), true) = (issuer, audience, claims.number("exp").is_some()) else {
            return Err(RejectionReason::MissingClaim); // rules 5, 6, 7
        };
        if tenant.is_none() && self.tenant_required {
            return Err(RejectionReason::MissingClaim); // rule 8: required
        }
        if !self.tenants.is_empty() && !tenant.as_ref().is_some_and(|tenant| self.tenants.contains(tenant)) {
            return Err(RejectionReason::TenantNotAllowed); // rule 8: the list
        }
        Ok(Believed { issuer, audience, tenant })
    }
}

/// The payload of a token.
pub(super) struct Claims<'a>(pub &'a Map<String, Value>);

impl<'a> Claims<'a> {
    /// rule 5: exactly one of the issuers, if there is any.
    fn issuer(&self, issuers: &[&str]) -> Result<Option<String>, RejectionReason> {
        match self.text("iss") {
            None => Ok(None),
            Some(issuer) if issuers.contains(&issuer) => Ok(Some(issuer.to_owned())),
            Some(_) => Err(RejectionReason::WrongIssuer),
        }
    }

    /// rule 6: the configured audience that the token names, if it names any.
    fn audience(&self, configured: &[String]) -> Result<Option<String>, RejectionReason> {
        let named = match self.0.get("aud") {
            Some(one @ Value::String(_)) => std::slice::from_ref(one),
            Some(Value::Array(several)) => several.as_slice(),
            _ => return Ok(None),
        };
        let ours = configured.iter().find(|audience| named.iter().any(|name| name == audience.as_str()));
        ours.cloned().map(Some).ok_or(RejectionReason::WrongAudience)
    }

    /// rule 7: `exp`, `nbf` and `iat`, as far as they are there. An `nbf` or `iat` that is not a number could
    /// mean any time, also one to come.
    fn times(&self, now: Timestamp) -> Result<(), RejectionReason> {
        let now = now.as_duration().as_secs_f64();
        if self.number("exp").is_some_and(|end| now > end + SKEW_SECONDS) {
            return Err(RejectionReason::Expired);
        }
        let begun = |begin: &Value| begin.as_f64().is_some_and(|begin| begin <= now + SKEW_SECONDS);
        if ["nbf", "iat"].into_iter().filter_map(|name| self.0.get(name)).all(begun) {
            Ok(())
        } else {
            Err(RejectionReason::NotYetValid)
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }
}
