//! Moves the data to another store while both are written, so that no user looks offline.
//!
//! During a move, every instance tells the former store, that of `REDIS_URL`, about itself each second. The former
//! store decides when the next store begins to answer, so all instances change at one moment, and an instance that dies
//! delays nothing.

mod groups;
mod statuses;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::future::join;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::{Config, InvalidSetting, named_next};
use crate::events::Hub;
use crate::model::{MoveReport, MoveState, NextStore, Partition, Timestamp};
use crate::presence::{MoveProgress, Phase};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// The time between two reports. `COUNTED` and `NOTICE` in `report_move.lua` are several times as long.
const INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two reports of an instance that has no next store and hears of none; `SELDOM` in
/// `report_move.lua`.
const SELDOM: Duration = Duration::from_secs(60);

/// After a longer time between two looks, the process was frozen and may have missed messages.
const FROZEN: Duration = Duration::from_secs(3);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the next store may take to say whether it answers already. The reports must not wait for it.
const ARRIVAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a start waits for the first report, and for the next store.
const START: Duration = Duration::from_secs(1);

/// The pause between two looks at a store, and after a failure.
const LOOK: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_secs(1);

/// The streams of the former store end within this time after the move, so that clients do not all reconnect at once.
const STREAMS_END: Duration = Duration::from_secs(5);

/// How long both stores are written after the move: other instances still answer from the former one for an instant,
/// and streams of its events end.
const BOTH: Duration = Duration::from_secs(10);

/// The bytes of the digest that identify the data of a store.
const DATA_SET_BYTES: usize = 16;

/// The text for operators after the move.
const AFTER: &str = "the data moved to the next store; \
    set REDIS_URL, PRESENCE_KEY_PREFIX and PRESENCE_PARTITIONS to those of the next store, \
    and remove the settings that end in _NEXT";

/// The part of an instance in a move. Without a target, the instance only learns of a move that others make.
#[derive(Debug)]
pub(crate) struct Mover {
    former: Arc<Store>,
    instance: String,
    longest_life: Duration,
    metrics: Arc<Metrics>,
    target: Option<Target>,
    reported_at: Option<Instant>,
    looked_at: Instant,
}

/// The store to move to, and what this instance has done for the move.
#[derive(Debug)]
pub(crate) struct Target {
    next: Arc<Store>,
    /// Where the next store is.
    place: String,
    next_hub: Arc<Hub>,
    former_hub: Arc<Hub>,
    progress: Arc<MoveProgress>,
    /// The missed writes that the former store knows of.
    reported: u64,
    /// The copy under way, with the time of the last missed write before it began.
    copy: Option<(Timestamp, JoinHandle<Result<(), StoreError>>)>,
    copied: Option<Timestamp>,
}

impl Target {
    /// The next store at `place` and its hub, beside the hub of the former store.
    pub(crate) fn new(
        place: String,
        next: (&Arc<Store>, &Arc<Hub>),
        former_hub: &Arc<Hub>,
        progress: &Arc<MoveProgress>,
    ) -> Self {
        Self {
            place,
            next: Arc::clone(next.0),
            next_hub: Arc::clone(next.1),
            former_hub: Arc::clone(former_hub),
            progress: Arc::clone(progress),
            reported: 0,
            copy: None,
            copied: None,
        }
    }

    /// Identifies the data of the next store. `None` until this instance follows all its partitions.
    fn data_set(&self) -> Option<String> {
        let mut epochs = Vec::new();
        for newest in self.next_hub.newest_of_all() {
            epochs.extend(newest?.0.0.to_be_bytes());
        }
        let digest = digest(&SHA256, &epochs);
        let bytes = digest.as_ref().iter().take(DATA_SET_BYTES);
        Some(bytes.map(|byte| format!("{byte:02x}")).collect())
    }

    /// Begins the copy of what no ping repeats, unless one is under way.
    fn begin_copy(&mut self, former: &Arc<Store>, state: &MoveState) {
        if self.copy.is_some() {
            return;
        }
        let (former, next) = (Arc::clone(former), Arc::clone(&self.next));
        let copy = tokio::spawn(async move {
            statuses::copy(&former, &next).await?;
            groups::copy(&former, &next).await
        });
        self.copy = Some((state.incomplete_at, copy));
    }

    /// Notes the end of the copy.
    async fn note_copied(&mut self) {
        let Some((complete_since, copy)) = self.copy.take_if(|(_, copy)| copy.is_finished()) else {
            return;
        };
        match copy.await {
            Ok(Ok(())) => self.copied = Some(complete_since),
            Ok(Err(error)) => warn!(%error, "the copy to the next store failed; it begins again"),
            Err(error) => warn!(%error, "the copy to the next store ended; it begins again"),
        }
    }

    /// How far the move is, for operators.
    fn described(&self, state: &MoveState) -> String {
        if let Some(why) = self.next.unfit() {
            return format!("the next store cannot be used: {}", named_next(&why));
        }
        if !self.next.is_connected() {
            return "the next store is out of reach".to_owned();
        }
        if !self.next.is_whole() {
            return "a part of the next store is out of reach".to_owned();
        }
        match (state.others, state.remaining().as_secs()) {
            (0, 0) => {
                "the move to the next store waits for the copy of statuses and groups".to_owned()
            }
            (0, seconds) => format!("both stores are written; the move follows in {seconds} s"),
            (others, _) => format!(
                "{others} of {} instances do not write to the same next store",
                state.instances
            ),
        }
    }
}

impl Mover {
    /// The part of an instance with this store, which moves to a target or not.
    pub(crate) fn new(
        config: &Config,
        former: Arc<Store>,
        target: Option<Target>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            former,
            instance: format!("{:016x}", fastrand::u64(..)),
            longest_life: config.presence.longest_ttl(),
            metrics,
            target,
            reported_at: None,
            looked_at: Instant::now(),
        }
    }

    /// Makes the first report before calls are served. Fails if the settings name a next store that
    /// cannot be one.
    pub(crate) async fn begin(&mut self) -> Result<(), InvalidSetting> {
        let until = Instant::now() + START;
        let state = loop {
            match self.report().await {
                Ok(state) => break state,
                // Without the former store it is unknown whether the data moved.
                Err(_) if Instant::now() > until => return Ok(()),
                Err(_) => sleep(LOOK).await,
            }
        };
        let (Some(target), Some(state)) = (&self.target, state) else {
            return Ok(());
        };
        if state.moves_at.is_some_and(|at| at <= state.now) {
            if state.moves_to != target.place {
                let why = format!("the data moved to another store: {}", state.moves_to);
                return Err(InvalidSetting::new("REDIS_URL_NEXT", why));
            }
            target.next.note_arrived();
            target.progress.enter(Phase::Moved);
            return Ok(());
        }
        while Instant::now() < until && !target.next.is_connected() {
            if let Some(why) = target.next.unfit() {
                return Err(InvalidSetting::new("REDIS_URL_NEXT", named_next(&why)));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes part in the move for as long as the future is polled.
    pub(crate) async fn run(mut self) {
        loop {
            if !self.take_need_to_report() {
                sleep(INTERVAL).await;
                continue;
            }
            let next = self.target.as_ref().map(|target| Arc::clone(&target.next));
            let (has_arrived, report) = join(has_arrived(next), self.report()).await;
            if has_arrived == Some(true) {
                break self.end(self.former.now(Partition::FIRST)).await;
            }
            match report {
                Ok(Some(state)) => {
                    if let Some(at) = self.step(&state, has_arrived.is_some()).await {
                        break self.end(at).await;
                    }
                }
                // The embedded store moves nowhere.
                Ok(None) => break,
                Err(error) => debug!(%error, "the store was not told about this instance"),
            }
            sleep(INTERVAL).await;
        }
        std::future::pending().await
    }

    /// Whether the former store has to know of this instance now. One without a next store has nothing to tell while no
    /// other instance has one.
    fn take_need_to_report(&mut self) -> bool {
        let now = Instant::now();
        let looked_at = std::mem::replace(&mut self.looked_at, now);
        let seldom = self.longest_life.max(SELDOM);
        let may_be_moving = self.former.take_note_of_move();
        may_be_moving
            || self.target.is_some()
            || now - looked_at > FROZEN
            || self.reported_at.is_none_or(|at| now - at >= seldom)
    }

    async fn report(&mut self) -> Result<Option<MoveState>, StoreError> {
        self.reported_at = None;
        let mut report = MoveReport {
            instance: self.instance.clone(),
            next: None,
            longest_life: self.longest_life,
            copied: None,
        };
        let mut missed = 0;
        if let Some(target) = &mut self.target {
            target.note_copied().await;
            missed = target.progress.missed();
            report.next = Some(NextStore {
                place: target.place.clone(),
                data_set: target.data_set(),
                is_complete: missed == target.reported,
            });
            report.copied = target.copied;
        }
        let reported = timeout(REPORT_TIMEOUT, self.former.report_move(&report)).await;
        let state = reported.map_err(|_| StoreError::too_slow())??;
        self.reported_at = Some(Instant::now());
        if let Some(target) = &mut self.target {
            self.metrics
                .move_missed_writes
                .inc_by(missed - target.reported);
            target.reported = missed;
            target.copied = None;
        }
        Ok(state)
    }

    /// Does what the state of the move requires. Returns when the next store begins to answer, once that is decided.
    ///
    /// A former store without its data has nothing to copy. So nothing is copied to a next store that may answer
    /// already.
    async fn step(&mut self, state: &MoveState, may_copy: bool) -> Option<Timestamp> {
        let target = self.target.as_mut()?;
        self.metrics.move_phase.set(1);
        let remaining = i64::try_from(state.remaining().as_secs()).unwrap_or(i64::MAX);
        self.metrics.move_remaining_seconds.set(remaining);
        target.progress.describe(target.described(state));
        if state.copies && may_copy {
            target.begin_copy(&self.former, state);
        }
        state.moves_at
    }

    /// Moves at the moment that was decided.
    async fn end(&self, at: Timestamp) {
        let Some(target) = &self.target else { return };
        let (former, next) = (Arc::clone(&self.former), Arc::clone(&target.next));
        let stopped = repeated("stop of the former store", move || {
            let former = Arc::clone(&former);
            async move { former.mark_moved().await }
        });
        tokio::spawn(stopped);
        let now = || self.former.now(Partition::FIRST);
        sleep(at.since(now())).await;
        target.progress.enter(Phase::Moved);
        target.progress.describe(AFTER.to_owned());
        target.former_hub.drain(STREAMS_END);
        self.metrics.move_phase.set(2);
        self.metrics
            .set_partitions(target.next.partitions().count());
        self.metrics.move_remaining_seconds.set(0);
        info!("the next store answers");
        let arrived = repeated("end of the move", move || {
            let next = Arc::clone(&next);
            async move { next.mark_arrived().await }
        });
        tokio::spawn(arrived);
        sleep(at.plus(BOTH).since(now())).await;
        target.progress.enter(Phase::Done);
        self.metrics.move_phase.set(3);
        info!("{AFTER}");
    }
}

/// Whether the next store answers the calls of other instances already. If the former store has lost the record of the
/// move, or is out of reach, an instance learns of it only here. `None` if that is not known.
async fn has_arrived(next: Option<Arc<Store>>) -> Option<bool> {
    let Some(next) = next else {
        return Some(false);
    };
    let asked = timeout(ARRIVAL_TIMEOUT, next.has_arrived()).await;
    asked.ok()?.ok()
}

/// Records a step of the move, and repeats that until the store has the record.
async fn repeated<F>(step: &'static str, record: impl Fn() -> F)
where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut is_logged = false;
    while let Err(error) = record().await {
        if !std::mem::replace(&mut is_logged, true) {
            warn!(step, %error, "a step of the move is not recorded yet");
        }
        sleep(PAUSE).await;
    }
}
