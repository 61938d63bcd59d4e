// Runs the TypeScript client for one user, and prints what it shows: `live bob carol`. Disconnects on SIGINT.
// Arguments: the module of the client, its options, and the list to watch, both as JSON. Tokens are used in turn.
const [module, options, list] = process.argv.slice(1);
const { createPresence } = await import(module);
const { tokens, ...others } = JSON.parse(options);
const presence = createPresence({ ...others, token: () => (tokens.length > 1 ? tokens.shift() : tokens[0]) });
const stop = presence.watch(JSON.parse(list), ({ online, live }) => {
  console.log([live ? 'live' : 'lost', ...[...online].sort()].join(' '));
});
process.on('SIGINT', () => {
  stop();
  presence.disconnect();
});
await presence.connect();
console.log('connected');
