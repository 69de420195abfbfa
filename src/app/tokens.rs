//! The tokens that open the private API.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::{Config, Scope, Token},
    http::api::{PrivateToken, Tokens},
};

/// The tokens of a running service that are good.
#[derive(Clone, Debug)]
pub struct GoodTokens(Arc<watch::Sender<Arc<Vec<PrivateToken>>>>);

impl GoodTokens {
    /// Those of this configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self(Arc::new(watch::Sender::new(private_tokens(config))))
    }

    /// Hears of changes.
    pub(super) fn subscribe(&self) -> Tokens {
        self.0.subscribe()
    }

    /// From now on those of this configuration: a stream that another token had opened ends. `false`: nothing was changed, because
    /// a listener that asks for tokens does not stop asking.
    #[must_use]
    pub fn replace(&self, config: &Config) -> bool {
        let tokens = private_tokens(config);
        let closed = !tokens.is_empty() || self.0.borrow().is_empty();
        if closed {
            self.0.send_replace(tokens);
        }
        closed
    }
}

fn private_tokens(config: &Config) -> Arc<Vec<PrivateToken>> {
    let token = |token: &Token| PrivateToken {
        name: token.name.clone(),
        sha256: token.sha256.as_bytes().to_vec(),
        secrets: token.scopes.contains(&Scope::Secrets),
        write: token.scopes.contains(&Scope::Write),
    };
    Arc::new(config.private.tokens.iter().map(token).collect())
}
