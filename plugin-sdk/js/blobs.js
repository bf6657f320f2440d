/**
 * Bytes that the host holds: bodies of requests and files of tools. A blob given to the host is gone for the plugin.
 * Needs `blobs` in the world; `skill`, `channel` and `http` bring it along.
 * @module
 */
import host from 'leanclaw:plugin/blobs@0.1.0';
import { failing } from './failure.js';
import { decode, toBytes } from './utf8.js';

/** @typedef {import('./utf8.js').Data} Data */
/** @typedef {{ mediaType: string, data: Data } | object} FileLike */

const READ_BYTES = 64 * 1024;
const WRITE_BYTES = 256 * 1024;

/**
 * Hands bytes to the host.
 * @param {string} mediaType
 * @param {Data} data
 * @returns {object} A host blob.
 */
export function createBlob(mediaType, data) {
  const bytes = toBytes(data);
  return failing(() => {
    const writer = new host.Writer(mediaType);
    for (let at = 0; at < bytes.length; at += WRITE_BYTES) writer.write(bytes.slice(at, at + WRITE_BYTES));
    return host.Writer.finish(writer);
  });
}

/** @param {any} file `{ mediaType, data }` or a host blob. @returns {object} */
export function toBlob(file) {
  if (file.data !== undefined) return createBlob(file.mediaType ?? 'application/octet-stream', file.data);
  return file;
}

/**
 * Reads a host blob to its end and releases it.
 * @param {any} blob
 * @returns {Uint8Array}
 */
export function readAll(blob) {
  return failing(() => {
    /** @type {Uint8Array[]} */
    const chunks = [];
    let length = 0;
    for (let chunk = blob.read(READ_BYTES); chunk != null; chunk = blob.read(READ_BYTES)) {
      chunks.push(chunk);
      length += chunk.length;
    }
    if (Symbol.dispose) blob[Symbol.dispose]?.();
    const bytes = new Uint8Array(length);
    let end = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, end);
      end += chunk.length;
    }
    return bytes;
  });
}

/** Reads a host blob as UTF-8. @param {any} blob */
export const readText = (blob) => decode(readAll(blob));
