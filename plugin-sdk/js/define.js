/**
 * Checks that the define functions share. They run while the component is built, so a mistake stops the build.
 * @module
 */

const SCHEMA_OF_ANYTHING = Object.freeze({});

/**
 * @param {string} what
 * @param {unknown} name
 * @param {RegExp} pattern
 * @param {Set<string>} taken
 * @returns {string}
 */
export function checkedName(what, name, pattern, taken) {
  if (typeof name !== 'string' || !pattern.test(name)) {
    throw new TypeError(`A ${what} needs a name that matches ${pattern}; got ${JSON.stringify(name)}.`);
  }
  if (taken.has(name)) throw new TypeError(`Two ${what}s are called ${name}.`);
  taken.add(name);
  return name;
}

/**
 * @param {string} what
 * @param {unknown} text
 * @returns {string}
 */
export function checkedDescription(what, text) {
  if (typeof text !== 'string' || text.trim() === '') throw new TypeError(`The ${what} needs a description.`);
  return text;
}

/**
 * @template {Function} T
 * @param {string} what
 * @param {T} handler
 * @returns {T}
 */
export function checkedHandler(what, handler) {
  if (typeof handler !== 'function') throw new TypeError(`The ${what} needs a handler function.`);
  if (handler.constructor.name === 'AsyncFunction') {
    throw new TypeError(`The handler of the ${what} is async. Handlers run synchronously: drop \`async\` and \`await\`.`);
  }
  return handler;
}

/**
 * @param {string} what
 * @param {unknown} schema A JSON Schema, as an object or a boolean.
 * @returns {string} Its text.
 */
export function schemaText(what, schema = SCHEMA_OF_ANYTHING) {
  if (typeof schema !== 'boolean' && (typeof schema !== 'object' || schema === null || Array.isArray(schema))) {
    throw new TypeError(`The ${what} is not a JSON Schema: use an object or a boolean.`);
  }
  return JSON.stringify(schema);
}

/** @param {unknown} value @returns {string | null} */
export function optionalJson(value) {
  return value === undefined || value === null ? null : JSON.stringify(value);
}
