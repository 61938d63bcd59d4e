// Prints a token, the users that are online, and then each user that comes or goes.
import { allOnline, follow, mintToken, onlineAmong } from './presence.mjs';

console.log('token', mintToken('alice', ['bob']));
console.log('of alice and bob', ...(await onlineAmong(['alice', 'bob'])));
for await (const user of allOnline()) console.log('online', user);
for await (const { event, data } of follow()) console.log(event, data.userId ?? '');
