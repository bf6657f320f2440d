/**
 * The one way in which a call fails. This module owns the shape of a failure on its way to and from the host; what a
 * plugin does about one is the plugin's business.
 * @module
 */

/** Codes the host documents. A plugin may use others; a reader treats one it does not know as `internal`. */
export const CODES = Object.freeze([
  'invalid-input', 'denied', 'auth-required', 'not-found', 'conflict', 'rate-limited', 'budget-exhausted', 'too-large',
  'timed-out', 'cancelled', 'unavailable', 'unsupported', 'internal',
]);

/** The most characters of a stack that travel with an unexpected error. */
const MAX_STACK_CHARACTERS = 2000;

/**
 * Thrown by a handler to fail the call, and thrown by every wrapper of a host function that failed.
 *
 * @example throw new PluginFailure('not-found', `There is no note ${id}.`);
 */
export class PluginFailure extends Error {
  /**
   * @param {string} code One of {@link CODES}.
   * @param {string} message One sentence for a person.
   * @param {{ retryable?: boolean, retryAfterMs?: number, extra?: unknown, cause?: unknown }} [options] `retryable`: the
   *   same call may succeed later, after `retryAfterMs` milliseconds from now. `extra`: anything that JSON can hold.
   */
  constructor(code, message, { retryable = false, retryAfterMs, extra, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'PluginFailure';
    this.code = code;
    this.retryable = retryable || retryAfterMs !== undefined;
    this.retryAfterMs = retryAfterMs;
    this.extra = extra;
  }

  /**
   * Any thrown value as a failure. One that a host function threw keeps its code; everything else is `internal`.
   * @param {any} thrown
   * @returns {PluginFailure}
   */
  static from(thrown) {
    if (thrown instanceof PluginFailure) return thrown;
    const record = thrown?.payload ?? thrown;
    if (typeof record?.code === 'string' && typeof record?.message === 'string') {
      const { code, message, retryable, retryAfterMs, extra } = record;
      return new PluginFailure(code, message, {
        retryable: retryable === true,
        retryAfterMs: retryAfterMs == null ? undefined : Number(retryAfterMs),
        extra: typeof extra === 'string' ? parsedOrText(extra) : extra,
        cause: thrown,
      });
    }
    const isError = thrown instanceof Error;
    return new PluginFailure('internal', isError ? `${thrown.name}: ${thrown.message}` : String(thrown), {
      extra: isError && thrown.stack ? { stack: thrown.stack.slice(0, MAX_STACK_CHARACTERS) } : undefined,
      cause: thrown,
    });
  }
}

/** @param {string} text */
function parsedOrText(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * Runs `work` and turns whatever it throws into a {@link PluginFailure}.
 * @template T
 * @param {() => T} work
 * @returns {T}
 */
export function failing(work) {
  try {
    return work();
  } catch (thrown) {
    throw PluginFailure.from(thrown);
  }
}

/**
 * Runs a handler for the host: a failure leaves as the record the host expects, and a promise is refused, because
 * nothing would ever resolve it.
 * @template T
 * @param {string} what What runs, for messages: "tool convert_units".
 * @param {() => T} work
 * @returns {T}
 */
export function answering(what, work) {
  let answer;
  try {
    answer = work();
    if (typeof /** @type {any} */ (answer)?.then === 'function') {
      throw new PluginFailure(
        'internal',
        `The ${what} returned a promise. Handlers run synchronously here: drop \`async\` and \`await\`; fetch and the other host functions return their results at once.`,
      );
    }
  } catch (thrown) {
    throw record(PluginFailure.from(thrown));
  }
  return answer;
}

/** @param {PluginFailure} failure */
function record({ code, message, retryable, retryAfterMs, extra }) {
  return {
    code,
    message,
    retryable,
    retryAfterMs: retryAfterMs ?? null,
    extra: extra == null ? null : JSON.stringify(extra),
  };
}
