/** The longest line that is read, in bytes: four times the largest result. */
export const LONGEST_LINE: number;
/** Splits chunks of bytes into lines. A line, and even a character, may be split over several chunks. */
export class LineReader {
    /**
     * @param {(line: string) => void} receive called with each line that is not blank
     * @param {number} [longest] the most bytes of a line
     */
    constructor(receive: (line: string) => void, longest?: number);
    /**
     * Throws if a line is too long.
     * @param {Uint8Array} chunk
     */
    push(chunk: Uint8Array): void;
    #private;
}
/**
 * What a connection needs of the stream below it. LineStream is the one for Node; a WebSocket, whose messages
 * are lines already, can offer the same.
 * @typedef {object} Lines
 * @property {(receive: (line: string) => void, closed: (reason?: Error) => void) => void} open starts the
 *   delivery of lines; `closed` is called once, at the end
 * @property {(line: string) => number} send writes a line soon, together with others; returns its number, from 1
 * @property {number} written how many lines were handed to the stream below
 * @property {() => void} end sends no more, and goes on receiving
 * @property {(reason?: Error) => void} destroy ends the connection at once
 * @property {(active: boolean) => void} hold whether the connection keeps the process alive
 */
/**
 * Lines over a Duplex of Node, such as a socket. All lines that become ready in one turn of the event loop leave in one write.
 * @implements {Lines}
 */
export class LineStream implements Lines {
    /** @param {import("node:stream").Duplex & {ref?: () => unknown, unref?: () => unknown}} duplex */
    constructor(duplex: import("node:stream").Duplex & {
        ref?: () => unknown;
        unref?: () => unknown;
    });
    /** @type {number} */
    written: number;
    /**
     * @param {(line: string) => void} receive
     * @param {(reason?: Error) => void} closed
     */
    open(receive: (line: string) => void, closed: (reason?: Error) => void): void;
    /** @param {string} line */
    send(line: string): number;
    end(): void;
    /** @param {Error} [reason] */
    destroy(reason?: Error): void;
    /** @param {boolean} active */
    hold(active: boolean): void;
    #private;
}
/**
 * What a connection needs of the stream below it. LineStream is the one for Node; a WebSocket, whose messages
 * are lines already, can offer the same.
 */
export type Lines = {
    /**
     * starts the
     * delivery of lines; `closed` is called once, at the end
     */
    open: (receive: (line: string) => void, closed: (reason?: Error) => void) => void;
    /**
     * writes a line soon, together with others; returns its number, from 1
     */
    send: (line: string) => number;
    /**
     * how many lines were handed to the stream below
     */
    written: number;
    /**
     * sends no more, and goes on receiving
     */
    end: () => void;
    /**
     * ends the connection at once
     */
    destroy: (reason?: Error) => void;
    /**
     * whether the connection keeps the process alive
     */
    hold: (active: boolean) => void;
};
