/**
 * Tools for agents: `export const skill = defineSkill({ tools: [...] })`.
 * @module
 */
import { answering, PluginFailure } from './failure.js';
import { withContext } from './context.js';
import { toBlob } from './blobs.js';
import { checkedDescription, checkedHandler, checkedName, optionalJson, schemaText } from './define.js';

/** @typedef {import('./context.js').Context} Context */

/**
 * @typedef {object} Tool
 * @property {string} name 1 to 64 of a-z, A-Z, 0-9, `_`, `-`; unique among all loaded plugins.
 * @property {string} description What a model reads to choose it.
 * @property {object | boolean} [input] JSON Schema of the input; the host checks every input against it. Default: anything.
 * @property {object | boolean} [output] JSON Schema of the structured output.
 * @property {string[]} [effects] reads, writes, network, spends-money, irreversible, ... Default: none.
 * @property {boolean} [idempotent] Whether calling it twice with one input is the same as once. Default: false.
 * @property {unknown} [extra] Anything further, as JSON.
 * @property {(input: any, context: Context) => string | ToolResult | object | null | undefined} handler Gets the parsed
 *   input. A string is answered as text, a {@link ToolResult} as it is, anything else as structured output.
 */

/** A whole answer: text, structured output and files together. */
export class ToolResult {
  /**
   * @param {object} parts
   * @param {string} [parts.text]
   * @param {unknown} [parts.structured] Anything that JSON can hold.
   * @param {import('./blobs.js').FileLike[]} [parts.files] `{ mediaType, data }` with text or bytes, or a host blob.
   * @param {boolean} [parts.isError] The tool ran and says it failed; a model may read why.
   */
  constructor({ text, structured, files = [], isError = false }) {
    this.text = text;
    this.structured = structured;
    this.files = files;
    this.isError = isError;
  }
}

/**
 * An answer that says the tool ran and failed, for a model to read. Throw a PluginFailure when the tool could not run.
 * @param {string} text
 * @param {unknown} [structured]
 */
export function toolError(text, structured) {
  return new ToolResult({ text, structured, isError: true });
}

/**
 * @param {{ tools: Tool[] }} definition
 * @returns {{ tools(): object[], invoke(handle: unknown, name: string, input: string): object }} The `skill` export.
 */
export function defineSkill({ tools }) {
  /** @type {Map<string, Tool>} */
  const byName = new Map();
  const taken = new Set();
  const listed = tools.map((tool) => {
    const name = checkedName('tool', tool.name, /^[A-Za-z0-9_-]{1,64}$/, taken);
    checkedHandler(`tool ${name}`, tool.handler);
    byName.set(name, tool);
    return {
      name,
      description: checkedDescription(`tool ${name}`, tool.description),
      inputSchema: schemaText(`input schema of ${name}`, tool.input),
      outputSchema: tool.output === undefined ? null : schemaText(`output schema of ${name}`, tool.output),
      effects: tool.effects ?? [],
      idempotent: tool.idempotent ?? false,
      extra: optionalJson(tool.extra),
    };
  });
  return {
    tools: () => listed,
    invoke: (handle, name, input) =>
      withContext(handle, (context) =>
        answering(`tool ${name}`, () => {
          const tool = byName.get(name);
          if (!tool) throw new PluginFailure('not-found', `This plugin has no tool ${name}.`);
          return lowered(tool.handler(JSON.parse(input), context));
        }),
      ),
  };
}

/** @param {any} answer */
function lowered(answer) {
  if (typeof answer?.then === 'function') return answer; // refused with an explanation by the caller
  const { text, structured, files, isError } =
    answer instanceof ToolResult ? answer
    : typeof answer === 'string' ? new ToolResult({ text: answer })
    : new ToolResult({ structured: answer });
  return { structured: optionalJson(structured), text: text ?? null, files: files.map(toBlob), isError };
}
