import { ConnectionLost, Refused } from "./errors.js";

/** Milliseconds between two looks at a quiet connection. One that stays silent for a whole round after a ping is dead. */
const ROUND = 15_000;

/** Calls whose caller has gone, after which a connection is replaced: a node allows 1,000 waits and watches. */
const MOST_ABANDONED = 100;

/** Codes without an id after which a node ends the connection. */
const CLOSING = new Set(["overloaded", "unauthenticated", "line_too_long", "line_timeout", "invalid_json"]);

/**
 * A line from the node. docs/wire.md describes the members of each.
 * @typedef {Record<string, any> & {id: number | string | null, status: string, code?: string, error?: string}} Reply
 */

/**
 * @typedef {object} Call
 * @property {(reply: Reply) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {((reply: Reply) => boolean) | undefined} receive
 * @property {boolean} patient
 * @property {number} number of its line
 */

/**
 * @typedef {object} RequestOptions
 * @property {(reply: Reply) => boolean} [receive] gets each line; the request ends with the first for which it
 *   returns true. Without it, the first line is the last
 * @property {boolean} [patient] the answer may take as long as a task does, yet the node reads on meanwhile
 * @property {AbortSignal} [signal] gives up waiting for the answer
 * @property {string} [id] instead of the next number
 */

/** One connection to a node: it matches replies to requests. Ids are its own and begin with 1. */
export class Connection {
  /** No request should be sent any more. */
  retired = false;
  /** @type {Promise<Error>} resolves with the reason when the connection has ended */
  closed;
  /** @type {Refused | undefined} why the node is about to end the connection */
  #refusal;
  #lines;
  #round;
  #unmatched;
  /** @type {Map<number | string, Call>} */
  #calls = new Map();
  #impatient = 0;
  #abandoned = 0;
  #id = 0;
  #heard = true;
  #timer;
  /** @type {Error | undefined} */
  #reason;

  /**
   * @param {import("./line.js").Lines} lines
   * @param {(reply: Reply) => void} [unmatched] gets lines that answer no request, after the connection itself
   * @param {number} [round] milliseconds between two looks at a quiet connection
   */
  constructor(lines, unmatched, round = ROUND) {
    this.#lines = lines;
    this.#round = round;
    this.#unmatched = unmatched;
    this.closed = new Promise((resolve) => {
      lines.open(
        (line) => this.#receive(line),
        (error) => resolve(this.#end(error)),
      );
    });
    this.#timer = setInterval(() => this.#probe(), round);
    this.#timer.unref?.();
    lines.hold(false);
  }

  /**
   * Sends a request and resolves with its last line. A refusal rejects as Refused, the end of the connection as Lost.
   * @param {string} body the request as JSON, an object without id that is not empty
   * @param {RequestOptions} [options]
   * @returns {Promise<Reply>}
   */
  request(body, { receive, patient = false, signal, id: name } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#reason) return reject(new Lost(this.#reason, false));
      if (signal?.aborted) return reject(signal.reason);
      const id = name ?? ++this.#id;
      /** @type {Call} */
      const call = { resolve, reject, receive, patient, number: 0 };
      if (signal) {
        const abort = () => this.#abandon(id, signal.reason);
        signal.addEventListener("abort", abort);
        call.resolve = (reply) => (signal.removeEventListener("abort", abort), resolve(reply));
        call.reject = (error) => (signal.removeEventListener("abort", abort), reject(error));
      }
      if (this.#calls.size === 0) this.#lines.hold(true);
      this.#calls.set(id, call);
      if (!patient) this.#impatient++;
      call.number = this.#lines.send(`{"id":${JSON.stringify(id)},${body.slice(1)}`);
    });
  }

  /**
   * Sends a line that is answered only when it is refused.
   * @param {string} line
   */
  send(line) {
    this.#lines.send(line);
  }

  /** Sends no further request. The connection ends when all are answered. */
  retire() {
    this.retired = true;
    if (this.#calls.size === 0) this.destroy();
  }

  /** Like retire, and tells the node at once that nothing more will come. */
  finish() {
    this.#lines.end();
    this.retire();
  }

  /** @param {Error} [reason] */
  destroy(reason) {
    this.#reason ??= reason;
    this.#lines.destroy();
  }

  /** @param {string} line */
  #receive(line) {
    this.#heard = true;
    /** @type {Reply} */
    let reply;
    try {
      reply = JSON.parse(line);
    } catch (error) {
      this.destroy(new ConnectionLost(`the node sent a line that is no JSON: ${line.slice(0, 100)}`, { cause: error }));
      return;
    }
    const id = reply?.id ?? null;
    const call = id === null ? undefined : this.#calls.get(id);
    if (id === null || !call) {
      this.#hear(reply);
    } else if (reply.status === "error") {
      this.#remove(id);
      call.reject(new Refused(reply));
    } else if (!call.receive || call.receive(reply)) {
      this.#remove(id);
      call.resolve(reply);
    }
  }

  /** @param {Reply} reply */
  #hear(reply) {
    if (reply?.id === null && reply.status === "goaway") {
      this.finish();
    } else if (reply?.id === null && reply.status === "error" && CLOSING.has(reply.code ?? "")) {
      this.#refusal = new Refused(reply);
    }
    this.#unmatched?.(reply); // with an id, the caller has gone
  }

  /** @param {number | string} id */
  #remove(id) {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    if (!call.patient) this.#impatient--;
    if (this.#calls.size > 0) return;
    this.#lines.hold(false);
    if (this.retired) this.destroy();
  }

  /**
   * @param {number | string} id
   * @param {Error} reason
   */
  #abandon(id, reason) {
    const call = this.#calls.get(id);
    if (!call) return;
    call.reject(reason);
    this.#remove(id);
    if (call.patient && ++this.#abandoned >= MOST_ABANDONED) this.retire();
  }

  #probe() {
    if (this.#calls.size === 0 || this.#impatient > 0 || this.retired) return;
    if (this.#heard) {
      this.#heard = false;
      return;
    }
    // A busy process may come here late: what has arrived is read before the second look.
    this.request('{"op":"ping"}', { patient: true }).catch(() => {});
    const deadline = setTimeout(() => {
      setTimeout(() => {
        if (!this.#heard) this.destroy(new ConnectionLost("the node has become silent"));
      }, 100);
    }, this.#round * 0.9);
    deadline.unref?.();
  }

  /**
   * @param {Error} [error]
   * @returns {Error}
   */
  #end(error) {
    clearInterval(this.#timer);
    const reason = (this.#reason ??= this.#refusal ?? error ?? new ConnectionLost("the node ended the connection"));
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.reject(new Lost(reason, call.number <= this.#lines.written));
    return reason;
  }
}

/** The connection of a request has ended before its reply. */
export class Lost extends ConnectionLost {
  /**
   * @param {Error} reason
   * @param {boolean} written whether the node may have read the request
   */
  constructor(reason, written) {
    super(`the connection ended before the reply: ${reason.message}`, { cause: reason });
    this.name = "ConnectionLost";
    this.reason = reason;
    this.written = written;
  }
}
