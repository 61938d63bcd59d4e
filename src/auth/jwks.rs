//! Keys that an identity provider publishes as a JWK set, fetched by one task and no more often
//! than it is good for: the last good set stays in force whatever the provider does.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::claims::Rules;
use super::trust::connector;
use super::verifying::VerifyingKey;
use crate::config::{InvalidSetting, Secret};
use crate::http::error::Error;
use crate::telemetry::Metrics;

/// How long an answer may take in all, and how large it may be in bytes: a set has a few keys of
/// less than 4 KiB each.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1_024;

/// The most keys that are kept of a set.
const MAX_KEYS: usize = 64;

/// How often the set is fetched when nobody asks for more.
const REFRESH_EVERY: Duration = Duration::from_secs(300);

/// The pause after a fetch. It doubles up to the longest while fetches fail, or are asked for by
/// tokens with made-up key ids and bring nothing new.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a call may wait for a fetch, so that it is answered within two seconds.
const PATIENCE: Duration = Duration::from_millis(1_800);

/// The published keys.
pub(super) struct Jwks {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    rules: Rules,
    set: watch::Sender<KeySet>,
    wanted: Notify,
    metrics: Arc<Metrics>,
}

/// What the last fetches brought.
#[derive(Clone)]
struct KeySet {
    /// Counts the fetches.
    round: u64,
    keys: Vec<Arc<VerifyingKey>>,
    /// Before this there will be no further fetch.
    rests_until: Instant,
}

/// What became of a fetch.
#[derive(Debug, PartialEq, Eq)]
enum Fetched {
    Changed,
    Unchanged,
    Failed,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl Jwks {
    pub(super) fn new(
        url: &Secret,
        authorities: Option<&Path>,
        rules: Rules,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidSetting> {
        let url = checked_url(url.expose())
            .map_err(|why| InvalidSetting::new("PRESENCE_JWKS_URL", why))?;
        if authorities.is_some() && url.scheme_str() != Some("https") {
            let why = "it is for a PRESENCE_JWKS_URL that begins with https://";
            return Err(InvalidSetting::new("PRESENCE_JWKS_CA_FILE", why));
        }
        let connector = connector(authorities)?;
        let set = KeySet {
            round: 0,
            keys: Vec::new(),
            rests_until: Instant::now(),
        };
        Ok(Self {
            url,
            client: Client::builder(TokioExecutor::new()).build(connector),
            rules,
            set: watch::Sender::new(set),
            wanted: Notify::new(),
            metrics,
        })
    }

    /// Which fetch the keys are of that are in force.
    pub(super) fn round(&self) -> u64 {
        self.set.borrow().round
    }

    /// Keys that may have signed a token with this algorithm and key id. An unknown id waits for a
    /// fetch, unless one was made too lately.
    pub(super) async fn keys_for(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Vec<Arc<VerifyingKey>>, Error> {
        let mut sets = self.set.subscribe();
        let (round, found, rests_until) = {
            let set = sets.borrow_and_update();
            (set.round, set.matching(algorithm, kid), set.rests_until)
        };
        if !found.is_empty() {
            return Ok(found);
        }
        self.wanted.notify_one();
        let give_up = Instant::now() + PATIENCE;
        if rests_until < give_up {
            let newer = sets.wait_for(|set| set.round > round);
            let _ = tokio::time::timeout_at(give_up, newer).await;
        }
        let set = self.set.borrow();
        match set.matching(algorithm, kid) {
            found if found.is_empty() && set.keys.is_empty() => Err(Error::KeysUnreachable),
            found => Ok(found),
        }
    }

    /// Fetches at the start, every few minutes, and when an unknown key id asks for it, for as long
    /// as the service runs. Calls `on_withdrawal` after a change of the keys.
    pub(super) async fn keep_fresh(&self, on_withdrawal: impl Fn()) {
        let mut pause = SHORTEST_PAUSE;
        let mut asked = false;
        loop {
            let fetched = self.refresh().await;
            pause = match fetched {
                Fetched::Failed => (pause * 2).min(LONGEST_PAUSE),
                Fetched::Unchanged if asked => (pause * 2).min(LONGEST_PAUSE),
                Fetched::Unchanged | Fetched::Changed => SHORTEST_PAUSE,
            };
            if fetched == Fetched::Changed {
                on_withdrawal();
            }
            self.set.send_modify(|set| {
                set.round += 1;
                set.rests_until = Instant::now() + pause;
            });
            sleep(pause).await;
            if fetched != Fetched::Failed {
                let wanted = timeout(REFRESH_EVERY, self.wanted.notified()).await;
                asked = wanted.is_ok();
            }
        }
    }

    async fn refresh(&self) -> Fetched {
        let fetched = match timeout(FETCH_TIMEOUT, self.fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err("it did not answer in time".to_owned()),
        };
        match fetched {
            Ok(keys) => {
                self.metrics.jwks_fetched("ok");
                self.replace(keys)
            }
            Err(why) => {
                self.metrics.jwks_fetched("failed");
                warn!(%why, "the JWK set could not be fetched; the last good one stays in force");
                Fetched::Failed
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<VerifyingKey>, String> {
        let request = Request::get(&self.url)
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| with_causes(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered with status {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        read(&body, &self.rules)
    }

    /// Puts a set into force. Keys that stay are kept as they are, and with them what they
    /// verified; the others are retired.
    fn replace(&self, keys: Vec<VerifyingKey>) -> Fetched {
        let old = self.set.borrow().keys.clone();
        let known = |key: &VerifyingKey| old.iter().find(|old| old.identity == key.identity);
        let new: Vec<_> = keys
            .into_iter()
            .map(|key| known(&key).cloned().unwrap_or_else(|| Arc::new(key)))
            .collect();
        let left = |key: &&Arc<VerifyingKey>| !new.iter().any(|new| Arc::ptr_eq(new, key));
        let gone = old.iter().filter(left);
        gone.clone().for_each(|key| key.retire());
        if gone.count() == 0 && new.len() == old.len() {
            return Fetched::Unchanged;
        }
        info!(keys = new.len(), "a new JWK set is in force");
        self.set.send_modify(|set| set.keys = new);
        Fetched::Changed
    }
}

impl KeySet {
    /// A token without a key id may be of any key.
    fn matching(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<Arc<VerifyingKey>> {
        let named = |key: &Arc<VerifyingKey>| kid.is_none() || key.kid.as_deref() == kid;
        let keys = self.keys.iter();
        let keys = keys.filter(|key| key.is_for(algorithm) && named(key));
        keys.cloned().collect()
    }
}

/// The keys of a JWK set that are good for something; at least one.
fn read(body: &[u8], rules: &Rules) -> Result<Vec<VerifyingKey>, String> {
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "what it answered is not a JWK set".to_owned())?;
    let keys = document.keys.iter().take(MAX_KEYS);
    let keys = keys.filter_map(|jwk| VerifyingKey::from_jwk(jwk, rules));
    let keys: Vec<_> = keys.collect();
    match keys.is_empty() {
        true => Err("there is no key in it that we can use".to_owned()),
        false => Ok(keys),
    }
}

/// Where keys come unencrypted, whoever is on the way can make tokens: that is for tests.
fn checked_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "it is no URL")?;
    let authority = url
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it must not hold a user or password");
    }
    let host = authority.host().trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>();
    let on_loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if on_loopback => Ok(url),
        _ => Err("it must begin with https://, or with http:// on loopback"),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("host", &self.url.host())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AccessConfig;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde_json::{Value, json};

    /// An Ed25519 key; any 32 bytes will do.
    fn good(kid: usize) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid.to_string(), "x": "A".repeat(43)})
    }

    proptest! {
        /// A provider may publish what we do not know; that spoils nothing of the rest.
        #[test]
        fn the_good_keys_of_a_set_are_found_among_others(
            others in vec(select(vec![json!(null), json!("x"), json!({}), json!({"kty": "oct", "k": "AAAA"})]), 0..4),
            places in vec(any::<Index>(), 0..4),
            more in "[a-z]{2,5}",
        ) {
            let count = places.len();
            let mut keys = others;
            for (kid, place) in places.iter().enumerate() {
                keys.insert(place.index(keys.len() + 1), good(kid));
            }
            let document = json!({"keys": keys, more: keys}).to_string();
            let read = read(document.as_bytes(), &Rules::new(&AccessConfig::default()));
            prop_assert_eq!(read.map_or(0, |read| read.len()), count);
        }

        /// Cut, overwritten or made up, it is refused, or is JSON still.
        #[test]
        fn bytes_that_are_no_set_are_refused(at: Index, with in vec(any::<u8>(), 0..4), cut: bool) {
            let mut document = json!({"keys": [good(1)]}).to_string().into_bytes();
            let at = at.index(document.len());
            if cut {
                document.truncate(at);
            }
            document.splice(at..(at + with.len()).min(document.len()), with);
            let value = serde_json::from_slice::<Value>(&document).unwrap_or_default();
            let read = read(&document, &Rules::new(&AccessConfig::default()));
            prop_assert!(read.is_err() || value["keys"][0]["kty"] == "OKP");
        }

        /// Where keys are fetched is never up to others on the way.
        #[test]
        fn an_address_is_encrypted_or_of_this_machine(
            scheme in select(vec!["https", "http", "ftp", "HTTP", ""]),
            user in select(vec!["", "user@", "user:word@"]),
            host in select(vec!["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "10.0.0.1", "id.example.com", "localhost.example.com", ""]),
            rest in "(:[0-9]{1,4})?(/[a-z]{0,5}){0,2}",
        ) {
            let here = ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"].contains(&host);
            let encrypted = scheme == "https";
            let good = !host.is_empty() && user.is_empty() && (encrypted || (scheme.eq_ignore_ascii_case("http") && here));
            prop_assert_eq!(checked_url(&format!("{scheme}://{user}{host}{rest}")).is_ok(), good);
        }
    }

    #[test]
    fn keys_come_encrypted_or_from_this_machine() {
        for good in [
            "https://id.example.com/jwks.json?tenant=1",
            "http://127.0.0.1:9/keys",
            "http://localhost/keys",
            "http://[::1]:80/keys",
        ] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "keys.json",
            "/etc/passwd",
            "file:///etc/passwd",
            "http://id.example.com/keys",
            "http://127.0.0.1.example.com/",
            "https://user:word@id.example.com/",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }
}
