// A program in a terminal of its own: what it draws, and keys for it.

import { setTimeout as pause } from "node:timers/promises";

import pty from "@lydell/node-pty";
import xterm from "@xterm/headless";

import { eventually } from "./leanclaw.mjs";

const KEY_PAUSE_MS = 300;
const SIZE = { cols: 110, rows: 40 };

/** A terminal with a program in it. */
export class Screen {
  constructor({ program, args, options }) {
    this.terminal = new xterm.Terminal({ ...SIZE, scrollback: 2000, allowProposedApi: true });
    const env = { ...options.env, TERM: "xterm-256color" };
    delete env.NO_COLOR;
    this.program = pty.spawn(program, args, { ...SIZE, name: "xterm-256color", cwd: options.cwd, env });
    this.program.onData((data) => this.terminal.write(data));
    // Programs ask the terminal what it can do and wait for the answer.
    this.terminal.onData((data) => this.program.write(data));
    this.program.onExit((exit) => (this.exit = exit));
  }

  /** All that can be seen, also by scrolling up. */
  text() {
    const { active } = this.terminal.buffer;
    const lines = Array.from({ length: active.length }, (_, row) => active.getLine(row)?.translateToString(true) ?? "");
    return lines.join("\n").trimEnd();
  }

  /** Waits until the pattern can be seen. */
  async shows(pattern) {
    try {
      await eventually(`${pattern} on the screen`, () => {
        if (this.exit) throw new Error(`the program ended: ${JSON.stringify(this.exit)}`);
        return pattern.test(this.text());
      });
    } catch (error) {
      throw new Error(`${error.message}; the screen shows\n${this.text()}`);
    }
  }

  /** Waits until the pattern can be seen no more. */
  async lacks(pattern) {
    await eventually(`no ${pattern} on the screen, which shows\n${this.text()}`, () => !pattern.test(this.text()));
  }

  /** Presses a key. What follows at once would be taken for a part of it: Escape begins the names of other keys. */
  async press(key) {
    this.program.write(key);
    await pause(KEY_PAUSE_MS);
  }

  /** Types a line. */
  type(line) {
    this.program.write(line);
    // Editors that complete words take a line break that comes in the same breath as part of a paste.
    setTimeout(() => this.program.write("\r"), KEY_PAUSE_MS);
  }

  /** Waits for the program's own end; its exit status. */
  async ends() {
    await eventually(`the program's end; the screen shows\n${this.text()}`, () => this.exit);
    return this.exit.exitCode;
  }

  kill() {
    if (!this.exit) this.program.kill("SIGKILL");
    this.terminal.dispose();
  }
}
