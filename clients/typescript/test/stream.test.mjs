import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { createPresence } from '../dist/index.js';
import { eventually, problem, Server, sleep } from './server.mjs';

let server;
/** What ends the watches of a test. */
const stops = [];

before(async () => {
  server = await Server.start();
});
afterEach(async () => {
  for (const stop of stops.splice(0)) stop();
  await sleep(0);
  server.stop();
  server = await Server.start();
});
after(() => server.stop());

const client = (options = {}) => createPresence({ url: server.url, userId: 'alice', token: () => 'token', ...options });

/** Watches, and returns what the callback was told, in short: `live bob`, `lost bob`. */
const watch = (presence, list) => {
  const told = [];
  stops.push(
    presence.watch(list, ({ online, live }) => told.push([live ? 'live' : 'lost', ...[...online].sort()].join(' '))),
  );
  return told;
};
const shows = (told, expected) => eventually(`${expected}, but ${told}`, () => told.at(-1) === expected);

test('a snapshot is shown when it is complete, then every change', async () => {
  server.begin = () => {};
  const told = watch(client(), { userIds: ['bob', 'carol'] });
  const stream = await server.request('events');
  assert.deepEqual(stream.body, { userIds: ['bob', 'carol'], snapshot: true });
  server.send(stream, 'presence.snapshot', { online: ['bob'] });
  server.send(stream, 'presence.snapshot', { online: ['carol'] });
  await sleep(50);
  server.send(stream, 'presence.ready', { count: 2 });
  await shows(told, 'live bob carol');
  server.send(stream, 'user.offline', { userId: 'bob' });
  await shows(told, 'live carol');
  assert.deepEqual(told, ['lost', 'live bob carol', 'live carol']);
});

test('states come with the users', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob'], { states: { bob: { away: true } } });
  let states;
  stops.push(client().watch({ userIds: ['bob'] }, (watched) => (states = watched.states)));
  await eventually('a state', () => states?.get('bob')?.away);
  server.send(server.of('events')[0], 'user.updated', { userId: 'bob', away: false, status: 'dnd', data: { text: 'x' } });
  await eventually('another state', () => states.get('bob').status === 'dnd');
  assert.deepEqual(states.get('bob'), { away: false, status: 'dnd', data: { text: 'x' } });
});

test('a lost stream resumes after its last message, and nobody is drawn as offline meanwhile', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob']);
  const told = watch(client(), { userIds: ['bob', 'carol'] });
  await shows(told, 'live bob');
  const first = server.of('events')[0];
  server.next.events = [
    (stream) => {
      stream.response.writeHead(200, { 'content-type': 'text/event-stream' });
      server.send(stream, 'user.online', { userId: 'carol' });
      server.send(stream, 'presence.ready', {});
    },
  ];
  first.response.destroy();
  await shows(told, 'live bob carol');
  assert.equal((await server.request('events', 2)).headers['last-event-id'], '2');
  assert.deepEqual(told.filter((each) => each.startsWith('live')), ['live bob', 'live bob carol']);
  assert.ok(told.includes('lost bob') && !told.slice(1).includes('lost'), `${told}`);
});

test('after a reset, the old view stays until the new snapshot is complete', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob']);
  const told = watch(client(), { userIds: ['bob', 'carol'] });
  await shows(told, 'live bob');
  const [stream] = server.of('events');
  server.send(stream, 'presence.reset', { reason: 'data-lost' });
  server.send(stream, 'presence.snapshot', { online: ['carol'] });
  await shows(told, 'lost bob');
  server.send(stream, 'presence.ready', { count: 1 });
  await shows(told, 'live carol');
});

test('a snapshot that breaks off begins anew', async () => {
  server.begin = () => {};
  const told = watch(client(), { userIds: ['bob', 'carol'] });
  const first = await server.request('events');
  server.send(first, 'presence.snapshot', { online: ['bob'] });
  await sleep(50);
  server.begin = (stream) => server.snapshot(stream, ['carol']);
  first.response.destroy();
  await shows(told, 'live carol');
  assert.equal(server.of('events')[1].headers['last-event-id'], undefined);
});

test('a stream of an expired token is followed by one with a fresh token', async () => {
  const tokens = ['old', 'new'];
  const told = watch(client({ token: () => tokens.shift() }), { userIds: ['bob'] });
  await shows(told, 'live');
  const [{ response }] = server.of('events');
  response.end('event: presence.end\ndata: {"reason":"token-expired"}\n\n');
  assert.equal((await server.request('events', 2)).headers.authorization, 'Bearer new');
});

test('a stream that the service could not open is repeated after what retry says', async () => {
  server.next.events = [
    ({ response }) => response.end('retry: 1500\nevent: presence.end\ndata: {"reason":"overloaded"}\n\n'),
    problem(503, 'overloaded', { 'retry-after': '1' }),
  ];
  await shows(watch(client(), { userIds: ['bob'] }), 'live');
  const [first, second, third] = server.of('events');
  assert.ok(second.at - first.at >= 1300, `${second.at - first.at} ms`);
  assert.ok(third.at - second.at >= 990, `${third.at - second.at} ms`);
});

test('users that the token may not see are a problem, until the list changes', async () => {
  server.next.events = [problem(403, 'not-allowed')];
  const presence = client();
  let seen;
  const stop = presence.watch({ userIds: ['bob'] }, (watched) => (seen = watched));
  await eventually('a problem', () => seen?.problem?.status === 403);
  await sleep(100);
  assert.equal(server.of('events').length, 1);
  stop();
  stops.push(presence.watch({ userIds: ['carol'] }, (watched) => (seen = watched)));
  await eventually('live', () => seen.live && !seen.problem);
});

test('a stream that falls silent is opened again', async () => {
  const told = watch(client({ silenceMs: 300 }), { userIds: ['bob'] });
  await server.request('events', 2);
  assert.ok(told.includes('live') && told.includes('lost'));
});

test('a changed list opens its stream before the old stream is closed', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob']);
  const presence = client();
  const told = watch(presence, { userIds: ['bob'] });
  await shows(told, 'live bob');
  const [old] = server.of('events');
  server.begin = () => {};
  const both = watch(presence, { userIds: ['bob', 'carol'] });
  const changed = await server.request('events', 2);
  assert.deepEqual(changed.body.userIds, ['bob', 'carol']);
  await sleep(50);
  assert.ok(old.open);
  assert.equal(both.at(-1), 'lost bob', 'nothing is known about carol');
  server.send(old, 'user.offline', { userId: 'bob' });
  await shows(told, 'live');
  server.snapshot(changed, ['bob', 'carol']);
  await shows(both, 'live bob carol');
  await eventually('the old stream ends', () => !old.open);
  assert.deepEqual(told, ['lost', 'live bob', 'live', 'live bob']);
});

test('a shorter list, and one that is covered, need no other stream', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob']);
  const presence = client();
  const told = watch(presence, { userIds: ['bob', 'carol'], groupIds: ['g'] });
  await shows(told, 'live bob');
  await shows(watch(presence, { userIds: ['bob'] }), 'live bob');
  stops.shift()();
  await sleep(150);
  assert.equal(server.of('events').length, 1);
  assert.ok(server.of('events')[0].open);
});

test('an empty list is nobody, not everybody', async () => {
  const presence = client();
  const told = watch(presence, { userIds: [] });
  await shows(told, 'live');
  assert.equal(server.requests.length, 0);
  const all = watch(presence, {});
  await shows(all, 'live');
  assert.deepEqual(server.of('events')[0].body, { snapshot: true });
});

test('an error in a callback does not disturb the stream or other callbacks', async () => {
  const presence = client();
  const errors = [];
  const keep = (error) => errors.push(error.message);
  // The test runner would fail the test.
  const listeners = process.rawListeners('uncaughtException');
  process.removeAllListeners('uncaughtException').on('uncaughtException', keep);
  stops.push(
    presence.watch({ userIds: ['bob'] }, () => {
      throw new Error('of the application');
    }),
  );
  const told = watch(presence, { userIds: ['bob'] });
  await shows(told, 'live');
  server.send(server.streams[0], 'user.online', { userId: 'bob' });
  await shows(told, 'live bob');
  process.off('uncaughtException', keep);
  for (const listener of listeners) process.on('uncaughtException', listener);
  assert.deepEqual(errors, Array(3).fill('of the application'));
  assert.equal(server.of('events').length, 1);
});

test('a watch that has ended is told nothing', async () => {
  const presence = client();
  const told = watch(presence, { userIds: ['bob'] });
  let calls = 0;
  presence.watch({ userIds: ['bob'] }, () => calls++)();
  await shows(told, 'live');
  assert.equal(calls, 0);
});

test('the stream ends with the last watch', async () => {
  await shows(watch(client(), { userIds: ['bob'] }), 'live');
  stops.splice(0)[0]();
  await eventually('the stream ends', () => !server.of('events')[0].open);
});

test('members join and leave', async () => {
  server.begin = (stream) => server.snapshot(stream, ['bob'], { groupId: 'g', members: 2 });
  const told = watch(client(), { groupIds: ['g'] });
  await shows(told, 'live bob');
  const [stream] = server.of('events');
  server.send(stream, 'group.joined', { groupId: 'g', userIds: ['carol', 'dave'], online: ['carol'] });
  await shows(told, 'live bob carol');
  server.send(stream, 'user.online', { userId: 'dave' });
  await shows(told, 'live bob carol dave');
  server.send(stream, 'group.left', { groupId: 'g', userIds: ['bob', 'dave'], reason: 'removed' });
  await shows(told, 'live carol');
});

test('own groups come and go', async () => {
  server.begin = (stream) => server.snapshot(stream, ['alice', 'bob'], { groupId: 'g', members: 2 });
  const told = watch(client(), {});
  await shows(told, 'live alice bob');
  const [stream] = server.of('events');
  server.send(stream, 'group.joined', { groupId: 'h', userIds: ['alice'], online: ['alice'] });
  server.send(stream, 'presence.snapshot', { groupId: 'h', members: 2, online: ['alice', 'carol'] });
  await shows(told, 'live alice bob carol');
});

test('a new snapshot tells the groups of a user that came online', async () => {
  const snapshots = (g, h) => (stream) => {
    server.send(stream, 'presence.snapshot', { groupId: 'g', members: 2, online: g });
    server.send(stream, 'presence.snapshot', { groupId: 'h', members: 2, online: h });
    server.send(stream, 'presence.ready', { count: g.length + h.length });
  };
  server.begin = snapshots([], []);
  const presence = client();
  const [g, h] = [watch(presence, { groupIds: ['g'] }), watch(presence, { groupIds: ['h'] })];
  await shows(g, 'live');
  server.begin = snapshots([], ['bob']);
  server.send(server.of('events')[0], 'user.online', { userId: 'bob' });
  await shows(h, 'live bob');
  assert.deepEqual([g, server.of('events').length], [['lost', 'live'], 2]);
});
