// The real program with an agent that answers: its component, two files in its workspace, and a scripted stand-in in place of a
// model. Where the component and the stand-in lie is told by `cargo xtask test clients`; without that, they are looked for in the
// target folder.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Place } from "./leanclaw.mjs";

const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, "../../target");
const component = process.env.LEANCLAW_AGENT ?? join(target, "agent/leanclaw-agent.wasm");
const fakeModel = process.env.LEANCLAW_TEST_FAKE_MODEL ?? join(target, "debug/fake-model");

/** What the agent finds in its workspace. */
const FILES = { "notes.md": "Buy milk.\n", "plan.txt": "Ship on Friday.\n" };

/** What makes the stand-in use the agent's tools, and what it says once it has. */
export const QUESTION = "Which files are in your workspace?";
export const FOUND = /There are 2 files in the workspace/;

/** A program whose agent answers. */
export class Answering {
  /** Starts it. `environment` is further settings. */
  static async start({ token, environment }) {
    const answering = new Answering();
    answering.model = spawn(fakeModel, ["--while", String(process.pid)], { stdio: ["ignore", "pipe", "inherit"] });
    const [url] = await once(createInterface(answering.model.stdout), "line");
    answering.place = new Place();
    const data = join(answering.place.folder, "data");
    mkdirSync(data, { mode: 0o700 });
    const workspace = join(data, "agents/main/workspace");
    mkdirSync(workspace, { recursive: true });
    for (const [name, text] of Object.entries(FILES)) writeFileSync(join(workspace, name), text);
    const settings = { LEANCLAW_ANTHROPIC_API_KEY: "fake", LEANCLAW_ANTHROPIC_BASE_URL: url, LEANCLAW_AGENT: component };
    answering.program = await answering.place.start({ token, environment: { ...settings, ...environment } });
    return answering;
  }

  get port() {
    return this.program.port;
  }

  stop() {
    this.program?.kill();
    this.model?.kill();
    this.place?.remove();
  }
}
