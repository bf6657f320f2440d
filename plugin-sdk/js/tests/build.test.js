import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { assembleWit, findContract } from '../build/wit.mjs';

const BUILD = fileURLToPath(new URL('../build.mjs', import.meta.url));

/** A folder that looks like the contract, gone after the test. */
function folders(context) {
  const root = mkdtempSync(path.join(tmpdir(), 'leanclaw-test-'));
  context.after(() => rmSync(root, { recursive: true, force: true }));
  const contract = path.join(root, 'contract');
  mkdirSync(path.join(contract, 'deps'), { recursive: true });
  for (const name of ['types', 'log', 'skill', 'worlds']) {
    writeFileSync(path.join(contract, `${name}.wit`), `package leanclaw:plugin@0.3.1;\n// ${name}\n`);
  }
  writeFileSync(path.join(contract, 'worlds.wit'), 'world base {\n}\nworld pure-skill-plugin {\n}\n');
  writeFileSync(path.join(contract, 'deps/io.wit'), 'package wasi:io@0.2.12;\n');
  return { root, contract, target: path.join(root, 'wit') };
}

test('a named world includes the one of the contract, in its version', (context) => {
  const { contract, target } = folders(context);
  assembleWit(contract, target, { world: 'pure-skill-plugin', imports: ['log'] });
  assert.equal(
    readFileSync(path.join(target, 'world.wit'), 'utf8'),
    'package local:component;\n\nworld component {\n  include leanclaw:plugin/pure-skill-plugin@0.3.1;\n  import leanclaw:plugin/log@0.3.1;\n}\n',
  );
  assert.match(readFileSync(path.join(target, 'deps/leanclaw-plugin/skill.wit'), 'utf8'), /skill$/m);
  assert.match(readFileSync(path.join(target, 'deps/io.wit'), 'utf8'), /wasi:io/);
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

test('a Node.js that is too old is told so', () => {
  for (const [version, expected] of [['18.20.4', /Node.js v18.20.4 is too old for this kit: install Node.js 20.6 or later/], ['20.5.1', /too old/], ['20.6.0', /Usage/], ['22.0.0', /Usage/]]) {
    const pretend = `for (const [name, value] of [['versions', { node: '${version}' }], ['version', 'v${version}']]) Object.defineProperty(process, name, { value })`;
    const { status, stderr } = spawnSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`, BUILD], { encoding: 'utf8' });
    assert.equal(status, 1);
    assert.match(stderr, expected);
    assert.doesNotMatch(stderr, /\n    at /, 'no stack');
  }
});
