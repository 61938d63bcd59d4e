use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

/// The longest id of a user or a group, in bytes of UTF-8.
const MAX_BYTES: usize = 128;

/// Why a text is not the id of a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidId {
    /// The text is empty or longer than 128 bytes.
    #[error("an id has 1 to 128 bytes of UTF-8")]
    Length,
    /// The text contains a control character (Unicode category Cc).
    #[error("an id has no control characters")]
    ControlCharacter,
}

/// Checks the rules of an id.
///
/// Control characters are refused because an id is part of a line in Server-Sent Events, in logs and in the history of
/// the store.
fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return Err(InvalidId::Length);
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidId::ControlCharacter);
    }
    Ok(())
}

macro_rules! id {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rules of the type.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as the application wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// The id that the application chose for a user: 1 to 128 bytes of UTF-8 without control characters.
    ///
    /// A clone costs one reference count.
    UserId
}

id! {
    /// The id that the application chose for a group: 1 to 128 bytes of UTF-8 without control characters.
    ///
    /// A clone costs one reference count.
    GroupId
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
            let expected = if !(1..=128).contains(&text.len()) {
                Some(InvalidId::Length)
            } else if text.contains(control) {
                Some(InvalidId::ControlCharacter)
            } else {
                None
            };
            let (user, group) = (UserId::new(&text), GroupId::new(&text));
            prop_assert_eq!(user.as_ref().err().copied(), expected);
            prop_assert_eq!(group.as_ref().err().copied(), expected);
            if let (Ok(user), Ok(group)) = (user, group) {
                prop_assert_eq!(user.as_str(), &text);
                prop_assert_eq!(group.as_str(), &text);
            }
        }
    }

    #[test]
    fn the_length_counts_bytes() {
        assert!(UserId::new(&"é".repeat(64)).is_ok());
        assert_eq!(UserId::new(&"é".repeat(65)), Err(InvalidId::Length));
        assert_eq!(UserId::new(""), Err(InvalidId::Length));
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["a\nb", "\0", "a\u{7f}", "\u{85}"] {
            assert_eq!(UserId::new(text), Err(InvalidId::ControlCharacter));
        }
        assert!(UserId::new("名前 :*{}/").is_ok());
    }
}
