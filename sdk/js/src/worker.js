import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { inspect } from "node:util";

import { Backoff } from "./backoff.js";
import { getBlob, putBlob } from "./blob.js";
import { LONGEST_REQUEST, openConnection } from "./client.js";
import { Lost } from "./connection.js";
import { Cancelled, ConnectionLost, Permanent, PostaError, Refused, Retry } from "./errors.js";
import { byteLength, encode, plainText } from "./json.js";
import { dial, parseTarget } from "./node.js";

/** The most characters of an error or a progress message that are sent. */
const LONGEST_TEXT = 8192;
/** Milliseconds between two progress lines of a task: a node passes on ten a second. */
const PROGRESS_PAUSE = 100;
/** Milliseconds that a node which stops gets for the answers it owes, before the worker goes on elsewhere. */
const LAST_ANSWERS = 3_000;
/** Milliseconds after the drain time in which a node must confirm what was released. */
const LAST_CONFIRMATIONS = 10_000;

/** The id of the op work. Those of other requests are numbers. */
const WORK = "work";

/** Codes in answer to the first work or auth that another try does not change. */
const FATAL = new Set(["unknown_op", "invalid_request", "unknown_field", "forbidden", "unauthenticated"]);
/** The answer to an outcome may take a while, yet the node reads on. */
const PATIENT = { patient: true };

/** Codes for an outcome that ended its lease, in one way or another. */
const SETTLED = new Set(["stale", "not_found"]);
/** Codes for an outcome that may be taken the next time. */
const TRY_AGAIN = new Set(["unavailable", "overloaded", "draining", "internal", "unknown_outcome"]);

/**
 * What an action gets beside its payload.
 * @typedef {object} ActionContext
 * @property {AbortSignal} signal aborted when the task is cancelled, when its time is over, and when the node has
 *   taken it back; the reason is a Cancelled
 * @property {(percent?: number, message?: string) => void} progress shows how far the task is
 * @property {string} action
 * @property {string} [task] the id; a direct run has none
 * @property {number} [attempt] from 1
 * @property {string} [queue]
 * @property {string} [key]
 * @property {Record<string, string>} [meta]
 * @property {number} timeout seconds that the attempt may take
 */

/**
 * An action. What it returns must be JSON. If it throws, the attempt fails and the next one follows by the task's options; see
 * Retry and Permanent.
 * @typedef {(payload: any, context: ActionContext) => unknown} Action
 */

/**
 * @typedef {object} WorkerOnlyOptions
 * @property {Record<string, Action>} actions by name
 * @property {number} [slots] how many tasks run at once; 1
 * @property {string[]} [queues] the only queues to take tasks from; all if absent
 * @property {string} [worker] the name, unique among all workers; host name, process id and a random part if absent
 * @property {string} [version] shown by `posta workers`
 * @property {number} [grace] seconds that the node waits for this worker after a connection has broken; 5
 * @property {string[]} [idempotent] the actions that may run twice if a direct run loses its worker
 * @property {number} [drain] seconds that running actions get after SIGTERM; 60
 * @property {NodeJS.Signals[]} [signals] those that drain the worker; SIGTERM and SIGINT
 * @property {(message: string) => void} [log] gets a line for each event that somebody should know of; console.error
 * @property {(signal: AbortSignal) => Promise<import("./line.js").Lines>} [dial] opens the stream in another way than by TCP
 */

/** @typedef {import("./node.js").TargetOptions & WorkerOnlyOptions} WorkerOptions */

/** A task that this worker holds. */
class Lease {
  /** @type {string | undefined} the request that tells the node how it ended, without id */
  outcome;
  /** @type {import("./connection.js").Connection | undefined} the last one on which the outcome was sent */
  sentOn;
  /** @type {Backoff | undefined} pauses before the outcome is sent again on the same connection */
  backoff;
  /** @type {NodeJS.Timeout | undefined} */
  progressTimer;
  /** @type {string | undefined} the newest progress that is not sent */
  progress;

  /** @type {AbortController | undefined} made for the first who asks: few actions do, and a signal costs more than a small task */
  #controller;
  /** @type {Cancelled | undefined} */
  #reason;

  /** @param {Record<string, any>} push */
  constructor(push) {
    this.push = push;
    /** @type {string} */
    this.id = push.lease;
  }

  get signal() {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#reason) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Why the action should end. */
  get reason() {
    return this.#reason;
  }

  /** @param {Cancelled["code"]} code */
  abort(code) {
    if (this.#reason) return;
    this.#reason = new Cancelled(code);
    this.#controller?.abort(this.#reason);
  }
}

/** @implements {ActionContext} */
class Context {
  #lease;
  #report;

  /**
   * @param {Lease} lease
   * @param {(lease: Lease, percent?: number, message?: string) => void} report
   */
  constructor(lease, report) {
    const { action, task, attempt, queue, key, meta, timeout } = lease.push;
    this.#lease = lease;
    this.#report = report;
    this.action = action;
    this.task = task;
    this.attempt = attempt;
    this.queue = queue;
    this.key = key;
    this.meta = meta;
    this.timeout = timeout;
  }

  get signal() {
    return this.#lease.signal;
  }

  /** @returns {ActionContext["progress"]} */
  get progress() {
    return (percent, message) => this.#report(this.#lease, percent, message);
  }
}

/** Runs actions for a node: it holds a connection and works on what the node pushes. */
export class Worker {
  /** @type {Promise<void>} resolves when the worker has stopped; rejects if the node does not accept it */
  stopped;
  /** @type {string} */
  name;
  #options;
  #target;
  #dial;
  /** @type {Map<string, Action>} */
  #actions;
  #log;
  #drainSeconds;
  #signals;
  #backoff;
  /** @type {Map<string, Lease>} */
  #leases = new Map();
  /** @type {import("./connection.js").Connection | undefined} where outcomes are sent: it is ready and not leaving */
  #connection;
  /** Whether the request work is open on #connection: after quiet it is not. */
  #working = false;
  #wasReady = false;
  /** What was logged last about connections, so that it is not repeated with each try. */
  #complaint = "";
  #quiet = false;
  #stopping = false;
  /** @type {NodeJS.Timeout[]} */
  #drainTimers = [];
  #end = new AbortController();
  /** @type {NodeJS.Timeout | undefined} */
  #alive;
  /** @type {Promise<void> | undefined} */
  #started;
  #settleStopped;
  /** @type {{resolve: () => void, reject: (error: Error) => void}} */
  #settleStarted = { resolve() {}, reject() {} };
  #onSignal = () => void this.stop();

  /**
   * @param {string | undefined} address HOST:PORT of a node or a balancer, or of several with commas in between;
   *   $POSTA_TO, or 127.0.0.1:9000
   * @param {WorkerOptions} options
   */
  constructor(address, options) {
    const { actions, slots = 1, queues, worker, version, grace, idempotent, ...rest } = options ?? {};
    const { drain = 60, signals = ["SIGTERM", "SIGINT"], log = console.error, dial: open, token, tls, reconnect, ...others } = rest;
    for (const name of Object.keys(others)) throw new TypeError(`a worker has no option ${name}`);
    this.#actions = checkedActions(actions);
    this.#target = parseTarget(address, { token, tls, reconnect });
    this.#dial = open ?? ((/** @type {AbortSignal} */ signal) => dial(this.#target, signal));
    this.name = worker ?? `${hostname().slice(0, 64)}-${process.pid}-${randomBytes(4).toString("hex")}`;
    this.#options = { op: "work", actions: [...this.#actions.keys()], queues, slots, worker: this.name, version, grace, idempotent };
    this.#drainSeconds = drain;
    this.#signals = signals;
    this.#log = (/** @type {string} */ message) => log(`posta: ${message}`);
    this.#backoff = new Backoff(this.#target.reconnect);
    /** @type {{resolve: () => void, reject: (error: Error) => void}} */
    const settle = { resolve() {}, reject() {} };
    this.#settleStopped = settle;
    this.stopped = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }));
    this.stopped.catch(() => {}); // start reports it as well
  }

  /**
   * Connects, and resolves when the node is ready to push tasks. While no node answers, it tries again and again.
   * Rejects if the node does not accept the worker.
   * @returns {Promise<void>}
   */
  start() {
    this.#started ??= new Promise((resolve, reject) => {
      if (this.#end.signal.aborted) return reject(this.#end.signal.reason);
      this.#settleStarted = { resolve, reject };
      for (const signal of this.#signals) process.once(signal, this.#onSignal);
      this.#alive = setInterval(() => {}, 2 ** 30); // a worker is never idle, even without a connection
      this.#run().catch((error) => this.#finish(error));
    });
    return this.#started;
  }

  /**
   * Drains: takes no more tasks, lets those that run finish within the drain time, gives the others back, and leaves. SIGTERM
   * does the same.
   * @returns {Promise<void>} `stopped`
   */
  stop() {
    if (this.#stopping) return this.stopped;
    this.#stopping = true;
    for (const signal of this.#signals) process.off(signal, this.#onSignal); // the second signal ends the process
    this.#takeNoMore();
    if (this.#started && this.#leases.size > 0) {
      this.#drainTimers.push(setTimeout(() => this.#releaseAll(), this.#drainSeconds * 1000));
    }
    this.#leaveWhenEmpty();
    return this.stopped;
  }

  /** Ends the connection at once. The node takes back what the worker holds, as if its process had died. */
  close() {
    this.#finish();
  }

  /** Serves one connection after another. */
  async #run() {
    while (!this.#end.signal.aborted) {
      try {
        await this.#serve();
      } catch (error) {
        if (this.#end.signal.aborted) return;
        if (!(error instanceof PostaError)) throw error;
        const refusal = error instanceof Lost ? error.reason : error;
        if (!this.#wasReady && refusal instanceof Refused && FATAL.has(refusal.code)) throw refusal;
        if (error.message !== this.#complaint) this.#log(`${error.message}; trying again`);
        this.#complaint = error.message;
        await this.#backoff.pause(this.#end.signal, refusal instanceof Refused ? refusal.retryAfter : 0).catch(() => {});
      }
      if (this.#stopping) this.#leaveWhenEmpty();
      if (this.#quiet && this.#leases.size === 0) return; // there is nothing to connect for until somebody stops it
    }
  }

  /** Works on one connection until it ends or the node wants the worker to leave it. */
  async #serve() {
    const lines = await this.#dial(this.#end.signal);
    const end = () => lines.destroy();
    this.#end.signal.addEventListener("abort", end);
    try {
      await this.#converse(lines);
    } finally {
      this.#end.signal.removeEventListener("abort", end);
    }
  }

  /** @param {import("./line.js").Lines} lines */
  async #converse(lines) {
    let left = () => {};
    const leaving = new Promise((resolve) => {
      left = () => resolve(undefined);
    });
    const connection = await openConnection(lines, this.#target.token, undefined, (reply) => {
      if (reply?.status === "goaway") left();
      if (reply?.status === "cancelling") this.#interrupt(reply); // after quiet, the request is over
      if (reply?.id === null && reply.code === "line_too_long") this.#tooLong(connection, new Refused(reply));
    });
    const hold = [...this.#leases.keys()];
    const work = connection.request(JSON.stringify({ ...this.#options, hold: hold.length > 0 ? hold : undefined }), {
      id: WORK,
      patient: true,
      receive: (reply) => this.#receive(connection, hold, reply),
    });
    try {
      await Promise.race([work, leaving]);
      if (!connection.retired) return this.#finish(); // the node has confirmed that the worker left
    } catch (error) {
      this.#working = false;
      if (error instanceof Refused && error.code === "quiet") return await this.#stayQuiet(connection, error);
      if (!(error instanceof Refused && error.code === "draining" && this.#connection)) {
        connection.destroy();
        throw error;
      }
    } finally {
      work.catch(() => {});
      this.#working = false;
      this.#connection = undefined;
    }
    await this.#moveOn(connection);
  }

  /**
   * Leaves a node that stops, with the answers that it still owes.
   * @param {import("./connection.js").Connection} connection
   */
  async #moveOn(connection) {
    connection.finish();
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const patience = new Promise((resolve) => {
      timer = setTimeout(resolve, LAST_ANSWERS);
    });
    await Promise.race([connection.closed, patience]);
    clearTimeout(timer);
    if (!this.#stopping) await this.#backoff.pause(this.#end.signal).catch(() => {});
  }

  /**
   * Finishes what it holds after an operator has asked the worker to stop, and waits for the end.
   * @param {import("./connection.js").Connection} connection
   * @param {Refused} reason
   */
  async #stayQuiet(connection, reason) {
    this.#quiet = true;
    this.#connection = connection;
    this.#log(reason.message);
    throw new Lost(await connection.closed, false);
  }

  /**
   * Handles a line for the request work. Returns true after the last one.
   * @param {import("./connection.js").Connection} connection
   * @param {string[]} hold what was named in the request
   * @param {import("./connection.js").Reply} reply
   */
  #receive(connection, hold, reply) {
    switch (reply.status) {
      case "ready":
        this.#ready(connection, hold, reply);
        return false;
      case "running":
        this.#push(reply);
        return false;
      case "cancelling":
        this.#interrupt(reply);
        return false;
      default:
        return reply.status === "done";
    }
  }

  /** @param {import("./connection.js").Reply} reply a line that asks the worker to stop an attempt */
  #interrupt(reply) {
    if (["cancelled", "timed_out", "lost"].includes(reply.code ?? "")) {
      this.#leases.get(reply.lease)?.abort(/** @type {any} */ (reply.code));
    }
  }

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {string[]} hold
   * @param {import("./connection.js").Reply} reply
   */
  #ready(connection, hold, reply) {
    if (this.#complaint) this.#log(`connected to node ${reply.node}`);
    this.#complaint = "";
    this.#wasReady = true;
    this.#connection = connection;
    this.#working = true;
    this.#backoff.reset();
    const held = new Set(reply.held ?? []);
    for (const id of hold) {
      const lease = this.#leases.get(id);
      if (!lease) continue;
      if (held.has(id)) {
        if (lease.outcome) this.#deliver(lease);
      } else {
        this.#forget(lease);
        lease.abort("lost");
      }
    }
    if (this.#stopping || this.#quiet) this.#takeNoMore();
    this.#settleStarted.resolve();
    this.#leaveWhenEmpty();
  }

  /** @param {Record<string, any>} push */
  #push(push) {
    if (this.#leases.has(push.lease)) return;
    const lease = new Lease(push);
    this.#leases.set(lease.id, lease);
    if (this.#stopping || this.#quiet) this.#settle(lease, release(lease));
    else void this.#execute(lease);
  }

  /** @param {Lease} lease */
  async #execute(lease) {
    const { push } = lease;
    let outcome;
    try {
      const action = this.#actions.get(push.action);
      if (!action) throw new PostaError(`this worker has no action ${push.action}`);
      const { href } = push.payload_blob ?? {};
      const payload = href ? await getBlob(this.#target, href, lease.signal) : (push.payload ?? null);
      const body = this.#done(lease, await action(payload, new Context(lease, this.#report)));
      outcome = typeof body === "string" ? body : await body;
    } catch (error) {
      outcome = this.#fail(lease, error);
    }
    this.#settle(lease, outcome);
  }

  /**
   * Returns the request that sends a result, and first uploads a result that does not fit into it.
   * @param {Lease} lease
   * @param {unknown} result
   * @returns {string | Promise<string>}
   */
  #done(lease, result) {
    let data;
    try {
      data = encode(result, "the result");
    } catch (error) {
      throw new Permanent(describe(error), { cause: error });
    }
    const head = `{"op":"done","lease":${JSON.stringify(lease.id)}`;
    const size = byteLength(data);
    if (size + head.length + 64 <= LONGEST_REQUEST) return `${head},"data":${data}}`;
    if (lease.push.task === undefined) {
      throw new Permanent(`the result has ${size} bytes, and that of a direct run at most 1 MiB`);
    }
    return putBlob(this.#target, data, lease.signal).then((blob) => `${head},"data_blob":${JSON.stringify(blob)}}`);
  }

  /**
   * Returns the request that says why an action failed.
   * @param {Lease} lease
   * @param {unknown} error
   */
  #fail({ id, push, reason: cancelled }, error) {
    const reason = cancelled && error instanceof Error && error.name === "AbortError" ? cancelled : error;
    const task = push.task === undefined ? "" : ` of task ${push.task}, attempt ${push.attempt}`;
    const expected = reason instanceof PostaError || !(reason instanceof Error);
    this.#log(`action ${push.action}${task} failed: ${expected ? describe(reason) : reason.stack}`);
    const after = reason instanceof Retry && Number(reason.after) >= 0 ? Number(reason.after) : undefined;
    return JSON.stringify({
      op: "fail",
      lease: id,
      error: plainText(describe(reason), LONGEST_TEXT),
      retry: reason instanceof Permanent ? false : undefined,
      retry_after: after,
    });
  }

  /**
   * Keeps how a task ended, and sends it as soon as there is a connection.
   * @param {Lease} lease
   * @param {string} outcome
   */
  #settle(lease, outcome) {
    clearTimeout(lease.progressTimer);
    if (lease.outcome || this.#leases.get(lease.id) !== lease) return; // it was released or lost meanwhile
    lease.outcome = outcome;
    this.#deliver(lease);
  }

  /**
   * Sends an outcome. When the connection ends before the answer, the next one sends it again.
   * @param {Lease} lease
   */
  #deliver(lease) {
    const connection = this.#connection;
    if (!connection || connection.retired || lease.sentOn === connection) return;
    lease.sentOn = connection;
    connection.request(/** @type {string} */ (lease.outcome), PATIENT).then(
      () => this.#forget(lease),
      (error) => {
        if (error instanceof Refused) void this.#refused(lease, connection, error);
      },
    );
  }

  /**
   * Handles an outcome that the node did not take.
   * @param {Lease} lease
   * @param {import("./connection.js").Connection} connection
   * @param {Refused} error
   */
  async #refused(lease, connection, error) {
    if (this.#leases.get(lease.id) !== lease) return;
    if (TRY_AGAIN.has(error.code)) {
      lease.backoff ??= new Backoff(this.#target.reconnect);
      await lease.backoff.pause(this.#end.signal, error.retryAfter).catch(() => {});
    } else if (SETTLED.has(error.code) || !this.#replace(lease, error)) {
      return this.#forget(lease);
    }
    if (this.#leases.get(lease.id) !== lease || this.#connection !== connection) return;
    lease.sentOn = undefined;
    this.#deliver(lease);
  }

  /**
   * Turns a result that the node does not accept into a failure. Returns false if it is one already.
   * @param {Lease} lease
   * @param {Refused} error
   */
  #replace(lease, error) {
    this.#log(`the node refused the outcome of lease ${lease.id}: ${error.code}: ${error.message}`);
    if (!lease.outcome?.startsWith('{"op":"done"')) return false;
    lease.outcome = JSON.stringify({ op: "fail", lease: lease.id, error: `the node refused the result: ${error.message}`, retry: false });
    return true;
  }

  /**
   * Finds out which result had a line that is too long for the node. It would be sent again on the next connection, and
   * refused for ever.
   * @param {import("./connection.js").Connection} connection
   * @param {Refused} error
   */
  #tooLong(connection, error) {
    /** @type {Lease | undefined} */
    let longest;
    for (const lease of this.#leases.values()) {
      if (lease.sentOn !== connection || !lease.outcome?.startsWith('{"op":"done"')) continue;
      if (!longest?.outcome || lease.outcome.length > longest.outcome.length) longest = lease;
    }
    if (longest) this.#replace(longest, error);
  }

  /** @param {Lease} lease */
  #forget(lease) {
    clearTimeout(lease.progressTimer);
    if (this.#leases.get(lease.id) === lease) this.#leases.delete(lease.id);
    this.#leaveWhenEmpty();
  }

  /**
   * Sends progress at once, or the newest of it after a pause.
   * @param {Lease} lease
   * @param {number} [percent]
   * @param {string} [message]
   */
  #report = (lease, percent, message) => {
    if (percent !== undefined && !Number.isFinite(percent)) throw new TypeError("percent must be a number");
    const text = message === undefined ? undefined : plainText(String(message), LONGEST_TEXT);
    lease.progress = JSON.stringify({ op: "progress", lease: lease.id, percent, message: text });
    if (!lease.progressTimer) this.#sendProgress(lease);
  };

  /** @param {Lease} lease */
  #sendProgress(lease) {
    lease.progressTimer = undefined;
    if (lease.outcome || !lease.progress || this.#leases.get(lease.id) !== lease) return;
    if (this.#connection && !this.#connection.retired) this.#connection.send(lease.progress);
    lease.progress = undefined;
    lease.progressTimer = setTimeout(() => this.#sendProgress(lease), PROGRESS_PAUSE);
    lease.progressTimer.unref();
  }

  /** Asks the node to push nothing more. */
  #takeNoMore() {
    if (this.#working) this.#connection?.send(JSON.stringify({ op: "slots", work: WORK, slots: 0 }));
  }

  /** Gives back what still runs when the drain time is over. */
  #releaseAll() {
    for (const lease of [...this.#leases.values()]) {
      if (lease.outcome) continue;
      this.#settle(lease, release(lease));
      lease.abort("stopping");
    }
    this.#drainTimers.push(
      setTimeout(() => {
        this.#log(`stopped without the node's answer for ${this.#leases.size} tasks`);
        this.#finish();
      }, LAST_CONFIRMATIONS),
    );
  }

  /** Leaves the node once a worker that stops holds nothing. */
  #leaveWhenEmpty() {
    if (!this.#stopping || this.#leases.size > 0) return;
    if (!this.#working || !this.#connection) return this.#finish();
    this.#working = false;
    this.#connection.request(JSON.stringify({ op: "leave", work: WORK }), { patient: true }).catch(() => this.#finish());
    this.#drainTimers.push(setTimeout(() => this.#finish(), LAST_CONFIRMATIONS));
  }

  /** @param {Error} [error] */
  #finish(error) {
    if (this.#end.signal.aborted) return;
    const reason = error ?? new ConnectionLost("the worker has stopped");
    this.#end.abort(reason); // which ends the connection, too
    for (const signal of this.#signals) process.off(signal, this.#onSignal);
    clearInterval(this.#alive);
    for (const timer of this.#drainTimers) clearTimeout(timer);
    this.#settleStarted.reject(reason);
    for (const lease of this.#leases.values()) {
      clearTimeout(lease.progressTimer);
      if (!lease.outcome) lease.abort("stopping");
    }
    if (error) this.#settleStopped.reject(error);
    else this.#settleStopped.resolve();
  }
}

/** @param {Lease} lease */
function release(lease) {
  return JSON.stringify({ op: "release", lease: lease.id });
}

/** @param {unknown} error */
function describe(error) {
  if (!(error instanceof Error)) return `the action threw ${typeof error === "string" ? error : inspect(error)}`;
  const named = error instanceof PostaError || error.name === "Error";
  return named ? error.message || error.name : `${error.name}: ${error.message}`;
}

/** @param {Record<string, Action> | undefined} actions */
function checkedActions(actions) {
  const entries = Object.entries(actions ?? {});
  if (entries.length === 0) throw new TypeError("a worker needs actions, such as {actions: {async greet({ name }) {…}}}");
  for (const [name, action] of entries) {
    if (typeof action !== "function") throw new TypeError(`the action ${name} must be a function`);
  }
  return new Map(entries);
}
