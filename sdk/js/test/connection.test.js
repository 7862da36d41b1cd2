import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test from "node:test";

import { Connection } from "../src/connection.js";
import { LineStream } from "../src/line.js";
import { FakeNode } from "./fakenode.js";
import { Inbox, soon } from "./inbox.js";

/** Opens a connection that looks at its node each few milliseconds. */
async function open(t, unmatched) {
  const node = await FakeNode.start(t);
  const [host, port] = node.address.split(":");
  const socket = connect({ host, port: Number(port) });
  await once(socket, "connect");
  const connection = new Connection(new LineStream(socket), unmatched, 20);
  t.after(() => connection.destroy());
  return { node, connection };
}

test("a node that has become silent is left", async (t) => {
  const { node, connection } = await open(t);
  const waiting = assert.rejects(connection.request('{"op":"wait","task":"T"}', { patient: true }), /the node has become silent/);
  const peer = await node.accept();
  peer.socket.pause(); // what a network that swallows everything looks like
  assert.match((await soon(connection.closed, "the end")).message, /the node has become silent/);
  await waiting;
});

test("a node that works for a request may be silent: it reads no further while its pool is full", async (t) => {
  const { node, connection } = await open(t);
  const outcome = connection.request('{"op":"run","action":"x"}');
  const peer = await node.accept();
  const { id } = await peer.line();
  const { connection: beside, node: silent } = await open(t); // opened later, and left first
  beside.request('{"op":"wait","task":"T"}', { patient: true }).catch(() => {});
  (await silent.accept()).socket.pause();
  await soon(beside.closed, "the end of the other connection");
  peer.send({ id, status: "done", result: { ok: true } });
  assert.equal((await outcome).status, "done");
});

test("lines that answer nothing are heard, and a line that is no JSON ends the connection", async (t) => {
  const heard = new Inbox();
  const { node, connection } = await open(t, (reply) => heard.push(reply));
  const waiting = assert.rejects(connection.request('{"op":"wait","task":"T"}', { patient: true }), /no JSON: hello/);
  const peer = await node.accept();
  await peer.line();
  peer.send({ id: null, status: "news" }, { id: 99, status: "done" }, { status: "x" });
  assert.equal((await heard.next("the news")).status, "news");
  peer.write("hello\n");
  await waiting;
  await peer.end();
});
