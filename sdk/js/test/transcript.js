// Plays the transcripts of sdk/conformance, whose README.md describes them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { Permanent, Retry, Worker } from "../index.js";
import { FakeNode } from "./fakenode.js";
import { soon } from "./inbox.js";

export const FOLDER = new URL("../../conformance/", import.meta.url);

const OPS = JSON.parse(readFileSync(new URL("ops.json", FOLDER), "utf8"));

/** What has happened to the actions of a transcript, by their names. */
class Gates {
  #gates = new Map();

  #gate(kind, name) {
    const key = `${kind} ${name}`;
    if (!this.#gates.has(key)) {
      let open;
      const opened = new Promise((resolve) => (open = resolve));
      this.#gates.set(key, { open, opened });
    }
    return this.#gates.get(key);
  }

  open(kind, name) {
    this.#gate(kind, name).open();
  }

  wait(kind, name) {
    return this.#gate(kind, name).opened;
  }
}

/** The actions that transcripts name. */
function actionsOf(gates) {
  return {
    echo: (payload) => payload,
    async fail({ message }) {
      throw new Error(message);
    },
    permanent({ message }) {
      throw new Permanent(message);
    },
    async retry({ message, after }) {
      throw new Retry(message, { after });
    },
    unserialisable: () => 1n,
    nested({ depth }) {
      let value = [];
      while (--depth > 0) value = [value];
      return value;
    },
    big: async ({ bytes }) => "x".repeat(bytes),
    progress({ percent, message }, { progress }) {
      progress(percent, message);
      return null;
    },
    async block({ name }) {
      gates.open("entered", name);
      await gates.wait("finish", name);
      return name;
    },
    async wait({ name }, { signal }) {
      gates.open("entered", name);
      try {
        await pause(2 ** 30, undefined, { signal });
      } finally {
        gates.open("interrupted", name);
      }
    },
  };
}

/** Replaces what stands for a value: "$x" and {"$repeat":…}. */
function fill(value, captured) {
  if (typeof value === "string" && /^\$./.test(value)) {
    assert.ok(captured.has(value), `nothing was captured as ${value}`);
    return captured.get(value);
  }
  if (Array.isArray(value)) return value.map((element) => fill(element, captured));
  if (value === null || typeof value !== "object") return value;
  if ("$repeat" in value) return value.$repeat[0].repeat(value.$repeat[1]);
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, fill(member, captured)]));
}

/** Reports whether a value matches a pattern. captured grows only then. */
export function matches(pattern, value, captured) {
  if (pattern === "*") return value !== undefined && value !== null;
  if (typeof pattern === "string" && /^\$./.test(pattern)) {
    if (captured.has(pattern)) return same(captured.get(pattern), value ?? null);
    captured.set(pattern, value ?? null);
    return true;
  }
  if (pattern === null || typeof pattern !== "object") return (value ?? null) === pattern;
  if (Array.isArray(pattern)) {
    return Array.isArray(value) && value.length === pattern.length && pattern.every((p, i) => matches(p, value[i], captured));
  }
  if ("$contains" in pattern) return typeof value === "string" && value.includes(pattern.$contains);
  if ("$repeat" in pattern) return value === fill(pattern, captured);
  if ("$either" in pattern) return pattern.$either.some((p) => attempt(p, value, captured));
  if ("$set" in pattern) {
    return Array.isArray(value) && value.length === pattern.$set.length && pairUp(pattern.$set, value, captured);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return false;
  return Object.entries(pattern).every(([key, member]) => matches(member, value[key], captured));
}

function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Matches, and captures nothing if it fails. */
function attempt(pattern, value, captured) {
  const trial = new Map(captured);
  if (!matches(pattern, value, trial)) return false;
  for (const [name, found] of trial) captured.set(name, found);
  return true;
}

/** Reports whether each pattern matches another one of the values. */
function pairUp(patterns, values, captured) {
  const left = [...values];
  for (const pattern of patterns) {
    const i = left.findIndex((value) => attempt(pattern, value, captured));
    if (i < 0) return false;
    left.splice(i, 1);
  }
  return true;
}

/** Fails if no node would understand the line. */
function checkLine(line) {
  const op = OPS[line.op];
  assert.ok(op, `unknown op ${line.op}`);
  for (const name of op.required) assert.ok(line[name] !== undefined, `${line.op} without ${name}`);
  for (const name of Object.keys(line)) {
    assert.ok(["id", "op", ...op.required, ...op.optional].includes(name), `${line.op} has no member ${name}`);
  }
}

/** The state of one play. */
class Play {
  captured = new Map();
  connections = new Map();
  peer;

  constructor(node, worker, gates) {
    this.node = node;
    this.worker = worker;
    this.gates = gates;
  }

  async line() {
    const line = await this.peer.line();
    checkLine(line);
    return line;
  }

  check(pattern, value) {
    if (!matches(pattern, value, this.captured)) {
      assert.fail(`${JSON.stringify(value).slice(0, 500)} does not match ${JSON.stringify(pattern)}`);
    }
  }
}

/** How each step is played. The first member of a step names it. */
const STEPS = {
  async accept(play, name) {
    play.peer = await play.node.accept();
    play.connections.set(name, play.peer);
  },
  on(play, name) {
    play.peer = play.connections.get(name);
  },
  async expect(play, pattern) {
    play.check(pattern, await play.line());
  },
  async expect_all(play, patterns) {
    const lines = [];
    for (const _ of patterns) lines.push(await play.line());
    play.check({ $set: patterns }, lines);
  },
  expect_end: (play) => play.peer.end(),
  send(play, value) {
    const lines = fill(value, play.captured);
    play.peer.send(...(Array.isArray(lines) ? lines : [lines]));
  },
  send_raw(play, text) {
    const raw = text.replace(/"(\$[^"]+)"/g, (whole, name) => (play.captured.has(name) ? JSON.stringify(play.captured.get(name)) : whole));
    play.peer.write(Buffer.from(raw, "latin1"));
  },
  close: (play) => play.peer.socket.destroy(),
  reset: (play) => play.peer.socket.resetAndDestroy(),
  async http(play, { body, ...members }, { answer }) {
    const request = await play.node.request();
    play.check(members, request);
    if (body !== undefined) play.check(body, JSON.parse(request.body));
    request.answer(answer.status, fill(answer.json, play.captured));
  },
  entered: (play, name) => soon(play.gates.wait("entered", name), `${name} to be entered`),
  finish: (play, name) => play.gates.open("finish", name),
  interrupted: (play, name) => soon(play.gates.wait("interrupted", name), `${name} to be interrupted`),
  signal: (_, name) => process.emit(`SIG${name}`),
  async stopped(play, { error }) {
    const stopped = soon(play.worker.stopped, "the worker to stop");
    if (!error) return stopped;
    await assert.rejects(stopped, (reason) => reason.message.includes(error));
  },
};

/** Plays a transcript. */
export async function play({ worker: config, steps }) {
  const node = await FakeNode.start();
  const gates = new Gates();
  const all = actionsOf(gates);
  const { actions, drain = 600, ...options } = config;
  const worker = new Worker(node.address, {
    ...options,
    drain,
    actions: Object.fromEntries(actions.map((name) => [name, all[name]])),
    reconnect: { min: 0.001, max: 0.005 },
    log: process.env.LOG ? console.error : () => {},
  });
  try {
    worker.start().catch(() => {}); // steps look at stopped
    const state = new Play(node, worker, gates);
    for (const [i, step] of steps.entries()) {
      const [kind] = Object.keys(step);
      assert.ok(STEPS[kind], `unknown step ${kind}`);
      try {
        await STEPS[kind](state, step[kind], step);
      } catch (error) {
        error.message = `step ${i + 1}, ${JSON.stringify(step).slice(0, 300)}: ${error.message}`;
        throw error;
      }
    }
  } finally {
    worker.close();
    await node.close();
  }
}
