// Holds every frame that the clients of `tests/it` and of the gateway's own tests heard to what the protocol says, as the other
// tests here do with what the real clients heard. They keep them where `cargo xtask test` tells them to, in the same run.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { check, shapelessProblems } from "./frames.mjs";

const folder = process.env.LEANCLAW_TEST_FRAMES;
const files = folder && existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];

/** What was said on each connection, in order, as the recorder has it. */
function connections(file) {
  const found = new Map();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    if (line === "") continue;
    const { connection, sent, heard } = JSON.parse(line);
    if (!found.has(connection)) found.set(connection, { head: "", said: [] });
    const { said } = found.get(connection);
    if (heard !== undefined) said.push({ from: "gateway", text: heard });
    else said.push(sent === null ? { from: "client", wrong: true } : { from: "client", text: JSON.stringify(sent) });
  }
  return [...found.values()];
}

const skip =
  files.length === 0 && "NOT RUN: neither `unit` nor `integration` was run before this suite; `cargo xtask test` runs all of them";

test("each method of the gateway has a shape of its result in version 4, or is known to have none", () => {
  assert.deepEqual(shapelessProblems(), []);
});

test("every frame that the clients of the other suites heard is what the protocol says", { skip }, () => {
  const { problems, answered, shapes } = check(files.flatMap(connections), { pluginsChange: true });
  const told = [...new Set(problems)];
  assert.deepEqual(told.slice(0, 40), [], `${told.length} problems`);
  for (const version of [3, 4]) {
    for (const method of ["connect", "health", "plugins.list", "sessions.list"]) {
      assert.ok(answered.includes(`v${version} ${method}`), `v${version} ${method} was not heard: ${answered.join()}`);
    }
    for (const shape of ["HelloOk", "ResponseFrame", "EventFrame"]) {
      assert.ok(shapes.includes(`v${version} ${shape}`), `v${version} ${shape} is not among ${shapes.join()}`);
    }
  }
});
