//! The addresses that the service listens on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::duration;

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The addresses that the service listens on, and the end of the service.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenConfig {
    /// Address and port to listen on; port 0 picks a free port [default: 127.0.0.1:8080]
    ///
    /// Any other address than loopback requires credentials or PRESENCE_ALLOW_ANONYMOUS.
    #[arg(long, env = "PRESENCE_LISTEN", value_name = "PRESENCE_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Port to listen on at 0.0.0.0; ignored if PRESENCE_LISTEN is set
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub port: Option<u16>,

    /// Address and port of a second listener that serves /metrics, /livez and /readyz without credentials
    ///
    /// Port 0 picks a free port. By default there is no second listener.
    #[arg(
        long,
        env = "PRESENCE_METRICS_LISTEN",
        value_name = "PRESENCE_METRICS_LISTEN"
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Longest time from SIGTERM to the exit
    ///
    /// The event streams end spread over four fifths of this time. A duration from 0s to 1h.
    #[arg(long, env = "PRESENCE_DRAIN", value_name = "PRESENCE_DRAIN", default_value = "10s", value_parser = drain)]
    pub drain: Duration,
}

impl ListenConfig {
    /// The address to listen on: `PRESENCE_LISTEN`, else 0.0.0.0 with `PORT`, else the default.
    pub fn address(&self) -> SocketAddr {
        match (self.listen, self.port) {
            (Some(address), _) => address,
            (None, Some(port)) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            (None, None) => DEFAULT_ADDRESS,
        }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            listen: None,
            port: None,
            metrics_listen: None,
            drain: Duration::from_secs(10),
        }
    }
}

fn drain(text: &str) -> Result<Duration, String> {
    duration::bounded(text, "0s", "1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_alone_means_every_address() {
        let config = ListenConfig {
            port: Some(9000),
            ..ListenConfig::default()
        };
        assert_eq!(config.address().to_string(), "0.0.0.0:9000");
    }
}
