/**
 * Secrets that the host uses for the plugin without showing them. Needs `credentials` in the world and the secret with
 * `hmac: true` in the manifest's `permissions.secrets`.
 * @module
 */
import host from 'leanclaw:plugin/credentials@0.1.0';
import { failing } from './failure.js';
import { toBytes } from './utf8.js';

/** Whether an admin has set the secret. @param {string} name @returns {boolean} */
export const exists = (name) => host.exists(name);

/** @param {string} name @param {import('./utf8.js').Data} message @returns {Uint8Array} 32 bytes. */
export const hmacSha256 = (name, message) => failing(() => host.hmacSha256(name, toBytes(message)));

/**
 * Compares in constant time.
 * @param {string} name
 * @param {import('./utf8.js').Data} message
 * @param {Uint8Array} tag
 * @returns {boolean}
 */
export const verifyHmacSha256 = (name, message, tag) =>
  failing(() => host.verifyHmacSha256(name, toBytes(message), tag));
