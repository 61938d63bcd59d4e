//! Reads the members of watched groups from the store.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::hub::Hub;
use super::hub::copies::CopyId;
use crate::model::GroupId;
use crate::store::{Members, Store, StoreError};

/// How often the members of a group are read if events were lost meanwhile.
const ATTEMPTS: usize = 5;

/// How many groups of one stream are read at once.
const READ_AT_ONCE: usize = 4;

/// Fills the copies of watched groups. Each copy is read once, however many streams wait for it.
#[derive(Debug)]
pub(super) struct CopyFiller {
    store: Arc<Store>,
    hub: Arc<Hub>,
    /// The groups that are being read.
    reading: Mutex<HashMap<GroupId, Arc<tokio::sync::Mutex<()>>>>,
}

/// Copies that stay until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    hub: Arc<Hub>,
    copies: Vec<CopyId>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for copy in self.copies.drain(..) {
            self.hub.unpin(copy);
        }
    }
}

impl CopyFiller {
    pub(super) fn new(store: Arc<Store>, hub: Arc<Hub>) -> Self {
        Self {
            store,
            hub,
            reading: Mutex::default(),
        }
    }

    /// Returns complete copies of these groups.
    pub(super) async fn hold(&self, groups: &[GroupId]) -> Result<Held, StoreError> {
        let held = Held {
            hub: Arc::clone(&self.hub),
            copies: groups.iter().map(|group| self.hub.pin(group)).collect(),
        };
        self.complete(groups).await?;
        Ok(held)
    }

    /// Completes the copies of these groups, which are held or watched. Fails if the instance has no room for more
    /// members.
    pub(super) async fn complete(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        let incomplete = groups
            .iter()
            .filter(|group| self.hub.incomplete(group).is_some());
        let incomplete: Vec<_> = incomplete.collect();
        for part in incomplete.chunks(READ_AT_ONCE) {
            if !self.hub.has_room_for_members() {
                return Err(StoreError::Overloaded);
            }
            try_join_all(part.iter().map(|group| self.complete_one(group))).await?;
        }
        Ok(())
    }

    async fn complete_one(&self, group: &GroupId) -> Result<(), StoreError> {
        let turn = Arc::clone(self.reading.lock().entry(group.clone()).or_default());
        let _turn = turn.lock().await;
        let read = self.read(group).await;
        self.reading.lock().remove(group);
        read
    }

    async fn read(&self, group: &GroupId) -> Result<(), StoreError> {
        let partition = self.hub.partitions().of_group(group);
        for _ in 0..ATTEMPTS {
            let Some(incomplete) = self.hub.incomplete(group) else {
                return Ok(());
            };
            let members = self.store.group_members(group, Members::Announced).await?;
            let (epoch, newest) = self.store.newest_of(partition).await?;
            let has_received = |hub: &Hub| {
                let received = hub.newest(partition);
                received.is_some_and(|(known, received)| known != epoch || received >= newest)
            };
            if !self.hub.catches_up(has_received).await {
                return Err(late());
            }
            self.hub.fill_copy(incomplete, members);
        }
        Err(late())
    }
}

fn late() -> StoreError {
    StoreError::Unreachable("the history changed while the members of a group were read".to_owned())
}
