import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { borrowContext, ownContext } from '../build/borrow.mjs';
import { assembleWit, findContract } from '../build/wit.mjs';

const BUILD = fileURLToPath(new URL('../build.mjs', import.meta.url));

/** A folder that looks like the contract, gone after the test. */
function folders(context) {
  const root = mkdtempSync(path.join(tmpdir(), 'leanclaw-test-'));
  context.after(() => rmSync(root, { recursive: true, force: true }));
  const contract = path.join(root, 'contract');
  mkdirSync(path.join(contract, 'deps'), { recursive: true });
  for (const name of ['types', 'log', 'skill', 'worlds']) {
    writeFileSync(path.join(contract, `${name}.wit`), `package leanclaw:plugin@0.3.1;\n// ${name} borrow<context>\n`);
  }
  writeFileSync(path.join(contract, 'worlds.wit'), 'world base {\n}\nworld pure-skill-plugin {\n}\n');
  writeFileSync(path.join(contract, 'deps/io.wit'), 'package wasi:io@0.2.12;\n');
  return { root, contract, target: path.join(root, 'wit') };
}

test('a named world includes the one of the contract, in its version', (context) => {
  const { contract, target } = folders(context);
  assembleWit(contract, target, { world: 'pure-skill-plugin', imports: ['log'] }, ownContext);
  assert.equal(
    readFileSync(path.join(target, 'world.wit'), 'utf8'),
    'package local:component;\n\nworld component {\n  include leanclaw:plugin/pure-skill-plugin@0.3.1;\n  import leanclaw:plugin/log@0.3.1;\n}\n',
  );
  assert.match(readFileSync(path.join(target, 'deps/leanclaw-plugin/skill.wit'), 'utf8'), /skill context$/m);
  assert.match(readFileSync(path.join(target, 'deps/io.wit'), 'utf8'), /wasi:io/);
  assert.match(readFileSync(path.join(contract, 'skill.wit'), 'utf8'), /borrow<context>/, 'the contract itself is left alone');
});

test('a world file is taken as it is', (context) => {
  const { root, contract, target } = folders(context);
  const file = path.join(root, 'world.wit');
  writeFileSync(file, 'package my:own;\nworld mine {}\n');
  assembleWit(contract, target, { world: file });
  assert.equal(readFileSync(path.join(target, 'world.wit'), 'utf8'), 'package my:own;\nworld mine {}\n');
  assert.throws(() => assembleWit(contract, target, { world: file, imports: ['log'] }), /do not go with a world file/);
  assert.throws(() => assembleWit(contract, target, { world: path.join(root, 'absent.wit') }), /does not exist/);
});

test('mistakes are named', (context) => {
  const { root, contract, target } = folders(context);
  assert.throws(() => assembleWit(contract, target, { imports: ['loog'] }), /no interface loog. It has: .*log/);
  assert.throws(() => assembleWit(contract, target, { world: 'nope' }), /no world nope. It has: base, pure-skill-plugin/);
  assert.throws(() => assembleWit(contract, target, {}), /Name what the plugin is/);
  assert.throws(() => findContract(root, root), /No leanclaw:plugin WIT found/);
  assert.equal(findContract(contract, root), contract);
});

test('the command explains itself', (context) => {
  const { root } = folders(context);
  const run = (...args) => spawnSync(process.execPath, [BUILD, ...args], { cwd: root, encoding: 'utf8' });
  assert.match(run('--help').stdout, /--world/);
  for (const [args, message] of [[[], /Usage/], [['absent.js', '-o', 'x.wasm'], /absent.js does not exist/], [['--nope'], /Unknown option/]]) {
    const { status, stderr } = run(...args);
    assert.equal(status, 1);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n    at /, 'no stack');
  }
});

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
const section = (id, ...body) => [id, body.length, ...body];
const named = (name) => [name.length, ...Buffer.from(name)];
const OWN_FIRST = [0x69, 0];
/** func(NAME: type TYPE) without a result. */
const functionType = (name, ...type) => [0x40, 1, ...named(name), ...type, 0x01, 0x00];

test('an owned context parameter becomes a borrowed one, and nothing else changes', () => {
  const nested = [...HEADER, ...section(7, 3, 0x73, ...OWN_FIRST, ...functionType('context', 1))];
  const bytes = Uint8Array.from([
    ...HEADER,
    // Types 0 to 3: a string, own 0, func(context: own 0), func(blob: own 0, which is another definition).
    ...section(7, 5, 0x73, ...OWN_FIRST, ...functionType('context', 1), ...OWN_FIRST, ...functionType('blob', 3)),
    ...section(4, ...nested),
    // A context that is a number is left alone.
    ...section(7, 1, ...functionType('context', 0x79)),
  ]);
  const before = [...bytes];
  assert.equal(borrowContext(bytes), 2);
  const changed = before.flatMap((byte, index) => (byte === bytes[index] ? [] : [[byte, bytes[index]]]));
  assert.deepEqual(changed, [[0x69, 0x68], [0x69, 0x68]]);
  assert.equal(borrowContext(bytes), 0, 'a second time there is nothing left to do');
});

test('type numbers above 63 take two bytes, and imports, aliases and exports count too', () => {
  const bytes = Uint8Array.from([
    ...HEADER,
    ...section(7, 99, ...Array(99).fill(0x73)), // types 0 to 98
    ...section(10, 1, 0x00, ...named('a'), 0x03, 0x01), // type 99: an imported resource
    ...section(6, 1, 0x03, 0x00, 0, ...named('b')), // type 100: of an instance
    ...section(11, 1, 0x00, ...named('c'), 0x03, 99, 0x00), // type 101: exported again
    ...section(7, 2, 0x69, 99, ...functionType('context', 0xe6, 0x00)), // type 102 is the own
  ]);
  assert.equal(borrowContext(bytes), 1);
});

test('a module, a truncated component and an unknown type are refused', () => {
  assert.throws(() => borrowContext(Uint8Array.from([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0])), /known binary version/);
  assert.throws(() => borrowContext(Uint8Array.from([...HEADER, 7, 9, 3, 0x73])), /ends in the middle/);
  assert.throws(() => borrowContext(Uint8Array.from([...HEADER, ...section(7, 1, 0x20)])), /unknown kind \(0x20\)/);
});
