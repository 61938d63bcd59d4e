//! Opens streams.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::hub::Hub;
use super::hub::join::{CursorOrigin, JoinPoint};
use super::interest::{Interest, Wanted};
use super::limits::Limits;
use super::opening::{Opener, StreamStart};
use super::sse::cursor::{Cursor, InvalidCursor};
use super::sse::payload::{EndReason, ResetReason};
use super::stream::EventStream;
use super::stream_limit::{StreamLimit, StreamLimitReached};
use super::subscriber::SubscriberOptions;
use crate::config::Config;
use crate::model::{Credential, PartitionSet, Timestamp};
use crate::store::{Store, StoreError};

/// The random part of the maximum age, so that streams opened together do not reconnect together.
const AGE_JITTER: f64 = 0.2;

/// Clock difference that is accepted for the cursor of a client.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// How long a request waits while the history is read for the first time.
const FILL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call waits for the events that the store holds, and then once more after the bus has read the histories
/// again.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The end of the cursor of a list that has more messages.
pub(super) const MORE: &str = ".m";

/// The `lastEventId` that selects everything that is kept.
const EARLIEST: &str = "earliest";

/// What a client requests of its stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamRequest {
    /// When the client sent the request. The request may have waited for admission since.
    pub requested_at: Instant,
    /// What the client wants to follow.
    pub wanted: Wanted,
    /// Whether the stream begins with a snapshot of the online users.
    pub snapshot: bool,
    /// The cursor of an earlier stream, as the client sent it.
    pub last_event_id: Option<String>,
    /// Whether the stream counts towards the limits of streams.
    pub counts: bool,
    /// The caller that the stream counts for. `None`: only the total limit applies.
    pub caller: Option<Arc<str>>,
    /// When the token of the stream expires.
    pub closes_by: Option<Instant>,
    /// When the transport ends the response. `None`: never.
    pub ends_by: Option<Instant>,
    /// The credential of the stream, if it can be withdrawn before it expires.
    pub credential: Option<Arc<dyn Credential>>,
}

/// Why a stream was not opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The store is unreachable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are too many streams.
    #[error(transparent)]
    Limit(#[from] StreamLimitReached),
}

/// Opens the streams of this instance.
#[derive(Debug)]
pub(crate) struct StreamService {
    store: Arc<Store>,
    hub: Arc<Hub>,
    opener: Arc<Opener>,
    limit: Arc<StreamLimit>,
    /// Calls that may wait at the same time.
    waiting: Arc<Semaphore>,
    max_age: Duration,
}

impl StreamService {
    /// Returns a service for streams of `hub`. Must be called in a Tokio runtime; this runtime then
    /// reads the snapshots.
    pub(crate) fn new(store: Arc<Store>, hub: Arc<Hub>, config: &Config, limits: Limits) -> Self {
        let limit = StreamLimit::new(config.limits.streams, config.limits.streams_per_caller);
        let opener = Opener::new(
            Arc::clone(&store),
            Arc::clone(&hub),
            limits,
            Handle::current(),
        );
        Self {
            store,
            hub,
            opener: Arc::new(opener),
            limit: Arc::new(limit),
            waiting: Arc::new(Semaphore::new(limits.waiting_calls)),
            max_age: config.streams.max_age,
        }
    }

    /// Opens a stream. A snapshot or a long replay follows after this function has returned.
    ///
    /// A stream without a cursor begins at the newest position that the store had when the client
    /// sent the request, or later: the stream carries no event from before the request.
    ///
    /// Fails if the store is unreachable or there are too many streams.
    pub(crate) async fn open(&self, request: StreamRequest) -> Result<EventStream, OpenError> {
        let watched = request.wanted.watched(self.hub.partitions());
        self.wait_until_known(&watched).await?;
        let permit = request.counts.then(|| self.limit.take(request.caller));
        let permit = permit.transpose()?;
        let mut requested_at = request.requested_at;
        let (interest, since) = match request.wanted {
            Wanted::Fixed(interest) => (interest, 0),
            Wanted::OwnGroups(user) => self.opener.own_interest(&user).await?,
        };
        let groups = interest.listed_groups();
        let held = self.opener.copy_filler().hold(groups).await?;
        if matches!(interest, Interest::Groups(_)) {
            // The members are not known as of an earlier moment.
            requested_at = Instant::now();
        }
        let newest = self.opener.newest();
        let start = match request.last_event_id.as_deref() {
            Some(id) => self.resume_from(id, requested_at, &watched).await?,
            None if request.snapshot => {
                newest.since(requested_at, &watched).await?;
                StreamStart::WithSnapshot
            }
            None => StreamStart::At(JoinPoint::After(
                newest.since(requested_at, &watched).await?,
                CursorOrigin::Server,
            )),
        };
        let age = self.max_age.mul_f64(1.0 - AGE_JITTER * fastrand::f64());
        let due = Instant::now() + age;
        let due = request.ends_by.map_or(due, |time| due.min(time));
        let closes = match request.closes_by {
            Some(expires) if expires < due => (expires, EndReason::TokenExpired),
            _ => (due, EndReason::MaxAge),
        };
        let subscriber = self.hub.open(SubscriberOptions {
            interest,
            since,
            snapshot: request.snapshot,
            closes,
            credential: request.credential,
        })?;
        drop(held);
        let stream = EventStream::new(Arc::clone(&subscriber), Arc::clone(&self.hub), permit);
        if subscriber.is_withdrawn() {
            // The credential was withdrawn before the hub had the stream in its list.
            self.hub.end(&subscriber, EndReason::TokenExpired);
        } else {
            self.opener.begin(&subscriber, start, requested_at);
        }
        Ok(stream)
    }

    /// Whether streams can be opened. Fails until the history of a partition was read for the first time.
    pub(crate) fn check_ready(&self) -> Result<(), StoreError> {
        if self.hub.has_begun() {
            Ok(())
        } else {
            Err(not_read())
        }
    }

    /// Whether the store answers and the recent events of a partition are being read.
    pub(crate) fn is_filling(&self) -> bool {
        self.hub.is_filling()
    }

    /// Ends all streams whose [`Credential`] was withdrawn. Each of them would also end at its next
    /// keep-alive.
    pub(crate) fn end_withdrawn(&self) {
        self.hub.end_withdrawn();
    }

    pub(super) fn opener(&self) -> &Arc<Opener> {
        &self.opener
    }

    /// Returns a permit for a call that waits for an event. Such a call is a request in progress. Its connection needs
    /// more memory than a stream and takes one of the places for requests, so that fewer calls than streams may wait.
    pub(super) fn waiting_permit(&self) -> Result<OwnedSemaphorePermit, StreamLimitReached> {
        let permit = Arc::clone(&self.waiting).try_acquire_owned();
        permit.map_err(|_| StreamLimitReached::Instance)
    }

    /// Waits until this instance has received everything about these users that the store held at `requested_at`.
    /// Fails if one of their partitions is unreachable.
    pub(super) async fn receive_stored(
        &self,
        wanted: &Wanted,
        requested_at: Instant,
    ) -> Result<(), StoreError> {
        let watched = wanted.watched(self.hub.partitions());
        self.wait_until_known(&watched).await?;
        let newest = self.opener.newest();
        let stored = newest.stored_at(requested_at, &watched).await?;
        let all_received = |hub: &Hub| stored.iter().all(|each| hub.has_reached(*each));
        if self.hub.wait_for(RECEIVE_TIMEOUT, all_received).await {
            return Ok(());
        }
        // The store may have begun a new data set without an event, which the bus does not notice by itself.
        for (partition, ..) in stored.iter().filter(|each| !self.hub.has_reached(**each)) {
            self.hub.request_resync(*partition);
        }
        if self.hub.wait_for(RECEIVE_TIMEOUT, all_received).await {
            Ok(())
        } else {
            let late = "its newest events were not received";
            Err(StoreError::Unreachable(late.to_owned()))
        }
    }

    /// Waits while the histories of these partitions are read. Fails at once if one of them cannot be read.
    async fn wait_until_known(&self, watched: &PartitionSet) -> Result<(), StoreError> {
        if self.hub.knows(watched) {
            return Ok(());
        }
        if self.hub.will_know(watched) {
            // After this time the request is refused.
            self.hub
                .wait_for(FILL_TIMEOUT, |hub| hub.knows(watched))
                .await;
        }
        if self.hub.knows(watched) {
            Ok(())
        } else {
            Err(not_read())
        }
    }

    async fn resume_from(
        &self,
        id: &str,
        requested_at: Instant,
        watched: &PartitionSet,
    ) -> Result<StreamStart, StoreError> {
        if id == EARLIEST {
            return Ok(StreamStart::At(JoinPoint::Earliest));
        }
        let (id, origin) = match id.strip_suffix(MORE) {
            Some(id) => (id, CursorOrigin::Page),
            None => (id, CursorOrigin::Client),
        };
        let reason = match Cursor::parse(id, self.hub.partitions()) {
            Ok(cursor) if self.is_in_the_future(&cursor, watched) => ResetReason::UnknownCursor,
            Ok(cursor) if cursor.is_complete() => {
                return Ok(StreamStart::At(JoinPoint::After(cursor, origin)));
            }
            Ok(_) => ResetReason::SnapshotIncomplete,
            Err(InvalidCursor::OtherLayout) => ResetReason::LayoutChanged,
            Err(InvalidCursor::Unknown) => ResetReason::UnknownCursor,
        };
        let newest = self.opener.newest();
        let from = newest.since(requested_at, watched).await?;
        Ok(StreamStart::Reset(reason, from))
    }

    /// Whether a watched partition cannot have the position of the cursor yet.
    fn is_in_the_future(&self, cursor: &Cursor, watched: &PartitionSet) -> bool {
        watched.iter().any(|partition| {
            let now = self.store.now(partition).as_millis();
            // If the clock of the store was set back, new events still get positions after the newest
            // one.
            let newest = self.hub.newest(partition);
            let newest = newest.map_or(0, |(_, newest)| newest.millis);
            let latest = Timestamp::from_millis(now.max(newest)).plus(CLOCK_TOLERANCE);
            cursor.position(partition).millis > latest.as_millis()
        })
    }
}

fn not_read() -> StoreError {
    StoreError::Unreachable("the history was not read yet".into())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::events::hub::kept::Filled;
    use crate::memory_budget::MemoryBudget;
    use crate::model::{Partition, Partitions};
    use crate::telemetry::Metrics;

    #[derive(Debug)]
    struct Withdrawn;

    impl Credential for Withdrawn {
        fn is_withdrawn(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_stream_with_a_withdrawn_credential_ends_at_once() {
        let config = Config::default();
        let limits = Limits::of(&config, MemoryBudget::of(1 << 30));
        let store = Arc::new(Store::open(&config).expect("a store in memory"));
        let hub = Hub::new(Arc::new(Metrics::new()), limits, Partitions::ONE);
        let hub = Arc::new(hub);
        let newest = store.newest_of(Partition::FIRST).await;
        let (epoch, newest) = newest.expect("an embedded store");
        hub.begin(vec![Filled::until(Partition::FIRST, epoch, newest)]);
        let streams = StreamService::new(store, hub, &config, limits);
        let request = StreamRequest {
            requested_at: Instant::now(),
            wanted: Wanted::Fixed(Interest::AllUsers),
            snapshot: false,
            last_event_id: None,
            counts: true,
            caller: None,
            closes_by: None,
            ends_by: None,
            credential: Some(Arc::new(Withdrawn)),
        };
        let stream = streams.open(request).await.expect("a free permit");
        let mut body = Vec::new();
        while let Some(frame) = poll_fn(|context| stream.poll_next(context)).await {
            body.extend_from_slice(&frame.data());
        }
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("token-expired"), "{body}");
    }
}
