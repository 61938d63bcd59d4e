// Chromium over the WebDriver protocol (W3C), with several tabs.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from './server.mjs';

/** No window, and no requests of Chromium itself. */
const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  // Hidden pages are slowed down after one second, not after five minutes.
  '--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1',
];

const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
};

export class Browser {
  #driver;
  #profile = mkdtempSync(join(tmpdir(), 'presence-client-'));
  #base;
  #process;
  /** The window that the browser opens by itself. */
  #first;
  /** One command at a time: a command is about the tab that was selected last. */
  #turn = Promise.resolve();

  static async start() {
    const browser = new Browser();
    const port = await freePort();
    browser.#driver = spawn('chromedriver', [`--port=${port}`], { stdio: 'ignore' });
    const base = `http://127.0.0.1:${port}`;
    const isReady = () => fetch(base + '/status').then((response) => response.json()).then(({ value }) => value.ready);
    while (!(await isReady().catch(() => false))) await sleep(20);
    const options = {
      args: [...FLAGS, `--user-data-dir=${browser.#profile}`],
      // Hidden pages are slowed down, as they are for users.
      excludeSwitches: ['disable-background-timer-throttling', 'disable-renderer-backgrounding', 'disable-backgrounding-occluded-windows'],
    };
    browser.#base = base + '/session';
    const capabilities = { alwaysMatch: { 'goog:chromeOptions': options } };
    const { sessionId, capabilities: granted } = await browser.#tell('POST', '', { capabilities });
    browser.#process = granted['goog:processID'];
    browser.#base += '/' + sessionId;
    browser.#first = await browser.#tell('GET', '/window');
    return browser;
  }

  async #tell(method, path, body) {
    const request = { method, body: body && JSON.stringify(body) };
    const { value } = await fetch(this.#base + path, request).then((response) => response.json());
    if (value?.error) throw new Error(`${path}: ${value.message}`);
    return value;
  }

  /** Runs commands in one tab. */
  async in(handle, commands) {
    const turn = this.#turn.then(async () => {
      await this.#tell('POST', '/window', { handle });
      return commands((method, path, body) => this.#tell(method, path, body));
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Opens a page in a window of its own, since the tabs of one window are all visible without a screen. */
  async open(url) {
    const { handle } = await this.in(this.#first, (tell) => tell('POST', '/window/new', { type: 'window' }));
    const tab = new Tab(this, handle);
    await tab.go(url);
    return tab;
  }

  async stop() {
    await this.#tell('DELETE', '').catch(() => {});
    this.#driver.kill();
    try {
      process.kill(this.#process, 'SIGKILL');
    } catch {
      // It has ended.
    }
    try {
      rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
    } catch {
      // A file that stays does no harm.
    }
  }
}

export class Tab {
  #browser;
  #handle;

  constructor(browser, handle) {
    this.#browser = browser;
    this.#handle = handle;
  }

  #do(commands) {
    return this.#browser.in(this.#handle, commands);
  }

  /** Sends a command of the Chrome DevTools Protocol. */
  tell(cmd, params = {}) {
    return this.#do((tell) => tell('POST', '/goog/cdp/execute', { cmd, params }));
  }

  go(url) {
    return this.#do((tell) => tell('POST', '/url', { url }));
  }

  back() {
    return this.#do((tell) => tell('POST', '/back', {}));
  }

  close() {
    return this.#do((tell) => tell('DELETE', '/window'));
  }

  hide() {
    return this.#setWindow('minimized');
  }

  show() {
    return this.#setWindow('normal');
  }

  #setWindow(windowState) {
    return this.#do(async (tell) => {
      const cdp = (cmd, params) => tell('POST', '/goog/cdp/execute', { cmd, params });
      const { windowId } = await cdp('Browser.getWindowForTarget', {});
      await cdp('Browser.setWindowBounds', { windowId, bounds: { windowState } });
    });
  }

  freeze() {
    return this.tell('Page.setWebLifecycleState', { state: 'frozen' });
  }

  thaw() {
    return this.tell('Page.setWebLifecycleState', { state: 'active' });
  }

  /** Runs the body of an async function. */
  run(script) {
    const source = `const done = arguments[0]; (async () => { ${script} })().then(done, (error) => done('' + error));`;
    return this.#do((tell) => tell('POST', '/execute/async', { script: source, args: [] }));
  }

  async eventually(what, script, expected = true) {
    const giveUp = Date.now() + 30_000;
    for (let last; JSON.stringify(last) !== JSON.stringify(expected); await sleep(20)) {
      last = await this.run(`return ${script}`);
      if (Date.now() > giveUp) throw new Error(`never: ${what}, but ${JSON.stringify(last)}`);
    }
  }
}
