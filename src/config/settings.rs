//! All settings of the service.

use clap::Parser;

use super::auth::AuthConfig;
use super::http::{HttpConfig, Switch};
use super::lambda::LambdaConfig;
use super::limits::LimitsConfig;
use super::listen::ListenConfig;
use super::presence::PresenceConfig;
use super::redis::RedisConfig;
use super::streams::StreamsConfig;
use super::webhooks::WebhooksConfig;

/// What `--help` says before the settings.
const LONG_ABOUT: &str = "\
Shows which users are online now: presence over HTTP and Server-Sent Events, on Redis or embedded.

Each setting is a flag and an environment variable; the flag wins.
Durations are written as 500ms, 60s, 10m, 1h or 30d; sizes as 64kb, 256mb or 1gb.
The variable RUST_LOG selects the log lines; its default is info.";

/// All settings of the service. The default is the embedded store on loopback, in open mode.
///
/// The name of each value is the name of its environment variable, because the messages of the parser show it.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "presence", version, about, long_about = LONG_ABOUT)]
pub struct Config {
    /// The addresses that the service listens on.
    #[command(flatten)]
    pub listen: ListenConfig,

    /// The store.
    #[command(flatten)]
    pub redis: RedisConfig,

    /// When a user goes offline.
    #[command(flatten)]
    pub presence: PresenceConfig,

    /// The event streams and their history.
    #[command(flatten)]
    pub streams: StreamsConfig,

    /// The credentials of callers.
    #[command(flatten)]
    pub auth: AuthConfig,

    /// The limits of callers and of an instance.
    #[command(flatten)]
    pub limits: LimitsConfig,

    /// The receivers of webhooks.
    #[command(flatten)]
    pub webhooks: WebhooksConfig,

    /// HTTP.
    #[command(flatten)]
    pub http: HttpConfig,

    /// AWS Lambda.
    #[command(flatten)]
    pub lambda: LambdaConfig,

    /// Print the OpenAPI document and exit
    #[arg(long, help_heading = "Commands")]
    pub print_openapi: bool,

    /// Call /livez of the service at its address and exit with 0 if the service is alive, else with 1
    #[arg(long, help_heading = "Commands")]
    pub healthcheck: bool,
}

impl Config {
    /// Whether only this machine can reach the service: it listens on loopback.
    pub fn is_local(&self) -> bool {
        !self.lambda.is_enabled() && self.listen.address().ip().to_canonical().is_loopback()
    }

    /// Whether the dashboard is served: as the setting states, otherwise only if the service listens on loopback.
    pub fn has_dashboard(&self) -> bool {
        match self.http.dashboard {
            Some(switch) => switch == Switch::On,
            None => self.is_local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The longest line of the help, in characters.
    const MAX_LINE: usize = 120;

    #[test]
    fn the_default_equals_an_empty_command_line() {
        let parsed = Config::try_parse_from(["presence", "--ttl", "60s"]);
        assert_eq!(
            format!("{:?}", parsed.ok()),
            format!("{:?}", Some(Config::default()))
        );
    }

    #[test]
    fn a_bad_value_names_the_variable_and_the_bounds() {
        for (flag, value, variable, why) in [
            ("--ttl", "soon", "PRESENCE_TTL", "such as 60s"),
            ("--ttl", "1ms", "PRESENCE_TTL", "from 100ms to 1d"),
            ("--listen", "here", "PRESENCE_LISTEN", "socket address"),
        ] {
            let shown = refusal(flag, value);
            assert!(shown.contains(variable) && shown.contains(why), "{shown}");
        }
    }

    /// The bounds in the message of a bad value come from the parser, so they are the true ones.
    #[test]
    fn the_help_states_the_bounds_of_every_bounded_setting() {
        let command = Config::command();
        let mut bounded = 0;
        for argument in command.get_arguments() {
            let (Some(flag), Some(_)) = (argument.get_long(), argument.get_env()) else {
                continue;
            };
            let help = argument.get_long_help().or(argument.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{flag}");
            // Values beyond every bound of a number, a duration and a size.
            for beyond in ["99999999", "9999999d", "9999999gb"] {
                let shown = refusal(&format!("--{flag}"), beyond);
                if let Some((_, bounds)) = shown.split_once("from ") {
                    let bounds = bounds.lines().next().unwrap_or_default();
                    assert!(help.contains(&format!("from {bounds}")), "{flag}: {help}");
                    bounded += 1;
                }
            }
        }
        assert!(bounded >= 14, "{bounded} settings with bounds");
    }

    #[test]
    fn the_help_is_for_operators() {
        let help = Config::command().render_long_help().to_string();
        assert!(help.starts_with("Shows which users"), "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= MAX_LINE, "{line}");
            assert!(!line.contains("[`") && !line.contains("::"), "{line}");
        }
    }

    fn refusal(flag: &str, value: &str) -> String {
        let error = Config::try_parse_from(["presence", flag, value]);
        error.err().map_or(String::new(), |error| error.to_string())
    }
}
