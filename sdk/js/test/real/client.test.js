import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";

import { Client, ConnectionLost, Refused, TaskFailed, WaitTimeout } from "../../index.js";
import { BINARY, RealNode, folder } from "./node.js";

const options = { skip: BINARY ? false : "POSTA_BINARY names no program" };

async function start(t) {
  const node = await RealNode.start(t, await folder(t));
  const client = new Client(node.address, { reconnect: { min: 0.01, max: 0.1 } });
  t.after(() => client.close());
  return { node, client };
}

test("runs, tasks, refusals and large bodies", options, async (t) => {
  const { client } = await start(t);
  assert.equal(await client.run("upper", "straße"), "STRASSE");
  assert.deepEqual(await client.run("fib", 10), { fib: 55 });
  await assert.rejects(client.run("sleep", -1), TaskFailed);
  await assert.rejects(client.enqueue("echo", 1, { queue: "Bad" }), (error) => error instanceof Refused && error.field === "queue");

  const task = await client.enqueue("upper", "hola", { key: "k", meta: { user: "7" }, runAt: new Date() });
  assert.equal(await task.wait({ timeout: 20 }), "HOLA");
  const again = await client.enqueue("upper", "hola", { key: "k", meta: { user: "7" }, runAt: new Date() });
  assert.deepEqual([again.id, again.duplicate], [task.id, true]);
  const record = await task.get({ payload: true });
  assert.deepEqual([record.status, record.payload, record.key, record.meta], ["done", "hola", "k", { user: "7" }]);

  const large = "é".repeat(800_000);
  assert.equal(await (await client.enqueue("echo", large)).wait({ timeout: 20 }), large);

  const later = await client.enqueue("echo", 1, { delay: 3600 });
  await assert.rejects(later.wait({ timeout: 0 }), WaitTimeout);
  assert.equal(await later.cancel(), "cancelled");
  await assert.rejects(later.wait({ timeout: 20 }), (error) => error instanceof TaskFailed && error.record.status === "cancelled");
  await later.retry();
  const seen = [];
  for await (const event of later.watch()) {
    seen.push(event.status);
    if (event.status === "cancelled") assert.equal(event.retried, true);
  }
  assert.deepEqual(seen, ["scheduled", "cancelled", "queued", "running", "done"]);

  const runs = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.run("echo", i)));
  assert.deepEqual(runs, [...runs.keys()]);
});

test("tokens and TLS, for lines and for large bodies", options, async (t) => {
  const data = await folder(t);
  const tokens = join(data, "tokens");
  await writeFile(tokens, "web correct-horse-battery\n", { mode: 0o600 });
  const tls = ["--tls-cert", process.env.TEST_CERTIFICATE, "--tls-key", process.env.TEST_KEY];
  const node = await RealNode.start(t, data, undefined, "--token-file", tokens, ...tls);
  const ca = await readFile(process.env.TEST_AUTHORITY);
  const token = "correct-horse-battery";
  const port = node.address.split(":")[1];
  for (const address of [node.address, `localhost:${port}`]) {
    const client = new Client(address, { token, tls: { ca } });
    t.after(() => client.close());
    assert.equal(await client.run("upper", "hola"), "HOLA");
    const large = "x".repeat(1_500_000);
    assert.equal(await (await client.enqueue("echo", large)).wait({ timeout: 60 }), large);
  }
  Object.assign(process.env, { POSTA_TO: node.address, POSTA_TOKEN: token, POSTA_TLS: "true", POSTA_TLS_CA: process.env.TEST_AUTHORITY });
  const client = new Client();
  t.after(() => client.close());
  for (const name of ["POSTA_TO", "POSTA_TOKEN", "POSTA_TLS", "POSTA_TLS_CA"]) delete process.env[name];
  assert.equal(await client.run("upper", "hola"), "HOLA");
  const refused = [
    [{ token: "wrong-horse-battery", tls: { ca } }, (error) => error instanceof Refused && error.code === "unauthenticated"],
    [{ tls: { ca } }, (error) => error instanceof Refused && error.code === "unauthenticated"],
    [{ token, tls: true, connectWait: 0 }, /certificate/],
    [{ token, connectWait: 0 }, ConnectionLost],
  ];
  for (const [how, error] of refused) {
    const client = new Client(node.address, how);
    t.after(() => client.close());
    await assert.rejects(client.run("upper", "hola"), error);
  }
});

test("a wait and a watch survive a restart of the node", options, async (t) => {
  const data = await folder(t);
  let node = await RealNode.start(t, data);
  const client = new Client(node.address, { reconnect: { min: 0.01, max: 0.1 } });
  t.after(() => client.close());
  for (const end of ["kill", "drain"]) {
    const task = await client.enqueue("echo", end, { delay: 3600 });
    const seen = [];
    let scheduled;
    const first = new Promise((resolve) => (scheduled = resolve));
    const watched = (async () => {
      for await (const event of task.watch()) {
        seen.push(event.status);
        scheduled();
      }
    })();
    const waited = task.wait({ timeout: 60 });
    await first;
    await node[end]();
    node = await RealNode.start(t, data, node.address);
    await task.retry();
    assert.equal(await waited, end);
    await watched;
    assert.deepEqual(seen, ["scheduled", "queued", "running", "done"]);
  }
});
