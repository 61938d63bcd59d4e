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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

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
        /// As `announce.lua` writes it.
        #[test]
        fn whatever_is_announced_is_read_again(
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
            for (event, kind) in events.iter().zip(kinds) {
                let seen = (kind != "o").then_some(last_seen);
                prop_assert_eq!(written(event), (kind, seen));
                prop_assert_eq!(event.position, Position { millis: millis.0, sequence: sequence.0 });
                prop_assert_eq!(event.previous, Position { millis: millis.1, sequence: sequence.1 });
                prop_assert_eq!(event.at.as_millis(), at);
                prop_assert_eq!(event.user.as_str(), &user);
            }
        }

        /// What others publish on our channel is read as ours only if it has our form throughout.
        #[test]
        fn a_message_is_ours_or_nothing_of_it_is(
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
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let [id, previous, kind, at, last_seen, user] = fields[..] else {
            return false;
        };
        let number = |text: &str| text.parse::<u64>().is_ok();
        let position = |text: &str| match text.split('-').collect::<Vec<_>>()[..] {
            [millis, sequence] => number(millis) && number(sequence),
            _ => false,
        };
        let user = UserId::new(user).is_ok();
        position(id)
            && position(previous)
            && number(at)
            && number(last_seen)
            && user
            && ["o", "e", "d"].contains(&kind)
    }

    /// The letter of a transition and when its user was last seen, which an arrival does not say.
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
