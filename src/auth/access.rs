//! The door: from what is configured and what a request brings to a [`Caller`].

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest as sha};
use tracing::warn;

use super::keys::ApiKeys;
use super::limits::Counted;
use super::tokens::Tokens;
use super::verifying::Refused;
use super::{Caller, User};
use crate::config::{Config, InvalidSetting};
use crate::http::error::Error;
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

/// The longest credential that is looked at, in bytes. Identity providers stay far below.
const MAX_CREDENTIAL: usize = 8 * 1_024;

/// SHA-256 of a credential: what is kept and compared in its place.
pub(super) type Digest = [u8; 32];

/// Who may come in.
#[derive(Debug)]
pub(crate) struct Access {
    closed: bool,
    keys: ApiKeys,
    tokens: Option<Tokens>,
    metrics: Arc<Metrics>,
}

impl Access {
    /// Reads what is configured. Refuses to leave the door open on an address that others can
    /// reach, unless that is asked for.
    pub(crate) fn new(
        config: &Config,
        memory: MemoryBudget,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidSetting> {
        let access = &config.access;
        let closed = access.asks_for_credentials();
        let address = config.listen_address();
        if !closed && !access.allow_anonymous && !address.ip().to_canonical().is_loopback() {
            let why = format!(
                "others can reach {address}, and anyone who does may do everything: set \
                 PRESENCE_JWT_SECRET, PRESENCE_JWT_PUBLIC_KEY, PRESENCE_JWKS_URL or \
                 PRESENCE_API_KEYS, or PRESENCE_ALLOW_ANONYMOUS=true if that is meant"
            );
            let variable = match config.listen {
                Some(_) => "PRESENCE_LISTEN",
                None => "PORT",
            };
            return Err(InvalidSetting::new(variable, why));
        }
        access.check_together()?;
        if !closed {
            warn_of_the_open_door(access.is_open_mode());
        }
        Ok(Self {
            closed,
            keys: ApiKeys::read(access.api_keys.as_ref())?,
            tokens: Tokens::read(config, memory, &metrics)?,
            metrics,
        })
    }

    /// Whether calls have to bring a credential.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whose credential this is. The calls of a user are counted here, and refused once too many.
    pub(crate) async fn caller(
        &self,
        credential: Option<&str>,
        counted: Counted,
    ) -> Result<Caller, Error> {
        let found = match credential {
            Some(credential) => self.find(credential).await,
            None => Err(Error::NoCredential),
        };
        if let Err(Error::NoCredential | Error::BadCredential(_) | Error::TokenExpired) = &found {
            self.metrics.credentials_refused.inc();
        }
        let caller = found?;
        if let Caller::User(user) = &caller {
            user.allowance.take(counted).map_err(|wait| {
                self.metrics.calls_limited.inc();
                Error::TooManyCalls(wait)
            })?;
        }
        Ok(caller)
    }

    async fn find(&self, credential: &str) -> Result<Caller, Error> {
        if credential.len() > MAX_CREDENTIAL {
            Err(Refused("the credential is longer than 8192 bytes"))?;
        }
        let digest = digest(credential);
        if let Some(key) = self.keys.find(&digest) {
            return Ok(Caller::Server(Arc::clone(key)));
        }
        let Some(tokens) = &self.tokens else {
            Err(Refused::SIGNATURE)?
        };
        let user: Arc<User> = match tokens.remembered(&digest) {
            Some(user) => user,
            // In a box, so that the future of a call whose token is known stays small.
            None => Box::pin(tokens.verify(credential, digest)).await?,
        };
        Ok(Caller::User(user))
    }

    /// Forgets allowances that nobody uses, for as long as the service runs.
    pub(crate) async fn forget_the_idle(&self) {
        match &self.tokens {
            Some(tokens) => tokens.forget_the_idle().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps the published keys fresh, for as long as the service runs. Calls `on_withdrawal` whenever keys were
    /// withdrawn.
    pub(crate) async fn keep_keys_fresh(&self, on_withdrawal: impl Fn()) {
        match self.tokens.as_ref().and_then(Tokens::published) {
            Some(published) => published.keep_fresh(on_withdrawal).await,
            None => std::future::pending().await,
        }
    }
}

fn warn_of_the_open_door(local_only: bool) {
    match local_only {
        true => warn!(
            "open mode: no credential is configured, so everyone on this machine may do everything; requests \
             through proxies and of web pages of other origins are refused"
        ),
        false => warn!(
            "no credential is configured and PRESENCE_ALLOW_ANONYMOUS is true: everyone who reaches the service \
             may do everything"
        ),
    }
}

/// The digest of a credential.
pub(super) fn digest(credential: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(sha(&SHA256, credential.as_bytes()).as_ref());
    bytes
}
