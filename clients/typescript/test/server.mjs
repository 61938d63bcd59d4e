// A service that answers as a test says, and records what it was asked.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** Answers in place of the service: a problem document. */
export const problem = (status, type, headers = {}) => ({
  status,
  headers,
  body: { type: `urn:presence:problem:${type}`, title: type, status, detail: `${type} is the cause` },
});

export class Server {
  /** Every request: `{ path, verb, body, headers, at, open, response }`. */
  requests = [];
  pingIntervalMs = 60_000;
  /** Pages and scripts by their path. */
  files = {};
  /** Answers by verb (`connect`, `events`, …), used once each, before the usual answers. */
  next = {};
  /** What a stream begins with. */
  begin = (stream) => this.snapshot(stream, []);
  #id = 0;
  #server = createServer((request, response) => this.#answer(request, response));

  static async start() {
    const server = new Server();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** The requests for this verb so far. */
  of(verb) {
    return this.requests.filter((request) => request.verb === verb);
  }

  /** The streams that are open. */
  get streams() {
    return this.of('events').filter(({ open }) => open);
  }

  /** The `count`th request for this verb, once it has come. */
  async request(verb, count = 1) {
    await eventually(`${verb} ${count}`, () => this.of(verb).length >= count);
    return this.of(verb)[count - 1];
  }

  /** Sends one message to the reader of a stream. */
  send(stream, event, data) {
    stream.response.write(`id: ${++this.#id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  snapshot(stream, online, more = {}) {
    this.send(stream, 'presence.snapshot', { online, ...more });
    this.send(stream, 'presence.ready', { count: online.length });
  }

  async #answer(request, response) {
    let text = '';
    for await (const piece of request) text += piece;
    const file = this.files[request.url];
    if (file !== undefined) {
      response.setHeader('content-type', request.url.endsWith('.js') ? 'text/javascript' : 'text/html');
      return response.end(file);
    }
    const verb = request.url.split('/').at(-1);
    const { headers, method, url: path } = request;
    const record = { method, path, verb, headers, body: text && JSON.parse(text), at: Date.now(), response, open: true };
    response.on('close', () => (record.open = false));
    this.requests.push(record);
    const scripted = this.next[verb]?.shift();
    if (typeof scripted === 'function') return scripted(record);
    if (scripted) {
      response.writeHead(scripted.status, { 'content-type': 'application/problem+json', ...scripted.headers });
      response.end(JSON.stringify(scripted.body));
    } else if (verb === 'events') {
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
      if (!headers['last-event-id']) this.begin(record);
      else this.send(record, 'presence.ready', {});
    } else {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ pingIntervalMs: this.pingIntervalMs, ttlMs: 2 * this.pingIntervalMs }));
    }
  }
}

/** Waits until `condition` is true. */
export const eventually = async (what, condition, patience = 30_000) => {
  const giveUp = Date.now() + patience;
  while (!condition()) {
    if (Date.now() > giveUp) throw new Error(`never: ${what}`);
    await sleep(5);
  }
};

export { sleep };
