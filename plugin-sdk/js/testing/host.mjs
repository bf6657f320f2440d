/**
 * A host in memory: what the interfaces of the contract do when a plugin runs in node. It keeps what the plugin did, so
 * that a test can look at it. It grants everything; what a real host refuses is not its concern.
 * @module
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

/** @param {string} code @param {string} message @param {boolean} [retryable] */
const failed = (code, message, retryable = false) =>
  Object.assign(new Error(message), { payload: { code, message, retryable, retryAfterMs: null, extra: null } });

/**
 * @typedef {object} TestHostOptions
 * @property {unknown} [settings] What `settings.get` answers. Default: {}.
 * @property {Record<string, string>} [secrets] For `credentials`.
 * @property {(request: { method: string, url: string, headers: Record<string, string>, body: string | null, timeoutMs: number | null }) => { status?: number, headers?: Record<string, string>, body?: string | Uint8Array, json?: unknown } | { fail: { code: string, message: string, retryable?: boolean } }} [http]
 *   Answers requests. Default: every host is denied.
 * @property {object} [caller] Who calls.
 * @property {number} [remainingMs] Default: 30000.
 * @property {() => boolean} [cancelled]
 */

class Blob {
  #at = 0;
  /** @param {string} mediaType @param {Uint8Array} data */
  constructor(mediaType, data) {
    this.type = mediaType;
    this.data = data;
  }
  mediaType() {
    return this.type;
  }
  size() {
    return this.data.length;
  }
  /** @param {number} max */
  read(max) {
    if (this.#at >= this.data.length) return null;
    const part = this.data.slice(this.#at, this.#at + max);
    this.#at += part.length;
    return part;
  }
}

class Writer {
  /** @type {Uint8Array[]} */
  #chunks = [];
  /** @param {string} mediaType */
  constructor(mediaType) {
    this.mediaType = mediaType;
  }
  /** @param {Uint8Array} chunk */
  write(chunk) {
    this.#chunks.push(chunk);
  }
  /** @param {Writer} writer */
  static finish(writer) {
    return new Blob(writer.mediaType, new Uint8Array(Buffer.concat(writer.#chunks)));
  }
}

/** One plugin's host. */
export class TestHost {
  /** @param {TestHostOptions} [options] */
  constructor(options = {}) {
    this.options = options;
    /** @type {{ level: string, message: string, fields: Record<string, string> }[]} */
    this.log = [];
    /** @type {{ name: string, payload: any }[]} */
    this.events = [];
    /** @type {any[]} */
    this.inbox = [];
    /** @type {{ method: string, url: string, headers: Record<string, string>, body: string | null, timeoutMs: number | null }[]} */
    this.requests = [];
    /** @type {{ done: number, total: number | null, note: string | null }[]} */
    this.progress = [];
    this.emittedText = '';
    /** @type {Map<string, { value: Uint8Array, revision: number }>} */
    this.kv = new Map();
    this.interfaces = { ...this.#stores(), ...this.#messaging(), http: this.#http(), blobs: { Blob, Writer }, types: {}, call: {}, messages: {} };
  }

  /** What a handler gets as its context. */
  context() {
    const { caller, remainingMs = 30_000, cancelled = () => false } = this.options;
    /** @type {Record<string | symbol, unknown>} */
    const handle = {
      id: () => 'test-call',
      caller: () => ({ kind: 'agent', id: 'test', role: 'operator', scopes: [], sessionKey: null, extra: null, ...caller }),
      remainingMs: () => remainingMs,
      cancelled,
      progress: (/** @type {number} */ done, /** @type {number | null} */ total, /** @type {string | null} */ note) =>
        void this.progress.push({ done, total, note }),
      emitText: (/** @type {string} */ delta) => void (this.emittedText += delta),
      [Symbol.dispose]: () => Object.keys(handle).forEach((name) => delete handle[name]),
    };
    return handle;
  }

  #stores() {
    let revisions = 0;
    /** @param {string} key */
    const current = (key) => this.kv.get(key)?.revision ?? 0;
    const secret = (/** @type {string} */ name) => {
      const value = this.options.secrets?.[name];
      if (value === undefined) throw failed('denied', `The test host has no secret ${name}.`);
      return value;
    };
    const tag = (/** @type {string} */ name, /** @type {Uint8Array} */ message) =>
      new Uint8Array(createHmac('sha256', secret(name)).update(message).digest());
    return {
      settings: { get: () => JSON.stringify(this.options.settings ?? {}) },
      kv: {
        get: (/** @type {string} */ key) => this.kv.get(key) ?? null,
        put: (/** @type {string} */ key, /** @type {Uint8Array} */ value, /** @type {number | null} */ ifRevision) => {
          if (ifRevision !== null && ifRevision !== current(key)) {
            throw failed('conflict', `The revision of ${key} is ${current(key)}.`, true);
          }
          this.kv.set(key, { value, revision: ++revisions });
          return revisions;
        },
        delete: (/** @type {string} */ key) => this.kv.delete(key),
        keys: (/** @type {string} */ prefix, /** @type {string | null} */ after, /** @type {number} */ limit) =>
          [...this.kv.keys()].filter((key) => key.startsWith(prefix) && (after === null || key > after)).sort().slice(0, limit),
      },
      credentials: {
        exists: (/** @type {string} */ name) => this.options.secrets?.[name] !== undefined,
        hmacSha256: tag,
        verifyHmacSha256: (/** @type {string} */ name, /** @type {Uint8Array} */ message, /** @type {Uint8Array} */ given) => {
          const expected = tag(name, message);
          return given.length === expected.length && timingSafeEqual(given, expected);
        },
      },
    };
  }

  #messaging() {
    return {
      log: {
        write: (/** @type {string} */ level, /** @type {string} */ message, /** @type {[string, string][]} */ fields) =>
          void this.log.push({ level, message, fields: Object.fromEntries(fields) }),
      },
      events: {
        emit: (/** @type {string} */ name, /** @type {string} */ payload) =>
          void this.events.push({ name, payload: JSON.parse(payload) }),
      },
      inbox: {
        submit: (/** @type {any} */ message) => {
          const known = this.inbox.some(({ id }) => id === message.id);
          if (!known) this.inbox.push(message);
          return known ? 'duplicate' : 'accepted';
        },
      },
    };
  }

  #http() {
    return {
      send: (/** @type {any} */ { method, url, headers, body, timeoutMs }) => {
        const request = {
          method,
          url,
          headers: Object.fromEntries(headers.map((/** @type {any} */ { name, value }) => [name, Buffer.from(value).toString()])),
          body: body === null ? null : Buffer.from(body.data).toString(),
          timeoutMs,
        };
        this.requests.push(request);
        const answer = /** @type {any} */ (this.options.http?.(request) ?? { fail: { code: 'denied', message: `The test host grants no request to ${url}.` } });
        if (answer.fail) throw failed(answer.fail.code, answer.fail.message, answer.fail.retryable);
        const { status = 200, json } = answer;
        const given = Object.entries({ ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...answer.headers });
        const data = json === undefined ? (answer.body ?? '') : JSON.stringify(json);
        return {
          status,
          headers: given.map(([name, value]) => ({ name: name.toLowerCase(), value: new Uint8Array(Buffer.from(String(value))) })),
          body: new Blob('application/octet-stream', new Uint8Array(Buffer.from(data))),
        };
      },
    };
  }
}
