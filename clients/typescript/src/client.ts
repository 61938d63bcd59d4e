import { createApi, failure, isFinal, pause, type Thrown } from './api.js';
import { createLeader, type Leader } from './leader.js';
import { createTabs, hasTabs, type Known, type Message, type Tabs, type Wishes } from './tabs.js';
import type { Presence, PresenceOptions, Problem, Status, Watched, WatchList } from './types.js';
import { apply, nobody, select } from './view.js';
import { covers } from './watch-list.js';

interface Watcher {
  list: WatchList;
  callback: (watched: Watched) => void;
  /** What the callback was told last. */
  told?: string;
}

/** Makes a client. It does nothing until `connect` or `watch` is called. */
export const createPresence = (options: PresenceOptions): Presence => {
  const { graceMs = 5_000, onProblem } = options;
  const api = createApi(options);
  const hasPage = typeof document === 'object';
  const known: Known = { view: nobody(), live: false };
  const watchers = new Set<Watcher>();
  const groups = new Set<{ groupId: string }>();
  let waiting: [resolve: () => void, reject: (error: Error) => void][] = [];
  let attempts = 0;
  let attempt = 0;
  let statusTurn = 0;
  let reported: string | undefined;
  let tabs: Tabs | undefined;
  let leader: Leader | undefined;
  /** Whether the page closes or is frozen. */
  let gone = false;
  let isDue = false;

  const wishes = (): Wishes => ({
    attempt,
    visible: !hasPage || !document.hidden,
    lists: [...watchers].map(({ list }) => list),
    groups: [...groups].map(({ groupId }) => groupId),
  });

  /** Joins or leaves the group of tabs, and calls the callbacks. Several changes in one task count as one. */
  const changed = () => {
    if (isDue) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      if (gone) return;
      if (!attempt && !watchers.size) leave(graceMs);
      else if (leader) leader.set(options, wishes());
      else if (tabs) tabs.ask();
      else enter();
    });
  };

  const enter = () => {
    if (hasTabs()) {
      const name = ['presence-client', VERSION, options.url, options.userId].join(' ');
      tabs = createTabs(name, { wishes, onLead: lead, onResign: () => resign(graceMs), onMessage, onWishes });
    } else lead();
  };

  const onWishes = (tab: string, wishes: Wishes | null) => leader!.set(tab, wishes);

  const lead = () => {
    known.live = false;
    leader = createLeader(options, api, known.view, (news, items) => {
      Object.assign(known, news);
      tabs?.tell(items ? { items } : { known });
      // The view of the stream is the view of this tab.
      onMessage({});
    });
    leader.set(options, wishes());
  };

  const resign = (graceMs?: number) => {
    leader?.close(graceMs);
    leader = undefined;
  };

  const leave = (graceMs?: number) => {
    resign(graceMs);
    tabs?.close();
    tabs = undefined;
    onMessage({ known: { live: false, connected: false } });
  };

  const onMessage = ({ known: news, items = [], over }: Message) => {
    Object.assign(known, news);
    for (const item of items) apply(known.view, item);
    if (over) stop();
    const { connected, refused } = known;
    const problem = refused ?? known.problem;
    if (connected || refused) settle(refused);
    if (problem && problem.detail !== reported) queueMicrotask(() => onProblem?.(problem));
    reported = problem?.detail;
    watchers.forEach(tell);
  };

  /** Ends the waiting calls of `connect`. */
  const settle = (refused?: Problem) => {
    for (const [resolve, reject] of waiting) refused ? reject(failure(refused)) : resolve();
    waiting = [];
  };

  /** Notes that this tab does not want the connection any more, and that it is closed. */
  const stop = () => {
    attempt = 0;
    void leader?.disconnect();
    settle();
    changed();
  };

  const tell = (watcher: Watcher) => {
    const { view, live, problem } = known;
    const { list, callback } = watcher;
    const watched: Watched = { ...select(view, list), live: live && covers(view.list, list), problem };
    const told = JSON.stringify([[...watched.online], [...watched.states], watched.live, problem]);
    if (told !== watcher.told) {
      watcher.told = told;
      // An error in the callback is no error of the stream.
      queueMicrotask(() => watchers.has(watcher) && callback(watched));
    }
  };

  const setStatus = async (status: Status | null, failures = 0, turn = ++statusTurn): Promise<void> => {
    try {
      await api.call('status', status, { method: status ? 'PUT' : 'DELETE' });
    } catch (thrown) {
      const error = thrown as Thrown;
      if (isFinal(error) || error.problem?.status === 401) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause(error, ++failures)));
      if (turn === statusTurn) await setStatus(status, failures, turn);
    }
  };

  if (hasPage) {
    const listen = (target: EventTarget, type: string, listener: (event: Event & { persisted?: boolean }) => void) =>
      target.addEventListener(type, listener);
    const hide = (graceMs?: number) => {
      gone = true;
      leave(graceMs);
    };
    const show = () => {
      gone = false;
      changed();
    };
    // No `beforeunload` and no `unload`: they would keep the page out of the back/forward cache.
    listen(document, 'visibilitychange', changed);
    listen(document, 'freeze', () => hide());
    listen(document, 'resume', show);
    listen(window, 'pagehide', () => hide(graceMs));
    listen(window, 'pageshow', ({ persisted }) => persisted && show());
    listen(window, 'online', () => leader?.retry());
  }

  return {
    connect: () =>
      new Promise((...ends) => {
        attempt = ++attempts;
        waiting.push(ends);
        known.refused = undefined;
        if (known.connected) settle();
        changed();
      }),
    async disconnect({ everywhere = false } = {}) {
      attempt = 0;
      if (everywhere) {
        tabs?.tell({ over: true });
        stop();
        await api.call('disconnect', { all: true });
      } else {
        leader?.set(options, wishes());
        settle();
        changed();
        await leader?.update();
      }
    },
    watch(list, callback) {
      const watcher = { list, callback };
      watchers.add(watcher);
      tell(watcher);
      changed();
      return () => {
        watchers.delete(watcher);
        changed();
      };
    },
    join(groupId) {
      const membership = { groupId };
      groups.add(membership);
      changed();
      return () => {
        groups.delete(membership);
        changed();
      };
    },
    setStatus: (status) => setStatus(status),
  };
};
