//! Sends concurrent pings together: one write and one read for a batch.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::grant::Grant;
use super::keys::Keys;
use super::lanes::Lanes;
use super::load_shedder::CALL_TIMEOUT;
use super::replies::unexpected;
use super::route::Answer;
use super::scripts::Scripts;
use crate::model::{UserId, millis};
use crate::store::error::StoreError;

/// The maximum number of pings of one script call, which blocks Redis for about half a millisecond.
const SCRIPT_PINGS: usize = 256;

/// The arguments of a script call beside its keys: `EVALSHA`, digest, number of keys, number of the grant, TTL.
const OTHER_ARGUMENTS: usize = 5;

/// An upper bound of the bytes of these arguments.
const OTHER_BYTES: usize = 96;

/// Gathers pings into batches and sends them.
#[derive(Debug)]
pub(super) struct PingBatcher {
    lanes: Arc<Lanes>,
    keys: Keys,
    scripts: Arc<Scripts>,
    grant: Arc<Grant>,
    /// In milliseconds, as the argument of a command.
    ttl: String,
    next: Mutex<Batch>,
}

/// Pings in the order of their arrival.
#[derive(Debug, Default)]
struct Batch {
    /// The keys of the users, one after another.
    keys: String,
    pings: Vec<Ping>,
}

#[derive(Debug)]
struct Ping {
    /// Where the key of the user ends in the keys of the batch.
    end: usize,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl PingBatcher {
    /// A batcher whose pings go over `lanes` and extend keys by `ttl`.
    pub(super) fn new(
        lanes: &Arc<Lanes>,
        keys: &Keys,
        scripts: &Arc<Scripts>,
        grant: &Arc<Grant>,
        ttl: Duration,
    ) -> Self {
        Self {
            lanes: Arc::clone(lanes),
            keys: keys.clone(),
            scripts: Arc::clone(scripts),
            grant: Arc::clone(grant),
            ttl: millis(ttl).to_string(),
            next: Mutex::default(),
        }
    }

    /// Another batcher whose pings go over `lanes`.
    pub(super) fn with_lanes(&self, lanes: &Arc<Lanes>) -> Self {
        Self {
            lanes: Arc::clone(lanes),
            keys: self.keys.clone(),
            scripts: Arc::clone(&self.scripts),
            grant: Arc::clone(&self.grant),
            ttl: self.ttl.clone(),
            next: Mutex::default(),
        }
    }

    /// Extends the key of `user` by the TTL, and returns true, if the key shows that the unnamed connection is the only
    /// one and has the grant of this instance.
    ///
    /// Fails after [`CALL_TIMEOUT`] at the latest, and at once where too many calls wait.
    pub(super) async fn extend(self: &Arc<Self>, user: &UserId) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut batch = self.next.lock();
            self.lanes
                .check_room(self.keys.partition, batch.pings.len())?;
            self.keys.push_user(&mut batch.keys, user);
            let end = batch.keys.len();
            batch.pings.push(Ping { end, answer });
            batch.pings.len() == 1
        };
        if is_first {
            // A separate task, because the client of the first ping may disconnect before the others.
            tokio::spawn(Arc::clone(self).send());
        }
        let gone = |_| StoreError::Unreachable("the ping was not sent".to_owned());
        answered.await.map_err(gone)?
    }

    /// Sends the batch.
    async fn send(self: Arc<Self>) {
        // The pings that other tasks of this worker are about to make join the batch meanwhile.
        yield_now().await;
        let lane = self.lanes.of(self.keys.partition);
        let (batch, waiting) = {
            let mut batch = self.next.lock();
            // Counted under the lock, so that a new ping sees every waiting one.
            let load_shedder = lane.as_ref().ok().map(|lane| &lane.node.load_shedder);
            let waiting = load_shedder.map(|each| each.count(batch.pings.len()));
            (mem::take(&mut *batch), waiting)
        };
        let commands = self.commands(&batch);
        let route = self.lanes.to(self.keys.partition);
        let apart = |place: usize| self.apart(&batch, place);
        let sent = route.scripts_idempotent(&commands, &self.scripts.extend, apart);
        let answered = timeout(CALL_TIMEOUT, sent).await;
        let answered = answered.unwrap_or_else(|_| Err(StoreError::too_slow()));
        if let (Ok(_), Some(waiting)) = (&answered, &waiting) {
            waiting.answered();
        }
        let (answers, error) = match answered {
            Ok(answers) => (answers, unexpected("an incomplete reply")),
            Err(error) => (Vec::new(), error),
        };
        let (mut answers, mut pings) = (answers.into_iter(), batch.pings.into_iter());
        for _ in 0..commands.len() {
            let part = pings.by_ref().take(SCRIPT_PINGS);
            match answers.next() {
                Some(Answer::Whole(answer)) => respond(part, answer.and_then(missed_indices)),
                Some(Answer::Apart(answers)) => {
                    for (ping, answer) in part.zip(answers) {
                        respond(std::iter::once(ping), answer.and_then(missed_indices));
                    }
                }
                None => respond(part, Err(error.clone())),
            }
        }
    }

    /// A script call for every [`SCRIPT_PINGS`] pings of the batch.
    fn commands(&self, batch: &Batch) -> Pipeline {
        let mut commands = Pipeline::with_capacity(batch.pings.len().div_ceil(SCRIPT_PINGS));
        for first in (0..batch.pings.len()).step_by(SCRIPT_PINGS) {
            commands.add_command(self.command(batch, script_at(batch, first)));
        }
        commands
    }

    /// A script call for each ping of the script call at `place`.
    fn apart(&self, batch: &Batch, place: usize) -> Pipeline {
        let pings = script_at(batch, place * SCRIPT_PINGS);
        let mut commands = Pipeline::with_capacity(pings.len());
        for ping in pings {
            commands.add_command(self.command(batch, ping..ping + 1));
        }
        commands
    }

    fn command(&self, batch: &Batch, places: Range<usize>) -> Cmd {
        let before = places.start.checked_sub(1);
        let mut start = before.map_or(0, |before| batch.pings[before].end);
        let pings = &batch.pings[places];
        let end = pings.last().map_or(start, |last| last.end);
        let bytes = OTHER_BYTES + end - start;
        let mut command = Cmd::with_capacity(OTHER_ARGUMENTS + pings.len(), bytes);
        let digest = self.scripts.extend.get_hash();
        command.arg("EVALSHA").arg(digest).arg(pings.len());
        for ping in pings {
            command.arg(&batch.keys[start..ping.end]);
            start = ping.end;
        }
        command.arg(self.grant.number()).arg(&self.ttl);
        command
    }
}

/// The places of the pings of a script call that begins at `first`.
fn script_at(batch: &Batch, first: usize) -> Range<usize> {
    first..(first + SCRIPT_PINGS).min(batch.pings.len())
}

/// Reads the reply of `extend.lua`: the indices, from 1 and in order, of the keys that were not extended.
fn missed_indices(answer: Value) -> Result<Vec<usize>, StoreError> {
    Vec::from_redis_value(answer).map_err(unexpected)
}

/// Answers each ping of a script call.
fn respond(batch: impl Iterator<Item = Ping>, missed: Result<Vec<usize>, StoreError>) {
    for (place, ping) in (1..).zip(batch) {
        let extended = match &missed {
            Ok(missed) => Ok(missed.binary_search(&place).is_err()),
            Err(error) => Err(error.clone()),
        };
        // This fails if the client of the ping has disconnected.
        let _ = ping.answer.send(extended);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::config::KeyspaceEvents;
    use crate::model::{Partition, Partitions};
    use crate::store::redis::connection::Endpoint;
    use crate::store::redis::layout::Layout;
    use crate::store::redis::load_shedder::MAX_WAITING;
    use crate::store::redis::node::NodeSettings;
    use crate::store::redis::topology::Topology;

    /// A batcher whose server is never connected.
    fn pings() -> Arc<PingBatcher> {
        let url = "redis://127.0.0.1:1".parse().expect("an address");
        let endpoint = Endpoint::new(&url, None).expect("an endpoint");
        let keys = Keys::new("presence:", Partitions::ONE, Partition::FIRST);
        let settings = NodeSettings {
            layout: Arc::new(Layout::new("presence:", Partitions::ONE)),
            bus: [keys.bus.clone()].into(),
            keyspace_events: KeyspaceEvents::Off,
            refresh: Arc::default(),
        };
        let topology = Topology::new(endpoint, Partitions::ONE, settings, 1);
        let lanes = Arc::new(Lanes::new(&Arc::new(topology)));
        let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
        let ttl = Duration::from_secs(60);
        Arc::new(PingBatcher::new(&lanes, &keys, &scripts, &grant, ttl))
    }

    // The clock is paused until all calls have arrived, because a silent store admits fewer.
    #[tokio::test(start_paused = true)]
    async fn pings_beyond_the_maximum_are_refused() {
        let pings = pings();
        let mut calls = JoinSet::new();
        for _ in 0..MAX_WAITING + 100 {
            let pings = Arc::clone(&pings);
            calls.spawn(async move {
                let user = UserId::new("alice").expect("an id");
                pings.extend(&user).await
            });
        }
        let answers = calls.join_all().await;
        let refused = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Overloaded));
        let refused = answers.iter().filter(|answer| refused(answer)).count();
        assert_eq!(refused, 100);
        assert!(answers.iter().all(Result::is_err), "there is no server");
    }

    #[tokio::test]
    async fn each_key_is_sent_once_and_in_order() {
        let pings = pings();
        let mut batch = Batch::default();
        for user in 0..SCRIPT_PINGS + 2 {
            let user = UserId::new(&format!("user-{user}")).expect("an id");
            pings.keys.push_user(&mut batch.keys, &user);
            let (end, (answer, _)) = (batch.keys.len(), oneshot::channel());
            batch.pings.push(Ping { end, answer });
        }
        let packed = pings.commands(&batch).get_packed_pipeline();
        let packed = String::from_utf8(packed).expect("text");
        let sent = packed
            .lines()
            .filter(|line| line.starts_with("presence:user:"));
        let asked = (0..SCRIPT_PINGS + 2).map(|user| format!("presence:user:user-{user}"));
        assert!(sent.eq(asked), "{packed}");
        assert_eq!(packed.matches("EVALSHA").count(), 2);
    }

    #[tokio::test]
    async fn each_ping_gets_its_own_answer() {
        let (answers, heard): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
        let batch = answers.into_iter().map(|answer| Ping { end: 0, answer });
        respond(batch, Ok(vec![2, 4]));
        let mut extended = Vec::new();
        for heard in heard {
            extended.push(heard.await.expect("told").expect("answered"));
        }
        assert_eq!(extended, [true, false, true, false]);
    }
}
