// Bodies that are too large for a line travel over HTTP, on the same address and port.

import { request as requestHTTP } from "node:http";
import { request as requestHTTPS } from "node:https";

import { ConnectionLost, Refused } from "./errors.js";

/**
 * Stores JSON and returns the reference to it, for `payload_blob` and `data_blob`.
 * @param {import("./target.js").Target} target
 * @param {string} text
 * @param {AbortSignal} [signal]
 * @returns {Promise<object>}
 */
export async function putBlob(target, text, signal) {
  const answer = await exchange(target, "PUT", "/v1/blobs", text, signal);
  return JSON.parse(answer).blob;
}

/**
 * Fetches the JSON at the `href` of a blob.
 * @param {import("./target.js").Target} target
 * @param {string} href a path on the node that the line came from
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function getBlob(target, href, signal) {
  if (!/^\/(?!\/)/.test(href)) throw new TypeError(`the href of a blob must be a path, not ${href}`);
  return JSON.parse(await exchange(target, "GET", href, undefined, signal));
}

/**
 * @param {import("./target.js").Target} target
 * @param {string} method
 * @param {string} path
 * @param {string | undefined} body
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<string>}
 */
function exchange(target, method, path, body, signal) {
  const { host, port, token, tls } = target;
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
    const request = tls ? requestHTTPS({ servername: host, ...tls, ...options }) : requestHTTP(options);
    request.on("error", fail);
    request.on("response", (response) => {
      /** @type {Buffer[]} */
      const chunks = [];
      response.on("error", fail);
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        // Decoded only when it is whole: a character may be split over two chunks.
        const text = Buffer.concat(chunks).toString();
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve(text);
        else reject(refusal(status, text));
      });
    });
    request.end(body);
  });
}

/**
 * Reads a problem document (RFC 9457).
 * @param {number} status
 * @param {string} text
 */
function refusal(status, text) {
  /** @type {any} */
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Not from a node: a proxy between us answers with a page.
  }
  const error = problem.detail ?? problem.error ?? problem.title ?? `HTTP status ${status}`;
  return new Refused({ ...problem, id: null, status: "error", code: problem.code ?? "unavailable", error });
}
