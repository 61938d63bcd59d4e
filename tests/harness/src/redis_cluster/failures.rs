//! Nodes that die, freeze, fail over, join and leave.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{NODE_TIMEOUT_MS, Node, RedisCluster};
use crate::wait::eventually_within;

/// On a busy machine some elections of a replica fail. It tries again after four times the time-out of the nodes.
const ELECTIONS: Duration = Duration::from_secs(60);

/// A node counts the votes of an election for twice the time-out of the nodes, and a bit more on a busy machine.
const VOTES_COUNT: Duration = Duration::from_millis(2 * NODE_TIMEOUT_MS + 500);

/// A replica that cannot take over gives up after 5 s.
const ASK_AGAIN: Duration = Duration::from_secs(6);

impl RedisCluster {
    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].silent.store(true, Relaxed);
        self.nodes[node].server.kill();
    }

    /// Starts a killed node again, with its place in the cluster and without data. If another node has replaced it, it
    /// is a replica of that node. Waits until all nodes agree.
    pub async fn start_again(&mut self, node: usize) {
        self.nodes[node].server.start_again().await;
        self.nodes[node].silent.store(false, Relaxed);
        self.agreed().await;
    }

    /// Continues a frozen node, or starts a killed node again.
    pub async fn revive(&mut self, node: usize) {
        if self.nodes[node].server.is_killed() {
            self.start_again(node).await;
        } else if self.nodes[node].is_silent() {
            self.thaw(node);
        }
    }

    /// Kills a master and starts it again, and its replica does not replace it meanwhile: the data of its slots is
    /// lost.
    pub async fn restart_empty(&mut self, master: usize) {
        let replica = self.partner_of(master);
        self.may_replace(replica, false).await;
        self.kill(master);
        self.start_again(master).await;
        self.may_replace(replica, true).await;
    }

    /// Whether a replica may replace its master without being asked.
    async fn may_replace(&self, replica: usize, may: bool) {
        let never = if may { "no" } else { "yes" };
        let set = ["CONFIG", "SET", "cluster-replica-no-failover", never];
        self.node(replica).command::<()>(&set).await;
    }

    /// Stops the process of a node with SIGSTOP: connections stay open and get no answer.
    pub fn freeze(&self, node: usize) {
        self.nodes[node].silent.store(true, Relaxed);
        self.nodes[node].server.freeze();
    }

    /// Continues the process of a node with SIGCONT.
    pub fn thaw(&self, node: usize) {
        self.nodes[node].server.thaw();
        self.nodes[node].silent.store(false, Relaxed);
    }

    /// Waits until the replica of the silent `master` has replaced it, and returns the replica.
    pub async fn failed_over(&self, master: usize) -> usize {
        let partner = self.partner_of(master);
        let replaced = async || self.has_replaced(partner, master).await.then_some(());
        eventually_within(ELECTIONS, "the replica is the master", replaced).await;
        self.note_election(partner);
        partner
    }

    /// Waits until the partner of `master` needs new votes to replace it. A master that dies earlier may be lost: a
    /// node that won an election, became a replica again and has to take over within [`VOTES_COUNT`] counts the votes
    /// of that election once more. No other node accepts it then, because the epoch of those votes is over.
    pub async fn votes_have_expired(&self, master: usize) {
        let elected = *self.nodes[self.partner_of(master)].elected.lock();
        if let Some(elected) = elected {
            sleep_until(elected + VOTES_COUNT).await;
        }
    }

    fn note_election(&self, node: usize) {
        *self.nodes[node].elected.lock() = Some(Instant::now());
    }

    /// Whether all nodes that are not silent know that `partner` has replaced `master`.
    async fn has_replaced(&self, partner: usize, master: usize) -> bool {
        let view = self.agreement().await;
        view.is_some_and(|view| view.owns_any(partner) && !view.owns_any(master))
    }

    /// Makes the replica of a running master the master, without loss, and returns its number. Returns when all nodes
    /// agree and the former master is in sync as a replica.
    pub async fn fail_over(&self, master: usize) -> usize {
        let replica = self.partner_of(master);
        self.node(replica).has_caught_up().await;
        let mut asked: Option<Instant> = None;
        eventually_within(ELECTIONS, "the replica is the master", async || {
            if asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN) {
                asked = Some(Instant::now());
                // A replica that has just become the master refuses.
                let begin = ["CLUSTER", "FAILOVER"];
                let _ = self.node(replica).try_command::<()>(&begin).await;
            }
            self.has_replaced(replica, master).await.then_some(())
        })
        .await;
        self.note_election(replica);
        self.node(master).has_caught_up().await;
        replica
    }

    /// Makes the replica of a master the master, without what `write` writes. Returns the new master.
    pub async fn lose_tail(&mut self, master: usize, write: impl AsyncFnOnce()) -> usize {
        let replica = self.partner_of(master);
        self.votes_have_expired(master).await;
        self.freeze(replica);
        // The frozen replica cannot connect again. Without this, its socket would keep what the master sends.
        let cut = ["CLIENT", "KILL", "TYPE", "replica"];
        self.node(master).command::<()>(&cut).await;
        write().await;
        self.kill(master);
        self.thaw(replica);
        self.failed_over(master).await
    }

    /// Adds a master without slots, and returns its number.
    pub async fn add_node(&mut self) -> usize {
        self.nodes.push(Node::start().await);
        let number = self.nodes.len() - 1;
        self.introduce(number).await;
        self.agreed().await;
        number
    }

    /// Removes the node with the highest number, which has no slots and no replica.
    pub async fn remove_last_node(&mut self) {
        let mut removed = self.nodes.pop().expect("a node");
        removed.server.kill();
        for node in self.nodes.iter().filter(|node| !node.is_silent()) {
            let forget = ["CLUSTER", "FORGET", &removed.id];
            node.server.command::<()>(&forget).await;
        }
        self.agreed().await;
    }

    /// Makes the nodes announce this host name to clients instead of their addresses.
    pub async fn announce(&self, host: &str) {
        for node in self.nodes.iter().filter(|node| !node.is_silent()) {
            for (setting, value) in [
                ("cluster-announce-hostname", host),
                ("cluster-preferred-endpoint-type", "hostname"),
            ] {
                let set = ["CONFIG", "SET", setting, value];
                node.server.command::<()>(&set).await;
            }
        }
    }
}
