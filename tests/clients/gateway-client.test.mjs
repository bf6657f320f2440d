// The reference client of the OpenClaw protocol, unchanged, against the real gateway.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { GatewayClient, isGatewayProtocolResponseError } from "@openclaw/gateway-client";

import { check } from "./frames.mjs";
import { Place, eventually } from "./leanclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-test";

let place;
let program;
let recorder;
const clients = [];

before(async () => {
  place = new Place("notes", "units");
  program = await place.start({ token: TOKEN });
  const environment = { LEANCLAW_GATEWAY_API_KEY: TOKEN };
  for (const id of ["notes", "units"]) await place.run(["plugin", "grant", id, "--all", "--yes"], environment);
  recorder = await new Recorder().start(program.port);
});

after(() => {
  for (const client of clients) client.stop();
  recorder?.stop();
  program?.kill();
  place?.remove();
});

/** A client that remembers all it hears. */
function open(options = {}) {
  const heard = { hellos: [], events: [], closes: [], errors: [], gaps: [] };
  const client = new GatewayClient({
    url: recorder.url,
    token: TOKEN,
    onHelloOk: (hello) => heard.hellos.push(hello),
    onEvent: (event) => heard.events.push(event),
    onClose: (code, reason) => heard.closes.push({ code, reason }),
    onConnectError: (error) => heard.errors.push(error),
    onGap: (gap) => heard.gaps.push(gap),
    ...options,
  });
  clients.push(client);
  client.start();
  return { client, heard };
}

async function connect(options) {
  const opened = open(options);
  await eventually("hello-ok", () => {
    if (opened.heard.errors.length > 0) throw opened.heard.errors[0];
    return opened.heard.hellos[0];
  });
  return opened;
}

const event = (heard, name) => eventually(name, () => heard.events.find((found) => found.event === name));

test("it connects with the shared token and is greeted as the schema says", async () => {
  const { client, heard } = await connect();
  const [hello] = heard.hellos;
  assert.equal(hello.protocol, 4);
  assert.equal(hello.auth.method, "token");
  assert.deepEqual(hello.auth.scopes, ["operator.admin"]);
  assert.equal(hello.server.version, JSON.parse(await place.run(["version", "--json"])).version);
  for (const method of ["health", "notes.add", "tools.invoke"]) assert.ok(hello.features.methods.includes(method));
  assert.ok(hello.features.events.includes("notes.changed"));
  assert.equal((await client.request("health")).ok, true);
  await client.stopAndWait();
});

test("it calls a plugin and hears of the change on another connection", async () => {
  const [writer, reader] = [await connect(), await connect({ scopes: ["operator.read"] })];
  const note = await writer.client.request("notes.add", { text: "from the reference client" });
  assert.equal(note.text, "from the reference client");
  const { notes } = await reader.client.request("notes.list", {});
  assert.deepEqual(notes.at(-1), note);
  for (const { heard } of [writer, reader]) {
    const changed = await event(heard, "notes.changed");
    assert.deepEqual(changed.payload, { change: "added", id: note.id });
    assert.deepEqual(heard.gaps, []);
  }
  await Promise.all([writer.client.stopAndWait(), reader.client.stopAndWait()]);
});

test("errors arrive as the client's own error type, with code and message", async () => {
  const { client } = await connect({ scopes: ["operator.read"] });
  const refusal = async (method, params) => {
    const error = await client.request(method, params).then(assert.fail, (error) => error);
    assert.ok(isGatewayProtocolResponseError(error), error);
    return error;
  };
  const denied = await refusal("notes.add", { text: "x" });
  assert.equal(denied.message, "missing scope: operator.write");
  assert.equal(denied.gatewayCode, "FORBIDDEN");
  // Who may not do everything is not told what there is.
  assert.equal((await refusal("no.such.method", {})).message, "missing scope: operator.admin");
  assert.match((await refusal("notes.list", { limit: 0 })).message, /^invalid notes\.list params: at \/limit: /);
  await client.stopAndWait();
});

test("a plugin's tool is listed and runs", async () => {
  const { client } = await connect();
  const catalog = await client.request("tools.catalog", {});
  const tools = catalog.groups.flatMap((group) => group.tools.map((tool) => tool.id));
  assert.ok(tools.length > 0, JSON.stringify(catalog));
  const outcome = await client.request("tools.invoke", {
    name: "convert_units",
    args: { value: 2.5, from: "km", to: "m" },
  });
  assert.equal(outcome.ok, true, JSON.stringify(outcome));
  assert.equal(outcome.output.details.value, 2500);
  await client.stopAndWait();
});

test("a wrong token is refused for good: the client does not try again", async () => {
  const paused = [];
  const { heard, client } = open({ token: "wrong", onReconnectPaused: (info) => paused.push(info) });
  await eventually("the client gives up", () => paused[0]);
  assert.equal(paused[0].detailCode, "AUTH_TOKEN_MISMATCH");
  assert.equal(heard.hellos.length, 0);
  client.stop();
});

test("it comes back by itself when the gateway restarts, and finds its notes", async () => {
  const { client, heard } = await connect();
  const note = await client.request("notes.add", { text: "before the restart" });
  assert.equal(await program.stop(), 0);
  await eventually("the client notices", () => heard.closes[0]);
  assert.equal(heard.closes[0].code, 1012);
  assert.equal((await event(heard, "shutdown")).payload.reason, "gateway stopping");
  program = await place.start({ port: program.port, token: TOKEN });
  await eventually("it is connected again", () => heard.hellos[1]);
  assert.notEqual(heard.hellos[1].server.bootId, heard.hellos[0].server.bootId);
  const { notes } = await client.request("notes.list", {});
  assert.deepEqual(notes.at(-1), note);
  const added = await client.request("notes.add", { text: "after it" });
  await eventually("its event", () => heard.events.find((found) => found.payload?.id === added.id));
  await client.stopAndWait();
});

test("it comes back by itself when the gateway dies, and nothing that was acknowledged is gone", async () => {
  const { client, heard } = await connect();
  const note = await client.request("notes.add", { text: "before the gateway died" });
  const died = once(program.child, "exit");
  program.kill();
  await died;
  await eventually("the client notices", () => heard.closes[0]);
  assert.equal(heard.closes[0].code, 1006);
  assert.equal(heard.events.some(({ event }) => event === "shutdown"), false);
  program = await place.start({ port: program.port, token: TOKEN });
  await eventually("it is connected again", () => heard.hellos[1]);
  const { notes } = await client.request("notes.list", {});
  assert.deepEqual(notes.at(-1), note);
  await client.stopAndWait();
});

test("every frame the gateway sent is what the schema says", () => {
  const { problems, answered, shapes } = check(recorder.connections);
  assert.deepEqual(problems, []);
  for (const method of ["connect", "health", "notes.add", "notes.list", "no.such.method", "tools.catalog", "tools.invoke"]) {
    assert.ok(answered.includes(`v4 ${method}`), answered.join());
  }
  for (const shape of ["HelloOk", "ResponseFrame", "EventFrame", "ShutdownEvent", "ToolsCatalogResult"]) {
    assert.ok(shapes.includes(`v4 ${shape}`), shapes.join());
  }
});
