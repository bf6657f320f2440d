import assert from 'node:assert/strict';
import test from 'node:test';
import { loadPlugin } from '../sdk/js/testing.js';

const plugin = await loadPlugin(new URL('../plugin.js', import.meta.url));

test('greets by name', () => {
  assert.deepEqual(plugin.callMethod('greet', { name: ' Ada ' }), { greeting: 'Hello, Ada!' });
});

test('refuses an empty name', () => {
  assert.throws(() => plugin.callMethod('greet', { name: ' ' }), { code: 'invalid-input' });
});
