import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { createPresence } from '../dist/index.js';
import { problem, Server, sleep } from './server.mjs';

/** Clients that must be disconnected, so that the process can end. */
const clients = [];
let server;

const client = (options = {}) => {
  const made = createPresence({ url: server.url, userId: 'al/ice', token: () => 'token', ...options });
  clients.push(made);
  return made;
};

before(async () => {
  server = await Server.start();
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.disconnect().catch(() => {})));
  server.stop();
  server = await Server.start();
});
after(() => server.stop());

test('connects, and pings when the last answer says', async () => {
  server.pingIntervalMs = 200;
  const presence = client();
  await presence.connect();
  const connect = await server.request('connect');
  assert.equal(connect.path, '/v1/users/al%2Fice/connect');
  assert.equal(connect.headers.authorization, 'Bearer token');
  const first = await server.request('ping');
  server.pingIntervalMs = 60_000;
  const second = await server.request('ping', 2);
  for (const [before, ping] of [[connect, first], [first, second]]) {
    assert.ok(ping.at - before.at >= 175, `${ping.at - before.at} ms`);
    assert.deepEqual(ping.body, connect.body);
  }
  await sleep(300);
  assert.equal(server.of('ping').length, 2, 'the interval of the last answer counts');
});

test('disconnects, and does not ping any more', async () => {
  server.pingIntervalMs = 50;
  const presence = client();
  await presence.connect();
  await presence.disconnect();
  const [{ body }] = server.of('connect');
  assert.deepEqual(server.of('disconnect').map(({ body }) => body), [{ connectionId: body.connectionId }]);
  const { length } = server.requests;
  await sleep(150);
  assert.equal(server.requests.length, length);
  await presence.connect();
  assert.equal(server.of('connect').length, 2);
});

test('a sign-out closes every connection', async () => {
  const presence = client();
  await presence.connect();
  await presence.disconnect({ everywhere: true });
  assert.deepEqual((await server.request('disconnect')).body, { all: true });
  await sleep(100);
  assert.equal(server.requests.length, 2);
});

test('a connect that is answered after the disconnect is undone', async () => {
  let answer;
  server.next.connect = [({ response }) => (answer = () => response.end('{"pingIntervalMs":1000}'))];
  const presence = client();
  const connected = presence.connect();
  await server.request('connect');
  await presence.disconnect();
  answer();
  await server.request('disconnect', 2);
  await connected;
});

test('a refused token is replaced once, for the ping and the stream together', async () => {
  const tokens = ['old', 'new', 'newer'];
  let asked = 0;
  const expired = problem(401, 'token-expired');
  Object.assign(server.next, { connect: [expired], events: [expired] });
  const presence = client({ token: async () => tokens[asked++] });
  const stop = presence.watch({ userIds: ['bob'] }, () => {});
  await presence.connect();
  await server.request('events', 2);
  stop();
  assert.equal(asked, 2);
  const used = (verb) => server.of(verb).map(({ headers }) => headers.authorization);
  assert.deepEqual([used('connect'), used('events')], [['Bearer old', 'Bearer new'], ['Bearer old', 'Bearer new']]);
});

test('a token that is refused again, and one that cannot be had, are asked for again after a pause', async () => {
  let asked = 0;
  const token = () => {
    if (++asked === 1) throw new Error('the back end is down');
    return 'token';
  };
  server.next.connect = [problem(401, 'bad-credential'), problem(401, 'bad-credential')];
  await client({ token }).connect();
  assert.equal(asked, 4);
  assert.equal(server.of('connect').length, 3);
});

test('403 stops the client, which says so', async () => {
  const problems = [];
  server.next.connect = [problem(403, 'not-allowed')];
  const presence = client({ onProblem: (problem) => problems.push(problem) });
  const refused = { type: 'urn:presence:problem:not-allowed', status: 403, detail: 'not-allowed is the cause' };
  await assert.rejects(presence.connect(), (error) => {
    assert.deepEqual(error.problem, refused);
    assert.equal(error.message, refused.detail);
    return true;
  });
  assert.deepEqual(problems, [refused]);
  await sleep(200);
  assert.equal(server.requests.length, 1);
  await presence.connect();
});

for (const [status, type] of [[429, 'too-many-calls'], [503, 'store-unreachable']]) {
  test(`${status} is repeated after what Retry-After says`, async () => {
    server.next.connect = [problem(status, type, { 'retry-after': '1' })];
    await client().connect();
    const [first, second] = server.of('connect');
    assert.ok(second.at - first.at >= 990, `${second.at - first.at} ms`);
  });
}

test('after a ping of a closed connection, the client connects', async () => {
  server.pingIntervalMs = 100;
  server.next.ping = [problem(409, 'connection-closed')];
  await client().connect();
  await server.request('ping');
  await server.request('connect', 2);
});

test('a lost answer is repeated, and calls do not overlap', async () => {
  server.next.connect = [({ response }) => response.destroy()];
  const presence = client();
  const leave = presence.join('doc-1');
  await presence.connect();
  assert.equal(server.of('connect').length, 2);
  let inFlight = 0;
  const slow = async ({ response }) => {
    assert.equal(++inFlight, 1);
    await sleep(200);
    inFlight--;
    response.end('{"pingIntervalMs":60000}');
  };
  server.next.ping = [slow, slow, slow];
  leave();
  await server.request('ping');
  presence.join('doc-2');
  const { body } = await server.request('ping', 2);
  assert.deepEqual(body.groups, ['doc-2']);
});

test('each call states the groups that were joined', async () => {
  const presence = client();
  const leave = [presence.join('doc-1'), presence.join('doc-1'), presence.join('doc-2')];
  await presence.connect();
  assert.deepEqual(server.of('connect')[0].body.groups, ['doc-1', 'doc-2']);
  leave[0]();
  leave[2]();
  assert.deepEqual((await server.request('ping')).body.groups, ['doc-1']);
  leave[1]();
  assert.equal((await server.request('ping', 2)).body.groups, undefined);
});

test('a status is set, cleared, repeated after trouble, and refused', async () => {
  const presence = client();
  server.next.status = [problem(503, 'store-unreachable'), problem(429, 'too-many-calls')];
  await presence.setStatus({ status: 'dnd', data: { text: 'call' }, ttlMs: 60_000 });
  await presence.setStatus(null);
  const seen = server.of('status').map(({ method, body }) => [method, body]);
  const set = ['PUT', { status: 'dnd', data: { text: 'call' }, ttlMs: 60_000 }];
  assert.deepEqual(seen, [set, set, set, ['DELETE', '']]);
  server.next.status = [problem(400, 'invalid-status')];
  await assert.rejects(presence.setStatus({ status: 'No!' }), /invalid-status is the cause/);
});

test('a status that was set meanwhile is not overwritten', async () => {
  const presence = client();
  server.next.status = [problem(503, 'store-unreachable', { 'retry-after': '1' })];
  const first = presence.setStatus({ status: 'dnd' });
  await server.request('status');
  await presence.setStatus({ status: 'busy' });
  await first;
  assert.deepEqual(server.of('status').map(({ body }) => body.status), ['dnd', 'busy']);
});

test('in open mode there is no token', async () => {
  await client({ token: undefined, connectionId: 'phone-1', url: server.url + '/' }).connect();
  const [{ headers, body, path }] = server.of('connect');
  assert.equal(headers.authorization, undefined);
  assert.deepEqual(body, { connectionId: 'phone-1' });
  assert.equal(path, '/v1/users/al%2Fice/connect');
});

test('a disconnect that fails is the business of its caller only', async () => {
  const presence = client();
  await presence.connect();
  server.next.disconnect = [problem(503, 'store-unreachable'), problem(503, 'store-unreachable')];
  await assert.rejects(presence.disconnect(), /store-unreachable/);
  await sleep(100);
  await presence.connect();
  const stop = presence.watch({ userIds: ['bob'] }, () => {});
  await assert.rejects(presence.disconnect(), /store-unreachable/);
  await sleep(100);
  stop();
});

test('many things at once are one call', async () => {
  const presence = client();
  await presence.connect();
  for (let i = 0; i < 12; i++) presence.join(`doc-${i}`);
  const { body } = await server.request('ping');
  await sleep(100);
  assert.equal(server.of('ping').length, 1);
  assert.equal(body.groups.length, 10, 'more would be refused');
});
