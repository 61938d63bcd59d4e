use crate::presence::{Epoch, Position, PresenceEvent, Reason, Timestamp, Transition, UserId};

/// Reads a bus message: the epoch, then a line for each event, `id entry`.
pub(super) fn parse_message(message: &str) -> Option<(Epoch, Vec<PresenceEvent>)> {
    let (epoch, lines) = message.split_once('\n')?;
    let events = lines.split('\n').map(|line| {
        let (id, entry) = line.split_once(' ')?;
        parse_entry(id, entry)
    });
    Some((Epoch(epoch.parse().ok()?), events.collect::<Option<_>>()?))
}

/// Reads an entry of the history: `previous kind at lastSeen userId`.
///
/// The user comes last because an id may contain spaces; it never contains a line break.
pub(super) fn parse_entry(id: &str, entry: &str) -> Option<PresenceEvent> {
    let mut fields = entry.splitn(5, ' ');
    let previous = fields.next()?.parse().ok()?;
    let kind = fields.next()?;
    let at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let last_seen_at = Timestamp::from_millis(fields.next()?.parse().ok()?);
    let user = UserId::new(fields.next()?).ok()?;
    let offline = |reason| Transition::Offline {
        reason,
        last_seen_at,
    };
    let transition = match kind {
        "o" => Transition::Online,
        "e" => offline(Reason::Expired),
        "d" => offline(Reason::Disconnected),
        _ => return None,
    };
    Some(PresenceEvent {
        position: id.parse::<Position>().ok()?,
        previous,
        user,
        at,
        transition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_with_spaces_in_a_user_id_is_read() {
        let message = "17\n5-1 5-0 e 5 2 a b  c\n6-0 5-1 o 6 0 d";
        let (epoch, events) = parse_message(message).expect("well-formed");
        assert_eq!(epoch, Epoch(17));
        assert_eq!(events[0].user.as_str(), "a b  c");
        assert_eq!(
            events[0].transition,
            Transition::Offline {
                reason: Reason::Expired,
                last_seen_at: Timestamp::from_millis(2),
            }
        );
        assert_eq!(events[1].previous, events[0].position);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in "\\PC*|[0-9 oed\n-]*") {
            let _ = parse_message(&message);
        }
    }
}
