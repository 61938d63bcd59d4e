//! The move to another store: what the scripts of the former store keep, and the records of both.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use crate::model::{GroupId, MoveReport, MoveState, Partition, Timestamp, UserId, millis};
use crate::store::error::StoreError;
use crate::store::node_id::NodeId;
use crate::store::redis::format::replies::unexpected;
use crate::store::redis::node::Node;
use crate::store::redis::store::RedisStore;
use crate::store::redis::subscription::NEARER;

/// About how many users one step of an iteration over states returns.
const STATES: usize = 250;

/// About how many keys one step of an iteration over all keys looks at.
const KEYS: usize = 1_000;

/// Separates the parts of a state; it is `'away end status data'` in `states.lua`.
const SEPARATOR: u8 = 0x1f;

/// The field of [`Keys::moving`](crate::store::redis::format::keys::Keys::moving) in a store to which a move has ended.
const ARRIVED: &str = "arrived";

/// The place of the status in a state.
const STATUS: usize = 2;

impl RedisStore {
    pub(in crate::store) async fn report_move(
        &self,
        report: &MoveReport,
    ) -> Result<MoveState, StoreError> {
        let keys = self.layout.keys(Partition::FIRST);
        let next = report.next.as_ref();
        let data_set = next.map_or("", |next| next.data_set.as_deref().unwrap_or("?"));
        let copied = report.copied.map(|at| at.as_millis().to_string());
        let mut call = self.scripts.report_move.key(&keys.moving);
        call.key(&keys.layout).key(&keys.absent);
        call.arg(&report.instance)
            .arg(data_set)
            .arg(u8::from(next.is_some_and(|next| !next.is_complete)))
            .arg(millis(report.longest_life))
            .arg(copied.unwrap_or_default())
            .arg(self.layout.moved_record())
            .arg(next.map_or("", |next| &next.place))
            .arg(&keys.bus);
        let read: (Vec<u64>, String) = self.lanes.to(Partition::FIRST).script(&call).await?;
        let (numbers, moves_to) = read;
        let [now, at, incomplete_at, needed, instances, others, copies] = numbers[..] else {
            return Err(unexpected("an incomplete reply"));
        };
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(MoveState {
            now: Timestamp::from_millis(now),
            moves_at: (at > 0).then(|| Timestamp::from_millis(at)),
            moves_to,
            incomplete_at: Timestamp::from_millis(incomplete_at),
            needed: Duration::from_millis(needed),
            instances: count(instances),
            others: count(others),
            copies: copies == 1,
        })
    }

    /// Records in every partition that the data moved to another store. Instances whose settings name no next store
    /// then stop.
    pub(in crate::store) async fn mark_moved(&self) -> Result<(), StoreError> {
        self.write_records(&self.layout.moved_record()).await?;
        for partition in self.partitions().all() {
            // A sweep finds the record. It follows at once, also where nothing else happens.
            let bus = &self.layout.keys(partition).bus;
            let is_shard_channel = bus.contains('{');
            let mut publish = redis::cmd(if is_shard_channel {
                "SPUBLISH"
            } else {
                "PUBLISH"
            });
            publish.arg(bus).arg(NEARER);
            let route = self.lanes.to(partition);
            route.query_idempotent::<u64>(&publish).await?;
        }
        Ok(())
    }

    /// Notes that another instance takes part in a move from this store.
    pub(in crate::store) fn note_move(&self) {
        self.move_was_noted.store(true, Ordering::Relaxed);
    }

    /// Takes the note that an instance took part in a move from this store since the last call. Returns whether there
    /// is one, or may be one unheard.
    pub(in crate::store) fn take_note_of_move(&self) -> bool {
        let was_noted = self.move_was_noted.swap(false, Ordering::Relaxed);
        let hears = |node: &Node| node.subscription.is_up();
        was_noted
            || !self
                .lanes
                .with_node(Partition::FIRST, hears)
                .unwrap_or(false)
    }

    /// Records in every partition that a move to this store has ended, and where instances look that have not learned
    /// of it from the former store.
    pub(in crate::store) async fn mark_arrived(&self) -> Result<(), StoreError> {
        self.layout.note_arrived();
        let mut set = redis::cmd("HSET");
        set.arg(&self.layout.keys(Partition::FIRST).moving);
        set.arg(ARRIVED).arg(1);
        let route = self.lanes.to(Partition::FIRST);
        route.query_idempotent::<u64>(&set).await?;
        self.write_records(self.layout.plain_record()).await
    }

    /// Whether an instance recorded that a move to this store has ended.
    pub(in crate::store) async fn has_arrived(&self) -> Result<bool, StoreError> {
        let mut get = redis::cmd("HGET");
        get.arg(&self.layout.keys(Partition::FIRST).moving);
        get.arg(ARRIVED);
        let route = self.lanes.to(Partition::FIRST);
        let arrived: Option<u8> = route.query_idempotent(&get).await?;
        Ok(arrived.is_some())
    }

    /// Whether a connected server serves each partition.
    pub(in crate::store) fn is_whole(&self) -> bool {
        self.lanes.topology.is_well()
    }

    /// Notes that a move to this store has ended, without a record.
    pub(in crate::store) fn note_arrived(&self) {
        self.layout.note_arrived();
    }

    async fn write_records(&self, record: &str) -> Result<(), StoreError> {
        for partition in self.partitions().all() {
            let mut set = redis::cmd("SET");
            set.arg(&self.layout.keys(partition).layout).arg(record);
            let route = self.lanes.to(partition);
            route.query_idempotent::<()>(&set).await?;
        }
        Ok(())
    }

    /// Some of the users of a partition that have a status, online or not, and the place of the next step; `None` at
    /// the end. A user that has a status all the time is returned at least once.
    pub(in crate::store) async fn users_with_status(
        &self,
        partition: Partition,
        place: u64,
    ) -> Result<(Vec<UserId>, Option<u64>), StoreError> {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&self.layout.keys(partition).states);
        scan.arg(place).arg("COUNT").arg(STATES);
        let route = self.lanes.to(partition);
        let (next, states): (u64, Vec<Value>) = route.query_idempotent(&scan).await?;
        let mut users = Vec::new();
        for pair in states.chunks_exact(2) {
            let [user, state] = [0, 1].map(|at| Vec::<u8>::from_redis_value(pair[at].clone()));
            let state = state.map_err(unexpected)?;
            let status = state.split(|byte| *byte == SEPARATOR).nth(STATUS);
            if status.is_some_and(|status| !status.is_empty()) {
                let user = String::from_utf8(user.map_err(unexpected)?).map_err(unexpected)?;
                users.push(UserId::new(user.as_str()).map_err(unexpected)?);
            }
        }
        Ok((users, (next > 0).then_some(next)))
    }

    /// Some of the groups that have stored members on a server, and the place of the next step; `None` at the end. A
    /// group that has members all the time is returned at least once, unless its partition moves to another server.
    pub(in crate::store) async fn stored_groups(
        &self,
        node: NodeId,
        place: u64,
    ) -> Result<(Vec<GroupId>, Option<u64>), StoreError> {
        // Any partition of the server leads to it.
        let Some(partition) = self.partitions_on(node).iter().next() else {
            return Ok((Vec::new(), None));
        };
        let keys = self.layout.keys(partition);
        let mut scan = redis::cmd("SCAN");
        scan.arg(place).arg("MATCH").arg(keys.groups_pattern());
        scan.arg("COUNT").arg(KEYS);
        let route = self.lanes.to(partition);
        let (next, names): (u64, Vec<Vec<u8>>) = route.query_idempotent(&scan).await?;
        let names = names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok());
        let groups = names.filter_map(|name| GroupId::new(keys.group_of(&name)?).ok());
        Ok((groups.collect(), (next > 0).then_some(next)))
    }

    /// The stored members of a group, in order, without those that are members by pinging.
    pub(in crate::store) async fn members_stored_in(
        &self,
        group: &GroupId,
    ) -> Result<Vec<UserId>, StoreError> {
        self.stored_members(group).await
    }

    /// Why the servers do not fit the settings; `None` if they fit.
    pub(in crate::store) fn unfit(&self) -> Option<StoreError> {
        let table = self.lanes.topology.table();
        let mut nodes = table.nodes().iter().peekable();
        if nodes.peek().is_none() {
            let why = self.lanes.topology.why_unserved();
            return matches!(why, StoreError::Unfit(_)).then_some(why);
        }
        nodes.find_map(|node| node.unfit())
    }

    /// Whether the main connection to a server is up.
    pub(in crate::store) fn is_connected(&self) -> bool {
        let table = self.lanes.topology.table();
        table.nodes().iter().any(|node| node.main.is_up())
    }
}
