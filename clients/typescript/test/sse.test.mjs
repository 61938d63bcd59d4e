import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createParser } from '../build/sse.js';

const whole = (text) => createParser()(text);

test('a message has its event, its data and the last id', () => {
  const text = 'retry: 3000\nid: 1\nevent: user.online\ndata: {}\n\ndata: second\n\n';
  assert.deepEqual(whole(text), [
    { event: 'user.online', data: '{}', id: '1' },
    { event: 'message', data: 'second', id: '1' },
  ]);
});

test('comments, unknown fields, blocks without data and an unfinished block are no messages', () => {
  assert.deepEqual(whole(': keep-alive\n\nunknown: 1\n\nid: 7\nevent: x\n\ndata: unfinished\n'), []);
});

test('lines of data are joined, and one space after the colon is removed', () => {
  assert.equal(whole('data:a\ndata:  b\ndata\ndata: c: d\n\n')[0].data, 'a\n b\n\nc: d');
});

test('an id with NUL and a retry that is no number are ignored', () => {
  const parse = createParser();
  assert.equal(parse('id: 1\nid: a\0b\nretry: 10x\nretry: 250\ndata\n\n')[0].id, '1');
  assert.equal(parse.retry, 250);
});

test('the pieces in which a stream arrives make no difference', () => {
  const ends = ['\n', '\r', '\r\n'];
  const fields = ['data: one', 'data:two', 'id: 5', 'event: e', ': comment', '', '', 'data: ✅é名', 'retry: 1'];
  for (let round = 0; round < 500; round++) {
    const pick = (list) => list[Math.floor(Math.random() * list.length)];
    const text = Array.from({ length: 20 }, () => pick(fields) + pick(ends)).join('') + '\n\n';
    const parse = createParser();
    const found = [];
    for (let at = 0; at < text.length; ) {
      const size = Math.floor(Math.random() * 5);
      found.push(...parse(text.slice(at, (at += size))));
    }
    assert.deepEqual(found, whole(text), JSON.stringify(text));
  }
});
