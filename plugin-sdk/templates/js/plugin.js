import { PluginFailure } from './sdk/js/failure.js';
import { defineSkill } from './sdk/js/skill.js';

const greet = {
  // Unique among all loaded plugins; a model reads the description to choose the tool.
  name: '{{id}}_greet',
  description: 'Greets a person by name.',
  idempotent: true,
  // The host checks every input against this schema, and every answer against the one below.
  input: {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 100, description: 'Whom to greet' } },
    required: ['name'],
    additionalProperties: false,
  },
  output: {
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

export const skill = defineSkill({ tools: [greet] });
