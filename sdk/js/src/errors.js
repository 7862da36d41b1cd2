/** The base class of the errors of this package. */
export class PostaError extends Error {
  /**
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A node refused a request. `code` is stable and meant for programs; docs/wire.md lists the codes. */
export class Refused extends PostaError {
  /** @param {import("./connection.js").Reply} reply */
  constructor(reply) {
    super(reply.error ?? "the node refused the request");
    /** @type {string} */
    this.code = reply.code ?? "internal";
    /** @type {string | undefined} the key of the request that is wrong */
    this.field = reply.field;
    /** @type {string | undefined} the id of the task */
    this.task = reply.task;
    /** @type {string | undefined} the state of the task that does not allow the request */
    this.state = reply.state;
    /** @type {number | undefined} seconds after which another try may succeed */
    this.retryAfter = reply.retry_after;
  }
}

/** No connection could be opened in time, or it ended before the reply. */
export class ConnectionLost extends PostaError {}

/** A request was written and its connection ended: it may or may not have been carried out. */
export class UnknownOutcome extends ConnectionLost {
  /**
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(message, options) {
    super(message, options);
    /** @type {string} the code that a node uses for the same */
    this.code = "unknown_outcome";
  }
}

/** A task failed or was cancelled, or a direct run did not succeed. */
export class TaskFailed extends PostaError {
  /**
   * @param {string} message
   * @param {import("./client.js").TaskRecord} [record]
   */
  constructor(message, record) {
    super(message);
    /** @type {import("./client.js").TaskRecord | undefined} the record of a durable task */
    this.record = record;
    /** @type {string | undefined} why a durable task failed, such as action_failed or timed_out */
    this.code = record?.code;
  }
}

/** The time of a `wait` ran out. The task goes on. */
export class WaitTimeout extends PostaError {
  /** @param {import("./client.js").TaskRecord} record */
  constructor(record) {
    super(`task ${record.task} is still ${record.status}`);
    /** @type {import("./client.js").TaskRecord} the record of the task when the time ran out */
    this.record = record;
  }
}

/** An action throws Retry to fail this attempt and to say when the next one should begin. */
export class Retry extends PostaError {
  /**
   * @param {string} message
   * @param {{after?: number, cause?: unknown}} [options] `after` is a number of seconds; without it the
   *   task's own backoff counts
   */
  constructor(message, { after, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    /** @type {number | undefined} */
    this.after = after;
  }
}

/** An action throws Permanent to fail the task for good: another attempt would not help. */
export class Permanent extends PostaError {}

/** The reason of an action's `signal`. */
export class Cancelled extends PostaError {
  /** @param {"cancelled" | "timed_out" | "lost" | "stopping"} code */
  constructor(code) {
    super({
      cancelled: "the task was cancelled",
      timed_out: "the attempt has timed out",
      lost: "another attempt of the task may run: the node has taken it back",
      stopping: "the worker stops and has given the task back",
    }[code]);
    /** @type {"cancelled" | "timed_out" | "lost" | "stopping"} */
    this.code = code;
  }
}
