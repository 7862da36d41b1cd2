import assert from "node:assert/strict";
import test from "node:test";

import { byteLength, encode, plainText } from "../src/json.js";

const nested = (depth) => (depth === 1 ? [] : [nested(depth - 1)]);

test("what a node accepts is encoded", () => {
  for (const [value, text] of [
    [undefined, "null"],
    [null, "null"],
    ["ñ 😀 \\ud800 \\", JSON.stringify("ñ 😀 \\ud800 \\")],
    ["[".repeat(200), `"${"[".repeat(200)}"`],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'],
    [nested(63), "[".repeat(63) + "]".repeat(63)],
    [Array(100).fill([1]), JSON.stringify(Array(100).fill([1]))],
  ]) {
    assert.equal(encode(value, "it"), text);
  }
});

test("what a node would refuse is a TypeError", () => {
  const circular = {};
  circular.self = circular;
  for (const value of [1n, circular, () => 1, Symbol("x"), nested(64), "\ud800", { a: ["x\udc00"] }, { "\udfff": 1 }, "\\\ud800"]) {
    assert.throws(() => encode(value, "it"), TypeError);
  }
});

test("bytes are counted as UTF-8 has them", () => {
  for (const text of ["", "abc", "é", "€", "😀", "a😀é€\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff"]) {
    assert.equal(byteLength(text), Buffer.byteLength(text));
  }
});

test("plain text has only characters", () => {
  assert.equal(plainText("a\ud800b\udc00c\u0000😀", 100), "a\ufffdb\ufffdc\ufffd😀");
  assert.equal(plainText("x😀", 2), "x\ufffd");
});
