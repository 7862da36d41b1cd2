/**
 * @typedef {object} TargetOptions
 * @property {string} [token] the token of the node's --token-file; $POSTA_TOKEN
 * @property {boolean | import("node:tls").ConnectionOptions} [tls] encrypts the connection; an object has
 *   options of node:tls, such as `ca`. $POSTA_TLS, with $POSTA_TLS_CA, $POSTA_TLS_CERT and $POSTA_TLS_KEY
 * @property {{min?: number, max?: number}} [reconnect] bounds, in seconds, of the random pause before another
 *   connection is tried; 0.2 and 30
 */
/** @typedef {{host: string, port: number}} Address */
/**
 * Where a client or worker connects to.
 * @typedef {object} Target
 * @property {Address[]} addresses those that are tried one after another
 * @property {Address} current the one of the last connection
 * @property {string | undefined} token
 * @property {import("node:tls").ConnectionOptions | undefined} tls
 * @property {{min: number, max: number}} reconnect
 */
/**
 * @param {string | undefined} address HOST:PORT, or several of them with commas in between; $POSTA_TO, or 127.0.0.1:9000
 * @param {TargetOptions} options
 * @returns {Target}
 */
export function parseTarget(address: string | undefined, { token, tls, reconnect }?: TargetOptions): Target;
/**
 * Opens a connection to the next of the addresses. It must be opened or destroyed by the caller.
 * @param {Target} target
 * @param {AbortSignal} [signal]
 * @returns {Promise<LineStream>}
 */
export function dial(target: Target, signal?: AbortSignal): Promise<LineStream>;
/**
 * Sends an HTTP request to the node of the last connection.
 * @param {Target} target
 * @param {string} method
 * @param {string} path
 * @param {string | undefined} body
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<{status: number, text: string}>}
 */
export function exchange(target: Target, method: string, path: string, body: string | undefined, signal: AbortSignal | undefined): Promise<{
    status: number;
    text: string;
}>;
export type TargetOptions = {
    /**
     * the token of the node's --token-file; $POSTA_TOKEN
     */
    token?: string | undefined;
    /**
     * encrypts the connection; an object has
     * options of node:tls, such as `ca`. $POSTA_TLS, with $POSTA_TLS_CA, $POSTA_TLS_CERT and $POSTA_TLS_KEY
     */
    tls?: boolean | import("tls").ConnectionOptions | undefined;
    /**
     * bounds, in seconds, of the random pause before another
     * connection is tried; 0.2 and 30
     */
    reconnect?: {
        min?: number;
        max?: number;
    } | undefined;
};
export type Address = {
    host: string;
    port: number;
};
/**
 * Where a client or worker connects to.
 */
export type Target = {
    /**
     * those that are tried one after another
     */
    addresses: Address[];
    /**
     * the one of the last connection
     */
    current: Address;
    token: string | undefined;
    tls: import("node:tls").ConnectionOptions | undefined;
    reconnect: {
        min: number;
        max: number;
    };
};
import { LineStream } from "./line.js";
