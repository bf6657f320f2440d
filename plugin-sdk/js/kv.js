/**
 * The plugin's own key-value store. Needs `kv` in the world and in the manifest's permissions.
 * @module
 */
import host from 'leanclaw:plugin/kv@0.1.0';
import { failing, PluginFailure } from './failure.js';
import { decode, toBytes } from './utf8.js';

/**
 * @template T
 * @typedef {{ value: T, revision: number }} Entry A value and the revision it was written as.
 */
/**
 * @typedef {object} PutOptions
 * @property {number} [ifRevision] Write only over this revision; 0: only if the key is absent. Else: `conflict`.
 * @property {number} [ttlSeconds] Forget the entry after so many seconds.
 */

/** @param {string} key @returns {Entry<Uint8Array> | null} */
export function get(key) {
  const entry = failing(() => host.get(key));
  return entry == null ? null : { value: entry.value, revision: Number(entry.revision) };
}

/** @param {string} key @returns {Entry<string> | null} */
export function getText(key) {
  const entry = get(key);
  return entry && { value: decode(entry.value), revision: entry.revision };
}

/** @param {string} key @returns {Entry<any> | null} */
export function getJson(key) {
  const entry = getText(key);
  return entry && { value: JSON.parse(entry.value), revision: entry.revision };
}

/**
 * @param {string} key
 * @param {import('./utf8.js').Data} value
 * @param {PutOptions} [options]
 * @returns {number} The new revision.
 */
export function put(key, value, { ifRevision, ttlSeconds } = {}) {
  return Number(failing(() => host.put(key, toBytes(value), ifRevision ?? null, ttlSeconds ?? null)));
}

/** @param {string} key @param {unknown} value @param {PutOptions} [options] */
export function putJson(key, value, options) {
  return put(key, JSON.stringify(value), options);
}

/** @param {string} key @returns {boolean} Whether there was something to delete. */
export function remove(key) {
  return failing(() => host.delete(key));
}

/**
 * Keys in order, one page at a time.
 * @param {string} [prefix]
 * @param {{ after?: string, limit?: number }} [page] `after`: the last key of the page before.
 * @returns {string[]}
 */
export function keys(prefix = '', { after, limit = 100 } = {}) {
  return failing(() => host.keys(prefix, after ?? null, limit));
}

/**
 * Changes a JSON value safely while others may write it too: reads, changes, writes if nobody wrote in between, else
 * starts over.
 * @param {string} key
 * @param {(value: any) => unknown} change Gets the value, or undefined when the key is absent. May run several times.
 * @param {{ ttlSeconds?: number, attempts?: number }} [options]
 * @returns {any} The value that was written.
 */
export function updateJson(key, change, { ttlSeconds, attempts = 10 } = {}) {
  for (let attempt = 1; ; attempt++) {
    const entry = getJson(key);
    const value = change(entry?.value);
    try {
      putJson(key, value, { ifRevision: entry?.revision ?? 0, ttlSeconds });
      return value;
    } catch (failure) {
      if (!(failure instanceof PluginFailure && failure.code === 'conflict') || attempt >= attempts) throw failure;
    }
  }
}
