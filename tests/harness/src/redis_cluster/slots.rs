//! Slots that move from a master to another one.

use std::time::Duration;

use tokio::time::sleep;

use super::RedisCluster;
use crate::wait::eventually_true;

/// Keys that one command moves.
const KEYS_AT_ONCE: &str = "100";

/// A slot that is being moved: keys that have moved are at the new master, all others at the old one.
pub struct OpenSlot<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    pub from: usize,
    pub to: usize,
}

impl RedisCluster {
    /// Moves a slot with its keys, one batch of keys after the other.
    pub async fn move_slot(&self, slot: u16, to: usize) {
        self.open_slot(slot, to).await.finish().await;
    }

    /// Begins to move a slot, and moves no key.
    pub async fn open_slot(&self, slot: u16, to: usize) -> OpenSlot<'_> {
        let from = self.master_of_slot(slot).await;
        let slot = slot.to_string();
        for (node, state, other) in [(to, "IMPORTING", from), (from, "MIGRATING", to)] {
            let other = &self.nodes[other].id;
            let set = ["CLUSTER", "SETSLOT", &slot, state, other];
            self.node(node).command::<()>(&set).await;
        }
        OpenSlot {
            cluster: self,
            slot,
            from,
            to,
        }
    }

    /// Moves a slot with its keys in one step. Only on servers that can: Valkey 9 and newer.
    pub async fn move_slot_atomically(&self, slot: u16, to: usize) {
        let from = self.master_of_slot(slot).await;
        let number = slot.to_string();
        let range = ["SLOTSRANGE", &number, &number, "NODE", &self.nodes[to].id];
        let words = [&["CLUSTER", "MIGRATESLOTS"], &range[..]].concat();
        self.node(from).command::<()>(&words).await;
        eventually_true("the slot has moved", async || {
            let view = self.agreement().await;
            view.is_some_and(|view| view.owners[usize::from(slot)] == Some(to))
        })
        .await;
    }

    /// Whether the servers can move a slot in one step.
    pub async fn moves_slots_atomically(&self) -> bool {
        let info: String = self.node(0).command(&["INFO", "server"]).await;
        info.contains("valkey_version:9")
    }
}

impl OpenSlot<'_> {
    /// Moves some keys. A key that does not exist is skipped.
    pub async fn move_keys(&self, keys: &[String]) {
        let port = self.cluster.node(self.to).port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        let from = self.cluster.node(self.from);
        from.command::<String>(&migrate).await;
    }

    /// Moves all remaining keys, and gives the slot to the new master.
    pub async fn finish(self) {
        let from = self.cluster.node(self.from);
        loop {
            let some = ["CLUSTER", "GETKEYSINSLOT", &self.slot, KEYS_AT_ONCE];
            let keys: Vec<String> = from.command(&some).await;
            if keys.is_empty() && self.close().await {
                break;
            }
            if !keys.is_empty() {
                self.move_keys(&keys).await;
            }
        }
        self.cluster.agreed().await;
    }

    /// Gives the slot to the new master. Does nothing if the old master has a new key in it.
    async fn close(&self) -> bool {
        let cluster = self.cluster;
        let owner = &cluster.nodes[self.to].id;
        let set = ["CLUSTER", "SETSLOT", &self.slot, "NODE", owner];
        cluster.node(self.to).command::<()>(&set).await;
        if cluster
            .node(self.from)
            .try_command::<()>(&set)
            .await
            .is_err()
        {
            sleep(Duration::from_millis(5)).await;
            return false;
        }
        let view = cluster.view_of(&cluster.nodes[self.to]).await;
        let replicas = view.expect("a running node").replicas;
        for (number, node) in cluster.nodes.iter().enumerate() {
            if !node.is_silent() && !replicas.contains(&number) {
                node.server.command::<()>(&set).await;
            }
        }
        true
    }
}
