import { isFinal, isType, pause, type Api, type Thrown } from './api.js';
import { createTimer, jitter } from './timing.js';
import type { Problem } from './types.js';

/** What the connection states with each call. An omitted field takes its default. */
export interface Stated {
  ttlMs?: number | undefined;
  away?: true;
  groups?: string[] | undefined;
}

/**
 * Connects and pings. There is one call at a time, so that an older one never overtakes a newer one. Calls `onAnswer`
 * when the connection is open, and with a problem when the service refuses for good.
 */
export const createConnection = (api: Api, connectionId: string, onAnswer: (refused?: Problem) => void) => {
  const timer = createTimer();
  let verb = 'connect';
  let open = false;
  let busy = false;
  let again = false;
  let failures = 0;
  let interval = 25_000;
  let stated: Stated = {};

  const run = async () => {
    timer();
    again = busy;
    if (busy) return;
    busy = true;
    const wait = await step();
    busy = false;
    if (open) timer(again ? 0 : wait, run);
  };

  /** Makes one call, and returns the time until the next one. */
  const step = async (): Promise<number> => {
    const called = verb;
    try {
      const { pingIntervalMs } = await api.call<{ pingIntervalMs: number }>(called, { connectionId, ...stated });
      failures = 0;
      if (open) {
        verb = 'ping';
        if (called !== verb) onAnswer();
        // The call may have arrived after the disconnect, and reopened the connection.
      } else if (called !== 'ping') disconnect(0).catch(() => {});
      return jitter((interval = pingIntervalMs));
    } catch (thrown) {
      const error = thrown as Thrown;
      verb = 'connect';
      if (isType(error, /invalid-ttl/) && stated.ttlMs) stated.ttlMs = undefined;
      else if (isFinal(error)) {
        if (open) onAnswer(error.problem);
        open = false;
      } else if (!isType(error, /connection-closed/)) {
        verb = called;
        return pause(error, ++failures, interval);
      }
      return 0;
    }
  };

  const disconnect = (graceMs: number) =>
    api.call('disconnect', { connectionId, graceMs: graceMs || undefined }, { keepalive: true });

  return {
    /** Calls at once, and then whenever a ping is due. */
    state(now: Stated) {
      open = true;
      stated = now;
      void run();
    },
    /** Ends the pings. With `graceMs`, also disconnects, and the browser sends this call although the page closes. */
    async close(graceMs?: number): Promise<void> {
      const wasOpen = open;
      timer();
      open = false;
      verb = 'connect';
      if (wasOpen && graceMs !== undefined) await disconnect(graceMs);
    },
  };
};
