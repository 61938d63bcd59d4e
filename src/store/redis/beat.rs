//! What an instance writes about its quiet partitions.

use redis::{FromRedisValue, Value};

use super::replies::{self, unexpected};
use super::store::RedisStore;
use crate::model::{Partition, Position, Timestamp};
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
        let mut write = redis::cmd("MSET");
        for (partition, until) in covered {
            if !is_cluster || *partition == turn {
                write.arg(&self.layout.keys(*partition).swept);
                write.arg(until.as_millis());
            }
        }
        let mut commands = redis::Pipeline::with_capacity(3);
        commands.add_command(write);
        if looks {
            let mut read = redis::cmd("XREVRANGE");
            read.arg(&self.layout.keys(turn).events);
            read.arg("+").arg("-").arg("COUNT").arg(1);
            commands.add_command(read);
        }
        if asks_time {
            commands.cmd("TIME");
        }
        let route = self.lanes.to(turn).without_pauses();
        let answers = route.pipeline_idempotent(&commands).await?.into_iter();
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?.into_iter().skip(1);
        let newest = looks.then(|| answers.next()).flatten();
        let time = asks_time.then(|| answers.next()).flatten();
        Ok(Heard {
            newest: newest.map(newest_of).transpose()?,
            time: time.map(replies::time).transpose()?,
        })
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
