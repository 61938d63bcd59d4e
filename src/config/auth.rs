//! The credentials that callers may use.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::invalid_setting::InvalidSetting;
use super::secret::Secret;

/// The credentials that callers may use.
///
/// If none of the four credentials is set, every caller has full access: in open mode on loopback only, and with
/// `PRESENCE_ALLOW_ANONYMOUS` everywhere.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Credentials")]
pub struct AuthConfig {
    /// Keys of servers and dashboards, as name:scope+scope:key, separated by commas
    ///
    /// The scopes are presence.read and presence.write. A key should have 16 characters or more.
    #[arg(
        long,
        env = "PRESENCE_API_KEYS",
        value_name = "PRESENCE_API_KEYS",
        hide_env_values = true
    )]
    pub api_keys: Option<Secret>,

    /// Secret of user tokens that are signed with HS256
    ///
    /// At least 32 bytes.
    #[arg(
        long,
        env = "PRESENCE_JWT_SECRET",
        value_name = "PRESENCE_JWT_SECRET",
        hide_env_values = true
    )]
    pub jwt_secret: Option<Secret>,

    /// PEM file with the public key of user tokens
    ///
    /// An RSA key means RS256, a P-256 key ES256, an Ed25519 key EdDSA. RSA keys have 2048 bits or more.
    #[arg(
        long,
        env = "PRESENCE_JWT_PUBLIC_KEY",
        value_name = "PRESENCE_JWT_PUBLIC_KEY"
    )]
    pub jwt_public_key: Option<PathBuf>,

    /// URL of the JWK set with the public keys of user tokens
    ///
    /// https://, or http:// on loopback. The set is fetched every five minutes, and for unknown key ids.
    #[arg(
        long,
        env = "PRESENCE_JWKS_URL",
        value_name = "PRESENCE_JWKS_URL",
        hide_env_values = true
    )]
    pub jwks_url: Option<Secret>,

    /// PEM file with the certificate authorities to trust for PRESENCE_JWKS_URL, instead of the public ones
    ///
    /// The file may contain the certificate of the server itself, whatever its host name.
    #[arg(
        long,
        env = "PRESENCE_JWKS_CA_FILE",
        value_name = "PRESENCE_JWKS_CA_FILE"
    )]
    pub jwks_ca_file: Option<PathBuf>,

    /// Value of the claim iss that user tokens must have; by default any
    #[arg(long, env = "PRESENCE_JWT_ISSUER", value_name = "PRESENCE_JWT_ISSUER", value_parser = not_empty)]
    pub jwt_issuer: Option<String>,

    /// Value that the claim aud of user tokens must contain; by default any
    #[arg(long, env = "PRESENCE_JWT_AUDIENCE", value_name = "PRESENCE_JWT_AUDIENCE", value_parser = not_empty)]
    pub jwt_audience: Option<String>,

    /// Give every caller full access on addresses that other machines can reach
    ///
    /// Only meaningful without API keys and without user tokens.
    #[arg(long, env = "PRESENCE_ALLOW_ANONYMOUS", value_name = "PRESENCE_ALLOW_ANONYMOUS", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub allow_anonymous: bool,
}

impl AuthConfig {
    /// Whether a credential is configured, so that every call requires one.
    pub fn has_credentials(&self) -> bool {
        self.accepts_tokens() || self.api_keys.is_some()
    }

    /// Whether a key that verifies tokens is configured.
    fn accepts_tokens(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwks_url.is_some()
    }

    /// Whether the service is in open mode: no credential is configured, and anonymous callers are allowed on loopback
    /// only.
    pub fn is_open_mode(&self) -> bool {
        !self.has_credentials() && !self.allow_anonymous
    }

    /// Fails if a setting has no effect without another setting that is missing.
    pub(crate) fn check_dependent_settings(&self) -> Result<(), InvalidSetting> {
        let accepts_tokens = self.accepts_tokens();
        let token_keys = "PRESENCE_JWT_SECRET, PRESENCE_JWT_PUBLIC_KEY or PRESENCE_JWKS_URL";
        let has_issuer = self.jwt_issuer.is_some();
        let has_audience = self.jwt_audience.is_some();
        let has_ca_file = self.jwks_ca_file.is_some();
        let has_jwks_url = self.jwks_url.is_some();
        for (variable, is_set, has_effect, needed) in [
            (
                "PRESENCE_JWT_ISSUER",
                has_issuer,
                accepts_tokens,
                token_keys,
            ),
            (
                "PRESENCE_JWT_AUDIENCE",
                has_audience,
                accepts_tokens,
                token_keys,
            ),
            (
                "PRESENCE_JWKS_CA_FILE",
                has_ca_file,
                has_jwks_url,
                "PRESENCE_JWKS_URL",
            ),
        ] {
            if is_set && !has_effect {
                let why = format!("has no effect without {needed}, which is not set");
                return Err(InvalidSetting::new(variable, why));
            }
        }
        Ok(())
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty; leave the variable unset instead".to_owned());
    }
    Ok(text.to_owned())
}
