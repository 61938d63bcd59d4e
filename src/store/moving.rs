//! The calls about a move to another store.

use super::Store;
use super::error::StoreError;
use super::node_id::NodeId;
use crate::config::{Config, InvalidSetting};
use crate::model::{GroupId, MoveReport, MoveRole, MoveState, Partition, UserId};
use crate::store::redis::RedisStore;

/// A move keeps this contract, as long as each instance reports every second while [`Store::take_note_of_move`] returns
/// true or while it has a next store:
///
/// 1. The next store begins to answer at one moment, which the former store decides. Until then each instance has
///    written to the same next store for longer than any connection lives without a call, and everything that no ping
///    repeats was copied.
/// 2. From the decision on, no instance without a next store uses the former store. Until the end of the move, no
///    instance uses the next store alone.
///
/// The embedded store takes part in no move.
impl Store {
    /// The store to move to by `config`, if it names one. Fails if a setting is invalid.
    pub fn open_next(config: &Config) -> Result<Option<Self>, InvalidSetting> {
        let Some(redis) = config.redis.next()? else {
            return Ok(None);
        };
        let config = Config {
            redis,
            ..config.clone()
        };
        let opened = Self::open_as(&config, MoveRole::Next);
        opened.map(Some).map_err(InvalidSetting::of_next)
    }

    /// Tells the former store about this instance. Returns how far the move is.
    pub async fn report_move(&self, report: &MoveReport) -> Result<Option<MoveState>, StoreError> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Redis(store) => store.report_move(report).await.map(Some),
        }
    }

    /// Notes that another instance takes part in a move from this store.
    pub(crate) fn note_move(&self) {
        if let Some(store) = self.redis() {
            store.note_move();
        }
    }

    /// Takes the note that an instance took part in a move from this store since the last call. Returns whether there
    /// is one, or may be one unheard.
    pub(crate) fn take_note_of_move(&self) -> bool {
        self.redis().is_some_and(RedisStore::take_note_of_move)
    }

    /// Records that the data moved from this store to another one. May be repeated.
    pub async fn mark_moved(&self) -> Result<(), StoreError> {
        match self.redis() {
            Some(store) => store.mark_moved().await,
            None => Ok(()),
        }
    }

    /// Records that a move to this store has ended. May be repeated.
    pub async fn mark_arrived(&self) -> Result<(), StoreError> {
        match self.redis() {
            Some(store) => store.mark_arrived().await,
            None => Ok(()),
        }
    }

    /// Whether [`Store::mark_arrived`] was called, by whichever instance.
    pub async fn has_arrived(&self) -> Result<bool, StoreError> {
        match self.redis() {
            Some(store) => store.has_arrived().await,
            None => Ok(false),
        }
    }

    /// Notes that a move to this store has ended, so that its connections open although no move fills it.
    pub fn note_arrived(&self) {
        if let Some(store) = self.redis() {
            store.note_arrived();
        }
    }

    /// Some of the users of a partition that have a status, online or not, and the place of the next step; `None` at
    /// the end. The first place is 0.
    pub async fn users_with_status(
        &self,
        partition: Partition,
        place: u64,
    ) -> Result<(Vec<UserId>, Option<u64>), StoreError> {
        match self.redis() {
            Some(store) => store.users_with_status(partition, place).await,
            None => Ok((Vec::new(), None)),
        }
    }

    /// Some of the groups that have stored members on a server, and the place of the next step; `None` at the end. The
    /// first place is 0.
    pub async fn stored_groups(
        &self,
        node: NodeId,
        place: u64,
    ) -> Result<(Vec<GroupId>, Option<u64>), StoreError> {
        match self.redis() {
            Some(store) => store.stored_groups(node, place).await,
            None => Ok((Vec::new(), None)),
        }
    }

    /// The stored members of a group, in order, without those that are members by pinging.
    pub async fn stored_members(&self, group: &GroupId) -> Result<Vec<UserId>, StoreError> {
        match self.redis() {
            Some(store) => store.members_stored_in(group).await,
            None => Ok(Vec::new()),
        }
    }

    /// Why the servers do not fit the settings, if they do not.
    pub fn unfit(&self) -> Option<String> {
        let unfit = self.redis().and_then(RedisStore::unfit);
        unfit.map(|unfit| unfit.cause())
    }

    /// Whether a connected server serves each partition.
    pub fn is_whole(&self) -> bool {
        self.redis().is_none_or(RedisStore::is_whole)
    }

    /// Whether a server is connected.
    pub fn is_connected(&self) -> bool {
        self.redis().is_none_or(RedisStore::is_connected)
    }

    fn redis(&self) -> Option<&RedisStore> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(store) => Some(store),
        }
    }
}
