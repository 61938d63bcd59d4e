//! The text format of events, in messages of the bus and in the history.

use std::sync::Arc;

use crate::model::{
    Entry, Epoch, GroupEvent, GroupId, JoinedUser, LeftReason, MemberChange, Position,
    PresenceEvent, Reason, State, Status, Timestamp, UserChange, UserId,
};

/// Separates the parts of a state, and the ids in an entry about a group. No part has a control character.
const UNIT: char = '\u{1f}';
const UNIT_TEXT: &str = "\u{1f}";

/// Reads a message of the bus: the epoch, then a line `id entry` for each entry. `None` for a message of another
/// format, because other programs may publish on the channel too.
pub(in crate::store::redis) fn parse_message(message: &str) -> Option<(Epoch, Vec<Entry>)> {
    let (epoch, lines) = message.split_once('\n')?;
    let entries = lines.split('\n').map(|line| {
        let (id, entry) = line.split_once(' ')?;
        parse_entry(id.parse().ok()?, entry)
    });
    Some((Epoch(epoch.parse().ok()?), entries.collect::<Option<_>>()?))
}

/// Reads an entry of the history. An unreadable entry has itself as its predecessor, so a reader notices the gap and
/// starts again after it.
pub(in crate::store::redis) fn read_entry(position: Position, entry: &str) -> Entry {
    let unreadable = Entry::Unknown {
        position,
        previous: position,
    };
    parse_entry(position, entry).unwrap_or(unreadable)
}

/// Divides the last field into the user and its state, which may be missing.
fn split_state(text: &str) -> (&str, &str) {
    text.split_once(UNIT).unwrap_or((text, ""))
}

/// Reads `away status data`, separated by control characters. The outer `None`: unreadable.
fn read_state(shown: &str) -> Option<Option<Arc<State>>> {
    if shown.is_empty() {
        return Some(None);
    }
    let mut parts = shown.splitn(3, UNIT);
    let away = parts.next()? == "1";
    let (word, data) = (parts.next()?, parts.next()?);
    let status = match word {
        "" => None,
        word => Some(Status::kept(word, data)?),
    };
    let state = State { away, status };
    Some((!state.is_default()).then(|| Arc::new(state)))
}

/// Reads a state as Redis keeps it: `away end status data`. Returns it without a status that ended before `now`.
pub(in crate::store::redis) fn kept_state(
    text: &str,
    now: Option<Timestamp>,
) -> Option<Arc<State>> {
    let (away, rest) = text.split_once(UNIT)?;
    let (ends, shown) = rest.split_once(UNIT)?;
    let ends = ends.parse().ok().map(Timestamp::from_millis)?;
    let has_ended = ends != Timestamp::default() && now.is_some_and(|now| ends <= now);
    let shown = if has_ended { UNIT_TEXT } else { shown };
    read_state(&format!("{away}{UNIT}{shown}")).flatten()
}

/// Reads an entry: `previous kind at lastSeen userId`, and then the state of the user if something is set. An unknown
/// kind may have any fields.
///
/// The user id is late because it may contain spaces. It never contains a control character.
fn parse_entry(position: Position, entry: &str) -> Option<Entry> {
    let (previous, change) = entry.split_once(' ')?;
    let previous = previous.parse().ok()?;
    let (kind, fields) = change.split_once(' ').unwrap_or((change, ""));
    if kind.is_empty() {
        return None;
    }
    match kind {
        "o" | "u" | "e" | "d" => {}
        "j" | "l" => return parse_group_event(position, previous, kind, fields),
        _ => return Some(Entry::Unknown { position, previous }),
    }
    let mut fields = fields.splitn(3, ' ');
    let at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let last_seen_at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let (user, shown) = split_state(fields.next()?);
    let user = UserId::new(user).ok()?;
    let state = read_state(shown)?;
    let offline = |reason| UserChange::Offline {
        reason,
        last_seen_at,
    };
    let change = match kind {
        "e" => offline(Reason::Expired),
        "d" => offline(Reason::Disconnected),
        "u" => UserChange::Updated { state },
        _ => UserChange::Online { state },
    };
    Some(Entry::Event(PresenceEvent {
        position,
        previous,
        user,
        at,
        change,
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
    let mut ids = fields.split(UNIT);
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
            event.change,
            UserChange::Offline {
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

    #[test]
    fn the_state_of_a_user_follows_its_id() {
        let shown = "\u{1f}1\u{1f}dnd\u{1f}{\"a\":\"b \u{2028}\"}";
        let message = format!("17\n5-1 5-0 o 5 0 a b{shown}\n6-0 5-1 u 6 0 a b\u{1f}0\u{1f}\u{1f}");
        let (_, events) = parse_message(&message).expect("well-formed");
        let event = events[0].event().expect("a known kind");
        assert_eq!(event.user.as_str(), "a b");
        let status = Status::kept("dnd", "{\"a\":\"b \u{2028}\"}");
        assert!(status.is_some());
        let state = Arc::new(State { away: true, status });
        let online = UserChange::Online {
            state: Some(Arc::clone(&state)),
        };
        assert_eq!(event.change, online);
        let event = events[1].event().expect("a known kind");
        assert_eq!(event.change, UserChange::Updated { state: None });
        let kept = format!("1\u{1f}7{}", &shown[2..]);
        let at = |millis| kept_state(&kept, Some(Timestamp::from_millis(millis)));
        assert_eq!(at(6), Some(state));
        let away = State {
            away: true,
            status: None,
        };
        assert_eq!(at(7), Some(Arc::new(away)));
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
            kinds in vec(select(vec!["o", "u", "e", "d"]), 1..4),
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
                let seen = (!["o", "u"].contains(&kind)).then_some(last_seen);
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
            && !["o", "u", "e", "d"].contains(&kind)
        {
            return position(id) && position(previous);
        }
        let [id, previous, kind, at, last_seen, user] = fields[..] else {
            return false;
        };
        let (user, shown) = split_state(user);
        let user = UserId::new(user).is_ok() && read_state(shown).is_some();
        position(id)
            && position(previous)
            && number(at)
            && number(last_seen)
            && user
            && ["o", "u", "e", "d"].contains(&kind)
    }

    /// The kind of a change, and the last-seen time of an offline event.
    fn written(event: &PresenceEvent) -> (&'static str, Option<u64>) {
        match event.change {
            UserChange::Online { .. } => ("o", None),
            UserChange::Updated { .. } => ("u", None),
            UserChange::Offline {
                reason,
                last_seen_at,
            } => match reason {
                Reason::Expired => ("e", Some(last_seen_at.as_millis())),
                Reason::Disconnected => ("d", Some(last_seen_at.as_millis())),
            },
        }
    }
}
