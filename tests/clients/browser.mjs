// A browser without a window, and a view of it that misses nothing: what a page logs, throws, fetches, and says on its socket.
// `cargo xtask test clients` installs it and tells where; without that, it is looked for in the target folder.

import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { eventually } from "./leanclaw.mjs";

const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, "../../target");
const installations = process.env.LEANCLAW_TEST_CLIENTS ?? join(target, "clients");
const installation = join(installations, "browser");

/** Where pictures of pages go. */
export const PICTURES = join(target, "clients", "pictures");

/** Time for which a page must ask nothing before it counts as opened. */
const QUIET_MS = 300;

/** A browser of its own, with its own storage. `arguments_` are further flags. */
export async function launch(...arguments_) {
  if (!existsSync(join(installation, "node_modules"))) {
    throw new Error(`not installed: ${installation}; run \`cargo xtask test clients\``);
  }
  const find = createRequire(join(installation, "package.json"));
  const load = async (name) => (await import(pathToFileURL(find.resolve(name)))).default;
  // It lies unpacked in what it takes for the folder of temporary files: `unpack.mjs` has seen to that.
  const temporary = process.env.TMPDIR;
  process.env.TMPDIR = join(installation, "tmp");
  const [chromium, puppeteer] = [await load("@sparticuz/chromium"), await load("puppeteer-core")];
  const executablePath = await chromium.executablePath();
  if (temporary === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = temporary;
  // Not the flags that come with it: those switch off the very guards between pages that are tested here.
  const flags = ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"];
  flags.push("--font-render-hinting=none", ...arguments_);
  return puppeteer.launch({
    executablePath,
    args: flags,
    headless: "shell",
    defaultViewport: { width: 1200, height: 720 },
  });
}

/** A page under watch. */
export class Watched {
  constructor(page) {
    this.page = page;
    this.troubles = [];
    this.refusals = [];
    this.waiting = new Map();
    this.calls = 0;
    this.lastActivity = Date.now();
  }

  static async open(browser) {
    const watched = new Watched(await browser.newPage());
    // What moves by itself costs time and makes no two pictures alike.
    await watched.page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
    await watched.#listen();
    return watched;
  }

  async #listen() {
    const { page } = this;
    const trouble = (kind, text) => this.troubles.push(`${kind}: ${text}`);
    page.on("pageerror", (error) => trouble("uncaught", error.stack ?? error));
    page.on("console", (message) => {
      if (message.type() === "error") trouble("console", `${message.text()} ${message.location()?.url ?? ""}`);
    });
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText;
      // What is left behind when another page is opened was given up, it did not fail.
      if (why !== "net::ERR_ABORTED") trouble("request", `${request.url()} ${why}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) trouble("answer", `${response.status()} ${response.url()}`);
    });
    const session = await page.createCDPSession();
    await session.send("Network.enable");
    await session.send("Animation.enable");
    await session.send("Animation.setPlaybackRate", { playbackRate: 50 });
    session.on("Network.requestWillBeSent", () => (this.lastActivity = Date.now()));
    session.on("Network.loadingFinished", () => (this.lastActivity = Date.now()));
    session.on("Network.webSocketFrameSent", ({ response }) => this.#sent(JSON.parse(response.payloadData)));
    session.on("Network.webSocketFrameReceived", ({ response }) => this.#received(JSON.parse(response.payloadData)));
    // What was asked on another connection is not answered any more; the end of one is not always told when its page is left.
    for (const event of ["Network.webSocketCreated", "Network.webSocketClosed"]) {
      session.on(event, () => this.waiting.clear());
    }
  }

  #sent(frame) {
    if (frame.type !== "req") return;
    this.waiting.set(frame.id, frame);
    this.calls += 1;
    this.lastActivity = Date.now();
  }

  #received(frame) {
    if (frame.type !== "res") return;
    const asked = this.waiting.get(frame.id);
    this.waiting.delete(frame.id);
    this.lastActivity = Date.now();
    if (!frame.ok) this.refusals.push({ method: asked?.method, message: frame.error.message, params: asked?.params });
  }

  /** Waits until the page has got every answer, asks nothing more for a moment, and has drawn what it got. */
  async settled() {
    let drawn;
    await eventually("the page asks no more", async () => {
      if (this.waiting.size > 0 || Date.now() - this.lastActivity < QUIET_MS) return false;
      const before = drawn;
      drawn = await this.text();
      if (drawn !== before) this.lastActivity = Date.now() - QUIET_MS / 2;
      return drawn === before;
    });
  }

  /** Loads an address and waits until the page is connected and settled. */
  async load(url) {
    const before = this.calls;
    await this.page.goto(url, { waitUntil: "load" });
    await eventually("the page speaks to the gateway", () => this.calls > before);
    await this.settled();
  }

  /** The links a person sees, in the order of the page: `{path, text}`. */
  links() {
    return this.page.evaluate(() => {
      const found = [];
      const walk = (node) => {
        if (node.tagName === "A" && node.getClientRects().length > 0) {
          const url = new URL(node.href, location.href);
          if (url.origin === location.origin) found.push({ path: url.pathname, text: node.innerText.trim() });
        }
        for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) walk(child);
      };
      walk(document.body);
      return found;
    });
  }

  /** Goes to a place of the page by its link, if a link is there, and waits until something else is drawn. */
  async visit(path, url) {
    if (new URL(this.page.url()).pathname === path) return this.settled();
    const before = await this.text();
    this.lastActivity = Date.now();
    if (!(await this.#click(path))) return this.load(url);
    await eventually(`${path} is drawn`, async () => {
      return new URL(this.page.url()).pathname.startsWith(path) && (await this.text()) !== before;
    });
    return this.settled();
  }

  /** Clicks the link to a path; whether there is one. */
  #click(path) {
    return this.page.evaluate((path) => {
      const walk = (node) => {
        if (node.tagName === "A" && node.getClientRects().length > 0 && new URL(node.href).pathname === path) return node;
        for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) {
          const found = walk(child);
          if (found) return found;
        }
        return undefined;
      };
      const link = walk(document.body);
      link?.click();
      return link !== undefined;
    }, path);
  }

  /** Waits for something to click or to fill that a person sees: by its `text`, `label`, `value` or `kind`. */
  control(wish) {
    return eventually(`${JSON.stringify(wish)} on the page`, async () => {
      const found = await this.page.evaluateHandle((wish) => {
        const controls = ["BUTTON", "INPUT", "SELECT", "TEXTAREA", "WA-DROPDOWN-ITEM"];
        const fits = (node) => {
          if (!controls.includes(node.tagName) && node.getAttribute("role") !== "menuitem") return false;
          if (node.getClientRects().length === 0 || node.disabled) return false;
          const own = { text: node.innerText?.trim(), label: node.getAttribute("aria-label"), value: node.value };
          own.kind = node.tagName.toLowerCase();
          return Object.entries(wish).every(([name, wanted]) => own[name] === wanted);
        };
        const walk = (node) => {
          if (fits(node)) return node;
          for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) {
            const found = walk(child);
            if (found) return found;
          }
          return undefined;
        };
        return walk(document.body);
      }, wish);
      return found.asElement() ?? undefined;
    });
  }

  /** Waits for an entry of a menu with these words that a person sees and cannot choose. */
  off(text) {
    return eventually(`${text} in the menu, and off`, () => {
      return this.page.evaluate((text) => {
        const walk = (node) => {
          const isShown = node.tagName === "WA-DROPDOWN-ITEM" && node.getClientRects().length > 0;
          if (isShown && node.disabled && node.innerText.trim() === text) return true;
          return [...(node.shadowRoot?.children ?? []), ...node.children].some(walk);
        };
        return walk(document.body);
      }, text);
    });
  }

  /** Clicks a control. */
  async click(wish) {
    await (await this.control(wish)).click();
    this.lastActivity = Date.now();
  }

  /** Types into a control in place of what it holds, and leaves it. */
  async fill(wish, text) {
    const control = await this.control(wish);
    await control.click({ count: 3 });
    await this.page.keyboard.type(text);
    await this.page.keyboard.press("Tab");
    this.lastActivity = Date.now();
  }

  /** What the page shows as an error: by its role, by how it is drawn, or by its words. */
  banners() {
    return this.page.evaluate(() => {
      const found = new Set();
      const names = /(callout|banner|notice|alert)\S* \S*(danger|error)|(^|[ _-])(error|failed)([ _-]|$)/;
      const words = /unknown method|missing scope|invalid [\w.]+ params|not allowed|could not (load|connect)|failed to/i;
      const walk = (node) => {
        if (node.getClientRects?.().length > 0) {
          const name = typeof node.className === "string" ? node.className : "";
          const text = (node.innerText ?? "").trim();
          const alerts = node.tagName !== "BUTTON" && (node.getAttribute("role") === "alert" || names.test(name));
          const says = node.children.length === 0 && words.test(text);
          if (text !== "" && (alerts || says)) found.add(text.replace(/\s+/g, " ").slice(0, 300));
        }
        for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) walk(child);
      };
      walk(document.body);
      return [...found];
    });
  }

  /** All the words of the page; none while it loads itself anew. */
  async text() {
    return this.#words().catch((error) => {
      if (/context was destroyed|detached/i.test(error.message)) return "";
      throw error;
    });
  }

  #words() {
    return this.page.evaluate(() => {
      const walk = (node) => {
        if (node.nodeType === Node.TEXT_NODE) return node.textContent;
        if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.tagName)) return "";
        return [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(walk).join(" ");
      };
      return walk(document.body).replace(/\s+/g, " ").trim();
    });
  }

  /** Takes a picture into `folder` of the pictures. */
  async picture(folder, name) {
    mkdirSync(join(PICTURES, folder), { recursive: true });
    const path = join(PICTURES, folder, `${name.replace(/\W+/g, "-").replace(/^-|-$/g, "")}.png`);
    await this.page.screenshot({ path });
    return path;
  }

  /** What went wrong since the last time this was asked. */
  take() {
    const taken = { troubles: this.troubles, refusals: this.refusals };
    this.troubles = [];
    this.refusals = [];
    return taken;
  }
}
