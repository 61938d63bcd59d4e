//! Streams of own groups, when the groups change.
//!
//! A stream pauses before the entry that changes its own groups. Up to a later entry, it receives the events of its
//! former groups. Then it receives the snapshots of the groups that its user joined, and follows the new groups from
//! that entry on.

use std::sync::Arc;

use tokio::time::Instant;

use super::replay::Behind;
use super::{Opener, StreamStart};
use crate::events::hub::join::{EntryRef, JoinPoint, Missed};
use crate::events::interest::{GroupInterest, Interest};
use crate::events::sse::cursor::Cursor;
use crate::events::subscriber::Subscriber;
use crate::model::{GroupId, UserId};
use crate::store::StoreError;

impl Opener {
    /// Continues paused streams for as long as it is polled.
    pub(in crate::events) async fn run_regroups(self: Arc<Self>) {
        loop {
            for regroup in self.hub.regroup_requested().await {
                let start = StreamStart::At(JoinPoint::From(EntryRef {
                    generation: regroup.generation,
                    number: regroup.number,
                }));
                self.begin(&regroup.subscriber, start, Instant::now());
            }
        }
    }

    /// The groups of a user now, with complete copies, and the number of an entry: later changes are not considered.
    pub(in crate::events) async fn own_interest(
        &self,
        user: &UserId,
    ) -> Result<(Interest, u64), StoreError> {
        let since = self.hub.end_of_ring().number;
        let groups = self.store.groups_of(user).await?;
        Ok((Interest::own_groups(user.clone(), groups), since))
    }

    /// Makes a stream of own groups follow the groups that its user has now. Does nothing for other streams.
    pub(super) async fn find_own_groups(
        &self,
        subscriber: &Arc<Subscriber>,
    ) -> Result<(), StoreError> {
        if let Some(user) = subscriber.interest().own() {
            let (interest, since) = self.own_interest(user).await?;
            let _held = self.copy_filler.hold(interest.listed_groups()).await?;
            self.hub.follow(subscriber, &interest, since);
        }
        Ok(())
    }

    /// Sends the missed events, and the snapshots of the groups that the user joined. The stream then follows the new
    /// groups. Returns the entry from which it joins, or `None` if the missed entries are gone.
    pub(super) async fn regroup(
        &self,
        stream: Behind<'_>,
        missed: Missed,
        cursor: Option<&Cursor>,
    ) -> Result<Option<JoinPoint>, StoreError> {
        let subscriber = stream.subscriber;
        let Interest::Groups(before) = subscriber.interest() else {
            return Ok(None);
        };
        let Some(user) = &before.own else {
            return Ok(None);
        };
        let from = subscriber.since().min(missed.from.number);
        loop {
            let groups = self.hub.own_groups(&before, user, (from, u64::MAX));
            let held = self.copy_filler.hold(&groups.all).await?;
            let joined = joined(&groups.joined);
            let (snapshot, end) = if joined.groups.is_empty() {
                (None, self.hub.end_of_ring())
            } else {
                let (snapshot, end) = self.groups.ask(&joined).await?;
                (Some(snapshot), end)
            };
            if self.hub.own_groups(&before, user, (from, end.number)) != groups {
                continue;
            }
            let replayed = self
                .replayer
                .replay_until(stream, missed, cursor, end.number);
            if replayed.await.is_err() {
                return Ok(None);
            }
            if let Some(snapshot) = snapshot {
                snapshot.send_messages(subscriber).await;
            }
            let interest = Interest::own_groups(user.clone(), groups.all);
            self.hub.follow(subscriber, &interest, end.number);
            drop(held);
            return Ok(Some(JoinPoint::From(end)));
        }
    }
}

/// The interest in the groups that a user joined.
fn joined(groups: &[GroupId]) -> Arc<GroupInterest> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    Arc::new(GroupInterest {
        groups: groups.into(),
        users: Box::default(),
        own: None,
    })
}

#[cfg(test)]
mod tests;
