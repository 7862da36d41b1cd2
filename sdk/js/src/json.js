/** The deepest nesting of a value: 64 with the line's own object. */
const DEEPEST = 63;

/**
 * Returns the value as JSON that every node accepts, and throws a TypeError for any other value.
 * @param {unknown} value undefined is null
 * @param {string} what the name of the value in messages
 * @returns {string}
 */
export function encode(value, what) {
  const text = JSON.stringify(value === undefined ? null : value);
  if (text === undefined) throw new TypeError(`${what} is no JSON: it is a ${typeof value}`);
  if (text.includes("\\u") && hasLoneSurrogate(text)) {
    throw new TypeError(`${what} has half a surrogate pair, which is no character`);
  }
  if (text.length > 2 * DEEPEST && depth(text) > DEEPEST) {
    throw new TypeError(`${what} is nested more than ${DEEPEST} deep`);
  }
  return text;
}

/**
 * JSON.stringify escapes a surrogate only if it stands alone. An escaped backslash before the u is none of its escapes.
 * @param {string} text
 */
function hasLoneSurrogate(text) {
  for (const [escape] of text.matchAll(/\\(?:u[0-9a-f]{4}|[^u])/g)) {
    if (/^\\ud[89a-f]/.test(escape)) return true;
  }
  return false;
}

/** @param {string} text */
function depth(text) {
  let now = 0;
  let most = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (quoted) {
      if (c === 0x5c) i++; // a backslash
      else if (c === 0x22) quoted = false;
    } else if (c === 0x22) {
      quoted = true;
    } else if (c === 0x5b || c === 0x7b) {
      if (++now > most) most = now;
    } else if (c === 0x5d || c === 0x7d) {
      now--;
    }
  }
  return most;
}

/**
 * Returns the number of bytes of a text in UTF-8.
 * @param {string} text without unpaired surrogates
 */
export function byteLength(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 0x7f) bytes += c > 0x7ff && (c < 0xd800 || c > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

/**
 * Returns the text with U+FFFD for everything that is no character, cut to a length.
 * @param {string} text
 * @param {number} most
 */
export function plainText(text, most) {
  return text.slice(0, most).replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]|\0/g, "\uFFFD");
}
