//! The calls about groups.

use std::sync::Arc;

use futures_util::FutureExt;

use super::PresenceService;
use crate::model::{GroupCount, GroupId, GroupPage, GroupWritten, UserId};
use crate::store::{Members, Store, StoreError};

/// How many members one step of a page or a count looks up.
const LOOKED_UP: usize = 1_000;

impl PresenceService {
    /// Makes `members` the stored members of a group. No user may be repeated.
    pub(crate) async fn replace_group(
        &self,
        group: &GroupId,
        members: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        let Some(other) = &self.other else {
            let call = self.store.replace_group(group, members);
            return self.timed("replace_group", call).await;
        };
        let members: Arc<[UserId]> = members.into();
        let call = |store: Arc<Store>| {
            let (group, members) = (group.clone(), Arc::clone(&members));
            async move { store.replace_group(&group, &members).await }.boxed()
        };
        let call = other.one_after_the_other(&self.store, call);
        self.timed("replace_group", call).await
    }

    /// Adds and removes stored members of a group in one step. No user may be repeated, or be in both lists.
    pub(crate) async fn change_group(
        &self,
        group: &GroupId,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<GroupWritten, StoreError> {
        let Some(other) = &self.other else {
            let call = self.store.change_group(group, add, remove);
            return self.timed("change_group", call).await;
        };
        let [add, remove]: [Arc<[UserId]>; 2] = [add.into(), remove.into()];
        let call = |store: Arc<Store>| {
            let (group, add, remove) = (group.clone(), Arc::clone(&add), Arc::clone(&remove));
            async move { store.change_group(&group, &add, &remove).await }.boxed()
        };
        let call = other.one_after_the_other(&self.store, call);
        self.timed("change_group", call).await
    }

    /// Whether a user is a member of a group.
    pub(crate) async fn is_member(
        &self,
        group: &GroupId,
        user: &UserId,
    ) -> Result<bool, StoreError> {
        let call = self.store.is_member(group, user);
        self.timed("is_member", call).await
    }

    /// At most `limit` online members of a group, after the user `after`. An unknown group is empty.
    pub(crate) async fn group_page(
        &self,
        group: &GroupId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<GroupPage, StoreError> {
        let call = self.read_group_page(group, after, limit);
        self.timed("group_page", call).await
    }

    /// The number of members of a group, and how many of them are online.
    pub(crate) async fn count_group(&self, group: &GroupId) -> Result<GroupCount, StoreError> {
        self.timed("count_group", self.read_group_count(group))
            .await
    }

    async fn read_group_page(
        &self,
        group: &GroupId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<GroupPage, StoreError> {
        let members = self.store.group_members(group, Members::Now).await?;
        let first = members.partition_point(|user| after.is_some_and(|after| user <= after));
        let mut page = GroupPage {
            members: members.len(),
            online: Vec::new(),
            next: None,
        };
        for part in members[first..].chunks(LOOKED_UP) {
            let online = self.store.online_among(part).await?;
            let online = part.iter().zip(online);
            let online = online.filter_map(|(user, is_online)| is_online.then_some(user));
            for user in online {
                if page.online.len() == limit {
                    page.next = page.online.last().cloned();
                    return Ok(page);
                }
                page.online.push(user.clone());
            }
        }
        Ok(page)
    }

    async fn read_group_count(&self, group: &GroupId) -> Result<GroupCount, StoreError> {
        let members = self.store.group_members(group, Members::Now).await?;
        let mut count = GroupCount {
            members: members.len(),
            online: 0,
        };
        for part in members.chunks(LOOKED_UP) {
            let online = self.store.online_among(part).await?;
            count.online += online.into_iter().filter(|online| *online).count();
        }
        Ok(count)
    }
}
