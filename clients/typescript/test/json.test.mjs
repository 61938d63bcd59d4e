import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createPresence } from '../dist/index.js';
import { eventually, Server, sleep } from './server.mjs';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

/**
 * Answers each read as JSON with the next page of the list, and waits while the list is empty. Streams get no answer.
 */
const serveJson = (pages) => {
  const answer = async (request) => {
    server.next.events.push(answer);
    const { response, headers } = request;
    if (headers.accept !== 'application/json') return; // Swallowed.
    while (!pages.length && request.open) await sleep(5);
    const { events = [], cursor, more = false } = pages.shift() ?? {};
    response.end(JSON.stringify({ events: events.map(([event, data]) => ({ id: 'x', event, data })), cursor, more }));
  };
  server.next.events = [answer];
};

const watch = (options) => {
  const told = [];
  const presence = createPresence({ url: server.url, userId: 'alice', ...options });
  const stop = presence.watch({ userIds: ['bob', 'carol'] }, ({ online, live }) => told.push([live, ...online].join(' ')));
  return { told, stop };
};

test('where streams do not pass, events are read as JSON', async () => {
  const pages = [
    { events: [['presence.snapshot', { online: ['bob'] }], ['presence.ready', { count: 1 }]], cursor: '1' },
    { events: [['user.online', { userId: 'carol' }]], cursor: '2', more: true },
    { events: [['user.offline', { userId: 'bob' }]], cursor: '3' },
    { cursor: '4' },
  ];
  serveJson(pages);
  const { told, stop } = watch({ silenceMs: 300 });
  await eventually('the last change', () => told.at(-1) === 'true carol');
  assert.deepEqual(told, ['false', 'true bob', 'true bob carol', 'true carol']);
  const reads = () => server.of('events').filter(({ headers }) => headers.accept === 'application/json');
  await eventually('a read after the last page', () => reads().length === 5);
  stop();
  const seen = reads().map(({ body, headers }) => [body.waitMs, headers['last-event-id']]);
  assert.deepEqual(seen, [[0, undefined], [20_000, '1'], [0, '2'], [20_000, '3'], [20_000, '4']]);
});

test('where fetch has no streams, events are read as JSON at once', async () => {
  serveJson([{ events: [['presence.snapshot', { online: ['bob'] }], ['presence.ready', { count: 1 }]], cursor: '1' }]);
  const fetchWithoutStreams = async (url, init) => {
    if (init.headers.accept === 'application/json') return fetch(url, init);
    return { ok: true, status: 200, body: null, headers: new Headers() };
  };
  const { told, stop } = watch({ fetch: fetchWithoutStreams });
  await eventually('the snapshot', () => told.at(-1) === 'true bob');
  stop();
});
