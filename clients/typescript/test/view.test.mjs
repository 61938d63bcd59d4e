import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apply, emptyView, isAmbiguous, select } from '../build/view.js';
import { covers, union } from '../build/watch-list.js';

/** A view after these messages. */
const viewOf = (list, ...messages) => {
  const view = emptyView(list);
  for (const [event, data] of messages) apply(view, { event, data });
  return view;
};
const online = (view, list) => [...select(view, list).online].sort();
const state = (view, user) => select(view, view.list).states.get(user);
const AWAY = { away: true, status: null, data: null };

test('users come online and go offline', () => {
  const list = { userIds: ['a', 'b', 'c'] };
  const view = viewOf(
    list,
    ['presence.snapshot', { online: ['a'] }],
    ['user.online', { userId: 'b' }],
    ['user.offline', { userId: 'a', reason: 'expired' }],
  );
  assert.deepEqual(online(view, list), ['b']);
  assert.deepEqual(online(view, { userIds: ['a', 'c'] }), []);
});

test('a state is replaced as a whole, and ends with the user', () => {
  const list = { userIds: ['a'] };
  const view = viewOf(list, ['presence.snapshot', { online: ['a'], states: { a: { away: true } } }]);
  assert.deepEqual(state(view, 'a'), AWAY);
  const dnd = { away: false, status: 'dnd', data: { text: 'call' } };
  apply(view, { event: 'user.updated', data: { userId: 'a', ...dnd } });
  assert.deepEqual(state(view, 'a'), dnd);
  apply(view, { event: 'user.updated', data: { userId: 'a', away: false, status: null, data: null } });
  assert.equal(state(view, 'a'), undefined);
  apply(view, { event: 'user.updated', data: { userId: 'a', ...AWAY } });
  apply(view, { event: 'user.offline', data: { userId: 'a' } });
  apply(view, { event: 'user.online', data: { userId: 'a' } });
  assert.equal(state(view, 'a'), undefined);
  apply(view, { event: 'user.offline', data: { userId: 'a' } });
  apply(view, { event: 'user.online', data: { userId: 'a', away: true } });
  assert.deepEqual(state(view, 'a'), AWAY);
});

test('each list sees the members of its groups', () => {
  const list = { userIds: ['x'], groupIds: ['g', 'h'] };
  const view = viewOf(
    list,
    ['presence.snapshot', { online: ['x'] }],
    ['presence.snapshot', { groupId: 'g', members: 2, online: ['a', 'b'] }],
    ['presence.snapshot', { groupId: 'h', members: 2, online: ['b'] }],
    ['presence.snapshot', { groupId: 'h', members: 2, online: ['c'] }],
  );
  const g = { groupIds: ['g'] };
  const h = { groupIds: ['h'] };
  assert.deepEqual([online(view, g), online(view, h)], [['a', 'b'], ['b', 'c']]);
  apply(view, { event: 'group.joined', data: { groupId: 'g', userIds: ['d', 'e'], online: ['d'] } });
  apply(view, { event: 'group.left', data: { groupId: 'g', userIds: ['b'], reason: 'removed' } });
  assert.deepEqual([online(view, g), online(view, h)], [['a', 'd'], ['b', 'c']]);
  apply(view, { event: 'group.left', data: { groupId: 'h', userIds: ['b'], reason: 'removed' } });
  assert.deepEqual(online(view, list), ['a', 'c', 'd', 'x'], 'no list names b any more');
  // What was known about a member stays known while the member is offline.
  apply(view, { event: 'user.offline', data: { userId: 'a' } });
  apply(view, { event: 'user.online', data: { userId: 'a' } });
  assert.deepEqual([online(view, g), online(view, h)], [['a', 'd'], ['c']]);
  assert.ok(!isAmbiguous(view, [g, h]));
});

test('a user that comes online belongs to the only group', () => {
  const list = { groupIds: ['g'], userIds: ['x'] };
  const view = viewOf(list, ['presence.snapshot', { groupId: 'g', members: 3, online: [] }]);
  apply(view, { event: 'user.online', data: { userId: 'a' } });
  assert.deepEqual(online(view, { groupIds: ['g'] }), ['a']);
  apply(view, { event: 'user.online', data: { userId: 'x' } });
  assert.ok(isAmbiguous(view, [{ groupIds: ['g'] }]), 'x may be a member or not');
  assert.ok(!isAmbiguous(view, [list]), 'a list that names everything shows x in either case');
});

test('the groups of a user that comes online are unknown if there are several', () => {
  const list = { groupIds: ['g', 'h'] };
  const snapshot = (groupId) => ['presence.snapshot', { groupId, members: 3, online: [] }];
  const view = viewOf(list, snapshot('g'), snapshot('h'), ['user.online', { userId: 'a' }]);
  assert.deepEqual(online(view, list), ['a'], 'one of the groups has the user');
  assert.deepEqual(online(view, { groupIds: ['g'] }), []);
  assert.ok(isAmbiguous(view, [list, { groupIds: ['g'] }]) && !isAmbiguous(view, [list]));
  apply(view, { event: 'group.left', data: { groupId: 'g', userIds: ['a'] } });
  assert.ok(isAmbiguous(view, [list]), 'nothing says whether the other group has the user');
});

test('the groups of a user that joins online are known', () => {
  const list = { groupIds: ['g', 'h'] };
  const view = viewOf(list, ['presence.snapshot', { groupId: 'h', members: 0, online: [] }]);
  apply(view, { event: 'group.joined', data: { groupId: 'g', userIds: ['a'], online: ['a'] } });
  apply(view, { event: 'user.offline', data: { userId: 'a' } });
  apply(view, { event: 'user.online', data: { userId: 'a' } });
  assert.deepEqual([online(view, { groupIds: ['g'] }), online(view, { groupIds: ['h'] })], [['a'], []]);
  apply(view, { event: 'group.left', data: { groupId: 'g', userIds: ['a'] } });
  assert.deepEqual(online(view, list), []);
});

test('without lists, everybody is watched', () => {
  const view = viewOf({}, ['presence.snapshot', { online: ['a'] }], ['user.online', { userId: 'b' }]);
  assert.deepEqual(online(view, {}), ['a', 'b']);
  assert.deepEqual(online(view, { userIds: ['b', 'c'] }), ['b']);
});

test('lists are united, and an empty list is nobody', () => {
  assert.deepEqual(union([{ userIds: ['a', 'b'] }, { userIds: ['b'], groupIds: ['g'] }]), { userIds: ['a', 'b'], groupIds: ['g'] });
  assert.deepEqual(union([{ userIds: ['a'] }, {}]), {});
  assert.equal(union([{ userIds: [] }, { groupIds: [] }]), undefined);
  assert.equal(union([]), undefined);
});

test('a stream covers the lists that it carries completely', () => {
  const whole = { userIds: ['a', 'b'], groupIds: ['g'] };
  assert.ok(covers(whole, { userIds: ['a'] }) && covers(whole, { groupIds: ['g'] }) && covers({}, whole));
  assert.ok(!covers(whole, { userIds: ['c'] }) && !covers(whole, { groupIds: ['h'] }) && !covers(whole, {}));
  assert.ok(covers({ userIds: [] }, { userIds: [] }) && !covers({ userIds: [] }, { userIds: ['a'] }));
});
