import { createContext, createElement, useContext, useMemo, useSyncExternalStore, type ReactNode } from 'react';
import type { Presence, UserState, Watched, WatchList } from './types.js';

const NOTHING: Watched = { online: new Set(), states: new Map(), live: false, problem: undefined };
const NO_STATE: UserState = { away: false, status: null, data: null };

const Context = createContext<Presence | undefined>(undefined);

/** Gives a client to the hooks below it. */
export const PresenceProvider = ({ client, children }: { client: Presence; children?: ReactNode }): ReactNode =>
  createElement(Context.Provider, { value: client }, children);

/** Watches users for as long as the component is shown. */
export const usePresence = ({ userIds, groupIds }: WatchList): Watched => {
  const client = useContext(Context);
  if (!client) throw new Error('usePresence needs a PresenceProvider');
  // The lists may be new arrays with the same ids.
  const key = JSON.stringify({ userIds, groupIds });
  const [subscribe, get] = useMemo(() => {
    let watched = NOTHING;
    const subscribe = (changed: () => void) =>
      client.watch(JSON.parse(key), (latest) => {
        watched = latest;
        changed();
      });
    return [subscribe, () => watched] as const;
  }, [client, key]);
  return useSyncExternalStore(subscribe, get, () => NOTHING);
};

/** Watches one user. */
export const useUser = (userId: string): UserState & { online: boolean; live: boolean } => {
  const { online, states, live } = usePresence({ userIds: [userId] });
  return { ...NO_STATE, ...states.get(userId), online: online.has(userId), live };
};
