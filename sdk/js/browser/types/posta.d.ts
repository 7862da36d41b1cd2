/**
 * Returns a client. It connects for its first request.
 * @param {string | URL} url of the node, the balancer or the proxy in front of them, relative to the page
 * @param {{token?: string | (() => string | Promise<string>), onchange?: (state: "socket" | "fetch" | "offline") => void}} [options]
 *   `token` is sent after the connection is open, never in the URL. A function is called again when the node no longer
 *   accepts what it returned.
 */
export function connect(url?: string | URL, options?: {
    token?: string | (() => string | Promise<string>);
    onchange?: (state: "socket" | "fetch" | "offline") => void;
}): Client;
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
    constructor(line: Line, cause?: unknown);
    /** @type {string} */
    code: string;
    /** @type {string | undefined} */
    field: string | undefined;
    /** @type {string | undefined} */
    task: string | undefined;
    /** @type {string | undefined} */
    state: string | undefined;
    /** @type {number | undefined} seconds */
    retryAfter: number | undefined;
}
/** Sends tasks and follows them, over one WebSocket. */
export class Client {
    /**
     * @param {string | URL} url
     * @param {NonNullable<Parameters<typeof connect>[1]>} options
     */
    constructor(url: string | URL, { token, onchange }: NonNullable<Parameters<typeof connect>[1]>);
    /**
     * Runs an action now and resolves with its result.
     * @param {string} action
     * @param {unknown} [payload]
     * @param {{timeout?: number, idempotent?: boolean, signal?: AbortSignal}} [options] `idempotent`: it may run twice
     * @returns {Promise<any>}
     */
    run(action: string, payload?: unknown, { timeout, idempotent, signal }?: {
        timeout?: number;
        idempotent?: boolean;
        signal?: AbortSignal;
    }): Promise<any>;
    /**
     * Stores a task, and resolves once no crash can lose it. Without a key it gets a random one, so that it can be sent
     * again after a broken connection.
     * @param {string} action
     * @param {unknown} [payload]
     * @param {TaskOptions & {signal?: AbortSignal}} [options]
     * @returns {Promise<{task: string, status: string, duplicate?: boolean, run_at?: string, warning?: string}>}
     */
    enqueue(action: string, payload?: unknown, { signal, ...options }?: TaskOptions & {
        signal?: AbortSignal;
    }): Promise<{
        task: string;
        status: string;
        duplicate?: boolean;
        run_at?: string;
        warning?: string;
    }>;
    /**
     * Yields what happens to a task, up to its end. After a disconnect it continues with the next event.
     * @param {string | {task: string}} task
     * @param {{after?: number, signal?: AbortSignal}} [options] `after`: the `seq` of the last event that is known
     * @returns {AsyncGenerator<TaskEvent, void, undefined>}
     */
    watch(task: string | {
        task: string;
    }, { after, signal }?: {
        after?: number;
        signal?: AbortSignal;
    }): AsyncGenerator<TaskEvent, void, undefined>;
    /**
     * Cancels a task. A running one is "cancelling" until its action has stopped.
     * @param {string | {task: string}} task
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<"cancelled" | "cancelling">}
     */
    cancel(task: string | {
        task: string;
    }, { signal }?: {
        signal?: AbortSignal;
    }): Promise<"cancelled" | "cancelling">;
    /** Ends the connection. Open requests are rejected. */
    close(): void;
    #private;
}
export type Line = Record<string, any>;
export type TaskEvent = {
    task: string;
    status: string;
    attempt: number;
    seq?: number;
    at?: string;
    node?: string;
    worker?: string;
    progress?: {
        percent: number;
        message?: string;
    };
    result?: any;
    error?: string;
    code?: string;
    retried?: boolean;
};
/**
 * as on the line; all times in seconds
 */
export type TaskOptions = {
    queue?: string;
    priority?: "high" | "normal" | "low";
    delay?: number;
    run_at?: string;
    expires?: number;
    timeout?: number;
    max_attempts?: number;
    backoff?: number;
    backoff_max?: number;
    key?: string;
    keep?: number;
    keep_failed?: number;
    meta?: Record<string, string>;
};
export type Call = {
    fields: Line;
    each?: (line: Line) => boolean;
    repeats?: number;
    patience?: number;
    signal?: AbortSignal;
};
export type Way = {
    retired: boolean;
    request(fields: Line, each: (line: Line) => boolean, signal?: AbortSignal): Promise<Line>;
};
