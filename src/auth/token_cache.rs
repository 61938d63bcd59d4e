//! The tokens of users: each token is verified once and then cached until it expires.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use jsonwebtoken::decode_header;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::caller::User;
use super::claims::ClaimRules;
use super::digest::Digest;
use super::error::Error;
use super::jwks::JwkSet;
use super::jwks_client::JwksClient;
use super::rate_limit::RateLimits;
use super::token::{Groups, Token, Watch};
use super::verification_budget::VerificationBudget;
use super::verifying_key::VerifyingKey;
use crate::config::{AuthConfig, Config, InvalidSetting};
use crate::memory_budget::MemoryBudget;
use crate::telemetry::Metrics;

/// The most memory of the cache, in bytes. Tokens without `watch` take about 560 bytes, so that 240,000 of them fit.
const MAX_CACHE_BYTES: u64 = 128 * 1_024 * 1_024;

/// The memory of a cached token and its allowance, in bytes, without ids. Measured roughly.
const TOKEN_BYTES: usize = 552;

/// The memory of an entry of `watch`, in bytes, without its id. Measured roughly.
const WATCHED_BYTES: usize = 48;

/// The most published keys that one token is verified with. A token with a key id needs one.
const MAX_KEYS_TRIED: usize = 4;

/// The number of tokens for which the cache allocates memory at the start. The cache grows.
const INITIAL_CAPACITY: usize = 1_000;

/// Verifies tokens and caches the verified ones.
pub(super) struct TokenCache {
    /// The keys from `PRESENCE_JWT_SECRET` and `PRESENCE_JWT_PUBLIC_KEY`.
    configured: Vec<Arc<VerifyingKey>>,
    /// The keys from `PRESENCE_JWKS_URL`.
    published: Option<Arc<JwkSet>>,
    users: Cache<Digest, Arc<User>, Weight>,
    budget: VerificationBudget,
    limits: RateLimits,
    metrics: Arc<Metrics>,
}

/// A token, and the key that verified it.
type Verified = (Token, Arc<VerifyingKey>);

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
        let of_groups = |groups: &Groups| match groups {
            Groups::All | Groups::Own => 0,
            Groups::These(groups) => groups
                .iter()
                .map(|id| WATCHED_BYTES + id.as_str().len())
                .sum::<usize>(),
        };
        let groups = of_groups(&user.token.groups) + of_groups(&user.token.join);
        (TOKEN_BYTES + user.token.user.as_str().len() + watched + groups) as u64
    }
}

impl TokenCache {
    /// Reads the configured keys. Returns `None` if tokens are not configured.
    pub(super) fn read(
        config: &Config,
        memory: MemoryBudget,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, InvalidSetting> {
        let user_connections = NonZeroU32::new(config.limits.user_connections);
        let auth = &config.auth;
        let rules = ClaimRules::new(auth);
        let configured = configured_keys(auth, &rules)?;
        let published = match &auth.jwks_url {
            Some(url) => {
                let client = JwksClient::new(url, auth.jwks_ca_file.as_deref())?;
                let set = JwkSet::new(client, rules, Arc::clone(metrics));
                Some(Arc::new(set))
            }
            None => None,
        };
        if configured.is_empty() && published.is_none() {
            return Ok(None);
        }
        let cache_bytes = MAX_CACHE_BYTES.min(memory.tokens() as u64);
        Ok(Some(Self {
            configured,
            published,
            users: Cache::with_weighter(INITIAL_CAPACITY, cache_bytes, Weight),
            budget: VerificationBudget::new(),
            limits: RateLimits::new(
                config.limits.rate_limit,
                user_connections.unwrap_or(NonZeroU32::MIN),
            ),
            metrics: Arc::clone(metrics),
        }))
    }

    /// The published keys, whose refresh the caller must run.
    pub(super) fn published(&self) -> Option<&Arc<JwkSet>> {
        self.published.as_ref()
    }

    /// Evicts the allowances of idle users. Never returns.
    pub(super) async fn evict_idle(&self) {
        self.limits.run_eviction().await;
    }

    /// The user of a cached token that is still valid.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<User>> {
        let user = self.users.get(digest)?;
        if !user.is_valid() {
            self.users.remove(digest);
            return None;
        }
        Some(user)
    }

    /// Verifies a token and caches it.
    pub(super) async fn verify(&self, token: &str, digest: Digest) -> Result<Arc<User>, Error> {
        let round = self.published.as_ref().map_or(0, |keys| keys.round());
        if self.budget.is_refused(&digest, round) {
            return Err(Error::INVALID);
        }
        let (verified, tried) = self.try_keys(token).await?;
        let Some((token, key)) = verified else {
            if tried > 0 {
                self.budget.remember_refusal(digest, round);
            }
            return Err(Error::INVALID);
        };
        let allowance = self.limits.allowance(&token.user);
        let user = Arc::new(User {
            token,
            key,
            allowance,
        });
        self.metrics.tokens_verified.inc();
        self.users.insert(digest, Arc::clone(&user));
        Ok(user)
    }

    /// Returns the token if one of the keys signed it, and the number of keys that were tried.
    ///
    /// The header of the token only selects among the known keys, each of which has one algorithm. `jku`, `jwk` and
    /// `x5c` are ignored; `kid` is compared with the ids of the published keys and never used as a file name.
    async fn try_keys(&self, token: &str) -> Result<(Option<Verified>, usize), Error> {
        let header = decode_header(token).map_err(|_| Error::INVALID)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: this service understands no extension.
            return Err(Error::BadCredential(
                "the token has a crit header with unsupported extensions",
            ));
        }
        let configured = self.configured.iter();
        let configured = configured.filter(|key| key.has_algorithm(header.alg));
        let configured: Vec<_> = configured.cloned().collect();
        if let Some(found) = self.verify_with_any(&configured, token).await? {
            return Ok((Some(found), configured.len()));
        }
        let Some(published) = &self.published else {
            return Ok((None, configured.len()));
        };
        let kid = header.kid.as_deref();
        let keys = published.keys_for(header.alg, kid).await?;
        if kid.is_none() && keys.len() > MAX_KEYS_TRIED {
            return Err(Error::BadCredential(
                "the token has no key id (kid), and too many keys are published to try them all",
            ));
        }
        let keys = &keys[..keys.len().min(MAX_KEYS_TRIED)];
        let found = self.verify_with_any(keys, token).await?;
        Ok((found, configured.len() + keys.len()))
    }

    /// Returns the token if one of `keys` signed it.
    async fn verify_with_any(
        &self,
        keys: &[Arc<VerifyingKey>],
        token: &str,
    ) -> Result<Option<Verified>, Error> {
        if keys.is_empty() {
            return Ok(None);
        }
        let permit = self.budget.acquire().await?;
        let began = Instant::now();
        let found = keys
            .iter()
            .find_map(|key| Some((key.verify(token)?, Arc::clone(key))));
        if !matches!(found, Some((Ok(_), _))) {
            permit.charge(began.elapsed());
        }
        found.map(|(token, key)| Ok((token?, key))).transpose()
    }
}

fn configured_keys(
    config: &AuthConfig,
    rules: &ClaimRules,
) -> Result<Vec<Arc<VerifyingKey>>, InvalidSetting> {
    let mut keys = Vec::new();
    if let Some(secret) = &config.jwt_secret {
        keys.push(Arc::new(VerifyingKey::from_secret(secret, rules)?));
    }
    if let Some(path) = &config.jwt_public_key {
        keys.push(Arc::new(VerifyingKey::from_file(path, rules)?));
    }
    Ok(keys)
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("configured", &self.configured.len())
            .field("published", &self.published)
            .field("cached", &self.users.len())
            .finish()
    }
}
