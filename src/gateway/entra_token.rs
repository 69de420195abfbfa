//! Entra's tokens for the application itself: client credentials ("The OAuth 2.0 client credentials flow on the Microsoft
//! identity platform"), with a secret or a certificate, cached until shortly before their end, one request at a time for each tenant.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{
    auth::{CertificateError, ClientCertificate},
    net::{FetchError, HttpClient, Method, Request, Secret},
};

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;
/// The kind of proof that a signed JWT is (RFC 7523, §2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Gets tokens for one application. Cheap to clone; the clones share their tokens.
#[derive(Clone)]
pub struct EntraTokens {
    /// Where tokens are issued: `https://login.microsoftonline.com`.
    authority: Url,
    /// The tenant of calls of which none is known.
    tenant: String,
    client_id: String,
    proof: Proof,
    /// What they are for: `https://graph.microsoft.com/.default`.
    scope: String,
    client: HttpClient,
    tenants: Arc<Mutex<BTreeMap<String, Arc<Held>>>>,
}

/// What proves who the application is.
#[derive(Clone)]
pub enum Proof {
    /// Its secret.
    Secret(Secret),
    /// Its certificate.
    Certificate(Arc<ClientCertificate>),
}

/// The token of a tenant; whoever asks for it holds the lock.
type Held = Mutex<Tenant>;

#[derive(Default)]
struct Tenant {
    token: Option<Token>,
    /// When it was last asked for in vain, and why there is none.
    refused: Option<(Instant, Arc<NoToken>)>,
}

struct Token {
    authorization: Secret,
    good_until: Timestamp,
}

/// Why there is no token. Says nothing of what is secret.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// Where they are issued cannot be reached.
    #[error("the token could not be asked for: {0}")]
    Fetch(FetchError),
    /// Nothing could be signed to ask with.
    #[error(transparent)]
    Certificate(CertificateError),
    /// It says no.
    #[error("no token was given ({status} {error})")]
    Refused {
        /// The status.
        status: u16,
        /// The word for it, `invalid_client` for one.
        error: String,
    },
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: u64,
}

#[derive(Default, Deserialize)]
struct Error {
    #[serde(default)]
    error: String,
}

impl EntraTokens {
    /// Tokens of this application, for this scope.
    #[must_use]
    pub fn new(authority: Url, (tenant, client_id): (String, String), proof: Proof, scope: String, client: HttpClient) -> Self {
        Self { authority, tenant, client_id, proof, scope, client, tenants: Arc::default() }
    }

    /// The value of `Authorization` for a request about what is of this tenant: Graph refuses tokens of another than the call's (7505).
    ///
    /// Who waits while somebody else asks gets that answer, also if it is none: nobody waits for more than two.
    pub(super) async fn authorization(&self, tenant: Option<&str>, now: Timestamp) -> Result<Secret, Arc<NoToken>> {
        let waiting_since = Instant::now();
        let tenant = tenant.unwrap_or(&self.tenant);
        let of_tenant = Arc::clone(self.tenants.lock().await.entry(tenant.to_owned()).or_default());
        let mut held = of_tenant.lock().await;
        if let Some(token) = held.token.as_ref().filter(|token| now < token.good_until) {
            return Ok(token.authorization.clone());
        }
        if let Some((_, why)) = held.refused.as_ref().filter(|(at, _)| *at > waiting_since) {
            return Err(Arc::clone(why));
        }
        let Given { access_token, expires_in } = match self.ask(tenant, now).await {
            Ok(given) => given,
            Err(why) => {
                let why = Arc::new(why);
                held.refused = Some((Instant::now(), Arc::clone(&why)));
                return Err(why);
            }
        };
        let good_for = Duration::from_secs(expires_in).saturating_sub(MARGIN);
        let token = Token {
            authorization: Secret::new(format!("Bearer {access_token}")),
            good_until: now.checked_add(good_for).unwrap_or(now),
        };
        Ok(held.token.insert(token).authorization.clone())
    }

    async fn ask(&self, tenant: &str, now: Timestamp) -> Result<Given, NoToken> {
        let mut url = self.authority.clone();
        url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope);
        match &self.proof {
            Proof::Secret(secret) => form.append_pair("client_secret", secret.expose()),
            Proof::Certificate(certificate) => {
                let assertion = certificate.assertion(&self.client_id, url.as_str(), now).map_err(NoToken::Certificate)?;
                form.append_pair("client_assertion_type", ASSERTION).append_pair("client_assertion", assertion.expose())
            }
        };
        let form = form.finish();
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
        let request = Request {
            method: Method::Post,
            url: &url,
            headers: &headers,
            body: form.into_bytes(),
            timeout: TIMEOUT,
            max_bytes: MAX_ANSWER,
        };
        let answer = self.client.request(request).await.map_err(NoToken::Fetch)?;
        let refused = |error: String| NoToken::Refused { status: answer.status, error };
        if answer.status != 200 {
            let told: Error = serde_json::from_slice(&answer.body).unwrap_or_default();
            return Err(refused(crate::domain::text::tame(&told.error)));
        }
        serde_json::from_slice(&answer.body).map_err(|_error| refused("an answer without a token".to_owned()))
    }
}

impl fmt::Debug for EntraTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntraTokens").field("authority", &self.authority.as_str()).finish_non_exhaustive()
    }
}
