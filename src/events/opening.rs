//! Begins a stream: with a snapshot or after a cursor, and then with live events without a gap.

mod failure_log;
mod newest_cursor;
mod receiving;
mod regroup;
mod replay;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use self::failure_log::FailureLog;
use self::newest_cursor::NewestCursor;
use self::replay::{Behind, Replayer};
use self::retry::{JOIN_TIMEOUT, RECEIVE_TIMEOUT, retry_until_timeout};
use super::copy_filler::CopyFiller;
use super::hub::Hub;
use super::hub::join::{CursorOrigin, JoinOutcome, JoinPoint};
use super::hub::lifetimes::Lifetimes;
use super::hub::restarts::Restarted;
use super::interest::Interest;
use super::limits::Limits;
use super::shared_read::SharedRead;
use super::snapshots::all_users::scan;
use super::snapshots::groups::GroupSnapshots;
use super::snapshots::listed_users::ListedSnapshots;
use super::snapshots::snapshot::{Snapshot, SnapshotMemory};
use super::sse::cursor::Cursor;
use super::sse::frame;
use super::sse::payload::{EndReason, ResetReason};
use super::subscriber::Subscriber;
use crate::model::PartitionSet;
use crate::store::{Backoff, Store, StoreError};

/// How a stream begins.
#[derive(Clone, Debug)]
pub(super) enum StreamStart {
    /// With a snapshot.
    WithSnapshot,
    /// From this point on.
    At(JoinPoint),
    /// With a reset, from this cursor on.
    Reset(ResetReason, Cursor),
}

/// Begins streams. Reads that several streams need are shared.
#[derive(Debug)]
pub(super) struct Opener {
    store: Arc<Store>,
    hub: Arc<Hub>,
    snapshot_memory: Arc<SnapshotMemory>,
    newest: NewestCursor,
    all_users: SharedRead<Arc<Snapshot>>,
    listed_users: ListedSnapshots,
    groups: GroupSnapshots,
    copy_filler: CopyFiller,
    replayer: Replayer,
    history: Duration,
    failure_log: FailureLog,
}

/// Ends the stream if the task that begins it panics.
struct OpeningGuard {
    hub: Arc<Hub>,
    subscriber: Arc<Subscriber>,
    is_done: bool,
}

impl OpeningGuard {
    fn done(&mut self) {
        self.is_done = true;
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        if !self.is_done {
            self.hub.end(&self.subscriber, EndReason::Overloaded);
        }
    }
}

impl Opener {
    pub(super) fn new(store: Arc<Store>, hub: Arc<Hub>, limits: Limits, runtime: Handle) -> Self {
        let snapshot_memory =
            Arc::new(SnapshotMemory::new(Arc::clone(&hub), limits.snapshot_bytes));
        let listed_users = ListedSnapshots::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            Arc::clone(&snapshot_memory),
            runtime.clone(),
        );
        Self {
            newest: NewestCursor::new(Arc::clone(&store), Arc::clone(&hub), runtime.clone()),
            groups: GroupSnapshots::new(
                Arc::clone(&store),
                Arc::clone(&hub),
                Arc::clone(&snapshot_memory),
                runtime.clone(),
            ),
            copy_filler: CopyFiller::new(Arc::clone(&store), Arc::clone(&hub), runtime.clone()),
            all_users: SharedRead::new(runtime),
            listed_users,
            snapshot_memory,
            replayer: Replayer::default(),
            history: limits.history,
            failure_log: FailureLog::default(),
            store,
            hub,
        }
    }

    /// Returns the reader of the newest cursor of the store.
    pub(super) fn newest(&self) -> &NewestCursor {
        &self.newest
    }

    /// Returns the reader of the members of groups.
    pub(super) fn copy_filler(&self) -> &CopyFiller {
        &self.copy_filler
    }

    /// Begins a stream that a client requested at `requested_at`: at once if all missed events are in the
    /// ring, otherwise in a task.
    pub(super) fn begin(
        self: &Arc<Self>,
        subscriber: &Arc<Subscriber>,
        start: StreamStart,
        requested_at: Instant,
    ) {
        let watched = subscriber.interest().watched(self.hub.partitions());
        if let StreamStart::At(point @ JoinPoint::After(_, CursorOrigin::Server)) = &start
            && matches!(
                self.join(subscriber, point, &watched),
                JoinOutcome::Live | JoinOutcome::Closed
            )
        {
            return;
        }
        let opener = Arc::clone(self);
        let mut beginning = OpeningGuard {
            hub: Arc::clone(&self.hub),
            subscriber: Arc::clone(subscriber),
            is_done: false,
        };
        tokio::spawn(async move {
            let subscriber = &beginning.subscriber;
            tokio::select! {
                begun = opener.start(subscriber, &watched, start, requested_at) => {
                    if let Err(error) = begun {
                        opener.failure_log.report(&error);
                        opener.hub.end(subscriber, EndReason::StoreLost);
                    }
                }
                () = subscriber.ended() => {}
            }
            beginning.done();
        });
    }

    /// Resets the streams that watch restarted partitions, part by part. Other tasks run between the
    /// parts.
    pub(super) async fn reset(self: &Arc<Self>, restarted: &Restarted) {
        let from = self.hub.cursor();
        for part in 0..Lifetimes::part_count() {
            for subscriber in self.hub.detach(restarted, part) {
                let start = StreamStart::Reset(restarted.reason, from.clone());
                self.begin(&subscriber, start, Instant::now());
            }
            yield_now().await;
        }
        self.hub.release(restarted);
    }

    async fn start(
        &self,
        subscriber: &Arc<Subscriber>,
        watched: &PartitionSet,
        mut start: StreamStart,
        requested_at: Instant,
    ) -> Result<(), StoreError> {
        let mut backoff = Backoff::default();
        loop {
            let point = match start {
                StreamStart::At(point) => {
                    self.receive_stored_events(requested_at, watched).await;
                    point
                }
                StreamStart::WithSnapshot => {
                    let cursor = self.send_snapshot(subscriber, watched).await?;
                    JoinPoint::After(cursor, CursorOrigin::Server)
                }
                StreamStart::Reset(reason, from) => {
                    retry_until_timeout(|| self.find_own_groups(subscriber)).await?;
                    let cursor = self.send_reset(subscriber, watched, reason, from).await?;
                    JoinPoint::After(cursor, CursorOrigin::Server)
                }
            };
            // Live events would queue up behind a long backlog.
            subscriber.backlog_taken().await;
            match self.go_live(subscriber, watched, point).await? {
                None => return Ok(()),
                Some(reason) => {
                    // A backoff, because repeated resets of many streams would overload the
                    // instance.
                    sleep(backoff.next()).await;
                    let from = retry_until_timeout(|| self.newest.read(watched)).await?;
                    start = StreamStart::Reset(reason, from);
                }
            }
        }
    }

    async fn send_reset(
        &self,
        subscriber: &Arc<Subscriber>,
        watched: &PartitionSet,
        reason: ResetReason,
        from: Cursor,
    ) -> Result<Cursor, StoreError> {
        subscriber.reset();
        self.hub.note_reset(reason);
        if subscriber.snapshot {
            subscriber.push_backlog([frame::reset(&from.incomplete(), reason)]);
            return self.send_snapshot(subscriber, watched).await;
        }
        subscriber.push_backlog([frame::reset(&from, reason)]);
        Ok(from)
    }

    async fn send_snapshot(
        &self,
        subscriber: &Arc<Subscriber>,
        watched: &PartitionSet,
    ) -> Result<Cursor, StoreError> {
        loop {
            let snapshot = match &subscriber.interest() {
                Interest::Users(users) => {
                    let ask = || self.listed_users.ask(users);
                    let as_of = |snapshot: &Arc<Snapshot>| snapshot.as_of.to_vec();
                    retry_until_timeout(|| self.newest.read_consistently(watched, ask, as_of))
                        .await?
                }
                Interest::AllUsers => {
                    retry_until_timeout(|| self.all_users.ask(self.scan_all_users())).await?
                }
                Interest::Groups(interest) => {
                    let ask = || async {
                        self.copy_filler.complete(&interest.groups).await?;
                        let (snapshot, _) = self.groups.ask(interest).await?;
                        Ok(snapshot)
                    };
                    retry_until_timeout(ask).await?
                }
            };
            if !self.hub.have_own_groups_changed(subscriber) {
                return Ok(snapshot.send(subscriber).await);
            }
            // The snapshot may have a group that the user has left.
            retry_until_timeout(|| self.find_own_groups(subscriber)).await?;
        }
    }

    fn scan_all_users(
        &self,
    ) -> impl Fn() -> BoxFuture<'static, Result<Arc<Snapshot>, StoreError>> + Send + use<> {
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let snapshot_memory = Arc::clone(&self.snapshot_memory);
        move || {
            Box::pin(scan(
                Arc::clone(&store),
                Arc::clone(&hub),
                Arc::clone(&snapshot_memory),
            ))
        }
    }

    fn join(
        &self,
        subscriber: &Arc<Subscriber>,
        point: &JoinPoint,
        watched: &PartitionSet,
    ) -> JoinOutcome {
        // A client cannot resume from an older event, even if the ring still has it.
        let oldest = |partition| self.store.now(partition).minus(self.history);
        self.hub.join(subscriber, point, watched, oldest)
    }

    /// Replays the events from `point` on until the stream is live. Returns a reason if the stream
    /// must be reset.
    async fn go_live(
        &self,
        subscriber: &Arc<Subscriber>,
        watched: &PartitionSet,
        mut point: JoinPoint,
    ) -> Result<Option<ResetReason>, StoreError> {
        let stream = Behind {
            hub: &self.hub,
            subscriber,
            watched,
        };
        while !subscriber.has_ended() {
            match (self.join(subscriber, &point, watched), &point) {
                (JoinOutcome::Live | JoinOutcome::Closed, _) => return Ok(None),
                (JoinOutcome::Gone(reason), _) => return Ok(Some(reason)),
                (JoinOutcome::Behind(missed), _) => {
                    let reached = self.replayer.replay(stream, missed, point.cursor()).await;
                    // If the entry is gone, the next join returns the reason.
                    point = JoinPoint::From(reached.unwrap_or(missed.from));
                }
                (JoinOutcome::OwnGroupsChanged(missed), _) => {
                    let regroup = || self.regroup(stream, missed, point.cursor());
                    let reached = retry_until_timeout(regroup).await?;
                    // If the entry is gone, the next join returns the reason.
                    point = reached.unwrap_or(JoinPoint::From(missed.from));
                }
                (JoinOutcome::Ahead, JoinPoint::After(cursor, CursorOrigin::Server))
                    if self.receives(cursor, watched, RECEIVE_TIMEOUT).await => {}
                (
                    JoinOutcome::Ahead | JoinOutcome::OtherEpoch,
                    JoinPoint::After(cursor, origin),
                ) => {
                    let reason = self.wait_for_bus(cursor, *origin, watched).await?;
                    if reason.is_some() {
                        return Ok(reason);
                    }
                }
                (JoinOutcome::Restarting | JoinOutcome::Ahead | JoinOutcome::OtherEpoch, _) => {
                    let interest = subscriber.interest();
                    let groups = interest.listed_groups();
                    retry_until_timeout(|| self.copy_filler.complete(groups)).await?;
                    // After this time the caller tries to join again.
                    let is_settled = |hub: &Hub| hub.is_settled(watched);
                    self.hub.wait_for(JOIN_TIMEOUT, is_settled).await;
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
