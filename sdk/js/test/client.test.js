import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import test from "node:test";
import { promisify } from "node:util";

import { Client, ConnectionLost, Refused, TaskFailed, UnknownOutcome, WaitTimeout } from "../index.js";
import { FakeNode } from "./fakenode.js";

const QUICK = { reconnect: { min: 0.001, max: 0.005 } };

async function start(t, options) {
  const node = await FakeNode.start(t);
  const client = new Client(node.address, { ...QUICK, ...options });
  t.after(() => client.close());
  return { node, client };
}

test("requests share a connection, and replies are matched by id in any order", async (t) => {
  const { node, client } = await start(t);
  const runs = [client.run("upper", "uno"), client.run("fib", 10, { timeout: 5 })];
  const peer = await node.accept();
  const [one, two] = [await peer.line(), await peer.line()];
  assert.deepEqual(one, { id: 1, op: "run", action: "upper", payload: "uno" });
  assert.deepEqual(two, { id: 2, op: "run", action: "fib", timeout: 5, payload: 10 });
  peer.send({ id: 2, status: "done", result: { ok: true, fib: 55 } }, { id: 1, status: "done", result: { ok: true, data: "UNO" } });
  assert.deepEqual(await Promise.all(runs), ["UNO", { fib: 55 }]);
});

test("a run that fails rejects with the reason, and a refusal with its code", async (t) => {
  const { node, client } = await start(t);
  const run = client.run("nope");
  const peer = await node.accept();
  peer.send({ id: (await peer.line()).id, status: "done", result: { ok: false, error: "unknown action nope" } });
  await assert.rejects(run, (error) => error instanceof TaskFailed && error.message === "unknown action nope");
  const enqueue = client.enqueue("x", null, { queue: "Bad" });
  peer.send({ id: (await peer.line()).id, status: "error", code: "invalid_request", error: "no such name", field: "queue" });
  await assert.rejects(enqueue, (error) => error instanceof Refused && error.code === "invalid_request" && error.field === "queue");
});

test("enqueue sends its options with the names of the protocol", async (t) => {
  const { node, client } = await start(t);
  const enqueued = client.enqueue(
    "resize",
    { url: "a.png" },
    {
      queue: "images",
      priority: "high",
      runAt: new Date("2026-01-31T08:00:00Z"),
      expires: 9,
      timeout: 30,
      maxAttempts: 3,
      backoff: 1,
      backoffMax: 60,
      key: "a-100",
      keep: 600,
      keepFailed: 700,
      meta: { user: "7" },
    },
  );
  const peer = await node.accept();
  const line = await peer.line();
  assert.deepEqual(line, {
    id: 1,
    op: "enqueue",
    action: "resize",
    queue: "images",
    priority: "high",
    run_at: "2026-01-31T08:00:00.000Z",
    expires: 9,
    timeout: 30,
    max_attempts: 3,
    backoff: 1,
    backoff_max: 60,
    key: "a-100",
    keep: 600,
    keep_failed: 700,
    meta: { user: "7" },
    payload: { url: "a.png" },
  });
  peer.send({ id: 1, status: "scheduled", task: "T", run_at: "2026-01-31T08:00:00.000Z", duplicate: true, warning: "nobody has it" });
  const { id, status, runAt, duplicate, warning } = await enqueued;
  assert.deepEqual(
    { id, status, runAt, duplicate, warning },
    { id: "T", status: "scheduled", runAt: "2026-01-31T08:00:00.000Z", duplicate: true, warning: "nobody has it" },
  );
  await assert.rejects(client.enqueue("resize", 1, { max_attempts: 3 }), /enqueue has no option max_attempts/);
  await assert.rejects(client.run("resize", 1, { key: "x" }), /run has no option key/);
});

test("a request that was written is sent again only if that does no harm", async (t) => {
  const { node, client } = await start(t);
  for (const [request, again] of [
    [() => client.run("x"), false],
    [() => client.enqueue("x"), false],
    [() => client.task("T").cancel(), false],
    [() => client.run("x", 1, { idempotent: true }), true],
    [() => client.enqueue("x", 1, { key: "k" }), true],
    [() => client.task("T").get(), true],
    [() => client.request({ op: "queues" }), true],
  ]) {
    const outcome = request();
    const peer = await node.accept();
    const line = await peer.line();
    peer.socket.destroy();
    if (!again) {
      await assert.rejects(outcome, (error) => error instanceof UnknownOutcome && error.code === "unknown_outcome");
      continue;
    }
    const next = await node.accept();
    assert.deepEqual(await next.line(), line);
    next.send({ id: line.id, status: "done", task: "T", result: { ok: true } });
    await outcome;
    next.socket.destroy();
    await next.end();
  }
});

test("a request that kills its node is sent four times at most", async (t) => {
  const { node, client } = await start(t);
  const outcome = client.enqueue("x", 1, { key: "k" });
  const rejected = assert.rejects(outcome, UnknownOutcome);
  for (let i = 0; i < 4; i++) {
    const peer = await node.accept();
    await peer.line();
    peer.socket.resetAndDestroy();
  }
  await rejected;
});

test("what a node refuses because it stops goes to another one", async (t) => {
  const { node, client } = await start(t);
  const run = client.run("x");
  const peer = await node.accept();
  await peer.line();
  peer.send(
    { id: 1, status: "error", code: "draining", error: "this node stops", retry_after: 0 },
    { id: null, status: "goaway", code: "draining", retry_after: 0 },
  );
  const next = await node.accept();
  await next.line();
  next.send({ id: 1, status: "done", result: { ok: true, data: 1 } });
  assert.equal(await run, 1);
});

test("after goaway the client sends no more there, and reads the answers that are due", async (t) => {
  const { node, client } = await start(t);
  const first = client.run("x", 1);
  const old = await node.accept();
  await old.line();
  old.send({ id: null, status: "goaway", code: "draining", retry_after: 0 });
  await old.end();
  const second = client.run("x", 2);
  const other = await node.accept();
  assert.equal((await other.line()).payload, 2);
  old.send({ id: 1, status: "done", result: { ok: true, data: "first" } });
  assert.equal(await first, "first");
  other.send({ id: 1, status: "done", result: { ok: true, data: "second" } });
  assert.equal(await second, "second");
});

test("a watch goes on behind its last event, on another connection", async (t) => {
  const { node, client } = await start(t);
  const events = client.task("T").watch();
  const first = events.next();
  let peer = await node.accept();
  assert.deepEqual(await peer.line(), { id: 1, op: "watch", task: "T", after: 0 });
  peer.send({ id: 1, status: "queued", task: "T", attempt: 0, seq: 1 });
  assert.deepEqual((await first).value, { status: "queued", task: "T", attempt: 0, seq: 1 });
  const second = events.next();
  peer.send({ id: 1, status: "running", task: "T", attempt: 1, seq: 2 });
  assert.equal((await second).value.seq, 2);
  const third = events.next();
  peer.socket.resetAndDestroy();
  peer = await node.accept();
  assert.deepEqual(await peer.line(), { id: 1, op: "watch", task: "T", after: 2 });
  peer.send(
    { id: 1, status: "error", code: "draining", error: "this node stops", task: "T", retry_after: 0 },
    { id: null, status: "goaway", code: "draining", retry_after: 0 },
  );
  const next = await node.accept();
  assert.equal((await next.line()).after, 2);
  next.send({ id: 1, status: "done", task: "T", attempt: 1, seq: 3, retried: true });
  assert.equal((await third).value.retried, true);
  next.send({ id: 1, status: "done", task: "T", attempt: 2, seq: 6, result: { ok: true, data: 7 } });
  assert.deepEqual((await events.next()).value.result, { ok: true, data: 7 });
  assert.equal((await events.next()).done, true);
});

test("of progress that nobody has read yet, only the newest is kept", async (t) => {
  const { node, client } = await start(t);
  const events = client.task("T").watch();
  const first = events.next();
  const peer = await node.accept();
  await peer.line();
  const progress = (percent) => ({ id: 1, status: "running", task: "T", attempt: 1, progress: { percent } });
  peer.send({ id: 1, status: "running", task: "T", attempt: 1, seq: 2 }, progress(1), progress(2), progress(3));
  peer.send({ id: 1, status: "failed", task: "T", attempt: 1, seq: 3, error: "no", code: "action_failed" });
  assert.equal((await first).value.seq, 2);
  assert.equal((await events.next()).value.progress.percent, 3);
  assert.equal((await events.next()).value.status, "failed");
  assert.equal((await events.next()).done, true);
});

test("leaving a watch drops its lines, and many of them replace the connection", async (t) => {
  const { node, client } = await start(t);
  let peer;
  for (let i = 0; i < 100; i++) {
    const events = client.task("T").watch();
    const first = events.next();
    peer ??= await node.accept();
    const { id } = await peer.line();
    peer.send({ id, status: "queued", task: "T", attempt: 0, seq: 1 });
    await first;
    await events.return();
    peer.send({ id, status: "running", task: "T", attempt: 1, seq: 2 });
  }
  await peer.end();
  const run = client.run("x");
  const next = await node.accept();
  next.send({ id: (await next.line()).id, status: "done", result: { ok: true, data: 1 } });
  assert.equal(await run, 1);
});

test("wait resolves with the result, and rejects with the record of another end", async (t) => {
  const { node, client } = await start(t);
  const task = client.task("T");
  const record = { task: "T", queue: "default", action: "x", attempt: 1 };
  let peer;
  const answer = async (reply, want = {}) => {
    peer ??= await node.accept();
    const { id, ...line } = await peer.line();
    assert.deepEqual(line, { op: "wait", task: "T", ...want });
    peer.send({ id, ...record, ...reply });
  };
  let outcome = task.wait();
  await answer({ status: "done", result: { ok: true, data: [1] } });
  assert.deepEqual(await outcome, [1]);
  outcome = task.wait();
  await answer({ status: "failed", error: "no", code: "timed_out" });
  await assert.rejects(outcome, (error) => error instanceof TaskFailed && error.message === "no" && error.code === "timed_out" && error.record.queue === "default");
  outcome = task.wait();
  await answer({ status: "cancelled" });
  await assert.rejects(outcome, (error) => error instanceof TaskFailed && error.record.status === "cancelled");
  outcome = task.wait({ timeout: 0 });
  await answer({ status: "running" }, { timeout: 0 });
  await assert.rejects(outcome, (error) => error instanceof WaitTimeout && error.record.status === "running");
  outcome = task.wait();
  await answer({ status: "done", result: { ok: true, blob: { size: 9, sha256: "…", href: "/v1/tasks/T/result" } } });
  const request = await node.request();
  assert.deepEqual([request.method, request.path], ["GET", "/v1/tasks/T/result"]);
  request.answer(200, { ok: true, data: "large" });
  assert.equal(await outcome, "large");
});

test("a payload that is too large for a line is uploaded first", async (t) => {
  const { node, client } = await start(t, { token: "correct-horse-battery" });
  const payload = "é".repeat(600_000);
  const enqueued = client.enqueue("x", payload, { queue: "q" });
  const request = await node.request();
  assert.deepEqual([request.method, request.path, request.headers.authorization], ["PUT", "/v1/blobs", "Bearer correct-horse-battery"]);
  assert.equal(JSON.parse(request.body), payload);
  const blob = { task: "T", size: 1_200_002, sha256: "6ceb75ce" };
  request.answer(200, { blob });
  const peer = await node.accept();
  const auth = await peer.line();
  assert.deepEqual(auth, { id: 1, op: "auth", token: "correct-horse-battery" });
  peer.send({ id: 1, status: "done", result: { ok: true, name: "web", scopes: ["all"] } });
  assert.deepEqual(await peer.line(), { id: 2, op: "enqueue", action: "x", queue: "q", payload_blob: blob });
  peer.send({ id: 2, status: "queued", task: "T" });
  assert.equal((await enqueued).id, "T");
  await assert.rejects(client.run("x", payload), RangeError);
});

test("a token that is not known is an error at once", async (t) => {
  const { node, client } = await start(t, { token: "wrong-horse-battery" });
  const rejected = assert.rejects(client.run("x"), (error) => error instanceof Refused && error.code === "unauthenticated");
  const peer = await node.accept();
  peer.send({ id: (await peer.line()).id, status: "error", code: "unauthenticated", error: "this token is not known" });
  await rejected;
});

test("a signal gives up waiting, and close rejects what has no answer", async (t) => {
  const { node, client } = await start(t);
  const controller = new AbortController();
  const aborted = client.run("x", 1, { signal: controller.signal });
  const peer = await node.accept();
  await peer.line();
  controller.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
  await assert.rejects(client.run("x", 1, { signal: AbortSignal.abort(new Error("already")) }), /already/);
  const pending = assert.rejects(client.task("T").wait(), /the client is closed/);
  await peer.line();
  await client.close();
  await pending;
  await assert.rejects(client.run("x"), /the client is closed/);
});

test("without a node, a request fails after connectWait", async () => {
  const node = await FakeNode.start();
  await node.close();
  const client = new Client(node.address, { ...QUICK, connectWait: 0 });
  await assert.rejects(client.run("x"), (error) => error instanceof ConnectionLost && error.message.includes(node.address));
});

test("of several addresses, one after another is tried", async (t) => {
  const gone = [await FakeNode.start(), await FakeNode.start()];
  const node = await FakeNode.start(t);
  for (const each of gone) await each.close();
  const client = new Client([gone[0], node, gone[1]].map(({ address }) => address).join(", "), QUICK);
  t.after(() => client.close());
  for (let i = 0; i < 3; i++) {
    const run = client.run("x");
    const peer = await node.accept();
    peer.send({ id: (await peer.line()).id, status: "done", result: { ok: true, data: i } });
    assert.equal(await run, i);
    peer.socket.destroy();
    await peer.end();
  }
});

test("an address must be HOST:PORT", () => {
  for (const address of ["localhost", "http://localhost:9000", "::1:9000", "", "a:1,,b:2"]) {
    assert.throws(() => new Client(address), TypeError);
  }
  for (const address of ["localhost:9000", "[::1]:9000", ":9000", "a:1,b:2, c:3"]) new Client(address);
});

test("a process ends by itself once everything is answered; POSTA_TO names the node", async (t) => {
  const node = await FakeNode.start(t);
  const program = `
    import { Client } from ${JSON.stringify(new URL("../index.js", import.meta.url).href)};
    console.log(await new Client().run("upper", "hola"));`;
  const ended = promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, POSTA_TO: node.address },
  });
  const peer = await node.accept();
  peer.send({ id: (await peer.line()).id, status: "done", result: { ok: true, data: "HOLA" } });
  assert.equal((await ended).stdout, "HOLA\n");
});
