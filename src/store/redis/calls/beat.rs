//! What an instance writes about its quiet partitions, and reads of them.

use redis::{FromRedisValue, Value};

use crate::model::{Epoch, Partition, PartitionSet, Position, Timestamp};
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;
use crate::store::quiet::{Heard, Look, Quiet};
use crate::store::redis::format::replies::{self, unexpected};
use crate::store::redis::store::RedisStore;

impl RedisStore {
    pub(in crate::store) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// Whether calls wait for a server.
    pub(in crate::store) fn is_serving(&self, node: NodeId) -> bool {
        let node = self.lanes.topology.node(node);
        node.is_some_and(|node| node.load_shedder.has_waiting())
    }

    /// One plain command, because beats are all that a quiet instance costs. The nodes of a cluster accept no command
    /// about several partitions.
    ///
    /// A write that is delayed on its way sets a time back. That looks like an outage of the length of the delay.
    pub(in crate::store) async fn write_ready(
        &self,
        covered: &[(Partition, Timestamp)],
        turn: Partition,
    ) -> Result<(), StoreError> {
        let is_cluster = self.lanes.topology.is_cluster();
        let mut write = redis::cmd("MSET");
        for (each, until) in covered {
            if !is_cluster || *each == turn {
                let keys = self.layout.keys(*each);
                write.arg(&keys.swept).arg(until.as_millis());
            }
        }
        let route = self.lanes.to(turn).without_pauses();
        route.query_idempotent(&write).await
    }

    /// Reads with plain commands in one round trip.
    pub(in crate::store) async fn look(
        &self,
        partitions: PartitionSet,
        turn: Partition,
        look: Look,
    ) -> Result<Heard, StoreError> {
        let is_cluster = self.lanes.topology.is_cluster();
        let about = partitions
            .iter()
            .filter(|each| !is_cluster || *each == turn);
        let about: Vec<Partition> = about.collect();
        let mut epochs = redis::cmd("MGET");
        for each in &about {
            let keys = self.layout.keys(*each);
            epochs.arg(&keys.layout).arg(&keys.epoch);
        }
        let mut commands = redis::Pipeline::with_capacity(3);
        commands.add_command(epochs);
        if look.newest {
            commands
                .cmd("XREVRANGE")
                .arg(&self.layout.keys(turn).events);
            commands.arg("+").arg("-").arg("COUNT").arg(1);
        }
        if look.time {
            commands.cmd("TIME");
        }
        let route = self.lanes.to(turn).without_pauses();
        let answers = route.pipeline_idempotent(&commands).await?.into_iter();
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?.into_iter();
        let epochs = answers.next().unwrap_or(Value::Nil);
        let newest = look.newest.then(|| answers.next()).flatten();
        let time = look.time.then(|| answers.next()).flatten();
        Ok(Heard {
            epochs: self.epochs(about, epochs)?,
            newest: newest.map(newest_of).transpose()?,
            time: time.map(replies::time).transpose()?,
        })
    }

    /// The epoch of each of some partitions that has the record of this instance. The records and the epochs alternate
    /// in the reply.
    fn epochs(
        &self,
        partitions: Vec<Partition>,
        known: Value,
    ) -> Result<Vec<(Partition, Option<Epoch>)>, StoreError> {
        let known: Vec<Option<String>> = Vec::from_redis_value(known).map_err(unexpected)?;
        let epochs = known.chunks(2).map(|pair| match pair {
            [Some(found), Some(epoch)] if self.layout.accepts(found.as_bytes()) => {
                epoch.parse().ok().map(Epoch)
            }
            _ => None,
        });
        Ok(partitions.into_iter().zip(epochs).collect())
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
