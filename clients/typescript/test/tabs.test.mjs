import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTabs } from '../build/tabs.js';
import { eventually, sleep } from './server.mjs';

// A platform on which this tab never gets the lead.
const locks = { request: (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', reject)) };
Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true });
globalThis.document = { hidden: true };

test('a tab listens to the latest leader only', async () => {
  const heard = [];
  const asked = [];
  const listener = {
    wishes: () => 'wishes',
    onMessage: ({ items, over }) => (items || over) && heard.push(items ?? 'over'),
  };
  const tabs = createTabs('name', listener);
  const channel = new BroadcastChannel('name');
  channel.onmessage = ({ data }) => asked.push(data.wishes);
  const post = (message) => channel.postMessage(message);
  post({ id: 'a', items: 'of the leader that was there before' });
  post({ id: 'b', items: 'of nobody' });
  post({ id: 'b', hello: true });
  post({ id: 'a', items: 'old' });
  post({ id: 'b', items: 'new' });
  post({ id: 'c', wishes: {}, items: 'of a tab that does not lead' });
  post({ id: 'c', over: true });
  await eventually('the last message', () => heard.includes('over'));
  assert.deepEqual(heard, ['of the leader that was there before', 'new', 'over']);
  await eventually('an answer to the new leader', () => asked.includes('wishes'));
  tabs.close();
  await eventually('a goodbye', () => asked.at(-1) === null);
  await sleep(0);
  channel.close();
});
