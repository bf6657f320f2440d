/**
 * Messages that people wrote, handed to the host. Needs `inbox` in the world and in the manifest's permissions.
 * @module
 */
import host from 'leanclaw:plugin/inbox@0.1.0';
import { failing } from './failure.js';
import { lowerPart, lowerPlace } from './messages.js';
import { optionalJson } from './define.js';

/**
 * @typedef {object} Inbound
 * @property {string} id The channel's own id of the message; the host drops a second one with the same id.
 * @property {{ id: string, displayName?: string, bot?: boolean, extra?: unknown }} sender
 * @property {import('./messages.js').Place} place
 * @property {import('./messages.js').Part[]} [parts] Or `text` for one part of text.
 * @property {string} [text]
 * @property {string} [replyTo]
 * @property {number} [sentAt] Milliseconds since the Unix epoch. Default: now.
 * @property {unknown} [extra]
 */

/**
 * Returns after the message is stored.
 * @param {Inbound} message
 * @returns {string} accepted, duplicate, pairing-required, denied, throttled.
 */
export function submit({ id, sender, place, parts, text, replyTo, sentAt, extra }) {
  const record = {
    id,
    sender: {
      id: sender.id,
      displayName: sender.displayName ?? null,
      bot: sender.bot ?? false,
      extra: optionalJson(sender.extra),
    },
    place: lowerPlace(place),
    parts: (parts ?? [{ kind: 'text', text: text ?? '' }]).map(lowerPart),
    replyTo: replyTo ?? null,
    sentAt: Math.trunc(sentAt ?? Date.now()),
    extra: optionalJson(extra),
  };
  return failing(() => host.submit(record));
}
