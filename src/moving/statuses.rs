//! Copies the statuses of users, which no ping repeats.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::model::{LastingStatus, Partition, UserId};
use crate::store::{Store, StoreError};

/// How many users are copied at the same time.
const AT_ONCE: usize = 16;

/// Maximum number of attempts to copy a status, which may change meanwhile.
const ATTEMPTS: usize = 10;

/// How much the end of a status may differ between the stores, whose clocks differ.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Gives each user the status in `next` that it has in `former`, or none.
///
/// A call that sets a status meanwhile writes to `former` and then to `next`. So a read of `former` after the write to
/// `next` shows whether such a call came between.
pub(super) async fn copy(former: &Store, next: &Store) -> Result<(), StoreError> {
    // A status that only `next` has was deleted while writes did not reach it.
    for listed in [former, next] {
        for partition in listed.partitions().all() {
            copy_partition(listed, partition, former, next).await?;
        }
    }
    Ok(())
}

async fn copy_partition(
    listed: &Store,
    partition: Partition,
    former: &Store,
    next: &Store,
) -> Result<(), StoreError> {
    let mut place = Some(0);
    while let Some(at) = place {
        let (users, following) = listed.users_with_status(partition, at).await?;
        for part in users.chunks(AT_ONCE) {
            try_join_all(part.iter().map(|user| copy_one(user, former, next))).await?;
        }
        place = following;
    }
    Ok(())
}

async fn copy_one(user: &UserId, former: &Store, next: &Store) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let wanted = former.user(user).await?.status;
        let lasts = remaining(wanted.as_ref(), former, user);
        let found = next.user(user).await?.status;
        if is_same(
            wanted.as_ref(),
            lasts,
            found.as_ref(),
            remaining(found.as_ref(), next, user),
        ) {
            return Ok(());
        }
        let status = wanted.map(|wanted| wanted.status);
        next.set_status(user, status.as_ref(), lasts).await?;
    }
    Err(StoreError::Failed("a status changes too often".to_owned()))
}

/// How long a status lasts by the clock of its store.
fn remaining(status: Option<&LastingStatus>, store: &Store, user: &UserId) -> Option<Duration> {
    let now = store.now(store.partitions().of(user));
    let ends_at = status?.ends_at?;
    Some(ends_at.since(now).max(Duration::from_millis(1)))
}

fn is_same(
    wanted: Option<&LastingStatus>,
    lasts: Option<Duration>,
    found: Option<&LastingStatus>,
    found_lasts: Option<Duration>,
) -> bool {
    let lasts_as_long = match (lasts, found_lasts) {
        (Some(one), Some(other)) => one.abs_diff(other) <= TOLERANCE,
        (one, other) => one == other,
    };
    wanted.map(|each| &each.status) == found.map(|each| &each.status) && lasts_as_long
}
