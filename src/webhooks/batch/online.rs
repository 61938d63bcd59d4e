//! Whether users of other partitions were online when they joined a group.
//!
//! The entry of a join says this of the users of its own partition. For the other users, the sender reads it from the
//! store when it makes the batch. The answers are a part of the text of the batch, so that the batch is the same in
//! every attempt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::events::Cursor;
use crate::model::{Entry, GroupEvent, MemberChange, Partition, Partitions, UserChange, UserId};
use crate::store::{Store, StoreError};

/// How long the other partitions may take. After this time, the users count as offline.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many events one read of a history returns, and how many reads a batch makes of each history. If a batch is
/// farther behind, its users have the state of now: a slow receiver must cost the store little.
const READ_EVENTS: usize = 250;
const READS: usize = 8;

/// Reads the states of the users of other partitions that join a group with one of the entries, which follow `from`.
/// Returns whether each was online, in the order of the entries.
pub(super) async fn read(
    store: &Store,
    from: &Cursor,
    entries: &[(Partition, Entry)],
) -> Vec<bool> {
    let partitions = store.partitions();
    let mut users = Vec::new();
    for (partition, entry) in entries {
        users.extend(foreign_joined(partitions, *partition, entry).cloned());
    }
    if users.is_empty() {
        return Vec::new();
    }
    users.sort_unstable();
    users.dedup();
    let read = timeout(TIMEOUT, online_at(store, from, &users)).await;
    let mut online = read.ok().and_then(Result::ok).unwrap_or_default();
    let mut flags = Vec::new();
    for (partition, entry) in entries {
        match entry {
            Entry::Event(event) => match event.change {
                UserChange::Online { .. } => drop(online.insert(event.user.clone())),
                UserChange::Offline { .. } => drop(online.remove(&event.user)),
                UserChange::Updated { .. } => {}
            },
            _ => {
                let joined = foreign_joined(partitions, *partition, entry);
                flags.extend(joined.map(|user| online.contains(user)));
            }
        }
    }
    flags
}

/// Writes what [`read`] returned into the entries.
pub(super) fn apply(partitions: Partitions, flags: &[bool], entries: &mut [(Partition, Entry)]) {
    let mut flags = flags.iter().copied();
    for (partition, entry) in entries {
        let Entry::Group(event) = entry else { continue };
        let MemberChange::Joined(joined) = &event.change else {
            continue;
        };
        let mut joined = joined.clone();
        for each in &mut joined {
            if partitions.of(&each.user) != *partition {
                each.is_announced = flags.next().unwrap_or(each.is_announced);
            }
        }
        *event = Arc::new(GroupEvent {
            change: MemberChange::Joined(joined),
            ..GroupEvent::clone(event)
        });
    }
}

/// The users of other partitions that join a group with an entry of `partition`.
fn foreign_joined(
    partitions: Partitions,
    partition: Partition,
    entry: &Entry,
) -> impl Iterator<Item = &UserId> {
    let joined = match entry {
        Entry::Group(event) => match &event.change {
            MemberChange::Joined(joined) => joined.as_slice(),
            MemberChange::Left { .. } => &[],
        },
        _ => &[],
    };
    let users = joined.iter().map(|joined| &joined.user);
    users.filter(move |user| partitions.of(user) != partition)
}

/// The announced users among `users` as of a cursor.
async fn online_at(
    store: &Store,
    cursor: &Cursor,
    users: &[UserId],
) -> Result<HashSet<UserId>, StoreError> {
    let announced = store.announced_among(users).await?;
    let mut online: HashSet<UserId> = announced.users.into_iter().collect();
    // Whether the user was announced before its first transition after the cursor.
    let mut before: HashMap<UserId, bool> = HashMap::new();
    for (partition, _, until) in announced.at {
        let mut reached = cursor.position(partition);
        for _ in 0..READS {
            if reached >= until {
                break;
            }
            let history = store.history(partition, reached, READ_EVENTS).await?;
            let Some(last) = history.entries.last() else {
                break;
            };
            reached = last.position();
            history.note_announced_before(until, &mut before);
        }
    }
    for user in users {
        match before.get(user) {
            Some(true) => drop(online.insert(user.clone())),
            Some(false) => drop(online.remove(user)),
            None => {}
        }
    }
    Ok(online)
}
