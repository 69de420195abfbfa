//! Graph's tokens for the application itself: client credentials ("The OAuth 2.0 client credentials flow on the Microsoft
//! identity platform"), cached until shortly before their end, one request at a time for each tenant.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::net::{FetchError, HttpClient, Method, Request, Secret};

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_mins(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;

/// Gets tokens for one application. Cheap to clone; the clones share their tokens.
#[derive(Clone)]
pub struct GraphTokens {
    /// Where tokens are issued: `https://login.microsoftonline.com`.
    authority: Url,
    /// The tenant of calls of which none is known.
    tenant: String,
    client_id: String,
    secret: Secret,
    /// What they are for: `https://graph.microsoft.com/.default`.
    scope: String,
    client: HttpClient,
    tenants: Arc<Mutex<BTreeMap<String, Arc<Held>>>>,
}

/// The token of a tenant; whoever asks for it holds the lock.
type Held = Mutex<Option<Token>>;

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

impl GraphTokens {
    /// Tokens of this application for what is at `upstream`.
    #[must_use]
    pub fn new(authority: Url, tenant: String, client_id: String, secret: Secret, upstream: &Url, client: HttpClient) -> Self {
        let scope = format!("{}/.default", upstream.origin().ascii_serialization());
        Self { authority, tenant, client_id, secret, scope, client, tenants: Arc::default() }
    }

    /// The value of `Authorization` for a request about a call of this tenant: Graph refuses tokens of another (7505).
    pub(super) async fn authorization(&self, tenant: Option<&str>, now: Timestamp) -> Result<Secret, NoToken> {
        let tenant = tenant.unwrap_or(&self.tenant);
        let of_tenant = Arc::clone(self.tenants.lock().await.entry(tenant.to_owned()).or_default());
        let mut held = of_tenant.lock().await;
        if let Some(token) = held.as_ref().filter(|token| now < token.good_until) {
            return Ok(token.authorization.clone());
        }
        let Given { access_token, expires_in } = self.ask(tenant).await?;
        let good_for = Duration::from_secs(expires_in).saturating_sub(MARGIN);
        let token = Token {
            authorization: Secret::new(format!("Bearer {access_token}")),
            good_until: now.checked_add(good_for).unwrap_or(now),
        };
        Ok(held.insert(token).authorization.clone())
    }

    async fn ask(&self, tenant: &str) -> Result<Given, NoToken> {
        let mut url = self.authority.clone();
        url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.secret.expose())
            .append_pair("scope", &self.scope)
            .finish();
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

impl fmt::Debug for GraphTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphTokens").field("authority", &self.authority.as_str()).finish_non_exhaustive()
    }
}
