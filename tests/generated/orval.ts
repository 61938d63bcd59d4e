// The client of orval, which calls `fetch` with the paths of the document.
import { connect, countOnline, disconnect, getUser, listOnline, lookUpOnline, ping } from './generated';
import { base, key, tour } from './tour';

const { fetch } = globalThis;
globalThis.fetch = (path, init) => {
  const headers = new Headers(init?.headers);
  headers.set('Authorization', `Bearer ${key}`);
  return fetch(`${base}${String(path)}`, { ...init, headers });
};

/** What a call returned with this status. */
function answered<Response extends { status: number; data: unknown }, Status extends Response['status']>(
  response: Response,
  status: Status,
): Extract<Response, { status: Status }>['data'] {
  if (response.status !== status) throw new Error(JSON.stringify(response));
  return response.data;
}

void tour({
  connect: async (userId, connectionId) =>
    answered(await connect(userId, connectionId ? { connectionId } : undefined), 200),
  ping: async (userId, connectionId) => answered(await ping(userId, { connectionId }), 200),
  disconnect: async (userId, connectionId) => answered(await disconnect(userId, { connectionId }), 200),
  disconnectAll: async (userId) => answered(await disconnect(userId, { all: true }), 200),
  user: async (userId) => answered(await getUser(userId), 200),
  lookUp: async (userIds) => answered(await lookUpOnline({ userIds }), 200),
  list: async (limit) => answered(await listOnline({ limit }), 200),
  count: async () => answered(await countOnline(), 200),
  refusal: async (cursor) => answered(await listOnline({ cursor }), 400),
});
