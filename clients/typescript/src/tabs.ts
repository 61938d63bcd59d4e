import { createTimer } from './timing.js';
import type { Problem, WatchList } from './types.js';
import type { Item, View } from './view.js';

/** The time between two messages with which the tab that leads shows that it is there. */
const BEAT = 5_000;
/** After this silence, a visible tab takes the lead: the tab that leads may be frozen or slowed down. */
const SILENCE = 15_000;
/** After this silence since its question, a visible tab takes the lead. */
const NO_ANSWER = 3_000;

/** What one tab wants. */
export interface Wishes {
  /** Number of times that the tab has called `connect`. 0 if it does not want the connection. */
  attempt: number;
  visible: boolean;
  lists: WatchList[];
  groups: string[];
}

/** What the tab that leads knows. */
export interface Known {
  view: View;
  live: boolean;
  connected?: boolean;
  /** Why the service refuses the calls. */
  refused?: Problem | undefined;
  /** Why the service refuses the stream. */
  problem?: Problem | undefined;
}

export interface Message {
  /** From the tab that leads. */
  known?: Partial<Known>;
  /** From the tab that leads: these change `known`. */
  items?: Item[];
  /** From a tab that has just become the leader. */
  hello?: true;
  /** From a tab that does not lead. `null` if it closes. */
  wishes?: Wishes | null;
  /** From any tab: all tabs sign out. */
  over?: true;
}

/** Receives what other tabs say, and whether this tab leads. */
interface Listener {
  wishes: () => Wishes;
  onLead: () => void;
  onResign: () => void;
  onMessage: (message: Message) => void;
  onWishes: (tab: string, wishes: Wishes | null) => void;
}

export type Tabs = ReturnType<typeof createTabs>;

/** Whether this platform can elect a tab. Every browser with Web Locks has channels. */
export const hasTabs = (): boolean => typeof document === 'object' && !!navigator.locks;

/**
 * The tabs of one user in one browser. A Web Lock elects the tab that leads: it has the connection and the stream, and
 * shares what it knows over a BroadcastChannel.
 */
export const createTabs = (name: string, { wishes, onLead, onResign, onMessage, onWishes }: Listener) => {
  const id = Math.random();
  const channel = new BroadcastChannel(name);
  const silence = createTimer();
  let beat: ReturnType<typeof setInterval>;
  let queue: AbortController;
  let leads = false;
  let leader: number | undefined;
  let closed = false;
  let release = () => {};

  const tell = (message: Message) => {
    if (!closed) channel.postMessage({ id, ...message });
  };

  /** Tells the tab that leads what this tab wants. */
  const ask = () => {
    tell({ wishes: wishes() });
    expect(NO_ANSWER);
  };

  /** Takes the lead after a silence. Hidden tabs may be slowed down themselves, and do not judge. */
  const expect = (ms: number) =>
    silence(ms, () => {
      if (document.hidden) return;
      queue.abort();
      stand({ steal: true });
    });

  const stand = (options?: LockOptions) => {
    queue = new AbortController();
    navigator.locks
      .request(name, options ?? { signal: queue.signal }, () => {
        if (closed) return;
        leads = true;
        silence();
        onLead();
        tell({ hello: true });
        beat = setInterval(tell, BEAT, {});
        return new Promise<void>((resolve) => (release = resolve));
      })
      .catch(() => {
        // Another tab has taken the lead, or this tab closes or takes it.
        if (!leads) return;
        resign();
        if (!closed) stand();
      });
  };

  const resign = () => {
    clearInterval(beat);
    if (leads) {
      leads = false;
      onResign();
    }
  };

  const close = () => {
    tell({ wishes: null });
    closed = true;
    silence();
    queue.abort();
    resign();
    release();
    channel.close();
  };

  channel.onmessage = ({ data }) => {
    if (data.over) onMessage(data);
    else if (leads) {
      if (data.wishes !== undefined) {
        onWishes(data.id, data.wishes);
        tell({});
      }
    } else if (data.wishes === undefined && (data.hello || (leader ??= data.id) === data.id)) {
      // A former leader may not know yet that it was replaced.
      leader = data.id;
      expect(SILENCE);
      onMessage(data);
      if (data.hello) ask();
    }
  };
  stand();
  ask();
  return { ask, tell, close };
};
