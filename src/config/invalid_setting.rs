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

    /// This error about the store to move to, whose settings have other names.
    pub fn of_next(self) -> Self {
        Self {
            variable: named_next(&self.variable).into(),
            why: named_next(&self.why),
        }
    }
}

/// The names of the settings of the store to move to, in place of those of the present store.
pub fn named_next(text: &str) -> String {
    let named = ["REDIS_URL", "PRESENCE_PARTITIONS", "PRESENCE_KEY_PREFIX"];
    let next = |text: String, name: &str| text.replace(name, &format!("{name}_NEXT"));
    named.into_iter().fold(text.to_owned(), next)
}
