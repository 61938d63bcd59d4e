//! Reads the newest positions of the store, shared by all streams that need them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::events::hub::Hub;
use crate::events::shared_read::SharedRead;
use crate::events::sse::cursor::Cursor;
use crate::model::{Epoch, Partition, PartitionSet, Partitions, Position};
use crate::store::{Store, StoreError};

/// How long one attempt waits for the bus to reset the streams.
const RESET_TIMEOUT: Duration = Duration::from_secs(1);

/// Attempts to read a consistent position while the bus resets the streams.
const ATTEMPTS: u32 = 3;

/// The data set of a partition and its newest position in the store.
type Answer = Result<(Epoch, Position), StoreError>;

/// The answer of each partition, in order.
#[derive(Clone, Debug)]
struct Newest {
    /// When the read began.
    began: Instant,
    at: Arc<[(Partition, Answer)]>,
}

/// Reads positions of the store that are consistent with the local history.
#[derive(Debug)]
pub(crate) struct NewestCursor {
    store: Arc<Store>,
    hub: Arc<Hub>,
    reads: SharedRead<Newest>,
    last: Mutex<Option<Newest>>,
}

impl NewestCursor {
    /// Returns a value without a result. Reads will run on `runtime`.
    pub(crate) fn new(store: Arc<Store>, hub: Arc<Hub>, runtime: Handle) -> Self {
        Self {
            store,
            hub,
            reads: SharedRead::new(runtime),
            last: Mutex::default(),
        }
    }

    /// Returns the newest cursor of the store, which may be newer than the local history. Fails if a watched partition
    /// is unreachable and its history is not known either.
    pub(crate) async fn read(&self, watched: &PartitionSet) -> Result<Cursor, StoreError> {
        let read = || {
            let store = Arc::clone(&self.store);
            self.reads.ask(move || {
                let store = Arc::clone(&store);
                async move {
                    let began = Instant::now();
                    let at = store.newest(PartitionSet::all(store.partitions())).await;
                    Ok(Newest {
                        began,
                        at: at.into(),
                    })
                }
            })
        };
        let as_of = |newest: &Newest| {
            let known = newest.at.iter().filter_map(|(partition, newest)| {
                let (epoch, position) = newest.as_ref().ok()?;
                Some((*partition, *epoch, *position))
            });
            known.collect()
        };
        let newest = self.read_consistently(watched, read, as_of).await?;
        let cursor = self.cursor(&newest, watched)?;
        let mut last = self.last.lock();
        if last
            .as_ref()
            .is_none_or(|before| before.began < newest.began)
        {
            *last = Some(newest);
        }
        Ok(cursor)
    }

    /// Returns the newest cursor of the store as of `requested_at` or later. Thousands of clients
    /// that wait for admission share one read.
    pub(crate) async fn since(
        &self,
        requested_at: Instant,
        watched: &PartitionSet,
    ) -> Result<Cursor, StoreError> {
        let last = self.last.lock().clone();
        if let Some(newest) = last.filter(|last| last.began >= requested_at)
            && let Some(cursor) = self.cursor_now(&newest, watched)
        {
            return Ok(cursor);
        }
        self.read(watched).await
    }

    /// Returns the data set and the newest position of each watched partition in the store, as of `requested_at` or
    /// later. Fails if one of them is unreachable.
    pub(crate) async fn stored_at(
        &self,
        requested_at: Instant,
        watched: &PartitionSet,
    ) -> Result<Vec<(Partition, Epoch, Position)>, StoreError> {
        let last = || {
            let last = self.last.lock().clone();
            last.filter(|last| last.began >= requested_at)
        };
        let newest = match last() {
            Some(newest) => Some(newest),
            None => {
                self.read(watched).await?;
                last()
            }
        };
        let newest = newest
            .ok_or_else(|| StoreError::Failed("a read that began before its call".to_owned()))?;
        let stored = newest.at.iter();
        let stored = stored.filter(|(partition, _)| watched.contains(*partition));
        let each = stored.map(|(partition, answer)| {
            let (epoch, position) = answer.clone()?;
            Ok((*partition, epoch, position))
        });
        each.collect()
    }

    /// Returns the cursor of these positions. The local history stands in for an unreachable partition, unless the
    /// whole store is unreachable.
    fn cursor(&self, newest: &Newest, watched: &PartitionSet) -> Result<Cursor, StoreError> {
        if let (Partitions::ONE, [(_, newest)]) = (self.hub.partitions(), &*newest.at) {
            let (epoch, position) = newest.clone()?;
            return Ok(Cursor::one(epoch, position));
        }
        if newest.at.iter().all(|(_, newest)| newest.is_err())
            && let Some((_, Err(error))) = newest.at.first()
        {
            return Err(error.clone());
        }
        let local = self.hub.newest_of_all();
        let positions = newest.at.iter().zip(local);
        let positions = positions.map(|((partition, newest), local)| match (newest, local) {
            (Ok((_, position)), _) => Ok(*position),
            (Err(_), Some((_, position))) => Ok(position),
            (Err(error), None) if watched.contains(*partition) => Err(error.clone()),
            (Err(_), None) => Ok(Position::START),
        });
        let vector = positions.collect::<Result<_, _>>()?;
        Ok(Cursor::many(vector))
    }

    /// Returns the cursor of these positions or of the local history, whatever is later. Returns `None` if another read
    /// is necessary, because a watched partition has another data set now or was unreachable.
    fn cursor_now(&self, newest: &Newest, watched: &PartitionSet) -> Option<Cursor> {
        let local = self.hub.newest_of_all();
        let later = newest.at.iter().zip(local);
        let later = later.map(|((partition, newest), local)| match (newest, local) {
            (Ok((epoch, position)), Some((same, local))) if *epoch == same => {
                Some((*epoch, local.max(*position)))
            }
            _ if watched.contains(*partition) => None,
            _ => Some(Default::default()),
        });
        let later: Vec<_> = later.collect::<Option<_>>()?;
        match (self.hub.partitions(), &*later) {
            (Partitions::ONE, [(epoch, position)]) => Some(Cursor::one(*epoch, *position)),
            _ => Some(Cursor::many(
                later.into_iter().map(|(_, position)| position).collect(),
            )),
        }
    }

    /// Returns the result of `read` and checks its positions in the watched partitions. If one is older than the
    /// local history, the store lost a part of this history. Then the bus resets the streams and the
    /// read is repeated, so that no stream begins in the lost history.
    pub(crate) async fn read_consistently<T, R>(
        &self,
        watched: &PartitionSet,
        read: impl Fn() -> R,
        as_of: impl Fn(&T) -> Vec<(Partition, Epoch, Position)>,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        for _ in 0..ATTEMPTS {
            let before = self.hub.newest_of_all();
            let known = |partition: Partition| before.get(partition.index()).copied().flatten();
            let found = read().await?;
            let mut lost = as_of(&found);
            lost.retain(|(partition, epoch, position)| {
                watched.contains(*partition)
                    && Hub::lost_history(known(*partition), (*epoch, *position))
            });
            if lost.is_empty() {
                return Ok(found);
            }
            for (partition, ..) in &lost {
                self.hub.request_resync(*partition);
            }
            let is_reset = |hub: &Hub| {
                let mut lost = lost.iter();
                lost.all(|(partition, ..)| hub.newest(*partition) != known(*partition))
            };
            self.hub.wait_for(RESET_TIMEOUT, is_reset).await;
        }
        Err(StoreError::Unreachable(
            "the store lost a part of its history".to_owned(),
        ))
    }
}
