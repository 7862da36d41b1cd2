// Bodies that are too large for a line travel over HTTP, on the same address and port.

import { Refused } from "./errors.js";
import { exchange } from "#platform";

/**
 * Stores JSON and returns the reference to it, for `payload_blob` and `data_blob`.
 * @param {import("./node.js").Target} target
 * @param {string} text
 * @param {AbortSignal} [signal]
 * @returns {Promise<object>}
 */
export async function putBlob(target, text, signal) {
  return JSON.parse(body(await exchange(target, "PUT", "/v1/blobs", text, signal))).blob;
}

/**
 * Fetches the JSON at the `href` of a blob.
 * @param {import("./node.js").Target} target
 * @param {string} href a path on the node that the line came from
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function getBlob(target, href, signal) {
  if (!/^\/(?!\/)/.test(href)) throw new TypeError(`the href of a blob must be a path, not ${href}`);
  return JSON.parse(body(await exchange(target, "GET", href, undefined, signal)));
}

/**
 * Returns the body of an answer, or throws the refusal in it: a problem document (RFC 9457).
 * @param {{status: number, text: string}} answer
 */
function body({ status, text }) {
  if (status >= 200 && status < 300) return text;
  /** @type {any} */
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Not from a node: a proxy between us answers with a page.
  }
  const error = problem.detail ?? problem.error ?? problem.title ?? `HTTP status ${status}`;
  throw new Refused({ ...problem, id: null, status: "error", code: problem.code ?? "unavailable", error });
}
