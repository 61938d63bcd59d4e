//! The settings of the service, read from flags and environment variables and checked before anything starts.
//!
//! Each group of settings has a file of its own; its documentation is the text of `--help`.

mod auth;
mod cors_origins;
mod duration;
mod http;
mod invalid_setting;
mod lambda;
mod limits;
mod listen;
mod number;
mod partitions;
mod presence;
mod rate_limit;
mod redis;
mod redis_url;
mod secret;
mod settings;
mod size;
mod streams;
mod unknown_variables;
mod webhooks;

pub use self::auth::AuthConfig;
pub use self::cors_origins::{AllowedOrigin, CorsOrigins};
pub use self::http::{HttpConfig, Switch};
pub use self::invalid_setting::{InvalidSetting, named_next};
pub use self::lambda::{InvokeMode, LambdaConfig};
pub use self::limits::LimitsConfig;
pub use self::listen::ListenConfig;
pub use self::presence::PresenceConfig;
pub use self::rate_limit::RateLimit;
pub use self::redis::{KeyspaceEvents, RedisConfig};
pub use self::redis_url::{RedisUrl, Sentinels};
pub use self::secret::Secret;
pub use self::settings::Config;
pub use self::streams::StreamsConfig;
pub use self::unknown_variables::check_variables;
pub use self::webhooks::WebhooksConfig;
