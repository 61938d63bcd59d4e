//! Sends concurrent pings together: one write and one read for a batch.

use std::io::Write;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Pipeline, RedisWrite, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::model::{ConnectionId, Partition, Stated, UserId, millis};
use crate::store::error::StoreError;
use crate::store::lifetimes::Lifetimes;
use crate::store::redis::format::grant::Grant;
use crate::store::redis::format::keys::Keys;
use crate::store::redis::format::layout::Layout;
use crate::store::redis::format::replies::unexpected;
use crate::store::redis::format::stated;
use crate::store::redis::node::load_shedder::CALL_TIMEOUT;
use crate::store::redis::routing::lanes::Lanes;
use crate::store::redis::routing::route::Answer;
use crate::store::redis::scripts::Scripts;

/// The maximum number of pings of one script call, which blocks Redis for about half a millisecond, or for about one if
/// all users have several connections.
const SCRIPT_PINGS: usize = 256;

/// The arguments of a script call besides those of the pings: `EVALSHA`, digest, number of keys, and six arguments.
const OTHER_ARGUMENTS: usize = 9;

/// The usual number of bytes of these arguments. With longer ones a command reallocates.
const OTHER_BYTES: usize = 160;

/// The bytes in front of what a ping states: the number of the grant and a space.
const NUMBER_BYTES: usize = 5;

/// Gathers pings of the users of one partition into batches and sends them.
#[derive(Debug)]
pub(in crate::store::redis) struct PingBatcher {
    lanes: Arc<Lanes>,
    layout: Arc<Layout>,
    partition: Partition,
    scripts: Arc<Scripts>,
    grant: Arc<Grant>,
    /// The TTL and the ping interval in milliseconds, as arguments of a command.
    ttl: String,
    ping_interval: String,
    next: Mutex<Batch>,
}

/// Pings that are sent together.
#[derive(Debug, Default)]
struct Batch {
    /// The pings with a TTL of their own, which come first in a script call.
    with_own_ttl: Part,
    /// The other pings that state something: an id, or more.
    stating: Part,
    /// The pings of unnamed connections that state nothing.
    usual: Part,
}

/// Pings in the order of their arrival.
#[derive(Debug, Default)]
struct Part {
    /// The key of the user of each ping, followed by what the connection states.
    texts: String,
    pings: Vec<Ping>,
}

#[derive(Debug)]
struct Ping {
    /// Where the key ends in the texts of the part, and where what the connection states ends.
    key_end: usize,
    end: usize,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

/// The arguments of one ping.
#[derive(Clone, Copy)]
struct Arguments<'a> {
    key: &'a str,
    /// Empty for the unnamed connection that states nothing.
    stated: &'a str,
    has_own_ttl: bool,
}

impl Part {
    fn arguments(&self, has_own_ttl: bool) -> impl Iterator<Item = Arguments<'_>> {
        let mut start = 0;
        self.pings.iter().map(move |ping| {
            let key = &self.texts[start..ping.key_end];
            start = ping.end;
            Arguments {
                key,
                stated: &self.texts[ping.key_end..ping.end],
                has_own_ttl,
            }
        })
    }
}

impl Batch {
    /// The arguments of all pings, in the order of a script call.
    fn arguments(&self) -> Vec<Arguments<'_>> {
        let stating = self.with_own_ttl.arguments(true);
        let stating = stating.chain(self.stating.arguments(false));
        stating.chain(self.usual.arguments(false)).collect()
    }

    fn len(&self) -> usize {
        let parts = [&self.with_own_ttl, &self.stating, &self.usual];
        parts.map(|part| part.pings.len()).iter().sum()
    }

    fn push(
        &mut self,
        keys: &Keys,
        user: &UserId,
        (connection, stated): (&ConnectionId, &Stated),
        answer: oneshot::Sender<Result<bool, StoreError>>,
    ) {
        let is_usual = stated::is_usual(connection, stated);
        let part = match stated.ttl {
            Some(_) => &mut self.with_own_ttl,
            None if is_usual => &mut self.usual,
            None => &mut self.stating,
        };
        keys.push_user(&mut part.texts, user);
        let key_end = part.texts.len();
        if !is_usual {
            stated::push(&mut part.texts, connection, stated);
        }
        part.pings.push(Ping {
            key_end,
            end: part.texts.len(),
            answer,
        });
    }
}

impl PingBatcher {
    /// A batcher for `partition` whose pings go over `lanes` and have the grant of an instance with these `lifetimes`.
    pub(in crate::store::redis) fn new(
        lanes: &Arc<Lanes>,
        (layout, partition): (&Arc<Layout>, Partition),
        scripts: &Arc<Scripts>,
        grant: &Arc<Grant>,
        lifetimes: &Lifetimes,
    ) -> Self {
        Self {
            lanes: Arc::clone(lanes),
            layout: Arc::clone(layout),
            partition,
            scripts: Arc::clone(scripts),
            grant: Arc::clone(grant),
            ttl: millis(lifetimes.ttl).to_string(),
            ping_interval: millis(lifetimes.ping_interval).to_string(),
            next: Mutex::default(),
        }
    }

    /// Another batcher whose pings go over `lanes`.
    pub(in crate::store::redis) fn with_lanes(&self, lanes: &Arc<Lanes>) -> Self {
        Self {
            lanes: Arc::clone(lanes),
            layout: Arc::clone(&self.layout),
            partition: self.partition,
            scripts: Arc::clone(&self.scripts),
            grant: Arc::clone(&self.grant),
            ttl: self.ttl.clone(),
            ping_interval: self.ping_interval.clone(),
            next: Mutex::default(),
        }
    }

    /// Extends `connection` by the TTL, and returns true, if Redis shows that it is alive and has the grant of this
    /// instance, and if nothing else has to change.
    ///
    /// Fails after [`CALL_TIMEOUT`] at the latest, and at once where too many calls wait.
    pub(in crate::store::redis) async fn extend(
        self: &Arc<Self>,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut batch = self.next.lock();
            self.lanes.check_room(self.partition, batch.len())?;
            batch.push(self.keys(), user, (connection, stated), answer);
            batch.len() == 1
        };
        if is_first {
            // A separate task, because the client of the first ping may disconnect before the others.
            tokio::spawn(Arc::clone(self).send());
        }
        let gone = |_| StoreError::Unreachable("the ping was not sent".to_owned());
        answered.await.map_err(gone)?
    }

    fn keys(&self) -> &Keys {
        self.layout.keys(self.partition)
    }

    /// Sends the batch.
    async fn send(self: Arc<Self>) {
        // The pings that other tasks of this worker are about to make join the batch meanwhile.
        yield_now().await;
        let lane = self.lanes.of(self.partition);
        let (batch, waiting) = {
            let mut batch = self.next.lock();
            // Counted under the lock, so that a new ping sees every waiting one.
            let load_shedder = lane.as_ref().ok().map(|lane| &lane.node.load_shedder);
            let waiting = load_shedder.map(|each| each.count(batch.len()));
            (mem::take(&mut *batch), waiting)
        };
        let calls = batch.arguments();
        let commands = self.commands(&calls, SCRIPT_PINGS);
        let route = self.lanes.to(self.partition);
        let apart = |place: usize| {
            let call = calls.chunks(SCRIPT_PINGS).nth(place);
            self.commands(call.unwrap_or_default(), 1)
        };
        let sent = route.scripts_idempotent(&commands, &self.scripts.extend, apart);
        let answered = timeout(CALL_TIMEOUT, sent).await;
        let answered = answered.unwrap_or_else(|_| Err(StoreError::too_slow()));
        if let (Ok(_), Some(waiting)) = (&answered, &waiting) {
            waiting.answered();
        }
        respond(batch, answered);
    }

    /// A script call for every `most` pings.
    fn commands(&self, pings: &[Arguments<'_>], most: usize) -> Pipeline {
        let number = self.grant.number().to_string();
        let mut commands = Pipeline::with_capacity(pings.len().div_ceil(most));
        for pings in pings.chunks(most) {
            commands.add_command(self.command(&number, pings));
        }
        commands
    }

    fn command(&self, number: &str, pings: &[Arguments<'_>]) -> Cmd {
        let stating = || pings.iter().filter(|ping| !ping.stated.is_empty());
        let keys: usize = pings.iter().map(|ping| ping.key.len()).sum();
        let stated: usize = stating().map(|ping| NUMBER_BYTES + ping.stated.len()).sum();
        let arguments = OTHER_ARGUMENTS + pings.len() + stating().count();
        let with_own_ttl = pings.iter().filter(|ping| ping.has_own_ttl).count();
        let mut command = Cmd::with_capacity(arguments, OTHER_BYTES + keys + stated);
        command.arg("EVALSHA").arg(self.scripts.extend.get_hash());
        command.arg(pings.len());
        for ping in pings {
            command.arg(ping.key);
        }
        command.arg(number).arg(&self.ttl).arg(&self.ping_interval);
        command.arg(self.keys().user_prefix());
        command.arg(self.keys().connections_prefix());
        command.arg(with_own_ttl);
        for ping in stating() {
            let mut argument = command.writer_for_next_arg();
            for part in [number, " ", ping.stated] {
                // A write into memory cannot fail.
                let _ = argument.write_all(part.as_bytes());
            }
        }
        command
    }
}

/// Answers each ping of a batch, whose script calls had these answers.
fn respond(batch: Batch, answered: Result<Vec<Answer>, StoreError>) {
    let (answers, error) = match answered {
        Ok(answers) => (answers, unexpected("an incomplete reply")),
        Err(error) => (Vec::new(), error),
    };
    let pings = batch.with_own_ttl.pings.into_iter();
    let mut pings = pings.chain(batch.stating.pings).chain(batch.usual.pings);
    for answer in answers {
        let part = pings.by_ref().take(SCRIPT_PINGS);
        match answer {
            Answer::Whole(missed) => respond_to(part, missed.and_then(missed_indices)),
            Answer::Apart(answers) => {
                for (ping, missed) in part.zip(answers) {
                    respond_to(std::iter::once(ping), missed.and_then(missed_indices));
                }
            }
        }
    }
    respond_to(pings, Err(error));
}

/// Reads the reply of `extend.lua`: the indices, from 1 and in order, of the pings that extended nothing.
fn missed_indices(answer: Value) -> Result<Vec<usize>, StoreError> {
    Vec::from_redis_value(answer).map_err(unexpected)
}

/// Answers each ping of a script call.
fn respond_to(pings: impl Iterator<Item = Ping>, missed: Result<Vec<usize>, StoreError>) {
    for (place, ping) in (1..).zip(pings) {
        let extended = match &missed {
            Ok(missed) => Ok(missed.binary_search(&place).is_err()),
            Err(error) => Err(error.clone()),
        };
        // This fails if the client of the ping has disconnected.
        let _ = ping.answer.send(extended);
    }
}

#[cfg(test)]
mod tests;
