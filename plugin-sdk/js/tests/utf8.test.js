import assert from 'node:assert/strict';
import test from 'node:test';
import { decode, decodeText, encode } from '../utf8.js';

const TEXTS = ['', 'plain', 'äöü ß', '漢字かな', '👩‍👩‍👧 𝄞', '\ud800 lone', 'lone \udfff', '\u0000\u007f\u0080\u07ff\u0800\uffff\u{10000}\u{10ffff}', 'x'.repeat(10_000) + 'é'];

test('a byte order mark is no part of a text', () => {
  assert.equal(decodeText(encode('\ufeffä\ufeff')), 'ä\ufeff');
  assert.equal(decodeText([]), '');
});

test('encodes as node does', () => {
  for (const text of TEXTS) assert.deepEqual(encode(text), new TextEncoder().encode(text), JSON.stringify(text.slice(0, 20)));
});

test('decodes as node does, invalid bytes too', () => {
  const reference = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const text of TEXTS) assert.equal(decode(encode(text)), reference.decode(new TextEncoder().encode(text)));
  // Every pair of bytes, and longer sequences around the edges of what is allowed.
  for (let first = 0; first < 256; first++) {
    for (let second = 0; second < 256; second++) {
      const bytes = Uint8Array.of(first, second, 0x41);
      assert.equal(decode(bytes), reference.decode(bytes), [...bytes].join());
    }
  }
  for (const first of [0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff]) {
    for (const second of [0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0]) {
      for (const third of [0x41, 0x80, 0xbf, 0xc3]) {
        for (const fourth of [0x41, 0x80, 0xbf, 0xe2]) {
          const bytes = Uint8Array.of(first, second, third, fourth);
          assert.equal(decode(bytes), reference.decode(bytes), [...bytes].join());
        }
      }
    }
  }
});
