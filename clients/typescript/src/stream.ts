import { isFinal, pause, type Api, type Thrown } from './api.js';
import { createParser } from './sse.js';
import { createTimer, jitter } from './timing.js';
import type { Problem, WatchList } from './types.js';
import { apply, emptyView, type Item, type View } from './view.js';

/** How long a stream may take until its first byte, and a response longer than it waits for events. */
const OPENING = 10_000;
/** How long a read of events as JSON waits for an event. */
const WAIT = 20_000;
/** The least time between two reads of events as JSON. */
const BETWEEN_READS = 500;
/** How long events are read as JSON before a stream is tried again. */
const JSON_PERIOD = 1_200_000;

/** Whether streams pass: shared by all streams of a client, since they go through the same proxies. */
export interface Path {
  /** How many streams in a row brought nothing. From two on, events are read as JSON. */
  silent: number;
}

/** What follows the events about one watch list, across lost connections. */
export interface Stream {
  list: WatchList;
  /** What is known. `undefined` until the first snapshot is complete. */
  view: View | undefined;
  /** Whether the view is current. */
  live: boolean;
  /** Why there are no more attempts. */
  refused: Problem | undefined;
  /** Ends the pause before the next attempt. */
  retry: () => void;
  close: () => void;
}

/**
 * Follows the events about `list`, from where `view` ends or with a snapshot. Calls `onChange` with the items that were
 * applied to the view, or without items if something else has changed.
 */
export const createStream = (
  api: Api,
  path: Path,
  silenceMs: number,
  list: WatchList,
  view: View | undefined,
  onChange: (stream: Stream, items?: Item[]) => void,
): Stream => {
  const watchdog = createTimer();
  const pauseTimer = createTimer();
  /** A snapshot that is not complete. */
  let aside: View | undefined;
  let closed = false;
  let paused = false;
  let failures = 0;
  let abort: AbortController;

  const setLive = (live: boolean) => {
    if (stream.live !== live) {
      stream.live = live;
      onChange(stream);
    }
  };

  /** Aborts after a silence, and counts it. */
  const watch = (ms: number, silent: number) =>
    watchdog(ms, () => {
      path.silent += silent;
      abort.abort();
    });

  const open = (accept: string, query?: { waitMs: number }) => {
    const cursor = (aside ?? stream.view)?.cursor;
    const body = { ...list, snapshot: true, ...query };
    return api.request('events', body, { signal: abort.signal }, { accept, ...(cursor && { 'last-event-id': cursor }) });
  };

  /** Applies items, and returns the reason of `presence.end`. */
  const take = (items: Item[]): string | undefined => {
    let applied: Item[] = [];
    let reason: string | undefined;
    for (const item of items) {
      // The last part of `presence.…`.
      const kind = item.event.slice(9);
      if (kind === 'end') reason = item.data.reason;
      else if (kind === 'reset') {
        aside = emptyView(list);
        setLive(false);
      } else {
        apply(aside ?? stream.view!, item);
        if (!aside) applied.push(item);
        else if (kind === 'ready') {
          stream.view = aside;
          aside = undefined;
          stream.live = false;
        }
        if (kind === 'ready') setLive(true);
      }
    }
    if (applied.length) onChange(stream, applied);
    return reason;
  };

  /** Reads one stream to its end, and returns the least pause before the next one. */
  const read = async (): Promise<number> => {
    const began = Date.now();
    // Nothing at all shows at once that streams do not pass; a silence later may have other causes.
    watch(Math.min(OPENING, silenceMs), 2);
    const { body } = await open('*/*');
    // React Native has no streams.
    if (!body) path.silent = 2;
    const parse = createParser();
    const decoder = new TextDecoder();
    const reader = body?.getReader();
    for (;;) {
      const piece = await reader?.read();
      if (!piece || piece.done) return 0;
      watch(silenceMs, 1);
      if (Date.now() - began > OPENING) path.silent = failures = 0;
      const messages = parse(decoder.decode(piece.value, { stream: true }));
      const reason = take(messages.map(({ id, event, data }) => ({ id, event, data: JSON.parse(data) })));
      if (reason === 'token-expired') api.forgetToken();
      // The service has spread these ends over time itself.
      if (reason) return /max-age|draining|token/.test(reason) ? 0 : parse.retry;
    }
  };

  /** Reads events as JSON, until it is time to try a stream again. */
  const poll = async (): Promise<number> => {
    const until = Date.now() + JSON_PERIOD;
    for (let waitMs = 0; Date.now() < until; ) {
      watch(waitMs + OPENING, 0);
      const response = await open('application/json', { waitMs });
      const { events, cursor, more } = await response.json();
      take(events);
      (aside ?? stream.view!).cursor = cursor;
      if (!more) setLive(!aside);
      waitMs = more ? 0 : WAIT;
      failures = 0;
      await new Promise<void>((resolve) => pauseTimer(BETWEEN_READS, resolve));
    }
    path.silent = 0;
    return 0;
  };

  const run = async () => {
    let least = 0;
    let error: Thrown | undefined;
    paused = false;
    abort = new AbortController();
    if (aside || !stream.view) aside = emptyView(list);
    try {
      least = await (path.silent < 2 ? read() : poll());
    } catch (thrown) {
      error = thrown as Thrown;
    }
    watchdog();
    abort.abort();
    if (closed) return;
    if (error && isFinal(error)) stream.refused = error.problem;
    else {
      paused = true;
      pauseTimer(Math.max(pause(error, ++failures), jitter(least)), run);
    }
    stream.live = false;
    onChange(stream);
  };

  const stream: Stream = {
    list,
    view,
    live: false,
    refused: undefined,
    retry: () => paused && pauseTimer(0, run),
    close() {
      closed = true;
      pauseTimer();
      watchdog();
      abort.abort();
    },
  };
  void run();
  return stream;
};
