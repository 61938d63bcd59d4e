//! The settings of the store.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::secret::Secret;

/// The settings of the store. Without a URL the service uses the embedded store.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisConfig {
    /// URL of the Redis server; without it the service uses the embedded store
    ///
    /// redis://host:port/db, rediss://host:port/db for TLS, redis+sentinel://host:port,host:port/primary/db, or
    /// redis+cluster://host:port,host:port for a cluster.
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
    /// 1 to 64 bytes without control characters. Services with different prefixes can share a Redis.
    #[arg(long, env = "PRESENCE_KEY_PREFIX", value_name = "PRESENCE_KEY_PREFIX", default_value = "presence:", value_parser = key_prefix)]
    pub key_prefix: String,

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
            keyspace_events: KeyspaceEvents::Configure,
        }
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
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err("must be 1 to 64 bytes without control characters".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prefix_is_1_to_64_bytes_without_control_characters(text in "\\PC{0,70}|(?s).{0,3}|[a-z]{60,70}") {
            let is_control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
            let good = (1..=64).contains(&text.len()) && !text.contains(is_control);
            prop_assert_eq!(key_prefix(&text).ok(), good.then_some(text));
        }
    }
}
