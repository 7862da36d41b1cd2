import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import test from "node:test";

import { Client, Permanent, Retry, TaskFailed, Worker } from "../../index.js";
import { Inbox, soon } from "../inbox.js";
import { BINARY, RealNode, folder } from "./node.js";

const options = { skip: BINARY ? false : "POSTA_BINARY names no program" };
const QUICK = { reconnect: { min: 0.01, max: 0.1 }, log: () => {} };

/** Starts a node and a client of it. */
async function start(t, ...flags) {
  const data = await folder(t);
  const node = await RealNode.start(t, data, undefined, ...flags);
  const client = new Client(node.address, { reconnect: QUICK.reconnect });
  t.after(() => client.close());
  return { data, node, client };
}

async function startWorker(t, address, config) {
  const worker = new Worker(address, { ...QUICK, ...config });
  t.after(() => worker.close());
  await worker.start();
  return worker;
}

/** An action whose calls the test ends one by one. */
function gate() {
  const entered = new Inbox();
  const action = (payload, context) =>
    new Promise((resolve, reject) => entered.push({ payload, attempt: context.attempt, signal: context.signal, progress: context.progress, resolve, reject }));
  return { action, next: () => entered.next("the action to be entered") };
}

/** The statuses in the history of a finished task, without progress. */
async function history(task) {
  const statuses = [];
  for await (const event of task.watch()) {
    if (event.seq !== undefined) statuses.push(`${event.status} ${event.attempt}`);
  }
  return statuses;
}

test("a worker works durable tasks and direct runs", options, async (t) => {
  const { node, client } = await start(t);
  await startWorker(t, node.address, {
    slots: 16,
    actions: {
      greet: ({ name }) => `hello ${name}`,
      large: ({ bytes }) => "é".repeat(bytes / 2),
      size: async (text) => text.length,
      permanent() {
        throw new Permanent("not an image");
      },
      later(_, { attempt }) {
        if (attempt === 1) throw new Retry("the cdn is slow", { after: 0.01 });
        return attempt;
      },
    },
  });
  assert.equal(await client.run("greet", { name: "Ana" }), "hello Ana");
  assert.equal(await (await client.enqueue("greet", { name: "Bo" })).wait({ timeout: 60 }), "hello Bo");
  assert.equal(await (await client.enqueue("later")).wait({ timeout: 60 }), 2);
  await assert.rejects((await client.enqueue("permanent")).wait({ timeout: 60 }), (error) => {
    return error instanceof TaskFailed && error.message === "not an image" && error.record.attempt === 1;
  });
  await assert.rejects(client.run("permanent"), /not an image/);
  await assert.rejects(client.run("nope"), /unknown action nope/);
  assert.equal((await (await client.enqueue("large", { bytes: 3_000_000 })).wait({ timeout: 60 })).length, 1_500_000);
  assert.equal(await (await client.enqueue("size", "é".repeat(900_000))).wait({ timeout: 60 }), 900_000);
  assert.equal(await (await client.enqueue("size", "x".repeat(100_000))).wait({ timeout: 60 }), 100_000);
  const tasks = await Promise.all(Array.from({ length: 500 }, (_, i) => client.enqueue("greet", { name: i })));
  const results = await Promise.all(tasks.map((task) => task.wait({ timeout: 60 })));
  assert.deepEqual(results, [...results.keys()].map((i) => `hello ${i}`));
});

test("cancel and progress reach the other side", options, async (t) => {
  const { node, client } = await start(t);
  const { action, next } = gate();
  await startWorker(t, node.address, { slots: 4, actions: { x: action } });
  const task = await client.enqueue("x");
  const call = await next();
  const events = task.watch();
  call.progress(40, "half");
  let percent;
  for await (const event of { [Symbol.asyncIterator]: () => events }) {
    percent = event.progress?.percent;
    if (percent !== undefined) break;
  }
  assert.equal(percent, 40);
  const aborted = once(call.signal, "abort");
  assert.equal(await task.cancel(), "cancelling");
  await soon(aborted, "the signal");
  assert.equal(call.signal.reason.code, "cancelled");
  call.reject(call.signal.reason);
  await assert.rejects(task.wait({ timeout: 60 }), (error) => error.record.status === "cancelled");
});

test("an attempt that has failed because of its timeout has timed out", options, async (t) => {
  const { node, client } = await start(t);
  const { action, next } = gate();
  await startWorker(t, node.address, { actions: { x: action } });
  const brief = await client.enqueue("x", 1, { timeout: 0.5, maxAttempts: 1 });
  const timed = await next();
  await soon(once(timed.signal, "abort"), "the signal");
  assert.equal(timed.signal.reason.code, "timed_out");
  timed.reject(timed.signal.reason);
  await assert.rejects(brief.wait({ timeout: 60 }), (error) => error instanceof TaskFailed && error.code === "timed_out");
});

/** Starts a process with a worker whose action x waits for ever. It prints a line for each call. */
function startProcess(t, address, drain) {
  const program = `
    import { Worker } from ${JSON.stringify(new URL("../../index.js", import.meta.url).href)};
    const worker = new Worker(${JSON.stringify(address)}, { slots: 8, drain: ${drain}, log() {}, actions: {
      x: (payload) => (console.log(payload), new Promise(() => {})) } });
    await worker.start();
    await worker.stopped;
    process.exit(0);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines = new Inbox();
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  return { child, next: () => lines.next("the action to be entered"), exited: once(child, "exit") };
}

test("a worker that is killed loses no task, and another one runs it", options, async (t) => {
  const { node, client } = await start(t);
  const { child, next, exited } = startProcess(t, node.address, 60);
  const task = await client.enqueue("x", "a");
  assert.equal(await next(), "a");
  child.kill("SIGKILL");
  await exited;
  await startWorker(t, node.address, { actions: { x: (payload, { attempt }) => [payload, attempt] } });
  assert.deepEqual(await task.wait({ timeout: 120 }), ["a", 2]);
});

test("a worker that gets SIGTERM gives back what it cannot finish, at no cost", options, async (t) => {
  const { node, client } = await start(t);
  const { child, next, exited } = startProcess(t, node.address, 0);
  const tasks = await Promise.all(["a", "b", "c"].map((payload) => client.enqueue("x", payload)));
  for (const _ of tasks) await next();
  child.kill("SIGTERM");
  assert.deepEqual(await soon(exited, "the end of the process"), [0, null]);
  await startWorker(t, node.address, { actions: { x: (payload, { attempt }) => [payload, attempt] } });
  const results = await Promise.all(tasks.map((task) => task.wait({ timeout: 60 })));
  assert.deepEqual(results, [["a", 1], ["b", 1], ["c", 1]]);
});

for (const end of ["kill", "drain"]) {
  const patience = end === "kill" ? 60 : 10;
  test(`what a worker holds survives the ${end} of its node: one attempt`, options, async (t) => {
    const { data, node, client } = await start(t, "--drain-timeout", "20s");
    const { action, next } = gate();
    await startWorker(t, node.address, { slots: 2, actions: { x: action } });
    const tasks = [await client.enqueue("x", "before"), await client.enqueue("x", "after")];
    const calls = [await next(), await next()];
    const ended = node[end]();
    await ended;
    calls[0].resolve("in between"); // its outcome waits for the next connection
    const again = await RealNode.start(t, data, node.address);
    assert.equal(await tasks[0].wait({ timeout: patience }), "in between");
    assert.equal(again.process.exitCode, null);
    calls[1].resolve("late");
    assert.equal(await tasks[1].wait({ timeout: patience }), "late");
    for (const task of tasks) assert.deepEqual(await history(task), ["queued 0", "running 1", "done 1"]);
  });
}
