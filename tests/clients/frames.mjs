// Holds every frame that the gateway sent to what its clients are built on: for version 4 the published schema, for version 3
// the closed shapes that the clients of that time check.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import * as protocol from "@openclaw/gateway-protocol";
import Schema from "typebox/schema";

import { shape } from "./shapes.mjs";

/** The published schema, and those shapes that the same package has in its code only. */
const published = {
  ...Object.fromEntries(
    Object.entries(protocol).flatMap(([name, shape]) => (name.endsWith("Schema") ? [[name.slice(0, -6), shape]] : [])),
  ),
  ...JSON.parse(
    readFileSync(join(import.meta.dirname, "node_modules/@openclaw/gateway-protocol/protocol.schema.json"), "utf8"),
  ).definitions,
};

const text = { type: "string", minLength: 1 };
const words = { type: "array", items: text };
const count = { type: "integer", minimum: 0 };
/** A closed object; a name that ends in `?` is optional. */
function closed(properties) {
  const entries = Object.entries(properties);
  return {
    type: "object",
    required: entries.map(([name]) => name).filter((name) => !name.endsWith("?")),
    properties: Object.fromEntries(entries.map(([name, shape]) => [name.replace("?", ""), shape])),
    additionalProperties: false,
  };
}

const stateVersion = closed({ presence: count, health: count });
const presenceEntry = closed({
  "host?": text, "ip?": text, "version?": text, "platform?": text, "deviceFamily?": text, "modelIdentifier?": text,
  "mode?": text, "lastInputSeconds?": count, "reason?": text, "tags?": words, "text?": { type: "string" }, ts: count,
  "deviceId?": text, "roles?": words, "scopes?": words, "instanceId?": text,
});

const facts = (name) => JSON.parse(readFileSync(join(import.meta.dirname, "../data", name), "utf8"));
/** What results and events of version 3 were seen to be made of, by method and by event. */
const seen = facts("shapes-v3.json");
const named = (kind, shapes) => Object.entries(shapes).map(([name, text]) => [`${kind} ${name}`, shape(text)]);

/** The shapes of version 3: of frames under the names that the schema of version 4 has for them. */
const older = {
  ...Object.fromEntries([...named("result", seen.results), ...named("event", seen.events)]),
  ResponseFrame: closed({
    type: { const: "res" }, id: text, ok: { type: "boolean" }, "payload?": {},
    "error?": closed({
      code: text, message: text, "details?": {}, "retryable?": { type: "boolean" }, "retryAfterMs?": count,
    }),
  }),
  EventFrame: closed({
    type: { const: "event" }, event: text, "payload?": {}, "seq?": count, "stateVersion?": stateVersion,
  }),
  HelloOk: closed({
    type: { const: "hello-ok" },
    protocol: { const: 3 },
    server: closed({ version: text, connId: text }),
    features: closed({ methods: words, events: words }),
    snapshot: closed({
      presence: { type: "array", items: presenceEntry }, health: { type: "object" }, stateVersion, uptimeMs: count,
      "configPath?": text, "stateDir?": text,
      "sessionDefaults?": closed({ defaultAgentId: text, mainKey: text, mainSessionKey: text, "scope?": text }),
      "authMode?": { enum: ["none", "token", "password", "trusted-proxy"] },
      "updateAvailable?": { type: "object", required: ["currentVersion", "latestVersion", "channel"] },
    }),
    "canvasHostUrl?": text,
    "auth?": closed({ deviceToken: text, role: text, scopes: words, "issuedAtMs?": count }),
    policy: closed({
      maxPayload: { ...count, minimum: 1 }, maxBufferedBytes: { ...count, minimum: 1 },
      tickIntervalMs: { ...count, minimum: 1 },
    }),
  }),
};

const capitals = (name) => name.replace(/(^|[.-])(\w)/g, (_, __, letter) => letter.toUpperCase());
/** Shapes of version 4 that the published schema leaves open. */
const newer = {
  ...Object.fromEntries(
    Object.entries(facts("shapes-v4.json").results).map(([method, text]) => [`${capitals(method)}Result`, shape(text)]),
  ),
  SessionsListResult: { type: "object", required: ["sessions"], properties: { sessions: { type: "array", items: published.SessionRow } } },
  SessionsDescribeResult: { type: "object", required: ["session"], properties: { session: { anyOf: [published.SessionRow, { type: "null" }] } } },
  SessionsChangedEvent: { type: "object", properties: { session: published.SessionRow } },
  SessionMessageEvent: { type: "object", required: ["session"], properties: { session: published.SessionRow } },
  SystemPresenceResult: { type: "array", items: published.PresenceEntry },
  PresenceEvent: closed({ presence: { type: "array", items: published.PresenceEntry } }),
  ChallengeEvent: closed({ nonce: text, ts: count, "capabilities?": words }),
};

/** Results whose published schema does not have the name of their method. */
const RESULTS = {
  "agent.identity.get": "AgentIdentityResult",
  "board.get": "BoardSnapshot",
  "config.schema": "ConfigSchemaResponse",
  "exec.approvals.get": "ExecApprovalsSnapshot",
  "exec.approvals.node.get": "ExecApprovalsNodeSnapshot",
  "exec.approvals.node.set": "ExecApprovalsNodeSnapshot",
  "exec.approvals.set": "ExecApprovalsSnapshot",
  "sessions.groups.delete": "SessionsGroupsMutationResult",
  "sessions.groups.put": "SessionsGroupsMutationResult",
  "sessions.groups.rename": "SessionsGroupsMutationResult",
  "sessions.viewers.set": "SessionsViewerPresenceSetResult",
  "tools.github.status": "ToolsGitHubStatusResult",
};
/** What is answered to whoever says where it has read to. */
const SINCE = { "chat.history": "ChatHistoryCursorResult" };
/** The gateway's own methods, and of those the ones that nobody has published the shape of a result for. */
const OWN = ["method-tests.json", "methods-answer-empty.json"].flatMap((name) => Object.keys(facts(name)));
const SHAPELESS = new Set(Object.values(facts("shapes-v4.json").shapeless).flat());
/** What release 2026.9.6 sends and the schema, which is older, does not know yet. */
const NEWER = { "channels.status": ["statusIssues"], "plugins.list": ["generation"] };
const NEWER_IN_EVENTS = { agent: ["sessionKey", "agentId", "sessionId"] };
/** What LeanClaw says to version 4 besides: how a plugin stands. */
const ADDED = { "plugins.inspect": ["leanclaw"] };
/** What LeanClaw says to version 3 besides: what the next write has to name, and what counts only after a restart. */
const BESIDES = seen.besides;
const EVENTS = { "connect.challenge": "ChallengeEvent" };
const VERSIONED = new Set(["presence", "health"]);
/** Requests that are answered twice: that they were taken, and how they ended. */
const TWICE = new Set(["agent", "exec.approval.request"]);
/** Requests of which version 4 is told that they failed and what is known of them besides. */
const BOTH = new Set(["chat.send"]);

const nameOf = (method) => RESULTS[method] ?? `${capitals(method)}Result`;
const hasShape = (method) => nameOf(method) in published || nameOf(method) in newer;

/** What is wrong with the list of methods without a shape: each of the gateway's own has one or is listed, and none is both. */
export function shapelessProblems() {
  return [
    ...OWN.filter((method) => !hasShape(method) && !SHAPELESS.has(method)).map((method) => `${method} has no shape`),
    ...[...SHAPELESS].filter(hasShape).map((method) => `${method} has a shape`),
    ...[...SHAPELESS].filter((method) => !OWN.includes(method)).map((method) => `${method} is no method`),
  ];
}

const without = (fields, names) => Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));

/** One connection as it is read again, frame by frame. */
class Reading {
  constructor(connection) {
    this.connection = connection;
    this.open = new Map();
    this.seq = 0;
    this.problems = [];
    this.surprises = [];
    this.answered = new Set();
    this.used = new Set();
  }

  get shapes() {
    return this.version === 3 ? older : { ...published, ...newer };
  }

  /** Notes what is wrong with `value` as the shape of that name; nothing when there is no such shape. */
  fits(name, value, what) {
    const shape = this.shapes[name];
    if (!shape) return;
    this.used.add(`v${this.version} ${name}`);
    const [fine, errors] = Schema.Errors(shape, value);
    if (fine) return;
    const list = errors.map((error) => `${error.instancePath || "/"} ${error.message} ${JSON.stringify(error.params)}`);
    this.problems.push(`v${this.version} ${what}: ${list.slice(0, 5).join("; ")} in ${JSON.stringify(value).slice(0, 600)}`);
  }

  blame(what, frame) {
    this.problems.push(`v${this.version} ${what}: ${JSON.stringify(frame).slice(0, 600)}`);
  }

  /** Notes a name that this connection was not told of. */
  wonder(kind, name) {
    this.surprises.push({ name: `v${this.version} ${kind} ${name}`, what: `v${this.version} ${kind} ${name} was not announced` });
  }

  /** What this connection was told of. */
  get announced() {
    const { methods = [], events = [] } = this.hello?.features ?? {};
    const of = (kind, names) => names.map((name) => `v${this.version} ${kind} ${name}`);
    return [...of("method", methods), ...of("event", events)];
  }

  read() {
    if (/^sec-websocket-extensions:/im.test(this.connection.head)) this.blame("an extension was agreed on", {});
    this.version = this.#wanted();
    for (const said of this.connection.said) {
      if (said.close) continue;
      if (said.from === "client") this.#request(said);
      else this.#frame(said);
    }
    return this;
  }

  /** The version that the client asks for in its first request. */
  #wanted() {
    const first = this.connection.said.find((said) => said.from === "client" && said.text?.includes('"connect"'));
    return JSON.parse(first?.text ?? "{}").params?.maxProtocol === 3 ? 3 : 4;
  }

  #request({ text, wrong }) {
    // Whoever says what is no request gets answers to that as well.
    if (wrong) return (this.wrong = true);
    const { id, method, params } = JSON.parse(text);
    const before = this.open.get(id);
    const waiting = before ? Math.max(before.times - before.answers, 0) : 0;
    this.open.set(id, { method, params, times: waiting + 1, answers: 0 });
  }

  #frame({ text, binary }) {
    if (binary !== undefined) return this.blame("a binary frame", binary);
    const frame = JSON.parse(text);
    if (frame.type === "res") return this.#response(frame);
    this.fits("EventFrame", frame, "a frame");
    if (frame.type === "event") this.#event(frame);
  }

  #response(frame) {
    const asked = this.open.get(frame.id);
    // What was no request gets its id back as it was, a number or empty too.
    this.fits("ResponseFrame", asked || !this.wrong ? frame : { ...frame, id: "as it was" }, "a response");
    if (!asked) return this.wrong || this.blame("a response that nobody asked for", frame);
    asked.answers += 1;
    this.answered.add(`v${this.version} ${asked.method}`);
    if (asked.answers > asked.times * (TWICE.has(asked.method) ? 2 : 1)) this.blame("a request was answered again", frame);
    const isBoth = this.version === 4 && !frame.ok && BOTH.has(asked.method);
    if (frame.ok === (frame.error !== undefined) || (frame.ok !== "payload" in frame && !isBoth)) {
      this.blame("a response is an answer or an error", frame);
    }
    if (!frame.ok) return;
    if (asked.method === "connect") return this.#hello(frame.payload);
    if (!this.hello?.features.methods.includes(asked.method)) this.wonder("method", asked.method);
    let { payload } = frame;
    const besides = this.version === 4 ? [NEWER, ADDED] : [BESIDES];
    const more = besides.flatMap((names) => names[asked.method] ?? []);
    if (more.length > 0) payload = without(payload, more);
    // Who asks for LeanClaw's own view of each plugin knows what that is.
    if (asked.method === "plugins.list" && asked.params?.leanclaw === true) {
      payload = { ...payload, plugins: payload.plugins.map((row) => without(row, ["leanclaw"])) };
    }
    const what = `the result of ${asked.method}`;
    if (this.version === 3) return this.fits(`result ${asked.method}`, payload, what);
    const since = typeof asked.params?.cursor === "string" && SINCE[asked.method];
    this.fits(since || nameOf(asked.method), payload, what);
    const isKnown = hasShape(asked.method) || SHAPELESS.has(asked.method) || !OWN.includes(asked.method);
    if (!isKnown) this.blame(`${what} is held to nothing`, payload);
  }

  #hello(hello) {
    this.hello = hello;
    if (hello.protocol !== this.version) this.blame("another version than asked for", hello);
    if (this.version === 3) return this.fits("HelloOk", hello, "hello-ok");
    // Newer gateways also say how the client proved itself; this release of the schema does not know that yet.
    const { method, ...auth } = hello.auth;
    if (typeof method !== "string") this.blame("hello-ok does not say how the client proved itself", hello.auth);
    this.fits("HelloOk", { ...hello, auth }, "hello-ok");
  }

  #event(frame) {
    const name = EVENTS[frame.event] ?? `${capitals(frame.event)}Event`;
    const payload = this.version === 4 ? without(frame.payload, NEWER_IN_EVENTS[frame.event] ?? []) : frame.payload;
    this.fits(this.version === 3 ? `event ${frame.event}` : name, payload, `the event ${frame.event}`);
    if (frame.event === "connect.challenge") return;
    if (!this.hello) return this.blame("an event before hello-ok", frame);
    if (!this.hello.features.events.includes(frame.event)) this.wonder("event", frame.event);
    if ("stateVersion" in frame !== VERSIONED.has(frame.event)) this.blame("stateVersion where it does not belong", frame);
    if (frame.seq === undefined) return;
    this.seq += 1;
    if (frame.seq !== this.seq) this.blame(`seq ${this.seq} was due`, frame);
  }
}

/**
 * Reads a whole record: which methods were answered, what is wrong with the frames, which shapes they were held to. Where
 * plugins come and go while somebody is connected, a name counts as announced when anybody of that version was told of it.
 */
export function check(connections, { pluginsChange = false } = {}) {
  const readings = connections.map((connection) => new Reading(connection).read());
  const announced = new Set(pluginsChange ? readings.flatMap((reading) => reading.announced) : []);
  const surprises = readings.flatMap((reading) => reading.surprises).filter(({ name }) => !announced.has(name));
  return {
    problems: [...readings.flatMap((reading) => reading.problems), ...surprises.map(({ what }) => what)],
    answered: [...new Set(readings.flatMap((reading) => [...reading.answered]))].sort(),
    shapes: [...new Set(readings.flatMap((reading) => [...reading.used]))].sort(),
  };
}
