import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import test from "node:test";

import { LineReader, LineStream } from "../src/line.js";
import { Inbox } from "./inbox.js";

/** Returns the lines of chunks. */
function read(...chunks) {
  const lines = [];
  const reader = new LineReader((line) => lines.push(line));
  for (const chunk of chunks) reader.push(Buffer.from(chunk));
  return lines;
}

test("a line may be split anywhere, even inside a character", () => {
  const text = '{"a":"zweï"}\n{"b":"€ 😀"}\r\n\n{"c":1}\n';
  const bytes = Buffer.from(text);
  const want = ['{"a":"zweï"}', '{"b":"€ 😀"}\r', '{"c":1}'];
  for (let i = 0; i <= bytes.length; i++) {
    for (let j = i; j <= bytes.length; j++) {
      assert.deepEqual(read(bytes.subarray(0, i), bytes.subarray(i, j), bytes.subarray(j)), want, `split at ${i} and ${j}`);
    }
  }
  assert.deepEqual(read(...[...bytes].map((byte) => [byte])), want);
});

test("blank lines are skipped, and half a line is none", () => {
  assert.deepEqual(read("\n\r\n\n"), []);
  assert.deepEqual(read('{"a":1}'), []);
});

test("a line that is too long is an error", () => {
  const reader = new LineReader(() => {}, 8);
  reader.push(Buffer.from("12345678"));
  assert.throws(() => reader.push(Buffer.from("9")), /more than 8 bytes/);
});

/** A stream that keeps what is written to it, and is as slow as the test wants. */
function recorder() {
  const writes = new Inbox();
  let blocked = false;
  /** @type {() => void} */
  let proceed = () => {};
  const stream = new Duplex({
    read() {},
    decodeStrings: false,
    highWaterMark: 1,
    write(chunk, _, done) {
      writes.push(String(chunk));
      if (blocked) proceed = done;
      else done();
    },
    final(done) {
      writes.push("end");
      done();
    },
  });
  return { stream, writes, block: () => (blocked = true), proceed: () => ((blocked = false), proceed()) };
}

test("lines that are ready together leave in one write", async () => {
  const { stream, writes } = recorder();
  const lines = new LineStream(stream);
  lines.open(
    () => {},
    () => {},
  );
  lines.send("one");
  lines.send("two");
  await Promise.resolve().then(() => lines.send("three"));
  assert.equal(await writes.next("a write"), "one\ntwo\nthree\n");
  assert.equal(lines.written, 3);
});

test("while the stream is full, lines wait, and then leave together", async () => {
  const { stream, writes, block, proceed } = recorder();
  const lines = new LineStream(stream);
  lines.open(
    () => {},
    () => {},
  );
  block();
  lines.send("one");
  assert.equal(await writes.next("a write"), "one\n");
  lines.send("two");
  await new Promise(setImmediate);
  lines.send("three");
  await new Promise(setImmediate);
  assert.equal(writes.size, 0);
  assert.equal(lines.written, 1);
  lines.end();
  proceed();
  assert.equal(await writes.next("a write"), "two\nthree\n");
  assert.equal(await writes.next("the end"), "end");
});
