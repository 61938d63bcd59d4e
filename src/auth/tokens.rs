//! The tokens of users: verified once, then remembered until they expire.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::decode_header;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::access::Digest;
use super::checks::Checks;
use super::claims::Rules;
use super::jwks::Jwks;
use super::limits::Limits;
use super::verifying::{Refused, VerifyingKey};
use super::{Token, User, Watch};
use crate::config::{Config, InvalidSetting};
use crate::http::error::Error;
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

/// How much memory remembered tokens take at most, in bytes: about 240,000 plain ones.
const REMEMBERED_BYTES: u64 = 128 * 1_024 * 1_024;

/// What a remembered token and its allowance take beside the user's id and the list of whom it may watch, and
/// what each of those takes beside its id, in bytes, measured roughly.
const TOKEN_BYTES: usize = 552;
const WATCHED_BYTES: usize = 48;

/// The most published keys that one token is checked with. A token that names its key needs one.
const MOST_TRIED: usize = 4;

/// How many tokens the memory is laid out for at the start; it grows.
const REMEMBERED_AT_FIRST: usize = 1_000;

/// What is configured to verify tokens, and those that were verified.
pub(super) struct Tokens {
    /// The secret and the key of the PEM file.
    own: Vec<Arc<VerifyingKey>>,
    published: Option<Arc<Jwks>>,
    remembered: Cache<Digest, Arc<User>, Weight>,
    checks: Checks,
    limits: Limits,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Digest, Arc<User>> for Weight {
    fn weight(&self, _: &Digest, user: &Arc<User>) -> u64 {
        let watched: usize = match &user.token.watch {
            Watch::Everyone => 0,
            Watch::Users(users) => users
                .iter()
                .map(|id| WATCHED_BYTES + id.as_str().len())
                .sum(),
        };
        (TOKEN_BYTES + user.token.user.as_str().len() + watched) as u64
    }
}

impl Tokens {
    /// Reads the keys; none where no kind of token is configured.
    pub(super) fn read(
        config: &Config,
        memory: MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, InvalidSetting> {
        let user_connections = NonZeroU32::new(config.user_connections);
        let config = &config.access;
        let rules = Rules::new(config);
        let mut own = Vec::new();
        if let Some(secret) = &config.jwt_secret {
            own.push(Arc::new(VerifyingKey::from_secret(secret, &rules)?));
        }
        if let Some(path) = &config.jwt_public_key {
            own.push(Arc::new(VerifyingKey::from_file(path, &rules)?));
        }
        let published = match &config.jwks_url {
            Some(url) => {
                let authorities = config.jwks_ca_file.as_deref();
                let jwks = Jwks::new(url, authorities, rules, Arc::clone(metrics))?;
                Some(Arc::new(jwks))
            }
            None => None,
        };
        if own.is_empty() && published.is_none() {
            return Ok(None);
        }
        let remembered_bytes = REMEMBERED_BYTES.min(memory.tokens() as u64);
        Ok(Some(Self {
            own,
            published,
            remembered: Cache::with_weighter(REMEMBERED_AT_FIRST, remembered_bytes, Weight),
            checks: Checks::new(),
            limits: Limits::new(
                config.rate_limit,
                user_connections.unwrap_or(NonZeroU32::MIN),
            ),
            metrics: Arc::clone(metrics),
        }))
    }

    /// The published keys, which somebody has to keep fresh.
    pub(super) fn published(&self) -> Option<&Arc<Jwks>> {
        self.published.as_ref()
    }

    /// Forgets allowances that nobody uses, for as long as the service runs.
    pub(super) async fn forget_the_idle(&self) {
        self.limits.forget_the_whole().await;
    }

    /// Whom a token speaks for that was verified before and still counts.
    pub(super) fn remembered(&self, digest: &Digest) -> Option<Arc<User>> {
        let user = self.remembered.get(digest)?;
        if !user.token.counts() {
            self.remembered.remove(digest);
            return None;
        }
        Some(user)
    }

    /// Verifies a token and remembers it.
    pub(super) async fn verify(&self, token: &str, digest: Digest) -> Result<Arc<User>, Error> {
        let keys = self.published.as_ref().map_or(0, |keys| keys.round());
        if self.checks.is_refused(&digest, keys) {
            return Err(Refused::SIGNATURE)?;
        }
        let (token, tried) = self.verified(token).await?;
        let Some(token) = token else {
            if tried > 0 {
                self.checks.refuse(digest, keys);
            }
            return Err(Refused::SIGNATURE)?;
        };
        let allowance = self.limits.of(&token.user);
        let user = Arc::new(User { token, allowance });
        self.metrics.tokens_verified.inc();
        self.remembered.insert(digest, Arc::clone(&user));
        Ok(user)
    }

    /// What the token says, if one of our keys signed it, and how many keys were tried.
    ///
    /// The header is read to choose among our keys, each of which has one algorithm. Nothing else
    /// in it is heeded: no `jku`, no `jwk`, no `x5c`; `kid` is compared and never a name of a file.
    async fn verified(&self, token: &str) -> Result<(Option<Token>, usize), Error> {
        let header = decode_header(token).map_err(|_| Refused::SIGNATURE)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: we understand no extension.
            return Err(Refused(
                "the token has a crit header, of which nothing is understood",
            ))?;
        }
        let own = self.own.iter().filter(|key| key.is_for(header.alg));
        let own: Vec<_> = own.cloned().collect();
        if let Some(found) = self.first_that_fits(&own, token).await? {
            return Ok((Some(found), own.len()));
        }
        let Some(published) = &self.published else {
            return Ok((None, own.len()));
        };
        let kid = header.kid.as_deref();
        let keys = published.keys_for(header.alg, kid).await?;
        if kid.is_none() && keys.len() > MOST_TRIED {
            return Err(Refused(
                "the token names no key (kid), and more keys are published than are tried",
            ))?;
        }
        let keys = &keys[..keys.len().min(MOST_TRIED)];
        let found = self.first_that_fits(keys, token).await?;
        Ok((found, own.len() + keys.len()))
    }

    /// What the token says, if one of `keys` signed it.
    async fn first_that_fits(
        &self,
        keys: &[Arc<VerifyingKey>],
        token: &str,
    ) -> Result<Option<Token>, Error> {
        if keys.is_empty() {
            return Ok(None);
        }
        let turn = self.checks.turn().await?;
        let began = Instant::now();
        let found = keys.iter().find_map(|key| match key.verify(token) {
            Err(Refused::SIGNATURE) => None,
            verified => Some(verified),
        });
        if !matches!(found, Some(Ok(_))) {
            turn.charge(began.elapsed());
        }
        Ok(found.transpose()?)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("own", &self.own.len())
            .field("published", &self.published)
            .field("remembered", &self.remembered.len())
            .finish()
    }
}
