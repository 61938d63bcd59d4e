//! The calls about one user: ping, connect and disconnect, and the state of the user.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, Script, ScriptInvocation, Value};
use tokio::time::{Instant, timeout_at};

use super::groups::seats::Seated;
use crate::model::{Closing, Connected, Disconnected, Stated, Status, UserState};
use crate::model::{ConnectionId, Partition, Timestamp, UserId, millis};
use crate::store::error::StoreError;
use crate::store::redis::batches::call_batcher::Call;
use crate::store::redis::format::replies::{self, Opened, unexpected};
use crate::store::redis::format::stated;
use crate::store::redis::node::load_shedder::CALL_TIMEOUT;
use crate::store::redis::store::RedisStore;

/// How a connection is opened or refreshed. A connect also opens a connection that was closed a moment ago. A ping is
/// refused for such a connection, because it may have been sent before.
const CONNECT: &str = "connect";
const PING: &str = "ping";

impl RedisStore {
    /// Extends only the connection, in one script call with other pings, if it is alive and has the grant of this
    /// instance. Else runs the script for connects and pings.
    pub(in crate::store) async fn ping(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        let began = Instant::now();
        let seated = Seated {
            user,
            connection,
            stated,
        };
        if !stated.groups.is_empty() {
            // Boxed, like the call below.
            return Box::pin(self.ping_in_groups(seated, began)).await;
        }
        if let Some(expires_at) = self.extend(seated).await? {
            return Ok(Connected {
                became_online: false,
                expires_at,
                not_joined: Vec::new(),
            });
        }
        // Boxed, because few pings need this future and all others would carry its size.
        Box::pin(self.connect_in_groups(seated, PING, began)).await
    }

    /// A ping of a connection that states groups. Extends the connection and then its seats. A refused ping extends no
    /// seat. This includes the seats of an expired connection whose departure is not announced yet.
    async fn ping_in_groups(
        &self,
        seated: Seated<'_>,
        began: Instant,
    ) -> Result<Connected, StoreError> {
        if let Some(expires_at) = self.extend(seated).await? {
            let extended = timeout_at(began + CALL_TIMEOUT, self.extend_seats(seated)).await;
            // A group that does not answer in time is unreachable.
            let not_joined = extended.unwrap_or_else(|_| Some(seated.stated.groups.to_vec()));
            if let Some(not_joined) = not_joined {
                return Ok(Connected {
                    became_online: false,
                    expires_at,
                    not_joined,
                });
            }
        }
        self.connect_in_groups(seated, PING, began).await
    }

    /// Extends only the connection, in one script call with other pings, and returns its deadline. `None`: the script
    /// for connects and pings has to decide.
    async fn extend(&self, seated: Seated<'_>) -> Result<Option<Timestamp>, StoreError> {
        let Seated {
            user,
            connection,
            stated,
        } = seated;
        let partition = self.layout.partitions().of(user);
        let place = partition.index();
        if self.grants[place].number() == 0 {
            return Ok(None);
        }
        // The reply has no time. A deadline from before the request promises no more than Redis keeps.
        let sent_at = self.now(partition);
        let pings = &self.batchers[place].pings;
        let extended = pings.extend(user, connection, stated).await;
        if extended.is_err() {
            // The sweeper finds out whether the store was out of reach.
            self.quiet.disturb(partition);
        }
        let ttl = stated.ttl.unwrap_or(self.lifetimes.ttl);
        Ok(extended?.then(|| sent_at.plus(ttl)))
    }

    pub(in crate::store) async fn connect(
        &self,
        user: &UserId,
        connection: &ConnectionId,
        stated: &Stated,
    ) -> Result<Connected, StoreError> {
        let seated = Seated {
            user,
            connection,
            stated,
        };
        self.connect_in_groups(seated, CONNECT, Instant::now())
            .await
    }

    /// Runs the script for connects and pings, and then what follows in groups.
    async fn connect_in_groups(
        &self,
        seated: Seated<'_>,
        kind: &str,
        began: Instant,
    ) -> Result<Connected, StoreError> {
        let until = began + CALL_TIMEOUT;
        let lane = self.lanes.of(self.layout.partitions().of(seated.user))?;
        let call = self.connect_or_ping(seated, kind);
        let opened = lane.node.load_shedder.run_until(until, call).await?;
        if opened.stamp.is_none() && opened.messages.is_empty() {
            return Ok(opened.connected);
        }
        Ok(Box::pin(self.settle_in_groups(seated, opened, until)).await)
    }

    async fn connect_or_ping(&self, seated: Seated<'_>, kind: &str) -> Result<Opened, StoreError> {
        let Seated {
            user,
            connection,
            stated,
        } = seated;
        let partition = self.layout.partitions().of(user);
        self.quiet.disturb(partition);
        let connects = &self.batchers[partition.index()].connects;
        let mut text = String::new();
        stated::push(&mut text, connection, stated);
        let send = || {
            let (store, connects) = (self.clone(), Arc::clone(connects));
            async move {
                let invocation = |calls: &[Call]| store.connect_calls(partition, calls);
                connects.send(store.lanes.to(partition), invocation).await;
            }
        };
        let answer = connects
            .call(user, vec![text, kind.to_owned()], send)
            .await?;
        let answer = Vec::from_redis_value(answer).map_err(unexpected)?;
        replies::opened(answer, self.lifetimes.user_connections)
    }

    pub(in crate::store) async fn disconnect(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<Disconnected, StoreError> {
        let until = Instant::now() + CALL_TIMEOUT;
        let partition = self.layout.partitions().of(user);
        let call = self.disconnect_soon(user, closing);
        let (disconnected, messages) = self.with_deadline(partition, call).await?;
        // A message that is not delivered in time stays in the outbox.
        let _ = timeout_at(until, self.deliver(partition, messages)).await;
        Ok(disconnected)
    }

    async fn disconnect_soon(
        &self,
        user: &UserId,
        closing: &Closing,
    ) -> Result<(Disconnected, Vec<String>), StoreError> {
        let (connection, grace) = match closing {
            Closing::One(connection) => (connection.as_str(), 0),
            Closing::Later(connection, grace) => (connection.as_str(), millis(*grace)),
            Closing::All => ("", 0),
        };
        let partition = self.layout.partitions().of(user);
        self.quiet.disturb(partition);
        let disconnects = &self.batchers[partition.index()].disconnects;
        let arguments = vec![connection.to_owned(), grace.to_string()];
        let send = || {
            let (store, disconnects) = (self.clone(), Arc::clone(disconnects));
            async move {
                let invocation = |calls: &[Call]| store.disconnect_calls(partition, calls);
                let route = store.lanes.to(partition);
                disconnects.send(route, invocation).await;
            }
        };
        let answer = disconnects.call(user, arguments, send).await?;
        replies::closed(Vec::from_redis_value(answer).map_err(unexpected)?)
    }

    /// An invocation of `connect.lua` for several calls.
    pub(in crate::store::redis) fn connect_calls(
        &self,
        partition: Partition,
        calls: &[Call],
    ) -> ScriptInvocation<'_> {
        let most = u64::from(self.lifetimes.user_connections);
        self.transitions(&self.scripts.connect, most, partition, calls)
    }

    /// An invocation of `disconnect.lua` for several calls.
    pub(in crate::store::redis) fn disconnect_calls(
        &self,
        partition: Partition,
        calls: &[Call],
    ) -> ScriptInvocation<'_> {
        let last_seen = millis(self.lifetimes.last_seen);
        self.transitions(&self.scripts.disconnect, last_seen, partition, calls)
    }

    /// An invocation of a script for several connects or disconnects. `limit` is the one argument of its own that the
    /// script has.
    fn transitions<'a>(
        &self,
        script: &'a Script,
        limit: u64,
        partition: Partition,
        calls: &[Call],
    ) -> ScriptInvocation<'a> {
        let keys = self.layout.keys(partition);
        let mut invocation = self.about_connections(script, keys);
        invocation.key(&keys.shortened);
        invocation.key(&keys.outbox).key(&keys.stamp);
        invocation.arg(limit);
        // The keys and arguments of each kind of all calls. Each call has two arguments besides the user.
        for call in calls {
            invocation.key(keys.user(&call.user));
            invocation.arg(call.user.as_str());
        }
        for call in calls {
            invocation.key(keys.connections(&call.user));
            invocation.arg(call.arguments.first());
        }
        for call in calls {
            invocation.key(keys.closed(&call.user));
            invocation.arg(call.arguments.get(1));
        }
        invocation.key(&keys.absent).key(&keys.last_seen);
        invocation
    }

    /// Sets or clears the status of a user.
    pub(in crate::store) async fn set_status(
        &self,
        user: &UserId,
        status: Option<&Status>,
        lasts: Option<Duration>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let keys = self.layout.of(user);
        let mut set = self.about_connections(&self.scripts.status, keys);
        set.key(&keys.absent);
        set.arg(user.as_str());
        match status {
            Some(status) => set.arg(&status.word).arg(status.data_text()),
            None => set.arg("").arg(""),
        };
        set.arg(lasts.map(millis).unwrap_or(0));
        set.arg(millis(self.lifetimes.last_seen));
        let set = async {
            self.quiet.disturb(keys.partition);
            self.lanes.to(keys.partition).script(&set).await
        };
        let ends: u64 = self.with_deadline(keys.partition, set).await?;
        Ok((ends > 0).then(|| Timestamp::from_millis(ends)))
    }

    pub(in crate::store) async fn user(&self, user: &UserId) -> Result<UserState, StoreError> {
        let keys = self.layout.of(user);
        let mut read = self.about_connections(&self.scripts.user, keys);
        read.key(keys.user(user))
            .key(keys.connections(user))
            .key(&keys.absent)
            .key(&keys.last_seen);
        read.arg(user.as_str());
        let read = self.lanes.to(keys.partition).script(&read);
        let answer: Vec<Value> = self.with_deadline(keys.partition, read).await?;
        replies::user_state(answer)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::config::Config;
    use crate::model::{GroupId, MoveRole, PartitionSet, Partitions};

    /// A quiet instance would count the time of a failed ping as time in which it was ready to serve.
    #[tokio::test]
    async fn a_ping_that_fails_wakes_the_sweeper_of_a_quiet_partition() {
        let url = "redis://127.0.0.1:1".parse().expect("a URL");
        let user = UserId::new("alice").expect("an id");
        let connection = ConnectionId::unnamed();
        for groups in [Vec::new(), vec![GroupId::new("team").expect("an id")]] {
            let store =
                RedisStore::open(&Config::default(), &url, MoveRole::Only).expect("a store");
            store.grants[0].set(1);
            assert!(store.quiet.settle(Partition::FIRST));
            let stated = Stated {
                groups: groups.into(),
                ..Stated::default()
            };
            let pinged = store.ping(&user, &connection, &stated).await;
            pinged.expect_err("no server is connected");
            let disturbed = store.quiet.disturbed(PartitionSet::all(Partitions::ONE));
            assert!(disturbed.now_or_never().is_some(), "{stated:?}");
        }
    }
}
