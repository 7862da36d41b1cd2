/** Milliseconds after which a test that waits for an event has failed. */
export const PATIENCE = 60_000;

/**
 * Rejects when the promise takes too long.
 * @template T
 * @param {Promise<T>} promise
 * @param {string} what
 * @returns {Promise<T>}
 */
export async function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A queue of values that arrive some time. */
export class Inbox {
  #values = [];
  #wake = () => {};

  push(value) {
    this.#values.push(value);
    this.#wake();
  }

  get size() {
    return this.#values.length;
  }

  /** Resolves with the next value. */
  async next(what) {
    if (this.#values.length === 0) {
      await soon(new Promise((resolve) => (this.#wake = resolve)), what);
    }
    return this.#values.shift();
  }
}
