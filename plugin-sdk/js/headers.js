/**
 * HTTP headers between the host's list of records and a small `Headers`.
 * @module
 */
import { decode, encode } from './utf8.js';

/** @typedef {Headers | Record<string, string> | Iterable<[string, string]>} HeadersInit */

/** A subset of the web's `Headers`: names without case, several values of one name joined with `, `. */
export class Headers {
  /** @type {[string, string][]} */
  #entries = [];

  /** @param {HeadersInit} [init] */
  constructor(init = {}) {
    const pairs = init instanceof Headers || Symbol.iterator in init ? init : Object.entries(init);
    for (const [name, value] of /** @type {Iterable<[string, string]>} */ (pairs)) this.append(name, value);
  }

  /** @param {string} name @returns {string | null} */
  get(name) {
    const values = this.getAll(name);
    return values.length === 0 ? null : values.join(', ');
  }

  /** Every value of one name, apart. @param {string} name @returns {string[]} */
  getAll(name) {
    const wanted = name.toLowerCase();
    return this.#entries.filter(([found]) => found === wanted).map(([, value]) => value);
  }

  /** @param {string} name */
  has(name) {
    return this.getAll(name).length > 0;
  }

  /** @param {string} name @param {string} value */
  append(name, value) {
    this.#entries.push([String(name).toLowerCase(), String(value)]);
  }

  /** @param {string} name @param {string} value */
  set(name, value) {
    this.delete(name);
    this.append(name, value);
  }

  /** @param {string} name */
  delete(name) {
    const unwanted = name.toLowerCase();
    this.#entries = this.#entries.filter(([found]) => found !== unwanted);
  }

  [Symbol.iterator]() {
    return this.#entries[Symbol.iterator]();
  }

  /** The host's form. @returns {{ name: string, value: Uint8Array }[]} */
  toRecords() {
    return this.#entries.map(([name, value]) => ({ name, value: encode(value) }));
  }

  /** @param {{ name: string, value: ArrayLike<number> }[]} records */
  static fromRecords(records) {
    return new Headers(records.map(({ name, value }) => /** @type {[string, string]} */ ([name, decode(value)])));
  }
}
