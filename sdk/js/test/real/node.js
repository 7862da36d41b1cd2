import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { soon } from "../inbox.js";

/** The program posta; the Go test of the library names it. */
export const BINARY = process.env.POSTA_BINARY;

/** A folder that the test deletes. */
export async function folder(t) {
  const path = await mkdtemp(join(tmpdir(), "posta-js-"));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A process of `posta node` with a store in a folder. */
export class RealNode {
  /**
   * Starts a node and resolves when it serves.
   * @param {import("node:test").TestContext} t
   * @param {string} data
   * @param {string} [listen]
   */
  static async start(t, data, listen = "127.0.0.1:0", ...args) {
    const node = new RealNode();
    const store = ["--store", `sqlite://${data}/posta.db`, "--blobs", `file://${data}/blobs`];
    node.process = spawn(BINARY, ["node", "--listen", listen, ...store, "--drain-delay", "0s", "--log-format", "json", ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    node.exited = once(node.process, "exit");
    t.after(() => node.kill());
    const log = [];
    const serves = new Promise((resolve, reject) => {
      createInterface({ input: node.process.stderr }).on("line", (line) => {
        log.push(line);
        if (line.includes('"node serves"')) resolve(JSON.parse(line).addr);
      });
      node.exited.then(() => reject(new Error(`the node has ended:\n${log.join("\n")}`)));
    });
    serves.catch(() => {});
    node.address = await soon(serves, "the node to serve");
    return node;
  }

  /** Ends the node with SIGKILL. */
  kill() {
    this.process.kill("SIGKILL");
    return this.exited;
  }

  /** Asks the node to drain. */
  drain() {
    this.process.kill("SIGTERM");
    return this.exited;
  }
}
