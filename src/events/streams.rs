//! Opens streams: resume, replay, snapshot, and then the live events without a gap.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Cursor;
use super::capacity::{Capacity, Full};
use super::frame;
use super::hub::{Hub, Joined, Origin};
use super::payload::{EndReason, ResetReason};
use super::slot::{Opening, Slot};
use super::snapshot::{Snapshot, Snapshots};
use super::stream::{Credential, EventStream, Interest};
use crate::config::Config;
use crate::presence::{Entry, Timestamp};
use crate::store::{Store, StoreError};

/// How many events of the history one step of a replay reads.
const REPLAY_STEP: usize = 1_000;

/// How much sooner than its age a stream may end, as a part of it, so that streams opened together
/// do not reconnect together.
const AGE_JITTER: f64 = 0.2;

/// How often a stream looks whether this instance has heard of the data set it is to follow.
const EPOCH_POLL: Duration = Duration::from_millis(50);

/// How far in the future the position of a cursor may lie, as clocks go.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// What a client asks of its stream.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// Whose events.
    pub interest: Interest,
    /// Whether to begin with who is online now.
    pub snapshot: bool,
    /// The cursor of an earlier stream, as the client sent it.
    pub last_event_id: Option<String>,
    /// Who counts as holding the stream open; nobody's streams are limited in all only.
    pub caller: Option<Arc<str>>,
    /// When it ends at the latest.
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
    Full(#[from] Full),
}

/// The streams of this instance.
#[derive(Debug)]
pub struct Streams {
    store: Arc<Store>,
    hub: Arc<Hub>,
    snapshots: Snapshots,
    capacity: Arc<Capacity>,
    max_age: Duration,
    history: Duration,
}

/// How a stream begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// With a snapshot.
    Fresh,
    /// After this cursor.
    At(Cursor, Origin),
    /// Anew from this place, because that is impossible.
    Reset(ResetReason, Cursor),
}

impl Streams {
    /// Streams out of `hub`, with the ages that `config` sets.
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, config: &Config) -> Self {
        let access = &config.access;
        let capacity = Capacity::new(access.streams, access.streams_per_caller);
        Self {
            store,
            hub,
            snapshots: Snapshots::default(),
            capacity: Arc::new(capacity),
            max_age: config.stream_max_age,
            history: config.history,
        }
    }

    /// Opens a stream. What takes time, a snapshot or a long replay, goes on after the answer.
    ///
    /// A stream without a cursor begins at what the store holds now, not at what this instance has
    /// heard of: an event from before the call is never told.
    ///
    /// Fails when the store is out of reach and nothing could be promised, and when there are as
    /// many streams as may be.
    pub async fn open(self: &Arc<Self>, request: StreamRequest) -> Result<EventStream, OpenError> {
        self.ready()?;
        let place = self.capacity.take(request.caller)?;
        let start = match request.last_event_id.as_deref() {
            Some(id) => self.resume_from(id).await?,
            None if request.snapshot => {
                self.stored().await?;
                Start::Fresh
            }
            None => Start::At(self.stored().await?, Origin::Known),
        };
        let age = self.max_age.mul_f64(1.0 - AGE_JITTER * fastrand::f64());
        let due = Instant::now() + age;
        let closes = match request.closes_by {
            Some(expires) if expires < due => (expires, EndReason::TokenExpired),
            _ => (due, EndReason::MaxAge),
        };
        let slot = self.hub.open(Opening {
            interest: request.interest,
            snapshot: request.snapshot,
            closes,
            credential: request.credential,
        });
        // It may have been withdrawn before the stream could be found.
        if slot.is_withdrawn() {
            self.hub.end(&slot, EndReason::TokenExpired);
        }
        if !self.joins_at_once(&slot, start) {
            self.begin(Arc::clone(&slot), start);
        }
        Ok(EventStream::new(slot, Arc::clone(&self.hub), place))
    }

    /// Whether streams can be opened; fails as [`Streams::open`] would.
    pub fn ready(&self) -> Result<(), StoreError> {
        self.heard().map(|_| ())
    }

    /// Ends the streams whose [`Credential`] is withdrawn.
    pub fn end_withdrawn(&self) {
        self.hub.end_withdrawn();
    }

    /// Starts streams anew that followed a history which is no more.
    pub(super) fn reset(
        self: &Arc<Self>,
        slots: Vec<Arc<Slot>>,
        reason: ResetReason,
        from: Cursor,
    ) {
        for slot in slots {
            self.begin(slot, Start::Reset(reason, from));
        }
    }

    /// The common case, without a task: everything missed is still at hand.
    fn joins_at_once(&self, slot: &Arc<Slot>, start: Start) -> bool {
        let Start::At(cursor, origin) = start else {
            return false;
        };
        self.join(slot, cursor, origin) == Joined::Following
    }

    fn begin(self: &Arc<Self>, slot: Arc<Slot>, start: Start) {
        let streams = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = streams.start(&slot, start).await {
                warn!(%error, "a stream could not begin");
                streams.hub.end(&slot, EndReason::StoreLost);
            }
        });
    }

    async fn start(&self, slot: &Arc<Slot>, mut start: Start) -> Result<(), StoreError> {
        loop {
            let (cursor, origin) = match start {
                Start::At(cursor, origin) => (cursor, origin),
                Start::Fresh => (self.feed_snapshot(slot).await?, Origin::Known),
                Start::Reset(reason, from) => {
                    (self.feed_reset(slot, reason, from).await?, Origin::Known)
                }
            };
            // Live events would pile up behind a snapshot that is long to read.
            slot.drained().await;
            match self.follow(slot, cursor, origin).await? {
                None => return Ok(()),
                Some(reason) => start = Start::Reset(reason, self.stored().await?),
            }
        }
    }

    async fn feed_reset(
        &self,
        slot: &Arc<Slot>,
        reason: ResetReason,
        from: Cursor,
    ) -> Result<Cursor, StoreError> {
        slot.unfollow();
        if slot.snapshot {
            slot.feed([frame::reset(from.incomplete(), reason)]);
            return self.feed_snapshot(slot).await;
        }
        slot.feed([frame::reset(from, reason)]);
        Ok(from)
    }

    /// Up to where this instance has heard everything.
    fn heard(&self) -> Result<Cursor, StoreError> {
        match self.hub.newest() {
            Some((epoch, newest)) => Ok(Cursor::at(epoch, newest)),
            None => Err(StoreError::Unreachable("no history was read yet".into())),
        }
    }

    async fn feed_snapshot(&self, slot: &Arc<Slot>) -> Result<Cursor, StoreError> {
        if let Interest::Users(users) = &slot.interest {
            let announced = self.store.announced_among(users).await?;
            let snapshot = Snapshot::of(announced.epoch, announced.position, &announced.users);
            slot.feed(snapshot.frames);
            slot.feed_ready(snapshot.ready);
            return Ok(snapshot.cursor);
        }
        let snapshot = self.snapshots.everyone(&self.store).await?;
        slot.feed(snapshot.frames.iter().cloned());
        slot.feed_ready(snapshot.ready.clone());
        Ok(snapshot.cursor)
    }

    fn join(&self, slot: &Arc<Slot>, cursor: Cursor, origin: Origin) -> Joined {
        self.hub.join(slot, cursor, origin, self.oldest(origin))
    }

    /// The first missed event of a resuming client must not be older than the history is long,
    /// even where it happens to be kept still; what we go on with ourselves may be of any age.
    fn oldest(&self, origin: Origin) -> Timestamp {
        match origin {
            Origin::Claimed => self.store.now().minus(self.history),
            Origin::Known => Timestamp::default(),
        }
    }

    /// Replays what came after `cursor` until the stream follows the live events; says why where
    /// that is impossible.
    async fn follow(
        &self,
        slot: &Arc<Slot>,
        mut cursor: Cursor,
        mut origin: Origin,
    ) -> Result<Option<ResetReason>, StoreError> {
        while !slot.has_ended() {
            match self.join(slot, cursor, origin) {
                Joined::Following => return Ok(None),
                // The store is ahead of what this instance has heard of, which passes, or has lost
                // its data since this stream was given its place, which does not.
                Joined::OtherEpoch if origin == Origin::Known => {
                    sleep(EPOCH_POLL).await;
                    if self.stored().await?.epoch != cursor.epoch {
                        return Ok(Some(ResetReason::DataLost));
                    }
                }
                Joined::OtherEpoch => return Ok(Some(ResetReason::DataLost)),
                Joined::Unknown => return Ok(Some(ResetReason::UnknownCursor)),
                Joined::Gone => return Ok(Some(ResetReason::HistoryGone)),
                Joined::Behind(frames, upto) => {
                    cursor.position = upto;
                    slot.feed(frames);
                }
                Joined::NotKept => {
                    let history = self.store.history(cursor.position, REPLAY_STEP).await?;
                    if history.epoch != cursor.epoch {
                        return Ok(Some(ResetReason::DataLost));
                    }
                    let first = history.entries.first();
                    let gone = first.is_some_and(|entry| entry.at() < self.oldest(origin));
                    if gone || !history.continues(cursor.position) {
                        return Ok(Some(ResetReason::HistoryGone));
                    }
                    cursor.position = history
                        .entries
                        .last()
                        .map_or(cursor.position, Entry::position);
                    let wanted = history
                        .entries
                        .iter()
                        .filter_map(Entry::event)
                        .filter(|event| slot.interest.includes(&event.user));
                    slot.feed(wanted.map(|event| frame::event(history.epoch, event)));
                }
            }
            origin = Origin::Known;
            slot.drained().await;
        }
        Ok(None)
    }

    async fn resume_from(&self, id: &str) -> Result<Start, StoreError> {
        let latest = self.store.now().plus(CLOCK_TOLERANCE).as_millis();
        let reason = match id.parse::<Cursor>() {
            Ok(cursor) if cursor.position.millis > latest => ResetReason::UnknownCursor,
            Ok(cursor) if cursor.complete => return Ok(Start::At(cursor, Origin::Claimed)),
            Ok(_) => ResetReason::SnapshotIncomplete,
            Err(_) => ResetReason::UnknownCursor,
        };
        Ok(Start::Reset(reason, self.stored().await?))
    }

    /// Up to where the store holds everything, which may be further than this instance has heard.
    async fn stored(&self) -> Result<Cursor, StoreError> {
        let (epoch, newest) = self.store.in_time(self.store.newest()).await?;
        Ok(Cursor::at(epoch, newest))
    }
}
