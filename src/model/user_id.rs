use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

/// The id that the application chose for a user: 1 to 128 bytes of UTF-8 without control characters.
///
/// Control characters are refused because an id is part of a line in Server-Sent Events, in logs and in the history of
/// the store. A clone costs one reference count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UserId(Arc<str>);

/// Why a text is not a [`UserId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidUserId {
    /// The text is empty or longer than [`UserId::MAX_BYTES`].
    #[error("a user id has 1 to 128 bytes of UTF-8")]
    Length,
    /// The text contains a control character (Unicode category Cc).
    #[error("a user id has no control characters")]
    ControlCharacter,
}

impl UserId {
    /// The longest id, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 128;

    /// Checks `text` against the rules of the type.
    pub fn new(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(InvalidUserId::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidUserId::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The id as the application wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for UserId {
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
            let good = (1..=128).contains(&text.len()) && !text.contains(control);
            let id = UserId::new(&text);
            prop_assert_eq!(id.is_ok(), good);
            if let Ok(id) = id {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }

    #[test]
    fn the_length_counts_bytes() {
        assert!(UserId::new(&"é".repeat(64)).is_ok());
        assert_eq!(UserId::new(&"é".repeat(65)), Err(InvalidUserId::Length));
        assert_eq!(UserId::new(""), Err(InvalidUserId::Length));
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["a\nb", "\0", "a\u{7f}", "\u{85}"] {
            assert_eq!(UserId::new(text), Err(InvalidUserId::ControlCharacter));
        }
        assert!(UserId::new("名前 :*{}/").is_ok());
    }
}
