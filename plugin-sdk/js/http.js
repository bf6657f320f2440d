/**
 * `fetch` over the host's `http` interface. Needs `http` in the world, and the host in `permissions.http`.
 *
 * It returns at once, without a promise. Secrets are written as placeholders: `{{secret:NAME}}` in a header, the query or
 * the path, wherever the manifest declares that secret for that host; the plugin never sees the value. Redirects are not
 * followed, because the next host may not be granted: read `location` and decide.
 * @module
 */
import host from 'leanclaw:plugin/http@0.1.0';
import { createBlob, readAll } from './blobs.js';
import { failing } from './failure.js';
import { Headers } from './headers.js';
import { decodeText } from './utf8.js';

export { Headers };

/** A subset of the web's `Response`, whose readers return at once. */
export class Response {
  #body;
  /** @type {Uint8Array | undefined} */
  #bytes;

  /** @param {{ status: number, headers: any[], body: any }} record @param {string} url */
  constructor({ status, headers, body }, url) {
    this.status = status;
    this.url = url;
    this.headers = Headers.fromRecords(headers);
    this.#body = body;
  }

  /** Whether the status is 200 to 299. */
  get ok() {
    return this.status >= 200 && this.status <= 299;
  }

  /** @returns {Uint8Array} */
  bytes() {
    this.#bytes ??= readAll(this.#body);
    return this.#bytes;
  }

  /** @returns {ArrayBuffer} */
  arrayBuffer() {
    return this.bytes().slice().buffer;
  }

  /** @returns {string} */
  text() {
    return decodeText(this.bytes());
  }

  /** @returns {any} */
  json() {
    return JSON.parse(this.text());
  }

  /** The unread body as a host blob, to pass on without copying it into the plugin. */
  blob() {
    return this.#body;
  }
}

/**
 * @param {string} url
 * @param {object} [init]
 * @param {string} [init.method] Default: GET, or POST with a body.
 * @param {import('./headers.js').HeadersInit} [init.headers]
 * @param {import('./utf8.js').Data | null} [init.body]
 * @param {unknown} [init.json] Sent as JSON instead of `body`, with its content type.
 * @param {number} [init.timeoutMs] The host's own limit still holds.
 * @returns {Response}
 * @throws {import('./failure.js').PluginFailure} `denied` where the host is not granted, `unavailable`, `timed-out`, ...
 */
export function fetch(url, init = {}) {
  const headers = new Headers(init.headers);
  let body = init.body ?? null;
  let mediaType = typeof body === 'string' ? 'text/plain;charset=UTF-8' : 'application/octet-stream';
  if (init.json !== undefined) {
    body = JSON.stringify(init.json);
    mediaType = 'application/json';
  }
  if (body !== null && typeof body === 'string' && !headers.has('content-type')) headers.set('content-type', mediaType);
  const request = {
    method: (init.method ?? (body === null ? 'GET' : 'POST')).toUpperCase(),
    url: String(url),
    headers: headers.toRecords(),
    body: body === null ? null : createBlob(headers.get('content-type') ?? mediaType, body),
    timeoutMs: init.timeoutMs ?? null,
  };
  return new Response(failing(() => host.send(request)), request.url);
}
