import { Backoff } from "./backoff.js";
import { getBlob, putBlob } from "./blob.js";
import { Connection, Lost } from "./connection.js";
import { ConnectionLost, Refused, TaskFailed, UnknownOutcome, WaitTimeout } from "./errors.js";
import { byteLength, encode } from "./json.js";
import { dial, parseTarget } from "#platform";

/** The most bytes of a line that a node accepts. */
export const LONGEST_REQUEST = 1 << 20;

/** How many times a request is sent again whose fate is unknown: a task that kills its node must not kill them all. */
const MOST_REPEATS = 3;
/** The same for requests that change nothing: enough for a rolling restart. */
const MOST_READS = 10;
/** Seconds that a single `wait` may last on the line. */
const LONGEST_WAIT = 3600;

/**
 * The record of a task, with the names of the protocol; docs/wire.md describes all members. Times are RFC 3339.
 * @typedef {object} TaskRecord
 * @property {string} task
 * @property {"scheduled" | "queued" | "running" | "done" | "failed" | "cancelled"} status
 * @property {string} queue
 * @property {string} action
 * @property {number} attempt
 * @property {number} max_attempts
 * @property {number} timeout
 * @property {number} generation
 * @property {"high" | "normal" | "low"} priority
 * @property {string} created_at
 * @property {string} [run_at]
 * @property {string} [started_at]
 * @property {string} [finished_at]
 * @property {string} [node]
 * @property {string} [worker]
 * @property {string} [owner]
 * @property {Progress} [progress]
 * @property {boolean} [cancelling]
 * @property {string} [key]
 * @property {Record<string, string>} [meta]
 * @property {string} [warning]
 * @property {any} [payload]
 * @property {any} [result] `{ok, data}` or the members that a built-in action adds
 * @property {string} [error]
 * @property {string} [code]
 */

/**
 * @typedef {object} Progress
 * @property {number} percent
 * @property {string} [message]
 */

/**
 * An event of a watch: an entry of the task's history, or progress, which has no `seq`.
 * @typedef {object} TaskEvent
 * @property {string} task
 * @property {TaskRecord["status"]} status
 * @property {number} attempt
 * @property {number} [seq]
 * @property {string} [at]
 * @property {string} [node]
 * @property {string} [worker]
 * @property {Progress} [progress]
 * @property {any} [result]
 * @property {string} [error]
 * @property {string} [code]
 * @property {boolean} [retried] somebody has retried the task after this end: more events follow
 */

/**
 * @typedef {object} EnqueueOptions
 * @property {string} [queue] "default" if absent
 * @property {"high" | "normal" | "low"} [priority]
 * @property {number} [delay] seconds until the task may start
 * @property {Date | string} [runAt] the time at which it may start
 * @property {number} [expires] seconds after which it fails if it has not started
 * @property {number} [timeout] seconds of one attempt
 * @property {number} [maxAttempts]
 * @property {number} [backoff] seconds before the second attempt
 * @property {number} [backoffMax] most seconds before an attempt
 * @property {string} [key] identifies the task in its queue: the same request with the same key is the same task
 * @property {number} [keep] seconds that the task is kept when it is done or cancelled
 * @property {number} [keepFailed] seconds that the task is kept when it has failed
 * @property {Record<string, string>} [meta] labels
 * @property {AbortSignal} [signal] gives up; not sent to the node
 */

/**
 * @typedef {object} RunOptions
 * @property {number} [timeout] seconds that the action may take
 * @property {boolean} [idempotent] the action may run twice: it is sent again if the connection ends before the answer
 * @property {AbortSignal} [signal] gives up waiting
 */

/** The option of `enqueue` and the key of the line for each. */
const ENQUEUE_KEYS = Object.entries({
  queue: "queue",
  priority: "priority",
  delay: "delay",
  runAt: "run_at",
  expires: "expires",
  timeout: "timeout",
  maxAttempts: "max_attempts",
  backoff: "backoff",
  backoffMax: "backoff_max",
  key: "key",
  keep: "keep",
  keepFailed: "keep_failed",
  meta: "meta",
});

/**
 * Sends tasks to a node or a balancer. It connects for the first request and connects again when it must. All
 * requests share one connection, which does not keep the process alive while nothing is asked.
 */
export class Client {
  #target;
  #dial;
  #connectWait;
  /** @type {Promise<Connection> | undefined} */
  #opening;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {Set<Connection>} all that are open, also those that only wait for their last replies */
  #connections = new Set();
  #backoff;
  #closed = new AbortController();
  /** @type {TaskCalls} what a Task asks its client for */
  #calls = {
    request: (fields, options) => this.request(fields, options),
    wait: (task, options) => this.#wait(task, options),
    watch: (task, after, signal) => this.#watch(task, after, signal),
  };

  /**
   * @param {string} [address] HOST:PORT of a node or a balancer, or of several with commas in between;
   *   $POSTA_TO, or 127.0.0.1:9000
   * @param {import("./node.js").TargetOptions & {connectWait?: number,
   *   dial?: (signal: AbortSignal) => Promise<import("./line.js").Lines>}} [options] `connectWait` is how many seconds a
   *   request waits while no connection can be opened or nodes refuse it for the moment (30); `dial` opens the stream in another way than by TCP
   */
  constructor(address, { connectWait = 30, dial: open, token, tls, reconnect, ...rest } = {}) {
    noOthers(rest, "a client");
    this.#target = parseTarget(address, { token, tls, reconnect });
    this.#dial = open ?? ((/** @type {AbortSignal} */ signal) => dial(this.#target, signal));
    this.#connectWait = connectWait;
    this.#backoff = new Backoff(this.#target.reconnect);
  }

  /**
   * Runs an action at once and resolves with its result. Rejects with TaskFailed if the action fails, and with
   * UnknownOutcome if the connection ends before the answer.
   * @param {string} action
   * @param {unknown} [payload]
   * @param {RunOptions} [options]
   * @returns {Promise<any>} what the action returned; of an action that adds members to the result, those
   */
  async run(action, payload, { timeout, idempotent = false, signal, ...rest } = {}) {
    noOthers(rest, "run");
    const body = members({ op: "run", action, timeout }) + `,"payload":${encode(payload, "the payload")}}`;
    if (tooLong(body)) throw new RangeError("the payload is too large for a run; enqueue the task instead");
    const reply = await this.#request(body, idempotent ? MOST_REPEATS : 0, { signal });
    if (!reply.result?.ok) throw new TaskFailed(reply.result?.error ?? "the action failed");
    return this.#value(reply.result, signal);
  }

  /**
   * Stores a task that runs later, and resolves once no crash can lose it. Rejects with UnknownOutcome if the
   * connection ends before the answer; with a `key`, the task is sent again instead.
   * @param {string} action
   * @param {unknown} [payload]
   * @param {EnqueueOptions} [options]
   * @returns {Promise<Task>}
   */
  async enqueue(action, payload, options = {}) {
    const { signal, ...rest } = options;
    /** @type {Record<string, unknown>} */
    const fields = { op: "enqueue", action };
    for (const [option, key] of ENQUEUE_KEYS) {
      fields[key] = rest[/** @type {keyof typeof rest} */ (option)];
      delete rest[/** @type {keyof typeof rest} */ (option)];
    }
    noOthers(rest, "enqueue");
    const head = members(fields);
    const text = encode(payload, "the payload");
    let body = `${head},"payload":${text}}`;
    if (tooLong(body)) {
      body = `${head},"payload_blob":${JSON.stringify(await putBlob(this.#target, text, signal))}}`;
    }
    const repeats = options.key === undefined ? 0 : MOST_REPEATS;
    return new Task(this.#calls, await this.#request(body, repeats, { signal }));
  }

  /**
   * Returns a task by its id, without asking the node.
   * @param {string} id
   * @returns {Task}
   */
  task(id) {
    return new Task(this.#calls, { task: id });
  }

  /**
   * Sends any request of docs/wire.md that has one answer, such as `{op: "queues"}`, and resolves with that line. It is
   * sent again if the connection ends before the answer and the op changes nothing.
   * @param {Record<string, unknown>} fields
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<import("./connection.js").Reply>}
   */
  async request(fields, { signal } = {}) {
    const op = String(fields.op ?? "run");
    const repeats = ["get", "wait", "list", "queues", "ping", "info"].includes(op) ? MOST_READS : 0;
    return this.#request(encode(fields, "the request"), repeats, { signal, patient: op === "wait" });
  }

  /** Ends the connection. Requests that have no answer yet are rejected. */
  async close() {
    this.#closed.abort(new ConnectionLost("the client is closed"));
    const open = [...this.#connections];
    for (const connection of open) connection.destroy(this.#closed.signal.reason);
    await Promise.all(open.map((connection) => connection.closed));
  }

  /**
   * Sends a request until it has an answer or must not be sent again.
   * @param {string} body
   * @param {number} repeats how often it may be sent again although it may have been carried out
   * @param {import("./connection.js").RequestOptions} options
   */
  async #request(body, repeats, options) {
    const tries = new Tries(repeats, this.#connectWait, this.#target.reconnect);
    for (;;) {
      try {
        return await (await this.#open(options.signal)).request(body, options);
      } catch (error) {
        await tries.again(error, options.signal);
      }
    }
  }

  /**
   * Yields the lines of a watch, of one connection after another.
   * @param {string} task
   * @param {number} after
   * @param {AbortSignal | undefined} signal
   * @returns {AsyncGenerator<TaskEvent, void, undefined>}
   */
  async *#watch(task, after, signal) {
    const tries = new Tries(MOST_READS, this.#connectWait, this.#target.reconnect);
    for (;;) {
      const left = new AbortController();
      const leave = () => left.abort(signal?.reason);
      signal?.addEventListener("abort", leave);
      try {
        signal?.throwIfAborted();
        const body = JSON.stringify({ op: "watch", task, after });
        for await (const event of follow(await this.#open(signal), body, left.signal)) {
          tries.succeeded();
          after = event.seq ?? after;
          yield event;
          if (isLast(event)) return;
        }
      } catch (error) {
        await tries.again(error, signal);
      } finally {
        signal?.removeEventListener("abort", leave);
        left.abort();
      }
    }
  }

  /**
   * Waits for the end of a task, or until the time has run out.
   * @param {string} task
   * @param {{timeout?: number, signal?: AbortSignal}} options
   * @returns {Promise<any>} the result of the task
   */
  async #wait(task, { timeout = Infinity, signal }) {
    const end = performance.now() + timeout * 1000;
    const tries = new Tries(MOST_READS, this.#connectWait, this.#target.reconnect);
    for (;;) {
      const left = Math.max(0, end - performance.now()) / 1000;
      const body = JSON.stringify({ op: "wait", task, timeout: left === Infinity ? undefined : Math.min(left, LONGEST_WAIT) });
      try {
        const connection = await this.#open(signal);
        const record = /** @type {TaskRecord & {id: null}} */ (
          /** @type {unknown} */ (await connection.request(body, { patient: true, signal }))
        );
        if (record.status === "done") return await this.#value(record.result, signal);
        if (record.status === "failed") throw new TaskFailed(record.error ?? "the task failed", recordOf(record));
        if (record.status === "cancelled") throw new TaskFailed(`task ${task} was cancelled`, recordOf(record));
        if (performance.now() >= end) throw new WaitTimeout(recordOf(record));
      } catch (error) {
        await tries.again(error, signal);
      }
    }
  }

  /**
   * @param {any} result
   * @param {AbortSignal} [signal]
   */
  async #value(result, signal) {
    if (result?.blob?.href && !("data" in result)) result = await getBlob(this.#target, result.blob.href, signal);
    if (result === undefined) return null; // a node leaves the result out once it is not kept any more
    const { ok, ...value } = result;
    return "data" in value ? value.data : value;
  }

  /**
   * Resolves with a connection that takes requests.
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<Connection>}
   */
  async #open(signal) {
    this.#closed.signal.throwIfAborted();
    if (this.#connection && !this.#connection.retired) return this.#connection;
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined;
    });
    return abortable(this.#opening, signal);
  }

  async #connect() {
    const signal = this.#closed.signal;
    const end = performance.now() + this.#connectWait * 1000;
    for (;;) {
      try {
        const connection = await openConnection(await this.#dial(signal), this.#target.token, () => this.#backoff.reset());
        this.#connections.add(connection);
        this.#connection = connection;
        connection.closed.then(() => {
          this.#connections.delete(connection);
          if (this.#connection === connection) this.#connection = undefined;
        });
        if (signal.aborted) connection.destroy(signal.reason);
        return connection;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const refusal = error instanceof Lost ? error.reason : error;
        if (refusal instanceof Refused && !isTemporary(refusal)) throw refusal;
        if (performance.now() >= end) throw error;
        await this.#backoff.pause(signal, refusal instanceof Refused ? refusal.retryAfter : 0);
      }
    }
  }
}

/**
 * Authenticates a new connection.
 * @param {import("./line.js").Lines} lines
 * @param {string | undefined} token
 * @param {() => void} [ready]
 * @param {(reply: import("./connection.js").Reply) => void} [unmatched]
 */
export async function openConnection(lines, token, ready, unmatched) {
  const connection = new Connection(lines, unmatched);
  if (token) {
    try {
      await connection.request(JSON.stringify({ op: "auth", token }), { patient: true });
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }
  ready?.();
  return connection;
}

/**
 * @typedef {object} TaskCalls
 * @property {Client["request"]} request
 * @property {(task: string, options: {timeout?: number, signal?: AbortSignal}) => Promise<any>} wait
 * @property {(task: string, after: number, signal?: AbortSignal) => AsyncGenerator<TaskEvent, void, undefined>} watch
 */

/** A durable task, as `enqueue` and `task` of a Client return it. */
export class Task {
  #calls;

  /**
   * @param {TaskCalls} calls
   * @param {{task?: string, status?: string, duplicate?: boolean, warning?: string, run_at?: string}} accepted
   */
  constructor(calls, { task, status, duplicate, warning, run_at }) {
    this.#calls = calls;
    /** @type {string} */
    this.id = /** @type {string} */ (task);
    /** @type {string | undefined} its state when it was enqueued */
    this.status = status;
    /** @type {boolean} an earlier enqueue with the same key has created it */
    this.duplicate = duplicate ?? false;
    /** @type {string | undefined} a text for people, such as that no live node has the action */
    this.warning = warning;
    /** @type {string | undefined} when a scheduled task may start */
    this.runAt = run_at;
  }

  /**
   * Resolves with the result of the task when it is done. Rejects with TaskFailed when it has failed or was cancelled,
   * and with WaitTimeout after `timeout` seconds. It survives the end of a connection.
   * @param {{timeout?: number, signal?: AbortSignal}} [options]
   * @returns {Promise<any>}
   */
  wait(options = {}) {
    return this.#calls.wait(this.id, options);
  }

  /**
   * Yields the events of the task: its history, the newest progress, and at last how it ended. After the end of a
   * connection it goes on behind the last event that it yielded.
   * @param {{after?: number, signal?: AbortSignal}} [options] `after` is the `seq` of the last event that is known
   * @returns {AsyncGenerator<TaskEvent, void, undefined>}
   */
  watch({ after = 0, signal } = {}) {
    return this.#calls.watch(this.id, after, signal);
  }

  /**
   * Returns the record of the task.
   * @param {{payload?: boolean, signal?: AbortSignal}} [options] `payload` includes the payload
   * @returns {Promise<TaskRecord>}
   */
  async get({ payload, signal } = {}) {
    return recordOf(await this.#calls.request({ op: "get", task: this.id, payload }, { signal }));
  }

  /**
   * Cancels the task. Resolves with "cancelled", or with "cancelling" if it runs: then it ends as cancelled
   * unless its action succeeds first.
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<"cancelled" | "cancelling">}
   */
  async cancel({ signal } = {}) {
    const reply = await this.#calls.request({ op: "cancel", task: this.id }, { signal });
    return /** @type {"cancelled" | "cancelling"} */ (reply.status);
  }

  /**
   * Runs a finished task again, or a scheduled one at once.
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>}
   */
  async retry({ signal } = {}) {
    await this.#calls.request({ op: "retry", task: this.id }, { signal });
  }
}

/** Decides whether a request is sent again after an error. */
class Tries {
  #losses = 0;
  /** @type {number | undefined} when the first of the failures in a row was */
  #since;
  #repeats;
  #patience;
  #backoff;

  /**
   * @param {number} repeats how often a request is sent again although it may have been carried out
   * @param {number} patience seconds for which a request is sent again that was not carried out
   * @param {{min: number, max: number}} bounds of the pauses
   */
  constructor(repeats, patience, bounds) {
    this.#repeats = repeats;
    this.#patience = patience;
    this.#backoff = new Backoff(bounds);
  }

  succeeded() {
    this.#losses = 0;
    this.#since = undefined;
    this.#backoff.reset();
  }

  /**
   * Throws the error for the caller, or returns when the request may be sent again.
   * @param {unknown} error
   * @param {AbortSignal | undefined} signal
   */
  async again(error, signal) {
    if (signal?.aborted) throw signal.reason;
    this.#since ??= performance.now();
    if (performance.now() - this.#since > this.#patience * 1000) throw error;
    if (error instanceof Lost) {
      if (error.reason instanceof Refused && !isTemporary(error.reason)) throw error.reason;
      if (error.written && ++this.#losses > this.#repeats) {
        throw this.#repeats === MOST_READS ? error : new UnknownOutcome(error.message, { cause: error.reason });
      }
      await this.#backoff.pause(signal);
    } else if (error instanceof Refused && isTemporary(error)) {
      if (error.code === "unknown_outcome" && ++this.#losses > this.#repeats) throw error;
      await this.#backoff.pause(signal, error.retryAfter);
    } else {
      throw error;
    }
  }
}

/**
 * Reports whether the request was not carried out and may be the next time.
 * @param {Refused} refusal
 */
function isTemporary({ code, retryAfter }) {
  return code === "draining" || code === "unknown_outcome" || (code === "overloaded" && retryAfter !== undefined);
}

/**
 * Yields the lines of one watch on one connection. Of progress that was not read yet, only the newest stays.
 * @param {Connection} connection
 * @param {string} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<TaskEvent, void, undefined>}
 */
async function* follow(connection, body, signal) {
  /** @type {TaskEvent[]} */
  const events = [];
  let wake = () => {};
  let ended = false;
  const end = connection.request(body, {
    signal,
    patient: true,
    receive(reply) {
      const event = eventOf(reply);
      if (event.seq === undefined && events.length > 0 && events[events.length - 1].seq === undefined) events.pop();
      events.push(event);
      wake();
      return isLast(event);
    },
  });
  const settled = end.finally(() => {
    ended = true;
    wake();
  });
  settled.catch(() => {}); // thrown below, when all events were yielded
  for (;;) {
    const event = events.shift();
    if (event) {
      yield event;
    } else if (ended) {
      await end;
      return;
    } else {
      await new Promise((resolve) => {
        wake = () => resolve(undefined);
      });
    }
  }
}

/** @param {TaskEvent} event */
function isLast({ status, retried }) {
  return !retried && (status === "done" || status === "failed" || status === "cancelled");
}

/**
 * @param {Record<string, any>} line
 * @returns {TaskEvent}
 */
function eventOf({ id, ...event }) {
  return /** @type {TaskEvent} */ (event);
}

/**
 * @param {Record<string, any>} line
 * @returns {TaskRecord}
 */
function recordOf({ id, ...record }) {
  return /** @type {TaskRecord} */ (record);
}

/**
 * Returns the beginning of a JSON object, up to its last member.
 * @param {Record<string, unknown>} fields those that are undefined are left out
 */
function members(fields) {
  return encode(fields, "the request").slice(0, -1);
}

/** @param {string} body */
function tooLong(body) {
  const id = 32;
  return body.length * 3 + id > LONGEST_REQUEST && byteLength(body) + id > LONGEST_REQUEST;
}

/**
 * @param {object} rest
 * @param {string} what
 */
function noOthers(rest, what) {
  for (const name of Object.keys(rest)) throw new TypeError(`${what} has no option ${name}`);
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
function abortable(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
