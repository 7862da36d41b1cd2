import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { FOLDER, play } from "./transcript.js";

const files = readdirSync(FOLDER).filter((name) => name.endsWith(".json") && name !== "ops.json");

test("there are transcripts", () => assert.ok(files.length >= 40));

for (const name of files) {
  const transcript = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
  test(`${name}: ${transcript.about}`, () => play(transcript));
}
