import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure, isFinal, pause } from '../build/api.js';
import { backOff, createTimer, jitter } from '../build/timing.js';
import { sleep } from './server.mjs';

const many = (sample) => Array.from({ length: 2000 }, sample);

test('a pause is up to one second, doubled with each failure, at most half a minute', () => {
  for (const [failures, most] of [[1, 1000], [2, 2000], [5, 16_000], [6, 30_000], [99, 30_000]]) {
    const pauses = many(() => backOff(failures));
    assert.ok(Math.max(...pauses) <= most && Math.max(...pauses) > most * 0.9, `at most ${most}`);
    assert.ok(Math.min(...pauses) < most * 0.1, 'full jitter begins at nothing');
  }
  assert.ok(many(() => backOff(99, 500)).every((ms) => ms <= 500));
});

test('a ping is up to a tenth sooner', () => {
  const waits = many(() => jitter(1000));
  assert.ok(waits.every((ms) => ms > 900 - 1e-9 && ms <= 1000));
});

test('what Retry-After says is the least pause', () => {
  const error = failure({ type: 'urn:presence:problem:too-many-calls', status: 429, detail: '' }, 3000);
  assert.ok(many(() => pause(error, 1)).every((ms) => ms >= 3000 && ms <= 3750));
});

test('a refusal of the service is final, unless another attempt can succeed', () => {
  const final = (status, type = 'about:blank') => isFinal(failure({ status, type, detail: '' }));
  const ours = (status, cause) => final(status, `urn:presence:problem:${cause}`);
  assert.ok(ours(400, 'invalid-user-id') && ours(403, 'not-allowed') && ours(404, 'not-found') && final(403));
  assert.ok(!final(400) && !final(404), 'a proxy may answer so');
  assert.ok(!ours(400, 'unreadable-body') && !ours(401, 'token-expired') && !ours(408, 'body-timeout'));
  assert.ok(!ours(409, 'too-many-connections') && !ours(429, 'too-many-calls') && !ours(503, 'overloaded'));
  assert.ok(!isFinal(new TypeError('fetch failed')));
});

test('a timer runs the last thing only', async () => {
  const timer = createTimer();
  const ran = [];
  timer(5, () => ran.push('first'));
  timer(10, () => ran.push('second'));
  await sleep(30);
  timer(5, () => ran.push('third'));
  timer();
  await sleep(20);
  assert.deepEqual(ran, ['second']);
});
