/** The base class of the errors of this package. */
export class PostaError extends Error {
    /**
     * @param {string} message
     * @param {ErrorOptions} [options]
     */
    constructor(message: string, options?: ErrorOptions);
}
/** A node refused a request. `code` is stable and meant for programs; docs/wire.md lists the codes. */
export class Refused extends PostaError {
    /** @param {import("./connection.js").Reply} reply */
    constructor(reply: import("./connection.js").Reply);
    /** @type {string} */
    code: string;
    /** @type {string | undefined} the key of the request that is wrong */
    field: string | undefined;
    /** @type {string | undefined} the id of the task */
    task: string | undefined;
    /** @type {string | undefined} the state of the task that does not allow the request */
    state: string | undefined;
    /** @type {number | undefined} seconds after which another try may succeed */
    retryAfter: number | undefined;
}
/** No connection could be opened in time, or it ended before the reply. */
export class ConnectionLost extends PostaError {
}
/** A request was written and its connection ended: it may or may not have been carried out. */
export class UnknownOutcome extends ConnectionLost {
    /** @type {string} the code that a node uses for the same */
    code: string;
}
/** A task failed or was cancelled, or a direct run did not succeed. */
export class TaskFailed extends PostaError {
    /**
     * @param {string} message
     * @param {import("./client.js").TaskRecord} [record]
     */
    constructor(message: string, record?: import("./client.js").TaskRecord);
    /** @type {import("./client.js").TaskRecord | undefined} the record of a durable task */
    record: import("./client.js").TaskRecord | undefined;
    /** @type {string | undefined} why a durable task failed, such as action_failed or timed_out */
    code: string | undefined;
}
/** The time of a `wait` ran out. The task goes on. */
export class WaitTimeout extends PostaError {
    /** @param {import("./client.js").TaskRecord} record */
    constructor(record: import("./client.js").TaskRecord);
    /** @type {import("./client.js").TaskRecord} the record of the task when the time ran out */
    record: import("./client.js").TaskRecord;
}
/** An action throws Retry to fail this attempt and to say when the next one should begin. */
export class Retry extends PostaError {
    /**
     * @param {string} message
     * @param {{after?: number, cause?: unknown}} [options] `after` is a number of seconds; without it the
     *   task's own backoff counts
     */
    constructor(message: string, { after, cause }?: {
        after?: number;
        cause?: unknown;
    });
    /** @type {number | undefined} */
    after: number | undefined;
}
/** An action throws Permanent to fail the task for good: another attempt would not help. */
export class Permanent extends PostaError {
}
/** The reason of an action's `signal`. */
export class Cancelled extends PostaError {
    /** @param {"cancelled" | "timed_out" | "lost" | "stopping"} code */
    constructor(code: "cancelled" | "timed_out" | "lost" | "stopping");
    /** @type {"cancelled" | "timed_out" | "lost" | "stopping"} */
    code: "cancelled" | "timed_out" | "lost" | "stopping";
}
