// Commands of the OpenClaw command line that change something, of both generations, unchanged: another client sees the change,
// and it is still there after the gateway was started anew.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { GatewayClient } from "@openclaw/gateway-client";

import { Device } from "./device.mjs";
import { check } from "./frames.mjs";
import { Place, eventually } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-test";
const SESSION = "agent:main:quarter";

/** One gateway and one person with an OpenClaw of that release. */
class Setting {
  static async of(release) {
    const setting = new Setting();
    setting.release = release;
    setting.place = new Place("webhook-channel");
    setting.program = await setting.place.start({ token: TOKEN });
    const environment = { LEANCLAW_GATEWAY_API_KEY: TOKEN };
    await setting.place.run(["plugin", "grant", "webhook-channel", "--all", "--yes"], environment);
    setting.recorder = await new Recorder().start(setting.program.port);
    setting.person = new OpenClaw(release, { port: setting.recorder.port, token: TOKEN });
    setting.person.configure("openclaw", { plugins: { enabled: false } });
    setting.admin = await connect(setting.recorder.url);
    return setting;
  }

  /** Runs a command that has to succeed; what it printed. */
  async run(...args) {
    const { status, out, err } = await this.person.run(args);
    assert.equal(status, 0, `${args.join(" ")}: exit status ${status}\n${out}\n${err}`.slice(0, 4000));
    return out;
  }

  async json(...args) {
    const out = await this.run(...args, "--json");
    return JSON.parse(out.slice(Math.max(0, out.search(/^[{[]/m))));
  }

  /** Calls a method through the command line. */
  call(method, params) {
    return this.json("gateway", "call", method, "--params", JSON.stringify(params));
  }

  /** A device that asks to be let in, the way a page does, so that it has to wait. */
  async pending(name) {
    const device = new Device(name);
    const { port } = this.recorder;
    const wish = { auth: { token: TOKEN }, scopes: ["operator.read"], origin: `http://127.0.0.1:${port}` };
    const refused = await device.connect(this.recorder.url, wish);
    assert.equal(refused.error?.details.code, "PAIRING_REQUIRED", JSON.stringify(refused.error));
    return { device, request: refused.error.details.requestId };
  }

  async restart() {
    await this.admin.stopAndWait();
    await this.program.stop();
    this.program = await this.place.start({ port: this.program.port, token: TOKEN });
    this.admin = await connect(this.recorder.url);
  }

  stop() {
    this.admin?.stop();
    this.recorder?.stop();
    this.program?.kill();
    this.place?.remove();
    this.person?.remove();
  }
}

async function connect(url) {
  const hellos = [];
  const client = new GatewayClient({ url, token: TOKEN, onHelloOk: (hello) => hellos.push(hello) });
  client.start();
  await eventually("hello-ok", () => hellos[0]);
  return client;
}

describe("commands that change something", { concurrency: RELEASES.length }, () => {
  for (const release of RELEASES) changes(release);
});

/** The tests of one release. */
function changes(release) {
  describe(`openclaw ${release.version} changes things`, { concurrency: 1 }, () => {
    let setting;
    let removed;

    after(() => setting?.stop());

    test("an event for the agent waits in its queue", async () => {
      setting = await Setting.of(release);
      await setting.run("system", "event", "--text", "a word from the terminal", "--mode", "next-heartbeat");
      const { queuedSystemEvents } = await setting.admin.request("status", {});
      assert.deepEqual(queuedSystemEvents, ["a word from the terminal"]);
      assert.equal((await setting.json("system", "heartbeat", "disable")).enabled, false);
    });

    test("rules for commands are set and added to", async () => {
      const rules = { version: 1, defaults: { security: "allowlist", ask: "always" }, agents: {} };
      const file = join(setting.person.home, "rules.json");
      writeFileSync(file, JSON.stringify(rules));
      await setting.run("approvals", "set", "--gateway", "--file", file);
      assert.equal((await setting.admin.request("exec.approvals.get", {})).file.defaults.security, "allowlist");
      const patterns = async () => {
        const { agents } = (await setting.admin.request("exec.approvals.get", {})).file;
        return (agents.main?.allowlist ?? []).map(({ pattern }) => pattern);
      };
      await setting.run("approvals", "allowlist", "add", "--gateway", "--agent", "main", "/usr/bin/uname");
      await setting.run("approvals", "allowlist", "add", "--gateway", "--agent", "main", "/usr/bin/uptime");
      assert.deepEqual(await patterns(), ["/usr/bin/uname", "/usr/bin/uptime"]);
      await setting.run("approvals", "allowlist", "remove", "--gateway", "--agent", "main", "/usr/bin/uptime");
      assert.deepEqual(await patterns(), ["/usr/bin/uname"]);
    });

    test("a device is approved, gets another token, and loses it", async () => {
      const { device, request } = await setting.pending("phone");
      const listed = await setting.json("devices", "list");
      assert.ok(listed.pending.some(({ requestId }) => requestId === request), JSON.stringify(listed));
      await setting.run("devices", "approve", request);
      const scope = ["--role", "operator", "--device", device.id];
      const shared = { auth: { token: TOKEN }, scopes: ["operator.read"] };
      let phone = await device.connect(setting.recorder.url, shared);
      const auth = { deviceToken: phone.hello.auth.deviceToken };
      const byToken = () => device.connect(setting.recorder.url, { auth, scopes: ["operator.read"] });
      assert.equal((await (await byToken()).ask("health")).ok, true);
      await setting.json("devices", "rotate", ...scope, "--scope", "operator.read");
      assert.equal((await byToken()).error.details.code, "AUTH_DEVICE_TOKEN_MISMATCH", "it has another token now");
      phone = await device.connect(setting.recorder.url, shared);
      auth.deviceToken = phone.hello.auth.deviceToken;
      await setting.run("devices", "revoke", ...scope);
      await assert.rejects(phone.event("none"), /ended/, "it is put out at once");
      assert.equal((await byToken()).error.details.code, "AUTH_DEVICE_TOKEN_MISMATCH", "it has none now");
      if (release.protocol === 4) {
        await setting.run("devices", "rename", "--device", device.id, "--name", "Ada's phone");
        const { paired } = await setting.admin.request("device.pair.list", {});
        assert.equal(paired.find(({ deviceId }) => deviceId === device.id).label, "Ada's phone");
      }
      await setting.run("devices", "remove", device.id);
      removed = device.id;
      const refused = await setting.pending("stranger");
      await setting.run("devices", "reject", refused.request);
      const { pending, paired } = await setting.admin.request("device.pair.list", {});
      assert.deepEqual(pending, []);
      assert.ok(!paired.some(({ deviceId }) => deviceId === removed), JSON.stringify(paired));
    });

    test("a node is approved, renamed, and does what it is asked to", async () => {
      const device = new Device("bench");
      const more = { commands: ["system.which"], caps: ["system"] };
      const wish = { auth: { token: TOKEN }, role: "node", more };
      let node = await device.connect(setting.recorder.url, wish);
      assert.equal(node.error, undefined, JSON.stringify(node.error));
      const pending = await eventually("the node waits", async () => {
        return (await setting.admin.request("node.pair.list", {})).pending[0];
      });
      if (release.protocol === 4) await setting.run("nodes", "approve", pending.requestId);
      else await setting.admin.request("node.pair.approve", { requestId: pending.requestId });
      await setting.run("nodes", "rename", "--node", device.id, "--name", "workbench");
      const nodes = async () => (await setting.admin.request("node.list", {})).nodes;
      assert.equal((await nodes()).find(({ nodeId }) => nodeId === device.id).displayName, "workbench");
      await eventually("its command is known", async () => (await nodes())[0].commands.includes("system.which"));
      const asked = node.event("node.invoke.request").then(({ payload }) => {
        const { id, nodeId } = payload;
        return node.ask("node.invoke.result", { id, nodeId, ok: true, payloadJSON: `{"bins":{"sh":"/bin/sh"}}` });
      });
      const given = ["--node", "workbench", "--command", "system.which", "--params", `{"bins":["sh"]}`];
      const answer = await setting.json("nodes", "invoke", ...given);
      assert.equal((await asked).ok, true);
      assert.equal(answer.payload.bins.sh, "/bin/sh", JSON.stringify(answer));
      node.close();
    });

    test("a session is named, and gone when it is deleted", async () => {
      await setting.call("sessions.patch", { key: SESSION, label: "The quarter" });
      await setting.call("sessions.patch", { key: "agent:main:old", label: "Old plans" });
      const keys = async () => (await setting.admin.request("sessions.list", {})).sessions.map(({ key }) => key);
      assert.ok((await keys()).includes("agent:main:old"));
      if (release.protocol === 4) await setting.run("sessions", "delete", "agent:main:old", "--yes");
      else await setting.call("sessions.delete", { key: "agent:main:old" });
      assert.ok(!(await keys()).includes("agent:main:old"));
    });

    test("the configuration of the gateway is changed", async () => {
      const { hash } = await setting.call("config.get", {});
      const raw = JSON.stringify({ logging: { level: "debug" } });
      await setting.call("config.patch", { raw, ...(hash ? { baseHash: hash } : {}) });
      assert.equal((await setting.admin.request("config.get", {})).config.logging.level, "debug");
    });

    test("its own configuration is changed", async () => {
      await setting.run("config", "set", "gateway.remote.url", "ws://127.0.0.1:9");
      assert.match(await setting.run("config", "get", "gateway.remote.url"), /ws:\/\/127\.0\.0\.1:9/);
      const file = readFileSync(join(setting.person.home, ".openclaw/openclaw.json"), "utf8");
      assert.match(file, /ws:\/\/127\.0\.0\.1:9/);
      await setting.run("config", "unset", "gateway.remote.url");
    });

    test("all of it is still so after the gateway was started anew", async () => {
      await setting.restart();
      const { admin } = setting;
      const { file } = await admin.request("exec.approvals.get", {});
      assert.equal(file.agents.main.allowlist[0].pattern, "/usr/bin/uname");
      const { sessions } = await admin.request("sessions.list", {});
      assert.deepEqual(sessions.filter(({ key }) => /quarter|old/.test(key)).map(({ label }) => label), ["The quarter"]);
      assert.equal((await admin.request("config.get", {})).config.logging.level, "debug");
      const { paired } = await admin.request("device.pair.list", {});
      assert.ok(!paired.some(({ deviceId }) => deviceId === removed));
      const { nodes } = await admin.request("node.list", {});
      assert.deepEqual(nodes.map(({ displayName }) => displayName), ["workbench"]);
      assert.deepEqual((await admin.request("status", {})).queuedSystemEvents, ["a word from the terminal"]);
    });

    test("every frame the gateway sent is what the protocol says", () => {
      const { problems, shapes } = check(setting.recorder.connections);
      assert.deepEqual(problems, []);
      const expected = { 3: "v3 result device.pair.approve", 4: "v4 DeviceTokenRotateResult" };
      assert.ok(shapes.includes(expected[release.protocol]), shapes.join());
    });
  });
}
