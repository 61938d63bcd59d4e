export { createPresence } from './client.js';
export type * from './types.js';
