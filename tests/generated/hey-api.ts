// The client of @hey-api/openapi-ts, which reads the stream too.
import assert from 'node:assert/strict';

import {
  connect,
  countOnline,
  disconnect,
  type EventData,
  getUser,
  listOnline,
  lookUpOnline,
  ping,
  streamEvents,
} from './generated';
import { client } from './generated/client.gen';
import { base, key, some, tour } from './tour';

client.setConfig({ baseUrl: base, auth: key });

async function watch(): Promise<void> {
  const { stream } = await streamEvents({ query: { userIds: ['bob', 'carol'], snapshot: true } });
  const seen: EventData[] = [];
  await connect({ path: { userId: 'bob' } });
  for await (const data of stream) {
    seen.push(data);
    if ('userId' in data && !('reason' in data)) break;
    if ('count' in data) await connect({ path: { userId: 'carol' } });
  }
  const [snapshot, ready, change] = seen;
  assert(snapshot && 'online' in snapshot && ready && change && 'userId' in change);
  assert.deepEqual([snapshot.online, ready, change.userId], [['bob'], { count: 1 }, 'carol']);
}

async function main(): Promise<void> {
  await tour({
    connect: async (userId, connectionId) =>
      some((await connect({ path: { userId }, body: connectionId ? { connectionId } : undefined })).data),
    ping: async (userId, connectionId) => some((await ping({ path: { userId }, body: { connectionId } })).data),
    disconnect: async (userId, connectionId) =>
      some((await disconnect({ path: { userId }, body: { connectionId } })).data),
    disconnectAll: async (userId) => some((await disconnect({ path: { userId }, body: { all: true } })).data),
    user: async (userId) => some((await getUser({ path: { userId } })).data),
    lookUp: async (userIds) => some((await lookUpOnline({ body: { userIds } })).data),
    list: async (limit) => some((await listOnline({ query: { limit } })).data),
    count: async () => some((await countOnline()).data),
    refusal: async (cursor) => some((await listOnline({ query: { cursor } })).error),
  });
  await watch();
}

void main().then(() => process.exit(0));
