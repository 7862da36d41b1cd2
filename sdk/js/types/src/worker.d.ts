/** Runs actions for a node: it holds a connection and works on what the node pushes. */
export class Worker {
    /**
     * @param {string | undefined} address HOST:PORT of a node or a balancer, or of several with commas in between;
     *   $POSTA_TO, or 127.0.0.1:9000
     * @param {WorkerOptions} options
     */
    constructor(address: string | undefined, options: WorkerOptions);
    /** @type {Promise<void>} resolves when the worker has stopped; rejects if the node does not accept it */
    stopped: Promise<void>;
    /** @type {string} */
    name: string;
    /**
     * Connects, and resolves when the node is ready to push tasks. While no node answers, it tries again and again.
     * Rejects if the node does not accept the worker.
     * @returns {Promise<void>}
     */
    start(): Promise<void>;
    /**
     * Drains: takes no more tasks, lets those that run finish within the drain time, gives the others back, and leaves. SIGTERM
     * does the same.
     * @returns {Promise<void>} `stopped`
     */
    stop(): Promise<void>;
    /** Ends the connection at once. The node takes back what the worker holds, as if its process had died. */
    close(): void;
    #private;
}
/**
 * What an action gets beside its payload.
 */
export type ActionContext = {
    /**
     * aborted when the task is cancelled, when its time is over, and when the node has
     * taken it back; the reason is a Cancelled
     */
    signal: AbortSignal;
    /**
     * shows how far the task is
     */
    progress: (percent?: number, message?: string) => void;
    action: string;
    /**
     * the id; a direct run has none
     */
    task?: string | undefined;
    /**
     * from 1
     */
    attempt?: number | undefined;
    queue?: string | undefined;
    key?: string | undefined;
    meta?: Record<string, string> | undefined;
    /**
     * seconds that the attempt may take
     */
    timeout: number;
};
/**
 * An action. What it returns must be JSON. If it throws, the attempt fails and the next one follows by the task's options; see
 * Retry and Permanent.
 */
export type Action = (payload: any, context: ActionContext) => unknown;
export type WorkerOnlyOptions = {
    /**
     * by name
     */
    actions: Record<string, Action>;
    /**
     * how many tasks run at once; 1
     */
    slots?: number | undefined;
    /**
     * the only queues to take tasks from; all if absent
     */
    queues?: string[] | undefined;
    /**
     * the name, unique among all workers; host name, process id and a random part if absent
     */
    worker?: string | undefined;
    /**
     * shown by `posta workers`
     */
    version?: string | undefined;
    /**
     * seconds that the node waits for this worker after a connection has broken; 5
     */
    grace?: number | undefined;
    /**
     * the actions that may run twice if a direct run loses its worker
     */
    idempotent?: string[] | undefined;
    /**
     * seconds that running actions get after SIGTERM; 60
     */
    drain?: number | undefined;
    /**
     * those that drain the worker; SIGTERM and SIGINT
     */
    signals?: NodeJS.Signals[] | undefined;
    /**
     * gets a line for each event that somebody should know of; console.error
     */
    log?: ((message: string) => void) | undefined;
    /**
     * opens the stream in another way than by TCP
     */
    dial?: ((signal: AbortSignal) => Promise<import("./line.js").Lines>) | undefined;
};
export type WorkerOptions = import("./node.js").TargetOptions & WorkerOnlyOptions;
