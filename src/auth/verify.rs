//! What a token must say, once its signature is known to be good.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::domain::{
    ids::PlatformId,
    rejection::RejectionReason,
    trust::{SharedSecret, TrustPolicy},
};

/// How far the platforms' clocks and ours may differ, in seconds.
const SKEW_SECONDS: f64 = 300.0;

/// What we believe of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Believed {
    pub issuer: String,
    pub audience: String,
    pub tenant: Option<PlatformId>,
    pub expires_at: Timestamp,
}

/// What a receiver demands of claims; rule 11: of all others, nothing.
#[derive(Debug)]
pub(super) struct Demands {
    audiences: Vec<String>,
    tenant_required: bool,
    tenants: Vec<PlatformId>,
    publishers: Vec<PlatformId>,
    secret: Option<SharedSecret>,
}

impl Demands {
    pub fn of(policy: &TrustPolicy) -> Self {
        Self {
            audiences: policy.audiences.clone(),
            tenant_required: policy.tenant_required || !policy.tenants.is_empty(),
            tenants: ids(&policy.tenants),
            publishers: ids(&policy.publishers),
            secret: policy.secret.clone(),
        }
    }

    /// Whether a token is demanded.
    pub const fn token(&self) -> bool {
        !self.audiences.is_empty()
    }

    /// rule 10: the secret in the query, if one is demanded.
    pub fn check_secret(&self, sent: Option<&str>) -> Result<(), RejectionReason> {
        match &self.secret {
            Some(secret) if !sent.is_some_and(|sent| secret.is(sent)) => Err(RejectionReason::WrongSecret),
            _ => Ok(()),
        }
    }

    /// Believes a token's claims or says the first thing that is wrong, in the order of [`RejectionReason`]: an
    /// absent claim is looked for only after those that are there. A claim of the wrong type counts as absent.
    ///
    /// `issuers` are those for which the key that signed speaks, `secret` is what the query brought.
    pub fn check(
        &self,
        claims: &Claims<'_>,
        issuers: &[&str],
        secret: Option<&str>,
        now: Timestamp,
    ) -> Result<Believed, RejectionReason> {
        let issuer = claims.issuer(issuers)?;
        let audience = claims.audience(&self.audiences)?;
        claims.times(now)?;
        let tenant = claims.text("tid").and_then(PlatformId::parse);
        let (Some(issuer), Some(audience), Some(exp)) = (issuer, audience, claims.number("exp")) else {
            return Err(RejectionReason::MissingClaim); // rules 5, 6, 7
        };
        if tenant.is_none() && self.tenant_required {
            return Err(RejectionReason::MissingClaim); // rule 8: required
        }
        self.check_publisher(claims)?;
        self.check_secret(secret)?;
        if !self.tenants.is_empty() && !tenant.as_ref().is_some_and(|tenant| self.tenants.contains(tenant)) {
            return Err(RejectionReason::TenantNotAllowed); // rule 8: the list
        }
        let expires_at = SignedDuration::try_from_secs_f64(exp).ok().and_then(|exp| Timestamp::from_duration(exp).ok());
        Ok(Believed { issuer, audience, tenant, expires_at: expires_at.unwrap_or(now) })
    }

    /// rule 9: the application that asked for the token: `azp` in tokens of Entra's second version, `appid` in those of the first.
    fn check_publisher(&self, claims: &Claims<'_>) -> Result<(), RejectionReason> {
        if self.publishers.is_empty() {
            return Ok(());
        }
        let publisher = ["azp", "appid"].into_iter().find_map(|name| claims.text(name)).and_then(PlatformId::parse);
        match publisher {
            None => Err(RejectionReason::MissingClaim),
            Some(publisher) if self.publishers.contains(&publisher) => Ok(()),
            Some(_) => Err(RejectionReason::WrongPublisher),
        }
    }
}

fn ids(texts: &[String]) -> Vec<PlatformId> {
    texts.iter().filter_map(|text| PlatformId::parse(text)).collect()
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
