// The types of openapi-typescript, used by openapi-fetch.
import createClient from 'openapi-fetch';

import type { paths } from './generated';
import { base, key, some, tour } from './tour';

const client = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${key}` } });
const of = (userId: string) => ({ path: { userId } });

void tour({
  connect: async (userId, connectionId) => {
    const body = connectionId ? { connectionId } : undefined;
    return some((await client.POST('/v1/users/{userId}/connect', { params: of(userId), body })).data);
  },
  ping: async (userId, connectionId) => {
    const body = { connectionId };
    return some((await client.POST('/v1/users/{userId}/ping', { params: of(userId), body })).data);
  },
  disconnect: async (userId, connectionId) => {
    const body = { connectionId };
    return some((await client.POST('/v1/users/{userId}/disconnect', { params: of(userId), body })).data);
  },
  disconnectAll: async (userId) => {
    const body = { all: true };
    return some((await client.POST('/v1/users/{userId}/disconnect', { params: of(userId), body })).data);
  },
  user: async (userId) => some((await client.GET('/v1/users/{userId}', { params: of(userId) })).data),
  lookUp: async (userIds) => some((await client.POST('/v1/online', { body: { userIds } })).data),
  list: async (limit) => some((await client.GET('/v1/online', { params: { query: { limit } } })).data),
  count: async () => some((await client.GET('/v1/online/count')).data),
  refusal: async (cursor) => some((await client.GET('/v1/online', { params: { query: { cursor } } })).error),
});
