// The client of Posta for web pages. docs/web.md describes it.

const OPENING = 3000; // ms that a WebSocket may take to open before fetch takes its place
const FETCHING = 60_000; // ms until a client that uses fetch tries a WebSocket again
const PATIENCE = 30_000; // ms that a request waits for a connection
const REPEATS = 3; // of a request that may have been carried out already
const ROUND = 15_000; // ms between two looks at a quiet connection
const RENEWAL = 5000; // ms until a renewal that has failed is tried again; a connection stays for 10 s when its pass has ended
const LARGE = 1_000_000; // bytes of a payload that a line or a body still takes
const ABANDONED = 100; // watches that were left, after which a connection is replaced

/**
 * @typedef {Record<string, any>} Line
 * @typedef {{task: string, status: string, attempt: number, seq?: number, at?: string, node?: string, worker?: string,
 *   progress?: {percent: number, message?: string}, result?: any, error?: string, code?: string, retried?: boolean}} TaskEvent
 * @typedef {{queue?: string, priority?: "high" | "normal" | "low", delay?: number, run_at?: string, expires?: number,
 *   timeout?: number, max_attempts?: number, backoff?: number, backoff_max?: number, key?: string, keep?: number,
 *   keep_failed?: number, meta?: Record<string, string>}} TaskOptions as on the line; all times in seconds
 * @typedef {{fields: Line, each?: (line: Line) => boolean, repeats?: number, patience?: number, signal?: AbortSignal}} Call
 * @typedef {{retired: boolean, request(fields: Line, each: (line: Line) => boolean, signal?: AbortSignal): Promise<Line>}} Way
 */

/** A refusal of a node, a run that failed, or a lost connection. docs/web.md lists the codes. */
export class PostaError extends Error {
  /**
   * @param {Line} line
   * @param {unknown} [cause]
   */
  constructor(line, cause) {
    super(line.error ?? line.detail ?? line.code, { cause });
    this.name = "PostaError";
    /** @type {string} */
    this.code = line.code ?? "internal";
    /** @type {string | undefined} */
    this.field = line.field;
    /** @type {string | undefined} */
    this.task = line.task;
    /** @type {string | undefined} */
    this.state = line.state;
    /** @type {number | undefined} seconds */
    this.retryAfter = line.retry_after;
  }
}

const lost = (/** @type {unknown} */ cause) => new PostaError({ code: "unknown_outcome", error: "the connection ended before the answer" }, cause);
const absent = (/** @type {unknown} */ cause) => new PostaError({ code: "disconnected", error: "no node can be reached" }, cause);
const isLast = (/** @type {Line} */ { status, retried }) => !retried && /^(done|failed|cancelled)$/.test(status);

/** Returns a random UUID, also on pages without TLS, which have no crypto.randomUUID. */
const uuid = () =>
  crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/** @param {unknown} value */
function encode(value) {
  const text = JSON.stringify(value ?? null);
  if (text === undefined || /(^|[^\\])(\\\\)*\\ud[89a-f]/.test(text)) throw new TypeError("the payload is no JSON that a node accepts");
  return text;
}

/**
 * Returns a client. It connects for its first request.
 * @param {string | URL} url of the node, the balancer or the proxy in front of them, relative to the page
 * @param {{token?: string | (() => string | Promise<string>), onchange?: (state: "socket" | "fetch" | "offline") => void}} [options]
 *   `token` is sent after the connection is open, never in the URL. A function is called again when the node no longer
 *   accepts what it returned.
 */
export function connect(url = "/", options = {}) {
  return new Client(url, options);
}

/** Sends tasks and follows them, over one WebSocket. */
export class Client {
  /** @type {URL} */
  #base;
  #token;
  #onchange;
  #state = "";
  /** @type {Promise<string> | undefined} */
  #pass;
  /** @type {Socket | undefined} */
  #socket;
  /** @type {Promise<Way> | undefined} */
  #opening;
  #fetchUntil = 0;
  #failures = 0;
  /** @type {Set<() => void>} */
  #sleepers = new Set();
  #closed = new AbortController();

  /**
   * @param {string | URL} url
   * @param {NonNullable<Parameters<typeof connect>[1]>} options
   */
  constructor(url, { token, onchange }) {
    this.#base = new URL(url, globalThis.location?.href);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#token = token;
    this.#onchange = onchange;
    const { signal } = this.#closed;
    const wake = () => {
      if (globalThis.document?.hidden) return;
      this.#failures = 0;
      for (const wakeUp of this.#sleepers) wakeUp();
      this.#socket?.probe(ROUND / 3);
    };
    globalThis.addEventListener?.("online", wake, { signal });
    globalThis.document?.addEventListener("visibilitychange", wake, { signal });
  }

  /**
   * Runs an action now and resolves with its result.
   * @param {string} action
   * @param {unknown} [payload]
   * @param {{timeout?: number, idempotent?: boolean, signal?: AbortSignal}} [options] `idempotent`: it may run twice
   * @returns {Promise<any>}
   */
  async run(action, payload, { timeout, idempotent, signal } = {}) {
    if (new Blob([encode(payload)]).size > LARGE) throw new RangeError("the payload is too large for a run; enqueue it");
    const { result } = await this.#request({ fields: { op: "run", action, payload, timeout }, repeats: idempotent ? REPEATS : 0, signal });
    const { ok, ...value } = result;
    if (!ok) throw new PostaError({ code: "action_failed", ...value });
    return "data" in value ? value.data : value;
  }

  /**
   * Stores a task, and resolves once no crash can lose it. Without a key it gets a random one, so that it can be sent
   * again after a broken connection.
   * @param {string} action
   * @param {unknown} [payload]
   * @param {TaskOptions & {signal?: AbortSignal}} [options]
   * @returns {Promise<{task: string, status: string, duplicate?: boolean, run_at?: string, warning?: string}>}
   */
  async enqueue(action, payload, { signal, ...options } = {}) {
    const text = encode(payload);
    const fields = { op: "enqueue", action, key: uuid(), ...options, payload };
    if (new Blob([text]).size > LARGE) {
      const { blob } = await this.#request({ fields: { op: "upload", text }, repeats: REPEATS, signal });
      Object.assign(fields, { payload: undefined, payload_blob: blob });
    }
    const { id, ...answer } = await this.#request({ fields, repeats: REPEATS, signal });
    return /** @type {any} */ (answer);
  }

  /**
   * Yields what happens to a task, up to its end. After a disconnect it continues with the next event.
   * @param {string | {task: string}} task
   * @param {{after?: number, signal?: AbortSignal}} [options] `after`: the `seq` of the last event that is known
   * @returns {AsyncGenerator<TaskEvent, void, undefined>}
   */
  async *watch(task, { after = 0, signal } = {}) {
    const fields = { op: "watch", task: typeof task === "string" ? task : task.task, after };
    /** @type {Line[]} */
    const events = [];
    let wake = () => {};
    const left = new AbortController();
    const leave = () => left.abort(signal?.reason);
    if (signal?.aborted) leave();
    signal?.addEventListener("abort", leave);
    let ended = false;
    const end = this.#request({
      fields,
      each: (event) => {
        fields.after = event.seq ?? fields.after;
        if (event.progress && events.at(-1)?.progress) events.pop(); // only the newest counts
        events.push(event);
        wake();
        return isLast(event);
      },
      repeats: Infinity,
      patience: Infinity,
      signal: left.signal,
    }).finally(() => {
      ended = true;
      wake();
    });
    end.catch(() => {}); // thrown below, after the events
    try {
      for (;;) {
        const event = events.shift();
        if (!event) {
          if (ended) return void (await end);
          await new Promise((resolve) => (wake = () => resolve(undefined)));
          continue;
        }
        const { id, ...rest } = event;
        if (rest.result?.blob?.href) {
          rest.result = await this.#request({ fields: { op: "body", href: rest.result.blob.href }, repeats: Infinity, signal: left.signal });
        }
        yield /** @type {any} */ (rest);
      }
    } finally {
      signal?.removeEventListener("abort", leave);
      left.abort();
    }
  }

  /**
   * Cancels a task. A running one is "cancelling" until its action has stopped.
   * @param {string | {task: string}} task
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<"cancelled" | "cancelling">}
   */
  async cancel(task, { signal } = {}) {
    const fields = { op: "cancel", task: typeof task === "string" ? task : task.task };
    return (await this.#request({ fields, repeats: REPEATS, signal })).status;
  }

  /** Ends the connection. Open requests are rejected. */
  close() {
    this.#closed.abort(new PostaError({ code: "closed", error: "the client is closed" }));
    this.#socket?.end();
    for (const wakeUp of this.#sleepers) wakeUp();
  }

  /**
   * Sends a request until it has an answer or must not be sent again.
   * @param {Call} call
   * @returns {Promise<Line>}
   */
  async #request({ fields, each = () => true, repeats = 0, patience = PATIENCE, signal }) {
    const end = Date.now() + patience;
    let renewed = false;
    const listen = (/** @type {Line} */ line) => {
      renewed = false;
      this.#failures = 0;
      return each(line);
    };
    for (;;) {
      let pass;
      try {
        const way = await this.#open(signal, /upload|body/.test(fields.op));
        pass = this.#pass;
        return await way.request(fields, listen, signal);
      } catch (error) {
        signal?.throwIfAborted();
        this.#closed.signal.throwIfAborted();
        if (!(error instanceof PostaError)) throw error;
        const { code, retryAfter = 0 } = error;
        if (code === "unauthenticated" && typeof this.#token === "function" && !renewed) {
          renewed = true;
          await this.#renew(pass);
          continue;
        }
        const again = code === "unknown_outcome" ? repeats-- > 0 : /^(disconnected|draining|overloaded)$/.test(code);
        if (!again || Date.now() >= end) throw error;
        await this.#pause(retryAfter * 1000, signal);
      }
    }
  }

  /**
   * Waits with full jitter, at most until the page wakes up.
   * @param {number} atLeast
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  #pause(atLeast, signal) {
    const most = Math.min(30_000, 200 * 2 ** this.#failures++);
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#sleepers.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, atLeast + Math.random() * most);
      this.#sleepers.add(done);
      signal?.addEventListener("abort", done);
    });
  }

  /**
   * @param {AbortSignal | undefined} signal
   * @param {boolean} byFetch
   * @returns {Promise<Way>}
   */
  async #open(signal, byFetch) {
    signal?.throwIfAborted();
    this.#closed.signal.throwIfAborted();
    if (byFetch) return this.#fetch;
    if (this.#socket && !this.#socket.retired) return this.#socket;
    this.#opening ??= this.#connect().finally(() => (this.#opening = undefined));
    return abortable(this.#opening, signal);
  }

  /** @returns {Promise<Way>} */
  async #connect() {
    if (Date.now() < this.#fetchUntil) return this.#fetch;
    for (;;) {
      const known = this.#pass;
      let socket;
      try {
        await this.#current();
        socket = await Socket.open(new URL("v1/socket", this.#base), this.#renew, this.#changed);
        if (!socket) break;
        await socket.authenticate(this.#pass);
        this.#socket = socket;
        if (this.#closed.signal.aborted) socket.end();
        this.#changed("socket");
        return socket;
      } catch (error) {
        socket?.end();
        if (!known || typeof this.#token !== "function" || !(error instanceof PostaError) || error.code !== "unauthenticated") throw error;
        this.#pass = undefined; // it was used before, and has ended since
      }
    }
    try {
      // Any answer shows that fetch works where sockets do not.
      await fetch(new URL("healthz", this.#base), { signal: AbortSignal.timeout(PATIENCE) });
    } catch (error) {
      this.#changed("offline");
      throw absent(error);
    }
    this.#fetchUntil = Date.now() + FETCHING;
    this.#changed("fetch");
    return this.#fetch;
  }

  #changed = (/** @type {"socket" | "fetch" | "offline"} */ state) => {
    if (state !== this.#state) this.#onchange?.(state);
    this.#state = state;
  };

  /** @returns {Promise<string>} the token of the page, or "" */
  #current() {
    const token = this.#token;
    this.#pass ??= (async () => (typeof token === "function" ? token() : token) ?? "")().catch((error) => {
      this.#pass = undefined;
      throw error instanceof TypeError ? absent(error) : error; // a TypeError is how fetch says that nobody answers
    });
    return this.#pass;
  }

  /** Gets a new token and sends it on the open connection. */
  #renew = async (/** @type {Promise<string> | undefined} */ old) => {
    if (this.#pass === old) this.#pass = undefined;
    await this.#current();
    if (this.#socket && !this.#socket.retired) await this.#socket.authenticate(this.#pass).catch(() => {});
  };

  /** @type {Way} sends requests by fetch, and reads watches as server-sent events */
  #fetch = {
    retired: false,
    request: async ({ op, task, after, href, text, ...fields }, each, signal) => {
      /** @type {Line} */
      const ways = {
        run: ["POST", "v1/run", fields],
        enqueue: ["POST", "v1/tasks", fields],
        cancel: ["POST", `v1/tasks/${task}/cancel`],
        watch: ["GET", `v1/tasks/${task}/events?after=${after}`],
        upload: ["PUT", "v1/blobs", text],
        body: ["GET", `${href}`.slice(1)],
      };
      const [method, path, body] = ways[op];
      const own = new AbortController();
      const abort = () => own.abort();
      signal?.addEventListener("abort", abort);
      this.#closed.signal.addEventListener("abort", abort);
      let timer = 0;
      try {
        const token = await this.#current();
        const response = await fetch(new URL(path, this.#base), {
          method,
          headers: { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) },
          body: op === "upload" ? body : body && JSON.stringify(body),
          signal: own.signal,
        });
        if (!response.ok) throw new PostaError(await response.json());
        if (op !== "watch") return await response.json();
        const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
        const decoder = new TextDecoder();
        for (let rest = ""; ; ) {
          timer = setTimeout(abort, 3 * ROUND); // a quiet stream has a comment each round
          const { value, done } = await reader.read();
          clearTimeout(timer);
          if (done) throw lost("the stream ended");
          const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
          rest = parts.pop() ?? "";
          for (const part of parts) {
            const data = /^data: (.*)$/m.exec(part);
            if (!data) continue;
            const line = JSON.parse(data[1]);
            if (line.status === "error") throw new PostaError(line);
            if (each(line)) return line;
          }
        }
      } catch (error) {
        if (error instanceof PostaError) throw error;
        if (!signal?.aborted) this.#fetchUntil = 0;
        throw lost(error);
      } finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#closed.signal.removeEventListener("abort", abort);
        own.abort();
      }
    },
  };
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
function abortable(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** One WebSocket. It matches answers to requests by ids of its own. */
class Socket {
  retired = false;
  #socket;
  #renew;
  #changed;
  /** @type {Promise<string> | undefined} */
  #pass;
  /** @type {Map<number, {resolve: (line: Line) => void, reject: (error: unknown) => void, each: (line: Line) => boolean, op: string}>} */
  #calls = new Map();
  #id = 0;
  #abandoned = 0;
  #heard = true;
  /** @type {PostaError | undefined} */
  #refusal;
  #ended = false;
  #timer = 0;
  #renewal = 0;

  /**
   * Resolves with nothing if the socket does not open in time.
   * @param {URL} url
   * @param {(old: Promise<string> | undefined) => Promise<void>} renew
   * @param {(state: "offline") => void} changed
   * @returns {Promise<Socket | undefined>}
   */
  static open(url, renew, changed) {
    url.protocol = url.protocol.replace("http", "ws");
    return new Promise((resolve) => {
      const socket = new WebSocket(url);
      const give = (/** @type {Socket | undefined} */ own) => {
        clearTimeout(timer);
        resolve(own);
      };
      const timer = setTimeout(() => {
        socket.onopen = null;
        socket.close();
        give(undefined);
      }, OPENING);
      socket.onopen = () => give(new Socket(socket, renew, changed));
      socket.onerror = socket.onclose = () => give(undefined);
    });
  }

  /**
   * @param {WebSocket} socket
   * @param {(old: Promise<string> | undefined) => Promise<void>} renew
   * @param {(state: "offline") => void} changed
   */
  constructor(socket, renew, changed) {
    this.#socket = socket;
    this.#renew = renew;
    this.#changed = changed;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onerror = socket.onclose = () => this.end();
    this.#timer = setInterval(() => {
      if (!this.#heard) this.probe(ROUND);
      this.#heard = false;
    }, ROUND);
  }

  /**
   * Sends the token, and again before it ends.
   * @param {Promise<string> | undefined} pass
   */
  async authenticate(pass) {
    const token = await (this.#pass = pass);
    if (!token) return;
    await this.request({ op: "auth", token });
    clearTimeout(this.#renewal);
    let left = 0;
    try {
      const claims = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
      left = claims.exp * 1000 - Date.now();
    } catch {} // no JWT, so it tells no end
    const renew = () =>
      this.#renew(pass).catch(() => {
        if (!this.#ended) this.#renewal = setTimeout(renew, RENEWAL);
      });
    if (left > 0) this.#renewal = setTimeout(renew, Math.min(left * 0.8, 2 ** 31 - 1));
  }

  /**
   * Sends a request and resolves with its last line, the first for which each returns true.
   * @param {Line} fields
   * @param {(line: Line) => boolean} [each]
   * @param {AbortSignal} [signal]
   * @returns {Promise<Line>}
   */
  request(fields, each = () => true, signal) {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(absent(this.#refusal));
      const id = ++this.#id;
      const abort = () => {
        if (this.#calls.delete(id) && fields.op === "watch" && ++this.#abandoned >= ABANDONED) this.retired = true;
        settle(() => reject(signal?.reason));
      };
      const settle = (/** @type {() => void} */ then) => {
        signal?.removeEventListener("abort", abort);
        this.#calls.delete(id);
        if (this.retired && this.#calls.size === 0) this.end();
        then();
      };
      signal?.addEventListener("abort", abort);
      this.#calls.set(id, { op: fields.op, each, resolve: (line) => settle(() => resolve(line)), reject: (error) => settle(() => reject(error)) });
      this.#socket.send(JSON.stringify({ id, ...fields }));
    });
  }

  /** @param {Line} line */
  #receive(line) {
    this.#heard = true;
    const call = this.#calls.get(line.id);
    if (line.id === null) {
      if (line.status === "goaway") {
        this.retired = true;
        if (this.#calls.size === 0) this.end();
      } else if (line.status === "error") {
        this.#refusal = new PostaError(line);
        if (line.code === "unauthenticated") this.#renew(this.#pass).catch(() => {}); // the pass ends
      }
    } else if (call && line.status === "error") {
      call.reject(new PostaError(line));
    } else if (call?.each(line)) {
      call.resolve(line);
    }
  }

  /**
   * Ends the connection if nothing is heard in time. A node may be silent while a run waits for a slot.
   * @param {number} time
   */
  probe(time) {
    const ops = [...this.#calls.values()].map(({ op }) => op);
    if (this.#ended || ops.length === 0 || ops.includes("run")) return;
    this.#heard = false;
    this.request({ op: "ping" }).catch(() => {});
    setTimeout(() => this.#heard || this.end(), time);
  }

  end() {
    if (this.#ended) return;
    if (!this.retired && this.#calls.size > 0) this.#changed("offline");
    this.#ended = this.retired = true;
    clearInterval(this.#timer);
    clearTimeout(this.#renewal);
    this.#socket.close();
    const error = this.#refusal?.code === "overloaded" ? this.#refusal : lost(this.#refusal);
    for (const { reject } of [...this.#calls.values()]) reject(error);
  }
}
