// What Node has of its own: TCP, TLS, HTTP and the environment. The client imports it as #platform, so that another
// platform, such as a browser, needs another one of these modules only.

import { readFileSync } from "node:fs";
import { request as requestHTTP } from "node:http";
import { request as requestHTTPS } from "node:https";
import { connect as connectTCP, isIP } from "node:net";
import { connect as connectTLS } from "node:tls";

import { ConnectionLost } from "./errors.js";
import { LineStream } from "./line.js";

/** Milliseconds that connecting may take: longer than any healthy network needs. */
const DIAL_TIMEOUT = 10_000;
/** Milliseconds of silence after which the system probes a connection. */
const KEEP_ALIVE = 15_000;

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
export function parseTarget(address, { token, tls, reconnect } = {}) {
  address ??= process.env.POSTA_TO || "127.0.0.1:9000";
  const addresses = address.split(",").map(parseAddress);
  return {
    addresses,
    current: addresses[Math.floor(Math.random() * addresses.length)],
    token: (token ?? process.env.POSTA_TOKEN) || undefined,
    tls: tls === undefined ? tlsOfEnvironment() : tls === true ? {} : tls || undefined,
    reconnect: { min: reconnect?.min ?? 0.2, max: reconnect?.max ?? 30 },
  };
}

/**
 * @param {string} text
 * @returns {Address}
 */
function parseAddress(text) {
  const match = /^(?:\[([^\]]+)\]|([^:/\s]*)):(\d{1,5})$/.exec(text.trim());
  if (!match) throw new TypeError(`an address must be HOST:PORT, such as 127.0.0.1:9000, not ${JSON.stringify(text)}`);
  return { host: match[1] ?? (match[2] || "127.0.0.1"), port: Number(match[3]) };
}

/** Returns what the environment variables of the command line say about TLS. */
function tlsOfEnvironment() {
  const { POSTA_TLS, POSTA_TLS_CA, POSTA_TLS_CERT, POSTA_TLS_KEY } = process.env;
  if (!/^(1|t|true)$/i.test(POSTA_TLS ?? "")) return undefined;
  const file = (/** @type {string | undefined} */ path) => (path ? readFileSync(path) : undefined);
  return { ca: file(POSTA_TLS_CA), cert: file(POSTA_TLS_CERT), key: file(POSTA_TLS_KEY) };
}

/**
 * Opens a connection to the next of the addresses. It must be opened or destroyed by the caller.
 * @param {Target} target
 * @param {AbortSignal} [signal]
 * @returns {Promise<LineStream>}
 */
export function dial(target, signal) {
  return new Promise((resolve, reject) => {
    const { addresses, tls } = target;
    const next = addresses[(addresses.indexOf(target.current) + 1) % addresses.length];
    const { host, port } = (target.current = next);
    const socket = tls ? connectTLS({ ...named(host), ...tls, host, port }) : connectTCP({ host, port });
    /** @param {Error} [error] */
    const fail = (error) => {
      signal?.removeEventListener("abort", abort);
      socket.destroy();
      reject(new ConnectionLost(`cannot connect to ${host}:${port}: ${error?.message || String(error)}`, { cause: error }));
    };
    const abort = () => fail(signal?.reason);
    const timer = setTimeout(() => fail(new Error("it takes too long")), DIAL_TIMEOUT);
    socket.on("error", fail);
    socket.on("close", () => clearTimeout(timer));
    signal?.addEventListener("abort", abort);
    socket.once(tls ? "secureConnect" : "connect", () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      socket.off("error", fail);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, KEEP_ALIVE);
      resolve(new LineStream(socket));
    });
    if (signal?.aborted) abort();
  });
}

/**
 * Returns the name that a TLS connection asks for; an address is none.
 * @param {string} host
 */
function named(host) {
  return isIP(host) ? {} : { servername: host };
}

/**
 * Sends an HTTP request to the node of the last connection.
 * @param {Target} target
 * @param {string} method
 * @param {string} path
 * @param {string | undefined} body
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<{status: number, text: string}>}
 */
export function exchange(target, method, path, body, signal) {
  const { token, tls } = target;
  const { host, port } = target.current;
  /** @type {Record<string, string | number>} */
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    headers["Content-Length"] = Buffer.byteLength(body);
  }
  const options = { host, port, method, path, headers, signal, agent: false };
  return new Promise((resolve, reject) => {
    /** @param {Error} error */
    const fail = (error) => {
      reject(signal?.aborted ? signal.reason : new ConnectionLost(`${method} ${path}: ${error.message}`, { cause: error }));
    };
    const request = tls ? requestHTTPS({ ...named(host), ...tls, ...options }) : requestHTTP(options);
    request.on("error", fail);
    request.on("response", (response) => {
      /** @type {Buffer[]} */
      const chunks = [];
      response.on("error", fail);
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        // Decoded only when it is whole: a character may be split over two chunks.
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
      });
    });
    request.end(body);
  });
}
