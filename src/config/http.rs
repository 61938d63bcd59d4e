//! The settings of HTTP.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::cors_origins::CorsOrigins;
use super::duration;

/// The settings of HTTP.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub struct HttpConfig {
    /// Time that an idle client connection stays open
    ///
    /// Must be longer than the load balancer in front keeps its own connections open, or requests get lost.
    ///
    /// A duration from 1s to 1d.
    #[arg(long, env = "PRESENCE_KEEP_ALIVE", value_name = "PRESENCE_KEEP_ALIVE", default_value = "75s", value_parser = keep_alive)]
    pub keep_alive: Duration,

    /// Origins whose web pages may call, separated by commas
    ///
    /// An origin is a scheme and a host, and a port if browsers send one, without a path.
    ///
    /// https://*.example.com allows all subdomains, and * allows every origin. By default no origin may call.
    #[arg(
        long,
        env = "PRESENCE_CORS_ORIGINS",
        value_name = "PRESENCE_CORS_ORIGINS"
    )]
    pub cors_origins: Option<CorsOrigins>,

    /// Whether the documentation of the API is served at /docs
    #[arg(
        long,
        env = "PRESENCE_DOCS",
        value_name = "PRESENCE_DOCS",
        default_value = "on"
    )]
    pub docs: Switch,

    /// Whether the dashboard for operators is served at /dashboard
    ///
    /// By default only if the service listens on loopback.
    #[arg(long, env = "PRESENCE_DASHBOARD", value_name = "PRESENCE_DASHBOARD")]
    pub dashboard: Option<Switch>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(75),
            cors_origins: None,
            docs: Switch::On,
            dashboard: None,
        }
    }
}

/// Whether a feature is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

fn keep_alive(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "1s", "1d")
}
