import type { Api } from './api.js';
import { createConnection, type Stated } from './connection.js';
import { createStream, type Stream } from './stream.js';
import type { Known, Wishes } from './tabs.js';
import { createTimer } from './timing.js';
import type { PresenceOptions, WatchList } from './types.js';
import { isAmbiguous, nobody, type Item, type View } from './view.js';
import { covers, union } from './watch-list.js';

/** Changes within this time are one change. */
const GATHER = 50;
/** More groups would be refused, and the user would be offline. */
const MOST_GROUPS = 10;
/** The least time until a new snapshot tells the groups of users that came online, and how much longer it can take. */
const ASK_AGAIN = 2_000;
const ASK_AGAIN_SPREAD = 8_000;

export type Leader = ReturnType<typeof createLeader>;

/**
 * What the tab that leads does for all tabs: the connection and the stream. Calls `onChange` with what has changed, or
 * with the items that were applied to the view. `inherited` is where the former leader stopped.
 */
export const createLeader = (
  options: PresenceOptions,
  api: Api,
  inherited: View,
  onChange: (known: Partial<Known>, items?: Item[]) => void,
) => {
  const { hiddenTtlMs = 150_000, awayAfterMs = 10_000, silenceMs = 40_000 } = options;
  const path = { silent: 0 };
  const tabs = new Map<unknown, Wishes>();
  const gather = createTimer();
  const away = createTimer();
  const again = createTimer();
  let lists: WatchList[] = [];
  /** The stream that is shown. */
  let current: Stream | undefined;
  /** A stream that replaces it when its snapshot is complete. */
  let next: Stream | undefined;
  /** What the last call stated, and what the last stream was asked for. */
  let stated = '';
  let asked = '';
  let hiddenSince = 0;
  let asksAgain = false;

  const id = options.connectionId ?? Math.random().toString(36).slice(2) + Date.now().toString(36);
  const connection = createConnection(api, id, (refused) => onChange({ connected: !refused, refused }));

  /** Does what the tabs want now. Resolves when the connection is closed, if no tab wants it. */
  const update = async (): Promise<void> => {
    const all = [...tabs.values()];
    const attempts = '' + all.map(({ attempt }) => attempt);
    lists = all.flatMap((tab) => tab.lists);
    away();
    updateStream(union(lists), attempts);
    if (/[1-9]/.test(attempts)) updateConnection(all, attempts);
    else await disconnect(0);
  };

  const updateLater = () => {
    update().catch(() => {});
  };

  const updateConnection = (all: Wishes[], attempts: string) => {
    const groups = new Set(all.flatMap((tab) => tab.groups));
    const now: Stated = groups.size ? { groups: [...groups].slice(0, MOST_GROUPS) } : {};
    hiddenSince = all.some(({ visible }) => visible) ? 0 : hiddenSince || Date.now();
    if (hiddenSince) {
      const wait = hiddenSince + awayAfterMs - Date.now();
      now.ttlMs = hiddenTtlMs;
      if (wait > 0) away(wait, updateLater);
      else now.away = true;
    }
    const text = attempts + JSON.stringify(now);
    if (text !== stated) connection.state(now);
    stated = text;
  };

  const updateStream = (list: WatchList | undefined, attempts: string) => {
    const newest = next ?? current;
    const text = attempts + JSON.stringify(list);
    if (!list) {
      close();
      if (text !== asked) onChange({ view: nobody(), live: true });
    } else if (!newest || (newest.refused ? text !== asked : !covers(newest.list, list))) {
      if (covers(inherited.list, list)) open(inherited.list, inherited);
      else open(list);
    }
    asked = text;
    inherited = nobody();
  };

  /** Opens another stream. The one that is shown stays until the other one has its snapshot. */
  const open = (list: WatchList, from?: View) => {
    again();
    asksAgain = false;
    next?.close();
    next = createStream(api, path, silenceMs, list, from, onStream);
    if (!current?.view || current.refused) show();
  };

  const show = () => {
    current?.close();
    current = next;
    next = undefined;
  };

  const onStream = (stream: Stream, items?: Item[]) => {
    const { view, live, refused: problem } = stream;
    if (stream === next && live) show();
    if (stream === current) onChange(items ? {} : view ? { view, live, problem } : { live, problem }, items);
    else if (problem) onChange({ problem });
    // A new snapshot tells which lists name the user.
    if (asksAgain || next || !view || !isAmbiguous(view, lists)) return;
    asksAgain = true;
    again(ASK_AGAIN + Math.random() * ASK_AGAIN_SPREAD, () => open(stream.list));
  };

  /** Ends the streams. */
  const close = () => {
    again();
    next?.close();
    next = undefined;
    show();
  };

  /** Ends the pings, and closes the connection after `graceMs`. Without it, the connection expires. */
  const disconnect = async (graceMs?: number) => {
    away();
    if (stated) onChange({ connected: false });
    stated = '';
    await connection.close(graceMs);
  };

  return {
    update,
    disconnect,
    /** A tab wants this; `null` if it closes. */
    set(tab: unknown, wishes: Wishes | null) {
      // A new tab knows nothing.
      if (!tabs.has(tab)) onChange({});
      if (wishes) tabs.set(tab, wishes);
      else tabs.delete(tab);
      gather(GATHER, updateLater);
    },
    /** The network may be another one: tries again at once. */
    retry() {
      stated = '';
      current?.retry();
      next?.retry();
      updateLater();
    },
    /** Ends everything. */
    close(graceMs?: number) {
      gather();
      close();
      disconnect(graceMs).catch(() => {});
    },
  };
};
