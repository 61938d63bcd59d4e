// Watches a stream with one library, as its documentation shows it, and prints each message that the library shows:
//     node --input-type=module -e "$(cat watch.mjs)" eventsource http://127.0.0.1:8080/v1/events
const [, library, url] = process.argv;

const NAMES = ['presence.snapshot', 'presence.ready', 'presence.reset', 'presence.end', 'user.online', 'user.offline'];

const show = (event, data) => console.log(JSON.stringify({ event, data: JSON.parse(data) }));

const listen = source => {
    source.onmessage = event => show(event.type, event.data);
    for (const name of NAMES) source.addEventListener(name, event => show(event.type, event.data));
};

const libraries = {
    'eventsource': async () => {
        const { EventSource } = await import('eventsource');
        listen(new EventSource(url));
    },
    'eventsource-3': async () => {
        const { EventSource } = await import('eventsource-3');
        listen(new EventSource(url));
    },
    'eventsource-client': async () => {
        const { createEventSource } = await import('eventsource-client');
        createEventSource({ url, onMessage: ({ event, data }) => show(event, data) });
    },
};

await libraries[library]();

// While eventsource 5 waits to come back, it keeps no process alive.
setInterval(() => {}, 1000);
