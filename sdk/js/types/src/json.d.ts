/**
 * Returns the value as JSON that every node accepts, and throws a TypeError for any other value.
 * @param {unknown} value undefined is null
 * @param {string} what the name of the value in messages
 * @returns {string}
 */
export function encode(value: unknown, what: string): string;
/**
 * Returns the number of bytes of a text in UTF-8.
 * @param {string} text without unpaired surrogates
 */
export function byteLength(text: string): number;
/**
 * Returns the text with U+FFFD for everything that is no character, cut to a length.
 * @param {string} text
 * @param {number} most
 */
export function plainText(text: string, most: number): string;
