/** Random, growing pauses between two tries ("full jitter"). */
export class Backoff {
  #bounds;
  #failures = 0;

  /** @param {{min: number, max: number}} bounds of the longest pause, in seconds: it begins with min and doubles up to max */
  constructor(bounds) {
    this.#bounds = bounds;
  }

  /** Begins again with short pauses. */
  reset() {
    this.#failures = 0;
  }

  /**
   * Waits before the next try. Rejects with the reason of the signal when it is aborted.
   * @param {AbortSignal | undefined} signal
   * @param {number} [atLeast] seconds that a node asked for
   */
  async pause(signal, atLeast = 0) {
    const { min, max } = this.#bounds;
    const longest = Math.min(max, min * 2 ** this.#failures++);
    await sleep((atLeast + Math.random() * longest) * 1000, signal);
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
