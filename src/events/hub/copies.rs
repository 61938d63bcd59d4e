//! The members of the groups that streams watch: one copy of each group, however many streams watch it.

use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::events::interest::AudienceId;
use crate::model::{GroupEvent, GroupId, UserId};

/// Members that one step adds to a copy, or removes with it.
const STEP: usize = 512;

/// The memory of a copy without members, as a number of members: the id, the sets, and the places in the maps.
const COPY_WEIGHT: usize = 3;

/// The number of a copy. A group that is watched again later has another copy.
pub(crate) type CopyId = u32;

/// The copies of all watched groups. A complete copy is as of the newest entry of the ring.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    by_group: HashMap<GroupId, CopyId>,
    copies: HashMap<CopyId, Copy>,
    /// The inverse: the copies that have a user.
    by_member: HashMap<UserId, MemberOf, RandomState>,
    next: CopyId,
    /// Members of all copies.
    members: usize,
}

#[derive(Debug)]
struct Copy {
    group: GroupId,
    members: HashSet<UserId, RandomState>,
    watchers: BTreeSet<AudienceId>,
    /// How many streams that are opening need the copy.
    pins: usize,
    /// While the members are read from the store: the users that joined or left since the reading began. What was read
    /// of them may be older.
    changed: Option<HashSet<UserId, RandomState>>,
    /// How often the members had to be read again.
    version: u32,
}

/// The copies that have one user. Most users are in one watched group.
#[derive(Debug)]
enum MemberOf {
    One(CopyId),
    Several(BTreeSet<CopyId>),
}

/// A copy whose members must be read from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete {
    copy: CopyId,
    version: u32,
}

/// A copy that no stream watches any more. Its members are still being removed.
#[derive(Debug)]
pub(crate) struct RemovedCopy {
    id: CopyId,
    members: Vec<UserId>,
}

impl Copies {
    /// Pins the copy of a group, which may be new and incomplete.
    pub(crate) fn pin(&mut self, group: &GroupId) -> CopyId {
        let id = match self.by_group.get(group) {
            Some(id) => *id,
            None => {
                let id = self.next;
                self.next = self.next.wrapping_add(1);
                self.by_group.insert(group.clone(), id);
                id
            }
        };
        let copy = self.copies.entry(id).or_insert_with(|| Copy {
            group: group.clone(),
            members: HashSet::default(),
            watchers: BTreeSet::new(),
            pins: 0,
            changed: Some(HashSet::default()),
            version: 0,
        });
        copy.pins += 1;
        id
    }

    /// The copy of a watched group, if its members must be read from the store.
    pub(crate) fn incomplete(&self, group: &GroupId) -> Option<Incomplete> {
        let id = *self.by_group.get(group)?;
        let copy = self.copies.get(&id)?;
        copy.changed.is_some().then_some(Incomplete {
            copy: id,
            version: copy.version,
        })
    }

    /// Makes the copies of some groups incomplete, because events about them were lost.
    pub(crate) fn invalidate(&mut self, is_lost: impl Fn(&GroupId) -> bool) {
        for copy in self.copies.values_mut() {
            if is_lost(&copy.group) {
                copy.version += 1;
                copy.changed = Some(HashSet::default());
            }
        }
    }

    /// Releases a pin. Returns the copy if no stream needs it any more.
    pub(crate) fn unpin(&mut self, id: CopyId) -> Option<RemovedCopy> {
        self.copies.get_mut(&id)?.pins -= 1;
        self.remove_if_unused(id)
    }

    /// Begins to fill a copy with the members that were read from the store: removes all others. Returns false if the
    /// members must be read again.
    pub(crate) fn begin_fill(
        &mut self,
        incomplete: Incomplete,
        read: &HashSet<UserId, RandomState>,
    ) -> bool {
        let Incomplete { copy: id, version } = incomplete;
        let copy = self
            .copies
            .get_mut(&id)
            .filter(|copy| copy.version == version);
        let Some((copy, changed)) = copy.and_then(|copy| {
            let Copy {
                members, changed, ..
            } = copy;
            Some((members, changed.as_ref()?))
        }) else {
            return false;
        };
        let others = copy.extract_if(|user| !read.contains(user) && !changed.contains(user));
        for user in others.collect::<Vec<_>>() {
            self.members -= 1;
            MemberOf::remove(&mut self.by_member, &user, id);
        }
        true
    }

    /// Adds some of the members that were read from the store, and takes them from `members`. Returns false once all of
    /// them are added; the copy is complete then.
    pub(crate) fn fill_some(&mut self, incomplete: Incomplete, members: &mut Vec<UserId>) -> bool {
        let Incomplete { copy: id, version } = incomplete;
        let copy = self
            .copies
            .get_mut(&id)
            .filter(|copy| copy.version == version);
        let Some(copy) = copy else {
            return false;
        };
        let Some(changed) = &copy.changed else {
            return false;
        };
        let first = members.len().saturating_sub(STEP);
        let step = members.split_off(first);
        for user in step.into_iter().filter(|user| !changed.contains(user)) {
            if copy.members.insert(user.clone()) {
                self.members += 1;
                MemberOf::add(&mut self.by_member, user, id);
            }
        }
        if members.is_empty() {
            copy.changed = None;
        }
        !members.is_empty()
    }

    /// Applies an entry of the history.
    pub(crate) fn apply(&mut self, event: &GroupEvent) {
        let Some(id) = self.by_group.get(&event.group).copied() else {
            return;
        };
        let Some(copy) = self.copies.get_mut(&id) else {
            return;
        };
        for user in event.users() {
            if let Some(changed) = &mut copy.changed {
                changed.insert(user.clone());
            }
            if event.has_joined() && copy.members.insert(user.clone()) {
                self.members += 1;
                MemberOf::add(&mut self.by_member, user.clone(), id);
            } else if !event.has_joined() && copy.members.remove(user) {
                self.members -= 1;
                MemberOf::remove(&mut self.by_member, user, id);
            }
        }
    }

    /// Adds an audience to the watchers of a group whose copy is pinned.
    pub(crate) fn watch(&mut self, group: &GroupId, audience: AudienceId) {
        if let Some(copy) = self.by_group.get(group)
            && let Some(copy) = self.copies.get_mut(copy)
        {
            copy.watchers.insert(audience);
        }
    }

    /// Removes an audience from the watchers of a group. Returns the copy if no stream needs it any more.
    pub(crate) fn unwatch(&mut self, group: &GroupId, audience: AudienceId) -> Option<RemovedCopy> {
        let id = self.by_group.get(group).copied()?;
        self.copies.get_mut(&id)?.watchers.remove(&audience);
        self.remove_if_unused(id)
    }

    /// Removes the next members of a removed copy. Returns false once all are removed.
    pub(crate) fn remove_some(&mut self, removed: &mut RemovedCopy) -> bool {
        let first = removed.members.len().saturating_sub(STEP);
        for user in removed.members.split_off(first) {
            self.members -= 1;
            MemberOf::remove(&mut self.by_member, &user, removed.id);
        }
        !removed.members.is_empty()
    }

    /// The memory of all copies, as a number of members.
    pub(crate) fn weight(&self) -> usize {
        self.members + COPY_WEIGHT * self.copies.len()
    }

    /// Whether streams watch a group.
    pub(crate) fn is_watched(&self, group: &GroupId) -> bool {
        self.by_group.contains_key(group)
    }

    /// Those of the groups of which a user is a member. `among` is sorted, and its groups are watched.
    pub(crate) fn groups_of(&self, user: &UserId, among: &[GroupId]) -> Vec<GroupId> {
        let is_member = |group: &&GroupId| {
            let members = self.members(group);
            members.is_some_and(|members| members.contains(user))
        };
        let (one, several) = match self.by_member.get(user) {
            None => return Vec::new(),
            Some(MemberOf::One(id)) => (Some(id), None),
            Some(MemberOf::Several(ids)) if ids.len() > among.len() => {
                return among.iter().filter(is_member).cloned().collect();
            }
            Some(MemberOf::Several(ids)) => (None, Some(ids)),
        };
        let ids = one.into_iter().chain(several.into_iter().flatten());
        let groups = ids.filter_map(|id| Some(&self.copies.get(id)?.group));
        let among = groups.filter(|group| among.binary_search(group).is_ok());
        among.cloned().collect()
    }

    /// The members of a watched group.
    pub(crate) fn members(&self, group: &GroupId) -> Option<&HashSet<UserId, RandomState>> {
        let copy = self.copies.get(self.by_group.get(group)?)?;
        Some(&copy.members)
    }

    /// The audiences that watch a group, in order.
    pub(crate) fn watchers(&self, group: &GroupId) -> impl Iterator<Item = AudienceId> {
        let copy = self.by_group.get(group).and_then(|id| self.copies.get(id));
        copy.into_iter()
            .flat_map(|copy| copy.watchers.iter().copied())
    }

    /// The audiences that watch a group of this user. An audience may be repeated.
    pub(crate) fn watchers_of_member(&self, user: &UserId) -> impl Iterator<Item = AudienceId> {
        let (one, several) = match self.by_member.get(user) {
            Some(MemberOf::One(id)) => (Some(id), None),
            Some(MemberOf::Several(ids)) => (None, Some(ids)),
            None => (None, None),
        };
        let ids = one.into_iter().chain(several.into_iter().flatten());
        let copies = ids.filter_map(|id| self.copies.get(id));
        copies.flat_map(|copy| copy.watchers.iter().copied())
    }

    fn remove_if_unused(&mut self, id: CopyId) -> Option<RemovedCopy> {
        let copy = self.copies.get(&id)?;
        if copy.pins > 0 || !copy.watchers.is_empty() {
            return None;
        }
        let copy = self.copies.remove(&id)?;
        self.by_group.remove(&copy.group);
        let members = copy.members.into_iter().collect();
        Some(RemovedCopy { id, members })
    }
}

impl MemberOf {
    fn add(by_member: &mut HashMap<UserId, Self, RandomState>, user: UserId, id: CopyId) {
        match by_member.get_mut(&user) {
            None => drop(by_member.insert(user, Self::One(id))),
            Some(Self::Several(ids)) => drop(ids.insert(id)),
            Some(one) => {
                if let Self::One(other) = *one {
                    *one = Self::Several(BTreeSet::from([other, id]));
                }
            }
        }
    }

    fn remove(by_member: &mut HashMap<UserId, Self, RandomState>, user: &UserId, id: CopyId) {
        let is_last = match by_member.get_mut(user) {
            Some(Self::One(one)) => *one == id,
            Some(Self::Several(ids)) => {
                ids.remove(&id);
                ids.is_empty()
            }
            None => false,
        };
        if is_last {
            by_member.remove(user);
        }
    }
}
