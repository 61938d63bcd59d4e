//! The error of a setting that the service cannot start with.

use std::borrow::Cow;

use thiserror::Error;

/// A setting is invalid, so the service does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{variable}: {why}")]
pub struct InvalidSetting {
    /// The name of the environment variable.
    pub variable: Cow<'static, str>,
    /// What is wrong with the value. The text never shows a secret.
    pub why: String,
}

impl InvalidSetting {
    /// The value of `variable` is invalid because of `why`.
    pub fn new(variable: impl Into<Cow<'static, str>>, why: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            why: why.into(),
        }
    }
}
