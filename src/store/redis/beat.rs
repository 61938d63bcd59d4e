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
    /// command about several partitions, so there the beat is about the partition that is looked at.
    ///
    /// A beat that is delayed on its way sets a time back. That looks like an outage of the length of the delay.
    pub(in crate::store) async fn beat(
        &self,
        covered: &[(Partition, Timestamp)],
        looked_at: Partition,
        asks_time: bool,
    ) -> Result<Heard, StoreError> {
        let is_cluster = self.lanes.topology.is_cluster();
        let mut write = redis::cmd("MSET");
        for (partition, until) in covered {
            if !is_cluster || *partition == looked_at {
                write.arg(&self.layout.keys(*partition).swept);
                write.arg(until.as_millis());
            }
        }
        let mut read = redis::cmd("XREVRANGE");
        read.arg(&self.layout.keys(looked_at).events);
        read.arg("+").arg("-").arg("COUNT").arg(1);
        let mut commands = redis::Pipeline::with_capacity(3);
        commands.add_command(write).add_command(read);
        if asks_time {
            commands.cmd("TIME");
        }
        let route = self.lanes.to(looked_at).without_pauses();
        let answers = route.pipeline_idempotent(&commands).await?.into_iter();
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?.into_iter().skip(1);
        let newest = answers.next().unwrap_or(Value::Nil);
        let newest: Vec<(String, Value)> = Vec::from_redis_value(newest).map_err(unexpected)?;
        let newest = newest.into_iter().next();
        let newest = newest.map(|(id, _)| replies::position(id)).transpose()?;
        let time = answers.next().map(replies::time).transpose()?;
        Ok(Heard {
            newest: newest.unwrap_or(Position::START),
            time,
        })
    }
}
