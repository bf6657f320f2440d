/**
 * Makes `context: borrow<context>` parameters work with componentize-qjs. Node only.
 *
 * A guest must drop a borrowed handle before its export returns. componentize-qjs 0.4.5 drops it one step later, in the
 * post-return function, where nothing may be called any more, so every call would trap. A handle that the guest *owns* can
 * be dropped in time, by `Symbol.dispose`, which the kit's `withContext` does. In the canonical ABI both are the same
 * number and are dropped by the same function. So the component is built from a contract that says `own`, and the types
 * of the finished component are set back to `borrow`: one opcode byte per type, all other bytes stay as they are.
 * @module
 */
import { BuildError } from './wit.mjs';

const OWN = 0x69;
const BORROW = 0x68;
const PARAMETER = 'context';
const SECTION = { component: 4, alias: 6, type: 7, import: 10, export: 11 };
const SORT_TYPE = 0x03;
const COMPONENT_HEADER = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];

/** @param {string} text WIT of the contract. */
export const ownContext = (text) => text.replace(/\bborrow<context>/g, 'context');

/**
 * Sets every parameter `context: own<...>` of a component's functions to `borrow<...>`, in place.
 * @param {Uint8Array} bytes
 * @returns {number} How many types were changed.
 */
export function borrowContext(bytes) {
  return new Walker(bytes).component(0, bytes.length);
}

/** Reads a component's sections as far as types and their numbering go. */
class Walker {
  #bytes;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  /** @param {number} start @param {number} end @returns {number} */
  component(start, end) {
    if (COMPONENT_HEADER.some((byte, index) => this.#bytes[start + index] !== byte)) {
      throw new BuildError('The tool did not make a component of the known binary version.');
    }
    let changed = 0;
    /** Where each type of this component's index space is defined; none for one that comes from outside. */
    /** @type {({ at: number, opcode: number, context?: number } | undefined)[]} */
    const types = [];
    this.#at = start + COMPONENT_HEADER.length;
    while (this.#at < end) {
      const id = this.#byte();
      const size = this.#unsigned();
      const next = this.#at + size;
      if (id === SECTION.component) changed += this.component(this.#at, next);
      else if (id === SECTION.type) this.#vector(() => types.push(this.#definition()));
      else if (id === SECTION.alias) this.#vector(() => this.#alias() && types.push(undefined));
      else if (id === SECTION.import) this.#vector(() => this.#import() && types.push(undefined));
      else if (id === SECTION.export) this.#vector(() => this.#export() && types.push(undefined));
      if ([SECTION.type, SECTION.alias, SECTION.import, SECTION.export].includes(id) && this.#at !== next) {
        throw new BuildError(`Section ${id} of the component does not read to its end.`);
      }
      this.#at = next;
    }
    for (const { context } of types.filter((type) => type !== undefined)) {
      const parameter = context === undefined ? undefined : types[context];
      if (parameter?.opcode === OWN && this.#bytes[parameter.at] === OWN) {
        this.#bytes[parameter.at] = BORROW;
        changed++;
      }
    }
    this.#at = end;
    return changed;
  }

  #byte() {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new BuildError('The component ends in the middle of a section.');
    return byte;
  }

  #unsigned() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  #name() {
    const length = this.#unsigned();
    this.#at += length;
    return Buffer.from(this.#bytes.subarray(this.#at - length, this.#at)).toString();
  }

  /** @param {() => void} item */
  #vector(item) {
    for (let left = this.#unsigned(); left > 0; left--) item();
  }

  /** A type's number, which is what is returned, or a primitive type: one byte that would be negative as a number. */
  #valueType() {
    const first = this.#bytes[this.#at];
    if (first >= 0x40 && first < 0x80) {
      this.#at++;
      return undefined;
    }
    return this.#unsigned();
  }

  /** @param {() => void} item */
  #optional(item) {
    if (this.#byte() === 1) item();
  }

  /** One type definition. */
  #definition() {
    const at = this.#at;
    const opcode = this.#byte();
    const value = () => this.#valueType();
    const labelled = (/** @type {() => void} */ type) => () => (this.#name(), type());
    /** @type {number | undefined} */
    let context;
    if (opcode === 0x40 || opcode === 0x43) {
      this.#vector(() => {
        const name = this.#name();
        const type = this.#valueType();
        if (name === PARAMETER) context = type;
      });
      if (this.#byte() === 0) value();
      else this.#byte();
    } else if (opcode === 0x41 || opcode === 0x42) this.#vector(() => this.#declaration());
    else if (opcode === 0x3f) (this.#byte(), this.#optional(() => this.#unsigned()));
    else if (opcode === 0x72) this.#vector(labelled(value));
    else if (opcode === 0x71) this.#vector(labelled(() => (this.#optional(value), this.#byte())));
    else if (opcode === 0x70 || opcode === 0x6b) value();
    else if (opcode === 0x67) (value(), this.#unsigned());
    else if (opcode === 0x6f) this.#vector(value);
    else if (opcode === 0x6e || opcode === 0x6d) this.#vector(() => this.#name());
    else if (opcode === 0x6a) (this.#optional(value), this.#optional(value));
    else if (opcode === OWN || opcode === BORROW) this.#unsigned();
    else if (opcode === 0x66 || opcode === 0x65) this.#optional(value);
    else if (opcode < 0x73 || opcode > 0x7f) {
      throw new BuildError(`The component has a type of an unknown kind (0x${opcode.toString(16)}).`);
    }
    return { at, opcode, context };
  }

  /** One declaration of a component type or an instance type. */
  #declaration() {
    const kind = this.#byte();
    if (kind === 0x01) this.#definition();
    else if (kind === 0x02) this.#alias();
    else if (kind === 0x03) this.#import();
    else if (kind === 0x04) (this.#externalName(), this.#external());
    else throw new BuildError(`The component has a declaration of an unknown kind (0x${kind.toString(16)}).`);
  }

  #sort() {
    const sort = this.#byte();
    if (sort === 0x00) this.#byte();
    return sort;
  }

  #externalName() {
    this.#byte();
    this.#name();
  }

  /** What an import or a declared export is. @returns {boolean} Whether it is a type. */
  #external() {
    const sort = this.#byte();
    if (sort === 0x00) (this.#byte(), this.#unsigned());
    else if (sort === SORT_TYPE || sort === 0x02) {
      const bound = this.#byte();
      if (sort === 0x02 || bound === 0x00) sort === 0x02 ? this.#valueType() : this.#unsigned();
    } else this.#unsigned();
    return sort === SORT_TYPE;
  }

  #alias() {
    const sort = this.#sort();
    const target = this.#byte();
    this.#unsigned();
    if (target === 0x02) this.#unsigned();
    else this.#name();
    return sort === SORT_TYPE;
  }

  #import() {
    this.#externalName();
    return this.#external();
  }

  #export() {
    this.#externalName();
    const sort = this.#sort();
    this.#unsigned();
    this.#optional(() => this.#external());
    return sort === SORT_TYPE;
  }
}
