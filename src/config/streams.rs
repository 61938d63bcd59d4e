//! The settings of event streams and of the history behind them.

use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// The event streams and the history behind them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Event streams")]
pub struct StreamsConfig {
    /// How far back a stream can resume: the time that events are kept
    ///
    /// A duration from 1s to 7d.
    #[arg(long, env = "PRESENCE_HISTORY", value_name = "PRESENCE_HISTORY", default_value = "10m", value_parser = history)]
    pub history: Duration,

    /// Most bytes of the kept events; beyond it the oldest events are dropped early
    ///
    /// A size from 64kb to 1024gb, in units of 1,024.
    #[arg(long, env = "PRESENCE_HISTORY_BYTES", value_name = "PRESENCE_HISTORY_BYTES", default_value = "256mb", value_parser = history_bytes)]
    pub history_bytes: u64,

    /// Longest life of an event stream; its client then reconnects
    ///
    /// A stream ends up to a fifth earlier, so that streams that opened together end apart.
    ///
    /// A duration from 1s to 7d.
    #[arg(long = "stream-max-age", env = "PRESENCE_STREAM_MAX_AGE", value_name = "PRESENCE_STREAM_MAX_AGE", default_value = "30m", value_parser = max_age)]
    pub max_age: Duration,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            history: Duration::from_secs(600),
            history_bytes: 256 << 20,
            max_age: Duration::from_secs(1_800),
        }
    }
}

fn history(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "1s", "7d")
}

fn history_bytes(text: &str) -> Result<u64, String> {
    size::bounded(text, "64kb", "1024gb")
}

fn max_age(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "1s", "7d")
}
