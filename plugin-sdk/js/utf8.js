/**
 * UTF-8 to bytes and back: the engine inside a component has no TextEncoder or TextDecoder.
 * @module
 */

/** @typedef {string | Uint8Array | ArrayBuffer} Data Text is written as UTF-8. */

const REPLACEMENT = 0xfffd;
/** Characters handed to one String.fromCodePoint call; an engine limits the number of arguments. */
const CHUNK = 4096;

/**
 * @param {string} text A lone surrogate becomes U+FFFD.
 * @returns {Uint8Array}
 */
export function encode(text) {
  const bytes = new Uint8Array(text.length * 3);
  let end = 0;
  for (const character of text) {
    let code = /** @type {number} */ (character.codePointAt(0));
    if (code >= 0xd800 && code <= 0xdfff) code = REPLACEMENT;
    if (code < 0x80) {
      bytes[end++] = code;
      continue;
    }
    if (code < 0x800) {
      bytes[end++] = 0xc0 | (code >> 6);
    } else {
      if (code < 0x10000) {
        bytes[end++] = 0xe0 | (code >> 12);
      } else {
        bytes[end++] = 0xf0 | (code >> 18);
        bytes[end++] = 0x80 | ((code >> 12) & 0x3f);
      }
      bytes[end++] = 0x80 | ((code >> 6) & 0x3f);
    }
    bytes[end++] = 0x80 | (code & 0x3f);
  }
  return bytes.slice(0, end);
}

/**
 * @param {ArrayLike<number>} bytes Anything that is not UTF-8 becomes U+FFFD, one per maximal invalid part.
 * @returns {string}
 */
export function decode(bytes) {
  let text = '';
  /** @type {number[]} */
  let codes = [];
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    // For a leading byte: how many bytes follow, and the range of the first of them, which rules out overlong forms,
    // surrogates and what lies above U+10FFFF.
    const [follow, low, high] =
      first < 0x80 ? [0, 0, 0]
      : first >= 0xc2 && first <= 0xdf ? [1, 0x80, 0xbf]
      : first === 0xe0 ? [2, 0xa0, 0xbf]
      : first === 0xed ? [2, 0x80, 0x9f]
      : first >= 0xe1 && first <= 0xef ? [2, 0x80, 0xbf]
      : first === 0xf0 ? [3, 0x90, 0xbf]
      : first === 0xf4 ? [3, 0x80, 0x8f]
      : first >= 0xf1 && first <= 0xf3 ? [3, 0x80, 0xbf]
      : [-1, 0, 0];
    let code = follow < 0 ? REPLACEMENT : follow === 0 ? first : first & (0x3f >> follow);
    for (let step = 0; step < follow; step++) {
      const next = bytes[at];
      if (next === undefined || next < (step === 0 ? low : 0x80) || next > (step === 0 ? high : 0xbf)) {
        code = REPLACEMENT;
        break;
      }
      code = (code << 6) | (next & 0x3f);
      at++;
    }
    codes.push(code);
    if (codes.length === CHUNK) {
      text += String.fromCodePoint(...codes);
      codes = [];
    }
  }
  return text + String.fromCodePoint(...codes);
}

/** As {@link decode}, without a byte order mark. @param {ArrayLike<number>} bytes @returns {string} */
export function decodeText(bytes) {
  const text = decode(bytes);
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

/** @param {Data} data @returns {Uint8Array} */
export function toBytes(data) {
  if (typeof data === 'string') return encode(data);
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw new TypeError('expected a string, a Uint8Array or an ArrayBuffer');
}
