//! The settings that say who may do what, and how much of it.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args};
use thiserror::Error;

use super::cors_origins::CorsOrigins;

/// Calls a user may make at once after a pause, whatever the rate: an app that starts asks for
/// several things together.
const LEAST_BURST: u32 = 20;

/// How many seconds' worth of calls may come at once, where that is more than [`LEAST_BURST`].
const BURST_SECONDS: u32 = 4;

/// Who may do what, and how much of it.
///
/// What is secret is taken as any text, and judged when the service starts: the parser of flags
/// would show a bad value in its message.
#[derive(Clone, Debug, Args)]
pub struct AccessConfig {
    /// Serve everyone everything on an address that others can reach, where no credential is set
    #[arg(long, env = "PRESENCE_ALLOW_ANONYMOUS", value_name = "PRESENCE_ALLOW_ANONYMOUS", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub allow_anonymous: bool,

    /// Secret of user tokens signed with HS256, 32 bytes or more
    #[arg(
        long,
        env = "PRESENCE_JWT_SECRET",
        value_name = "PRESENCE_JWT_SECRET",
        hide_env_values = true
    )]
    pub jwt_secret: Option<Secret>,

    /// PEM file with the public key of user tokens; it decides between RS256, ES256 and EdDSA
    #[arg(
        long,
        env = "PRESENCE_JWT_PUBLIC_KEY",
        value_name = "PRESENCE_JWT_PUBLIC_KEY"
    )]
    pub jwt_public_key: Option<PathBuf>,

    /// Where the public keys of user tokens are published as a JWK set, https://, or http:// on loopback
    #[arg(
        long,
        env = "PRESENCE_JWKS_URL",
        value_name = "PRESENCE_JWKS_URL",
        hide_env_values = true
    )]
    pub jwks_url: Option<Secret>,

    /// PEM file with the only certificate authorities to trust for PRESENCE_JWKS_URL, instead of the public ones
    #[arg(
        long,
        env = "PRESENCE_JWKS_CA_FILE",
        value_name = "PRESENCE_JWKS_CA_FILE"
    )]
    pub jwks_ca_file: Option<PathBuf>,

    /// The iss that user tokens must have
    #[arg(long, env = "PRESENCE_JWT_ISSUER", value_name = "PRESENCE_JWT_ISSUER", value_parser = not_empty)]
    pub jwt_issuer: Option<String>,

    /// The aud that user tokens must have, alone or among others
    #[arg(long, env = "PRESENCE_JWT_AUDIENCE", value_name = "PRESENCE_JWT_AUDIENCE", value_parser = not_empty)]
    pub jwt_audience: Option<String>,

    /// Keys of servers and dashboards, as name:scope+scope:key,… with the scopes presence.read and presence.write
    #[arg(
        long,
        env = "PRESENCE_API_KEYS",
        value_name = "PRESENCE_API_KEYS",
        hide_env_values = true
    )]
    pub api_keys: Option<Secret>,

    /// Address and port that serve /metrics to everyone who reaches them; port 0 picks a free one
    #[arg(
        long,
        env = "PRESENCE_METRICS_LISTEN",
        value_name = "PRESENCE_METRICS_LISTEN"
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Origins whose pages may call from a browser, separated by commas; https://*.example.com for all subdomains,
    /// * for every origin
    #[arg(
        long,
        env = "PRESENCE_CORS_ORIGINS",
        value_name = "PRESENCE_CORS_ORIGINS"
    )]
    pub cors_origins: Option<CorsOrigins>,

    /// Calls that a user's own token gets, such as 5/s or 90/m, with bursts of 20 or four seconds' worth; or off
    #[arg(
        long,
        env = "PRESENCE_RATE_LIMIT",
        value_name = "PRESENCE_RATE_LIMIT",
        default_value = "5/s"
    )]
    pub rate_limit: RateLimit,

    /// Most event streams open at once on one instance for one user or API key
    #[arg(long, env = "PRESENCE_STREAMS_PER_CALLER", value_name = "PRESENCE_STREAMS_PER_CALLER", default_value_t = DEFAULT_STREAMS_PER_CALLER, value_parser = streams)]
    pub streams_per_caller: usize,

    /// Most event streams open at once on one instance
    #[arg(long, env = "PRESENCE_STREAMS", value_name = "PRESENCE_STREAMS", default_value_t = DEFAULT_STREAMS, value_parser = streams)]
    pub streams: usize,
}

/// Enough for a person's devices and tabs, and for a back end that holds a stream for each of its
/// own clients; about 2 MB of idle streams.
const DEFAULT_STREAMS_PER_CALLER: usize = 1_000;

/// About 200 MB of idle streams at 2 KiB each, and what the system keeps for as many sockets.
const DEFAULT_STREAMS: usize = 100_000;

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            allow_anonymous: false,
            jwt_secret: None,
            jwt_public_key: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwt_issuer: None,
            jwt_audience: None,
            api_keys: None,
            metrics_listen: None,
            cors_origins: None,
            rate_limit: RateLimit::default(),
            streams_per_caller: DEFAULT_STREAMS_PER_CALLER,
            streams: DEFAULT_STREAMS,
        }
    }
}

impl AccessConfig {
    /// Whether any credential is set, so that calls have to bring one.
    pub fn asks_for_credentials(&self) -> bool {
        self.jwt_secret.is_some()
            || self.jwt_public_key.is_some()
            || self.jwks_url.is_some()
            || self.api_keys.is_some()
    }

    /// Fails if a setting has no effect without another that is not set: the other was misspelt or forgotten.
    pub fn check_together(&self) -> Result<(), InvalidSetting> {
        let takes_tokens =
            self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwks_url.is_some();
        let token_keys = "PRESENCE_JWT_SECRET, PRESENCE_JWT_PUBLIC_KEY or PRESENCE_JWKS_URL";
        for (variable, is_set, has_effect, other) in [
            (
                "PRESENCE_JWT_ISSUER",
                self.jwt_issuer.is_some(),
                takes_tokens,
                token_keys,
            ),
            (
                "PRESENCE_JWT_AUDIENCE",
                self.jwt_audience.is_some(),
                takes_tokens,
                token_keys,
            ),
            (
                "PRESENCE_JWKS_CA_FILE",
                self.jwks_ca_file.is_some(),
                self.jwks_url.is_some(),
                "PRESENCE_JWKS_URL",
            ),
        ] {
            if is_set && !has_effect {
                let why = format!("it has no effect without {other}, which is not set");
                return Err(InvalidSetting::new(variable, why));
            }
        }
        Ok(())
    }

    /// Whether everyone on this machine may do everything, and nobody else anything: no credential is set, and
    /// anonymous callers are not allowed expressly.
    pub fn is_open_mode(&self) -> bool {
        !self.asks_for_credentials() && !self.allow_anonymous
    }
}

/// A setting makes no sense; the service does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable}: {why}")]
pub struct InvalidSetting {
    /// The environment variable.
    pub variable: Cow<'static, str>,
    /// What is wrong with its value, without showing it where it is secret.
    pub why: String,
}

impl InvalidSetting {
    /// `variable` is wrong because of `why`.
    pub fn new(variable: impl Into<Cow<'static, str>>, why: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            why: why.into(),
        }
    }
}

/// A text that its `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How often a user may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// As often as it likes.
    Off,
    /// So many calls in a minute, and so many of them at once.
    Calls {
        /// Calls in a minute.
        per_minute: NonZeroU32,
        /// Calls at once after a pause.
        burst: NonZeroU32,
    },
}

impl RateLimit {
    fn per_minute(calls: u32) -> Option<Self> {
        let burst = (calls / 60).saturating_mul(BURST_SECONDS).max(LEAST_BURST);
        Some(Self::Calls {
            per_minute: NonZeroU32::new(calls)?,
            burst: NonZeroU32::new(burst)?,
        })
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::per_minute(5 * 60).unwrap_or(Self::Off)
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let calls = |count: &str| count.parse::<u32>().ok().filter(|count| *count <= 100_000);
        let per_minute = match text.split_once('/') {
            Some((count, "s")) => calls(count).map(|count| count * 60),
            Some((count, "m")) => calls(count),
            _ => None,
        };
        per_minute.and_then(Self::per_minute).ok_or_else(|| {
            "write calls per second or minute, such as 5/s or 90/m, or off".to_owned()
        })
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty; leave the variable unset instead".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn streams(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=10_000_000).contains(&count) => Ok(count),
        _ => Err("must be a number from 1 to 10000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_is_a_count_per_second_or_minute(count in prop_oneof![0_u32..300, any::<u32>()], unit in "[smh]") {
            let read = format!("{count}/{unit}").parse::<RateLimit>();
            let times = match &*unit {
                "s" => 60,
                "m" => 1,
                _ => 0,
            };
            let good = (1..=100_000).contains(&count) && times > 0;
            prop_assert_eq!(read.is_ok(), good);
            if let Ok(RateLimit::Calls { per_minute, burst }) = read {
                prop_assert_eq!(per_minute.get(), count * times);
                prop_assert_eq!(burst.get(), (count * times / 60 * 4).max(20));
            }
        }

    }

    #[test]
    fn a_rate_allows_bursts_of_twenty_or_four_seconds() {
        for (text, per_minute, burst) in [("5/s", 300, 20), ("30/m", 30, 20), ("50/s", 3_000, 200)]
        {
            let expected = RateLimit::Calls {
                per_minute: NonZeroU32::new(per_minute).unwrap(),
                burst: NonZeroU32::new(burst).unwrap(),
            };
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "5", "0/s", "5/h", "-1/s", "5 / s"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }
}
