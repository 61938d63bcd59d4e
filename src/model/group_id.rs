use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

/// The id that the application chose for a group: 1 to 128 bytes of UTF-8 without control characters.
///
/// A clone costs one reference count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct GroupId(Arc<str>);

/// Why a text is not a [`GroupId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidGroupId {
    /// The text is empty or longer than [`GroupId::MAX_BYTES`].
    #[error("a group id has 1 to 128 bytes of UTF-8")]
    Length,
    /// The text contains a control character (Unicode category Cc).
    #[error("a group id has no control characters")]
    ControlCharacter,
}

impl GroupId {
    /// The longest id, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 128;

    /// Checks `text` against the rules of the type.
    pub fn new(text: &str) -> Result<Self, InvalidGroupId> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(InvalidGroupId::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidGroupId::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The id as the application wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for GroupId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Lengths around the limit, which random texts rarely have.
        #[test]
        fn an_id_is_1_to_128_bytes_without_control_characters(
            text in "(?s).{0,6}|\\PC{0,40}|[a-zé🦀]{28,140}|[a-z]{120,126}(?s).{0,3}",
        ) {
            let control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
            let id = GroupId::new(&text);
            let expected = if !(1..=128).contains(&text.len()) {
                Some(InvalidGroupId::Length)
            } else if text.contains(control) {
                Some(InvalidGroupId::ControlCharacter)
            } else {
                None
            };
            prop_assert_eq!(id.as_ref().err().copied(), expected);
            if let Ok(id) = id {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
