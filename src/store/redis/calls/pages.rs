//! Pages of the announced users and of the online users.

use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use crate::model::{Page, PageCursor, PartPage, Partition, PartitionSet, ScanPlace, UserId};
use crate::store::error::StoreError;
use crate::store::redis::format::replies::{scored, unexpected, user_ids};
use crate::store::redis::store::RedisStore;

/// The maximum size of the deadline indexes, together, that are read whole for each page.
const SMALL_INDEX: usize = 1_000;

/// The maximum number of `ZSCAN` calls for a page. Each returns about as many users as requested, so a page is full
/// after a few, unless the index has many gaps.
const PAGE_STEPS: usize = 32;

/// The state of an iteration over all users.
struct Scan {
    /// The users of the next page.
    users: Vec<UserId>,
    /// The partition and the cursor of its iteration; `None` at the end.
    place: Option<(Partition, u64)>,
    /// Only users after this one are wanted.
    beyond: Option<UserId>,
}

impl RedisStore {
    /// A page of the announced users, without the users that are not online any more.
    pub(in crate::store) async fn online_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.with_deadline_over(PartitionSet::all(self.partitions()), async {
            let page = self.page(cursor, limit).await?;
            let online = self.are_online(&page.users).await?;
            Ok(page.only(online))
        })
        .await
    }

    /// A page of the announced users.
    ///
    /// Small indexes are read whole and paged in the order of the ids. Large indexes are iterated with `ZSCAN`, one
    /// after another. It returns every member that stays, in batches of about `limit`. Users that do not fit into the
    /// page are in the cursor.
    pub(in crate::store) async fn announced_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let all = PartitionSet::all(self.partitions());
        self.with_deadline_over(all, self.page(cursor, limit)).await
    }

    /// A part of the announced users of a partition: one step of the iteration.
    pub(in crate::store) async fn page_of(
        &self,
        partition: Partition,
        place: &ScanPlace,
        limit: usize,
    ) -> Result<PartPage, StoreError> {
        let cursor = match place {
            ScanPlace::Cursor(cursor) => *cursor,
            ScanPlace::Start | ScanPlace::After(_) => 0,
        };
        let read = async {
            let (next, users) = self.scan(partition, cursor, limit).await?;
            // A state that changes in between has an event.
            let ids = users.iter().map(UserId::as_str).collect();
            let states = self.states_of(partition, ids).await?;
            Ok((next, users, states))
        };
        let (next, users, states) = self.with_deadline(partition, read).await?;
        let states = users.iter().zip(states);
        let states = states.filter_map(|(user, state)| Some((user.clone(), state?)));
        Ok(PartPage {
            states: states.collect(),
            users,
            next: next.map(ScanPlace::Cursor),
        })
    }

    async fn page(&self, cursor: &PageCursor, limit: usize) -> Result<Page, StoreError> {
        let scan = match cursor {
            PageCursor::Scan {
                partition,
                carried,
                place,
                beyond,
            } => Scan {
                users: carried.clone(),
                place: place.map(|place| (*partition, place)),
                beyond: beyond.clone(),
            },
            PageCursor::After(after) => match self.small_index().await? {
                Some(users) => return Ok(page_by_id(users, after.as_ref(), limit)),
                None => Scan {
                    users: Vec::new(),
                    place: Some((Partition::FIRST, 0)),
                    beyond: after.clone(),
                },
            },
        };
        self.page_by_scan(scan, limit).await
    }

    /// All users of the indexes; `None` if the indexes are large.
    async fn small_index(&self) -> Result<Option<Vec<UserId>>, StoreError> {
        let sizes = self.each_index("ZCARD", &[]).await?;
        let sizes = sizes.into_iter().map(i64::from_redis_value);
        let sizes: i64 = sizes.sum::<Result<_, _>>().map_err(unexpected)?;
        // Each index has the member '' that is no user.
        if sizes > (SMALL_INDEX + self.partitions().count()) as i64 {
            return Ok(None);
        }
        let mut users = Vec::new();
        // An index may have grown since.
        for members in self.each_index("ZRANGE", &[0, SMALL_INDEX + 1]).await? {
            users.extend(user_ids(
                Vec::from_redis_value(members).map_err(unexpected)?,
            )?);
        }
        Ok((users.len() <= SMALL_INDEX).then_some(users))
    }

    /// The replies to a command about the index of each partition.
    async fn each_index(&self, name: &str, arguments: &[usize]) -> Result<Vec<Value>, StoreError> {
        let replies = self.partitions().all().map(|partition| async move {
            let mut command = redis::cmd(name);
            command
                .arg(&self.layout.keys(partition).deadlines)
                .arg(arguments);
            self.lanes.to(partition).query_idempotent(&command).await
        });
        try_join_all(replies).await
    }

    async fn page_by_scan(&self, scan: Scan, limit: usize) -> Result<Page, StoreError> {
        let Scan {
            mut users,
            mut place,
            beyond,
        } = scan;
        for _ in 0..PAGE_STEPS {
            let Some((partition, cursor)) = place.filter(|_| users.len() < limit) else {
                break;
            };
            let step = self.scan(partition, cursor, limit - users.len());
            let (next, found) = step.await?;
            users.extend(found);
            users.retain(|user| beyond.as_ref().is_none_or(|beyond| user > beyond));
            users.sort_unstable();
            users.dedup();
            place = match next {
                Some(next) => Some((partition, next)),
                None => {
                    let following = self.partitions().get(partition.index() + 1);
                    following.map(|partition| (partition, 0))
                }
            };
        }
        let carried = users.split_off(limit.min(users.len()));
        let more = place.is_some() || !carried.is_empty();
        let next = more.then(|| PageCursor::Scan {
            partition: place.map_or(Partition::FIRST, |(partition, _)| partition),
            carried,
            place: place.map(|(_, cursor)| cursor),
            beyond,
        });
        Ok(Page { users, next })
    }

    /// One step of the iteration over the announced users of a partition: the next cursor, unless the iteration has
    /// ended, and about `count` users.
    async fn scan(
        &self,
        partition: Partition,
        cursor: u64,
        count: usize,
    ) -> Result<(Option<u64>, Vec<UserId>), StoreError> {
        let mut zscan = redis::cmd("ZSCAN");
        zscan
            .arg(&self.layout.keys(partition).deadlines)
            .arg(cursor);
        zscan.arg("COUNT").arg(count);
        let (next, members): (u64, Vec<(String, f64)>) =
            self.lanes.to(partition).query_idempotent(&zscan).await?;
        let users = scored(members)?.into_iter().map(|(user, _)| user);
        Ok(((next != 0).then_some(next), users.collect()))
    }
}

fn page_by_id(mut users: Vec<UserId>, after: Option<&UserId>, limit: usize) -> Page {
    users.retain(|user| after.is_none_or(|after| user > after));
    users.sort_unstable();
    let more = users.len() > limit;
    users.truncate(limit);
    let next = more.then(|| PageCursor::After(users.last().cloned()));
    Page { users, next }
}
