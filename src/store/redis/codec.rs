//! The text format of events, in messages of the bus and in the history.

use std::sync::Arc;

use crate::model::{
    Entry, Epoch, GroupEvent, GroupId, JoinedUser, LeftReason, MemberChange, Position,
    PresenceEvent, Reason, Timestamp, Transition, UserId,
};

/// Separates the ids in an entry about a group; `SEPARATOR` in `groups.lua`.
const SEPARATOR: char = '\u{1f}';

/// Reads a message of the bus: the epoch, then a line `id entry` for each entry. `None` for a message of another format,
/// because other programs may publish on the channel too.
pub(super) fn parse_message(message: &str) -> Option<(Epoch, Vec<Entry>)> {
    let (epoch, lines) = message.split_once('\n')?;
    let entries = lines.split('\n').map(|line| {
        let (id, entry) = line.split_once(' ')?;
        parse_entry(id.parse().ok()?, entry)
    });
    Some((Epoch(epoch.parse().ok()?), entries.collect::<Option<_>>()?))
}

/// Reads an entry of the history. An unreadable entry has itself as its predecessor, so a reader notices the gap and
/// starts again after it.
pub(super) fn read_entry(position: Position, entry: &str) -> Entry {
    let unreadable = Entry::Unknown {
        position,
        previous: position,
    };
    parse_entry(position, entry).unwrap_or(unreadable)
}

/// Reads an entry: `previous kind at lastSeen userId`. An unknown kind may have any fields.
///
/// The user id is last because it may contain spaces. It never contains a line break.
fn parse_entry(position: Position, entry: &str) -> Option<Entry> {
    let (previous, change) = entry.split_once(' ')?;
    let previous = previous.parse().ok()?;
    let (kind, fields) = change.split_once(' ').unwrap_or((change, ""));
    if kind.is_empty() {
        return None;
    }
    match kind {
        "o" | "e" | "d" => {}
        "j" | "l" => return parse_group_event(position, previous, kind, fields),
        _ => return Some(Entry::Unknown { position, previous }),
    }
    let mut fields = fields.splitn(3, ' ');
    let at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let last_seen_at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let user = UserId::new(fields.next()?).ok()?;
    let offline = |reason| Transition::Offline {
        reason,
        last_seen_at,
    };
    let transition = match kind {
        "e" => offline(Reason::Expired),
        "d" => offline(Reason::Disconnected),
        _ => Transition::Online,
    };
    Some(Entry::Event(PresenceEvent {
        position,
        previous,
        user,
        at,
        transition,
    }))
}

/// Reads the fields of an entry about a group: `at group`, and for each user that joined a separator, `+` if the user
/// was announced or else `-`, and its id; or `at reason group`, and for each user that left a separator and its id.
fn parse_group_event(
    position: Position,
    previous: Position,
    kind: &str,
    fields: &str,
) -> Option<Entry> {
    let (at, fields) = fields.split_once(' ')?;
    let at = Timestamp::from_millis(at.parse().ok()?);
    let (reason, fields) = match kind {
        "l" => fields.split_once(' ')?,
        _ => ("", fields),
    };
    let mut ids = fields.split(SEPARATOR);
    let group = GroupId::new(ids.next()?).ok()?;
    let change = match reason {
        "" => MemberChange::Joined(ids.map(parse_joined).collect::<Option<_>>()?),
        reason => MemberChange::Left {
            users: ids.map(|id| UserId::new(id).ok()).collect::<Option<_>>()?,
            reason: match reason {
                "r" => LeftReason::Removed,
                "d" => LeftReason::Disconnected,
                "e" => LeftReason::Expired,
                _ => return None,
            },
        },
    };
    Some(Entry::Group(Arc::new(GroupEvent {
        position,
        previous,
        group,
        at,
        change,
    })))
}

fn parse_joined(text: &str) -> Option<JoinedUser> {
    let id = text.strip_prefix(['+', '-'])?;
    Some(JoinedUser {
        user: UserId::new(id).ok()?,
        is_announced: text.starts_with('+'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    #[test]
    fn a_message_with_spaces_in_a_user_id_is_read() {
        let message = "17\n5-1 5-0 e 5 2 a b  c\n6-0 5-1 o 6 0 d";
        let (epoch, events) = parse_message(message).expect("well-formed");
        assert_eq!(epoch, Epoch(17));
        let event = events[0].event().expect("a known kind");
        assert_eq!(event.user.as_str(), "a b  c");
        assert_eq!(
            event.transition,
            Transition::Offline {
                reason: Reason::Expired,
                last_seen_at: Timestamp::from_millis(2),
            }
        );
        assert_eq!(events[1].previous(), events[0].position());
    }

    #[test]
    fn an_unknown_kind_with_any_fields_advances_the_position() {
        for fields in ["", " ", " x", " {\"a\": 1} 2 3", " 5 2 bob", "  "] {
            let message = format!("17\n5-1 5-0 away{fields}\n6-0 5-1 o 6 0 d");
            let (_, entries) = parse_message(&message).expect("well-formed");
            let unknown = Entry::Unknown {
                position: Position {
                    millis: 5,
                    sequence: 1,
                },
                previous: Position {
                    millis: 5,
                    sequence: 0,
                },
            };
            assert_eq!(entries[0], unknown, "{message}");
            assert!(entries[1].event().is_some());
        }
    }

    #[test]
    fn an_unreadable_entry_is_a_gap() {
        let position = Position {
            millis: 5,
            sequence: 1,
        };
        for entry in ["", "hello", "5-0", "5-0 o x 2 bob", "5 o 5 2 bob"] {
            let previous = position;
            assert_eq!(
                read_entry(position, entry),
                Entry::Unknown { position, previous }
            );
        }
    }

    proptest! {
        /// In the format of `announce.lua`.
        #[test]
        fn every_announced_event_is_read(
            epoch: u64,
            millis: (u64, u64),
            sequence: (u64, u64),
            at: u64,
            last_seen: u64,
            kinds in vec(select(vec!["o", "e", "d"]), 1..4),
            user in "\\PC{1,32}",
        ) {
            let entry = |kind| format!(
                "{}-{} {}-{} {kind} {at} {last_seen} {user}",
                millis.0, sequence.0, millis.1, sequence.1,
            );
            let lines: Vec<_> = kinds.iter().map(entry).collect();
            let message = format!("{epoch}\n{}", lines.join("\n"));
            let (read, events) = parse_message(&message).expect("well-formed");
            prop_assert_eq!(read, Epoch(epoch));
            prop_assert_eq!(events.len(), kinds.len());
            for (entry, kind) in events.iter().zip(kinds) {
                let event = entry.event().expect("a known kind");
                let seen = (kind != "o").then_some(last_seen);
                prop_assert_eq!(written(event), (kind, seen));
                prop_assert_eq!(event.position, Position { millis: millis.0, sequence: sequence.0 });
                prop_assert_eq!(event.previous, Position { millis: millis.1, sequence: sequence.1 });
                prop_assert_eq!(event.at.as_millis(), at);
                prop_assert_eq!(event.user.as_str(), &user);
            }
        }

        /// A message is read only if all of it has the format.
        #[test]
        fn a_message_is_read_whole_or_not_at_all(
            message in "\\PC*|[0-9 oed\n-]*|(?s)[0-9]{1,3}(\n[0-9]-[0-9] [0-9]-[0-9] [oedx] [0-9] [0-9] .{0,3}){0,3}",
        ) {
            let lines: Vec<&str> = message.split('\n').collect();
            let good = lines.len() > 1
                && lines[0].parse::<u64>().is_ok()
                && lines[1..].iter().all(|line| is_entry(line));
            let read = parse_message(&message);
            prop_assert_eq!(read.is_some(), good);
            if let Some((_, events)) = read {
                prop_assert_eq!(events.len(), lines.len() - 1);
            }
        }
    }

    fn is_entry(line: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().is_ok();
        let position = |text: &str| match text.split('-').collect::<Vec<_>>()[..] {
            [millis, sequence] => number(millis) && number(sequence),
            _ => false,
        };
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        if let [id, previous, kind, ..] = fields[..]
            && !kind.is_empty()
            && !["o", "e", "d"].contains(&kind)
        {
            return position(id) && position(previous);
        }
        let [id, previous, kind, at, last_seen, user] = fields[..] else {
            return false;
        };
        let user = UserId::new(user).is_ok();
        position(id)
            && position(previous)
            && number(at)
            && number(last_seen)
            && user
            && ["o", "e", "d"].contains(&kind)
    }

    /// The kind of a transition, and the last-seen time of an offline event.
    fn written(event: &PresenceEvent) -> (&'static str, Option<u64>) {
        match event.transition {
            Transition::Online => ("o", None),
            Transition::Offline {
                reason,
                last_seen_at,
            } => match reason {
                Reason::Expired => ("e", Some(last_seen_at.as_millis())),
                Reason::Disconnected => ("d", Some(last_seen_at.as_millis())),
            },
        }
    }
}
