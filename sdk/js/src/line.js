// Lines over any byte stream. Nothing here knows what is in a line, and LineReader needs nothing of Node.

/** The longest line that is read, in bytes: four times the largest result. */
export const LONGEST_LINE = 4 << 20;

/** The most characters that leave in one write. */
const LARGEST_WRITE = 1 << 20;

const LINE_FEED = 10;

/** Splits chunks of bytes into lines. A line, and even a character, may be split over several chunks. */
export class LineReader {
  #receive;
  #longest;
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** @type {Uint8Array[]} the chunks of a line that is not complete */
  #rest = [];
  #size = 0;

  /**
   * @param {(line: string) => void} receive called with each line that is not blank
   * @param {number} [longest] the most bytes of a line
   */
  constructor(receive, longest = LONGEST_LINE) {
    this.#receive = receive;
    this.#longest = longest;
  }

  /**
   * Throws if a line is too long.
   * @param {Uint8Array} chunk
   */
  push(chunk) {
    const end = chunk.lastIndexOf(LINE_FEED);
    if (end >= 0) {
      const whole = this.#join(chunk.subarray(0, end));
      chunk = chunk.subarray(end + 1);
      for (const line of this.#decoder.decode(whole).split("\n")) {
        if (line !== "" && line !== "\r") this.#receive(line);
      }
    }
    if (chunk.length === 0) return;
    this.#rest.push(chunk);
    this.#size += chunk.length;
    if (this.#size > this.#longest) throw new RangeError(`a line has more than ${this.#longest} bytes`);
  }

  /** @param {Uint8Array} last */
  #join(last) {
    if (this.#rest.length === 0) return last;
    const whole = new Uint8Array(this.#size + last.length);
    let at = 0;
    for (const part of [...this.#rest, last]) {
      whole.set(part, at);
      at += part.length;
    }
    this.#rest = [];
    this.#size = 0;
    return whole;
  }
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
export class LineStream {
  /** @type {number} */
  written = 0;
  #duplex;
  /** @type {string[]} */
  #ready = [];
  #sent = 0;
  #scheduled = false;
  #blocked = false;
  #ending = false;

  /** @param {import("node:stream").Duplex & {ref?: () => unknown, unref?: () => unknown}} duplex */
  constructor(duplex) {
    this.#duplex = duplex;
  }

  /**
   * @param {(line: string) => void} receive
   * @param {(reason?: Error) => void} closed
   */
  open(receive, closed) {
    const reader = new LineReader(receive);
    /** @type {Error | undefined} */
    let reason;
    this.#duplex.on("data", (/** @type {Uint8Array} */ chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.#duplex.destroy(/** @type {Error} */ (error));
      }
    });
    // Nothing follows: what was not answered by now never will be.
    this.#duplex.on("end", () => this.#duplex.destroy());
    this.#duplex.on("error", (/** @type {Error} */ error) => {
      reason = error;
    });
    this.#duplex.on("drain", () => {
      this.#blocked = false;
      this.#flush();
    });
    this.#duplex.on("close", () => closed(reason));
  }

  /** @param {string} line */
  send(line) {
    this.#ready.push(line);
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#flush();
      });
    }
    return ++this.#sent;
  }

  #flush() {
    while (this.#ready.length > 0 && !this.#blocked && !this.#duplex.destroyed) {
      let count = 0;
      for (let size = 0; count < this.#ready.length && size < LARGEST_WRITE; count++) size += this.#ready[count].length;
      const lines = count === this.#ready.length ? this.#ready : this.#ready.slice(0, count);
      this.#ready = this.#ready.slice(count);
      this.written += count;
      this.#blocked = !this.#duplex.write(lines.join("\n") + "\n");
    }
    if (!this.#ending || this.#ready.length > 0) return;
    this.#ending = false;
    this.#duplex.end();
  }

  end() {
    this.#ending = true;
    if (!this.#scheduled) this.#flush();
  }

  /** @param {Error} [reason] */
  destroy(reason) {
    this.#duplex.destroy(reason);
  }

  /** @param {boolean} active */
  hold(active) {
    if (active) this.#duplex.ref?.();
    else this.#duplex.unref?.();
  }
}
