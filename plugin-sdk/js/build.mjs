#!/usr/bin/env node
/**
 * Builds a plugin's component with componentize-qjs:
 *
 *     node sdk/js/build.mjs plugin.js --world pure-skill-plugin -o my-plugin.wasm
 *
 * @module
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { assembleWit, BuildError, findContract } from './build/wit.mjs';

const KIT = path.dirname(fileURLToPath(import.meta.url));
const OLDEST_NODE = [20, 6];
const TOOL = 'componentize-qjs';
const USAGE = `node build.mjs ENTRY.js -o OUTPUT.wasm (--world NAME | --world FILE.wit | --import A,B --export C,D) [options]

  --world NAME|FILE    a world of the contract (pure-skill-plugin, ...), or a .wit file with a world of your own
  --import, --export   interfaces of the contract, instead of a world or beside one; may be given several times
  -o, --output FILE    the component
  --wit FOLDER         the contract; default LEANCLAW_WIT, then wit/ in this folder
  --small              a smaller component that runs slower
  --minify             minify the code`;

/** @param {string[]} args */
function build(args) {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    throw new BuildError(`Node.js ${process.version} is too old for this kit: install Node.js ${OLDEST_NODE.join('.')} or later (https://nodejs.org).`);
  }
  const { values, positionals } = parsed(args);
  if (values.help) return console.log(USAGE);
  const [entry, ...more] = positionals;
  if (!entry || more.length > 0 || !values.output) throw new BuildError(`Usage: ${USAGE}`);
  if (!existsSync(entry)) throw new BuildError(`${entry} does not exist.`);
  const output = path.resolve(values.output);
  const contract = findContract(values.wit, process.cwd());
  const work = mkdtempSync(path.join(tmpdir(), 'leanclaw-build-'));
  try {
    const wit = path.join(work, 'wit');
    assembleWit(contract, wit, { world: values.world, imports: list(values.import), exports: list(values.export) });
    const made = path.join(work, 'component.wasm');
    runTool(wit, path.resolve(entry), made, [...(values.small ? ['--opt-size'] : []), ...(values.minify ? ['--minify'] : [])]);
    writeWhole(output, made);
    console.log(`${values.output}: ${(statSync(output).size / 1e6).toFixed(2)} MB`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** @param {string[]} args */
function parsed(args) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        world: { type: 'string' },
        import: { type: 'string', multiple: true },
        export: { type: 'string', multiple: true },
        output: { type: 'string', short: 'o' },
        wit: { type: 'string' },
        small: { type: 'boolean' },
        minify: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new BuildError(`${/** @type {Error} */ (error).message}\nUsage: ${USAGE}`);
  }
}

/** @param {string[] | undefined} values */
const list = (values) => (values ?? []).flatMap((value) => value.split(',')).map((name) => name.trim()).filter(Boolean);

/** @param {string} wit @param {string} entry @param {string} output @param {string[]} extra */
function runTool(wit, entry, output, extra) {
  const root = commonFolder(path.dirname(entry), KIT);
  const args = ['--wit', wit, '--world', 'component', '--js', entry, '--module-root', root, '--sync', '-o', output, ...extra];
  const { command, prefix } = findTool();
  const { status, error, stdout, stderr } = spawnSync(command, [...prefix, ...worldName(wit, args)], { encoding: 'utf8' });
  if (error) throw new BuildError(`${command} could not be started: ${error.message}`);
  if (status !== 0) throw new BuildError(explained((stderr || stdout).trim()));
}

/** A world file may call its world what it likes: without a name the tool takes the only one. @param {string} wit @param {string[]} args */
function worldName(wit, args) {
  const name = /^\s*world\s+([a-z0-9-]+)/m.exec(readFileSync(path.join(wit, 'world.wit'), 'utf8'))?.[1];
  return args.map((value, index) => (args[index - 1] === '--world' ? (name ?? value) : value));
}

/** The pinned tool of the build, one on the path, or one installed beside the plugin. */
function findTool() {
  const folders = [
    process.env.LEANCLAW_TOOLS,
    path.join(process.cwd(), 'node_modules/.bin'),
    ...(process.env.PATH ?? '').split(path.delimiter),
  ].filter((folder) => folder !== undefined && folder !== '');
  const names = process.platform === 'win32' ? [`${TOOL}.cmd`, `${TOOL}.exe`] : [TOOL];
  for (const folder of folders) {
    for (const name of names) {
      const file = path.join(/** @type {string} */ (folder), name);
      if (existsSync(file)) return { command: file, prefix: [] };
    }
  }
  throw new BuildError(`${TOOL} was not found. Install it with \`npm install --save-dev ${TOOL}@0.4.5\`, or set LEANCLAW_TOOLS to the folder that holds it.`);
}

/** @param {string} message */
function explained(message) {
  const absent = /resolving module 'leanclaw:plugin\/([a-z-]+)@/.exec(message)?.[1];
  if (absent) return `${message}\n\nThe code uses ${absent}, which the world does not import: add --import ${absent}, or use a world that has it.`;
  const early = /unknown import: `leanclaw:plugin\/([a-z-]+)@[^`]*` has not been defined/.exec(message)?.[1];
  if (early) return `A module calls ${early} at its top. That code runs during the build, where no host answers: call it in a handler.`;
  return message;
}

/** @param {string} one @param {string} other */
function commonFolder(one, other) {
  let folder = one;
  while (path.relative(folder, other).startsWith('..')) folder = path.dirname(folder);
  return folder;
}

/** Writes beside the target and renames, so that a watcher never sees half a file. @param {string} file @param {string} made */
function writeWhole(file, made) {
  mkdirSync(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}.tmp`;
  copyFileSync(made, temporary);
  renameSync(temporary, file);
}

try {
  build(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
