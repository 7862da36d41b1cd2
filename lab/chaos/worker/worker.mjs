// The worker in JavaScript of a chaos run. Its actions write the same journal as those in Go, ../node/actions.go.

import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { Permanent, Worker } from "../../../sdk/js/index.js";

const journal = openSync(process.env.POSTA_CHAOS_JOURNAL, "a", 0o600);

function note({ task, attempt, action }, how) {
  const at = BigInt(Date.now()) * 1_000_000n;
  const line = JSON.stringify({ pid: process.pid, task, attempt, action, how });
  writeSync(journal, `{"at":${at},${line.slice(1)}\n`); // one write, so that a killed process leaves whole lines
}

const deeds = {
  hash() {},
  sleep: ({ ms }, { signal }) => pause(ms, undefined, { signal }),
  flaky({ fails }, { attempt }) {
    if (attempt <= fails) throw new Error(`attempt ${attempt} fails, as it was asked to`);
  },
  refuse() {
    throw new Permanent("it never succeeds");
  },
  hang: ({ ms }) => pause(ms),
  async kill() {
    process.kill(process.pid, "SIGKILL");
    await pause(60_000);
  },
  big: ({ bytes }) => ({ fill: "x".repeat(bytes) }),
  async progress({ ms }, { signal, progress }) {
    for (let percent = 0; percent < 100; percent += 20) {
      progress(percent, "on its way");
      await pause(ms / 5, undefined, { signal });
    }
  },
};

const actions = {};
for (const [name, act] of Object.entries(deeds)) {
  actions[`work.${name}`] = async (payload, context) => {
    note(context, "start");
    let more;
    try {
      more = await act(payload, context);
    } catch (error) {
      note(context, "failed");
      throw error;
    }
    note(context, "done");
    const hash = createHash("sha256").update(payload.nonce).digest("hex").slice(0, 16);
    return { hash, attempt: context.attempt, ...more };
  };
}

const worker = new Worker(undefined, { slots: 8, drain: 20, reconnect: { min: 0.05, max: 1 }, actions });
await worker.start();
await worker.stopped;
