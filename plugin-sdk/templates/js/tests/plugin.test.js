import assert from 'node:assert/strict';
import test from 'node:test';
import { loadPlugin } from '../sdk/js/testing.js';

const plugin = await loadPlugin(new URL('../plugin.js', import.meta.url));

test('greets by name', () => {
  assert.deepEqual(plugin.callTool('{{id}}_greet', { name: ' Ada ' }).structured, { greeting: 'Hello, Ada!' });
});

test('refuses an empty name', () => {
  assert.throws(() => plugin.callTool('{{id}}_greet', { name: ' ' }), { code: 'invalid-input' });
});
