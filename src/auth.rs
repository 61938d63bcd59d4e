//! Authentication and permissions, independent of HTTP.
//!
//! An [`Authenticator`] turns the credential of a request into a [`Caller`]; the caller decides what is allowed. A
//! credential is an API key or a token (JWT). A refusal is an [`Error`], which `http` translates into a response.

mod api_keys;
mod authenticator;
mod caller;
mod claims;
mod digest;
mod error;
mod jwks;
mod jwks_client;
mod rate_limit;
mod token;
mod token_cache;
mod verification_budget;
mod verifying_key;

pub(crate) use self::authenticator::Authenticator;
pub(crate) use self::caller::Caller;
pub(crate) use self::error::Error;
pub(crate) use self::rate_limit::CallKind;
