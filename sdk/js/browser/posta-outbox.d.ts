/**
 * Opens the outbox of this site with a name. All its tabs share it.
 * @param {{enqueue: import("./posta.js").Client["enqueue"]}} posta
 * @param {Listeners & {name?: string}} [options]
 * @returns {Promise<Outbox>}
 */
export function openOutbox(posta: {
    enqueue: import("./posta.js").Client["enqueue"];
}, { name, ...listeners }?: Listeners & {
    name?: string;
}): Promise<Outbox>;
/** Keeps tasks in the browser until a node has accepted them. */
export class Outbox {
    /**
     * @param {{enqueue: import("./posta.js").Client["enqueue"]}} posta
     * @param {string} name
     * @param {IDBDatabase} db
     * @param {Listeners} listeners
     */
    constructor(posta: {
        enqueue: import("./posta.js").Client["enqueue"];
    }, name: string, db: IDBDatabase, listeners: Listeners);
    /**
     * Keeps a task, sends it when a node can be reached, and resolves with its key once it is kept. Throws a RangeError
     * if the outbox is full.
     * @param {string} action
     * @param {unknown} [payload]
     * @param {TaskOptions} [options]
     * @returns {Promise<string>}
     */
    add(action: string, payload?: unknown, options?: TaskOptions): Promise<string>;
    /**
     * Returns what is kept, oldest first. An entry that a node has refused for good has `refused`.
     * @returns {Promise<Entry[]>}
     */
    list(): Promise<Entry[]>;
    /**
     * Removes an entry.
     * @param {string} key
     */
    remove(key: string): Promise<void>;
    /**
     * Sends what is kept, one task after another. Tabs take turns.
     * @returns {Promise<void>}
     */
    flush(): Promise<void>;
    #private;
}
export type TaskOptions = import("./posta.js").TaskOptions;
export type Entry = {
    action: string;
    payload?: any;
    options: TaskOptions & {
        key: string;
    };
    refused?: {
        code: string;
        message: string;
    };
};
/**
 * `onchange` is called in every tab
 */
export type Listeners = {
    onsent?: (entry: Entry, answer: {
        task: string;
        status: string;
        duplicate?: boolean;
    }) => void;
    onrefused?: (entry: Entry) => void;
    onchange?: () => void;
};
