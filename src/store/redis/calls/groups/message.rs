//! The messages that tell groups what a connection did; see `outbox.lua`.

use crate::model::{ConnectionId, GroupId, Timestamp, UserId};
use crate::store::redis::format::stated::SEPARATOR;

/// A message of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The text in the outbox.
    pub(super) text: String,
    pub(super) stamp: String,
    pub(super) user: UserId,
    pub(super) connection: ConnectionId,
    pub(super) group: GroupId,
    /// When the connection ends in the group, on the clock of the user's partition. `None`: at once.
    pub(super) ends: Option<Timestamp>,
    /// `d` if the connection was closed or omitted the group, `s` if only its deadline was shortened.
    pub(super) kind: String,
}

impl Message {
    /// Reads a message. `None` if another program wrote it.
    pub(super) fn read(text: String) -> Option<Self> {
        let parts: Vec<_> = text.split(SEPARATOR).collect();
        let [head, user, connection, group] = parts[..] else {
            return None;
        };
        let [stamp, ends, kind] = head.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let ends: u64 = ends.parse().ok()?;
        Some(Self {
            stamp: stamp.to_owned(),
            user: UserId::new(user).ok()?,
            connection: ConnectionId::new(connection).ok()?,
            group: GroupId::new(group).ok()?,
            ends: (ends > 0).then(|| Timestamp::from_millis(ends)),
            kind: kind.to_owned(),
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_the_script_writes_it() {
        let text = "17 0 d\u{1f}alice\u{1f}tab-1\u{1f}doc 1".to_owned();
        let message = Message::read(text.clone()).expect("a message");
        assert_eq!(message.text, text);
        assert_eq!((&*message.stamp, &*message.kind), ("17", "d"));
        assert_eq!(
            (message.user.as_str(), message.group.as_str()),
            ("alice", "doc 1")
        );
        assert_eq!((message.connection.as_str(), message.ends), ("tab-1", None));
        let later = Message::read(text.replace(" 0 ", " 1700000000000 ")).expect("a message");
        assert_eq!(later.ends, Some(Timestamp::from_millis(1_700_000_000_000)));
        for bad in [
            "",
            "17 0 d",
            "17 d\u{1f}a\u{1f}1\u{1f}g",
            "17 0 d\u{1f}a\u{1f}1",
        ] {
            assert_eq!(Message::read(bad.to_owned()), None, "{bad}");
        }
    }
}
