/** How to reach the service, and for which user. Times are in milliseconds. */
export interface PresenceOptions {
  /** The address of the service, such as `https://presence.example.com`. */
  url: string;
  /** The user that this client keeps online. */
  userId: string;
  /** Returns a token for `userId`. Called again when a token was refused or has expired. Not needed in open mode. */
  token?: () => string | Promise<string>;
  /** Makes the requests. The `fetch` of the platform by default. */
  fetch?: typeof fetch;
  /** The id of the connection: 1 to 64 characters of `A-Z a-z 0-9 . _ ~ : @ -`. Random by default. Not for browsers. */
  connectionId?: string;
  /** How long a hidden page may be silent: 1,000 to the `PRESENCE_TTL_MAX` of the service. 150,000 by default. */
  hiddenTtlMs?: number;
  /** How long all tabs are hidden before the user is away. 10,000 by default. */
  awayAfterMs?: number;
  /**
   * How long a page that closes may take to come back, so that a reload is no departure: 0 to 60,000. 5,000 by default.
   */
  graceMs?: number;
  /**
   * How long a stream may be silent before it counts as lost. 40,000 by default; the service writes at least every
   * 15,000.
   */
  silenceMs?: number;
  /** Called when the service refuses for good, so that retries stop: the token is for another user, for example. */
  onProblem?: (problem: Problem) => void;
}

/** Why the service refused: a problem document (RFC 9457). */
export interface Problem {
  /** The cause, such as `urn:presence:problem:not-allowed`. `about:blank` if the service did not state one. */
  type: string;
  /** The HTTP status. 0 if no response arrived. */
  status: number;
  /** An explanation for people. */
  detail: string;
}

/** A call that the service refused. */
export interface PresenceError extends Error {
  problem: Problem;
  /** The least time before another attempt. */
  retryAfterMs: number;
}

/** What one user states about itself, besides being online. */
export interface UserState {
  /** Whether every device of the user is away. */
  away: boolean;
  /** The word that the user has set, such as `dnd`. */
  status: string | null;
  /** What the application added to the status. */
  data: Record<string, unknown> | null;
}

/** The status that a user sets. */
export interface Status {
  /** 1 to 32 characters of `a-z 0-9 -`. The application defines the words. */
  status: string;
  /** An object of at most 1 KiB. */
  data?: Record<string, unknown>;
  /** 1,000 to 30 days. Until it is cleared by default. */
  ttlMs?: number;
}

/** Which users to watch. Without both lists: all users that the token may see. */
export interface WatchList {
  /** Users, at most 10,000 in one browser. An empty list means no user. */
  userIds?: readonly string[];
  /** Groups whose members are watched, at most 100 in one browser. */
  groupIds?: readonly string[];
}

/** What is known about the watched users. */
export interface Watched {
  /** The watched users that are online. A new set after each change. */
  readonly online: ReadonlySet<string>;
  /** The states of the users that are online and have one. */
  readonly states: ReadonlyMap<string, UserState>;
  /** Whether `online` is current. `false` while the connection is lost: show the users as they were. */
  readonly live: boolean;
  /** Why the service refuses to show these users, if it does. */
  readonly problem: Problem | undefined;
}

/** A client of one user. */
export interface Presence {
  /**
   * Brings the user online, and keeps the user online until `disconnect`. Resolves when the user is online; while the
   * service is unreachable, it waits. Rejects with a `PresenceError` if the service refuses for good.
   */
  connect(): Promise<void>;
  /**
   * Ends what `connect` began. The user goes offline unless another tab or device is connected. With `everywhere`, the
   * user signs out: all tabs and all devices are disconnected. Rejects with a `PresenceError` if the call failed; the
   * user is then offline when the TTL ends.
   */
  disconnect(options?: { everywhere?: boolean }): Promise<void>;
  /** Watches users, and calls `callback` after each change. Returns a function that ends it. */
  watch(list: WatchList, callback: (watched: Watched) => void): () => void;
  /**
   * Makes the user a member of a group for as long as this client is connected. Returns a function that leaves. All
   * tabs of a browser together join ten groups at most.
   */
  join(groupId: string): () => void;
  /** Sets the status of the user, or clears it with `null`. Rejects with a `PresenceError` if the service refuses. */
  setStatus(status: Status | null): Promise<void>;
}
