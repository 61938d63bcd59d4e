//! The receivers of webhooks.

use clap::{ArgAction, Args};

use super::secret::Secret;

/// The receivers of webhooks. Only operators configure receivers.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhooksConfig {
    /// Receivers of webhooks, as name:url, separated by commas; at most ten
    ///
    /// A name has 1 to 32 characters from a-z, 0-9 and -. The URL begins with https://, or with http:// on loopback.
    #[arg(
        long,
        env = "PRESENCE_WEBHOOKS",
        value_name = "PRESENCE_WEBHOOKS",
        hide_env_values = true
    )]
    pub webhooks: Option<Secret>,

    /// Secrets that sign the webhooks, as name:whsec_…, separated by commas
    ///
    /// Each receiver needs one secret. During a rotation it has two, and each webhook has both signatures.
    #[arg(
        long,
        env = "PRESENCE_WEBHOOK_SECRETS",
        value_name = "PRESENCE_WEBHOOK_SECRETS",
        hide_env_values = true
    )]
    pub webhook_secrets: Option<Secret>,

    /// Allow receivers with http:// beyond loopback
    ///
    /// Everyone on the network path can then read the events.
    #[arg(long, env = "PRESENCE_WEBHOOK_PLAIN_HTTP", value_name = "PRESENCE_WEBHOOK_PLAIN_HTTP", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub webhook_plain_http: bool,
}
