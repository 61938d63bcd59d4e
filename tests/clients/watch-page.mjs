// Watches a stream in a browser with each library for browsers, as its documentation shows. Keeps the messages of each
// library in window.shown, and errors in window.failures. STREAM is the URL of the stream.
const NAMES = ['presence.snapshot', 'presence.ready', 'presence.reset', 'presence.end', 'user.online', 'user.offline'];

window.failures = [];
window.addEventListener('error', event => failures.push(event.message));
window.addEventListener('unhandledrejection', event => failures.push(String(event.reason)));

const showing = library => {
    const shown = (window.shown ??= {})[library] = [];
    return (event, data) => {
        try {
            shown.push({ event, data: JSON.parse(data) });
        } catch (error) {
            // A library may take it for a broken stream.
            failures.push(`${library}: ${event} with ${JSON.stringify(data)}`);
            throw error;
        }
    };
};

const listen = (library, source) => {
    const show = showing(library);
    source.onmessage = event => show(event.type, event.data);
    for (const name of NAMES) source.addEventListener(name, event => show(event.type, event.data));
    return source;
};

const { fetchEventSource } = await import('/@microsoft/fetch-event-source/lib/esm/index.js');
const { SSE } = await import('/sse.js/lib/sse.js');
const { default: ReconnectingEventSource } = await import('/reconnecting-eventsource/build/esm/reconnecting-eventsource.js');

listen('EventSource', new EventSource(STREAM));
listen('reconnecting-eventsource', new ReconnectingEventSource(STREAM));
listen('sse.js', new SSE(STREAM, { start: false, autoReconnect: true })).stream();
const show = showing('fetch-event-source');
fetchEventSource(STREAM, {
    openWhenHidden: true,
    onmessage: message => show(message.event, message.data),
    // The library takes the proper end of a stream for the end of all; the error here makes the library reconnect.
    onclose: () => { throw new Error('ended'); },
});
