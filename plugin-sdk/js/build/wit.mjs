/**
 * Puts together the WIT folder that a component is built from: the plugin's world on top, the contract and WASI in
 * `deps`. Node only. It reads the contract and never writes to it.
 * @module
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE_LINE = /^package\s+leanclaw:plugin(?:@([0-9][^;\s]*))?\s*;/m;
const KIT = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** A mistake in how the build was called; shown without a stack. */
export class BuildError extends Error {}

/**
 * The folder of the contract: the one given, `LEANCLAW_WIT`, `wit/` in the plugin's folder, or the one of the repository
 * this kit lies in.
 * @param {string | undefined} given
 * @param {string} pluginFolder
 * @returns {string}
 */
export function findContract(given, pluginFolder) {
  const candidates = [given ?? process.env.LEANCLAW_WIT, path.join(pluginFolder, 'wit'), path.join(KIT, '../../wit')]
    .filter((folder) => folder !== undefined && folder !== '');
  const tried = given ? [given] : candidates;
  for (const folder of tried) {
    if (contractVersion(/** @type {string} */ (folder)) !== undefined) return path.resolve(/** @type {string} */ (folder));
  }
  throw new BuildError(
    `No leanclaw:plugin WIT found in ${tried.join(', ')}. Set LEANCLAW_WIT or pass --wit with the folder that holds worlds.wit.`,
  );
}

/** @param {string} folder @returns {string | undefined} */
function contractVersion(folder) {
  const file = path.join(folder, 'types.wit');
  return existsSync(file) ? PACKAGE_LINE.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
}

/**
 * @param {string} contract The contract's folder.
 * @param {string} target Where to put the WIT; created.
 * @param {{ world?: string, imports?: string[], exports?: string[] }} what A world of the contract, a `.wit` file with
 *   one world, or the interfaces by name.
 */
export function assembleWit(contract, target, { world, imports = [], exports = [] }) {
  const version = contractVersion(contract);
  const dependency = path.join(target, 'deps', 'leanclaw-plugin');
  mkdirSync(dependency, { recursive: true });
  for (const name of readdirSync(contract).filter((name) => name.endsWith('.wit'))) {
    copyFileSync(path.join(contract, name), path.join(dependency, name));
  }
  const wasi = path.join(contract, 'deps');
  if (existsSync(wasi)) cpSync(wasi, path.join(target, 'deps'), { recursive: true });
  writeFileSync(path.join(target, 'world.wit'), worldText(contract, version, { world, imports, exports }));
}

/**
 * @param {string} contract
 * @param {string | undefined} version
 * @param {{ world?: string, imports: string[], exports: string[] }} what
 */
function worldText(contract, version, { world, imports, exports }) {
  if (world?.endsWith('.wit')) {
    if (imports.length + exports.length > 0) {
      throw new BuildError('--import and --export do not go with a world file: write them into the file.');
    }
    if (!existsSync(world) || !statSync(world).isFile()) throw new BuildError(`The world file ${world} does not exist.`);
    return readFileSync(world, 'utf8');
  }
  const known = readdirSync(contract).filter((name) => name.endsWith('.wit')).map((name) => name.slice(0, -4));
  for (const name of [...imports, ...exports]) {
    if (!known.includes(name) && !name.includes(':')) {
      throw new BuildError(`The contract has no interface ${name}. It has: ${known.join(', ')}.`);
    }
  }
  const worlds = [...readFileSync(path.join(contract, 'worlds.wit'), 'utf8').matchAll(/^world\s+([a-z0-9-]+)/gm)].map(([, name]) => name);
  if (world && !world.includes(':') && !worlds.includes(world)) {
    throw new BuildError(`The contract has no world ${world}. It has: ${worlds.join(', ')}.`);
  }
  const full = (/** @type {string} */ name) => (name.includes(':') ? name : `leanclaw:plugin/${name}@${version}`);
  const lines = [
    ...(world ? [`include ${full(world)};`] : []),
    ...imports.map((name) => `import ${full(name)};`),
    ...exports.map((name) => `export ${full(name)};`),
  ];
  if (lines.length === 0) throw new BuildError('Name what the plugin is: --world NAME, or --import and --export.');
  return `package local:component;\n\nworld component {\n${lines.map((line) => `  ${line}\n`).join('')}}\n`;
}
