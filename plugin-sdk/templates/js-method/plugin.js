import { PluginFailure } from './sdk/js/failure.js';
import { defineMethods } from './sdk/js/methods.js';

const greet = {
  // A client calls it as `{{id}}.greet`.
  name: 'greet',
  description: 'Greets a person by name.',
  scope: 'operator.read',
  // The host checks all parameters against this schema, and every result against the one below.
  params: {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 100, description: 'Whom to greet' } },
    required: ['name'],
    additionalProperties: false,
  },
  result: {
    type: 'object',
    properties: { greeting: { type: 'string' } },
    required: ['greeting'],
  },
  // Handlers run synchronously: no async, no await.
  handler({ name }) {
    if (name.trim() === '') throw new PluginFailure('invalid-input', 'The name is empty.');
    return { greeting: `Hello, ${name.trim()}!` };
  },
};

export const method = defineMethods([greet]);
