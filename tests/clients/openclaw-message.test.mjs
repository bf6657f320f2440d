// `openclaw message send`, unchanged, through a channel that a plugin of LeanClaw serves. Release 2026.9.6 sends only through a
// channel that a plugin of its own knows (`Unknown channel` otherwise, before anything is asked of a gateway), and has the gateway
// send only where that plugin says so; 2026.3.13 talks to the service itself and never asks. So the person here has such a plugin.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";

import { check } from "./frames.mjs";
import { Place } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-test";
const PLUGIN = "channel-of-the-gateway";

/** Somebody's server, which takes messages as the webhook channel posts them. */
async function service() {
  const posted = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    posted.push(JSON.parse(body));
    response.writeHead(200, { "content-type": "application/json" }).end('{"messageId": "77"}');
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { posted, origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** A place with the webhook channel, which may post to `origin`. */
function placeFor(origin) {
  const place = new Place("webhook-channel");
  const file = join(place.folder, "plugins/webhook-channel/leanclaw.plugin.json");
  const manifest = JSON.parse(readFileSync(file, "utf8"));
  manifest.permissions.privateHttp = [origin];
  writeFileSync(file, JSON.stringify(manifest));
  const folder = join(place.folder, "home/.config/leanclaw");
  mkdirSync(folder, { recursive: true });
  const entries = { "webhook-channel": { config: { url: `${origin}/take` } } };
  writeFileSync(join(folder, "config.json"), JSON.stringify({ plugins: { entries } }), { mode: 0o600 });
  return place;
}

test("a message is sent through a channel of the gateway", async (t) => {
  const release = RELEASES.find(({ protocol }) => protocol === 4);
  const { posted, origin, close } = await service();
  t.after(close);
  const place = placeFor(origin);
  t.after(() => place.remove());
  const program = await place.start({ token: TOKEN });
  t.after(() => program.kill());
  const environment = { LEANCLAW_GATEWAY_API_KEY: TOKEN };
  await place.run(["plugin", "grant", "webhook-channel", "--all", "--yes"], environment);
  await place.run(["plugin", "secret", "set", "webhook-channel", "signing-key"], environment, "key-1");
  const recorder = await new Recorder().start(program.port);
  t.after(() => recorder.stop());
  const person = new OpenClaw(release, { port: recorder.port, token: TOKEN });
  t.after(() => person.remove());
  const send = ["message", "send", "--channel", "webhook", "--target", "room", "--message", "from the terminal", "--json"];

  person.configure("openclaw", { plugins: { enabled: false } });
  const unknown = await person.run(send);
  assert.match(unknown.out + unknown.err, /Unknown channel/);
  assert.notEqual(unknown.status, 0);

  const load = { paths: [join(import.meta.dirname, PLUGIN)] };
  const plugins = { allow: [PLUGIN], entries: { [PLUGIN]: { enabled: true } }, load };
  person.configure("openclaw", { plugins, channels: { webhook: { enabled: true } } });
  const { status, out, err } = await person.run(send);
  assert.equal(status, 0, `${out}\n${err}`);
  const sent = JSON.parse(out.slice(out.search(/^\{/m)));
  assert.deepEqual([sent.action, sent.channel, sent.messageId], ["send", "webhook", "77"], out);
  assert.deepEqual(posted.map(({ conversation, text }) => [conversation, text]), [["room", "from the terminal"]]);
  const { problems, answered } = check(recorder.connections);
  assert.deepEqual(problems, []);
  assert.ok(answered.includes("v4 message.action"), answered.join());
});
