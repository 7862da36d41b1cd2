/** Random, growing pauses between two tries ("full jitter"). */
export class Backoff {
    /** @param {{min: number, max: number}} bounds of the longest pause, in seconds: it begins with min and doubles up to max */
    constructor(bounds: {
        min: number;
        max: number;
    });
    /** Begins again with short pauses. */
    reset(): void;
    /**
     * Waits before the next try. Rejects with the reason of the signal when it is aborted.
     * @param {AbortSignal | undefined} signal
     * @param {number} [atLeast] seconds that a node asked for
     */
    pause(signal: AbortSignal | undefined, atLeast?: number): Promise<void>;
    #private;
}
