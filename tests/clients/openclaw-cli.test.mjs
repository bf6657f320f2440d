// The OpenClaw command line of both generations, unchanged, against the real gateway. What each command prints is told by the
// gateway's answer, so each row says what must be in there.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { after, before, test } from "node:test";

import { GatewayClient } from "@openclaw/gateway-client";

import { check } from "./frames.mjs";
import { Place, eventually } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-test";
const SESSION = "agent:main:quarter";

let place;
let program;
let recorder;
const people = new Map();

before(async () => {
  place = new Place("webhook-channel");
  program = await place.start({ token: TOKEN });
  await place.run(["plugin", "grant", "webhook-channel", "--all", "--yes"], { LEANCLAW_GATEWAY_API_KEY: TOKEN });
  recorder = await new Recorder().start(program.port);
  for (const release of RELEASES) {
    people.set(release.protocol, new OpenClaw(release, { port: recorder.port, token: TOKEN }));
  }
  const hellos = [];
  const client = new GatewayClient({ url: recorder.url, token: TOKEN, onHelloOk: (hello) => hellos.push(hello) });
  client.start();
  await eventually("hello-ok", () => hellos[0]);
  await client.request("sessions.patch", { key: SESSION, label: "The quarter" });
  await client.stopAndWait();
});

after(() => {
  recorder?.stop();
  program?.kill();
  place?.remove();
  for (const person of people.values()) person.remove();
});

const json = (check) => (out) => check(JSON.parse(out));
const says = (...patterns) => (out) => {
  for (const pattern of patterns) assert.match(out, pattern);
};

/** A command, what it asks the gateway for whatever its release, and what must be in its output. */
const COMMANDS = [
  {
    args: ["gateway", "call", "sessions.list", "--json"],
    asks: ["sessions.list"],
    sees: json((list) => assert.ok(list.sessions.some((row) => row.key === SESSION && row.label === "The quarter"))),
  },
  {
    args: ["health"],
    asks: ["health"],
    sees: says(/Agents: main \(default\)/, /Heartbeat interval: disabled/, /core\.db \([1-9]/),
  },
  {
    args: ["status"],
    asks: ["status", "system-presence"],
    sees: says(/OpenClaw status/, /Gateway +│.*reachable/, /Heartbeat/),
  },
  { args: ["status", "--deep"], sees: says(/│ Gateway +│ reachable/) },
  {
    args: ["gateway", "status", "--json"],
    sees: json((status) => assert.equal(status.rpc.ok, true, JSON.stringify(status.rpc))),
  },
  {
    args: ["gateway", "probe", "--json"],
    sees: json((probe) => {
      assert.equal(probe.ok, true);
      assert.equal(probe.targets[0].connect.rpcOk, true, JSON.stringify(probe.targets));
    }),
  },
  { args: ["gateway", "health"], sees: says(/OK \(\d+ms\)/) },
  {
    args: ["gateway", "usage-cost"],
    asks: ["usage.cost"],
    sees: says(/Usage cost \(30 days\)/, /Total: \$0\.0000 · 0 tokens/),
  },
  { args: ["channels", "status"], asks: ["channels.status"], sees: says(/Gateway reachable/) },
  {
    args: ["channels", "status", "--probe", "--json"],
    sees: json((status) => assert.deepEqual(status.channelOrder, ["webhook"], JSON.stringify(status))),
  },
  { args: ["channels", "list"], sees: says(/Chat channels/) },
  {
    args: ["cron", "list", "--json"],
    asks: ["cron.list"],
    sees: json((list) => assert.deepEqual([list.jobs, list.total], [[], 0])),
  },
  {
    args: ["cron", "status"],
    asks: ["cron.status"],
    sees: json((status) => assert.deepEqual([status.enabled, status.jobs], [false, 0])),
  },
  {
    args: ["system", "event", "--text", "a word from the terminal", "--mode", "now"],
    asks: ["wake"],
    sees: says(/^ok$/m),
  },
  {
    args: ["system", "presence"],
    asks: ["system-presence"],
    sees: json((entries) => assert.match(entries[0].text, /^Gateway: LeanClaw \d/)),
  },
  { args: ["system", "heartbeat", "last"], asks: ["last-heartbeat"], sees: json((beat) => assert.equal(beat, null)) },
  {
    args: ["devices", "list", "--json"],
    asks: ["device.pair.list"],
    sees: json((list) => {
      const own = list.paired.find((device) => device.clientId === "cli");
      assert.ok(own.tokens[0].scopes.includes("operator.admin"), JSON.stringify(list));
    }),
  },
  { args: ["nodes", "list"], asks: ["node.pair.list"], sees: says(/Pending: 0 · Paired: 0/) },
  {
    args: ["nodes", "status", "--json"],
    asks: ["node.list"],
    sees: json((status) => assert.deepEqual(status.nodes, [])),
  },
  {
    args: ["nodes", "pending", "--json"],
    asks: ["node.pair.list"],
    sees: json((pending) => assert.deepEqual(pending, [])),
  },
  { args: ["logs", "--plain"], asks: ["logs.tail"], sees: says(/Log file: .*leanclaw\.log/, /the gateway listens/) },
  {
    args: ["approvals", "get", "--gateway", "--json"],
    asks: ["exec.approvals.get"],
    sees: json((rules) => assert.deepEqual([typeof rules.hash, rules.file.version], ["string", 1])),
  },
  {
    args: ["message", "send", "--channel", "telegram", "--target", "@someone", "--message", "hi", "--dry-run", "--json"],
    config: "messenger",
    sees: json((sent) => assert.deepEqual([sent.action, sent.dryRun], ["send", true])),
  },
  { args: ["models", "list", "--json"], sees: json((list) => assert.ok(Array.isArray(list.models))) },
  { args: ["skills", "list", "--json"], sees: json((list) => assert.ok(Array.isArray(list.skills))) },
  { args: ["sessions", "--json"], sees: json((list) => assert.ok(Array.isArray(list.sessions))) },
  { args: ["agents", "list", "--json"], sees: json(([agent]) => assert.equal(agent.id, "main")) },
  { args: ["config", "get", "gateway.port"], sees: (out) => assert.equal(Number(out), recorder.port) },
  { args: ["hooks", "list", "--json"], sees: json((list) => assert.ok(Array.isArray(list.hooks))) },
  { args: ["plugins", "list", "--json"], sees: json((list) => assert.ok(Array.isArray(list.plugins))) },
  { args: ["doctor", "--non-interactive"], sees: says(/OpenClaw doctor/, /Gateway/) },
];

/**
 * Release 2026.3.13 loads forty extensions for every command, whatever it is, which takes most of its time; the first command
 * is run with all of them, the others with none.
 */
const CONFIGURATIONS = {
  lean: { plugins: { enabled: false } },
  messenger: {
    plugins: { allow: ["telegram"] },
    channels: { telegram: { enabled: true, botToken: "1:of-the-test", dmPolicy: "pairing" } },
  },
};

for (const release of RELEASES) {
  test(`openclaw ${release.version}`, { concurrency: availableParallelism() + 1 }, async (t) => {
    const person = people.get(release.protocol);
    const configurations = Object.entries(CONFIGURATIONS).map(([name, more]) => [name, person.configure(name, more)]);
    const paths = Object.fromEntries(configurations);
    const node = execFileSync(person.command([]).program, ["--version"], { encoding: "utf8" });
    assert.match(node, new RegExp(`^v${release.node}\\.`), "the release runs on the Node.js it is pinned to");
    // The first command makes the identity that all others use.
    const first = await person.run(["gateway", "call", "health", "--json"]);
    assert.equal(first.status, 0, first.err);
    assert.equal(JSON.parse(first.out).ok, true, first.out);
    const all = COMMANDS.map((row) => {
      const environment = { OPENCLAW_CONFIG_PATH: paths[row.config ?? "lean"] };
      return t.test(row.args.join(" "), () => runs(person, row, environment));
    });
    await Promise.all(all);
  });
}

async function runs(person, { args, sees }, environment) {
  const { status, out, err } = await person.run(args, environment);
  const told = `exit status ${status}\n${out}\n${err}`.slice(0, 4000);
  assert.equal(status, 0, told);
  try {
    sees(out);
  } catch (error) {
    throw new Error(`${error.message}\n${told}`);
  }
}

test("every frame the gateway sent is what the protocol says", () => {
  const { problems, answered, shapes } = check(recorder.connections);
  assert.deepEqual(problems, []);
  for (const { protocol } of RELEASES) {
    for (const method of COMMANDS.flatMap(({ asks = [] }) => asks)) {
      assert.ok(answered.includes(`v${protocol} ${method}`), `v${protocol} ${method} was not heard: ${answered.join()}`);
    }
  }
  for (const shape of ["v3 HelloOk", "v4 HelloOk", "v4 LogsTailResult"]) assert.ok(shapes.includes(shape), shapes.join());
});
