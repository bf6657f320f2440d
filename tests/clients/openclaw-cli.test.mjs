// The OpenClaw command line, unchanged, against the real gateway.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Place } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";

const TOKEN = "t0ken-of-the-test";

let place;
let program;
const people = [];

before(async () => {
  place = new Place();
  program = await place.start({ token: TOKEN });
});

after(() => {
  program?.kill();
  place?.remove();
  for (const person of people) person.remove();
});

for (const release of RELEASES) {
  test(`openclaw ${release.version} calls a method`, async () => {
    const person = new OpenClaw(release, { port: program.port, token: TOKEN });
    people.push(person);
    const { status, out, err } = await person.run(["gateway", "call", "health", "--json"]);
    assert.equal(status, 0, err);
    assert.equal(JSON.parse(out).ok, true, out);
  });
}
