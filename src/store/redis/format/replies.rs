//! Reads the replies of Redis to scripts and commands into domain types.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use super::codec;
use crate::model::{
    Connected, Disconnected, History, LastingStatus, LiveConnection, Refusal, State, Status,
    UserState,
};
use crate::model::{ConnectionId, Epoch, Position, Timestamp, UserId};
use crate::store::error::StoreError;

/// The reply of `due.lua`: the state at the beginning of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Due {
    pub(in crate::store::redis) now: Timestamp,
    pub(in crate::store::redis) epoch: Epoch,
    pub(in crate::store::redis) newest: Position,
    /// The number of announced users whose departure is not held.
    pub(in crate::store::redis) announced: u64,
    /// The number of the grant of this instance.
    pub(in crate::store::redis) grant: u64,
    /// The first time in the index.
    pub(in crate::store::redis) next: Option<Timestamp>,
    /// The number of users whose time has passed.
    pub(in crate::store::redis) overdue: u64,
    /// The place of the recheck, if the clock was set back.
    pub(in crate::store::redis) recheck: Option<u64>,
    /// When an instance was last ready to serve.
    pub(in crate::store::redis) former: Option<Timestamp>,
    /// When the state of a user changes next without a call.
    pub(in crate::store::redis) next_change: Option<Timestamp>,
    /// When to look at the first group with seats.
    pub(in crate::store::redis) next_group: Option<Timestamp>,
    /// The time of the first message in the outbox.
    pub(in crate::store::redis) first_message: Option<Timestamp>,
    /// Whether a departure is held, or a connection is delicate.
    pub(in crate::store::redis) is_delicate: bool,
}

impl Due {
    /// When something is due next.
    pub(in crate::store::redis) fn next_look(&self) -> Option<Timestamp> {
        let all = [
            self.next,
            self.next_change,
            self.next_group,
            self.first_message,
        ];
        all.into_iter().flatten().min()
    }
}

/// The reply of `count.lua`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Counted {
    /// The number of announced users whose departure is not held.
    pub(in crate::store::redis) announced: u64,
    /// The number of due users.
    pub(in crate::store::redis) due: u64,
    /// A part of the due users, without those whose departure is held.
    pub(in crate::store::redis) to_check: Vec<UserId>,
}

/// The reply of `history.lua`: the epoch, the newest position, and each entry with its position and its fields, name
/// and value in turn. The service writes one field, `e`.
pub(in crate::store::redis) type Entries = (u64, String, Vec<(String, Vec<Vec<u8>>)>);

/// The record of the number of partitions, if `due.lua` found one of another number and did nothing.
pub(in crate::store::redis) fn other_layout(answer: &[Value]) -> Option<&[u8]> {
    match answer {
        [Value::BulkString(kind), Value::BulkString(record)] if kind == b"layout" => Some(record),
        _ => None,
    }
}

/// Reads the reply of `due.lua`, unless it is an [`other_layout`].
pub(in crate::store::redis) fn due(answer: Vec<Value>) -> Result<Due, StoreError> {
    let mut values = answer.into_iter();
    let now = natural(&mut values)?;
    let epoch = Epoch(take(&mut values)?);
    let newest = position(take(&mut values)?)?;
    let announced = natural(&mut values)?;
    let grant = natural(&mut values)?;
    let next: i64 = take(&mut values)?;
    let next = u64::try_from(next).ok();
    let overdue = natural(&mut values)?;
    let recheck: String = take(&mut values)?;
    let recheck = match &*recheck {
        "-1" => None,
        place => Some(place.parse().map_err(unexpected)?),
    };
    let former: i64 = take(&mut values)?;
    let former = u64::try_from(former).ok();
    let mut time = || -> Result<Option<Timestamp>, StoreError> {
        let time: i64 = take(&mut values)?;
        Ok(u64::try_from(time).ok().map(Timestamp::from_millis))
    };
    let (next_change, next_group, first_message) = (time()?, time()?, time()?);
    Ok(Due {
        now: Timestamp::from_millis(now),
        epoch,
        newest,
        announced,
        grant,
        next: next.map(Timestamp::from_millis),
        overdue,
        recheck,
        former: former.map(Timestamp::from_millis),
        next_change,
        next_group,
        first_message,
        is_delicate: natural(&mut values)? > 0,
    })
}

/// The answer of `connect.lua` to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::redis) struct Opened {
    pub(in crate::store::redis) connected: Connected,
    /// The stamp of the groups that the connection states.
    pub(in crate::store::redis) stamp: Option<String>,
    /// The messages to the groups that the connection left.
    pub(in crate::store::redis) messages: Vec<String>,
}

/// Reads the answer of `connect.lua` to one call, for a user that may have `most` connections.
pub(in crate::store::redis) fn opened(answer: Vec<Value>, most: u32) -> Result<Opened, StoreError> {
    let mut values = answer.into_iter();
    let outcome: String = take(&mut values)?;
    let became_online = match &*outcome {
        "entered" => true,
        "stayed" => false,
        "closed" => return Err(StoreError::Refused(Refusal::ConnectionClosed)),
        "full" => return Err(StoreError::Refused(Refusal::TooManyConnections { most })),
        other => return Err(unexpected(other)),
    };
    let deadline = natural(&mut values)?;
    let stamp: String = take(&mut values)?;
    Ok(Opened {
        connected: Connected {
            became_online,
            expires_at: Timestamp::from_millis(deadline),
            not_joined: Vec::new(),
        },
        stamp: (!stamp.is_empty()).then_some(stamp),
        messages: messages(values)?,
    })
}

/// Reads the answer of `disconnect.lua` to one call.
pub(in crate::store::redis) fn closed(
    answer: Vec<Value>,
) -> Result<(Disconnected, Vec<String>), StoreError> {
    let mut values = answer.into_iter();
    let (online, became_offline) = (take(&mut values)?, take(&mut values)?);
    let leaves_at = natural(&mut values)?;
    let disconnected = Disconnected {
        online,
        became_offline,
        leaves_at: (leaves_at > 0).then(|| Timestamp::from_millis(leaves_at)),
    };
    Ok((disconnected, messages(values)?))
}

fn messages(values: impl Iterator<Item = Value>) -> Result<Vec<String>, StoreError> {
    let texts = values.map(String::from_redis_value);
    texts.collect::<Result<_, _>>().map_err(unexpected)
}

/// Reads the reply of `user.lua`.
pub(in crate::store::redis) fn user_state(answer: Vec<Value>) -> Result<UserState, StoreError> {
    let mut values = answer.into_iter();
    let online: bool = take(&mut values)?;
    let last_seen: i64 = take(&mut values)?;
    let (word, data): (String, String) = (take(&mut values)?, take(&mut values)?);
    let ends = natural(&mut values)?;
    let status = Status::kept(&word, &data).map(|status| LastingStatus {
        status,
        ends_at: (ends > 0).then(|| Timestamp::from_millis(ends)),
    });
    let mut connections = Vec::new();
    while values.len() > 0 {
        let id: String = take(&mut values)?;
        let id = ConnectionId::new(&id).map_err(unexpected)?;
        let mut time = || natural(&mut values).map(Timestamp::from_millis);
        let (expires_at, pinged_at) = (time()?, time()?);
        let ttl = Duration::from_millis(natural(&mut values)?);
        let (away, leaves) = (take(&mut values)?, take::<bool>(&mut values)?);
        connections.push(LiveConnection {
            id,
            expires_at,
            pinged_at,
            ttl,
            away,
            leaves_at: leaves.then_some(expires_at),
        });
    }
    connections.sort();
    Ok(UserState {
        away: online && !connections.is_empty() && connections.iter().all(|each| each.away),
        online,
        status,
        connections,
        last_seen_at: u64::try_from(last_seen).ok().map(Timestamp::from_millis),
    })
}

/// Reads the reply of `count.lua`.
pub(in crate::store::redis) fn counted(answer: Vec<Value>) -> Result<Counted, StoreError> {
    let mut values = answer.into_iter();
    Ok(Counted {
        announced: natural(&mut values)?,
        due: natural(&mut values)?,
        to_check: user_ids(values)?,
    })
}

/// The announced users of a partition: the place of each in the request, and its state.
pub(in crate::store::redis) type AnnouncedPlaces = Vec<(usize, Option<Arc<State>>)>;

/// Reads the reply of `announced.lua` to a question about the users at `places` of a list: the data set, the newest
/// position, and the announced users.
pub(in crate::store::redis) fn announced(
    answer: Vec<Value>,
    places: &[usize],
) -> Result<(Epoch, Position, AnnouncedPlaces), StoreError> {
    let mut values = answer.into_iter();
    let epoch = Epoch(take(&mut values)?);
    let position = position(take(&mut values)?)?;
    let indices: Vec<Value> = take(&mut values)?;
    let states: Vec<String> = take(&mut values)?;
    let mut states = states.iter().map(|text| codec::kept_state(text, None));
    let announced = indices.into_iter().map(|index| {
        let place = place_at(index, places)?;
        Ok((place, states.next().flatten()))
    });
    Ok((epoch, position, announced.collect::<Result<_, _>>()?))
}

/// Reads the reply of `PEXPIRETIME`, which is negative without a key that expires.
pub(in crate::store::redis) fn deadline(answer: Value) -> Result<Option<u64>, StoreError> {
    let deadline = i64::from_redis_value(answer).map_err(unexpected)?;
    Ok(u64::try_from(deadline).ok())
}

fn place_at(index: Value, places: &[usize]) -> Result<usize, StoreError> {
    let index = usize::from_redis_value(index).map_err(unexpected)?;
    let place = places.get(index).copied();
    place.ok_or_else(|| unexpected("an index out of range"))
}

/// Reads the reply of `history.lua`.
pub(in crate::store::redis) fn history(
    (epoch, newest, entries): Entries,
) -> Result<History, StoreError> {
    let entries = entries.into_iter().map(|(id, fields)| {
        let text = fields
            .get(1)
            .and_then(|entry| std::str::from_utf8(entry).ok());
        Ok(codec::read_entry(position(id)?, text.unwrap_or_default()))
    });
    Ok(History {
        epoch: Epoch(epoch),
        newest: position(newest)?,
        entries: entries.collect::<Result<_, _>>()?,
    })
}

/// Reads members of the index. The empty member, which shows that the index was not lost, is not a user.
pub(in crate::store::redis) fn user_ids(
    members: impl IntoIterator<Item = Value>,
) -> Result<Vec<UserId>, StoreError> {
    let members = members.into_iter().map(String::from_redis_value);
    let users = members.filter(|member| !matches!(member, Ok(text) if text.is_empty()));
    users
        .map(|text| user_id(text.map_err(unexpected)?))
        .collect()
}

fn user_id(text: String) -> Result<UserId, StoreError> {
    UserId::new(&text).map_err(unexpected)
}

/// Reads a part of the index: users, each with the fraction of its score, which is the number of a grant in 4096ths.
pub(in crate::store::redis) fn scored(
    members: Vec<(String, f64)>,
) -> Result<Vec<(UserId, f64)>, StoreError> {
    let users = members.into_iter().filter(|(user, _)| !user.is_empty());
    users
        .map(|(user, score)| Ok((user_id(user)?, score.fract())))
        .collect()
}

/// The error of a call with an invalid reply.
pub(in crate::store::redis) fn unexpected(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("unexpected reply: {what}"))
}

pub(in crate::store::redis) fn take<T: FromRedisValue>(
    values: &mut impl Iterator<Item = Value>,
) -> Result<T, StoreError> {
    let value = values
        .next()
        .ok_or_else(|| unexpected("an incomplete reply"))?;
    T::from_redis_value(value).map_err(unexpected)
}

/// Integers of Redis are signed, and the redis crate would read a negative one as a huge one. Two results can be added
/// without overflow.
fn natural(values: &mut impl Iterator<Item = Value>) -> Result<u64, StoreError> {
    let number: i64 = take(values)?;
    u64::try_from(number).map_err(unexpected)
}

/// Reads the reply of `TIME`: seconds and microseconds.
pub(in crate::store::redis) fn time(answer: Value) -> Result<Timestamp, StoreError> {
    let (seconds, micros) = <(u64, u64)>::from_redis_value(answer).map_err(unexpected)?;
    Ok(Timestamp::from_millis(seconds * 1_000 + micros / 1_000))
}

/// Reads the id of an entry of the history.
pub(in crate::store::redis) fn position(text: String) -> Result<Position, StoreError> {
    text.parse().map_err(unexpected)
}

#[cfg(test)]
mod tests;
