//! What a client asks of its stream, and whether it gets one.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::hub::Hub;
use super::hub::join::CursorOrigin;
use super::interest::Interest;
use super::limits::Limits;
use super::opening::{Opener, StreamStart};
use super::sse::cursor::Cursor;
use super::sse::payload::{EndReason, ResetReason};
use super::stream::EventStream;
use super::stream_limit::{StreamLimit, StreamLimitReached};
use super::subscriber::SubscriberOptions;
use crate::config::Config;
use crate::model::Credential;
use crate::model::Timestamp;
use crate::store::{Store, StoreError};

/// How much sooner than its age a stream may end, as a part of it, so that streams opened together
/// do not reconnect together.
const AGE_JITTER: f64 = 0.2;

/// How far in the future the position of a cursor may lie, as clocks go.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// How long a stream waits while the history is read at the start.
const FILL_PATIENCE: Duration = Duration::from_secs(10);

/// What a client asks of its stream.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// When the client asked; it may have waited for its turn since.
    pub asked: Instant,
    /// Whose events.
    pub interest: Interest,
    /// Whether to begin with who is online now.
    pub snapshot: bool,
    /// The cursor of an earlier stream, as the client sent it.
    pub last_event_id: Option<String>,
    /// Who counts as holding the stream open; nobody's streams are limited in all only.
    pub caller: Option<Arc<str>>,
    /// When it ends at the latest, because the token expires.
    pub closes_by: Option<Instant>,
    /// What the stream is opened with, if that can be withdrawn before it expires.
    pub credential: Option<Arc<dyn Credential>>,
}

/// Why a stream was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The store is out of reach, and nothing could be promised.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are too many.
    #[error(transparent)]
    Limit(#[from] StreamLimitReached),
}

impl OpenError {
    /// What `presence.end` says to a client that is refused in a stream.
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::Store(StoreError::Overloaded) => EndReason::Overloaded,
            Self::Store(_) => EndReason::StoreUnreachable,
            Self::Limit(_) => EndReason::TooManyStreams,
        }
    }
}

/// The streams of this instance.
#[derive(Debug)]
pub struct StreamService {
    store: Arc<Store>,
    hub: Arc<Hub>,
    opener: Arc<Opener>,
    capacity: Arc<StreamLimit>,
    max_age: Duration,
}

impl StreamService {
    /// StreamService out of `hub`, with the lifetimes that `config` sets. Has to be called in a runtime, which
    /// then reads what streams begin with.
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, config: &Config, limits: Limits) -> Self {
        let capacity = StreamLimit::new(config.limits.streams, config.limits.streams_per_caller);
        let (ours, theirs) = (Arc::clone(&store), Arc::clone(&hub));
        let opener = Opener::new(ours, theirs, limits, Handle::current());
        Self {
            store,
            hub,
            opener: Arc::new(opener),
            capacity: Arc::new(capacity),
            max_age: config.streams.max_age,
        }
    }

    /// Opens a stream. What takes time, a snapshot or a long replay, goes on after the answer.
    ///
    /// A stream without a cursor begins at what the store held when its client asked, or later, not at what this instance has
    /// heard of: an event from before the call is never told.
    ///
    /// Fails when the store is out of reach and nothing could be promised, and when there are as
    /// many streams as may be.
    pub async fn open(&self, request: StreamRequest) -> Result<EventStream, OpenError> {
        self.filled().await?;
        let place = self.capacity.take(request.caller)?;
        let asked = request.asked;
        let start = match request.last_event_id.as_deref() {
            Some(id) => self.resume_from(id, asked).await?,
            None if request.snapshot => {
                self.opener.stored_since(asked).await?;
                StreamStart::WithSnapshot
            }
            None => StreamStart::At(self.opener.stored_since(asked).await?, CursorOrigin::Server),
        };
        let age = self.max_age.mul_f64(1.0 - AGE_JITTER * fastrand::f64());
        let due = Instant::now() + age;
        let closes = match request.closes_by {
            Some(expires) if expires < due => (expires, EndReason::TokenExpired),
            _ => (due, EndReason::MaxAge),
        };
        let subscriber = self.hub.open(SubscriberOptions {
            interest: request.interest,
            snapshot: request.snapshot,
            closes,
            credential: request.credential,
        })?;
        let stream = EventStream::new(Arc::clone(&subscriber), Arc::clone(&self.hub), place);
        if subscriber.is_withdrawn() {
            // It was withdrawn before the subscriber could be found by it.
            self.hub.end(&subscriber, EndReason::TokenExpired);
        } else {
            self.opener.begin(&subscriber, start, asked);
        }
        Ok(stream)
    }

    /// Whether streams can be opened; fails until the history was read for the first time.
    pub fn ready(&self) -> Result<(), StoreError> {
        match self.hub.newest() {
            Some(_) => Ok(()),
            None => Err(StoreError::Unreachable("no history was read yet".into())),
        }
    }

    /// Whether the store answers, and its history is being read for the first time.
    pub fn is_filling(&self) -> bool {
        self.hub.is_filling()
    }

    /// Ends the streams whose [`Credential`] is withdrawn. Each would also end by itself, with its
    /// next keep-alive.
    pub fn end_withdrawn(&self) {
        self.hub.end_withdrawn();
    }

    pub(super) fn opener(&self) -> &Arc<Opener> {
        &self.opener
    }

    /// Waits until the history was read, where that has begun.
    async fn filled(&self) -> Result<(), StoreError> {
        if self.ready().is_ok() || !self.is_filling() {
            return self.ready();
        }
        let filled = self.hub.wait(|hub| hub.newest().is_some());
        // Where it takes longer, the stream is refused for now.
        let _ = timeout(FILL_PATIENCE, filled).await;
        self.ready()
    }

    async fn resume_from(&self, id: &str, asked: Instant) -> Result<StreamStart, StoreError> {
        let now = self.store.now().as_millis();
        // Where the clock of the store was set back, events still get positions from before.
        let newest = self.hub.newest().map_or(0, |(_, newest)| newest.millis);
        let latest = Timestamp::from_millis(now.max(newest)).plus(CLOCK_TOLERANCE);
        let reason = match id.parse::<Cursor>() {
            Ok(cursor) if cursor.position.millis > latest.as_millis() => ResetReason::UnknownCursor,
            Ok(cursor) if cursor.complete => {
                return Ok(StreamStart::At(cursor, CursorOrigin::Client));
            }
            Ok(_) => ResetReason::SnapshotIncomplete,
            Err(_) => ResetReason::UnknownCursor,
        };
        Ok(StreamStart::Reset(
            reason,
            self.opener.stored_since(asked).await?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::memory_budget::MemoryBudget;
    use crate::telemetry::Metrics;

    #[derive(Debug)]
    struct Withdrawn;

    impl Credential for Withdrawn {
        fn is_withdrawn(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_stream_whose_credential_was_withdrawn_a_moment_before_ends_at_once() {
        let config = Config::default();
        let limits = Limits::of(&config, MemoryBudget::of(1 << 30));
        let store = Arc::new(Store::open(&config).expect("a store in memory"));
        let hub = Arc::new(Hub::new(Arc::new(Metrics::new()), limits));
        let (epoch, newest) = store.newest().await.expect("it is in this process");
        hub.restart(epoch, hub.ring_after(newest));
        let streams = StreamService::new(store, hub, &config, limits);
        let request = StreamRequest {
            asked: Instant::now(),
            interest: Interest::AllUsers,
            snapshot: false,
            last_event_id: None,
            caller: None,
            closes_by: None,
            credential: Some(Arc::new(Withdrawn)),
        };
        let stream = streams.open(request).await.expect("there is room");
        let told = poll_fn(|context| stream.poll_next(context)).await;
        let told = told.expect("the reason");
        assert!(String::from_utf8_lossy(&told).contains("token-expired"));
        let after = poll_fn(|context| stream.poll_next(context)).await;
        assert_eq!(after, None);
    }
}
