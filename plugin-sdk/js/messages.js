/**
 * The shapes of messages, between the host's records and plain objects.
 * @module
 */
import { toBlob } from './blobs.js';
import { optionalJson } from './define.js';

/**
 * @typedef {object} Place
 * @property {string} id
 * @property {string} [kind] direct (default), group, broadcast
 * @property {string | null} [thread]
 * @property {string | null} [title]
 * @property {unknown} [extra]
 */
/**
 * @typedef {object} Part
 * @property {string} kind text, markdown, image, audio, video, file, location, ...
 * @property {string | null} [text]
 * @property {any} [blob] `{ mediaType, data }` or a host blob; read one with `readAll` or `readText` of blobs.js.
 * @property {unknown} [extra]
 */

/** @param {Place} place */
export const lowerPlace = ({ id, kind = 'direct', thread, title, extra }) =>
  ({ id, kind, thread: thread ?? null, title: title ?? null, extra: optionalJson(extra) });

/** @param {any} place @returns {Place} */
export const liftPlace = ({ extra, ...place }) => ({ ...place, extra: liftJson(extra) });

/** @param {Part} part */
export const lowerPart = ({ kind, text, blob, extra }) =>
  ({ kind, text: text ?? null, blob: blob == null ? null : toBlob(blob), extra: optionalJson(extra) });

/** @param {any} part @returns {Part} */
export const liftPart = ({ extra, ...part }) => ({ ...part, extra: liftJson(extra) });

/** @param {string | null | undefined} text */
export const liftJson = (text) => (text == null ? undefined : JSON.parse(text));
