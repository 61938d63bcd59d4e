//! The seats of connections in groups: members by pinging.
//!
//! The partition of the user decides each call and gives it a stamp. Then the connection gets a seat in the partition
//! of each group that it states. For each group that the connection leaves, the same step writes a message into the
//! outbox of the user's partition. See `seats.lua` and `outbox.lua`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use redis::{FromRedisValue, ScriptInvocation, Value};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::ATTEMPTS;
use super::message::Message;
use crate::model::{
    Connected, ConnectionId, GroupId, Partition, Stated, Timestamp, UserId, millis,
};
use crate::store::error::StoreError;
use crate::store::redis::batches::call_batcher::Call;
use crate::store::redis::format::keys::Keys;
use crate::store::redis::format::replies::{Due, Opened, take, unexpected};
use crate::store::redis::format::stated::SEPARATOR;
use crate::store::redis::store::RedisStore;

/// How long after its call a seat may be given or extended.
const SEATED_WITHIN: Duration = Duration::from_secs(2);

/// How long the instance of a call has for the delivery of a message before a sweep delivers it.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_millis(150);

/// How long a message waits that could not be delivered.
const RETRY: Duration = Duration::from_secs(1);

/// How many messages one sweep delivers, and how long it may take.
const MESSAGES: usize = 200;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many groups one sweep looks at.
const GROUPS: usize = 200;

/// How many seats one script call looks at, which takes Redis less than 3 ms.
const SEATS: usize = 200;

/// A connection and what it states.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::redis) struct Seated<'a> {
    pub(in crate::store::redis) user: &'a UserId,
    pub(in crate::store::redis) connection: &'a ConnectionId,
    pub(in crate::store::redis) stated: &'a Stated,
}

impl RedisStore {
    /// Extends the seats of a connection in all groups that it states. Returns the groups that could not be reached;
    /// `None` if the connection has no seat in a group.
    pub(in crate::store::redis) async fn extend_seats(
        &self,
        seated: Seated<'_>,
    ) -> Option<Vec<GroupId>> {
        let groups = &seated.stated.groups;
        let extended = groups.iter().map(|group| self.extend_seat(group, seated));
        let mut unreachable = Vec::new();
        for (group, extended) in groups.iter().zip(join_all(extended).await) {
            match extended {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => unreachable.push(group.clone()),
            }
        }
        Some(unreachable)
    }

    async fn extend_seat(&self, group: &GroupId, seated: Seated<'_>) -> Result<bool, StoreError> {
        let keys = self.layout.of_group(group);
        let partition = keys.partition;
        let (user, connection) = (seated.user, seated.connection);
        let arguments = vec![
            keys.group_seats(group),
            format!("{user}{SEPARATOR}{}", connection.as_str()),
            millis(self.lifetimes.grant(seated.stated).ttl()).to_string(),
        ];
        let seats = &self.batchers[partition.index()].seats;
        let send = || {
            let (store, seats) = (self.clone(), Arc::clone(seats));
            let not_after = self.now(partition).plus(SEATED_WITHIN);
            async move {
                let invocation = |calls: &[Call]| store.seat_calls(partition, not_after, calls);
                seats.send(store.lanes.to(partition), invocation).await;
            }
        };
        let answer = seats.call(user, arguments, send).await;
        if answer.is_err() {
            // The sweeper finds out whether the store was out of reach.
            self.quiet.disturb(partition);
        }
        take(&mut [answer?].into_iter())
    }

    /// An invocation of `group_extend.lua` for several pings.
    fn seat_calls(
        &self,
        partition: Partition,
        not_after: Timestamp,
        calls: &[Call],
    ) -> ScriptInvocation<'_> {
        let mut extend = self.scripts.group_extend.prepare_invoke();
        extend.arg(not_after.as_millis());
        for call in calls {
            if let [key, seat, ttl] = &call.arguments[..] {
                extend.key(key).arg(seat).arg(ttl);
            }
        }
        extend.key(&self.layout.keys(partition).absent);
        extend
    }

    /// Gives a connection its seats after the user's partition accepted the call, and tells the groups that it left.
    /// A group that cannot be reached until `until` does not fail the call.
    pub(in crate::store::redis) async fn settle_in_groups(
        &self,
        seated: Seated<'_>,
        opened: Opened,
        until: Instant,
    ) -> Connected {
        let Opened {
            mut connected,
            stamp,
            messages,
        } = opened;
        let from = self.layout.partitions().of(seated.user);
        let groups = stamp.as_ref().map(|_| &*seated.stated.groups);
        let groups = groups.unwrap_or_default();
        let stamp = stamp.as_deref().unwrap_or_default();
        let joins = groups
            .iter()
            .map(|group| timeout_at(until, self.join_group(group, seated, stamp)));
        // The user joins first: it may leave a group by one connection that it states by the other.
        let joined = join_all(joins).await;
        // A message that is not delivered in time stays in the outbox.
        let _ = timeout_at(until, self.deliver(from, messages)).await;
        for (group, joined) in groups.iter().zip(joined) {
            if !matches!(joined, Ok(Ok(true))) {
                connected.not_joined.push(group.clone());
            }
        }
        connected
    }

    /// Gives a connection a seat in a group. Returns false if the group is full.
    async fn join_group(
        &self,
        group: &GroupId,
        seated: Seated<'_>,
        stamp: &str,
    ) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            match &*self.try_to_join(group, seated, stamp).await? {
                "joined" | "old" => return Ok(true),
                "full" => return Ok(false),
                "late" => self.read_clock(self.partition_of(group)).await?,
                other => return Err(unexpected(other)),
            }
        }
        Err(StoreError::too_slow())
    }

    /// Runs `group_join.lua`.
    async fn try_to_join(
        &self,
        group: &GroupId,
        seated: Seated<'_>,
        stamp: &str,
    ) -> Result<String, StoreError> {
        let partition = self.partition_of(group);
        let grant = self.lifetimes.grant(seated.stated);
        let mut join = self.about_group(&self.scripts.group_join, group);
        join.arg(self.now(partition).plus(SEATED_WITHIN).as_millis())
            .arg(self.lifetimes.group_members)
            .arg(seated.user.as_str())
            .arg(seated.connection.as_str())
            .arg(stamp)
            .arg(millis(grant.ttl()))
            .arg(millis(grant.ping_interval()));
        self.run_in(partition, &join).await
    }

    /// Delivers messages of the outbox of the partition `from`, and removes the messages that the groups have. The
    /// others stay for a sweep.
    pub(in crate::store::redis) async fn deliver(&self, from: Partition, texts: Vec<String>) {
        if texts.is_empty() {
            return;
        }
        // Only this service writes messages, so all of them are readable.
        let messages = texts.into_iter().filter_map(Message::read);
        let messages: Vec<_> = messages.collect();
        let deliveries = messages.iter().map(|each| self.deliver_one(from, each));
        let delivered = join_all(deliveries).await;
        let keys = self.layout.keys(from);
        let (mut remove, mut retry) = (redis::cmd("ZREM"), redis::cmd("ZADD"));
        remove.arg(&keys.outbox);
        retry.arg(&keys.outbox).arg("XX");
        let retry_at = self.now(from).plus(RETRY).as_millis();
        let (mut removed, mut failed) = (false, false);
        for (message, delivered) in messages.iter().zip(delivered) {
            if let Err(error) = delivered {
                debug!(%error, "a message to a group was not delivered");
                retry.arg(retry_at).arg(&message.text);
                failed = true;
            } else {
                remove.arg(&message.text);
                removed = true;
            }
        }
        let route = self.lanes.to(from);
        for command in [removed.then_some(remove), failed.then_some(retry)]
            .into_iter()
            .flatten()
        {
            if let Err(error) = route.query_idempotent::<i64>(&command).await {
                debug!(%error, "the outbox was not updated");
            }
        }
    }

    async fn deliver_one(&self, from: Partition, message: &Message) -> Result<(), StoreError> {
        let ends = message.ends.map(|ends| ends.since(self.now(from)));
        let mut leave = self.about_group(&self.scripts.group_leave, &message.group);
        leave
            .arg(message.user.as_str())
            .arg(message.connection.as_str())
            .arg(&message.stamp)
            .arg(ends.map_or(0, |ends| millis(ends).max(1)))
            .arg(&message.kind);
        let partition = self.partition_of(&message.group);
        self.run_in::<Value>(partition, &leave).await.map(drop)
    }

    /// Runs a script after which a seat may end earlier than the sweeper of this instance knows. The sweeper looks
    /// afterwards, because a sweep before the script ran does not see the seat.
    async fn run_in<T: FromRedisValue>(
        &self,
        partition: Partition,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.quiet.disturb(partition);
        let answer = self.lanes.to(partition).script(script).await;
        self.quiet.disturb(partition);
        answer
    }

    /// Delivers the messages of instances that died, in a task of its own: the groups may be on another server, which
    /// must not delay the sweep.
    pub(in crate::store::redis) fn deliver_old_messages(&self, keys: &Keys, due: &Due) {
        let latest = due.now.minus(FIRST_DELIVERY_TIMEOUT);
        if due.first_message.is_none_or(|first| first > latest) {
            return;
        }
        let Some(turn) = Turn::take(&self.delivering, keys.partition) else {
            return;
        };
        let (store, partition) = (self.clone(), keys.partition);
        tokio::spawn(async move {
            let _turn = turn;
            let delivery = store.read_and_deliver(partition, latest);
            if let Ok(Err(error)) = timeout(DELIVERY_TIMEOUT, delivery).await {
                debug!(%error, "the outbox was not read");
            }
        });
    }

    async fn read_and_deliver(&self, from: Partition, latest: Timestamp) -> Result<(), StoreError> {
        let mut read = redis::cmd("ZRANGE");
        read.arg(&self.layout.keys(from).outbox).arg("-inf");
        read.arg(latest.as_millis()).arg("BYSCORE");
        read.arg("LIMIT").arg(0).arg(MESSAGES);
        let texts: Vec<String> = self.lanes.to(from).query_idempotent(&read).await?;
        self.deliver(from, texts).await;
        Ok(())
    }

    /// Ends the seats that are due. Returns whether more groups may be due.
    pub(in crate::store::redis) async fn sweep_groups(
        &self,
        keys: &Keys,
        due: &Due,
    ) -> Result<bool, StoreError> {
        if due.next_group.is_none_or(|next| next > due.now) {
            return Ok(false);
        }
        let mut read = redis::cmd("ZRANGE");
        read.arg(&keys.due_groups).arg("-inf");
        read.arg(due.now.as_millis()).arg("BYSCORE");
        read.arg("LIMIT").arg(0).arg(GROUPS);
        let route = self.lanes.to(keys.partition).without_pauses();
        let groups: Vec<String> = route.query_idempotent(&read).await?;
        let groups = groups.iter().map(|group| GroupId::new(group));
        let groups: Vec<_> = groups.collect::<Result<_, _>>().map_err(unexpected)?;
        try_join_all(groups.iter().map(|group| self.end_seats(group))).await?;
        Ok(groups.len() >= GROUPS)
    }

    async fn end_seats(&self, group: &GroupId) -> Result<(), StoreError> {
        let route = self.lanes.to(self.partition_of(group)).without_pauses();
        let (mut held, mut first_end) = (0_u64, 0_u64);
        loop {
            let mut end = self.about_group(&self.scripts.group_due, group);
            end.arg(held).arg(SEATS).arg(first_end);
            let more: bool;
            (more, held, first_end) = route.script(&end).await?;
            if !more {
                return Ok(());
            }
        }
    }
}

/// The turn to deliver the outbox of one partition.
struct Turn {
    all: Arc<[AtomicBool]>,
    partition: Partition,
}

impl Turn {
    fn take(all: &Arc<[AtomicBool]>, partition: Partition) -> Option<Self> {
        let is_taken = all[partition.index()].swap(true, Ordering::AcqRel);
        (!is_taken).then(|| Self {
            all: Arc::clone(all),
            partition,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all[self.partition.index()].store(false, Ordering::Release);
    }
}
