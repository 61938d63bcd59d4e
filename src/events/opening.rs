//! How a stream begins: with a snapshot or after a cursor, and then the live events without a gap.

mod failure_log;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use self::failure_log::FailureLog;
use self::replay::Replayer;
use super::hub::Hub;
use super::hub::join::{CursorOrigin, JoinOutcome};
use super::hub::lifetimes::Lifetimes;
use super::interest::Interest;
use super::limits::Limits;
use super::shared_read::SharedRead;
use super::snapshots::all_users::scan;
use super::snapshots::listed_users::ListedSnapshots;
use super::snapshots::snapshot::{Snapshot, SnapshotMemory};
use super::sse::cursor::Cursor;
use super::sse::frame;
use super::sse::payload::{EndReason, ResetReason};
use super::subscriber::Subscriber;
use crate::model::{Epoch, Position, Timestamp};
use crate::store::{Backoff, Store, StoreError};

/// How long a stream waits for a store that fails before it is ended.
const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// How long a stream waits for this instance to hear of what the store holds before it looks again.
const BUS_PATIENCE: Duration = Duration::from_secs(1);

/// How long a stream that resumes waits for what happened right before.
const HEAR_PATIENCE: Duration = Duration::from_millis(500);

/// How often a read is made again that shows that the store lost a part of its history, each time
/// after this instance was told of that.
const LOSSES: u32 = 3;

/// How a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum StreamStart {
    /// With a snapshot.
    WithSnapshot,
    /// After this cursor.
    At(Cursor, CursorOrigin),
    /// Anew from this place, because that is impossible.
    Reset(ResetReason, Cursor),
}

/// Begins streams. What many streams need is read for all of them at once.
#[derive(Debug)]
pub(super) struct Opener {
    store: Arc<Store>,
    hub: Arc<Hub>,
    unread: Arc<SnapshotMemory>,
    newest: SharedRead<(Instant, Epoch, Position)>,
    /// Up to where the store held everything when it was read last, and when that read began.
    last_read: Mutex<Option<(Instant, Cursor)>>,
    all_users: SharedRead<Arc<Snapshot>>,
    chosen: ListedSnapshots,
    replays: Replayer,
    history: Duration,
    failures: FailureLog,
}

/// Ends its stream, unless that has begun: the task may have panicked.
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
        let unread = Arc::new(SnapshotMemory::new(Arc::clone(&hub), limits.snapshot_bytes));
        let chosen = ListedSnapshots::new(Arc::clone(&store), Arc::clone(&unread), runtime.clone());
        Self {
            newest: SharedRead::new(runtime.clone()),
            last_read: Mutex::default(),
            all_users: SharedRead::new(runtime),
            chosen,
            unread,
            replays: Replayer::default(),
            history: limits.history,
            failures: FailureLog::default(),
            store,
            hub,
        }
    }

    /// Begins a stream: at once where everything it missed is at hand, else in a task.
    /// The client asked for it at `asked`.
    pub(super) fn begin(
        self: &Arc<Self>,
        subscriber: &Arc<Subscriber>,
        start: StreamStart,
        asked: Instant,
    ) {
        if let StreamStart::At(cursor, CursorOrigin::Server) = start
            && self.join(subscriber, cursor, CursorOrigin::Server) == JoinOutcome::Following
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
                begun = opener.start(subscriber, start, asked) => {
                    if let Err(error) = begun {
                        opener.failures.report(&error);
                        opener.hub.end(subscriber, EndReason::StoreLost);
                    }
                }
                () = subscriber.ended() => {}
            }
            beginning.done();
        });
    }

    /// Starts the streams anew that followed a history which is no more; in parts, between which
    /// others get their turn.
    pub(super) async fn reset(
        self: &Arc<Self>,
        generation: u64,
        reason: ResetReason,
        from: Cursor,
    ) {
        for part in 0..Lifetimes::parts() {
            for subscriber in self.hub.detach_before(generation, part) {
                self.begin(
                    &subscriber,
                    StreamStart::Reset(reason, from),
                    Instant::now(),
                );
            }
            yield_now().await;
        }
    }

    /// Up to where the store holds everything, which may be further than this instance has heard.
    pub(super) async fn stored(&self) -> Result<Cursor, StoreError> {
        let read = || {
            let store = Arc::clone(&self.store);
            self.newest.ask(move || {
                let store = Arc::clone(&store);
                async move {
                    let began = Instant::now();
                    let (epoch, newest) = store.newest().await?;
                    Ok((began, epoch, newest))
                }
            })
        };
        let at = |(_, epoch, newest): &(Instant, Epoch, Position)| (*epoch, *newest);
        let (began, epoch, newest) = self.not_before_a_loss(read, at).await?;
        let cursor = Cursor::at(epoch, newest);
        let mut last = self.last_read.lock();
        if last.is_none_or(|(before, _)| before < began) {
            *last = Some((began, cursor));
        }
        Ok(cursor)
    }

    /// Up to where the store held everything at `asked`, or further. Clients that have waited since then, in
    /// thousands at times, share what was read meanwhile.
    pub(super) async fn stored_since(&self, asked: Instant) -> Result<Cursor, StoreError> {
        let last = *self.last_read.lock();
        if let Some((began, mut cursor)) = last
            && began >= asked
            && let Some((epoch, heard)) = self.hub.newest()
            && epoch == cursor.epoch
        {
            cursor.position = cursor.position.max(heard);
            return Ok(cursor);
        }
        self.stored().await
    }

    /// What `read` gives as of a position in the history. Where that is before what this instance
    /// has heard of, the store lost a part of its history: the streams are reset first, and then it
    /// is read again, so that nothing begins in the history that is no more.
    async fn not_before_a_loss<T, R>(
        &self,
        read: impl Fn() -> R,
        position: impl Fn(&T) -> (Epoch, Position),
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        for _ in 0..LOSSES {
            let before = self.hub.newest();
            let found = read().await?;
            if !Hub::lost_history(before, position(&found)) {
                return Ok(found);
            }
            self.hub.request_resync();
            let is_reset = |hub: &Hub| hub.newest() != before;
            let _ = timeout(BUS_PATIENCE, self.hub.wait(is_reset)).await;
        }
        Err(StoreError::Unreachable("its history went back".to_owned()))
    }

    async fn start(
        &self,
        subscriber: &Arc<Subscriber>,
        mut start: StreamStart,
        asked: Instant,
    ) -> Result<(), StoreError> {
        let mut backoff = Backoff::default();
        loop {
            let (cursor, origin) = match start {
                StreamStart::At(cursor, origin) => {
                    self.hear_what_is_stored(asked).await;
                    (cursor, origin)
                }
                StreamStart::WithSnapshot => {
                    (self.feed_snapshot(subscriber).await?, CursorOrigin::Server)
                }
                StreamStart::Reset(reason, from) => (
                    self.feed_reset(subscriber, reason, from).await?,
                    CursorOrigin::Server,
                ),
            };
            // Live events would pile up behind what is long to read.
            subscriber.backlog_taken().await;
            match self.follow(subscriber, cursor, origin).await? {
                None => return Ok(()),
                Some(reason) => {
                    // Where that comes again and again, it must not keep all_users busy.
                    sleep(backoff.next()).await;
                    let from = patiently(|| self.stored()).await?;
                    start = StreamStart::Reset(reason, from);
                }
            }
        }
    }

    async fn feed_reset(
        &self,
        subscriber: &Arc<Subscriber>,
        reason: ResetReason,
        from: Cursor,
    ) -> Result<Cursor, StoreError> {
        subscriber.reset();
        if subscriber.snapshot {
            subscriber.feed([frame::reset(from.incomplete(), reason)]);
            return self.feed_snapshot(subscriber).await;
        }
        subscriber.feed([frame::reset(from, reason)]);
        Ok(from)
    }

    async fn feed_snapshot(&self, subscriber: &Arc<Subscriber>) -> Result<Cursor, StoreError> {
        let snapshot = match &subscriber.interest {
            Interest::Users(users) => {
                let ask = || self.chosen.ask(users);
                let at =
                    |snapshot: &Arc<Snapshot>| (snapshot.cursor.epoch, snapshot.cursor.position);
                patiently(|| self.not_before_a_loss(ask, at)).await?
            }
            Interest::AllUsers => patiently(|| self.all_users.ask(self.scanning())).await?,
        };
        Ok(snapshot.feed(subscriber).await)
    }

    fn scanning(
        &self,
    ) -> impl Fn() -> futures_util::future::BoxFuture<'static, Result<Arc<Snapshot>, StoreError>>
    + Send
    + use<> {
        let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
        let unread = Arc::clone(&self.unread);
        move || {
            Box::pin(scan(
                Arc::clone(&store),
                Arc::clone(&hub),
                Arc::clone(&unread),
            ))
        }
    }

    fn join(
        &self,
        subscriber: &Arc<Subscriber>,
        cursor: Cursor,
        origin: CursorOrigin,
    ) -> JoinOutcome {
        self.hub
            .join(subscriber, cursor, origin, self.oldest(origin))
    }

    /// The first missed event of a resuming client must not be older than the history is long,
    /// even where it happens to be kept still; what we go on with ourselves may be of any age.
    fn oldest(&self, origin: CursorOrigin) -> Timestamp {
        match origin {
            CursorOrigin::Client => self.store.now().minus(self.history),
            CursorOrigin::Server => Timestamp::default(),
        }
    }

    /// Replayer what came after `cursor` until the stream follows the live events; says why where
    /// that is impossible.
    async fn follow(
        &self,
        subscriber: &Arc<Subscriber>,
        mut cursor: Cursor,
        mut origin: CursorOrigin,
    ) -> Result<Option<ResetReason>, StoreError> {
        while !subscriber.has_ended() {
            match self.join(subscriber, cursor, origin) {
                JoinOutcome::Following => return Ok(None),
                JoinOutcome::Unknown => return Ok(Some(ResetReason::UnknownCursor)),
                JoinOutcome::Gone => return Ok(Some(ResetReason::HistoryGone)),
                JoinOutcome::Behind(place) => {
                    origin = CursorOrigin::Server;
                    // Where the place is lost, joining tells why.
                    if let Ok(position) = self.replays.feed(&self.hub, subscriber, place).await {
                        cursor.position = position;
                    }
                }
                JoinOutcome::Ahead | JoinOutcome::OtherEpoch => {
                    if let Some(reason) = self.wait_for_the_bus(cursor, origin).await? {
                        return Ok(Some(reason));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Waits until this instance has heard of what the store held at `asked`, so that a stream does not
    /// say too early that it has caught up. Where that takes long, the stream does without: it
    /// resumes also while the store is out of reach.
    async fn hear_what_is_stored(&self, asked: Instant) {
        let heard = async {
            let Ok(stored) = self.stored_since(asked).await else {
                return;
            };
            let is_heard = |hub: &Hub| {
                let heard = hub.newest();
                heard.is_some_and(|(epoch, newest)| {
                    epoch != stored.epoch || newest >= stored.position
                })
            };
            self.hub.wait(is_heard).await;
        };
        let _ = timeout(HEAR_PATIENCE, heard).await;
    }

    /// Waits until this instance has heard of what the store holds at `cursor`; says why where the
    /// store holds no such thing.
    async fn wait_for_the_bus(
        &self,
        cursor: Cursor,
        origin: CursorOrigin,
    ) -> Result<Option<ResetReason>, StoreError> {
        let stored = patiently(|| self.stored()).await?;
        if stored.epoch != cursor.epoch {
            return Ok(Some(ResetReason::DataLost));
        }
        if stored.position < cursor.position {
            return Ok(Some(match origin {
                CursorOrigin::Server => ResetReason::HistoryGone,
                CursorOrigin::Client => ResetReason::UnknownCursor,
            }));
        }
        let is_heard = |hub: &Hub| {
            let heard = hub.newest();
            heard.is_some_and(|(epoch, newest)| epoch == cursor.epoch && newest >= cursor.position)
        };
        // Where that takes longer, the store is asked again whether it still holds it.
        let _ = timeout(BUS_PATIENCE, self.hub.wait(is_heard)).await;
        Ok(None)
    }
}

/// Makes `attempt` again until it succeeds, or has failed for [`STORE_PATIENCE`].
async fn patiently<T, A>(attempt: impl Fn() -> A) -> Result<T, StoreError>
where
    A: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Err(error) if began.elapsed() >= STORE_PATIENCE => return Err(error),
            Err(_) => sleep(backoff.next()).await,
            Ok(found) => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
