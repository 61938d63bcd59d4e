use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// One device, tab or process of a user: 1 to 64 of `A-Z a-z 0-9 . _ ~ : @ -`.
///
/// A client that sends no id uses the one unnamed connection of the user, [`ConnectionId::unnamed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ConnectionId(Cow<'static, str>);

/// The text is not a [`ConnectionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a connectionId has 1 to 64 of A-Z a-z 0-9 . _ ~ : @ -")]
pub struct InvalidConnectionId;

impl ConnectionId {
    /// The longest id, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// The id of the unnamed connection.
    pub const UNNAMED: &'static str = "1";

    /// Checks `text` against the rules of the type.
    pub fn new(text: &str) -> Result<Self, InvalidConnectionId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:@-".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(allowed) {
            return Err(InvalidConnectionId);
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }

    /// The connection of a client that sends no id: `"1"`.
    pub fn unnamed() -> Self {
        Self(Cow::Borrowed(Self::UNNAMED))
    }

    /// Whether this is the unnamed connection, also if the client sent its id.
    pub fn is_unnamed(&self) -> bool {
        &*self.0 == Self::UNNAMED
    }

    /// The id as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_1_to_64_of_the_listed_characters(
            text in "(?s).{0,6}|[A-Za-z0-9._~:@-]{0,80}|[A-Za-z0-9._~:@-]{0,40}[!-~][A-Za-z0-9._~:@-]{0,40}",
        ) {
            let listed = |c| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '~' | ':' | '@' | '-');
            let good = (1..=64).contains(&text.chars().count()) && text.chars().all(listed);
            let id = ConnectionId::new(&text);
            prop_assert_eq!(id.is_ok(), good);
            if let Ok(id) = id {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }

    #[test]
    fn only_the_listed_characters_are_accepted() {
        assert!(ConnectionId::new("A-z.0_~:@-9").is_ok());
        for text in ["", "a b", "a/b", "é", "*", &"x".repeat(65)] {
            assert_eq!(ConnectionId::new(text), Err(InvalidConnectionId));
        }
    }

    #[test]
    fn the_id_of_the_unnamed_connection_names_that_connection() {
        assert_eq!(ConnectionId::new("1"), Ok(ConnectionId::unnamed()));
    }
}
