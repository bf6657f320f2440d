// What a page in a real browser cannot do to the gateway and to the Control UI that it serves.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./browser.mjs";
import { check } from "./frames.mjs";
import { Place } from "./leanclaw.mjs";
import { RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-page";
const root = join(RELEASES.at(-1).installation, "node_modules/openclaw/dist/control-ui");

let browser;
let stranger;
let asked;
const places = [];

before(async () => {
  browser = await launch("--host-resolver-rules=MAP elsewhere.test 127.0.0.1");
  asked = [];
  stranger = createServer((request, response) => {
    asked.push(request.url);
    response.setHeader("content-type", request.url.endsWith(".js") ? "text/javascript" : "text/html");
    response.end(request.url.endsWith(".js") ? "window.taken = 1" : "<!doctype html><title>stranger</title>");
  });
  stranger.listen(0, "127.0.0.1");
  await once(stranger, "listening");
});

after(async () => {
  await browser?.close();
  stranger?.close();
  for (const { place, program, recorder } of places) {
    recorder.stop();
    program.kill();
    place.remove();
  }
});

/** A gateway, and the port of the recorder in front of it. */
async function gateway(token) {
  const place = new Place();
  const program = await place.start({ token, environment: { LEANCLAW_CONTROL_UI_ROOT: root } });
  const recorder = await new Recorder().start(program.port);
  places.push({ place, program, recorder });
  return { place, port: recorder.port };
}

/** A page of another origin: of this machine, or of another host. */
async function elsewhere(host) {
  const page = await browser.newPage();
  await page.goto(`http://${host}:${stranger.address().port}/`);
  return page;
}

/**
 * Connects as a page would that knows the protocol; what the gateway answers, and how it closes. `sign` has it prove a device
 * of its own, freshly made.
 */
function connect(page, port, { token, client = "openclaw-control-ui", mode = "webchat", sign = false }) {
  const wish = { port, token, client, mode, sign };
  return page.evaluate(async ({ port, token, client, mode, sign }) => {
    const text = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
    const base64url = (bytes) => text(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    const scopes = ["operator.read"];
    const device = async (nonce) => {
      const keys = await crypto.subtle.generateKey("Ed25519", true, ["sign"]);
      const key = await crypto.subtle.exportKey("raw", keys.publicKey);
      const id = hex(await crypto.subtle.digest("SHA-256", key));
      const signedAt = Date.now();
      const said = ["v2", id, client, mode, "operator", scopes.join(","), signedAt, token ?? "", nonce].join("|");
      const signature = await crypto.subtle.sign("Ed25519", keys.privateKey, new TextEncoder().encode(said));
      return { id, publicKey: base64url(key), signature: base64url(signature), signedAt, nonce };
    };
    return new Promise((resolve) => {
      let answer;
      socket.onclose = ({ code, reason }) => resolve({ ...answer, code, reason });
      socket.onmessage = async ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.event === "connect.challenge") {
          const params = {
            minProtocol: 3,
            maxProtocol: 4,
            client: { id: client, version: "1", platform: "web", mode },
            scopes,
            auth: token === undefined ? undefined : { token },
            device: sign ? await device(frame.payload.nonce) : undefined,
          };
          socket.send(JSON.stringify({ type: "req", id: "1", method: "connect", params }));
        } else if (frame.type === "res") {
          answer = { ok: frame.ok, details: frame.error?.details?.code };
          if (frame.ok) socket.close();
        }
      };
    });
  }, wish);
}

test("a page of another host is not let in, whatever it knows", async () => {
  const { port } = await gateway(TOKEN);
  const page = await elsewhere("elsewhere.test");
  // Over plain HTTP such a page cannot even make a device's key; here it lacks none of the rest.
  for (const client of ["openclaw-control-ui", "cli", "gateway-client"]) {
    const mode = { "openclaw-control-ui": "webchat", cli: "cli", "gateway-client": "backend" }[client];
    const answer = await connect(page, port, { token: TOKEN, client, mode });
    assert.deepEqual({ ok: answer.ok, details: answer.details, code: answer.code }, {
      ok: false,
      details: "CONTROL_UI_ORIGIN_NOT_ALLOWED",
      code: 1008,
    });
  }
  await page.close();
});

test("a page of this machine is not let in without a paired device", async () => {
  const { port } = await gateway(TOKEN);
  const page = await elsewhere("127.0.0.1");
  const refused = async (wish) => (await connect(page, port, wish)).details;
  assert.equal(await refused({ token: TOKEN }), "CONTROL_UI_DEVICE_IDENTITY_REQUIRED");
  assert.equal(await refused({}), "DEVICE_IDENTITY_REQUIRED");
  assert.equal(await refused({ sign: true }), "AUTH_TOKEN_MISSING");
  assert.equal(await refused({ token: "wrong", sign: true }), "AUTH_TOKEN_MISMATCH");
  // Any other client than the Control UI waits for an admin, with the right token too.
  assert.equal(await refused({ token: TOKEN, client: "cli", mode: "cli", sign: true }), "PAIRING_REQUIRED");
  // This is how the Control UI gets in, so the other answers are not refusals of everything.
  assert.equal((await connect(page, port, { token: TOKEN, sign: true })).ok, true);
  await page.close();
});

test("without a token no page pairs itself", async () => {
  const { place, port } = await gateway(undefined);
  const page = await elsewhere("127.0.0.1");
  assert.equal((await connect(page, port, { sign: true })).details, "PAIRING_REQUIRED");
  const own = await browser.newPage();
  await own.goto(`http://127.0.0.1:${port}/healthz`);
  assert.equal((await connect(own, port, { sign: true })).details, "PAIRING_REQUIRED");
  const { pending, paired } = JSON.parse(await place.run(["devices", "list", "--json"]));
  assert.deepEqual({ pending: pending.length, paired: paired.length }, { pending: 2, paired: 0 });
  await Promise.all([page.close(), own.close()]);
});

test("a page elsewhere can neither read nor frame what the gateway serves", async () => {
  const { port } = await gateway(TOKEN);
  const page = await elsewhere("127.0.0.1");
  const seen = await page.evaluate(async (port) => {
    const read = (path) => fetch(`http://127.0.0.1:${port}${path}`).then((reply) => reply.status, () => "refused");
    const loaded = (tag, path) => {
      const node = Object.assign(document.createElement(tag), { src: `http://127.0.0.1:${port}${path}` });
      const outcome = new Promise((resolve) => {
        node.onload = () => resolve("loaded");
        node.onerror = () => resolve("refused");
      });
      document.body.append(node);
      return outcome;
    };
    const picture = await loaded("img", "/favicon.svg");
    document.body.append(Object.assign(document.createElement("iframe"), { src: `http://127.0.0.1:${port}/` }));
    return { page: await read("/"), settings: await read("/control-ui-config.json"), picture };
  }, port);
  assert.deepEqual(seen, { page: "refused", settings: "refused", picture: "refused" });
  await page.waitForFunction(() => frames.length === 1);
  const frame = page.frames().at(-1);
  await frame.waitForNavigation({ timeout: 1000 }).catch(() => {});
  assert.doesNotMatch(frame.url(), new RegExp(`:${port}/`), "the page was framed");
  await page.close();
});

test("the Control UI runs its own scripts and loads nothing from elsewhere", async () => {
  const { port } = await gateway(TOKEN);
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/settings/about`, { waitUntil: "load" });
  asked.length = 0;
  const outcome = await page.evaluate(async (origin) => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => window.violations.push(event.effectiveDirective));
    const add = (tag, fields) =>
      new Promise((resolve) => {
        const node = Object.assign(document.createElement(tag), fields);
        node.onload = node.onerror = resolve;
        document.body.append(node);
        if (fields.textContent) resolve();
      });
    await add("script", { textContent: "window.inlined = 1" });
    await add("script", { src: `${origin}/taken.js` });
    await add("img", { src: `${origin}/picture?secret` });
    await add("link", { rel: "stylesheet", href: `${origin}/style` });
    await fetch(`${origin}/fetched?secret`).catch(() => {});
    const handler = Object.assign(document.createElement("div"), { innerHTML: '<p onclick="window.handled = 1">x</p>' });
    document.body.append(handler);
    handler.firstChild.click();
    let evaluated = true;
    try {
      globalThis.eval("1");
    } catch {
      evaluated = false;
    }
    const ran = ["inlined", "taken", "handled"].filter((name) => name in window);
    return { ran, evaluated, isPage: customElements.get("openclaw-app") !== undefined };
  }, `http://elsewhere.test:${stranger.address().port}`);
  assert.deepEqual(outcome.ran, []);
  assert.equal(outcome.evaluated, false);
  assert.equal(outcome.isPage, true, "its own scripts run");
  assert.deepEqual(asked, [], "nothing reached the other host");
  for (const directive of ["connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-elem"]) {
    await page.waitForFunction((directive) => window.violations.includes(directive), {}, directive);
  }
  await page.close();
});

test("every frame the gateway sent is what the protocol says", () => {
  const { problems, answered, shapes } = check(places.flatMap(({ recorder }) => recorder.connections));
  assert.deepEqual(problems, []);
  assert.ok(answered.includes("v4 connect"), answered.join());
  for (const shape of ["v4 HelloOk", "v4 ChallengeEvent"]) assert.ok(shapes.includes(shape), shapes.join());
});
