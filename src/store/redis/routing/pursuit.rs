//! Where a refused request goes next.

use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use tokio::time::sleep;

use super::lane::Lane;
use super::lanes::Lanes;
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::redis::cluster::redirect::Refused;
use crate::store::redis::node::Node;

/// How often a request follows a redirection. It would follow more only if the nodes contradicted each other.
const MOST_HOPS: u32 = 3;

/// How often a request is sent again after its connection broke: the connection of the worker and the main connection
/// may both be to a server that has gone.
const MOST_RECONNECTS: u32 = 2;

/// The first pause while the keys of a slot are on two nodes. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// How many such pauses a request makes: 775 ms in all.
const MOST_PAUSES: u32 = 5;

/// The pause after a node said that its slot is not served.
const DOWN_PAUSE: Duration = Duration::from_millis(100);

/// One request until a node has run it: which node is next, and how many attempts are left.
pub(in crate::store::redis) struct Pursuit<'a> {
    lanes: &'a Lanes,
    partition: Partition,
    is_idempotent: bool,
    /// Whether the request may wait between attempts.
    is_patient: bool,
    /// The node to which the slot is on its way, and which has the keys.
    target: Option<Arc<Lane>>,
    hops: u32,
    pauses: u32,
    met_down: bool,
    reconnects: u32,
    loaded: bool,
}

/// What to do after a failure of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Next {
    /// Send the request again.
    Send,
    /// Replace the connection and send the request again.
    Reconnect,
    /// Load the script of the request and send the request again.
    LoadScript,
    /// Give up.
    Fail,
}

impl<'a> Pursuit<'a> {
    pub(in crate::store::redis) fn new(
        lanes: &'a Lanes,
        partition: Partition,
        is_idempotent: bool,
        is_patient: bool,
    ) -> Self {
        Self {
            lanes,
            partition,
            is_idempotent,
            is_patient,
            target: None,
            hops: 0,
            pauses: 0,
            met_down: false,
            reconnects: 0,
            loaded: false,
        }
    }

    /// The lane over which the request goes next.
    pub(in crate::store::redis) fn lane(&self) -> Result<Arc<Lane>, StoreError> {
        match &self.target {
            Some(target) => Ok(Arc::clone(target)),
            None => self.lanes.of(self.partition),
        }
    }

    /// Whether the node serves the slot only to a request that asks.
    pub(in crate::store::redis) fn is_asking(&self) -> bool {
        self.target.is_some()
    }

    /// Follows the partition if another node serves it now, so that the request need not wait for the connection of
    /// `lane`. Returns whether it did.
    pub(in crate::store::redis) fn follow_move_from(&mut self, lane: &Lane) -> bool {
        let now = self.lanes.of(self.partition);
        let has_moved = now.is_ok_and(|now| now.node.id != lane.node.id) && self.hops < MOST_HOPS;
        if has_moved {
            self.hops += 1;
            self.target = None;
        }
        has_moved
    }

    /// Judges why `node` failed the request, which may have reached it if `was_sent`. Waits if the request needs a
    /// pause.
    pub(in crate::store::redis) async fn follow(
        &mut self,
        error: &RedisError,
        was_sent: bool,
        node: &Node,
    ) -> Next {
        let Some(refused) = Refused::of(error, node.host()) else {
            return self.follow_failure(error, was_sent, node);
        };
        match refused {
            Refused::Moved(..) | Refused::Ask(_) if self.hops == MOST_HOPS => return Next::Fail,
            Refused::Moved(slot, address) => {
                self.hops += 1;
                self.target = None;
                self.lanes.redirect(slot, &address);
            }
            Refused::Ask(address) => {
                self.hops += 1;
                self.target = self.lanes.at(&address);
                if self.target.is_none() {
                    return Next::Fail;
                }
            }
            Refused::TryAgain if self.pauses == MOST_PAUSES || !self.is_patient => {
                return Next::Fail;
            }
            Refused::TryAgain => {
                self.target = None;
                sleep(FIRST_PAUSE * 2_u32.pow(self.pauses)).await;
                self.pauses += 1;
            }
            Refused::ClusterDown { everywhere } => {
                if everywhere {
                    self.lanes.topology.note_down();
                }
                self.lanes.topology.refresh(None);
                if std::mem::replace(&mut self.met_down, true) || !self.is_patient {
                    return Next::Fail;
                }
                self.target = None;
                sleep(DOWN_PAUSE).await;
            }
            Refused::UnknownScript => {
                if std::mem::replace(&mut self.loaded, true) {
                    return Next::Fail;
                }
                return Next::LoadScript;
            }
        }
        Next::Send
    }

    /// Judges a failure that is no refusal of a cluster: if the request `was_sent`, it may have run.
    pub(in crate::store::redis) fn follow_failure(
        &mut self,
        error: &RedisError,
        was_sent: bool,
        node: &Node,
    ) -> Next {
        if error.is_io_error() {
            self.lanes.topology.refresh(Some(node.id));
        }
        let never_ran = !was_sent && error.is_io_error() && !error.is_timeout();
        let is_repeated = never_ran || self.is_idempotent && error.is_connection_dropped();
        if !is_repeated || self.reconnects == MOST_RECONNECTS {
            return Next::Fail;
        }
        self.reconnects += 1;
        Next::Reconnect
    }
}
