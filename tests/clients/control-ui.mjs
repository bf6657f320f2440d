// OpenClaw's Control UI, unchanged, in a real browser on the real gateway: every page that the UI offers opens. What is common
// to its generations; each has a file of its own, so that they run side by side.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Watched, launch } from "./browser.mjs";
import { Device } from "./device.mjs";
import { check } from "./frames.mjs";
import { Place, eventually } from "./leanclaw.mjs";
import { Recorder } from "./recorder.mjs";

const TOKEN = "t0ken-of-the-page";

/** What a page asks for and LeanClaw does not have; the page says nothing of it. */
const NOT_HERE = new Map([
  ["talk.catalog", "LeanClaw does not speak"],
]);

/** What is fetched and need not be there: OpenClaw's own gateway answers 404 as well, and the page draws a letter. */
const OPTIONAL = /\/__openclaw__\/workspace-icon\//;

/** What looks like an error and is the truth. */
const TRUTHS = [
  { text: /Scheduler disabled/, why: "there is no scheduler" },
  { text: /No AI provider configured|Connect a provider/, why: "no key for a model is set here" },
  { text: /^(error|fatal)$/i, why: "the name of a filter for log lines" },
  { text: /Channel config schema unavailable/, why: "channels are set up by their plugins" },
];

const isTrue = (banner) => TRUTHS.some(({ text }) => text.test(banner));

/** From where the links to the pages are read, and what must be among them, lest the search find nothing. */
const OFFERED = {
  3: {
    "/chat": ["/overview", "/channels", "/instances", "/sessions", "/usage", "/cron", "/agents", "/skills", "/nodes"],
  },
  4: {
    "/chat": ["/agents", "/dashboards", "/systems", "/automations", "/plugins"],
    "/settings/appearance": ["/settings/profile", "/settings/channels", "/settings/devices", "/settings/about", "/logs"],
  },
};

/** Answers and events that the pages cannot have done without. */
const CHECKED = {
  3: ["event connect.challenge", "result config.get", "result logs.tail", "result sessions.list", "result sessions.patch"],
  4: ["ChallengeEvent", "LogsTailResult", "PluginsListResult"],
};

/** The tests of one release. */
export function testControlUi(release) {
  describe(`the Control UI of ${release.version}`, () => {
    let place;
    let program;
    let recorder;
    let browser;
    let watched;

    before(async () => {
      place = new Place("feed-reader", "notes", "text-stats", "units", "webhook-channel");
      const root = join(release.installation, "node_modules/openclaw/dist/control-ui");
      program = await place.start({ token: TOKEN, environment: { LEANCLAW_CONTROL_UI_ROOT: root } });
      recorder = await new Recorder().start(program.port);
      const environment = { LEANCLAW_GATEWAY_API_KEY: TOKEN };
      await place.run(["plugin", "grant", "notes", "--all", "--yes"], environment);
      for (const [key, label] of [["main", "Home"], ["agent:main:garden", "Plans for the garden"]]) {
        await place.run(["call", "sessions.patch", JSON.stringify({ key, label })], environment);
      }
      browser = await launch();
      watched = await Watched.open(browser);
    });

    after(async () => {
      await browser?.close();
      recorder?.stop();
      program?.kill();
      place?.remove();
    });

    const at = (path) => `http://127.0.0.1:${recorder.port}${path}`;

    /** The page that is open shows no error, and nothing went wrong behind it. */
    async function fine(path) {
      const { troubles: all, refusals } = watched.take();
      const troubles = all.filter((trouble) => !OPTIONAL.test(trouble));
      const banners = await watched.banners();
      const untrue = banners.filter((banner) => !isTrue(banner));
      const unknown = refusals.filter(({ method }) => !NOT_HERE.has(method));
      assert.deepEqual({ path, troubles, refusals: unknown, banners: untrue }, { path, troubles: [], refusals: [], banners: [] });
    }

    test("it signs in with the token in its address, which it then hides", async () => {
      await watched.load(at(`/#token=${TOKEN}`));
      await eventually("the page is past its login", async () => new URL(watched.page.url()).pathname.startsWith("/chat"));
      await watched.settled();
      await watched.picture(release.version, "home");
      assert.doesNotMatch(watched.page.url(), /token/);
      assert.match(await watched.text(), release.protocol === 4 ? /Plans for the garden/ : /Ready to chat/);
      await fine("/chat");
    });

    test("every page it offers opens", async () => {
      const paths = new Set();
      for (const [start, expected] of Object.entries(OFFERED[release.protocol])) {
        await watched.load(at(start));
        await eventually(`the links ${expected} on ${start}`, async () => {
          for (const { path } of await watched.links()) paths.add(path);
          return expected.every((path) => paths.has(path));
        });
      }
      const problems = [];
      for (const path of paths) {
        await watched.visit(path, at(path));
        await watched.picture(release.version, path);
        await fine(path).catch((error) => problems.push(error.actual ?? error));
      }
      assert.deepEqual(problems, []);
    });

    test("what the gateway holds is on the pages", async () => {
      const shows = async (path, ...texts) => {
        await watched.load(at(path));
        for (const text of texts) {
          await eventually(`${text} on ${path}`, async () => (await watched.text()).includes(text));
        }
      };
      await shows("/sessions", "garden");
      await shows("/logs", "a client connected");
      if (release.protocol === 3) await shows("/instances", "openclaw-control-ui");
      watched.take();
    });

    test("a place of the page can be opened by its address", async () => {
      const path = release.protocol === 4 ? "/settings/about" : "/sessions";
      await watched.load(at(path));
      assert.equal(new URL(watched.page.url()).pathname, path);
      await fine(path);
    });

    /** Changes the name of the session of the garden, as a person does. */
    const rename = {
      3: async (name) => {
        await watched.load(at("/sessions"));
        await watched.fill({ value: "Plans for the garden" }, name);
      },
      4: async (name) => {
        await watched.load(at("/chat"));
        await watched.click({ label: "Open session menu: Plans for the garden" });
        // There are no people with profiles of their own, and the page says that nobody can be assigned.
        await watched.off("Assign to…");
        await watched.click({ kind: "wa-dropdown-item", value: "rename" });
        await watched.fill({ value: "Plans for the garden" }, name);
        await watched.click({ text: "Save" });
      },
    };

    /** Changes a setting in the form: the page, and how the changed configuration is told. */
    const configure = {
      3: async () => {
        await watched.load(at("/config"));
        const level = await watched.control({ kind: "select", value: "__unset__" });
        await level.focus();
        await watched.page.keyboard.type("debug");
        await watched.page.keyboard.press("Tab");
        await watched.click({ text: "Save" });
        return ["/config", ({ logging }) => logging?.level === "debug"];
      },
      4: async () => {
        await watched.load(at("/settings/advanced"));
        await watched.fill({ label: "Max rows" }, "2000");
        return ["/settings/advanced", ({ audit }) => audit?.maxRows === 2000];
      },
    };

    test("what a person changes on a page is changed in the gateway", async () => {
      const environment = { LEANCLAW_GATEWAY_API_KEY: TOKEN };
      const ask = async (method) => JSON.parse(await place.run(["call", method, "{}"], environment));

      await rename[release.protocol]("Plans for the roses");
      await eventually("the session has another name", async () => {
        return (await ask("sessions.list")).sessions.some(({ label }) => label === "Plans for the roses");
      });
      await watched.settled();
      await fine("the page of the session");

      const [path, changed] = await configure[release.protocol]();
      await eventually("the setting has another value", async () => changed((await ask("config.get")).config));
      await watched.settled();
      await watched.picture(release.version, "changed");
      assert.doesNotMatch(await watched.text(), /Custom entries/, "no known setting is offered a second time");
      await fine(path);

      const phone = new Device("phone");
      const origin = at("").replace(/\/$/, "");
      const wish = { auth: { token: TOKEN }, scopes: ["operator.read"], origin };
      assert.equal((await phone.connect(recorder.url, wish)).error.details.code, "PAIRING_REQUIRED");
      const devices = release.protocol === 4 ? "/settings/devices" : "/nodes";
      await watched.load(at(devices));
      await watched.click({ text: "Approve" });
      await eventually("the device is paired", async () => {
        return (await ask("device.pair.list")).paired.some(({ deviceId }) => deviceId === phone.id);
      });
      assert.ok((await phone.connect(recorder.url, wish)).hello, "it is let in");
      await watched.settled();
      await fine(devices);
    });

    test("it is connected again after the gateway was started anew", async () => {
      await program.stop();
      const root = join(release.installation, "node_modules/openclaw/dist/control-ui");
      program = await place.start({ port: program.port, token: TOKEN, environment: { LEANCLAW_CONTROL_UI_ROOT: root } });
      const before = watched.calls;
      await eventually("the page calls again", () => watched.calls > before);
      // It may load itself anew; when it has, nothing is left of what it said while the gateway was away.
      await eventually("the page shows no error", async () => {
        await watched.settled();
        watched.take();
        return (await watched.banners().catch(() => ["it loads"])).every(isTrue);
      });
    });

    test("every frame the gateway sent is what the protocol says", () => {
      const { problems, shapes } = check(recorder.connections);
      assert.deepEqual(problems, []);
      // How many frames there were depends on the page; that there were some of each kind is what makes this a check.
      for (const shape of ["HelloOk", "ResponseFrame", "EventFrame", ...CHECKED[release.protocol]]) {
        assert.ok(shapes.includes(`v${release.protocol} ${shape}`), `${shape} is not among ${shapes.join()}`);
      }
    });
  });
}
