//! The lookups, pages and reads of the history.

use super::MemoryStore;
use super::connection::Connection;
use crate::model::{
    Announced, History, Page, PageCursor, PartPage, Partition, Position, ScanPlace, UserId,
    UserState,
};

impl MemoryStore {
    pub(in crate::store) fn user(&self, user: &UserId) -> UserState {
        let state = self.state.lock();
        let now = self.now();
        let Some(presence) = state.announced.get(user) else {
            return UserState {
                last_seen_at: state.last_seen.of(user, now, self.lifetimes.last_seen),
                status: state.statuses.current(user, now).cloned(),
                ..UserState::default()
            };
        };
        let alive = presence.connections.alive(now);
        let mut connections: Vec<_> = alive.map(Connection::state).collect();
        connections.sort();
        UserState {
            online: !connections.is_empty(),
            away: !connections.is_empty() && connections.iter().all(|each| each.away),
            status: state.statuses.current(user, now).cloned(),
            connections,
            last_seen_at: Some(presence.connections.last_seen()),
        }
    }

    pub(in crate::store) fn online_among(&self, users: &[UserId]) -> Vec<bool> {
        let state = self.state.lock();
        let now = self.now();
        let online = |user| state.announced.is_online(user, now);
        users.iter().map(online).collect()
    }

    pub(in crate::store) fn count(&self) -> u64 {
        let state = self.state.lock();
        state.announced.count_online(self.now()) as u64
    }

    pub(in crate::store) fn announced_page(&self, cursor: &PageCursor, limit: usize) -> Page {
        let state = self.state.lock();
        let after = match cursor {
            PageCursor::After(user) => user.as_ref(),
            PageCursor::Scan { .. } => None,
        };
        let (users, more) = state.announced.after(after, limit);
        let next = more.then(|| PageCursor::After(users.last().cloned()));
        Page { users, next }
    }

    pub(in crate::store) fn page_of(&self, place: &ScanPlace, limit: usize) -> PartPage {
        let state = self.state.lock();
        let after = match place {
            ScanPlace::After(user) => Some(user),
            ScanPlace::Start | ScanPlace::Cursor(_) => None,
        };
        let (users, more) = state.announced.after(after, limit);
        let last = users.last().filter(|_| more).cloned();
        PartPage {
            states: state.states_of(&users),
            users,
            next: last.map(ScanPlace::After),
        }
    }

    pub(in crate::store) fn online_page(&self, cursor: &PageCursor, limit: usize) -> Page {
        let page = self.announced_page(cursor, limit);
        let online = self.online_among(&page.users);
        page.only(online)
    }

    pub(in crate::store) fn announced_among(&self, users: &[UserId]) -> Announced {
        let state = self.state.lock();
        let announced = users
            .iter()
            .filter(|user| state.announced.get(user).is_some());
        let users: Vec<_> = announced.cloned().collect();
        Announced {
            at: vec![(Partition::FIRST, self.epoch, state.newest)],
            states: state.states_of(&users),
            users,
        }
    }

    pub(in crate::store) fn history(&self, position: Position, limit: usize) -> History {
        let state = self.state.lock();
        let events = state.events.after(position).take(limit);
        History {
            epoch: self.epoch,
            newest: state.newest,
            entries: events.cloned().collect(),
        }
    }

    pub(in crate::store) fn history_before(
        &self,
        before: Option<Position>,
        limit: usize,
    ) -> History {
        let state = self.state.lock();
        let events = state.events.before(before).take(limit);
        History {
            epoch: self.epoch,
            newest: state.newest,
            entries: events.cloned().collect(),
        }
    }
}
