import assert from "node:assert/strict";
import test from "node:test";

import { Inbox, MODULES, PATIENCE, page, pass, settle, soon, stream } from "./page.js";

const { connect } = await import(`${MODULES}posta.js`);

/** Returns a client that is closed after the test. */
function client(t, options, url = "/") {
  const posta = connect(url, options);
  t.after(() => posta.close());
  return posta;
}

/** Reads a watch into an inbox. */
function read(events) {
  const inbox = new Inbox();
  const end = (async () => {
    for await (const event of events) inbox.push(event);
  })();
  end.catch(() => {});
  return { end, next: () => inbox.next("an event") };
}

/** Gives the timers of the module to the test. */
function timers(t, push) {
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, "setTimeout", (f, ms) => (ms === PATIENCE ? real(f, ms) : push({ f, ms }) && 0));
}

const code = (want) => (error) => error.name === "PostaError" && error.code === want;

test("run, enqueue and cancel are lines with ids of the connection", async (t) => {
  const own = page(t);
  const posta = client(t, {}, "tasks/");
  const run = posta.run("upper", "hola", { timeout: 5 });
  const socket = await own.socket();
  assert.equal(socket.url, "wss://shop.example/tasks/v1/socket");
  assert.deepEqual(await socket.line(), { id: 1, op: "run", action: "upper", payload: "hola", timeout: 5 });
  const failed = posta.run("fib", -1);
  assert.equal((await socket.line()).id, 2);
  socket.answer({ id: 2, status: "done", result: { ok: false, error: "n is negative" } }, { id: 1, status: "done", result: { ok: true, data: "HOLA" } });
  assert.equal(await run, "HOLA");
  await assert.rejects(failed, (error) => code("action_failed")(error) && error.message === "n is negative");

  const enqueue = posta.enqueue("mail", { to: "ana" }, { queue: "mail", meta: { user: "7" } });
  const { key, ...line } = await socket.line();
  assert.deepEqual(line, { id: 3, op: "enqueue", action: "mail", queue: "mail", meta: { user: "7" }, payload: { to: "ana" } });
  assert.match(key, /^[0-9a-f-]{36}$/);
  socket.answer({ id: 3, status: "queued", task: "T" });
  const task = await enqueue;
  assert.deepEqual(task, { status: "queued", task: "T" });

  const cancel = posta.cancel(task);
  assert.deepEqual(await socket.line(), { id: 4, op: "cancel", task: "T" });
  socket.answer({ id: 4, status: "error", code: "conflict", error: "it is done", state: "done", task: "T" });
  await assert.rejects(cancel, (error) => code("conflict")(error) && error.state === "done" && error.task === "T");
});

test("the token is the first message and never in the address", async (t) => {
  const own = page(t);
  const run = client(t, { token: "secret" }).run("upper", "hola");
  const socket = await own.socket();
  assert.ok(!socket.url.includes("secret"));
  assert.deepEqual(await socket.line(), { id: 1, op: "auth", token: "secret" });
  assert.equal(socket.sent.size, 0);
  socket.answer({ id: 1, status: "done", result: { ok: true } });
  assert.equal((await socket.line()).op, "run");
  socket.answer({ id: 2, status: "done", result: { ok: true, data: "HOLA" } });
  assert.equal(await run, "HOLA");
});

test("a token that was refused is reported", async (t) => {
  const own = page(t);
  const run = client(t, { token: "wrong" }).run("upper");
  const socket = await own.socket();
  await socket.line();
  socket.answer({ id: 1, status: "error", code: "unauthenticated", error: "the token is not known" });
  await assert.rejects(run, code("unauthenticated"));
});

test("a pass that has ended is renewed on the open connection, and what is in flight goes on", async (t) => {
  const own = page(t);
  const passes = ["one", "two"];
  const posta = client(t, { token: async () => passes.shift() });
  const watch = read(posta.watch("T"));
  const socket = await own.socket();
  assert.deepEqual(await socket.line(), { id: 1, op: "auth", token: "one" });
  socket.answer({ id: 1, status: "done", result: { ok: true } });
  assert.deepEqual(await socket.line(), { id: 2, op: "watch", task: "T", after: 0 });
  const run = posta.run("upper", "hola");
  await socket.line();
  socket.answer({ id: 3, status: "error", code: "unauthenticated", error: "the pass has ended" });
  assert.deepEqual(await socket.line(), { id: 4, op: "auth", token: "two" });
  socket.answer({ id: 4, status: "done", result: { ok: true } });
  assert.equal((await socket.line()).op, "run");
  socket.answer({ id: 5, status: "done", result: { ok: true, data: "HOLA" } }, { id: 2, status: "done", task: "T", attempt: 1, seq: 3, result: { ok: true } });
  assert.equal(await run, "HOLA");
  assert.equal((await watch.next()).status, "done");
  await watch.end;
});

test("a pass is renewed when the node says that it ends, and before its own end", async (t) => {
  const own = page(t);
  const made = [];
  timers(t, (timer) => made.push(timer));
  const exp = Math.floor(Date.now() / 1000) + 900;
  const passes = [pass({ exp }), new Error("the backend is away"), "two", "three"];
  const token = async () => {
    const next = passes.shift();
    if (next instanceof Error) throw next;
    return next;
  };
  read(client(t, { token }).watch("T"));
  const socket = await own.socket();
  await socket.line();
  socket.answer({ id: 1, status: "done", result: { ok: true } });
  await socket.line();
  const renewal = made.find(({ ms }) => ms > 600_000 && ms < 800_000);
  assert.ok(renewal, "a renewal after about twelve minutes");
  renewal.f();
  await settle();
  const again = made.at(-1);
  assert.ok(again.ms <= 5000, "another try in time");
  again.f();
  assert.equal((await socket.line()).token, "two");
  socket.answer({ id: 3, status: "done", result: { ok: true } });
  await settle();
  socket.answer({ id: null, status: "error", code: "unauthenticated", error: "the pass has ended" });
  assert.equal((await socket.line()).token, "three");
});

test("a new connection with an old pass gets a new one", async (t) => {
  const own = page(t);
  const passes = ["one", "two"];
  const posta = client(t, { token: () => passes.shift() });
  const watch = read(posta.watch("T"));
  const first = await own.socket();
  await first.line();
  first.answer({ id: 1, status: "done", result: { ok: true } });
  await first.line();
  first.drop();
  const second = await own.socket();
  assert.equal((await second.line()).token, "one");
  second.answer({ id: 1, status: "error", code: "unauthenticated", error: "it has ended" });
  const third = await own.socket();
  assert.equal((await third.line()).token, "two");
  third.answer({ id: 1, status: "done", result: { ok: true } });
  await third.line();
  third.answer({ id: 2, status: "cancelled", task: "T", attempt: 0, seq: 2 });
  assert.equal((await watch.next()).status, "cancelled");
});

test("a watch continues after the last event on a new connection", async (t) => {
  const own = page(t);
  const states = [];
  const watch = read(client(t, { onchange: (state) => states.push(state) }).watch({ task: "T" }, { after: 1 }));
  const first = await own.socket();
  assert.deepEqual(await first.line(), { id: 1, op: "watch", task: "T", after: 1 });
  first.answer({ id: 1, status: "running", task: "T", attempt: 1, seq: 2 });
  first.answer({ id: 1, status: "running", task: "T", attempt: 1, progress: { percent: 40 } }, { id: 1, status: "running", task: "T", attempt: 1, progress: { percent: 50 } });
  assert.deepEqual(await watch.next(), { status: "running", task: "T", attempt: 1, seq: 2 });
  assert.equal((await watch.next()).progress.percent, 50);
  first.drop();
  const second = await own.socket();
  assert.deepEqual(await second.line(), { id: 1, op: "watch", task: "T", after: 2 });
  second.answer({ id: 1, status: "error", code: "draining", error: "the node is draining", task: "T" });
  assert.deepEqual(await second.line(), { id: 2, op: "watch", task: "T", after: 2 });
  second.answer({ id: 2, status: "failed", task: "T", attempt: 1, seq: 3, retried: true }, { id: 2, status: "done", task: "T", attempt: 2, seq: 5, result: { ok: true, data: 1 } });
  assert.equal((await watch.next()).status, "failed");
  assert.deepEqual((await watch.next()).result, { ok: true, data: 1 });
  await watch.end;
  assert.deepEqual(states, ["socket", "offline", "socket"]);
});

test("after goaway, new requests use a new connection and the old one finishes its own", async (t) => {
  const own = page(t);
  const posta = client(t);
  const slow = posta.run("sleep", 1);
  const first = await own.socket();
  await first.line();
  first.answer({ id: null, status: "goaway", code: "draining", retry_after: 0 });
  const quick = posta.run("upper", "hola");
  const second = await own.socket();
  assert.deepEqual((await second.line()).action, "upper");
  assert.equal(first.closed, false);
  first.answer({ id: 1, status: "done", result: { ok: true, slept: 1 } });
  assert.deepEqual(await slow, { slept: 1 });
  assert.equal(first.closed, true);
  second.answer({ id: 1, status: "done", result: { ok: true, data: "HOLA" } });
  assert.equal(await quick, "HOLA");
});

test("what may have been carried out is sent again only if that does no harm", async (t) => {
  const own = page(t);
  const posta = client(t);
  const run = posta.run("charge", 5);
  const enqueue = posta.enqueue("charge", 5);
  const twice = posta.run("fib", 5, { idempotent: true });
  const first = await own.socket();
  await first.line();
  const { key } = await first.line();
  first.drop();
  await assert.rejects(run, code("unknown_outcome"));
  const second = await own.socket();
  const again = [await second.line(), await second.line()];
  assert.equal(again.find(({ op }) => op === "enqueue").key, key);
  second.answer(...again.map(({ id, op }) => (op === "run" ? { id, status: "done", result: { ok: true, fib: 5 } } : { id, status: "queued", task: "T", duplicate: true })));
  assert.deepEqual(await twice, { fib: 5 });
  assert.equal((await enqueue).duplicate, true);
});

test("the pauses before a new connection grow to 30 s, and the page's return ends them", async (t) => {
  const own = page(t, { random: 0.999 });
  const pauses = new Inbox();
  timers(t, (timer) => timer.ms !== 3000 && pauses.push(timer));
  const watch = read(client(t).watch("T"));
  const fail = async () => {
    (await own.sockets.next("a socket")).drop();
    const healthz = await own.requests.next("a request");
    assert.equal(healthz.path, "/healthz");
    healthz.fail();
    return pauses.next("a pause");
  };
  const lengths = [];
  for (let i = 0; i < 10; i++) {
    const { f, ms } = await fail();
    lengths.push(Math.ceil(ms / 100) * 100);
    f();
  }
  assert.deepEqual(lengths, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
  await fail();
  own.show(true);
  await settle();
  assert.equal(own.sockets.size, 0); // nobody looks
  own.show();
  const { ms } = await fail();
  assert.ok(ms < 200, "the pauses begin anew");
  own.fire("online");
  const socket = await own.socket();
  await socket.line();
  socket.answer({ id: 1, status: "done", task: "T", attempt: 1, seq: 3, result: { ok: true } });
  await watch.end;
});

test("a connection that stays silent when the page returns is replaced", async (t) => {
  const own = page(t);
  const made = [];
  const watch = read(client(t).watch("T"));
  const first = await own.socket();
  await first.line();
  first.answer({ id: 1, status: "queued", task: "T", attempt: 0, seq: 1 });
  await watch.next();
  timers(t, (timer) => made.push(timer));
  own.show();
  assert.equal((await first.line()).op, "ping");
  first.answer({ id: 2, status: "done", result: { ok: true, data: "pong" } });
  made.pop().f();
  assert.equal(first.closed, false);
  own.show();
  await first.line();
  made.pop().f();
  assert.equal(first.closed, true);
  await settle();
  made.pop().f(); // the pause
  assert.deepEqual(await (await own.socket()).line(), { id: 1, op: "watch", task: "T", after: 1 });
});

test("where no WebSocket opens within 3 s, fetch takes its place", async (t) => {
  const own = page(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const posta = client(t, { token: "secret" }, "https://tasks.example/posta");
  const run = posta.run("upper", "hola", { timeout: 5 });
  const stuck = await own.sockets.next("a socket");
  await settle();
  t.mock.timers.tick(2999);
  assert.equal(stuck.closed, false);
  t.mock.timers.tick(1);
  assert.equal(stuck.closed, true);
  const healthz = await own.requests.next("a request");
  assert.equal(healthz.path, "/posta/healthz");
  healthz.answer(200, "ok");
  const ran = await own.requests.next("a request");
  assert.deepEqual([ran.method, ran.path, JSON.parse(ran.body)], ["POST", "/posta/v1/run", { action: "upper", payload: "hola", timeout: 5 }]);
  assert.deepEqual(ran.headers, { "Content-Type": "application/json", Authorization: "Bearer secret" });
  ran.answer(200, { id: null, status: "done", result: { ok: true, data: "HOLA" } });
  assert.equal(await run, "HOLA");

  const enqueue = posta.enqueue("upper", "hola", { key: "k" });
  const accepted = await own.requests.next("a request");
  assert.deepEqual([accepted.path, JSON.parse(accepted.body)], ["/posta/v1/tasks", { action: "upper", key: "k", payload: "hola" }]);
  accepted.answer(202, { id: null, status: "queued", task: "T" });
  assert.equal((await enqueue).task, "T");

  const cancel = posta.cancel("T");
  const refused = await own.requests.next("a request");
  assert.deepEqual([refused.method, refused.path], ["POST", "/posta/v1/tasks/T/cancel"]);
  refused.answer(409, { type: "about:blank", detail: "it is done", code: "conflict", state: "done" });
  await assert.rejects(cancel, (error) => code("conflict")(error) && error.message === "it is done");
});

test("a watch by fetch reads server-sent events and continues after the last one", async (t) => {
  const own = page(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const posta = client(t);
  const watch = read(posta.watch("T"));
  (await own.sockets.next("a socket")).drop(); // a proxy that knows no WebSockets
  (await own.requests.next("a request")).answer(404, "what?");
  const first = await own.requests.next("a request");
  assert.equal(first.path, "/v1/tasks/T/events?after=0");
  const one = stream();
  first.answer(200, one.body);
  one.write('retry: 1000\n\nid: 1\nevent: state\ndata: {"status":"queued","ta');
  one.write('sk":"T","attempt":0,"seq":1}\n\n: still here\n\nevent: progress\ndata: {"status":"running","task":"T","attempt":1,"progress":{"percent":50,"message":"mañana"}}\n\n');
  assert.equal((await watch.next()).seq, 1);
  assert.equal((await watch.next()).progress.message, "mañana");
  one.end();
  await settle();
  t.mock.timers.tick(0); // the pause
  const second = await own.requests.next("a request");
  assert.equal(second.path, "/v1/tasks/T/events?after=1");
  const two = stream();
  second.answer(200, two.body);
  two.write('event: refusal\ndata: {"status":"error","code":"draining","error":"the node is draining"}\n\n');
  await settle();
  t.mock.timers.tick(0);
  const third = await own.requests.next("a request");
  const three = stream();
  third.answer(200, three.body);
  await settle();
  t.mock.timers.tick(45_000); // the stream is silent
  await settle();
  t.mock.timers.tick(0);
  const socket = await own.socket();
  assert.deepEqual(await socket.line(), { id: 1, op: "watch", task: "T", after: 1 });
  socket.answer({ id: 1, status: "done", task: "T", attempt: 1, seq: 3, result: { ok: true } });
  assert.equal((await watch.next()).status, "done");
  await watch.end;
});

test("a large payload is uploaded first, and a large result is fetched", async (t) => {
  const own = page(t);
  const posta = client(t);
  const large = "é".repeat(600_000);
  await assert.rejects(posta.run("echo", large), RangeError);
  const enqueue = posta.enqueue("echo", large);
  const upload = await own.requests.next("a request");
  assert.deepEqual([upload.method, upload.path, upload.body.length], ["PUT", "/v1/blobs", 600_002]);
  upload.answer(200, { blob: { task: "T", size: 1_200_002, sha256: "ab" } });
  const socket = await own.socket();
  const { key, ...line } = await socket.line();
  assert.deepEqual(line, { id: 1, op: "enqueue", action: "echo", payload_blob: { task: "T", size: 1_200_002, sha256: "ab" } });
  socket.answer({ id: 1, status: "queued", task: "T" });
  const watch = read(posta.watch(await enqueue));
  await socket.line();
  socket.answer({ id: 2, status: "done", task: "T", attempt: 1, seq: 3, result: { ok: true, blob: { size: 2_000_000, sha256: "cd", href: "/v1/tasks/T/result" } } });
  const body = await own.requests.next("a request");
  assert.equal(body.path, "/v1/tasks/T/result");
  body.answer(200, { ok: true, data: large });
  assert.equal((await watch.next()).result.data, large);
});

test("what cannot be sent is refused here, and a request ends with its signal and with the client", async (t) => {
  const own = page(t);
  const posta = client(t);
  await assert.rejects(posta.run("echo", "\ud800"), TypeError);
  await assert.rejects(posta.enqueue("echo", () => {}), TypeError);
  const left = new AbortController();
  const run = posta.run("echo", "\\ud800", { signal: left.signal });
  const socket = await own.socket();
  await socket.line();
  const watch = read(posta.watch("T", { signal: left.signal }));
  await socket.line();
  const waiting = posta.run("echo");
  await socket.line();
  left.abort(new Error("enough"));
  await assert.rejects(run, /enough/);
  await assert.rejects(watch.end, /enough/);
  posta.close();
  await assert.rejects(waiting, code("closed"));
  await assert.rejects(posta.run("echo"), code("closed"));
  assert.equal(socket.closed, true);
});

test("a watch that nobody reads any more ends", async (t) => {
  const own = page(t);
  const posta = client(t);
  const watching = (async () => {
    for await (const event of posta.watch("T")) return event.status;
  })();
  const socket = await own.socket();
  const { id } = await socket.line();
  socket.answer({ id, status: "queued", task: "T", attempt: 0, seq: 1 });
  assert.equal(await soon(watching, "the status"), "queued");
  socket.answer({ id, status: "running", task: "T", attempt: 1, seq: 2 }); // goes to nobody
  socket.answer({ id: null, status: "goaway", code: "idle" });
  assert.equal(socket.closed, true, "no request is open");
});

test("a node that nobody reaches for 30 s is an error of a request", async (t) => {
  const own = page(t);
  let now = Date.now();
  t.mock.method(Date, "now", () => now);
  const run = client(t).run("upper");
  (await own.sockets.next("a socket")).drop();
  now += 30_001;
  (await own.requests.next("a request")).fail();
  await assert.rejects(run, code("disconnected"));
});
