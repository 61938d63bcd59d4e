//! The settings of the store.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::invalid_setting::InvalidSetting;
use super::partitions;
use super::redis_url::RedisUrl;
use super::secret::Secret;
use crate::model::Partitions;

/// The number of partitions in a Redis Cluster, unless another one is configured.
const IN_CLUSTER: u16 = 64;

/// The variable with the URL of the store to move to.
const NEXT: &str = "REDIS_URL_NEXT";

/// The settings of the store. Without a URL the service uses the embedded store.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisConfig {
    /// URL of the Redis server; without it the service uses the embedded store
    ///
    /// redis://host:port/db, or redis+sentinel://host:port,host:port/primary/db.
    ///
    /// redis+cluster://host:port,host:port for a cluster, with some of its nodes.
    ///
    /// For TLS rediss://, rediss+sentinel:// or rediss+cluster://.
    ///
    /// A user and a password are written as user:password@ before the host.
    #[arg(
        long = "redis-url",
        env = "REDIS_URL",
        value_name = "REDIS_URL",
        hide_env_values = true
    )]
    pub url: Option<Secret>,

    /// PEM file with the certificate authorities to trust for rediss://, instead of the public ones
    ///
    /// The file may contain the certificate of the server itself, whatever its host name.
    #[arg(
        long = "redis-ca-file",
        env = "PRESENCE_REDIS_CA_FILE",
        value_name = "PRESENCE_REDIS_CA_FILE"
    )]
    pub ca_file: Option<PathBuf>,

    /// Prefix of the names of all keys in Redis
    ///
    /// 1 to 64 bytes without control characters and braces. Services with different prefixes can share a Redis.
    #[arg(long, env = "PRESENCE_KEY_PREFIX", value_name = "PRESENCE_KEY_PREFIX", default_value = "presence:", value_parser = key_prefix)]
    pub key_prefix: String,

    /// Number of partitions of the users: 1, 16, 32, 64, 128 or 256; 1 by default, and 64 with a Redis Cluster
    ///
    /// All instances with the same prefix need the same number. It cannot change while the store has data.
    #[arg(long, env = "PRESENCE_PARTITIONS", value_name = "PRESENCE_PARTITIONS", value_parser = partitions::parse)]
    pub partitions: Option<Partitions>,

    /// URL of the store to move to; the service writes to both until the next one has everything
    ///
    /// The forms are those of REDIS_URL. Set it on all instances with the same store.
    ///
    /// After the move, make it the REDIS_URL, and remove the settings that end in _NEXT.
    #[arg(
        long = "redis-url-next",
        env = "REDIS_URL_NEXT",
        value_name = "REDIS_URL_NEXT",
        hide_env_values = true
    )]
    pub url_next: Option<Secret>,

    /// Prefix of the names of all keys in the store to move to; as PRESENCE_KEY_PREFIX by default
    ///
    /// It must be another one if the server is the same.
    #[arg(long, env = "PRESENCE_KEY_PREFIX_NEXT", value_name = "PRESENCE_KEY_PREFIX_NEXT", value_parser = key_prefix)]
    pub key_prefix_next: Option<String>,

    /// Number of partitions of the store to move to; 1 by default, and 64 with a Redis Cluster
    #[arg(long, env = "PRESENCE_PARTITIONS_NEXT", value_name = "PRESENCE_PARTITIONS_NEXT", value_parser = partitions::parse)]
    pub partitions_next: Option<Partitions>,

    /// Whether to use the expiry notifications of Redis, which make offline events a little earlier
    #[arg(
        long,
        env = "PRESENCE_KEYSPACE_EVENTS",
        value_name = "PRESENCE_KEYSPACE_EVENTS",
        default_value = "configure"
    )]
    pub keyspace_events: KeyspaceEvents,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            key_prefix: "presence:".to_owned(),
            partitions: None,
            url_next: None,
            key_prefix_next: None,
            partitions_next: None,
            keyspace_events: KeyspaceEvents::Configure,
        }
    }
}

impl RedisConfig {
    /// The number of partitions of the store at `url`. Fails if a cluster is to have only one.
    pub fn partitions_at(&self, url: &RedisUrl) -> Result<Partitions, InvalidSetting> {
        let default = url.is_cluster().then(|| Partitions::new(IN_CLUSTER));
        let default = default.flatten().unwrap_or(Partitions::ONE);
        let partitions = self.partitions.unwrap_or(default);
        if url.is_cluster() && partitions == Partitions::ONE {
            let why = "must be 16 or more with a redis+cluster:// URL";
            return Err(InvalidSetting::new("PRESENCE_PARTITIONS", why));
        }
        Ok(partitions)
    }

    /// Where the store is: servers, database, prefix and number of partitions, without credentials. `None` for the
    /// embedded store.
    pub fn place(&self) -> Option<String> {
        let url: RedisUrl = self.url.as_ref()?.expose().parse().ok()?;
        let partitions = self.partitions_at(&url).ok()?;
        Some(format!("{} {} {partitions}", url.place(), self.key_prefix))
    }

    /// The file with the authorities to trust for the store at `url`. During a move from or to a store without TLS, the
    /// file is for the other one.
    pub fn ca_file_at(&self, url: &RedisUrl) -> Option<&Path> {
        let other = self.url_next.as_ref().map(|other| other.expose().parse());
        let is_for_other = other.is_some_and(|other: Result<RedisUrl, _>| {
            other.is_ok_and(|other| other.is_encrypted()) && !url.is_encrypted()
        });
        self.ca_file.as_deref().filter(|_| !is_for_other)
    }

    /// The settings of the store to move to, if there is one. Fails if they cannot be those of another store.
    pub fn next(&self) -> Result<Option<Self>, InvalidSetting> {
        let Some(secret) = &self.url_next else {
            for (variable, is_set) in [
                ("PRESENCE_KEY_PREFIX_NEXT", self.key_prefix_next.is_some()),
                ("PRESENCE_PARTITIONS_NEXT", self.partitions_next.is_some()),
            ] {
                if is_set {
                    let why = "has no effect without REDIS_URL_NEXT, which is not set";
                    return Err(InvalidSetting::new(variable, why));
                }
            }
            return Ok(None);
        };
        let invalid = |why: &str| InvalidSetting::new(NEXT, why);
        let Some(url) = &self.url else {
            return Err(invalid("has no effect without REDIS_URL, which is not set"));
        };
        let mut next = Self {
            url: Some(secret.clone()),
            key_prefix: self
                .key_prefix_next
                .as_ref()
                .unwrap_or(&self.key_prefix)
                .clone(),
            partitions: self.partitions_next,
            url_next: None,
            key_prefix_next: None,
            partitions_next: None,
            ..self.clone()
        };
        let present: Option<RedisUrl> = url.expose().parse().ok();
        let url: RedisUrl = secret
            .expose()
            .parse()
            .map_err(|why: String| invalid(&why))?;
        if next.key_prefix == self.key_prefix
            && present
                .as_ref()
                .is_some_and(|present| present.shares_a_server(&url))
        {
            return Err(invalid(
                "names the server of REDIS_URL; there, PRESENCE_KEY_PREFIX_NEXT must differ from PRESENCE_KEY_PREFIX",
            ));
        }
        let is_for_present = present.is_some_and(|present| present.is_encrypted());
        if is_for_present && !url.is_encrypted() {
            next.ca_file = None;
        }
        next.partitions_at(&url).map_err(InvalidSetting::of_next)?;
        Ok(Some(next))
    }
}

/// How the service uses the `expired` notifications of Redis, which only wake the sweeper early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyspaceEvents {
    /// Subscribe, and add Ex to notify-keyspace-events where it is missing and allowed.
    Configure,
    /// Subscribe, and do not change the configuration of the server.
    Listen,
    /// Do not subscribe.
    Off,
}

fn key_prefix(text: &str) -> Result<String, String> {
    // Braces would hide the hash tags of the partitions.
    let is_bad = |c: char| c.is_control() || matches!(c, '{' | '}');
    if text.is_empty() || text.len() > 64 || text.contains(is_bad) {
        return Err("must be 1 to 64 bytes without control characters and braces".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cluster_has_64_partitions_by_default_and_never_one() {
        let at = |url: &str, partitions| {
            let url = url.parse().expect("a good URL");
            let config = RedisConfig {
                partitions,
                ..RedisConfig::default()
            };
            config.partitions_at(&url).map(Partitions::count)
        };
        let sixteen = Partitions::new(16);
        assert_eq!(at("redis://db", None), Ok(1));
        assert_eq!(at("redis://db", sixteen), Ok(16));
        assert_eq!(at("redis+cluster://db", None), Ok(64));
        assert_eq!(at("redis+cluster://db", sixteen), Ok(16));
        let one = at("redis+cluster://db", Some(Partitions::ONE));
        assert_eq!(
            one.map_err(|error| error.to_string()),
            Err("PRESENCE_PARTITIONS: must be 16 or more with a redis+cluster:// URL".to_owned())
        );
    }

    fn why_not_next(config: RedisConfig) -> String {
        let next = config.next();
        next.expect_err("invalid").to_string()
    }

    #[test]
    fn the_store_to_move_to_is_another_one() {
        let moving = |url: &str, next: &str| RedisConfig {
            url: Some(Secret::from(url)),
            url_next: Some(Secret::from(next)),
            ..RedisConfig::default()
        };
        let cluster = moving("redis://a", "redis+cluster://b,c").next();
        let cluster = cluster.expect("valid").expect("a next store");
        assert_eq!(
            (cluster.key_prefix.as_str(), cluster.url_next.is_none()),
            ("presence:", true)
        );
        for (url, next) in [
            ("redis://a", "redis://a:6379/1"),
            ("redis://u:p@A:7000", "rediss://a:7000"),
            ("redis+cluster://a,b", "redis+cluster://c,b"),
            ("redis+sentinel://a,b/main", "redis+sentinel://b/main/3"),
        ] {
            assert!(
                why_not_next(moving(url, next)).contains("PRESENCE_KEY_PREFIX_NEXT"),
                "{next}"
            );
            let renamed = RedisConfig {
                key_prefix_next: Some("next:".to_owned()),
                ..moving(url, next)
            };
            assert!(renamed.next().is_ok_and(|next| next.is_some()), "{next}");
        }
        for (url, next, of_present, of_next) in [
            ("redis://a", "rediss://b", false, true),
            ("rediss://a", "redis://b", true, false),
            ("rediss://a", "rediss://b", true, true),
            ("redis://a", "redis://b", true, true),
        ] {
            let config = RedisConfig {
                ca_file: Some("ca.pem".into()),
                ..moving(url, next)
            };
            let at = |url: &str| url.parse().expect("a good URL");
            assert_eq!(
                config.ca_file_at(&at(url)).is_some(),
                of_present,
                "{url} {next}"
            );
            let its_own = config.next().expect("valid").expect("a next store");
            assert_eq!(
                its_own.ca_file_at(&at(next)).is_some(),
                of_next,
                "{url} {next}"
            );
        }
        let others = moving("redis+sentinel://a/main", "redis+sentinel://a/other").next();
        assert!(others.is_ok());
    }

    #[test]
    fn settings_of_a_next_store_that_cannot_be_are_refused_with_their_variable() {
        let prefix = RedisConfig {
            key_prefix_next: Some("next:".to_owned()),
            ..RedisConfig::default()
        };
        assert!(why_not_next(prefix).starts_with("PRESENCE_KEY_PREFIX_NEXT: has no effect"));
        let url = RedisConfig {
            url_next: Some(Secret::from("redis://a")),
            ..RedisConfig::default()
        };
        assert!(why_not_next(url.clone()).starts_with("REDIS_URL_NEXT: has no effect"));
        let one = RedisConfig {
            url: Some(Secret::from("redis://b")),
            url_next: Some(Secret::from("redis+cluster://a")),
            partitions_next: Some(Partitions::ONE),
            ..url
        };
        assert_eq!(
            why_not_next(one),
            "PRESENCE_PARTITIONS_NEXT: must be 16 or more with a redis+cluster:// URL"
        );
    }

    proptest! {
        #[test]
        fn a_prefix_is_1_to_64_bytes_without_control_characters_and_braces(
            text in "\\PC{0,70}|(?s).{0,3}|[a-z{}]{0,2}|[a-z]{60,70}",
        ) {
            let is_bad = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f | 0x7b | 0x7d);
            let good = (1..=64).contains(&text.len()) && !text.contains(is_bad);
            prop_assert_eq!(key_prefix(&text).ok(), good.then_some(text));
        }
    }
}
