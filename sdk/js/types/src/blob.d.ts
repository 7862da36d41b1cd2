/**
 * Stores JSON and returns the reference to it, for `payload_blob` and `data_blob`.
 * @param {import("./node.js").Target} target
 * @param {string} text
 * @param {AbortSignal} [signal]
 * @returns {Promise<object>}
 */
export function putBlob(target: import("./node.js").Target, text: string, signal?: AbortSignal): Promise<object>;
/**
 * Fetches the JSON at the `href` of a blob.
 * @param {import("./node.js").Target} target
 * @param {string} href a path on the node that the line came from
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function getBlob(target: import("./node.js").Target, href: string, signal?: AbortSignal): Promise<any>;
