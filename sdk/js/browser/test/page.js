// What a browser gives to a page, as far as the modules use it, for tests in Node.

import { Inbox, PATIENCE, soon } from "../../test/inbox.js";

export { Inbox, PATIENCE, soon };

/** The folder of the modules: as nodes serve them, or beside this one. */
export const MODULES = process.env.POSTA_MODULES ? `${process.env.POSTA_MODULES}/` : new URL("..", import.meta.url).pathname;

/** A WebSocket whose other end is the test. */
export class FakeSocket {
  sent = new Inbox();
  closed = false;

  constructor(url, page) {
    this.url = String(url);
    page.sockets.push(this);
  }

  open() {
    this.onopen?.();
    return this;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  /** Resolves with the next line of the client. */
  line() {
    return this.sent.next("a line");
  }

  answer(...lines) {
    for (const line of lines) this.onmessage({ data: JSON.stringify(line) });
  }

  close() {
    this.closed = true;
    queueMicrotask(() => this.drop());
  }

  drop() {
    this.onclose?.();
    this.onclose = null;
  }
}

/** Makes a page whose WebSockets, requests, events and chance are the test's. */
export function page(t, { random = 0 } = {}) {
  const events = new EventTarget();
  const seen = new EventTarget();
  const own = {
    sockets: new Inbox(),
    requests: new Inbox(),
    events,
    document: Object.assign(seen, { hidden: false }),
    fire: (name) => events.dispatchEvent(new Event(name)),
    show: (hidden = false) => {
      own.document.hidden = hidden;
      seen.dispatchEvent(new Event("visibilitychange"));
    },
    socket: async () => (await own.sockets.next("a socket")).open(),
  };
  const stand = {
    location: { href: "https://shop.example/cart?x=1" },
    document: own.document,
    addEventListener: events.addEventListener.bind(events),
    WebSocket: class extends FakeSocket {
      constructor(url) {
        super(url, own);
      }
    },
    fetch: (url, options = {}) =>
      new Promise((resolve, reject) => {
        options.signal?.addEventListener("abort", () => reject(options.signal.reason));
        own.requests.push({
          ...options,
          path: new URL(url).pathname + new URL(url).search,
          fail: () => reject(new TypeError("fetch failed")),
          answer(status, body) {
            if (body instanceof ReadableStream) body = body.pipeThrough(new TransformStream(), { signal: options.signal });
            else if (typeof body === "object") body = JSON.stringify(body);
            resolve(new Response(body, { status }));
          },
        });
      }),
  };
  for (const [name, value] of Object.entries(stand)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  t.mock.method(Math, "random", () => random);
  return own;
}

/** A response body that the test writes. */
export function stream() {
  let control;
  const body = new ReadableStream({ start: (c) => (control = c) });
  const bytes = new TextEncoder();
  return { body, write: (text) => control.enqueue(bytes.encode(text)), end: () => control.close() };
}

/** Lets everything run that waits for no event. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A pass as a backend mints it. */
export const pass = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
