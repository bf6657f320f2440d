// The OpenClaw programs, unchanged, each with the Node.js it asks for and a home folder of its own. `cargo xtask test clients`
// installs them and tells where; without that, they are looked for in the target folder.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, "../../target");
const installations = process.env.LEANCLAW_TEST_CLIENTS ?? join(target, "clients");

/** The generations of the protocol, with the release that stands for each and the Node.js that it runs on. */
export const RELEASES = [
  { protocol: 3, version: "2026.3.13", node: 22, installation: join(installations, "openclaw-v3") },
  { protocol: 4, version: "2026.9.6", node: 24, installation: join(installations, "openclaw-v4") },
];

const PATIENCE_MS = 180_000;

/** One person's OpenClaw: a release, a home, and a gateway on this machine that it knows the port and token of. */
export class OpenClaw {
  constructor(release, { port, token }) {
    this.release = release;
    this.home = mkdtempSync(join(tmpdir(), "leanclaw-openclaw-"));
    this.programs = join(release.installation, "node_modules/.bin");
    if (!existsSync(this.programs)) throw new Error(`not installed: ${this.programs}; run \`cargo xtask test clients\``);
    mkdirSync(join(this.home, ".openclaw"));
    this.config = { gateway: { mode: "local", port, auth: { mode: "token", token } } };
    this.configure("openclaw", {});
  }

  /** Writes a configuration: the gateway, and what is given besides. Its path. */
  configure(name, more) {
    const path = join(this.home, ".openclaw", `${name}.json`);
    writeFileSync(path, JSON.stringify({ ...this.config, ...more }), { mode: 0o600 });
    return path;
  }

  /** Program, arguments and environment of one command; nothing of the tester's own settings gets in. */
  command(args, environment = {}) {
    // Release 2026.3.13 compiles its extensions when they are first used, which takes half a minute, and keeps the result here.
    const temporary = join(this.release.installation, "tmp");
    mkdirSync(temporary, { recursive: true });
    return {
      program: join(this.programs, "node"),
      args: [join(this.programs, "openclaw"), ...args],
      options: {
        cwd: this.home,
        env: {
          PATH: "/usr/bin:/bin",
          HOME: this.home,
          TMPDIR: temporary,
          NO_COLOR: "1",
          LANG: "C.UTF-8",
          ...environment,
        },
      },
    };
  }

  /** Runs a command to its end; its exit status and what it printed. */
  async run(args, environment) {
    const { program, args: all, options } = this.command(args, environment);
    const child = spawn(program, all, { ...options, stdio: ["ignore", "pipe", "pipe"], timeout: PATIENCE_MS });
    const printed = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (text) => (printed.out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (printed.err += text));
    const [status, signal] = await once(child, "close");
    return { status: status ?? signal, ...printed };
  }

  /**
   * The class that the release's own programs talk to the gateway with. Of version 4 it is in a package of its own; version 3 has
   * it inside of the program only, in files whose names change with each build.
   */
  async gatewayClient() {
    if (this.release.protocol === 4) return (await import("@openclaw/gateway-client")).GatewayClient;
    const dist = join(this.release.installation, "node_modules/openclaw/dist");
    const isIn = (file) => /\bGatewayClient = class\b/.test(readFileSync(join(dist, file), "utf8"));
    // There it finds who it is.
    process.env.OPENCLAW_STATE_DIR = join(this.home, ".openclaw");
    for (const file of readdirSync(dist).filter((file) => file.endsWith(".js") && isIn(file))) {
      const found = Object.values(await import(pathToFileURL(join(dist, file)))).find((own) => own?.name === "GatewayClient");
      if (found) return found;
    }
    throw new Error(`there is no GatewayClient in ${dist}`);
  }

  remove() {
    rmSync(this.home, { recursive: true, force: true, maxRetries: 5 });
  }
}
