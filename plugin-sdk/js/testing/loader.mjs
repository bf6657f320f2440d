/**
 * Lets node resolve `leanclaw:plugin/...` to the test host: each interface is a module whose default export reads from
 * the host that is current. Runs in node's loader thread.
 * @module
 */
const INTERFACE = /^leanclaw:plugin\/([a-z-]+)@/;

/** @param {string} specifier @param {any} context @param {Function} next */
export async function resolve(specifier, context, next) {
  const name = INTERFACE.exec(specifier)?.[1];
  if (name === undefined) return next(specifier, context);
  return { url: `leanclaw-test:${name}`, shortCircuit: true };
}

/** @param {string} url @param {any} context @param {Function} next */
export async function load(url, context, next) {
  if (!url.startsWith('leanclaw-test:')) return next(url, context);
  const name = url.slice('leanclaw-test:'.length);
  const source = `export default globalThis[Symbol.for('leanclaw.test-host')](${JSON.stringify(name)});`;
  return { format: 'module', source, shortCircuit: true };
}
