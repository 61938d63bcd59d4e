//! Whether users of other partitions were online when they joined a group.
//!
//! The entry of a join says this of the users of its own partition. For the other users, the follower reads it from the
//! store before it publishes the entry. The event then tells the state as of its `id`.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;

use super::reads::{READ_EVENTS, Reads};
use crate::events::hub::Hub;
use crate::events::hub::known::{Known, KnownUsers};
use crate::model::{Entry, MemberChange, Partition, UserId};
use crate::store::StoreError;

/// How long the other partitions may take. After this time, the users count as offline: the entries of this partition
/// must not wait for a server that does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The states of the users of other partitions that join a watched group with one of these entries.
pub(super) async fn states(
    reads: &Reads,
    hub: &Hub,
    partition: Partition,
    entries: &[Entry],
) -> KnownUsers {
    let mut others = KnownUsers::default();
    let partitions = hub.partitions();
    for entry in entries {
        let Entry::Group(event) = entry else { continue };
        if !matches!(event.change, MemberChange::Joined(_)) || !hub.is_group_watched(&event.group) {
            continue;
        }
        let foreign = event
            .users()
            .filter(|user| partitions.of(user) != partition);
        others.extend(foreign.map(|user| (user.clone(), Known::default())));
    }
    if !others.is_empty() {
        // Without an answer in time, the users count as offline.
        let read = read(reads, hub, &others);
        if let Ok(Ok(states)) = timeout(TIMEOUT, read).await {
            return states;
        }
    }
    others
}

/// Reads the states as of the positions that this instance has received.
async fn read(reads: &Reads, hub: &Hub, users: &KnownUsers) -> Result<KnownUsers, StoreError> {
    let users: Vec<UserId> = users.keys().cloned().collect();
    let received = hub.newest_of_all();
    let announced = reads.announced_among(&users).await?;
    let mut positions = HashMap::new();
    // Whether the user was announced before its first later transition.
    let mut before: HashMap<UserId, bool> = HashMap::new();
    for (partition, _, until) in &announced.at {
        let from = received.get(partition.index()).copied().flatten();
        let from = from.map_or(*until, |(_, position)| position.min(*until));
        positions.insert(*partition, from);
        let mut reached = from;
        while reached < *until {
            let history = reads.after(*partition, reached, READ_EVENTS).await?;
            let Some(last) = history.entries.last() else {
                break;
            };
            reached = last.position();
            history.note_announced_before(*until, &mut before);
        }
    }
    let states = users.into_iter().map(|user| {
        let partition = hub.partitions().of(&user);
        let position = positions.get(&partition).copied().unwrap_or_default();
        let was_announced = before.get(&user).copied();
        let is_announced = was_announced.unwrap_or_else(|| announced.users.contains(&user));
        let known = Known {
            announced: is_announced.then_some(None),
            position,
        };
        (user, known)
    });
    Ok(states.collect())
}
