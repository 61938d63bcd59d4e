//! The limits of callers and of an instance.

use clap::Args;

use super::number;
use super::rate_limit::RateLimit;

/// All streams of the default limit, and a fifth more for other calls.
const DEFAULT_CONNECTIONS: u32 = 120_000;

/// About 200 MB of idle streams at 2 KiB each, and the socket buffers of the kernel.
const DEFAULT_STREAMS: usize = 100_000;

/// Enough for the devices and tabs of one person, and for a back end with a stream for each of its own clients. About
/// 2 MB of idle streams.
const DEFAULT_STREAMS_PER_CALLER: usize = 1_000;

/// The limits of callers and of an instance.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitsConfig {
    /// Most open client connections of one instance; further clients take the places of idle ones, or wait
    ///
    /// The limit of open files and the available memory may lower it.
    ///
    /// A number from 1 to 10000000.
    #[arg(long, env = "PRESENCE_CONNECTIONS", value_name = "PRESENCE_CONNECTIONS", default_value_t = DEFAULT_CONNECTIONS, value_parser = connections)]
    pub connections: u32,

    /// Most open event streams of one instance, and at most five sixths of its connections
    ///
    /// A number from 1 to 10000000.
    #[arg(long, env = "PRESENCE_STREAMS", value_name = "PRESENCE_STREAMS", default_value_t = DEFAULT_STREAMS, value_parser = streams)]
    pub streams: usize,

    /// Most open event streams of one user or API key on one instance
    ///
    /// A number from 1 to 10000000.
    #[arg(long, env = "PRESENCE_STREAMS_PER_CALLER", value_name = "PRESENCE_STREAMS_PER_CALLER", default_value_t = DEFAULT_STREAMS_PER_CALLER, value_parser = streams)]
    pub streams_per_caller: usize,

    /// Most live connections of one user
    ///
    /// A number from 1 to 10000.
    #[arg(long, env = "PRESENCE_USER_CONNECTIONS", value_name = "PRESENCE_USER_CONNECTIONS", default_value_t = 100, value_parser = user_connections)]
    pub user_connections: u32,

    /// Most members of one group
    ///
    /// A number from 1 to 100000.
    #[arg(long, env = "PRESENCE_GROUP_MEMBERS", value_name = "PRESENCE_GROUP_MEMBERS", default_value_t = 10_000, value_parser = group_members)]
    pub group_members: usize,

    /// Most user ids in one lookup
    ///
    /// A number from 1 to 10000.
    #[arg(long, env = "PRESENCE_LOOKUP_LIMIT", value_name = "PRESENCE_LOOKUP_LIMIT", default_value = "1000", value_parser = lookup_limit)]
    pub lookup_limit: usize,

    /// Calls of one user with a token, per second or minute, such as 5/s or 90/m; or off
    ///
    /// 1 to 100000 calls. Bursts of 20 calls, or of the calls of four seconds, are allowed.
    ///
    /// Disconnects count apart at the same rate, with bursts of PRESENCE_USER_CONNECTIONS.
    ///
    /// off removes both limits, and the limit of ten changes of a status per minute.
    #[arg(
        long,
        env = "PRESENCE_RATE_LIMIT",
        value_name = "PRESENCE_RATE_LIMIT",
        default_value = "5/s"
    )]
    pub rate_limit: RateLimit,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: DEFAULT_CONNECTIONS,
            streams: DEFAULT_STREAMS,
            streams_per_caller: DEFAULT_STREAMS_PER_CALLER,
            user_connections: 100,
            group_members: 10_000,
            lookup_limit: 1_000,
            rate_limit: RateLimit::default(),
        }
    }
}

fn connections(text: &str) -> Result<u32, String> {
    number::bounded(text, 1, 10_000_000)
}

fn streams(text: &str) -> Result<usize, String> {
    number::bounded(text, 1, 10_000_000)
}

fn user_connections(text: &str) -> Result<u32, String> {
    number::bounded(text, 1, 10_000)
}

fn group_members(text: &str) -> Result<usize, String> {
    number::bounded(text, 1, 100_000)
}

fn lookup_limit(text: &str) -> Result<usize, String> {
    number::bounded(text, 1, 10_000)
}
