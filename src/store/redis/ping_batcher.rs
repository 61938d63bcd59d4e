//! PingBatcher that are asked for at the same time travel together: one write, one read.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::connections::Connections;
use super::grant::Grant;
use super::keys::Keys;
use super::load_shedder::{CALL_TIMEOUT, LoadShedder};
use super::replies::unexpected;
use super::scripts::Scripts;
use crate::model::{UserId, millis};
use crate::store::StoreError;

/// How many pings one script extends at most: it holds Redis for about half a millisecond.
const SCRIPT_PINGS: usize = 256;

/// `EVALSHA`, digest and number of keys before the keys, number of the grant and TTL after them.
const OTHER_ARGUMENTS: usize = 5;

/// Room for these arguments.
const OTHER_BYTES: usize = 96;

/// How often others have their turn to join a ping that waits; without a bound it might never leave.
const MOST_TURNS: usize = 8;

/// Gathers the pings that wait to be sent.
#[derive(Debug)]
pub(super) struct PingBatcher {
    connections: Arc<Connections>,
    load_shedder: Arc<LoadShedder>,
    keys: Keys,
    scripts: Arc<Scripts>,
    grant: Arc<Grant>,
    /// In milliseconds, as Redis reads it.
    ttl: String,
    waiting: Mutex<Waiting>,
}

/// PingBatcher in the order of their coming.
#[derive(Debug, Default)]
struct Waiting {
    /// The users' keys, one after the other.
    names: String,
    pings: Vec<Ping>,
}

#[derive(Debug)]
struct Ping {
    /// Where the user's key ends among the names.
    end: usize,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl PingBatcher {
    /// PingBatcher over `connections` that make the keys of users live for `ttl`.
    pub(super) fn new(
        connections: &Arc<Connections>,
        load_shedder: &Arc<LoadShedder>,
        keys: &Keys,
        scripts: &Arc<Scripts>,
        grant: &Arc<Grant>,
        ttl: Duration,
    ) -> Self {
        Self {
            connections: Arc::clone(connections),
            load_shedder: Arc::clone(load_shedder),
            keys: keys.clone(),
            scripts: Arc::clone(scripts),
            grant: Arc::clone(grant),
            ttl: millis(ttl).to_string(),
            waiting: Mutex::default(),
        }
    }

    /// The same, over another connections.
    pub(super) fn over(&self, connections: &Arc<Connections>) -> Self {
        Self {
            connections: Arc::clone(connections),
            load_shedder: Arc::clone(&self.load_shedder),
            keys: self.keys.clone(),
            scripts: Arc::clone(&self.scripts),
            grant: Arc::clone(&self.grant),
            ttl: self.ttl.clone(),
            waiting: Mutex::default(),
        }
    }

    /// Makes the key of `user` live for another TTL, if it says that the unnamed connection is the
    /// only one and has our grant, and returns whether it does.
    ///
    /// It ends in time or is refused at once, as the calls that pass the load_shedder.
    pub(super) async fn extend(self: &Arc<Self>, user: &UserId) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            self.load_shedder.check_room(waiting.pings.len())?;
            self.keys.push_user(&mut waiting.names, user);
            let end = waiting.names.len();
            waiting.pings.push(Ping { end, answer });
            waiting.pings.len() == 1
        };
        if is_first {
            // A task of its own, since the client of the first may hang up before the others'.
            tokio::spawn(Arc::clone(self).send());
        }
        let gone = |_| StoreError::Unreachable("the ping was not sent".to_owned());
        answered.await.map_err(gone)?
    }

    /// Lets all requests that have arrived by now have their turn to join, and again until that brings nobody more.
    async fn gather(&self) {
        let mut joined = 0;
        for _ in 0..MOST_TURNS {
            yield_now().await;
            let before = mem::replace(&mut joined, self.waiting.lock().pings.len());
            if joined == before {
                return;
            }
        }
    }

    /// Sends everyone who waits.
    async fn send(self: Arc<Self>) {
        self.gather().await;
        let (waiting, places) = {
            let mut waiting = self.waiting.lock();
            // Counted before another may join, so that everyone who waits is seen by whoever comes.
            let places = self.load_shedder.count(waiting.pings.len());
            (mem::take(&mut *waiting), places)
        };
        let commands = self.commands(&waiting);
        let sent = self
            .connections
            .scripts_idempotent(&commands, &self.scripts.extend);
        let answered = timeout(CALL_TIMEOUT, sent).await;
        let answered = answered.unwrap_or_else(|_| Err(StoreError::too_slow()));
        if answered.is_ok() {
            places.answered();
        }
        let mut pings = waiting.pings.into_iter();
        for script in 0..commands.len() {
            let batch = pings.by_ref().take(SCRIPT_PINGS);
            let missed = match &answered {
                Ok(answers) => answers.get(script).cloned().unwrap_or_else(cut_short),
                Err(error) => Err(error.clone()),
            };
            tell(batch, missed.and_then(missed_places));
        }
    }

    /// A script for each batch of the pings that wait.
    fn commands(&self, waiting: &Waiting) -> Pipeline {
        let number = self.grant.number();
        let digest = self.scripts.extend.get_hash();
        let mut commands = Pipeline::with_capacity(waiting.pings.len().div_ceil(SCRIPT_PINGS));
        let mut start = 0;
        for batch in waiting.pings.chunks(SCRIPT_PINGS) {
            let end = batch.last().map_or(start, |last| last.end);
            let bytes = OTHER_BYTES + end - start;
            let mut command = Cmd::with_capacity(OTHER_ARGUMENTS + batch.len(), bytes);
            command.arg("EVALSHA").arg(digest).arg(batch.len());
            for ping in batch {
                command.arg(&waiting.names[start..ping.end]);
                start = ping.end;
            }
            command.arg(number).arg(&self.ttl);
            commands.add_command(command);
        }
        commands
    }
}

fn cut_short<T>() -> Result<T, StoreError> {
    Err(unexpected("an answer cut short"))
}

/// Reads the answer of `extend.lua`: who missed, by their places from 1, in order.
fn missed_places(answer: Value) -> Result<Vec<usize>, StoreError> {
    Vec::from_redis_value(answer).map_err(unexpected)
}

/// Tells each ping of a batch whether it extended the key.
fn tell(batch: impl Iterator<Item = Ping>, missed: Result<Vec<usize>, StoreError>) {
    for (place, ping) in (1..).zip(batch) {
        let extended = match &missed {
            Ok(missed) => Ok(missed.binary_search(&place).is_err()),
            Err(error) => Err(error.clone()),
        };
        // Whoever does not wait any more has hung up.
        let _ = ping.answer.send(extended);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::config::KeyspaceEvents;
    use crate::store::redis::connection::{Channels, Endpoint};
    use crate::store::redis::load_shedder::MAX_WAITING;

    /// PingBatcher to a server that nobody ever connected.
    fn pings() -> Arc<PingBatcher> {
        let url = "redis://127.0.0.1:1".parse().expect("an address");
        let endpoint = Endpoint::new(&url, None).expect("an endpoint");
        let (load_shedder, keys) = (Arc::new(LoadShedder::default()), Keys::new("presence:"));
        let channels = Channels {
            bus: keys.bus.clone(),
            database: endpoint.database(),
            keyspace_events: KeyspaceEvents::Off,
        };
        let connections = Arc::new(Connections::new(endpoint, channels));
        let (scripts, grant) = (Arc::new(Scripts::new()), Arc::default());
        let ttl = Duration::from_secs(60);
        Arc::new(PingBatcher::new(
            &connections,
            &load_shedder,
            &keys,
            &scripts,
            &grant,
            ttl,
        ))
    }

    #[tokio::test]
    async fn a_ping_leaves_although_others_join_at_every_turn() {
        let pings = pings();
        let joining = async {
            loop {
                let (end, (answer, _)) = (0, oneshot::channel());
                pings.waiting.lock().pings.push(Ping { end, answer });
                yield_now().await;
            }
        };
        tokio::select! {
            () = joining => {}
            () = pings.gather() => {}
            () = tokio::time::sleep(Duration::from_secs(5)) => panic!("it still waits"),
        }
    }

    // Time stands still until all have come, however long that takes: in a silence fewer are let in.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_pings_is_bounded_even_if_it_comes_at_once() {
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
        let mut waiting = Waiting::default();
        for user in 0..SCRIPT_PINGS + 2 {
            let user = UserId::new(&format!("user-{user}")).expect("an id");
            pings.keys.push_user(&mut waiting.names, &user);
            let (end, (answer, _)) = (waiting.names.len(), oneshot::channel());
            waiting.pings.push(Ping { end, answer });
        }
        let packed = pings.commands(&waiting).get_packed_pipeline();
        let packed = String::from_utf8(packed).expect("text");
        let sent = packed
            .lines()
            .filter(|line| line.starts_with("presence:user:"));
        let asked = (0..SCRIPT_PINGS + 2).map(|user| format!("presence:user:user-{user}"));
        assert!(sent.eq(asked), "{packed}");
        assert_eq!(packed.matches("EVALSHA").count(), 2);
    }

    #[tokio::test]
    async fn each_ping_hears_of_its_own_place() {
        let (answers, heard): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
        let batch = answers.into_iter().map(|answer| Ping { end: 0, answer });
        tell(batch, Ok(vec![2, 4]));
        let mut extended = Vec::new();
        for heard in heard {
            extended.push(heard.await.expect("told").expect("answered"));
        }
        assert_eq!(extended, [true, false, true, false]);
    }
}
