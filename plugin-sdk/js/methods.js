/**
 * Gateway methods: `export const method = defineMethods([...])`. A client calls them as `<plugin id>.<name>`.
 * @module
 */
import { answering, PluginFailure } from './failure.js';
import { withContext } from './context.js';
import { checkedDescription, checkedHandler, checkedName, optionalJson, schemaText } from './define.js';

/**
 * @typedef {object} Method
 * @property {string} name 1 to 64 of a-z, A-Z, 0-9, `_`, `-`, `.`; without the plugin's id.
 * @property {string} description
 * @property {string} [scope] The operator scope a caller needs: operator.read (default), operator.write, operator.admin.
 * @property {object | boolean} [params] JSON Schema of the parameters. Default: anything.
 * @property {object | boolean} [result] JSON Schema of the result. Default: anything.
 * @property {unknown} [extra]
 * @property {(params: any, context: import('./context.js').Context) => unknown} handler Gets the parsed parameters and
 *   returns anything that JSON can hold.
 */

/**
 * @param {Method[]} methods
 * @returns {{ methods(): object[], invoke(handle: unknown, name: string, params: string): string }} The `method` export.
 */
export function defineMethods(methods) {
  /** @type {Map<string, Method>} */
  const byName = new Map();
  const taken = new Set();
  const listed = methods.map((method) => {
    const name = checkedName('method', method.name, /^[A-Za-z0-9_.-]{1,64}$/, taken);
    checkedHandler(`method ${name}`, method.handler);
    byName.set(name, method);
    return {
      name,
      description: checkedDescription(`method ${name}`, method.description),
      scope: method.scope ?? 'operator.read',
      paramsSchema: schemaText(`params schema of ${name}`, method.params),
      resultSchema: schemaText(`result schema of ${name}`, method.result),
      extra: optionalJson(method.extra),
    };
  });
  return {
    methods: () => listed,
    invoke: (handle, name, params) =>
      withContext(handle, (context) =>
        answering(`method ${name}`, () => {
          const method = byName.get(name);
          if (!method) throw new PluginFailure('not-found', `This plugin has no method ${name}.`);
          const result = method.handler(JSON.parse(params), context);
          const isPromise = typeof /** @type {any} */ (result)?.then === 'function';
          return isPromise ? /** @type {any} */ (result) : JSON.stringify(result ?? null);
        }),
      ),
  };
}
