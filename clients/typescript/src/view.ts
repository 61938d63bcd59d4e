import type { UserState, WatchList, Watched } from './types.js';
import { covers } from './watch-list.js';

/** One message of a stream, or one item of the events as JSON. */
export interface Item {
  id?: string;
  event: string;
  data: Partial<UserState> & {
    userId?: string;
    userIds?: string[];
    groupId?: string;
    online?: string[];
    states?: Record<string, Partial<UserState>>;
    reason?: string;
  };
}

/** What the messages about one watch list add up to. Only data, so that it can be sent to other tabs. */
export interface View {
  list: WatchList;
  /** Where a stream can resume. */
  cursor: string;
  online: Set<string>;
  states: Map<string, UserState>;
  /** The known members of each group, also those that are offline. */
  groups: Map<string, Set<string>>;
  /** The users whose groups are all known. */
  known: Set<string>;
  /** The users that are online and may be in any of the groups: `user.online` does not name the groups of its user. */
  unsure: Set<string>;
  /** Whether an unsure user has left a group, and may now be in none of the watched groups. */
  doubtful: boolean;
}

export const emptyView = (list: WatchList): View => ({
  list,
  cursor: '',
  online: new Set(),
  states: new Map(),
  groups: new Map(),
  known: new Set(),
  unsure: new Set(),
  doubtful: false,
});

/** The view of a list that names no user. It is complete without a stream. */
export const nobody = (): View => emptyView({ userIds: [] });

/** Applies one message. */
export const apply = (view: View, { id, event, data }: Item): void => {
  const { userId, groupId, online = [], userIds = online, states = {} } = data;
  const members = (groupId && view.groups.get(groupId)) || new Set();
  view.cursor = id || view.cursor;
  if (groupId) view.groups.set(groupId, members);
  for (const user of online) {
    // A user that was online in another watched group would have been announced before.
    if (!view.online.has(user)) view.known.add(user);
    view.online.add(user);
  }
  for (const user in states) setState(view, user, states[user]!);
  for (const user of userIds) event === 'group.left' ? leave(view, members, user) : members.add(user);
  if (event === 'user.offline') forget(view, userId!);
  else if (userId) {
    arrive(view, userId);
    setState(view, userId, data);
  }
};

const arrive = (view: View, user: string): void => {
  const { groups, known, unsure } = view;
  view.online.add(user);
  if (!groups.size || known.has(user)) return;
  if (groups.size > 1 || view.list.userIds?.includes(user)) unsure.add(user);
  else for (const group of groups.values()) group.add(user);
};

const leave = (view: View, group: Set<string>, user: string): void => {
  group.delete(user);
  if (view.list.userIds?.includes(user)) return;
  for (const other of view.groups.values()) if (other.has(user)) return;
  // No more events come about this user.
  if (view.unsure.has(user)) view.doubtful = true;
  else forget(view, user);
};

const forget = (view: View, user: string): void => {
  view.online.delete(user);
  view.unsure.delete(user);
  view.states.delete(user);
};

const setState = (view: View, user: string, { away = false, status = null, data = null }: Partial<UserState>): void => {
  if (away || status) view.states.set(user, { away, status, data });
  else view.states.delete(user);
};

/** The part of a view that a watch list names. */
export const select = (view: View, list: WatchList): Pick<Watched, 'online' | 'states'> => {
  const online = new Set<string>();
  const states = new Map<string, UserState>();
  const take = (users: Iterable<string> = []) => {
    for (const user of users) {
      if (!view.online.has(user)) continue;
      online.add(user);
      const state = view.states.get(user);
      if (state) states.set(user, state);
    }
  };
  if (covers(list, view.list)) take(view.online);
  else {
    take(list.userIds);
    for (const groupId of list.groupIds ?? []) take(view.groups.get(groupId));
  }
  return { online, states };
};

/** Whether a new snapshot must tell which of the lists name a user. */
export const isAmbiguous = (view: View, lists: Iterable<WatchList>): boolean => {
  if (view.unsure.size) for (const list of lists) if (list.groupIds?.length && !covers(list, view.list)) return true;
  return view.doubtful;
};
