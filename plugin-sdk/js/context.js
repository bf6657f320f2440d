/**
 * What a handler knows of the call it serves. This module owns the wrapper and its release; it decides nothing.
 * @module
 */
import { PluginFailure, failing } from './failure.js';

/**
 * @typedef {object} Caller Who is behind a call, stamped by the host.
 * @property {string} kind client, agent, sender, schedule, plugin, host
 * @property {string} id
 * @property {string} role
 * @property {string[]} scopes
 * @property {string | null} sessionKey
 * @property {unknown} extra
 */

/** The call being served. Use it only until the handler returns. */
export class Context {
  #handle;

  /** @param {any} handle */
  constructor(handle) {
    this.#handle = handle;
  }

  /** The call's id, as it stands in the host's log. @returns {string} */
  get id() {
    return this.#handle.id();
  }

  /** @returns {Caller} */
  get caller() {
    const { extra, ...caller } = this.#handle.caller();
    return { ...caller, sessionKey: caller.sessionKey ?? null, extra: extra ? JSON.parse(extra) : undefined };
  }

  /** Milliseconds until the host ends the call. @returns {number} */
  get remainingMs() {
    return Number(this.#handle.remainingMs());
  }

  /** Whether the caller took the call back. @returns {boolean} */
  get cancelled() {
    return this.#handle.cancelled();
  }

  /** Ends the call when the caller took it back. Long loops call it now and then. */
  throwIfCancelled() {
    if (this.cancelled) throw new PluginFailure('cancelled', 'The call was cancelled.');
  }

  /**
   * @param {number} done
   * @param {number} [total] In the same unit as `done`.
   * @param {string} [note]
   */
  progress(done, total, note) {
    this.#handle.progress(Math.trunc(done), total === undefined ? null : Math.trunc(total), note ?? null);
  }

  /** Streams a part of the answer to the caller. @param {string} delta */
  emitText(delta) {
    failing(() => this.#handle.emitText(delta));
  }
}

/**
 * Runs `work` with a wrapped context and releases the host's handle afterwards, so that a context that a handler kept
 * fails at its first use in a later call.
 * @template T
 * @param {any} handle
 * @param {(context: Context) => T} work
 * @returns {T}
 */
export function withContext(handle, work) {
  try {
    return work(new Context(handle));
  } finally {
    handle[Symbol.dispose]();
  }
}
