/**
 * A line from the node. docs/wire.md describes the members of each.
 * @typedef {Record<string, any> & {id: number | string | null, status: string, code?: string, error?: string}} Reply
 */
/**
 * @typedef {object} Call
 * @property {(reply: Reply) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {((reply: Reply) => boolean) | undefined} receive
 * @property {boolean} patient
 * @property {number} number of its line
 */
/**
 * @typedef {object} RequestOptions
 * @property {(reply: Reply) => boolean} [receive] gets each line; the request ends with the first for which it
 *   returns true. Without it, the first line is the last
 * @property {boolean} [patient] the answer may take as long as a task does, yet the node reads on meanwhile
 * @property {AbortSignal} [signal] gives up waiting for the answer
 * @property {string} [id] instead of the next number
 */
/** One connection to a node: it matches replies to requests. Ids are its own and begin with 1. */
export class Connection {
    /**
     * @param {import("./line.js").Lines} lines
     * @param {(reply: Reply) => void} [unmatched] gets lines that answer no request, after the connection itself
     * @param {number} [round] milliseconds between two looks at a quiet connection
     */
    constructor(lines: import("./line.js").Lines, unmatched?: (reply: Reply) => void, round?: number);
    /** No request should be sent any more. */
    retired: boolean;
    /** @type {Promise<Error>} resolves with the reason when the connection has ended */
    closed: Promise<Error>;
    /**
     * Sends a request and resolves with its last line. A refusal rejects as Refused, the end of the connection as Lost.
     * @param {string} body the request as JSON, an object without id that is not empty
     * @param {RequestOptions} [options]
     * @returns {Promise<Reply>}
     */
    request(body: string, { receive, patient, signal, id: name }?: RequestOptions): Promise<Reply>;
    /**
     * Sends a line that is answered only when it is refused.
     * @param {string} line
     */
    send(line: string): void;
    /** Sends no further request. The connection ends when all are answered. */
    retire(): void;
    /** Like retire, and tells the node at once that nothing more will come. */
    finish(): void;
    /** @param {Error} [reason] */
    destroy(reason?: Error): void;
    #private;
}
/** The connection of a request has ended before its reply. */
export class Lost extends ConnectionLost {
    /**
     * @param {Error} reason
     * @param {boolean} written whether the node may have read the request
     */
    constructor(reason: Error, written: boolean);
    reason: Error;
    written: boolean;
}
/**
 * A line from the node. docs/wire.md describes the members of each.
 */
export type Reply = Record<string, any> & {
    id: number | string | null;
    status: string;
    code?: string;
    error?: string;
};
export type Call = {
    resolve: (reply: Reply) => void;
    reject: (error: Error) => void;
    receive: ((reply: Reply) => boolean) | undefined;
    patient: boolean;
    /**
     * of its line
     */
    number: number;
};
export type RequestOptions = {
    /**
     * gets each line; the request ends with the first for which it
     * returns true. Without it, the first line is the last
     */
    receive?: ((reply: Reply) => boolean) | undefined;
    /**
     * the answer may take as long as a task does, yet the node reads on meanwhile
     */
    patient?: boolean | undefined;
    /**
     * gives up waiting for the answer
     */
    signal?: AbortSignal | undefined;
    /**
     * instead of the next number
     */
    id?: string | undefined;
};
import { ConnectionLost } from "./errors.js";
