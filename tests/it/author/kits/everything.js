// Uses every part of the JavaScript kit. `kits.rs` asks it the same as the plugins beside this one.
import { readText } from './sdk/js/blobs.js';
import { defineChannel } from './sdk/js/channel.js';
import * as credentials from './sdk/js/credentials.js';
import * as events from './sdk/js/events.js';
import { PluginFailure } from './sdk/js/failure.js';
import { defineHook, deny, replace } from './sdk/js/hook.js';
import { fetch } from './sdk/js/http.js';
import * as inbox from './sdk/js/inbox.js';
import * as kv from './sdk/js/kv.js';
import * as log from './sdk/js/log.js';
import { defineMethods } from './sdk/js/methods.js';
import * as settings from './sdk/js/settings.js';
import { defineSkill, ToolResult } from './sdk/js/skill.js';

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const named = (name, handler) => ({ name, description: `Does ${name}.`, scope: 'operator.write', handler });

function store() {
  const first = kv.put('text', 'grüß', { ifRevision: 0 });
  let code;
  try {
    kv.put('text', 'other', { ifRevision: 0 });
  } catch (failure) {
    code = failure.code;
  }
  const second = kv.putJson('json', { a: [1] }, { ifRevision: 0, ttlSeconds: 600 });
  const counted = [1, 2].map(() => kv.updateJson('count', (count = 0) => count + 1));
  return {
    code,
    rises: second > first && kv.get('text').revision === first,
    text: kv.getText('text').value,
    json: kv.getJson('json').value,
    counted,
    keys: [kv.keys(), kv.keys('', { after: 'count', limit: 1 }), kv.keys('te')],
    removed: [kv.remove('text'), kv.remove('text')],
    gone: kv.get('text') === null,
  };
}

function ask({ url, json }) {
  const response = fetch(url, { headers: { Authorization: 'Bearer {{secret:token}}' }, json, timeoutMs: 30_000 });
  const first = response.text();
  return { ok: response.ok, status: response.status, kind: response.headers.get('Content-Type'), text: first, again: response.text() === first };
}

function sign({ message, tag }) {
  return {
    tag: hex(credentials.hmacSha256('key', message)),
    valid: credentials.verifyHmacSha256('key', message, unhex(tag)),
    forged: credentials.verifyHmacSha256('key', `${message}!`, unhex(tag)),
    known: [credentials.exists('key'), credentials.exists('nothing')],
  };
}

export const method = defineMethods([
  named('store', store),
  named('ask', ask),
  named('sign', sign),
  named('tell', ({ what }) => {
    log.warn('told', { what, count: 2 });
    events.emit('seen', { what });
    return settings.get();
  }),
  named('undeclared', () => events.emit('undeclared', {})),
  named('who', (_, context) => {
    context.throwIfCancelled();
    context.progress(1, 2, 'half');
    context.emitText('a piece');
    const { kind, scopes } = context.caller;
    return { named: context.id.length > 0, kind, scopes, hasTime: context.remainingMs > 0, cancelled: context.cancelled };
  }),
  named('fail', () => {
    throw new PluginFailure('rate-limited', 'Slow down.', { retryAfterMs: 1500 });
  }),
  named('crash', () => null.nothing),
]);

export const skill = defineSkill({
  tools: [
    {
      name: 'pack',
      description: 'Packs a text into a file.',
      input: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
      handler: ({ text }) => new ToolResult({ text: 'packed', structured: { length: text.length }, files: [{ mediaType: 'text/plain', data: text }] }),
    },
  ],
});

export const hook = defineHook({
  'before-tool-call': ({ input }) => (input.text === 'forbidden' ? deny('It is forbidden.') : undefined),
  'before-send': (message) => {
    const [part] = message.parts;
    return part.text === 'quiet' ? undefined : replace({ ...message, parts: [{ ...part, text: part.text.toUpperCase() }] });
  },
});

export const { channel, webhook, channelActions, poll, socket } = defineChannel({
  id: 'everything',
  title: 'Everything',
  deliver({ place, parts, idempotencyKey }) {
    if (parts[0].text === 'LATER') throw new PluginFailure('unavailable', 'Later.', { retryAfterMs: 2000 });
    kv.putJson(`sent/${idempotencyKey}`, parts[0].text);
    return `${place.id}:${parts.map(({ text, blob }) => text ?? readText(blob)).join()}`;
  },
  webhook(request) {
    if (request.method !== 'POST') return 405;
    const tag = unhex(request.headers.get('X-Tag') ?? '');
    if (!credentials.verifyHmacSha256('key', request.body, tag)) return { status: 401, body: 'forged' };
    const { id, text } = request.json();
    const status = inbox.submit({ id, sender: { id: 'ada', displayName: 'Ada' }, place: { id: 'room', kind: 'group' }, text });
    return { status: 202, headers: { 'X-Path': request.path }, json: { status, query: request.query } };
  },
  actions: { typing: (place, args) => ({ place: place.id, seconds: args.seconds }) },
  poll: {
    next: () => ({ request: { url: `${settings.get().server}/updates`, headers: { 'X-Since': '7' }, timeoutMs: 30_000 }, waitMs: 60_000 }),
    received: ({ response, failure }) => events.emit('polled', failure ? { code: failure.code } : { status: response.status, news: response.json().news }),
  },
  socket: {
    target: () => ({ url: settings.get().socket, headers: { 'X-Hello': 'there' } }),
    opened: () => ({ send: ['opened'] }),
    received: (data) => (typeof data === 'string' ? { send: [data.toUpperCase()] } : { send: [data.slice().reverse()], wakeAfterMs: 50 }),
    woken: () => ({ send: ['woken'], close: true }),
    closed: (code) => events.emit('closed', { code }),
  },
});
