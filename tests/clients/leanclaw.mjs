// The real program in a folder of its own. Where it and the built plugins lie is told by `cargo xtask test clients`; without
// that, they are looked for in the target folder.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, "../../target");
const binary = process.env.LEANCLAW_TEST_BINARY ?? join(target, "debug/leanclaw");
const plugins = process.env.LEANCLAW_TEST_PLUGINS ?? join(target, "plugins");

const PATIENCE_MS = 60_000;

/** Looks until there is something to see. */
export async function eventually(what, look) {
  const started = Date.now();
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() - started > PATIENCE_MS) throw new Error(`waited ${PATIENCE_MS} ms for this: ${what}`);
    await pause(20);
  }
}

/** Folders for one program, with example plugins in them. */
export class Place {
  constructor(...ids) {
    this.folder = mkdtempSync(join(tmpdir(), "leanclaw-clients-"));
    for (const id of ids) cpSync(join(plugins, id), join(this.folder, "plugins", id), { recursive: true });
  }

  #command(args, stdio, environment = {}) {
    const env = {
      PATH: process.env.PATH,
      HOME: join(this.folder, "home"),
      LEANCLAW_DATA_DIR: join(this.folder, "data"),
      LEANCLAW_PLUGIN_DIR: join(this.folder, "plugins"),
      ...environment,
    };
    return spawn(binary, args, { cwd: this.folder, env, stdio });
  }

  /** Runs a command to its end, with something to read where that is given; what it printed. */
  async run(args, environment, input) {
    const child = this.#command(args, [input === undefined ? "ignore" : "pipe", "pipe", "inherit"], environment);
    child.stdin?.end(input);
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
    const [status] = await once(child, "close");
    if (status !== 0) throw new Error(`leanclaw ${args.join(" ")} ended with status ${status}`);
    return out;
  }

  /** Starts the program and waits until it is ready. Port 0 takes any free one. */
  async start({ port = 0, token, environment = {} } = {}) {
    const log = join(this.folder, "log");
    const settings = { LEANCLAW_GATEWAY_PORT: String(port), LEANCLAW_GATEWAY_API_KEY: token, ...environment };
    const child = this.#command(["start"], ["ignore", "ignore", openSync(log, "a")], settings);
    const address = await eventually("the program listens", () => {
      if (child.exitCode !== null) throw new Error(`the program ended:\n${readFileSync(log, "utf8")}`);
      return published(join(this.folder, "data/leanclaw.lock"), child.pid);
    });
    await eventually("the program is ready", async () => (await fetch(`http://${address}/ready`)).ok);
    return new Program(child, address);
  }

  remove() {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Where the process listens, as it says in the lock of its data directory. */
function published(lock, pid) {
  let text = "";
  try {
    text = readFileSync(lock, "utf8");
  } catch {
    return undefined;
  }
  const [id, address] = text.split("\n");
  return text.endsWith("\n") && id === String(pid) ? address : undefined;
}

/** A program that is ready. */
class Program {
  constructor(child, address) {
    this.child = child;
    this.url = `ws://${address}`;
    this.port = Number(address.split(":").at(-1));
  }

  /** Ends it in order; its exit status. */
  async stop() {
    const ended = once(this.child, "exit");
    this.child.kill("SIGTERM");
    const [status] = await ended;
    return status;
  }

  /** Ends it whatever it does. */
  kill() {
    this.child.kill("SIGKILL");
  }
}
