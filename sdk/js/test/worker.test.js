import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import test from "node:test";

import { Cancelled, ConnectionLost, Permanent, Retry, Worker } from "../index.js";
import { LineStream } from "../src/line.js";
import { FakeNode } from "./fakenode.js";
import { soon } from "./inbox.js";

const QUICK = { reconnect: { min: 0.001, max: 0.005 }, log: () => {} };

/** Starts a worker and accepts it. */
async function start(t, options) {
  const node = await FakeNode.start(t);
  const worker = new Worker(node.address, { ...QUICK, ...options });
  t.after(() => worker.close());
  const started = worker.start();
  started.catch(() => {}); // not every test waits for it
  const peer = await node.accept();
  const work = await peer.line();
  const ready = (to = peer) => to.send({ id: "work", status: "ready", worker: work.worker, node: "n1", slots: work.slots });
  const push = (lease, action, payload, more) => ({ id: "work", status: "running", lease, task: lease, attempt: 1, action, timeout: 60, payload, ...more });
  return { node, worker, started, peer, work, ready, push };
}

test("start resolves at ready, with a name that is the worker's own", async (t) => {
  const { started, peer, work, ready, worker } = await start(t, { slots: 8, actions: { x() {}, y() {} } });
  assert.deepEqual(work, { id: "work", op: "work", actions: ["x", "y"], slots: 8, worker: worker.name });
  assert.notEqual(worker.name, new Worker(undefined, { actions: { x() {} } }).name);
  let resolved = false;
  started.then(() => (resolved = true));
  await new Promise(setImmediate);
  assert.equal(resolved, false);
  ready();
  await started;
  const stopped = worker.stop();
  assert.equal((await peer.line()).op, "slots");
  assert.equal((await peer.line()).op, "leave");
  peer.send({ id: "work", status: "done", result: { ok: true, released: 0 } });
  await stopped;
  await peer.end();
});

test("a node that is not there yet is tried again and again; stop gives up", async () => {
  let tries = 0;
  let thrice;
  const tried = new Promise((resolve) => (thrice = resolve));
  const log = [];
  const worker = new Worker(undefined, {
    ...QUICK,
    actions: { x() {} },
    log: (message) => log.push(message),
    async dial() {
      if (++tries === 3) thrice();
      throw new ConnectionLost("cannot connect");
    },
  });
  const rejected = assert.rejects(worker.start(), /the worker has stopped/);
  await soon(tried, "three tries");
  assert.deepEqual(log, ["posta: cannot connect; trying again"], "the same is not said again and again");
  await worker.stop();
  await rejected;
});

test("a worker that was stopped does not start", async () => {
  const worker = new Worker("127.0.0.1:9000", { ...QUICK, actions: { x() {} } });
  await worker.stop();
  await assert.rejects(worker.start(), /the worker has stopped/);
});

test("an action gets its payload and what is known of the task", async (t) => {
  let seen;
  const { peer, ready, push } = await start(t, { actions: { x: (payload, context) => void (seen = { payload, signal: context.signal, progress: context.progress, ...context }) } });
  ready();
  peer.send(push("T.1", "x", { n: 1 }, { task: "T", attempt: 2, queue: "q", key: "k", meta: { user: "7" } }));
  assert.deepEqual(await peer.line(), { id: 1, op: "done", lease: "T.1", data: null });
  const { signal, progress, ...rest } = seen;
  assert.deepEqual(rest, { payload: { n: 1 }, action: "x", task: "T", attempt: 2, queue: "q", key: "k", meta: { user: "7" }, timeout: 60 });
  assert.equal(signal.aborted, false);
  progress(50); // the task has ended: nothing is sent
  peer.send({ id: 1, status: "done", lease: "T.1" }, push("U.1", "x", null));
  assert.equal((await peer.line()).lease, "U.1");
});

test("whatever an action throws becomes an error", async (t) => {
  const hostile = Object.create(null);
  for (const [thrown, want] of [
    [new Error("plain"), { error: "plain" }],
    [new TypeError("wrong"), { error: "TypeError: wrong" }],
    ["text", { error: "the action threw text" }],
    [undefined, { error: "the action threw undefined" }],
    [hostile, { error: "the action threw [Object: null prototype] {}" }],
    [new Error("half \ud800"), { error: "half \ufffd" }],
    [new Error("x".repeat(1e7)), { error: "x".repeat(8192) }],
    [new Permanent("never"), { error: "never", retry: false }],
    [new Retry("later", { after: 30 }), { error: "later", retry_after: 30 }],
    [new Retry("later"), { error: "later" }],
    [new Retry("later", { after: NaN }), { error: "later" }],
  ]) {
    await t.test(want.error.slice(0, 40), async (t) => {
      const { peer, ready, push } = await start(t, {
        actions: {
          x() {
            throw thrown;
          },
        },
      });
      ready();
      peer.send(push("T.1", "x", null));
      assert.deepEqual(await peer.line(), { id: 1, op: "fail", lease: "T.1", ...want });
    });
  }
});

test("the reason of the signal says why", async (t) => {
  const reasons = [];
  const { peer, ready, push } = await start(t, {
    slots: 2,
    actions: {
      async x(_, { signal, progress }) {
        progress(0);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        reasons.push(signal.reason);
      },
    },
  });
  ready();
  for (const code of ["cancelled", "timed_out", "lost"]) {
    peer.send(push(code, "x", null));
    assert.equal((await peer.line()).op, "progress");
    peer.send({ id: "work", status: "cancelling", lease: code, code });
    const { id } = await peer.line();
    peer.send({ id, status: "cancelled", lease: code });
  }
  assert.ok(reasons.every((reason) => reason instanceof Cancelled));
  assert.deepEqual(
    reasons.map((reason) => reason.code),
    ["cancelled", "timed_out", "lost"],
  );
});

test("of much progress, the first and the newest are sent", async (t) => {
  let finish;
  const { peer, ready, push } = await start(t, {
    actions: {
      async x(_, { progress }) {
        for (let i = 1; i <= 1000; i++) progress(i / 10, `step ${i}`);
        assert.throws(() => progress(NaN), TypeError);
        await new Promise((resolve) => (finish = resolve));
      },
    },
  });
  ready();
  peer.send(push("T.1", "x", null));
  assert.deepEqual(await peer.line(), { op: "progress", lease: "T.1", percent: 0.1, message: "step 1" });
  assert.deepEqual(await peer.line(), { op: "progress", lease: "T.1", percent: 100, message: "step 1000" });
  finish();
  assert.equal((await peer.line()).op, "done");
});

test("outcomes that are ready together leave in one write", async (t) => {
  const node = await FakeNode.start(t);
  const writes = [];
  const worker = new Worker(node.address, {
    ...QUICK,
    slots: 64,
    actions: { echo: async (payload) => payload },
    async dial() {
      const [host, port] = node.address.split(":");
      const socket = connect({ host, port: Number(port) });
      await once(socket, "connect");
      const write = socket.write.bind(socket);
      socket.write = (text) => {
        writes.push(text);
        return write(text);
      };
      return new LineStream(socket);
    },
  });
  t.after(() => worker.close());
  worker.start().catch(() => {});
  const peer = await node.accept();
  await peer.line();
  const pushes = Array.from({ length: 64 }, (_, i) => ({ id: "work", status: "running", lease: `T.${i}`, action: "echo", timeout: 60, payload: i }));
  peer.send({ id: "work", status: "ready", worker: worker.name, node: "n1", slots: 64 }, ...pushes);
  for (let i = 0; i < 64; i++) assert.equal((await peer.line()).data, i);
  assert.equal(writes.length, 2, "one write for work, and one for all that arrived in one packet");
});

test("an outcome that is refused for good is replaced once, and then given up", async (t) => {
  const { peer, ready, push } = await start(t, { actions: { echo: (payload) => payload } });
  ready();
  peer.send(push("T.1", "echo", 1));
  const { id } = await peer.line();
  peer.send({ id, status: "error", code: "invalid_request", error: "data is wrong" });
  const fail = await peer.line();
  assert.deepEqual(fail, { id: id + 1, op: "fail", lease: "T.1", error: "the node refused the result: data is wrong", retry: false });
  peer.send({ id: fail.id, status: "error", code: "invalid_request", error: "wrong again" }, push("U.1", "echo", 2));
  assert.equal((await peer.line()).lease, "U.1");
});

test("stop without a connection ends at once if nothing is held", async (t) => {
  const { node, worker, peer, ready } = await start(t, { actions: { x() {} } });
  ready();
  await node.close();
  await peer.end();
  await worker.stop();
});

test("close ends a worker at once", async (t) => {
  const { worker, peer, ready, push } = await start(t, {
    actions: { x: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))) },
  });
  ready();
  peer.send(push("T.1", "x", null));
  worker.close();
  await worker.stopped;
  await peer.end();
});

test("options that make no worker are refused", () => {
  assert.throws(() => new Worker("127.0.0.1:9000"), /a worker needs actions/);
  assert.throws(() => new Worker("127.0.0.1:9000", { actions: {} }), /a worker needs actions/);
  assert.throws(() => new Worker("127.0.0.1:9000", { actions: { x: 1 } }), /the action x must be a function/);
  assert.throws(() => new Worker("127.0.0.1:9000", { actions: { x() {} }, slot: 2 }), /a worker has no option slot/);
});

test("SIGTERM drains a process, which then ends by itself", async (t) => {
  const node = await FakeNode.start(t);
  const program = `
    import { Worker } from ${JSON.stringify(new URL("../index.js", import.meta.url).href)};
    const worker = new Worker(undefined, { slots: 2, actions: {
      async wait(_, { progress }) {
        progress(1);
        await new Promise((resolve) => process.once("SIGUSR2", resolve));
        return "finished";
      } } });
    await worker.start();
    await worker.stopped;
    console.log("stopped");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, POSTA_TO: node.address },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let out = "";
  child.stdout.on("data", (chunk) => (out += chunk));
  const exited = once(child, "close");
  const peer = await node.accept();
  await peer.line();
  peer.send({ id: "work", status: "ready", worker: "w", node: "n1", slots: 2 });
  peer.send({ id: "work", status: "running", lease: "T.1", task: "T", attempt: 1, action: "wait", timeout: 60, payload: null });
  assert.equal((await peer.line()).op, "progress");
  child.kill("SIGTERM");
  assert.deepEqual(await peer.line(), { op: "slots", work: "work", slots: 0 });
  child.kill("SIGUSR2");
  const done = await peer.line();
  assert.deepEqual(done, { id: 1, op: "done", lease: "T.1", data: "finished" });
  peer.send({ id: 1, status: "done", lease: "T.1", task: "T", attempt: 1 });
  const leave = await peer.line();
  assert.deepEqual(leave, { id: 2, op: "leave", work: "work" });
  peer.send({ id: 2, status: "done", result: { ok: true } }, { id: "work", status: "done", result: { ok: true, released: 0 } });
  assert.deepEqual(await soon(exited, "the end of the process"), [0, null]);
  assert.equal(out, "stopped\n");
});
