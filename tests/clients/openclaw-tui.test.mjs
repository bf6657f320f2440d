// The OpenClaw terminal interface of both generations, unchanged, against the real gateway.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { check } from "./frames.mjs";
import { Place } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";
import { Screen } from "./screen.mjs";

const TOKEN = "t0ken-of-the-test";

let place;
let program;
let recorder;
const people = [];
const screens = [];

before(async () => {
  place = new Place();
  program = await place.start({ token: TOKEN });
  recorder = await new Recorder().start(program.port);
});

after(() => {
  for (const screen of screens) screen.kill();
  recorder?.stop();
  program?.kill();
  place?.remove();
  for (const person of people) person.remove();
});

/** The command that asks the gateway how it is: in newer releases `/status` goes to the agent. */
const STATUS = { 3: "/status", 4: "/gateway-status" };

/** What a terminal shows when the gateway refuses something. */
const TROUBLE = /error|failed|unknown method|missing scope/i;

for (const release of RELEASES) {
  test(`the terminal of openclaw ${release.version} connects, shows an empty session and quits`, async () => {
    const person = new OpenClaw(release, { port: recorder.port, token: TOKEN });
    people.push(person);
    person.configure("openclaw", { plugins: { enabled: false } });
    const screen = new Screen(person.command(["tui"]));
    screens.push(screen);
    await screen.shows(new RegExp(`ws://127\\.0\\.0\\.1:${recorder.port}`));
    await screen.shows(/connected/);
    await screen.shows(/session (agent:main:)?main/);
    screen.type(STATUS[release.protocol]);
    await screen.shows(/Gateway status[^]*Session store: core\.db[^]*sessions: 0/i);
    assert.doesNotMatch(screen.text(), TROUBLE);
    screen.type("/help");
    await screen.shows(/\/exit/);
    // What is typed stands in the line until it is sent, or taken back.
    screen.program.write("words that are not sent");
    await screen.shows(/words that are not sent/);
    await screen.press("\u0015");
    await screen.lacks(/words that are not sent/);
    // Escape breaks off what runs; nothing does.
    await screen.press("\u001b");
    screen.type("/session other");
    await screen.shows(/agent main - session other|session agent:main:other/);
    assert.doesNotMatch(screen.text(), TROUBLE);
    screen.type("/quit");
    assert.equal(await screen.ends(), 0);
  });
}

test("every frame the gateway sent is what the protocol says", () => {
  const { problems, shapes } = check(recorder.connections);
  assert.deepEqual(problems, []);
  for (const shape of ["v3 HelloOk", "v4 HelloOk", "v4 AgentsListResult"]) assert.ok(shapes.includes(shape), shapes.join());
});
