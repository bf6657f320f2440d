/**
 * Runs a plugin in node, without a component, for unit tests:
 *
 *     import { loadPlugin } from './sdk/js/testing.js';
 *     const plugin = await loadPlugin(new URL('./plugin.js', import.meta.url));
 *     assert.deepEqual(plugin.callTool('add', { a: 1, b: 2 }).structured, { sum: 3 });
 *
 * Import the plugin only through `loadPlugin`: a plain `import` at the top of a test file happens before node knows what
 * `leanclaw:plugin/...` is. Modules that use no host function may be imported as usual.
 * @module
 */
import { register } from 'node:module';
import { PluginFailure } from './failure.js';
import { Headers } from './headers.js';
import { TestHost } from './testing/host.mjs';
import { decode, toBytes } from './utf8.js';

register('./testing/loader.mjs', import.meta.url);

/** @type {TestHost} */
let current = new TestHost();
let loads = 0;

/** Modules keep what they imported, so each interface is a proxy that looks the current host up. */
Object.assign(globalThis, {
  [Symbol.for('leanclaw.test-host')]: (/** @type {string} */ name) =>
    new Proxy({}, { get: (_, member) => /** @type {any} */ (current.interfaces)[name]?.[member] }),
});

/**
 * @param {URL | string} url The plugin's main module, as a URL.
 * @param {import('./testing/host.mjs').TestHostOptions} [options]
 * @returns {Promise<LoadedPlugin>} With a state of its own: the main module is evaluated anew, and so is the host.
 */
export async function loadPlugin(url, options = {}) {
  const host = new TestHost(options);
  current = host;
  const module = await import(`${url}?load=${++loads}`);
  return new LoadedPlugin(module, host);
}

/** A plugin's exports as a test calls them. Failures are thrown as {@link PluginFailure}. */
export class LoadedPlugin {
  #module;

  /** @param {any} module @param {TestHost} host */
  constructor(module, host) {
    this.#module = module;
    /** What the plugin did: log, events, inbox, requests, progress, kv. */
    this.host = host;
  }

  /** The tools with their schemas parsed. @returns {any[]} */
  get tools() {
    return this.#call(({ skill }) => skill.tools()).map(parsedSchemas);
  }

  /** The methods with their schemas parsed. @returns {any[]} */
  get methods() {
    return this.#call(({ method }) => method.methods()).map(parsedSchemas);
  }

  /**
   * @param {string} name
   * @param {unknown} input
   * @returns {{ text: string | null, structured: any, files: { mediaType: string, data: Uint8Array }[], isError: boolean }}
   */
  callTool(name, input) {
    const output = this.#call(({ skill }) => skill.invoke(this.host.context(), name, JSON.stringify(input)));
    return {
      text: output.text,
      structured: output.structured === null ? undefined : JSON.parse(output.structured),
      files: output.files.map((/** @type {any} */ blob) => ({ mediaType: blob.mediaType(), data: blob.data })),
      isError: output.isError,
    };
  }

  /** @param {string} name @param {unknown} params @returns {any} */
  callMethod(name, params) {
    return JSON.parse(this.#call(({ method }) => method.invoke(this.host.context(), name, JSON.stringify(params))));
  }

  /** @param {string} event @param {unknown} payload @returns {{ verdict: string, reason: string | null, payload: any }} */
  callHook(event, payload) {
    const decision = this.#call(({ hook }) => hook.handle(this.host.context(), event, JSON.stringify(payload)));
    return { ...decision, payload: decision.payload === null ? undefined : JSON.parse(decision.payload) };
  }

  /**
   * @param {{ text?: string, parts?: any[], place?: any, replyTo?: string, idempotencyKey?: string, extra?: unknown }} message
   * @returns {{ messageId: string | null, extra: string | null }}
   */
  deliver({ text = '', parts, place, replyTo, idempotencyKey = 'test-key', extra }) {
    return this.#call(({ channel }) =>
      channel.deliver({
        place: { id: 'test', kind: 'direct', thread: null, title: null, extra: null, ...place },
        parts: parts ?? [{ kind: 'text', text, blob: null, extra: null }],
        replyTo: replyTo ?? null,
        idempotencyKey,
        extra: extra === undefined ? null : JSON.stringify(extra),
      }),
    );
  }

  /**
   * @param {{ method?: string, path?: string, query?: string, headers?: Record<string, string>, body?: string | Uint8Array, remote?: string }} request
   * @returns {{ status: number, headers: Headers, body: string }}
   */
  webhook({ method = 'POST', path = '/', query = '', headers = {}, body = '', remote = '192.0.2.1' }) {
    const reply = this.#call(({ webhook }) =>
      webhook.handle({ method, path, query, headers: new Headers(headers).toRecords(), body: toBytes(body), remote }),
    );
    return { status: reply.status, headers: Headers.fromRecords(reply.headers), body: decode(reply.body) };
  }

  /** @template T @param {(module: any) => T} work @returns {T} */
  #call(work) {
    current = this.host;
    try {
      return work(this.#module);
    } catch (thrown) {
      throw PluginFailure.from(thrown);
    }
  }
}

/** @param {any} listed */
const parsedSchemas = (listed) =>
  Object.fromEntries(
    Object.entries(listed).map(([name, value]) => [name, name.endsWith('Schema') && value !== null ? JSON.parse(value) : value]),
  );
