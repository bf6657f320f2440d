/**
 * Lines in the plugin's log. Needs `log` in the world; no permission. Written at once, also while the call hangs.
 * @module
 */
import host from 'leanclaw:plugin/log@0.1.0';

/** @typedef {Record<string, unknown>} Fields Searchable values beside the message. */

/** @param {string} level @returns {(message: string, fields?: Fields) => void} */
const at = (level) => (message, fields = {}) =>
  host.write(level, String(message), Object.entries(fields).map(([name, value]) => [name, text(value)]));

/** @param {unknown} value */
const text = (value) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value)));

export const trace = at('trace');
export const debug = at('debug');
export const info = at('info');
export const warn = at('warn');
export const error = at('error');
