// Several tabs, hidden, frozen and cached pages, and React, in Chromium.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { build } from 'esbuild';
import { Browser } from './browser.mjs';
import { eventually, Server, sleep } from './server.mjs';

const CLIENT = readFileSync(new URL('../dist/index.js', import.meta.url));
const PAGE = `<!doctype html><title>Presence</title><script type="module">
  import { createPresence } from '/index.js';
  window.createPresence = createPresence;
</script>`;

const REACT_PAGE = `
  import { createElement, useState } from 'react';
  import { createRoot } from 'react-dom/client';
  import { createPresence } from '../dist/index.js';
  import { PresenceProvider, usePresence, useUser } from '../dist/react.js';

  window.renders = { one: 0 };
  const All = () => {
    const userIds = ['bob', 'carol'];
    const { online, live } = usePresence({ userIds });
    return createElement('p', null, [...online].join(), ' of ', userIds.length, live ? ', live' : ', lost');
  };
  const One = ({ user }) => {
    const { online, away, status } = useUser(user);
    renders.one++;
    return createElement('p', null, user, online ? ' is online, ' : ' is offline, ', away ? 'away' : status);
  };
  const App = () => {
    const [shown, setShown] = useState(true);
    window.hide = () => setShown(false);
    return shown && [createElement(All, { key: 1 }), createElement(One, { key: 2, user: 'bob' })];
  };
  const client = createPresence({ url: location.origin, userId: 'alice' });
  createRoot(document.querySelector('main')).render(createElement(PresenceProvider, { client }, createElement(App)));
`;

let browser;
before(async () => {
  browser = await Browser.start();
});
after(() => browser.stop());

/** A service, which is an origin of its own for each test, so that all tests can use one browser at once. */
const scene = async (t) => {
  const server = await Server.start();
  Object.assign(server.files, { '/': PAGE, '/other': 'Another page', '/index.js': CLIENT });
  t.after(() => server.stop());
  const tabs = [];
  t.after(() => Promise.all(tabs.map((tab) => tab.close().catch(() => {}))));

  /** Opens a tab that connects, and watches users if there are any. */
  const open = async (watched, { options = {}, first = '' } = {}) => {
    const tab = await browser.open(server.url);
    tabs.push(tab);
    await tab.eventually('the page is loaded', '!!window.createPresence');
    await tab.run(`
      ${first}
      window.told = [];
      window.loaded = true;
      window.presence = createPresence({ url: location.origin, userId: 'alice', ...${JSON.stringify(options)} });
      ${watched ? `presence.watch(${JSON.stringify(watched)}, ({ online, live }) => told.push([live, ...online].join(' ')));` : ''}
      await presence.connect();`);
    return tab;
  };
  return { server, open };
};
/** A page that uses the hooks. */
const reactPage = async () => {
  const { outputFiles } = await build({
    stdin: { contents: REACT_PAGE, resolveDir: import.meta.dirname },
    bundle: true,
    format: 'esm',
    define: { 'process.env.NODE_ENV': '"production"' },
    write: false,
  });
  return outputFiles[0].text;
};
const shows = (tab, expected) => tab.eventually(expected, 'told.at(-1)', expected);
const parallel = { concurrency: true };
const connectionOf = ({ body }) => body.connectionId;

describe('pages', parallel, () => {
  test('hooks show the users of a component for as long as it is shown', async (t) => {
    const { server } = await scene(t);
    server.begin = (stream) => server.snapshot(stream, ['bob'], { states: { bob: { away: true } } });
    server.files['/react.js'] = await reactPage();
    server.files['/'] = '<!doctype html><main></main><script type="module" src="/react.js"></script>';
    const tab = await browser.open(server.url);
    t.after(() => tab.close());
    const paragraphs = '[...document.querySelectorAll("p")].map((each) => each.textContent)';
    const text = (...expected) => tab.eventually(expected, paragraphs, expected);
    await text('bob of 2, live', 'bob is online, away');
    assert.equal(server.streams.length, 1);
    assert.deepEqual(server.streams[0].body, { userIds: ['bob', 'carol'], snapshot: true });
    server.send(server.streams[0], 'user.updated', { userId: 'bob', away: false, status: 'dnd', data: null });
    await text('bob of 2, live', 'bob is online, dnd');
    server.send(server.streams[0], 'user.offline', { userId: 'bob' });
    await text(' of 2, live', 'bob is offline, ');
    const renders = await tab.run('return renders.one');
    server.send(server.streams[0], 'user.online', { userId: 'carol' });
    await text('carol of 2, live', 'bob is offline, ');
    assert.equal(await tab.run('return renders.one'), renders, 'carol is no business of a component of bob');
    await tab.run('hide()');
    await eventually('the stream ends', () => !server.streams.length);
  });

  test('the tabs of a browser have one connection and one stream, which a closing tab hands over', async (t) => {
    const { server, open } = await scene(t);
    server.begin = (stream) => server.snapshot(stream, ['bob', 'carol'].filter((user) => stream.body.userIds.includes(user)));
    const first = await open({ userIds: ['bob'] });
    await shows(first, 'true bob');
    const second = await open({ userIds: ['carol'] });
    await shows(second, 'true carol');
    const third = await open({ userIds: ['bob', 'carol'] });
    await shows(third, 'true bob carol');
    assert.equal(server.of('connect').length, 1);
    assert.equal(server.streams.length, 1);
    const [stream] = server.streams;
    server.send(stream, 'user.offline', { userId: 'carol' });
    for (const [tab, expected] of [[first, 'true bob'], [second, 'true'], [third, 'true bob']]) await shows(tab, expected);

    await first.close();
    const [former, latter] = [server.of('connect')[0], await server.request('connect', 2)];
    const { body } = await server.request('disconnect');
    assert.deepEqual(body, { connectionId: connectionOf(former), graceMs: 5000 });
    assert.notEqual(connectionOf(latter), connectionOf(former));
    await eventually('the stream goes on', () => server.streams.length === 1 && server.streams[0] !== stream);
    const [resumed] = server.streams;
    assert.equal(resumed.headers['last-event-id'], '5', 'no snapshot is needed');
    server.send(resumed, 'user.offline', { userId: 'bob' });
    for (const tab of [second, third]) await shows(tab, 'true');
    await sleep(300);
    assert.equal(server.streams.length, 1);
    const told = await third.run('return told');
    // A tab that stands still meanwhile does not see that the stream was lost for a moment.
    const loss = told.includes('false bob') ? ['false bob', 'true bob'] : [];
    assert.deepEqual(told, ['false', 'true bob carol', 'true bob', ...loss, 'true']);
  });

  test('the user is away while all tabs are hidden', async (t) => {
    const { server, open } = await scene(t);
    const options = { awayAfterMs: 1500 };
    const first = await open(undefined, { options });
    const second = await open(undefined, { options });
    const stated = () => server.requests.filter(({ verb }) => /connect|ping/.test(verb)).map(({ body }) => body);
    const connectionId = connectionOf(server.of('connect')[0]);
    await first.hide();
    await sleep(300);
    assert.ok(stated().every((body) => body.ttlMs === undefined));
    await second.hide();
    await eventually('away', () => stated().at(-1).away);
    assert.deepEqual(stated().slice(-2), [
      { connectionId, ttlMs: 150_000 },
      { connectionId, ttlMs: 150_000, away: true },
    ]);
    await second.show();
    await eventually('not away', () => !stated().at(-1).away);
    assert.deepEqual(stated().at(-1), { connectionId });
  });

  test('a service with a shorter greatest TTL keeps a hidden page online', async (t) => {
    const { server, open } = await scene(t);
    const tab = await open();
    const refused = { status: 400, body: { type: 'urn:presence:problem:invalid-ttl', detail: 'ttlMs: must be …' } };
    server.next.ping = [refused];
    await tab.hide();
    const accepted = await server.request('connect', 2);
    assert.deepEqual([server.of('ping')[0].body.ttlMs, accepted.body.ttlMs], [150_000, undefined]);
  });

  test('a hidden page pings in time, although the browser slows its timers down', async (t) => {
    const { server, open } = await scene(t);
    server.pingIntervalMs = 700;
    const tab = await open();
    await tab.run('window.ticks = 0; const tick = () => setTimeout(() => (ticks++, tick())); tick();');
    await tab.hide();
    await sleep(3000);
    const ticks = await tab.run('return ticks');
    const pings = server.of('ping').length;
    await sleep(6000);
    const more = (await tab.run('return ticks')) - ticks;
    assert.ok(more <= 1, `timers run once a minute, but ${more} times`);
    assert.ok(server.of('ping').length - pings >= 3, `${server.of('ping').length - pings} pings`);
  });

  test('a page that leaves disconnects with a grace period, and connects when it comes back', async (t) => {
    const { server, open } = await scene(t);
    server.begin = (stream) => server.snapshot(stream, ['bob']);
    const tab = await open({ userIds: ['bob'] });
    await shows(tab, 'true bob');
    await tab.go(server.url + '/other');
    const connectionId = connectionOf(server.of('connect')[0]);
    assert.deepEqual((await server.request('disconnect')).body, { connectionId, graceMs: 5000 });
    await eventually('no stream', () => !server.streams.length);
    await tab.back();
    assert.ok(await tab.run('return window.loaded'), 'the page was in the back/forward cache');
    await shows(tab, 'true bob');
    await server.request('connect', 2);
    const [stream] = server.streams;
    server.send(stream, 'user.offline', { userId: 'bob' });
    await shows(tab, 'true');
  });

  test('a tab that is frozen hands over', async (t) => {
    const { server, open } = await scene(t);
    const first = await open({ userIds: ['bob'] });
    const second = await open({ userIds: ['bob'] });
    await shows(second, 'true');
    await first.freeze();
    await server.request('connect', 2);
    await shows(second, 'true');
    await eventually('one stream', () => server.streams.length === 1);
    server.send(server.streams[0], 'user.online', { userId: 'bob' });
    await shows(second, 'true bob');
    await first.thaw();
    await shows(first, 'true bob');
    await sleep(200);
    assert.equal(server.of('connect').length, 2);
    assert.equal(server.streams.length, 1);
  });

  test('a tab that is silent loses the lead to a visible tab', async (t) => {
    const { server, open } = await scene(t);
    // It does not notice that it is frozen, as if it hung.
    const first = 'document.addEventListener("freeze", (event) => event.stopImmediatePropagation());';
    const silent = await open({ userIds: ['bob'] }, { first });
    const hidden = await open({ userIds: ['bob'] });
    await shows(hidden, 'true');
    await hidden.hide();
    const visible = await open({ userIds: ['bob'] });
    await shows(visible, 'true');
    await silent.freeze();
    await eventually('another connection', () => server.of('connect').length > 1, 45_000);
    await eventually('another stream', () => server.of('events').length > 1);
    await shows(visible, 'true');
    // What the former leader tells now is old.
    server.send(server.streams[0], 'user.online', { userId: 'bob' });
    await silent.thaw();
    await server.request('disconnect');
    await eventually('one stream', () => server.streams.length === 1);
    for (const tab of [hidden, visible]) assert.ok(!(await tab.run('return told')).some((told) => told.includes('bob')));
    server.send(server.streams[0], 'user.online', { userId: 'bob' });
    for (const tab of [silent, hidden, visible]) await shows(tab, 'true bob');
  });

  test('a new tab does not wait for long for a tab that hangs', async (t) => {
    const { server, open } = await scene(t);
    await open(undefined, { first: 'BroadcastChannel.prototype.postMessage = () => {};' });
    await open();
    assert.equal(server.of('connect').length, 2);
    await server.request('disconnect');
  });

  test('a tab that signs out signs all tabs out', async (t) => {
    const { server, open } = await scene(t);
    server.pingIntervalMs = 500;
    await open();
    const second = await open();
    await second.run('await presence.disconnect({ everywhere: true })');
    assert.deepEqual(server.of('disconnect').at(-1).body, { all: true });
    await sleep(200);
    const { length } = server.requests;
    await sleep(1000);
    assert.equal(server.requests.length, length);
    await second.run('await presence.connect()');
  });

  test('a tab that disconnects leaves the connection to the others', async (t) => {
    const { server, open } = await scene(t);
    const first = await open();
    const second = await open();
    await first.run('await presence.disconnect()');
    await server.request('connect', 2);
    await second.run('await presence.disconnect()');
    const [latter, former] = server.of('disconnect').map(({ body }) => body).sort((a) => (a.graceMs ? 1 : -1));
    assert.deepEqual(former, { connectionId: connectionOf(server.of('connect')[0]), graceMs: 5000 });
    assert.deepEqual(latter, { connectionId: connectionOf(server.of('connect')[1]) });
  });

  test('without Web Locks, each tab works alone', async (t) => {
    const { server, open } = await scene(t);
    const first = 'Object.defineProperty(navigator, "locks", { value: undefined });';
    const tabs = [await open({ userIds: ['bob'] }, { first }), await open({ userIds: ['bob'] }, { first })];
    for (const tab of tabs) await shows(tab, 'true');
    assert.equal(new Set(server.of('connect').map(connectionOf)).size, 2);
    assert.equal(server.streams.length, 2);
  });

  test('where a proxy swallows streams, events are read as JSON', async (t) => {
    const { server, open } = await scene(t);
    const pages = [
      [{ event: 'presence.snapshot', data: { online: ['bob'] } }, { event: 'presence.ready', data: { count: 1 } }],
      [{ event: 'user.offline', data: { userId: 'bob' } }],
    ];
    const answer = async (request) => {
      server.next.events.push(answer);
      if (request.headers.accept !== 'application/json') return;
      while (!pages.length && request.open) await sleep(20);
      request.response.end(JSON.stringify({ events: pages.shift() ?? [], cursor: 'c', more: false }));
    };
    server.next.events = [answer];
    const tab = await open({ userIds: ['bob'] }, { options: { silenceMs: 500 } });
    await shows(tab, 'true');
    assert.deepEqual(await tab.run('return told'), ['false', 'true bob', 'true']);
  });

  test('the network coming back is worth an attempt at once', async (t) => {
    const { server, open } = await scene(t);
    const tab = await open({ userIds: ['bob'] });
    await shows(tab, 'true');
    const slow = { status: 503, headers: { 'retry-after': '60' }, body: {} };
    Object.assign(server.next, { ping: [slow], events: [slow] });
    server.streams[0].response.destroy();
    await eventually('a refusal', () => server.of('events').length === 2);
    await tab.run('dispatchEvent(new Event("online"))');
    await shows(tab, 'true');
    await tab.run('dispatchEvent(new Event("online"))');
    await server.request('ping', 2);
  });
});
