//! What Redis answers to our scripts and commands, read into domain types.

use redis::{FromRedisValue, Value};

use super::entry;
use crate::presence::{ConnectionId, Epoch, Position, Timestamp, UserId};
use crate::store::{Announced, History, StoreError, UserState};

/// How things stand when a sweep begins, as `due.lua` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) now: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) newest: Position,
    pub(super) announced: u64,
    /// Not before the end of a grace.
    pub(super) next: Option<Timestamp>,
    /// How many should have been looked at before now; nobody during a grace.
    pub(super) overdue: u64,
}

/// The history as `history.lua` gives it: the epoch, the newest position, and of each entry its
/// position and its fields, name and value in turn. We write one field, `e`.
pub(super) type Entries = (u64, String, Vec<(String, Vec<Vec<u8>>)>);

/// Reads the answer of `due.lua`.
pub(super) fn due(answer: Vec<Value>) -> Result<Due, StoreError> {
    let mut values = answer.into_iter();
    let now = natural(&mut values)?;
    let epoch = Epoch(take(&mut values)?);
    let newest = position(take(&mut values)?)?;
    let announced = natural(&mut values)?;
    let grace = natural(&mut values)?;
    let next: i64 = take(&mut values)?;
    let next = u64::try_from(next).ok();
    let overdue = natural(&mut values)?;
    Ok(Due {
        now: Timestamp::from_millis(now),
        epoch,
        newest,
        announced,
        next: next.map(|due| Timestamp::from_millis(due.max(now + grace))),
        overdue: if grace == 0 { overdue } else { 0 },
    })
}

/// Reads the answer of `user.lua`.
pub(super) fn user_state(answer: Vec<Value>) -> Result<UserState, StoreError> {
    let mut values = answer.into_iter();
    let online: bool = take(&mut values)?;
    let last_seen: i64 = take(&mut values)?;
    let mut connections = Vec::new();
    while values.len() > 0 {
        let id: String = take(&mut values)?;
        let id = ConnectionId::new(&id).map_err(unexpected)?;
        let deadline = natural(&mut values)?;
        connections.push((id, Timestamp::from_millis(deadline)));
    }
    connections.sort();
    Ok(UserState {
        online,
        connections,
        last_seen_at: u64::try_from(last_seen).ok().map(Timestamp::from_millis),
    })
}

/// Reads the answer of `count.lua`: how many are announced, and who of them is due.
pub(super) fn counted(answer: Vec<Value>) -> Result<(u64, Vec<UserId>), StoreError> {
    let mut values = answer.into_iter();
    let announced = natural(&mut values)?;
    Ok((announced, user_ids(values)?))
}

/// Reads the answer of `announced.lua`, which names users by their places among those asked about.
pub(super) fn announced(answer: Vec<Value>, users: &[UserId]) -> Result<Announced, StoreError> {
    let mut values = answer.into_iter();
    let epoch = Epoch(take(&mut values)?);
    let position = position(take(&mut values)?)?;
    let announced = values.map(|place| user_at(place, users));
    Ok(Announced {
        epoch,
        position,
        users: announced.collect::<Result<_, _>>()?,
    })
}

/// Reads the answer of `PEXPIRETIME`, which is negative where there is no key that expires.
pub(super) fn deadline(answer: Value) -> Result<Option<u64>, StoreError> {
    let deadline = i64::from_redis_value(answer).map_err(unexpected)?;
    Ok(u64::try_from(deadline).ok())
}

fn user_at(place: Value, users: &[UserId]) -> Result<UserId, StoreError> {
    let place = usize::from_redis_value(place).map_err(unexpected)?;
    let user = users.get(place).cloned();
    user.ok_or_else(|| unexpected("a place that nobody has"))
}

/// Reads the answer of `history.lua`.
pub(super) fn history((epoch, newest, entries): Entries) -> Result<History, StoreError> {
    let entries = entries.into_iter().map(|(id, fields)| {
        let ours = fields
            .get(1)
            .and_then(|entry| std::str::from_utf8(entry).ok());
        Ok(entry::read_entry(position(id)?, ours.unwrap_or_default()))
    });
    Ok(History {
        epoch: Epoch(epoch),
        newest: position(newest)?,
        entries: entries.collect::<Result<_, _>>()?,
    })
}

/// Reads members of the index.
pub(super) fn user_ids(
    members: impl IntoIterator<Item = Value>,
) -> Result<Vec<UserId>, StoreError> {
    members.into_iter().map(user_id).collect()
}

fn user_id(member: Value) -> Result<UserId, StoreError> {
    let text = String::from_redis_value(member).map_err(unexpected)?;
    UserId::new(&text).map_err(unexpected)
}

/// The failure of a call whose answer makes no sense.
pub(super) fn unexpected(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("unexpected answer: {what}"))
}

fn take<T: FromRedisValue>(values: &mut impl Iterator<Item = Value>) -> Result<T, StoreError> {
    let value = values
        .next()
        .ok_or_else(|| unexpected("an answer cut short"))?;
    T::from_redis_value(value).map_err(unexpected)
}

/// Redis's integers are signed; the client library would read a negative one as a huge one. Two of
/// them can be added without overflow.
fn natural(values: &mut impl Iterator<Item = Value>) -> Result<u64, StoreError> {
    let number: i64 = take(values)?;
    u64::try_from(number).map_err(unexpected)
}

fn position(text: String) -> Result<Position, StoreError> {
    text.parse().map_err(unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn number(number: u64) -> Value {
        Value::Int(number.cast_signed())
    }

    /// Whatever a server, a proxy or somebody else's script may say.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Double),
            any::<bool>().prop_map(Value::Boolean),
            vec(any::<u8>(), 0..8).prop_map(Value::BulkString),
            "[0-9]{1,20}(-[0-9]{1,20})?".prop_map(|number| text(&number)),
            "\\PC{0,8}".prop_map(Value::SimpleString),
        ];
        leaf.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
    }

    proptest! {
        /// A failed call is a failed call; a panic in the sweeper would take the server down.
        #[test]
        fn no_answer_makes_it_panic(answer in vec(anything(), 0..12)) {
            let users = [UserId::new("a").expect("an id")];
            let _ = (due(answer.clone()), user_state(answer.clone()), counted(answer.clone()));
            let found = announced(answer.clone(), &users);
            prop_assert!(found.is_err() || answer.len() >= 2);
            let _ = answer.iter().cloned().map(deadline).collect::<Vec<_>>();
            let _ = Entries::from_redis_value(Value::Array(answer)).map(history);
        }

        /// A negative number in the place of a duration or a count is refused.
        #[test]
        fn what_a_sweep_begins_with_is_read(
            now in 0..=i64::MAX.cast_unsigned(),
            grace: i64,
            next: i64,
            overdue: i64,
        ) {
            let mut answer = vec![number(now), text("17"), text("5-1"), number(9)];
            answer.extend([grace, next, overdue].map(Value::Int));
            let read = due(answer);
            prop_assert_eq!(read.is_ok(), grace >= 0 && overdue >= 0);
            if let Ok(read) = read {
                prop_assert_eq!((read.now.as_millis(), read.epoch), (now, Epoch(17)));
                prop_assert_eq!((read.newest.millis, read.announced), (5, 9));
                let latest = i128::from(next).max(i128::from(now) + i128::from(grace));
                let next = (next >= 0).then_some(latest);
                prop_assert_eq!(read.next.map(|due| i128::from(due.as_millis())), next);
                let counts = if grace == 0 { overdue } else { 0 };
                prop_assert_eq!(read.overdue, counts.cast_unsigned());
            }
        }

        #[test]
        fn the_state_of_a_user_is_read(
            online: bool,
            last_seen: i64,
            mut connections in vec(("[a-z0-9._~:@-]{1,64}", 0..=i64::MAX.cast_unsigned()), 0..4),
            cut: bool,
        ) {
            let mut answer = vec![number(online.into()), Value::Int(last_seen)];
            for (id, deadline) in &connections {
                answer.extend([text(id), number(*deadline)]);
            }
            if cut {
                answer.pop();
            }
            let read = user_state(answer);
            prop_assert_eq!(read.is_ok(), !cut);
            if let Ok(read) = read {
                let seen = read.last_seen_at.map(Timestamp::as_millis);
                prop_assert_eq!((read.online, seen), (online, u64::try_from(last_seen).ok()));
                connections.sort();
                let found = read.connections.iter();
                let found: Vec<_> = found.map(|(id, at)| (id.to_string(), at.as_millis())).collect();
                prop_assert_eq!(found, connections);
            }
        }

        #[test]
        fn places_name_those_asked_about(places in vec(0_u64..6, 0..6), asked in 0_usize..6) {
            let users: Vec<_> = (0..asked).map(|each| UserId::new(&each.to_string()).expect("an id")).collect();
            let mut answer: Vec<_> = places.iter().copied().map(number).collect();
            answer.splice(..0, [text("17"), text("5-1")]);
            let read = announced(answer, &users);
            prop_assert_eq!(read.is_ok(), places.iter().all(|place| *place < asked as u64));
            if let Ok(read) = read {
                let found = read.users.iter().map(|user| user.as_str().parse::<u64>());
                prop_assert_eq!(found.collect::<Vec<_>>(), places.into_iter().map(Ok).collect::<Vec<_>>());
            }
        }

        #[test]
        fn only_a_key_that_expires_has_a_deadline(answer: i64) {
            let read = deadline(Value::Int(answer)).expect("a number");
            prop_assert_eq!(read, u64::try_from(answer).ok());
        }
    }
}
