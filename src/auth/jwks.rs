//! The JWK set that an identity provider publishes.
//!
//! One task fetches the set: at the start, every five minutes, and when a token names an unknown key. The last good
//! set stays in force while fetches fail.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::claims::ClaimRules;
use super::error::Error;
use super::jwks_client::JwksClient;
use super::verifying_key::VerifyingKey;
use crate::telemetry::Metrics;

/// The most keys that are used of a set.
const MAX_KEYS: usize = 64;

/// The time between two fetches that no token asks for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// The shortest pause after a fetch. The pause doubles while fetches fail, and while tokens with unknown key ids cause
/// fetches that change nothing.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a fetch.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The longest time that a call waits for a fetch. Every call is answered within two seconds.
const MAX_WAIT: Duration = Duration::from_millis(1_800);

/// The keys in force, and the client that fetches them.
pub(super) struct JwkSet {
    client: JwksClient,
    rules: ClaimRules,
    keys: watch::Sender<KeySet>,
    /// Asks for a fetch.
    fetch_wanted: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct KeySet {
    /// The number of fetches so far.
    round: u64,
    keys: Vec<Arc<VerifyingKey>>,
    /// The earliest time of the next fetch.
    next_fetch_at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum FetchOutcome {
    Changed,
    Unchanged,
    Failed,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl JwkSet {
    /// An empty set, which `client` fetches once [`JwkSet::run_refresh`] runs.
    pub(super) fn new(client: JwksClient, rules: ClaimRules, metrics: Arc<Metrics>) -> Self {
        let keys = KeySet {
            round: 0,
            keys: Vec::new(),
            next_fetch_at: Instant::now(),
        };
        Self {
            client,
            rules,
            keys: watch::Sender::new(keys),
            fetch_wanted: Notify::new(),
            metrics,
        }
    }

    /// The number of fetches so far. The keys do not change while the number stays the same.
    pub(super) fn round(&self) -> u64 {
        self.keys.borrow().round
    }

    /// The keys that may have signed a token with this algorithm and key id. If there are none, the call asks for a
    /// fetch and waits for it, unless the next fetch is too far away.
    ///
    /// Fails if no set has been fetched yet.
    pub(super) async fn keys_for(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Vec<Arc<VerifyingKey>>, Error> {
        let mut sets = self.keys.subscribe();
        let (round, found, next_fetch_at) = {
            let set = sets.borrow_and_update();
            (set.round, set.matching(algorithm, kid), set.next_fetch_at)
        };
        if !found.is_empty() {
            return Ok(found);
        }
        self.fetch_wanted.notify_one();
        let give_up = Instant::now() + MAX_WAIT;
        if next_fetch_at < give_up {
            let newer = sets.wait_for(|set| set.round > round);
            // After a time-out the keys in force decide.
            let _ = timeout_at(give_up, newer).await;
        }
        let set = self.keys.borrow();
        if set.keys.is_empty() {
            return Err(Error::KeysUnreachable);
        }
        Ok(set.matching(algorithm, kid))
    }

    /// Fetches the set whenever a fetch is due, and calls `on_change` after each change of the keys. Never returns.
    pub(super) async fn run_refresh(&self, on_change: impl Fn()) {
        let mut pause = MIN_PAUSE;
        let mut is_on_demand = false;
        loop {
            let outcome = self.refresh().await;
            pause = match outcome {
                FetchOutcome::Failed => (pause * 2).min(MAX_PAUSE),
                FetchOutcome::Unchanged if is_on_demand => (pause * 2).min(MAX_PAUSE),
                FetchOutcome::Unchanged | FetchOutcome::Changed => MIN_PAUSE,
            };
            if outcome == FetchOutcome::Changed {
                on_change();
            }
            self.keys.send_modify(|set| {
                set.round += 1;
                set.next_fetch_at = Instant::now() + pause;
            });
            sleep(pause).await;
            if outcome != FetchOutcome::Failed {
                let wanted = timeout(REFRESH_INTERVAL, self.fetch_wanted.notified()).await;
                is_on_demand = wanted.is_ok();
            }
        }
    }

    async fn refresh(&self) -> FetchOutcome {
        let body = self.client.fetch().await;
        match body.and_then(|body| parse(&body, &self.rules)) {
            Ok(keys) => {
                self.metrics.jwks_fetched("ok");
                self.replace(keys)
            }
            Err(why) => {
                self.metrics.jwks_fetched("failed");
                warn!(%why, "cannot fetch the JWK set; the last good set stays in force");
                FetchOutcome::Failed
            }
        }
    }

    /// Puts a set into force. A key that is in both sets keeps its identity, so that the tokens that it verified stay
    /// valid. The other keys of the old set are retired.
    fn replace(&self, keys: Vec<VerifyingKey>) -> FetchOutcome {
        let old = self.keys.borrow().keys.clone();
        let known = |key: &VerifyingKey| old.iter().find(|old| old.identity == key.identity);
        let new: Vec<_> = keys
            .into_iter()
            .map(|key| known(&key).cloned().unwrap_or_else(|| Arc::new(key)))
            .collect();
        let is_gone = |key: &&Arc<VerifyingKey>| !new.iter().any(|new| Arc::ptr_eq(new, key));
        let gone: Vec<_> = old.iter().filter(is_gone).collect();
        gone.iter().for_each(|key| key.retire());
        if gone.is_empty() && new.len() == old.len() {
            return FetchOutcome::Unchanged;
        }
        info!(keys = new.len(), "a new JWK set is in force");
        self.keys.send_modify(|set| set.keys = new);
        FetchOutcome::Changed
    }
}

impl KeySet {
    /// The keys with this algorithm and key id. Without a key id, every key with the algorithm matches.
    fn matching(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<Arc<VerifyingKey>> {
        let has_kid = |key: &Arc<VerifyingKey>| kid.is_none() || key.kid.as_deref() == kid;
        let keys = self.keys.iter();
        let keys = keys.filter(|key| key.has_algorithm(algorithm) && has_kid(key));
        keys.cloned().collect()
    }
}

/// The usable keys of a JWK set. Fails if there are none.
fn parse(body: &[u8], rules: &ClaimRules) -> Result<Vec<VerifyingKey>, String> {
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "the response is not a JWK set".to_owned())?;
    let keys = document.keys.iter().take(MAX_KEYS);
    let keys = keys.filter_map(|jwk| VerifyingKey::from_jwk(jwk, rules));
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() {
        return Err("the JWK set has no usable key".to_owned());
    }
    Ok(keys)
}

impl fmt::Debug for JwkSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwkSet")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthConfig;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde_json::{Value, json};

    /// An Ed25519 key. Any 32 bytes are valid.
    fn usable_key(kid: usize) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid.to_string(), "x": "A".repeat(43)})
    }

    fn rules() -> ClaimRules {
        ClaimRules::new(&AuthConfig::default())
    }

    proptest! {
        #[test]
        fn unknown_entries_do_not_hide_the_usable_keys_of_a_set(
            others in vec(select(vec![json!(null), json!("x"), json!({}), json!({"kty": "oct", "k": "AAAA"})]), 0..4),
            places in vec(any::<Index>(), 0..4),
            more in "[a-z]{2,5}",
        ) {
            let count = places.len();
            let mut keys = others;
            for (kid, place) in places.iter().enumerate() {
                keys.insert(place.index(keys.len() + 1), usable_key(kid));
            }
            let document = json!({"keys": keys, more: keys}).to_string();
            let parsed = parse(document.as_bytes(), &rules());
            prop_assert_eq!(parsed.map_or(0, |keys| keys.len()), count);
        }

        /// Some changes leave valid JSON with a usable key.
        #[test]
        fn a_damaged_set_is_refused(at: Index, with in vec(any::<u8>(), 0..4), cut: bool) {
            let mut document = json!({"keys": [usable_key(1)]}).to_string().into_bytes();
            let at = at.index(document.len());
            if cut {
                document.truncate(at);
            }
            document.splice(at..(at + with.len()).min(document.len()), with);
            let value = serde_json::from_slice::<Value>(&document).unwrap_or_default();
            let parsed = parse(&document, &rules());
            prop_assert!(parsed.is_err() || value["keys"][0]["kty"] == "OKP");
        }
    }
}
