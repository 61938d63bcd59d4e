//! What an instance writes about its quiet partitions.

use redis::{FromRedisValue, Value};

use super::keys::Keys;
use super::replies::{self, unexpected};
use super::store::RedisStore;
use crate::model::{Epoch, Partition, Position, Timestamp};
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;
use crate::store::quiet::{Heard, Quiet};

impl RedisStore {
    pub(in crate::store) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// Whether calls wait for a server.
    pub(in crate::store) fn is_serving(&self, node: NodeId) -> bool {
        let node = self.lanes.topology.node(node);
        node.is_some_and(|node| node.load_shedder.has_waiting())
    }

    /// Plain commands in one round trip, because beats are all that a quiet instance costs. The nodes of a cluster accept no
    /// command about several partitions, so there the beat is about the partition whose turn it is.
    ///
    /// A beat that is delayed on its way sets a time back. That looks like an outage of the length of the delay.
    pub(in crate::store) async fn beat(
        &self,
        covered: &[(Partition, Timestamp)],
        turn: Partition,
        looks: bool,
        asks_time: bool,
    ) -> Result<Heard, StoreError> {
        let is_cluster = self.lanes.topology.is_cluster();
        let about = covered
            .iter()
            .filter(|(each, _)| !is_cluster || *each == turn);
        let about: Vec<(&Keys, Timestamp)> = about
            .map(|(each, until)| (self.layout.keys(*each), *until))
            .collect();
        let mut write = redis::cmd("MSET");
        for (keys, until) in &about {
            write.arg(&keys.swept).arg(until.as_millis());
        }
        let mut commands = redis::Pipeline::with_capacity(4);
        commands.add_command(write);
        if asks_time {
            commands.cmd("TIME");
        }
        if looks {
            let events = &self.layout.keys(turn).events;
            commands.cmd("XREVRANGE").arg(events);
            commands.arg("+").arg("-").arg("COUNT").arg(1);
            commands.cmd("MGET");
            for (keys, _) in &about {
                commands.arg(&keys.layout).arg(&keys.epoch);
            }
        }
        let route = self.lanes.to(turn).without_pauses();
        let answers = route.pipeline_idempotent(&commands).await?.into_iter();
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?.into_iter().skip(1);
        let time = asks_time.then(|| answers.next()).flatten();
        let newest = looks.then(|| answers.next()).flatten();
        let known = looks.then(|| answers.next()).flatten();
        let parts = about.iter().map(|(keys, _)| keys.partition);
        Ok(Heard {
            time: time.map(replies::time).transpose()?,
            newest: newest.map(newest_of).transpose()?,
            epochs: known.map(|known| self.epochs(parts, known)).transpose()?,
        })
    }

    /// The epoch of each of some partitions that has the record of this instance. The records and the epochs alternate in
    /// the reply.
    fn epochs(
        &self,
        partitions: impl Iterator<Item = Partition>,
        known: Value,
    ) -> Result<Vec<(Partition, Option<Epoch>)>, StoreError> {
        let known: Vec<Option<String>> = Vec::from_redis_value(known).map_err(unexpected)?;
        let epochs = known.chunks(2).map(|pair| match pair {
            [Some(found), Some(epoch)] if self.layout.accepts(found.as_bytes()) => {
                epoch.parse().ok().map(Epoch)
            }
            _ => None,
        });
        Ok(partitions.zip(epochs).collect())
    }
}

/// The position of the only entry of a list, or the start.
fn newest_of(entries: Value) -> Result<Position, StoreError> {
    let entries: Vec<(String, Value)> = Vec::from_redis_value(entries).map_err(unexpected)?;
    match entries.into_iter().next() {
        Some((id, _)) => replies::position(id),
        None => Ok(Position::START),
    }
}
