// Tasks that a page enqueues while it is offline. docs/web.md describes it.

const MOST = 500; // entries
const BYTES = 5 << 20; // of all entries
const AGAIN = 30_000; // ms until the next try of a page that gets no event

/** Codes of errors that another try may not meet again. */
const TEMPORARY = /^(disconnected|unknown_outcome|draining|overloaded|unavailable|internal|unauthenticated|closed)$/;

/**
 * @typedef {import("./posta.js").TaskOptions} TaskOptions
 * @typedef {{action: string, payload?: any, options: TaskOptions & {key: string}, refused?: {code: string, message: string}}} Entry
 * @typedef {{onsent?: (entry: Entry, answer: {task: string, status: string, duplicate?: boolean}) => void,
 *   onrefused?: (entry: Entry) => void, onchange?: () => void}} Listeners `onchange` is called in every tab
 */

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/**
 * Opens the outbox of this site with a name. All its tabs share it.
 * @param {{enqueue: import("./posta.js").Client["enqueue"]}} posta
 * @param {Listeners & {name?: string}} [options]
 * @returns {Promise<Outbox>}
 */
export async function openOutbox(posta, { name = "posta-outbox", ...listeners } = {}) {
  const request = indexedDB.open(name);
  request.onupgradeneeded = () => request.result.createObjectStore("lines", { autoIncrement: true });
  const outbox = new Outbox(posta, name, await result(request), listeners);
  outbox.flush();
  return outbox;
}

/** Keeps tasks in the browser until a node has accepted them. */
export class Outbox {
  #posta;
  #name;
  #db;
  #listeners;
  #channel;
  /** @type {Promise<void> | undefined} a flush that has not begun */
  #next;
  #timer = 0;

  /**
   * @param {{enqueue: import("./posta.js").Client["enqueue"]}} posta
   * @param {string} name
   * @param {IDBDatabase} db
   * @param {Listeners} listeners
   */
  constructor(posta, name, db, listeners) {
    this.#posta = posta;
    this.#name = name;
    this.#db = db;
    this.#listeners = listeners;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = () => listeners.onchange?.();
    addEventListener("online", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden || this.flush());
  }

  /**
   * Keeps a task, sends it when a node can be reached, and resolves with its key once it is kept. Throws a RangeError
   * if the outbox is full.
   * @param {string} action
   * @param {unknown} [payload]
   * @param {TaskOptions} [options]
   * @returns {Promise<string>}
   */
  async add(action, payload, options = {}) {
    const key = options.key ?? crypto.randomUUID();
    const line = JSON.stringify({ action, payload, options: { ...options, key } });
    await this.#change(async (lines) => {
      const all = [...(await result(lines.getAll())), line];
      if (all.length > MOST || new Blob(all).size > BYTES) throw new RangeError("the outbox is full");
      lines.add(line);
    });
    this.flush();
    return key;
  }

  /**
   * Returns what is kept, oldest first. An entry that a node has refused for good has `refused`.
   * @returns {Promise<Entry[]>}
   */
  async list() {
    return (await result(this.#db.transaction("lines").objectStore("lines").getAll())).map((line) => JSON.parse(line));
  }

  /**
   * Removes an entry.
   * @param {string} key
   */
  async remove(key) {
    await this.#update(key);
  }

  /**
   * Sends what is kept, one task after another. Tabs take turns.
   * @returns {Promise<void>}
   */
  flush() {
    const send = () => this.#send();
    this.#next ??= (navigator.locks ? navigator.locks.request(this.#name, send) : Promise.resolve().then(send)).then(
      () => {},
      () => {},
    );
    return this.#next;
  }

  async #send() {
    this.#next = undefined;
    clearTimeout(this.#timer);
    for (let entry; (entry = (await this.list()).find(({ refused }) => !refused)); ) {
      const { action, payload, options } = entry;
      try {
        const answer = await this.#posta.enqueue(action, payload, options);
        await this.#update(options.key);
        this.#listeners.onsent?.(entry, answer);
      } catch (error) {
        const { code, message } = /** @type {any} */ (error);
        if (!code || TEMPORARY.test(code)) {
          this.#timer = setTimeout(() => this.flush(), AGAIN * (1 + Math.random()));
          return;
        }
        entry.refused = { code, message };
        await this.#update(options.key, entry);
        this.#listeners.onrefused?.(entry);
      }
    }
  }

  /**
   * Replaces the entry with a key, or removes it.
   * @param {string} key
   * @param {Entry} [entry]
   */
  #update(key, entry) {
    return this.#change(async (lines) => {
      const [ids, all] = await Promise.all([result(lines.getAllKeys()), result(lines.getAll())]);
      const i = all.findIndex((line) => JSON.parse(line).options.key === key);
      if (i >= 0) entry ? lines.put(JSON.stringify(entry), ids[i]) : lines.delete(ids[i]);
    });
  }

  /**
   * Makes a change, and resolves when it is on the disk.
   * @param {(lines: IDBObjectStore) => Promise<void>} change
   */
  async #change(change) {
    const transaction = this.#db.transaction("lines", "readwrite", { durability: "strict" });
    const end = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    await Promise.all([end, change(transaction.objectStore("lines"))]);
    this.#channel.postMessage("");
    this.#listeners.onchange?.();
  }
}
