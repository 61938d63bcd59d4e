// What a back end in Node does with the service. Has no dependencies.
import { createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const { PRESENCE_URL, PRESENCE_KEY, PRESENCE_JWT_SECRET } = process.env;

const headers = { Authorization: `Bearer ${PRESENCE_KEY}` };

/** Makes a call, again where it fails for a while: every call may be repeated. */
async function call(method, path, body, attempts = 4) {
  const options = { method, headers, signal: AbortSignal.timeout(5_000) };
  if (body) {
    options.headers = { ...headers, 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  const again = async (seconds) => {
    await sleep(seconds * 1000);
    return call(method, path, body, attempts - 1);
  };
  let response;
  try {
    response = await fetch(PRESENCE_URL + path, options);
  } catch (error) {
    if (attempts === 1) throw error;
    return again(1);
  }
  if ([429, 502, 503].includes(response.status) && attempts > 1) {
    return again(Number(response.headers.get('Retry-After') ?? 1));
  }
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.json();
}

/** The online users among up to 1,000 users, in the same order. */
export const onlineAmong = async (userIds) => (await call('POST', '/v1/online', { userIds })).online;

/** Every user that is online, page by page. */
export async function* allOnline() {
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: 1000, ...(cursor && { cursor }) });
    const page = await call('GET', `/v1/online?${query}`);
    yield* page.online;
    cursor = page.nextCursor;
  } while (cursor !== null);
}

/** A token for a user that has signed in: to be online, and to see the users in `watch`, or all of them for '*'. */
export function mintToken(userId, watch = [], seconds = 3600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: userId, exp: Math.floor(Date.now() / 1000) + seconds, watch };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', PRESENCE_JWT_SECRET).update(signed).digest('base64url')}`;
}

/** Yields `{ event, data, cursor }` for each message of the stream of all users, for ever. */
export async function* follow(cursor) {
  let retry = 3_000;
  for (;;) {
    try {
      for await (const block of blocks(cursor)) {
        const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
        retry = Number(fields.retry ?? retry);
        cursor = fields.id ?? cursor;
        if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data), cursor };
      }
    } catch (error) {
      if (error.refused) throw error;
      // The stream broke. Come back with the cursor, and nothing is lost.
    }
    await sleep(retry);
  }
}

/** The blocks of one stream, until it ends. */
async function* blocks(cursor) {
  const silence = new AbortController();
  let timer;
  // A comment comes at least every 15 s, so a stream that is silent for longer is dead.
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), 45_000);
  };
  heard();
  try {
    const response = await fetch(`${PRESENCE_URL}/v1/events?snapshot=true`, {
      headers: { ...headers, Accept: 'text/event-stream', ...(cursor && { 'Last-Event-ID': cursor }) },
      signal: silence.signal,
    });
    if (!response.ok) {
      const refused = response.status < 500;
      throw Object.assign(new Error(`${response.status} ${await response.text()}`), { refused });
    }
    let rest = '';
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      heard();
      const parts = (rest + text).split('\n\n');
      rest = parts.pop();
      yield* parts;
    }
  } finally {
    clearTimeout(timer);
  }
}
