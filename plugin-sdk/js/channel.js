/**
 * Messaging channels: `export const { channel, webhook } = defineChannel({ ... })`. Export exactly the parts that the
 * world names: `channel`, `webhook`, `poll`, `socket`, `channelActions`.
 * @module
 */
import { answering, PluginFailure } from './failure.js';
import { checkedHandler, optionalJson } from './define.js';
import { Headers } from './headers.js';
import { liftJson, liftPart, liftPlace } from './messages.js';
import { decode, decodeText, toBytes } from './utf8.js';

/**
 * @typedef {object} Outbound
 * @property {import('./messages.js').Place} place
 * @property {import('./messages.js').Part[]} parts
 * @property {string | null} replyTo
 * @property {string} idempotencyKey Delivering one key twice sends one message.
 * @property {unknown} extra
 */
/**
 * @typedef {object} WebhookRequest
 * @property {string} method
 * @property {string} path
 * @property {string} query Without the `?`.
 * @property {Headers} headers
 * @property {Uint8Array} body
 * @property {string} remote The peer's address.
 * @property {() => string} text The body as UTF-8.
 * @property {() => any} json
 */
/** @typedef {{ status?: number, headers?: import('./headers.js').HeadersInit, body?: import('./utf8.js').Data, json?: unknown }} WebhookReply */
/** @typedef {{ url: string, method?: string, headers?: import('./headers.js').HeadersInit, body?: import('./utf8.js').Data, timeoutMs?: number }} PollRequest */
/** @typedef {{ send?: (string | Uint8Array)[], wakeAfterMs?: number, close?: boolean }} Reaction */

/**
 * @typedef {object} ChannelDefinition
 * @property {string} id
 * @property {string} title
 * @property {number} [maxTextBytes] The longest text of one message, in bytes. Default: 4000.
 * @property {string[]} [abilities] edit, delete, typing, react, ... Default: the names of `actions`.
 * @property {unknown} [extra]
 * @property {(message: Outbound) => { messageId?: string, extra?: unknown } | string | void} deliver Sends one message;
 *   a string is its id. Throw a PluginFailure with `retryable` to have the host try again.
 * @property {(request: WebhookRequest) => WebhookReply | number | void} [webhook] A number is a status; nothing is 204.
 * @property {Record<string, (place: import('./messages.js').Place, args: any) => unknown>} [actions]
 * @property {{ next(): { request?: PollRequest, waitMs?: number }, received(answer: { response?: { status: number, headers: Headers, body: Uint8Array, text(): string, json(): any }, failure?: PluginFailure }): void }} [poll]
 * @property {{ target(): { url: string, headers?: import('./headers.js').HeadersInit, protocols?: string[] }, opened?(): Reaction | void, received(data: string | Uint8Array): Reaction | void, woken?(): Reaction | void, closed?(code: number, reason: string): void }} [socket]
 */

/**
 * @param {ChannelDefinition} definition
 * @returns {{ channel: any, webhook: any, channelActions: any, poll: any, socket: any }} One export for each part that
 *   the definition has.
 */
export function defineChannel(definition) {
  return {
    channel: channelExport(definition),
    webhook: definition.webhook && webhookExport(definition.webhook),
    channelActions: definition.actions && actionsExport(definition.actions),
    poll: definition.poll && pollExport(definition.poll),
    socket: definition.socket && socketExport(definition.socket),
  };
}

/** @param {ChannelDefinition} definition */
function channelExport({ id, title, maxTextBytes = 4000, abilities, actions = {}, extra, deliver }) {
  checkedHandler(`channel ${id}`, deliver);
  return {
    describe: () => ({ id, title, maxTextBytes, abilities: abilities ?? Object.keys(actions), extra: optionalJson(extra) }),
    deliver: (/** @type {any} */ { place, parts, extra: more, ...message }) =>
      answering(`channel ${id}`, () => {
        const receipt = deliver({ ...message, place: liftPlace(place), parts: parts.map(liftPart), extra: liftJson(more) });
        if (typeof (/** @type {any} */ (receipt)?.then) === 'function') return /** @type {any} */ (receipt);
        const given = typeof receipt === 'string' ? { messageId: receipt } : receipt;
        return { messageId: given?.messageId ?? null, extra: optionalJson(given?.extra) };
      }),
  };
}

/** @param {NonNullable<ChannelDefinition['webhook']>} handler */
function webhookExport(handler) {
  checkedHandler('webhook', handler);
  return {
    handle: (/** @type {any} */ { headers, ...request }) =>
      answering('webhook', () => {
        const reply = handler({ ...request, headers: Headers.fromRecords(headers), ...readers(request.body) });
        if (typeof (/** @type {any} */ (reply)?.then) === 'function') return /** @type {any} */ (reply);
        const given = typeof reply === 'number' ? { status: reply } : (reply ?? { status: 204 });
        const answer = new Headers(given.headers);
        const body = given.json === undefined ? (given.body ?? '') : JSON.stringify(given.json);
        if (given.json !== undefined && !answer.has('content-type')) answer.set('content-type', 'application/json');
        return { status: given.status ?? 200, headers: answer.toRecords(), body: toBytes(body) };
      }),
  };
}

/** @param {NonNullable<ChannelDefinition['actions']>} actions */
function actionsExport(actions) {
  for (const [name, action] of Object.entries(actions)) checkedHandler(`action ${name}`, action);
  return {
    perform: (/** @type {string} */ name, /** @type {any} */ place, /** @type {string} */ args) =>
      answering(`action ${name}`, () => {
        if (!Object.hasOwn(actions, name)) throw new PluginFailure('unsupported', `The channel cannot ${name}.`);
        const result = actions[name](liftPlace(place), JSON.parse(args));
        const isPromise = typeof (/** @type {any} */ (result)?.then) === 'function';
        return isPromise ? /** @type {any} */ (result) : JSON.stringify(result ?? null);
      }),
  };
}

/** @param {NonNullable<ChannelDefinition['poll']>} poll */
function pollExport(poll) {
  return {
    next: () =>
      answering('poll', () => {
        const { request, waitMs = 0 } = poll.next();
        if (!request) return { request: null, waitMs };
        const { method = 'GET', url, headers, body = '', timeoutMs = 60_000 } = request;
        return { request: { method, url, headers: new Headers(headers).toRecords(), body: toBytes(body), timeoutMs }, waitMs };
      }),
    received: (/** @type {any} */ result) =>
      answering('poll', () => {
        if (result.tag === 'err') return poll.received({ failure: PluginFailure.from(result.val) });
        const { status, headers, body } = result.val;
        return poll.received({ response: { status, headers: Headers.fromRecords(headers), body, ...readers(body) } });
      }),
  };
}

/** @param {NonNullable<ChannelDefinition['socket']>} socket */
function socketExport(socket) {
  return {
    target: () =>
      answering('socket', () => {
        const { url, headers, protocols = [] } = socket.target();
        return { url, headers: new Headers(headers).toRecords(), protocols };
      }),
    opened: () => answering('socket', () => lowerReaction(socket.opened?.())),
    received: (/** @type {any} */ { kind, data }) =>
      answering('socket', () => lowerReaction(socket.received(kind === 'text' ? decode(data) : data))),
    woken: () => answering('socket', () => lowerReaction(socket.woken?.())),
    closed: (/** @type {number} */ code, /** @type {string} */ reason) => answering('socket', () => socket.closed?.(code, reason)),
  };
}

/** @param {Reaction | void} reaction */
function lowerReaction(reaction) {
  const { send = [], wakeAfterMs, close = false } = reaction ?? {};
  const frames = send.map((data) => ({ kind: typeof data === 'string' ? 'text' : 'binary', data: toBytes(data) }));
  return { send: frames, wakeAfterMs: wakeAfterMs ?? null, close };
}

/** @param {Uint8Array} body */
const readers = (body) => ({ text: () => decodeText(body), json: () => JSON.parse(decodeText(body)) });
