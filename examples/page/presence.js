// Keeps the user of a page online, and shows the page which users are online. Has no dependencies: copy it.

/** Up to a tenth sooner, so that pages that were opened together do not call together. */
const jitter = (ms) => ms * (0.9 + 0.1 * Math.random());

/** One second, doubled with each failure, at most half a minute. */
const backOff = (failures) => Math.min(30_000, 500 * 2 ** failures);

/**
 * Connects, then pings until the page closes or the returned function is called, which signs out.
 *
 * `getToken` returns a promise of a token for `userId`. It is called again when the token is refused.
 */
export function stayOnline({ service, userId, getToken, onState = () => {} }) {
  let connectionId, token, timer, next, failures, stopped;

  const call = async (verb, body = { connectionId }) => {
    token ??= await getToken();
    return fetch(`${service}/v1/users/${encodeURIComponent(userId)}/${verb}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}` },
      body: JSON.stringify(body),
      keepalive: verb === 'disconnect', // The browser sends it although the page closes.
      signal: AbortSignal.timeout(10_000),
    });
  };

  /** Makes the next call, and returns the time until the one after it; `null` when there is none. */
  const step = async () => {
    const response = await call(next);
    const answer = await response.json();
    if (response.ok) {
      [next, failures] = ['ping', 0];
      onState('online');
      return answer.pingIntervalMs;
    }
    onState(answer.type);
    if (answer.type === 'urn:presence:problem:connection-closed') {
      next = 'connect'; // A ping came after a disconnect, but this page is still open.
      return 0;
    }
    if (response.status === 401) token = undefined;
    if (response.status === 400 || response.status === 403) return null; // A mistake in the program.
    const retryAfter = Number(response.headers.get('Retry-After')) * 1000;
    return Math.max(retryAfter, backOff(++failures));
  };

  const run = async (id) => {
    clearTimeout(timer);
    let wait = null;
    try {
      wait = await step();
    } catch {
      onState('unreachable');
      wait = backOff(++failures);
    }
    if (stopped || id !== connectionId || wait === null) return;
    clearTimeout(timer);
    timer = setTimeout(run, jitter(wait), id);
  };

  const start = () => {
    // A new id for each page load: never from localStorage or sessionStorage.
    [connectionId, next, failures, stopped] = [crypto.randomUUID(), 'connect', 0, false];
    run(connectionId);
  };

  const stop = () => {
    clearTimeout(timer);
    stopped = true;
  };

  addEventListener('pagehide', () => {
    if (stopped) return;
    stop();
    call('disconnect').catch(() => {}); // If it fails, the user is offline when the TTL ends.
  });
  addEventListener('pageshow', (event) => event.persisted && start()); // Back from the cache of the browser.
  document.addEventListener('visibilitychange', () => !document.hidden && !stopped && run(connectionId));
  addEventListener('online', () => !stopped && run(connectionId));
  start();

  return () => {
    stop();
    return call('disconnect', { all: true });
  };
}

/**
 * Watches `userIds`. `onUsers` gets the set of the users that are online, after each change; `onStale` is called while
 * the set may be out of date. Returns a function that ends the stream.
 */
export function watch({ service, userIds, getToken, onUsers, onStale = () => {} }) {
  const users = new Set();
  let source, cursor, timer, failures = 0, ready = false, stopped = false;

  const show = () => ready && onUsers(new Set(users));
  const stale = () => {
    ready = false;
    onStale();
  };

  const handlers = {
    'presence.snapshot': ({ online }) => online.forEach((user) => users.add(user)),
    'presence.ready': () => {
      [ready, failures] = [true, 0];
      show();
    },
    'presence.reset': () => {
      users.clear(); // A snapshot follows, and presence.ready.
      stale();
    },
    'presence.end': ({ reason }) => {
      // The browser would come back with the same token.
      if (reason === 'token-expired') reopen(0);
    },
    'user.online': ({ userId }) => {
      users.add(userId);
      show();
    },
    'user.offline': ({ userId }) => {
      users.delete(userId);
      show();
    },
  };

  const open = async () => {
    try {
      const query = new URLSearchParams({ snapshot: true, access_token: await getToken() });
      if (userIds) query.set('userIds', userIds.join(','));
      if (cursor) query.set('lastEventId', cursor);
      if (stopped) return;
      source = new EventSource(`${service}/v1/events?${query}`);
    } catch {
      reopen(backOff(++failures)); // No token.
      return;
    }
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, ({ data, lastEventId }) => {
        cursor = lastEventId || cursor;
        handle(JSON.parse(data));
      });
    }
    source.onerror = () => {
      stale();
      // CONNECTING: the browser comes back by itself. CLOSED: it has given up, and reports no reason.
      if (source.readyState === EventSource.CLOSED) reopen(backOff(++failures));
    };
  };

  const reopen = (wait) => {
    source?.close();
    stale();
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(open, jitter(wait));
  };

  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    source?.close();
  };
}

/** Does the same with one stream for all pages of this origin in this browser. All pages must watch the same users. */
export function watchTogether({ onUsers, onStale = () => {}, ...options }) {
  const channel = new BroadcastChannel('presence');
  let latest; // What the page with the stream showed last.
  const tell = (message) => {
    latest = message;
    channel.postMessage(message);
    show(message);
  };
  const show = (message) => (message.users ? onUsers(new Set(message.users)) : onStale());

  channel.onmessage = ({ data }) => {
    if (!data.hello) show(data);
    else if (latest) channel.postMessage(latest);
  };
  channel.postMessage({ hello: true });
  // One page at a time has the lock; when it closes, the browser gives the lock to another page.
  navigator.locks.request('presence', () => {
    watch({
      ...options,
      onUsers: (users) => tell({ users: [...users] }),
      onStale: () => tell({ stale: true }),
    });
    return new Promise(() => {});
  });
}
