// The OpenClaw node host of both generations, unchanged: it connects, an admin approves it, and it runs what the OpenClaw command
// line asks it to.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";

import { GatewayClient } from "@openclaw/gateway-client";

import { check } from "./frames.mjs";
import { Place, eventually } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-test";

let place;
let program;
let recorder;
let admin;
const people = [];
const hosts = [];

before(async () => {
  place = new Place();
  program = await place.start({ token: TOKEN });
  recorder = await new Recorder().start(program.port);
  const hellos = [];
  admin = new GatewayClient({ url: recorder.url, token: TOKEN, onHelloOk: (hello) => hellos.push(hello) });
  admin.start();
  await eventually("hello-ok", () => hellos[0]);
});

after(() => {
  admin?.stop();
  for (const host of hosts) end(host);
  recorder?.stop();
  program?.kill();
  place?.remove();
  for (const person of people) person.remove();
});

function end(host) {
  try {
    process.kill(-host.pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

function person(release) {
  const made = new OpenClaw(release, { port: recorder.port, token: TOKEN });
  made.configure("openclaw", { plugins: { enabled: false } });
  people.push(made);
  return made;
}

for (const release of RELEASES) {
  test(`the node host of openclaw ${release.version} does what it is asked to`, async () => {
    const name = `desk-${release.protocol}`;
    const where = ["--host", "127.0.0.1", "--port", String(recorder.port), "--display-name", name];
    const { program: node, args, options } = person(release).command(["node", "run", ...where], {
      OPENCLAW_GATEWAY_TOKEN: TOKEN,
    });
    // It starts itself anew, so it is ended as a group.
    const host = spawn(node, args, { ...options, stdio: ["ignore", "pipe", "pipe"], detached: true });
    hosts.push(host);
    let told = "";
    for (const stream of [host.stdout, host.stderr]) stream.setEncoding("utf8").on("data", (text) => (told += text));
    const listed = async () => (await admin.request("node.list", {})).nodes.find((one) => one.displayName === name);
    await eventually("the node is connected", async () => {
      if (host.exitCode !== null) throw new Error(`the node host ended: ${told}`);
      return (await listed())?.connected;
    });
    const { pending } = await admin.request("node.pair.list", {});
    for (const { requestId } of pending) await admin.request("node.pair.approve", { requestId });
    await eventually("its commands are known", async () => (await listed()).commands.includes("system.which"));

    const asked = ["--node", name, "--command", "system.which", "--params", `{"bins":["sh"]}`, "--json"];
    const { status, out, err } = await person(release).run(["nodes", "invoke", ...asked]);
    assert.equal(status, 0, err + told);
    const answer = JSON.parse(out);
    assert.equal(answer.ok, true, out);
    assert.match(answer.payload.bins.sh, /\/sh$/, out);
    end(host);
    await eventually("it is gone", async () => !(await listed()).connected);
  });
}

test("every frame the gateway sent is what the protocol says", () => {
  const { problems, shapes } = check(recorder.connections);
  assert.deepEqual(problems, []);
  for (const shape of ["v3 HelloOk", "v4 HelloOk"]) assert.ok(shapes.includes(shape), shapes.join());
});
