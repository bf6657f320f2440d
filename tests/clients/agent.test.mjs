// Agents as people with OpenClaw's own clients meet them, of both generations and unchanged: one conversation that begins on the
// command line, goes on in the terminal and in the browser, and is heard by a program built on the gateway's client.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Answering, FOUND, QUESTION } from "./agents.mjs";
import { Watched, launch } from "./browser.mjs";
import { check } from "./frames.mjs";
import { eventually } from "./leanclaw.mjs";
import { OpenClaw, RELEASES } from "./openclaw.mjs";
import { Recorder } from "./recorder.mjs";
import { Screen } from "./screen.mjs";

const TOKEN = "t0ken-of-the-test";
const SESSION = "agent:main:main";

/** What a terminal shows when the gateway refuses something, or an agent has no answer. */
const TROUBLE = /error|failed|unknown method|missing scope/i;

/** How a page says that the agent listed files and read two. */
const TOOLS = { 3: /Glob with \*/g, 4: /2 reads · 1 search/g };

/** What a page asks for and LeanClaw does not have; it shows no error for it. */
const NOT_HERE = new Set(["talk.catalog"]);

/** Where the picture in the README lies; `LEANCLAW_TEST_PICTURE=1` has it taken anew. */
const README_PICTURE = join(import.meta.dirname, "pictures/control-ui.png");

/** What the stand-in says to words that ask for nothing. */
const echo = (words) => `which was “${words}”`;

const times = (text, pattern) => [...text.matchAll(pattern)].length;

for (const release of RELEASES) {
  describe(`an agent and openclaw ${release.version}`, { concurrency: 1 }, () => {
    let answering;
    let recorder;
    let person;
    let browser;
    let screen;
    let client;

    before(async () => {
      const root = join(release.installation, "node_modules/openclaw/dist/control-ui");
      answering = await Answering.start({ token: TOKEN, environment: { LEANCLAW_CONTROL_UI_ROOT: root } });
      recorder = await new Recorder().start(answering.port);
      person = new OpenClaw(release, { port: recorder.port, token: TOKEN });
      person.configure("openclaw", { plugins: { enabled: false } });
    });

    after(async () => {
      client?.stop();
      screen?.kill();
      await browser?.close();
      recorder?.stop();
      answering?.stop();
      person?.remove();
    });

    /** What `openclaw agent` prints. */
    async function said(...args) {
      const { status, out, err } = await person.run(["agent", ...args]);
      assert.equal(status, 0, `exit status ${status}\n${out}\n${err}`.slice(0, 4000));
      return out;
    }

    test("the command line prints the answer", async () => {
      const out = await said("--agent", "main", "--message", QUESTION);
      assert.match(out, FOUND);
      assert.match(out, /`notes\.md` begins with “Buy milk\.”/);
      const answer = await said("--session-id", "of-a-script", "--message", "Hello", "--json");
      const { status, result } = JSON.parse(answer.slice(answer.search(/^\{/m)));
      assert.equal(status, "ok");
      assert.ok(result.payloads[0].text.includes(echo("Hello")), answer);
      assert.equal(result.meta.agentMeta.model, "scripted-stand-in");
    });

    test("the terminal goes on with the session, shows the answer as it comes, and ends one", async () => {
      screen = new Screen(person.command(["tui"]));
      await screen.shows(/connected/);
      await screen.shows(FOUND);
      screen.type("from the terminal");
      await screen.shows(/from the terminal\s+I am[^]*streaming/);
      await screen.shows(/“from the +terminal”[^]*connected \| idle/);
      screen.type("too long");
      await screen.shows(/too long\s+I am[^]*streaming/);
      await screen.press("\u001b");
      await screen.shows(/run aborted[^]*connected \| aborted/);
      assert.doesNotMatch(screen.text(), /“too long”/);
      assert.doesNotMatch(screen.text(), TROUBLE);
      screen.type("/quit");
      assert.equal(await screen.ends(), 0);
    });

    test("the page shows the conversation, takes a message, and shows tools and answer, also when it is loaded anew", async () => {
      browser = await launch();
      const watched = await Watched.open(browser);
      const shows = (what) => eventually(`${what} on the page`, async () => (await watched.text()).includes(what));
      const ask = async (words) => {
        await watched.click({ kind: "textarea" });
        await watched.page.keyboard.type(words);
        await watched.page.keyboard.press("Enter");
      };
      const fine = async (when) => {
        const refusals = watched.take().refusals.filter(({ method }) => !NOT_HERE.has(method));
        assert.deepEqual([when, refusals, await watched.banners()], [when, [], []]);
      };

      await watched.load(`http://127.0.0.1:${recorder.port}/#token=${TOKEN}`);
      await shows(echo("from the terminal"));
      await ask("from the page");
      await shows(echo("from the page"));
      const before = times(await watched.text(), TOOLS[release.protocol]);
      await ask("Which files are there?");
      await eventually("tools on the page", async () => times(await watched.text(), TOOLS[release.protocol]) > before);
      await eventually("the answer on the page", async () => times(await watched.text(), new RegExp(FOUND, "g")) >= 2);
      await watched.settled();
      await watched.picture(release.version, "agent");
      await fine("after the answers");
      if (process.env.LEANCLAW_TEST_PICTURE && release.protocol === 4) {
        await watched.page.setViewport({ width: 1000, height: 560 });
        await watched.settled();
        copyFileSync(await watched.picture(release.version, "readme"), README_PICTURE);
      }

      await watched.page.reload({ waitUntil: "load" });
      for (const words of ["from the terminal", "from the page"]) await shows(echo(words));
      await shows("Which files are there?");
      await watched.settled();
      await watched.picture(release.version, "agent-again");
      await fine("when it was loaded anew");
    });

    test("a program hears the answer come, is known by its key, and ends one", async () => {
      const heard = [];
      const hello = Promise.withResolvers();
      const GatewayClient = await person.gatewayClient();
      client = new GatewayClient({
        url: recorder.url,
        token: TOKEN,
        onHelloOk: hello.resolve,
        onConnectError: hello.reject,
        onEvent: (event) => heard.push(event),
      });
      client.start();
      assert.equal((await hello.promise).protocol, release.protocol);

      const send = (message, idempotencyKey) => client.request("chat.send", { sessionKey: SESSION, message, idempotencyKey });
      const chats = (runId, state) => {
        const own = heard.filter(({ event, payload }) => event === "chat" && payload.runId === runId);
        return own.map(({ payload }) => payload).filter((payload) => payload.state === state);
      };
      const text = ({ message }) => message.content.map((part) => part.text).join("");

      const first = randomUUID();
      assert.equal((await send("from a program", first)).status, "started");
      await eventually("an answer comes", () => chats(first, "delta").length > 1);
      assert.equal((await send("from a program", first)).status, "in_flight");
      const whole = await eventually("its end", () => chats(first, "final")[0]);
      assert.ok(text(whole).includes(echo("from a program")), text(whole));
      const pieces = chats(first, "delta").map(text);
      assert.ok(pieces.every((piece, at) => text(whole).startsWith(piece) && piece.length > (pieces[at - 1] ?? "").length));
      assert.deepEqual([(await send("from a program", first)).status, chats(first, "final").length], ["ok", 1]);

      const second = randomUUID();
      await send("not to its end", second);
      await eventually("an answer comes", () => chats(second, "delta").length > 1);
      const aborted = await client.request("chat.abort", { sessionKey: SESSION, runId: second });
      assert.deepEqual([aborted.aborted, aborted.runIds], [true, [second]]);
      const half = await eventually("its end", () => chats(second, "aborted")[0]);
      assert.equal(half.stopReason, "rpc");
      assert.match(text(half), /^I am/);
      assert.ok(!text(half).includes(echo("not to its end")), text(half));
      assert.equal(chats(second, "final").length, 0);

      const { messages } = await client.request("chat.history", { sessionKey: SESSION, limit: 200 });
      const asked = messages.filter(({ role }) => role === "user").map(({ content }) => content[0].text);
      // Clients put when a message was written before it.
      const expected = [QUESTION, "from the terminal", "too long", "from the page", "Which files are there?"];
      expected.push("from a program", "not to its end");
      assert.equal(asked.length, expected.length, asked.join("\n"));
      for (const [at, words] of expected.entries()) assert.ok(asked[at].endsWith(words), `${asked[at]}: ${words}`);
    });

    test("a session says how full its context is", async () => {
      const { sessions } = await client.request("sessions.list", {});
      const { totalTokens } = sessions.find(({ key }) => key === SESSION);
      const { messages } = await client.request("chat.history", { sessionKey: SESSION, limit: 200 });
      const read = messages.filter(({ usage }) => usage).map(({ usage }) => usage.input);
      assert.ok(read.length > 5 && totalTokens > 0 && totalTokens <= Math.max(...read), `${totalTokens} of ${read}`);
    });

    test("every frame the gateway sent is what the protocol says", () => {
      const { problems, answered, shapes } = check(recorder.connections);
      assert.deepEqual(problems, []);
      for (const method of ["agent", "chat.send", "chat.abort", "chat.history"]) {
        assert.ok(answered.includes(`v${release.protocol} ${method}`), answered.join());
      }
      const events = { 3: ["v3 event agent", "v3 event chat"], 4: ["v4 AgentEvent", "v4 ChatEvent"] };
      for (const shape of events[release.protocol]) assert.ok(shapes.includes(shape), shapes.join());
    });
  });
}
