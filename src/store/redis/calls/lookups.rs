//! Lookups of many users at once. The partitions are asked at the same time.

use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, ScriptInvocation, Value};

use crate::model::{Announced, Epoch, Partition, PartitionSet, Position, State, UserId};
use crate::store::error::StoreError;
use crate::store::redis::format::codec;
use crate::store::redis::format::keys::Keys;
use crate::store::redis::format::replies::{self, AnnouncedPlaces};
use crate::store::redis::store::RedisStore;

/// How many due users one step of a count checks.
const COUNT_STEP: usize = 1_000;

/// How many due users a count checks at most. More users are due only for some seconds after a long outage. The count
/// then assumes the same share of offline users among the rest.
const COUNT_MAX: usize = 50 * COUNT_STEP;

/// The most keys of one command. Some services refuse commands with more than 3,999 arguments.
pub(in crate::store::redis) const MOST_KEYS: usize = 3_000;

/// The usual size of the key of a user. Longer keys make a command reallocate.
const USER_KEY_BYTES: usize = 48;

/// The users of one partition in a list.
struct Portion {
    partition: Partition,
    /// The places of the users in the list, in order.
    places: Vec<usize>,
}

impl RedisStore {
    pub(in crate::store) async fn online_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<bool>, StoreError> {
        let portions = self.portions(users);
        let partitions = portions.iter().map(|portion| portion.partition).collect();
        let call = self.are_online_in(&portions, users);
        self.with_deadline_over(partitions, call).await
    }

    /// Like [`Self::online_among`], as a part of a call with a deadline.
    pub(in crate::store::redis) async fn are_online(
        &self,
        users: &[UserId],
    ) -> Result<Vec<bool>, StoreError> {
        self.are_online_in(&self.portions(users), users).await
    }

    async fn are_online_in(
        &self,
        portions: &[Portion],
        users: &[UserId],
    ) -> Result<Vec<bool>, StoreError> {
        let chunks = portions.iter().flat_map(|portion| {
            let chunks = portion.places.chunks(MOST_KEYS);
            chunks.map(|places| (portion.partition, places))
        });
        let asked = chunks.map(|(partition, places)| async move {
            let mget = self.look_up("MGET", partition, places, users);
            let apart = || {
                let gets = places.iter().map(|place| {
                    let place = std::slice::from_ref(place);
                    self.look_up("GET", partition, place, users)
                });
                gets.collect()
            };
            let route = self.lanes.to(partition);
            Ok::<_, StoreError>((places, route.values(mget, &apart).await?))
        });
        let mut online = vec![false; users.len()];
        for (places, values) in try_join_all(asked).await? {
            for (place, value) in places.iter().zip(values) {
                online[*place] = value != Value::Nil;
            }
        }
        Ok(online)
    }

    /// The command that reads the keys of the users at `places`.
    pub(in crate::store::redis) fn look_up(
        &self,
        name: &str,
        partition: Partition,
        places: &[usize],
        users: &[UserId],
    ) -> Cmd {
        let keys = self.layout.keys(partition);
        let mut command = Cmd::with_capacity(1 + places.len(), places.len() * USER_KEY_BYTES);
        command.arg(name);
        for place in places {
            keys.add_user(&mut command, &users[*place]);
        }
        command
    }

    /// The users of each partition, without the partitions that have none.
    fn portions(&self, users: &[UserId]) -> Vec<Portion> {
        let partitions = self.layout.partitions();
        let portion = |partition| Portion {
            partition,
            places: Vec::new(),
        };
        let mut portions: Vec<_> = partitions.all().map(portion).collect();
        for (place, user) in users.iter().enumerate() {
            portions[partitions.of(user).index()].places.push(place);
        }
        portions.retain(|portion| !portion.places.is_empty());
        portions
    }

    /// The announced state of each of `users`, if something is set, whether the user is online or not. A status that
    /// has ended is left out.
    pub(in crate::store) async fn states_among(
        &self,
        users: &[UserId],
    ) -> Result<Vec<Option<Arc<State>>>, StoreError> {
        let portions = self.portions(users);
        let partitions = portions.iter().map(|portion| portion.partition).collect();
        let chunks = portions.iter().flat_map(|portion| {
            let chunks = portion.places.chunks(MOST_KEYS);
            chunks.map(|places| (portion.partition, places))
        });
        let asked = chunks.map(|(partition, places)| async move {
            let users = places.iter().map(|place| users[*place].as_str());
            Ok::<_, StoreError>((places, self.states_of(partition, users.collect()).await?))
        });
        let asked = self.with_deadline_over(partitions, try_join_all(asked));
        let mut states = vec![None; users.len()];
        for (places, found) in asked.await? {
            for (place, state) in places.iter().zip(found) {
                states[*place] = state;
            }
        }
        Ok(states)
    }

    /// The states of users of one partition, as a part of a call with a deadline.
    pub(in crate::store::redis) async fn states_of(
        &self,
        partition: Partition,
        users: Vec<&str>,
    ) -> Result<Vec<Option<Arc<State>>>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::cmd("HMGET");
        read.arg(&self.layout.keys(partition).states).arg(users);
        let route = self.lanes.to(partition);
        let texts: Vec<Option<String>> = route.query_idempotent(&read).await?;
        let now = self.now(partition);
        let state = |text: Option<String>| codec::kept_state(&text?, Some(now));
        Ok(texts.into_iter().map(state).collect())
    }

    /// The number of announced users, without the due users that are offline.
    pub(in crate::store) async fn count(&self) -> Result<u64, StoreError> {
        let partitions = self.layout.partitions();
        let counts = partitions.all().map(|each| self.count_of(each));
        let all = PartitionSet::all(partitions);
        let counts = self.with_deadline_over(all, try_join_all(counts)).await?;
        Ok(counts.iter().sum())
    }

    async fn count_of(&self, partition: Partition) -> Result<u64, StoreError> {
        let keys = self.layout.keys(partition);
        let most = (COUNT_MAX / self.layout.partitions().count()) as u64;
        let (mut checked, mut gone) = (0, 0);
        loop {
            let counted = self.counted(keys, checked).await?;
            let online = self.are_online(&counted.to_check).await?;
            gone += online.iter().filter(|online| !**online).count() as u64;
            checked += COUNT_STEP as u64;
            if checked >= counted.due {
                return Ok(counted.announced.saturating_sub(gone));
            }
            if checked >= most {
                let gone = u128::from(gone) * u128::from(counted.due) / u128::from(checked);
                let gone = u64::try_from(gone).unwrap_or(u64::MAX);
                return Ok(counted.announced.saturating_sub(gone));
            }
        }
    }

    /// The numbers of users, and a step of the due users after the first `checked`.
    async fn counted(&self, keys: &Keys, checked: u64) -> Result<replies::Counted, StoreError> {
        let mut count = self.announcing(&self.scripts.count, keys);
        count.key(&keys.absent);
        count.arg(checked).arg(COUNT_STEP);
        replies::counted(self.lanes.to(keys.partition).script(&count).await?)
    }

    pub(in crate::store) async fn announced_among(
        &self,
        users: &[UserId],
    ) -> Result<Announced, StoreError> {
        let portions = self.portions(users);
        let partitions = portions.iter().map(|portion| portion.partition).collect();
        let asked = portions
            .iter()
            .map(|portion| self.announced_in(portion, users));
        let asked = self.with_deadline_over(partitions, try_join_all(asked));
        let (mut at, mut announced) = (Vec::new(), Vec::new());
        for (place, found) in asked.await? {
            at.push(place);
            announced.extend(found);
        }
        announced.sort_unstable_by_key(|(place, _)| *place);
        let states = announced.iter().filter_map(|(place, state)| {
            let state = state.as_ref()?;
            Some((users[*place].clone(), Arc::clone(state)))
        });
        let states = states.collect();
        let users = announced.iter().map(|(place, _)| users[*place].clone());
        Ok(Announced {
            at,
            users: users.collect(),
            states,
        })
    }

    /// The announced users of one portion, as of one position.
    async fn announced_in(
        &self,
        portion: &Portion,
        users: &[UserId],
    ) -> Result<((Partition, Epoch, Position), AnnouncedPlaces), StoreError> {
        let keys = self.layout.keys(portion.partition);
        let route = self.lanes.to(keys.partition);
        if portion.places.len() <= MOST_KEYS {
            let read = self.announced_of(keys, &portion.places, users);
            let answer = route.script(&read).await?;
            let (epoch, position, found) = replies::announced(answer, &portion.places)?;
            return Ok(((keys.partition, epoch, position), found));
        }
        let mut reads = redis::pipe();
        for places in portion.places.chunks(MOST_KEYS) {
            reads.invoke_script(&self.announced_of(keys, places, users));
        }
        // No event comes between the reads of one transaction.
        let reads = route.transaction(reads.atomic(), Some(&self.scripts.announced));
        let (mut at, mut announced) = ((Epoch(0), Position::START), Vec::new());
        for (answer, places) in reads
            .await?
            .into_iter()
            .zip(portion.places.chunks(MOST_KEYS))
        {
            let answer = FromRedisValue::from_redis_value(answer).map_err(replies::unexpected)?;
            let (epoch, position, found) = replies::announced(answer, places)?;
            at = (epoch, position);
            announced.extend(found);
        }
        Ok(((keys.partition, at.0, at.1), announced))
    }

    /// An invocation of `announced.lua` for the users at `places`.
    pub(in crate::store::redis) fn announced_of(
        &self,
        keys: &Keys,
        places: &[usize],
        users: &[UserId],
    ) -> ScriptInvocation<'_> {
        let mut read = self.announcing(&self.scripts.announced, keys);
        read.key(&keys.states).key(&keys.absent);
        for place in places {
            read.arg(users[*place].as_str());
        }
        read
    }
}
