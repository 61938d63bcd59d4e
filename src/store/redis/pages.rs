//! Pages of the announced users and of the online users.

use redis::Value;

use super::replies::{scored, user_ids};
use super::store::RedisStore;
use crate::model::{Page, PageCursor, PartPage, Partition, ScanPlace, UserId};
use crate::store::error::StoreError;

/// The maximum size of a deadline index that is read whole for each page.
const SMALL_INDEX: usize = 1_000;

/// The maximum number of `ZSCAN` calls for a page. Each returns about as many users as requested, so a page is full
/// after a few, unless the index has many gaps.
const PAGE_STEPS: usize = 32;

impl RedisStore {
    /// A page of the announced users, without the users that are not online any more.
    pub(in crate::store) async fn online_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.with_deadline(Partition::FIRST, async {
            let page = self.page(cursor, limit).await?;
            let online = self.are_online(&page.users).await?;
            Ok(page.only(online))
        })
        .await
    }

    /// A page of the announced users.
    ///
    /// A small index is read whole and paged in the order of the ids. A large one is iterated with `ZSCAN`, which returns
    /// every member that stays, in batches of about `limit`. Users that do not fit into the page are in the cursor.
    pub(in crate::store) async fn announced_page(
        &self,
        cursor: &PageCursor,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.with_deadline(Partition::FIRST, self.page(cursor, limit))
            .await
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
        let (next, users) = self
            .with_deadline(partition, self.scan(partition, cursor, limit))
            .await?;
        Ok(PartPage {
            users,
            next: next.map(ScanPlace::Cursor),
        })
    }

    async fn page(&self, cursor: &PageCursor, limit: usize) -> Result<Page, StoreError> {
        let (carried, place, beyond) = match cursor {
            PageCursor::Scan {
                partition: _,
                carried,
                place,
                beyond,
            } => (carried.clone(), *place, beyond),
            PageCursor::After(after) => match self.small_index().await? {
                Some(users) => return Ok(page_by_id(users, after.as_ref(), limit)),
                None => (Vec::new(), Some(0), after),
            },
        };
        self.page_by_scan(carried, place, beyond.as_ref(), limit)
            .await
    }

    /// All users of the index; `None` if the index is large.
    async fn small_index(&self) -> Result<Option<Vec<UserId>>, StoreError> {
        let mut zrange = redis::cmd("ZRANGE");
        // One more than a small index has, and the member '' that is no user.
        let keys = self.layout.keys(Partition::FIRST);
        zrange.arg(&keys.deadlines).arg(0).arg(SMALL_INDEX + 1);
        let users: Vec<Value> = self
            .lanes
            .to(Partition::FIRST)
            .query_idempotent(&zrange)
            .await?;
        let users = user_ids(users)?;
        Ok((users.len() <= SMALL_INDEX).then_some(users))
    }

    async fn page_by_scan(
        &self,
        mut users: Vec<UserId>,
        mut place: Option<u64>,
        beyond: Option<&UserId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        for _ in 0..PAGE_STEPS {
            let Some(cursor) = place.filter(|_| users.len() < limit) else {
                break;
            };
            let step = self.scan(Partition::FIRST, cursor, limit - users.len());
            let (next, found) = step.await?;
            users.extend(found);
            users.retain(|user| beyond.is_none_or(|beyond| user > beyond));
            users.sort_unstable();
            users.dedup();
            place = next;
        }
        let carried = users.split_off(limit.min(users.len()));
        let more = place.is_some() || !carried.is_empty();
        let next = more.then(|| PageCursor::Scan {
            partition: Partition::FIRST,
            carried,
            place,
            beyond: beyond.cloned(),
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
