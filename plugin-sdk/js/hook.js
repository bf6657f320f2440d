/**
 * Hooks, which see an event and may veto or rewrite it: `export const hook = defineHook({ 'before-tool-call': ... })`.
 * @module
 */
import { answering } from './failure.js';
import { withContext } from './context.js';
import { checkedHandler } from './define.js';

/** What a hook decided. A handler that returns nothing lets the event pass. */
export class Decision {
  /**
   * @param {'continue' | 'skip' | 'deny' | 'replace'} verdict
   * @param {string} [reason]
   * @param {unknown} [payload]
   */
  constructor(verdict, reason, payload) {
    this.verdict = verdict;
    this.reason = reason;
    this.payload = payload;
  }
}

/** Refuses the event. @param {string} reason Shown to whoever caused it. */
export const deny = (reason) => new Decision('deny', reason);

/** Leaves the event out without calling it an error. @param {string} [reason] */
export const skip = (reason) => new Decision('skip', reason);

/** Lets the event pass with another payload. @param {unknown} payload */
export const replace = (payload) => new Decision('replace', undefined, payload);

/**
 * @param {Record<string, (payload: any, context: import('./context.js').Context) => Decision | void>} handlers By event;
 *   each event also stands in the manifest's `permissions.hooks`.
 * @returns {{ events(): string[], handle(handle: unknown, event: string, payload: string): object }} The `hook` export.
 */
export function defineHook(handlers) {
  for (const [event, handler] of Object.entries(handlers)) checkedHandler(`hook ${event}`, handler);
  return {
    events: () => Object.keys(handlers),
    handle: (handle, event, payload) =>
      withContext(handle, (context) =>
        answering(`hook ${event}`, () => {
          const decision = Object.hasOwn(handlers, event) ? handlers[event](JSON.parse(payload), context) : undefined;
          if (typeof /** @type {any} */ (decision)?.then === 'function') return /** @type {any} */ (decision);
          if (decision !== undefined && !(decision instanceof Decision)) {
            throw new TypeError('a hook returns nothing, deny(...), skip(...) or replace(...)');
          }
          const { verdict, reason, payload: replaced } = decision ?? new Decision('continue');
          return { verdict, reason: reason ?? null, payload: replaced === undefined ? null : JSON.stringify(replaced) };
        }),
      ),
  };
}
