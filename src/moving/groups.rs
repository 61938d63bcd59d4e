//! Copies the stored members of groups, which no ping repeats.

use std::collections::HashSet;

use crate::model::GroupId;
use crate::store::{NodeId, Store, StoreError};

/// Maximum number of attempts to copy a group, whose members may change meanwhile.
const ATTEMPTS: usize = 10;

/// Gives each group the stored members in `next` that it has in `former`, or none.
///
/// A call that writes a group meanwhile writes to `former` and then to `next`. So a read of `former` after the write to
/// `next` shows whether such a call came between.
pub(super) async fn copy(former: &Store, next: &Store) -> Result<(), StoreError> {
    // A group that only `next` has was deleted while writes did not reach it.
    for listed in [former, next] {
        let nodes = listed.nodes().borrow().clone();
        let served = || nodes.iter().map(|node| listed.partitions_on(*node));
        let before: Vec<_> = served().collect();
        for node in nodes.iter() {
            copy_all_on(*node, listed, former, next).await?;
        }
        if !served().eq(before) || **listed.nodes().borrow() != *nodes {
            let why = "partitions moved to another server meanwhile";
            return Err(StoreError::Unreachable(why.to_owned()));
        }
    }
    Ok(())
}

async fn copy_all_on(
    node: NodeId,
    listed: &Store,
    former: &Store,
    next: &Store,
) -> Result<(), StoreError> {
    let mut place = Some(0);
    while let Some(at) = place {
        let (groups, following) = listed.stored_groups(node, at).await?;
        let groups: HashSet<GroupId> = groups.into_iter().collect();
        for group in groups {
            copy_one(&group, former, next).await?;
        }
        place = following;
    }
    Ok(())
}

async fn copy_one(group: &GroupId, former: &Store, next: &Store) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let wanted = former.stored_members(group).await?;
        if next.stored_members(group).await? == wanted {
            return Ok(());
        }
        next.replace_group(group, &wanted).await?;
    }
    Err(StoreError::Failed("a group changes too often".to_owned()))
}
