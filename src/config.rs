//! The settings: one list of flags and environment variables, checked before anything starts.

mod access;
mod bytes;
mod cors_origins;
mod redis_url;
mod unknown;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

pub use self::access::{AccessConfig, InvalidSetting, RateLimit, Secret};
pub use self::cors_origins::{AllowedOrigin, CorsOrigins};
pub use self::redis_url::{RedisUrl, Sentinels};
pub use self::unknown::check_variables;

/// Where the service listens when nothing is set: on this machine only.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Every stream that an instance serves by default, and as many callers again as fit a fifth of that.
const DEFAULT_CONNECTIONS: u32 = 120_000;

/// Every setting of the service. [`Config::default`] is the embedded store on loopback.
///
/// Each field is a flag and an environment variable; the flag wins.
#[derive(Clone, Debug, Parser)]
#[command(name = "presence", version, about, max_term_width = 100)]
pub struct Config {
    /// Address and port to listen on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "PRESENCE_LISTEN", value_name = "PRESENCE_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Listen on 0.0.0.0 at this port, where PRESENCE_LISTEN is not set
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub port: Option<u16>,

    /// Redis to keep the state in: redis://, rediss:// or redis+sentinel://host:port,host:port/primary;
    /// without it the embedded store is used
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "REDIS_URL",
        hide_env_values = true
    )]
    pub redis_url: Option<Secret>,

    /// PEM file with the only certificate authorities to trust for rediss://, instead of the public ones
    #[arg(
        long,
        env = "PRESENCE_REDIS_CA_FILE",
        value_name = "PRESENCE_REDIS_CA_FILE"
    )]
    pub redis_ca_file: Option<PathBuf>,

    /// How long a connection lives after its last ping
    #[arg(long, env = "PRESENCE_TTL", value_name = "PRESENCE_TTL", default_value = "60s", value_parser = ttl)]
    pub ttl: Duration,

    /// How often clients are told to ping
    #[arg(long, env = "PRESENCE_PING_INTERVAL", value_name = "PRESENCE_PING_INTERVAL", default_value = "25s", value_parser = ping_interval)]
    pub ping_interval: Duration,

    /// Longest sleep of a sweeper with work due
    #[arg(long, env = "PRESENCE_SWEEP_INTERVAL", value_name = "PRESENCE_SWEEP_INTERVAL", default_value = "100ms", value_parser = sweep_interval)]
    pub sweep_interval: Duration,

    /// How far back a stream can resume
    #[arg(long, env = "PRESENCE_HISTORY", value_name = "PRESENCE_HISTORY", default_value = "10m", value_parser = history)]
    pub history: Duration,

    /// How long lastSeenAt is kept after a user left; 0s keeps none
    #[arg(long, env = "PRESENCE_LAST_SEEN", value_name = "PRESENCE_LAST_SEEN", default_value = "30d", value_parser = last_seen)]
    pub last_seen: Duration,

    /// Most live connections of one user
    #[arg(long, env = "PRESENCE_USER_CONNECTIONS", value_name = "PRESENCE_USER_CONNECTIONS", default_value_t = 100, value_parser = user_connections)]
    pub user_connections: u32,

    /// Most bytes of the history, which is trimmed by time first
    #[arg(long, env = "PRESENCE_HISTORY_BYTES", value_name = "PRESENCE_HISTORY_BYTES", default_value = "256mb", value_parser = history_bytes)]
    pub history_bytes: u64,

    /// What the names of all our keys in Redis begin with
    #[arg(long, env = "PRESENCE_KEY_PREFIX", value_name = "PRESENCE_KEY_PREFIX", default_value = "presence:", value_parser = key_prefix)]
    pub key_prefix: String,

    /// Whether to listen to Redis's expiry notifications, and switch them on where they are off
    #[arg(
        long,
        env = "PRESENCE_KEYSPACE_EVENTS",
        value_name = "PRESENCE_KEYSPACE_EVENTS",
        default_value = "configure"
    )]
    pub keyspace_events: KeyspaceEvents,

    /// Most user ids in one batch lookup
    #[arg(long, env = "PRESENCE_LOOKUP_LIMIT", value_name = "PRESENCE_LOOKUP_LIMIT", default_value = "1000", value_parser = lookup_limit)]
    pub lookup_limit: usize,

    /// How long an event stream lives at most, up to a fifth less, before its client has to reconnect
    #[arg(long, env = "PRESENCE_STREAM_MAX_AGE", value_name = "PRESENCE_STREAM_MAX_AGE", default_value = "30m", value_parser = stream_max_age)]
    pub stream_max_age: Duration,

    /// Most connections served at once; more wait in the system's queue. The system's limit of open
    /// files bounds it too
    #[arg(long, env = "PRESENCE_CONNECTIONS", value_name = "PRESENCE_CONNECTIONS", default_value_t = DEFAULT_CONNECTIONS, value_parser = connections)]
    pub connections: u32,

    /// How long a connection of a client stays open without a request; longer than load balancers in front keep
    /// theirs
    #[arg(long, env = "PRESENCE_KEEP_ALIVE", value_name = "PRESENCE_KEEP_ALIVE", default_value = "75s", value_parser = keep_alive)]
    pub keep_alive: Duration,

    /// Longest time between SIGTERM and the end, over which the event streams are closed
    #[arg(long, env = "PRESENCE_DRAIN", value_name = "PRESENCE_DRAIN", default_value = "10s", value_parser = drain)]
    pub drain: Duration,

    /// Whether the API's documentation is served as a page at /docs
    #[arg(
        long,
        env = "PRESENCE_DOCS",
        value_name = "PRESENCE_DOCS",
        default_value = "on"
    )]
    pub docs: Switch,

    /// Who may do what.
    #[command(flatten)]
    pub access: AccessConfig,

    /// Print the OpenAPI document and exit
    #[arg(long)]
    pub print_openapi: bool,

    /// Ask the service at the address it would listen on whether it lives, and exit 0 or 1
    #[arg(long)]
    pub healthcheck: bool,
}

/// What to do about Redis's `expired` notifications, which only ever wake the sweeper early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyspaceEvents {
    /// Merge `Ex` into `notify-keyspace-events` where it is missing and the server allows it.
    Configure,
    /// Listen, and leave the server's configuration alone.
    Listen,
    /// Do not listen.
    Off,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl Config {
    /// The address to listen on, from `PRESENCE_LISTEN`, else `PORT`, else the default.
    pub fn listen_address(&self) -> SocketAddr {
        match (self.listen, self.port) {
            (Some(address), _) => address,
            (None, Some(port)) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            (None, None) => DEFAULT_LISTEN,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            port: None,
            redis_url: None,
            redis_ca_file: None,
            ttl: Duration::from_secs(60),
            ping_interval: Duration::from_secs(25),
            sweep_interval: Duration::from_millis(100),
            history: Duration::from_secs(600),
            last_seen: Duration::from_secs(30 * DAY),
            user_connections: 100,
            history_bytes: 256 << 20,
            key_prefix: "presence:".to_owned(),
            keyspace_events: KeyspaceEvents::Configure,
            lookup_limit: 1_000,
            stream_max_age: Duration::from_secs(1_800),
            connections: DEFAULT_CONNECTIONS,
            keep_alive: Duration::from_secs(75),
            drain: Duration::from_secs(10),
            docs: Switch::On,
            access: AccessConfig::default(),
            print_openapi: false,
            healthcheck: false,
        }
    }
}

const DAY: u64 = 86_400;

fn ttl(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(100), Duration::from_secs(DAY))
}

fn ping_interval(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(10), Duration::from_secs(DAY))
}

fn sweep_interval(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(10), Duration::from_secs(10))
}

fn history(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_secs(1), Duration::from_secs(7 * DAY))
}

fn last_seen(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::ZERO, Duration::from_secs(3_650 * DAY))
}

fn stream_max_age(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_secs(1), Duration::from_secs(7 * DAY))
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_secs(1), Duration::from_secs(DAY))
}

fn drain(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::ZERO, Duration::from_secs(3_600))
}

fn history_bytes(text: &str) -> Result<u64, String> {
    bytes::bounded(text, "64kb", "1024gb")
}

fn bounded(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration such as 60s, 500ms or 10m"))?;
    if duration < least || duration > most {
        let (least, most) = (
            humantime::format_duration(least),
            humantime::format_duration(most),
        );
        return Err(format!("must be from {least} to {most}"));
    }
    Ok(duration)
}

fn lookup_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if (1..=10_000).contains(&limit) => Ok(limit),
        _ => Err("must be a number from 1 to 10000".to_owned()),
    }
}

fn connections(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(most) if (1..=10_000_000).contains(&most) => Ok(most),
        _ => Err("must be a number from 1 to 10000000".to_owned()),
    }
}

fn user_connections(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(most) if (1..=10_000).contains(&most) => Ok(most),
        _ => Err("must be a number from 1 to 10000".to_owned()),
    }
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
    use proptest::sample::select;

    proptest! {
        #[test]
        fn a_duration_is_a_number_with_a_unit_within_its_bounds(
            number in prop_oneof![0_u64..200, any::<u64>(), select(vec![1, 7, 10, 24, 100, 3_600, 3_650])],
            (unit, unit_ms) in select(vec![("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000_u128)]),
        ) {
            let text = format!("{number}{unit}");
            let given = u128::from(number) * unit_ms;
            for (read, least, most) in [
                (ttl(&text), 100, 86_400_000),
                (sweep_interval(&text), 10, 10_000),
                (history(&text), 1_000, 604_800_000),
                (last_seen(&text), 0, 315_360_000_000),
                (stream_max_age(&text), 1_000, 604_800_000),
                (keep_alive(&text), 1_000, 86_400_000),
                (drain(&text), 0, 3_600_000),
            ] {
                let expected = Some(given).filter(|given| (least..=most).contains(given));
                prop_assert_eq!(read.ok().map(|read| read.as_millis()), expected, "{}", text);
            }
        }

        #[test]
        fn a_text_without_a_unit_is_no_duration(text in "[0-9]{1,30}|[a-z]{0,9}|-[0-9]{1,3}s|[0-9.]{1,9}[x-z]{1,3}|\\PC{0,8}") {
            prop_assume!(!text.chars().any(char::is_alphabetic) || !text.starts_with(|c: char| c.is_ascii_digit() || c.is_whitespace()));
            prop_assert_eq!(ttl(&text).is_ok(), false, "{}", text);
        }

        #[test]
        fn a_prefix_is_1_to_64_bytes_without_control_characters(text in "\\PC{0,70}|(?s).{0,3}|[a-z]{60,70}") {
            let control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
            let good = (1..=64).contains(&text.len()) && !text.contains(control);
            prop_assert_eq!(key_prefix(&text).ok(), good.then_some(text));
        }
    }

    #[test]
    fn the_default_is_what_no_flags_give() {
        let parsed = Config::try_parse_from(["presence", "--ttl", "60s"]);
        assert_eq!(
            format!("{:?}", parsed.ok()),
            format!("{:?}", Some(Config::default()))
        );
    }

    #[test]
    fn a_bad_value_names_the_variable_and_why() {
        for (flag, value, variable, why) in [
            ("--ttl", "soon", "PRESENCE_TTL", "such as 60s"),
            ("--ttl", "1ms", "PRESENCE_TTL", "from 100ms to 1day"),
            (
                "--history-bytes",
                "1kb",
                "PRESENCE_HISTORY_BYTES",
                "from 64kb",
            ),
            (
                "--user-connections",
                "0",
                "PRESENCE_USER_CONNECTIONS",
                "1 to 10000",
            ),
            ("--lookup-limit", "0", "PRESENCE_LOOKUP_LIMIT", "1 to 10000"),
            ("--listen", "here", "PRESENCE_LISTEN", "socket address"),
        ] {
            let error = Config::try_parse_from(["presence", flag, value]);
            let shown = error.err().map(|error| error.to_string());
            let shown = shown.unwrap_or_default();
            assert!(shown.contains(variable) && shown.contains(why), "{shown}");
        }
    }

    #[test]
    fn port_alone_means_every_address() {
        let config = Config {
            port: Some(9000),
            ..Config::default()
        };
        assert_eq!(config.listen_address().to_string(), "0.0.0.0:9000");
    }
}
