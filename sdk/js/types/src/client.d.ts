/**
 * Authenticates a new connection.
 * @param {import("./line.js").Lines} lines
 * @param {string | undefined} token
 * @param {() => void} [ready]
 * @param {(reply: import("./connection.js").Reply) => void} [unmatched]
 */
export function openConnection(lines: import("./line.js").Lines, token: string | undefined, ready?: () => void, unmatched?: (reply: import("./connection.js").Reply) => void): Promise<Connection>;
/** The most bytes of a line that a node accepts. */
export const LONGEST_REQUEST: number;
/**
 * Sends tasks to a node or a balancer. It connects for the first request and connects again when it must. All
 * requests share one connection, which does not keep the process alive while nothing is asked.
 */
export class Client {
    /**
     * @param {string} [address] HOST:PORT of a node or a balancer, or of several with commas in between;
     *   $POSTA_TO, or 127.0.0.1:9000
     * @param {import("./node.js").TargetOptions & {connectWait?: number,
     *   dial?: (signal: AbortSignal) => Promise<import("./line.js").Lines>}} [options] `connectWait` is how many seconds a
     *   request waits while no connection can be opened or nodes refuse it for the moment (30); `dial` opens the stream in another way than by TCP
     */
    constructor(address?: string, { connectWait, dial: open, token, tls, reconnect, ...rest }?: import("./node.js").TargetOptions & {
        connectWait?: number;
        dial?: (signal: AbortSignal) => Promise<import("./line.js").Lines>;
    });
    /**
     * Runs an action at once and resolves with its result. Rejects with TaskFailed if the action fails, and with
     * UnknownOutcome if the connection ends before the answer.
     * @param {string} action
     * @param {unknown} [payload]
     * @param {RunOptions} [options]
     * @returns {Promise<any>} what the action returned; of an action that adds members to the result, those
     */
    run(action: string, payload?: unknown, { timeout, idempotent, signal, ...rest }?: RunOptions): Promise<any>;
    /**
     * Stores a task that runs later, and resolves once no crash can lose it. Rejects with UnknownOutcome if the
     * connection ends before the answer; with a `key`, the task is sent again instead.
     * @param {string} action
     * @param {unknown} [payload]
     * @param {EnqueueOptions} [options]
     * @returns {Promise<Task>}
     */
    enqueue(action: string, payload?: unknown, options?: EnqueueOptions): Promise<Task>;
    /**
     * Returns a task by its id, without asking the node.
     * @param {string} id
     * @returns {Task}
     */
    task(id: string): Task;
    /**
     * Sends any request of docs/wire.md that has one answer, such as `{op: "queues"}`, and resolves with that line. It is
     * sent again if the connection ends before the answer and the op changes nothing.
     * @param {Record<string, unknown>} fields
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<import("./connection.js").Reply>}
     */
    request(fields: Record<string, unknown>, { signal }?: {
        signal?: AbortSignal;
    }): Promise<import("./connection.js").Reply>;
    /** Ends the connection. Requests that have no answer yet are rejected. */
    close(): Promise<void>;
    #private;
}
/**
 * @typedef {object} TaskCalls
 * @property {Client["request"]} request
 * @property {(task: string, options: {timeout?: number, signal?: AbortSignal}) => Promise<any>} wait
 * @property {(task: string, after: number, signal?: AbortSignal) => AsyncGenerator<TaskEvent, void, undefined>} watch
 */
/** A durable task, as `enqueue` and `task` of a Client return it. */
export class Task {
    /**
     * @param {TaskCalls} calls
     * @param {{task?: string, status?: string, duplicate?: boolean, warning?: string, run_at?: string}} accepted
     */
    constructor(calls: TaskCalls, { task, status, duplicate, warning, run_at }: {
        task?: string;
        status?: string;
        duplicate?: boolean;
        warning?: string;
        run_at?: string;
    });
    /** @type {string} */
    id: string;
    /** @type {string | undefined} its state when it was enqueued */
    status: string | undefined;
    /** @type {boolean} an earlier enqueue with the same key has created it */
    duplicate: boolean;
    /** @type {string | undefined} a text for people, such as that no live node has the action */
    warning: string | undefined;
    /** @type {string | undefined} when a scheduled task may start */
    runAt: string | undefined;
    /**
     * Resolves with the result of the task when it is done. Rejects with TaskFailed when it has failed or was cancelled,
     * and with WaitTimeout after `timeout` seconds. It survives the end of a connection.
     * @param {{timeout?: number, signal?: AbortSignal}} [options]
     * @returns {Promise<any>}
     */
    wait(options?: {
        timeout?: number;
        signal?: AbortSignal;
    }): Promise<any>;
    /**
     * Yields the events of the task: its history, the newest progress, and at last how it ended. After the end of a
     * connection it goes on behind the last event that it yielded.
     * @param {{after?: number, signal?: AbortSignal}} [options] `after` is the `seq` of the last event that is known
     * @returns {AsyncGenerator<TaskEvent, void, undefined>}
     */
    watch({ after, signal }?: {
        after?: number;
        signal?: AbortSignal;
    }): AsyncGenerator<TaskEvent, void, undefined>;
    /**
     * Returns the record of the task.
     * @param {{payload?: boolean, signal?: AbortSignal}} [options] `payload` includes the payload
     * @returns {Promise<TaskRecord>}
     */
    get({ payload, signal }?: {
        payload?: boolean;
        signal?: AbortSignal;
    }): Promise<TaskRecord>;
    /**
     * Cancels the task. Resolves with "cancelled", or with "cancelling" if it runs: then it ends as cancelled
     * unless its action succeeds first.
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<"cancelled" | "cancelling">}
     */
    cancel({ signal }?: {
        signal?: AbortSignal;
    }): Promise<"cancelled" | "cancelling">;
    /**
     * Runs a finished task again, or a scheduled one at once.
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<void>}
     */
    retry({ signal }?: {
        signal?: AbortSignal;
    }): Promise<void>;
    #private;
}
/**
 * The record of a task, with the names of the protocol; docs/wire.md describes all members. Times are RFC 3339.
 */
export type TaskRecord = {
    task: string;
    status: "scheduled" | "queued" | "running" | "done" | "failed" | "cancelled";
    queue: string;
    action: string;
    attempt: number;
    max_attempts: number;
    timeout: number;
    generation: number;
    priority: "high" | "normal" | "low";
    created_at: string;
    run_at?: string | undefined;
    started_at?: string | undefined;
    finished_at?: string | undefined;
    node?: string | undefined;
    worker?: string | undefined;
    owner?: string | undefined;
    progress?: Progress | undefined;
    cancelling?: boolean | undefined;
    key?: string | undefined;
    meta?: Record<string, string> | undefined;
    warning?: string | undefined;
    payload?: any;
    /**
     * `{ok, data}` or the members that a built-in action adds
     */
    result?: any;
    error?: string | undefined;
    code?: string | undefined;
};
export type Progress = {
    percent: number;
    message?: string | undefined;
};
/**
 * An event of a watch: an entry of the task's history, or progress, which has no `seq`.
 */
export type TaskEvent = {
    task: string;
    status: TaskRecord["status"];
    attempt: number;
    seq?: number | undefined;
    at?: string | undefined;
    node?: string | undefined;
    worker?: string | undefined;
    progress?: Progress | undefined;
    result?: any;
    error?: string | undefined;
    code?: string | undefined;
    /**
     * somebody has retried the task after this end: more events follow
     */
    retried?: boolean | undefined;
};
export type EnqueueOptions = {
    /**
     * "default" if absent
     */
    queue?: string | undefined;
    priority?: "high" | "normal" | "low" | undefined;
    /**
     * seconds until the task may start
     */
    delay?: number | undefined;
    /**
     * the time at which it may start
     */
    runAt?: string | Date | undefined;
    /**
     * seconds after which it fails if it has not started
     */
    expires?: number | undefined;
    /**
     * seconds of one attempt
     */
    timeout?: number | undefined;
    maxAttempts?: number | undefined;
    /**
     * seconds before the second attempt
     */
    backoff?: number | undefined;
    /**
     * most seconds before an attempt
     */
    backoffMax?: number | undefined;
    /**
     * identifies the task in its queue: the same request with the same key is the same task
     */
    key?: string | undefined;
    /**
     * seconds that the task is kept when it is done or cancelled
     */
    keep?: number | undefined;
    /**
     * seconds that the task is kept when it has failed
     */
    keepFailed?: number | undefined;
    /**
     * labels
     */
    meta?: Record<string, string> | undefined;
    /**
     * gives up; not sent to the node
     */
    signal?: AbortSignal | undefined;
};
export type RunOptions = {
    /**
     * seconds that the action may take
     */
    timeout?: number | undefined;
    /**
     * the action may run twice: it is sent again if the connection ends before the answer
     */
    idempotent?: boolean | undefined;
    /**
     * gives up waiting
     */
    signal?: AbortSignal | undefined;
};
export type TaskCalls = {
    request: Client["request"];
    wait: (task: string, options: {
        timeout?: number;
        signal?: AbortSignal;
    }) => Promise<any>;
    watch: (task: string, after: number, signal?: AbortSignal) => AsyncGenerator<TaskEvent, void, undefined>;
};
import { Connection } from "./connection.js";
