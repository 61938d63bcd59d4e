import { backOff } from './timing.js';
import type { PresenceError, PresenceOptions, Problem } from './types.js';

/** Whatever was thrown. Only an answer of the service has these fields. */
export type Thrown = Error & Partial<PresenceError>;

/** An error with a problem of the service. */
export const failure = (problem: Problem, retryAfterMs = 0): PresenceError =>
  Object.assign(new Error(problem.detail), { problem, retryAfterMs });

/** Whether the problem is of this type. */
export const isType = ({ problem }: Thrown, type: RegExp): boolean => type.test(problem?.type ?? '');

/**
 * Whether another attempt is pointless. A 400 or 404 without a type comes from a proxy, which may be in trouble now.
 */
export const isFinal = (error: Thrown): boolean => {
  const status = error.problem?.status!;
  return status === 403 || (status < 406 && status !== 401 && isType(error, /^urn:(?!.*unreadable)/));
};

/** The time before the next attempt. */
export const pause = (error: Thrown | undefined, failures: number, longest?: number): number =>
  (error?.retryAfterMs ?? 0) * (1 + Math.random() / 4) || backOff(failures, longest);

export type Api = ReturnType<typeof createApi>;

/** Sends requests with the token of the user. */
export const createApi = ({ url, userId, token, fetch: send = fetch }: PresenceOptions) => {
  let held: Promise<string> | undefined;

  /** The next request gets a fresh token. */
  const forgetToken = () => {
    held = undefined;
  };

  /** Sends a request and returns the successful response. A refused token is replaced once. */
  const request = async (path: string, body: unknown, init: RequestInit, headers = {}): Promise<Response> => {
    for (let isFirst = true; ; isFirst = false) {
      // After an error, the token is asked for again.
      if (token && !held) (held = (async () => token())()).catch(forgetToken);
      const used = held;
      const response = await send(url.replace(/\/*$/, '/v1/' + path), {
        method: 'POST',
        ...init,
        headers: { ...headers, 'content-type': 'application/json', ...(used && { authorization: 'Bearer ' + (await used) }) },
        body: body ? JSON.stringify(body) : null,
      });
      if (response.ok) return response;
      const { status } = response;
      const { type = 'about:blank', detail = 'Status ' + status } = await response.json().catch(() => ({}));
      if (status === 401 && held === used) forgetToken();
      if (status !== 401 || !used || !isFirst) {
        throw failure({ type, status, detail }, +response.headers.get('retry-after')! * 1000 || 0);
      }
    }
  };

  /** Sends a request about the user itself, and returns the response. Fails after ten seconds. */
  const call = async <T = unknown>(verb: string, body?: unknown, init?: RequestInit): Promise<T> => {
    // React Native has no `timeout`.
    const signal = AbortSignal.timeout?.(10_000);
    return (await request(`users/${encodeURIComponent(userId)}/${verb}`, body, { signal, ...init })).json();
  };

  return { request, call, forgetToken };
};
