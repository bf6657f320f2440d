/** The JavaScript guest of the benchmarks: a method that does nothing. */
import { defineMethods } from '../../../../plugin-sdk/js/methods.js';

export const method = defineMethods([
  {
    name: 'run',
    description: 'Does nothing.',
    params: { type: 'object', additionalProperties: false },
    result: { type: 'null' },
    handler: () => null,
  },
]);
