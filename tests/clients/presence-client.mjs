// Runs the TypeScript client for one user, and prints what it shows: `live bob carol(dnd)`. Disconnects on SIGINT.
// Arguments: the module of the client, its options, and the list to watch, both as JSON. Tokens are used in turn.
// `joins` names groups to join, `status` is set, and with `swallow` no byte of a stream arrives.
const [module, options, list] = process.argv.slice(1);
const { createPresence } = await import(module);
const { tokens, joins = [], status, swallow, ...others } = JSON.parse(options);

const token = () => (tokens.length > 1 ? tokens.shift() : tokens[0]);
const fetchWithoutStreams = async (url, init) => {
  const isStream = url.endsWith('/events') && init.headers.accept !== 'application/json';
  if (!isStream) return fetch(url, init);
  return new Promise((_, reject) => init.signal.addEventListener('abort', () => reject(init.signal.reason)));
};
const presence = createPresence({ ...others, token, fetch: swallow ? fetchWithoutStreams : fetch });

const shown = (user, { away, status } = {}) => user + (away || status ? `(${away ? 'away' : status})` : '');
const stop = presence.watch(JSON.parse(list), ({ online, states, live }) => {
  const users = [...online].sort().map((user) => shown(user, states.get(user)));
  console.log([live ? 'live' : 'lost', ...users].join(' '));
});
process.on('SIGINT', () => {
  stop();
  presence.disconnect();
});
for (const group of joins) presence.join(group);
await presence.connect();
if (status) await presence.setStatus(status);
console.log('connected');
