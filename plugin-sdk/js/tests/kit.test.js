import assert from 'node:assert/strict';
import test from 'node:test';
import { loadPlugin } from '../testing.js';

const load = (options) => loadPlugin(new URL('./fixtures/everything.js', import.meta.url), options);
const failing = (code, message) => (failure) => {
  assert.equal(failure.code, code);
  assert.match(failure.message, message);
  return true;
};

test('tools are listed with their schemas', async () => {
  const { tools } = await load();
  assert.deepEqual(tools[0], {
    name: 'typed', description: 'Does typed.', inputSchema: { type: 'object', required: ['a'] }, outputSchema: { type: 'object' },
    effects: ['reads'], idempotent: true, extra: null,
  });
  assert.deepEqual(tools[1].inputSchema, {});
  assert.equal(tools[1].outputSchema, null);
});

test('a handler may answer text, structured output, files or an error to read', async () => {
  const plugin = await load({ remainingMs: 7, caller: { kind: 'client' } });
  assert.deepEqual(plugin.callTool('typed', { a: 21 }), { text: null, structured: { twice: 42 }, files: [], isError: false });
  assert.equal(plugin.callTool('text', { who: 'ü' }).text, 'test-call client 7 ü');
  const [file] = plugin.callTool('files', {}).files;
  assert.deepEqual([file.mediaType, Buffer.from(file.data).toString()], ['text/csv', 'ä,1']);
  assert.deepEqual(plugin.callTool('sorry', {}), { text: 'Could not.', structured: { reason: 1 }, files: [], isError: true });
});

test('failures keep their code, and anything else thrown is internal', async () => {
  const plugin = await load();
  assert.throws(() => plugin.callTool('fail', {}), (failure) => {
    assert.deepEqual([failure.code, failure.retryable, failure.retryAfterMs, failure.extra], ['rate-limited', true, 50, { used: 3 }]);
    return true;
  });
  assert.throws(() => plugin.callTool('crash', {}), failing('internal', /RangeError: oops/));
  assert.throws(() => plugin.callTool('absent', {}), failing('not-found', /no tool absent/));
});

test('a promise is refused with the reason', async () => {
  const plugin = await load();
  assert.throws(() => plugin.callTool('promise', {}), failing('internal', /drop `async` and `await`/));
});

test('progress, streamed text and cancellation reach the context', async () => {
  const plugin = await load();
  assert.equal(plugin.callTool('stream', {}).text, 'done');
  assert.deepEqual(plugin.host.progress, [{ done: 1, total: 2, note: 'half' }]);
  assert.equal(plugin.host.emittedText, 'ab');
  const cancelled = await load({ cancelled: () => true });
  assert.throws(() => cancelled.callTool('stream', {}), failing('cancelled', /cancelled/));
});

test('every call releases its context, also one that fails', async () => {
  const plugin = await load();
  const context = plugin.host.context.bind(plugin.host);
  const handles = [];
  plugin.host.context = () => {
    handles.push(context());
    return handles.at(-1);
  };
  plugin.callTool('stream', {});
  assert.throws(() => plugin.callTool('fail', {}), failing('rate-limited', /Slow/));
  plugin.callMethod('nothing', {});
  plugin.callHook('before-send', { text: 'a' });
  assert.equal(handles.length, 4);
  for (const handle of handles) assert.throws(() => handle.id(), TypeError);
});

test('every load has a state of its own', async () => {
  const [one, other] = [await load(), await load()];
  assert.deepEqual(one.callTool('count', {}).structured, { calls: 1, stored: 1 });
  assert.deepEqual(one.callTool('count', {}).structured, { calls: 2, stored: 2 });
  assert.deepEqual(other.callTool('count', {}).structured, { calls: 1, stored: 1 });
});

test('kv writes conditionally, pages and deletes', async () => {
  const plugin = await load();
  assert.deepEqual(plugin.callTool('store', {}).structured, {
    first: 1, code: 'conflict', text: { value: 'text', revision: 1 }, json: [1], keys: ['b'], removed: [true, false], gone: null,
  });
});

test('fetch sends what was asked and reads the answer', async () => {
  const plugin = await load({ http: ({ body }) => ({ status: 201, json: { got: JSON.parse(body), umlaut: 'ö' } }) });
  const { structured } = plugin.callTool('fetch', { url: 'https://api.example.com/x', json: { é: 1 } });
  assert.deepEqual(structured, { ok: true, status: 201, type: 'application/json', body: { got: { é: 1 }, umlaut: 'ö' } });
  assert.deepEqual(plugin.host.requests, [{
    method: 'POST', url: 'https://api.example.com/x', body: '{"é":1}', timeoutMs: 1500,
    headers: { authorization: 'Bearer {{secret:KEY}}', 'content-type': 'application/json' },
  }]);
  const closed = await load();
  assert.throws(() => closed.callTool('fetch', { url: 'https://x/' }), failing('denied', /grants no request/));
});

test('secrets sign and verify', async () => {
  const plugin = await load({ secrets: { KEY: 'k' } });
  assert.deepEqual(plugin.callTool('sign', { message: 'm' }).structured, { known: true, valid: true, forged: false, length: 32 });
});

test('log, events and settings', async () => {
  const plugin = await load({ settings: { limit: 3 } });
  assert.deepEqual(plugin.callTool('report', { what: 'x' }).structured, { limit: 3 });
  assert.deepEqual(plugin.host.log, [{ level: 'warn', message: 'seen', fields: { what: 'x', count: '2' } }]);
  assert.deepEqual(plugin.host.events, [{ name: 'seen', payload: { what: 'x' } }]);
});

test('methods', async () => {
  const plugin = await load();
  assert.deepEqual(plugin.methods.map(({ name, scope }) => [name, scope]), [['notes.add', 'operator.write'], ['nothing', 'operator.read']]);
  assert.deepEqual(plugin.callMethod('notes.add', { text: 'ß' }), { text: 'ß' });
  assert.equal(plugin.callMethod('nothing', {}), null);
  assert.throws(() => plugin.callMethod('other', {}), failing('not-found', /no method other/));
});

test('hooks deny, rewrite or let pass', async () => {
  const plugin = await load();
  assert.equal(plugin.callHook('before-send', { text: 'a secret' }).verdict, 'deny');
  assert.equal(plugin.callHook('before-send', { text: 'hello' }).verdict, 'continue');
  assert.deepEqual(plugin.callHook('message-received', { text: ' a ' }).payload, { text: 'a' });
  assert.equal(plugin.callHook('toString', {}).verdict, 'continue');
});

test('a channel delivers, takes webhooks, polls and reacts', async () => {
  const plugin = await load();
  assert.equal(plugin.deliver({ text: 'hi', place: { id: 'room' } }).messageId, 'room:hi');
  const post = { headers: { 'X-Id': '7' }, body: '{"text":"hé"}' };
  const reply = plugin.webhook(post);
  assert.deepEqual([reply.status, reply.body, reply.headers.get('content-type')], [202, '{"status":"accepted"}', 'application/json']);
  assert.equal(JSON.parse(plugin.webhook(post).body).status, 'duplicate');
  assert.equal(plugin.host.inbox[0].parts[0].text, 'hé');
  assert.equal(plugin.webhook({ method: 'GET' }).status, 405);
  const { channel, channelActions, poll, socket } = await import('./fixtures/everything.js');
  assert.deepEqual(channel.describe().abilities, ['typing']);
  assert.equal(channelActions.perform('typing', { id: 'p', extra: null }, '{}'), '{"typing":"p"}');
  assert.throws(() => channelActions.perform('constructor', { extra: null }, '{}'), { code: 'unsupported' });
  assert.deepEqual(poll.next(), { request: { method: 'GET', url: 'https://example.com/updates', headers: [], body: new Uint8Array(), timeoutMs: 60000 }, waitMs: 5 });
  poll.received({ tag: 'err', val: { code: 'timed-out', message: 'late' } });
  assert.equal(plugin.host.log.at(-1).message, 'timed-out');
  const bytes = new TextEncoder().encode('ab');
  assert.deepEqual(socket.received({ kind: 'text', data: bytes }), { send: [{ kind: 'text', data: new TextEncoder().encode('AB') }], wakeAfterMs: 10, close: false });
});

test('mistakes in a definition stop the build', async () => {
  const { defineSkill } = await import('../skill.js');
  const good = { name: 'a', description: 'd', handler: () => '' };
  assert.throws(() => defineSkill({ tools: [{ ...good, name: 'no spaces' }] }), /needs a name/);
  assert.throws(() => defineSkill({ tools: [good, good] }), /Two tools are called a/);
  assert.throws(() => defineSkill({ tools: [{ ...good, description: ' ' }] }), /needs a description/);
  assert.throws(() => defineSkill({ tools: [{ ...good, handler: async () => '' }] }), /is async/);
  assert.throws(() => defineSkill({ tools: [{ ...good, input: 'string' }] }), /not a JSON Schema/);
});
