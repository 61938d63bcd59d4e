// What every generated client is used for: each call of the service, and one refusal.
import assert from 'node:assert/strict';

/** The calls, as the functions of one generated client make them. */
export interface Client {
  connect(userId: string, connectionId?: string): Promise<{ becameOnline: boolean; pingIntervalMs: number }>;
  ping(userId: string, connectionId: string): Promise<{ online: boolean; becameOnline: boolean }>;
  disconnect(userId: string, connectionId: string): Promise<Left>;
  disconnectAll(userId: string): Promise<Left>;
  user(userId: string): Promise<{ online: boolean; connections: { connectionId: string }[] }>;
  lookUp(userIds: string[]): Promise<{ online: string[] }>;
  list(limit: number): Promise<{ online: string[]; nextCursor: string | null }>;
  count(): Promise<{ count: number }>;
  /** Asks for a page with an invented cursor. */
  refusal(cursor: string): Promise<{ type: string; status: number }>;
}

interface Left {
  online: boolean;
  becameOffline: boolean;
  connectionId: string | null;
}

/** Where the service is, and the key to it. */
export const [base, key] = process.argv.slice(2) as [string, string];

/** Asserts that a value is present. Some generated clients type it as optional. */
export function some<T>(value: T | undefined): T {
  assert(value !== undefined);
  return value;
}

export async function tour(client: Client): Promise<void> {
  const connected = await client.connect('alice', 'phone-1');
  assert.equal(connected.becameOnline, true);
  assert.equal(connected.pingIntervalMs, 25_000);
  assert.equal((await client.connect('alice')).becameOnline, false);
  const pinged = await client.ping('alice', 'phone-1');
  assert.deepEqual([pinged.online, pinged.becameOnline], [true, false]);

  const alice = await client.user('alice');
  assert.equal(alice.online, true);
  assert.deepEqual(alice.connections.map((each) => each.connectionId), ['1', 'phone-1']);
  assert.deepEqual((await client.lookUp(['bob', 'alice'])).online, ['alice']);
  const page = await client.list(10);
  assert.deepEqual([page.online, page.nextCursor], [['alice'], null]);
  assert.equal((await client.count()).count, 1);

  const one = await client.disconnect('alice', 'phone-1');
  assert.deepEqual([one.online, one.becameOffline, one.connectionId], [true, false, 'phone-1']);
  const all = await client.disconnectAll('alice');
  assert.deepEqual([all.online, all.becameOffline, all.connectionId], [false, true, null]);

  const problem = await client.refusal('nonsense');
  assert.deepEqual([problem.type, problem.status], ['urn:presence:problem:invalid-cursor', 400]);
}
