//! Finds the caller of a request.

use std::sync::Arc;

use tracing::warn;

use super::api_keys::ApiKeys;
use super::caller::{Caller, User};
use super::digest::digest;
use super::error::Error;
use super::rate_limit::CallKind;
use super::token_cache::TokenCache;
use crate::config::{Config, InvalidSetting};
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

/// The longest accepted credential, in bytes. The tokens of identity providers are far shorter.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1_024;

/// Authenticates requests by the configured credentials.
#[derive(Debug)]
pub(crate) struct Authenticator {
    requires_credential: bool,
    keys: ApiKeys,
    tokens: Option<TokenCache>,
    metrics: Arc<Metrics>,
}

impl Authenticator {
    /// Reads the configured credentials.
    ///
    /// Fails if a credential is malformed, and if no credentials are configured while other machines can reach the
    /// service and `PRESENCE_ALLOW_ANONYMOUS` is not set.
    pub(crate) fn new(
        config: &Config,
        memory: MemoryBudget,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidSetting> {
        let auth = &config.auth;
        let requires_credential = auth.has_credentials();
        if !requires_credential && !config.is_local() && !auth.allow_anonymous {
            return Err(unprotected(config));
        }
        auth.check_dependent_settings()?;
        if !requires_credential {
            warn_of_anonymous_access(auth.is_open_mode());
        }
        Ok(Self {
            requires_credential,
            keys: ApiKeys::parse(auth.api_keys.as_ref())?,
            tokens: TokenCache::read(config, memory, &metrics)?,
            metrics,
        })
    }

    /// Whether every call requires a credential.
    pub(crate) fn requires_credential(&self) -> bool {
        self.requires_credential
    }

    /// Returns the caller that `credential` belongs to. The call is not counted yet.
    pub(crate) async fn caller(&self, credential: Option<&str>) -> Result<Caller, Error> {
        let found = match credential {
            Some(credential) => self.find(credential).await,
            None => Err(Error::NoCredential),
        };
        if let Err(Error::NoCredential | Error::BadCredential(_) | Error::TokenExpired) = &found {
            self.metrics.credentials_refused.inc();
        }
        found
    }

    /// Counts a call against the rate limit of a user. Fails if the quota is used up.
    pub(crate) fn count(&self, caller: &Caller, kind: CallKind) -> Result<(), Error> {
        let Caller::User(user) = caller else {
            return Ok(());
        };
        user.allowance.take(kind).map_err(|wait| {
            self.metrics.calls_limited.inc();
            Error::RateLimited(wait)
        })
    }

    async fn find(&self, credential: &str) -> Result<Caller, Error> {
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Err(Error::BadCredential(
                "the credential is longer than 8192 bytes",
            ));
        }
        let digest = digest(credential);
        if let Some(key) = self.keys.find(&digest) {
            return Ok(Caller::Server(Arc::clone(key)));
        }
        let Some(tokens) = &self.tokens else {
            return Err(Error::INVALID);
        };
        let user: Arc<User> = match tokens.get(&digest) {
            Some(user) => user,
            // The box keeps the future of a call with a cached token small.
            None => Box::pin(tokens.verify(credential, digest)).await?,
        };
        Ok(Caller::User(user))
    }

    /// Evicts the allowances of idle users. Never returns.
    pub(crate) async fn evict_idle(&self) {
        match &self.tokens {
            Some(tokens) => tokens.evict_idle().await,
            None => std::future::pending().await,
        }
    }

    /// Refreshes the JWK set and calls `on_change` after each change of the set. Never returns.
    pub(crate) async fn refresh_keys(&self, on_change: impl Fn()) {
        match self.tokens.as_ref().and_then(TokenCache::published) {
            Some(published) => published.run_refresh(on_change).await,
            None => std::future::pending().await,
        }
    }
}

fn unprotected(config: &Config) -> InvalidSetting {
    let (variable, reached) = if config.lambda.is_enabled() {
        ("AWS_LAMBDA_RUNTIME_API", "a function".to_owned())
    } else {
        let variable = match config.listen.listen {
            Some(_) => "PRESENCE_LISTEN",
            None => "PORT",
        };
        (variable, config.listen.address().to_string())
    };
    let why = format!(
        "other machines can reach {reached}, and no credentials are configured: set PRESENCE_JWT_SECRET, \
         PRESENCE_JWT_PUBLIC_KEY, PRESENCE_JWKS_URL or PRESENCE_API_KEYS; or set PRESENCE_ALLOW_ANONYMOUS=true to \
         give every caller full access"
    );
    InvalidSetting::new(variable, why)
}

fn warn_of_anonymous_access(is_open_mode: bool) {
    if is_open_mode {
        warn!(
            "open mode: no credential is configured; every caller on this machine has full access; requests \
             through proxies and from web pages of other origins are refused"
        );
    } else {
        warn!(
            "no credential is configured and PRESENCE_ALLOW_ANONYMOUS is true: every caller that reaches the \
             service has full access"
        );
    }
}
