/** Two tools for agents: convert a value to another unit, and compare two values. */
import { defineSkill, ToolResult } from '../../plugin-sdk/js/skill.js';
import { finite, fromBase, readable, requireSameCategory, toBase, unitBeside } from './src/quantity.js';
import { CATEGORIES } from './src/units.js';

const UNIT = {
  type: 'string',
  minLength: 1,
  maxLength: 100,
  description: 'Symbol or name, such as km, mile, °F, MiB, kWh. Case matters where it tells units apart: Mb is not MB.',
};
const VALUE = { type: 'number' };
const QUANTITY = {
  type: 'object',
  properties: { value: VALUE, unit: UNIT },
  required: ['value', 'unit'],
  additionalProperties: false,
};
const CATEGORY = { enum: CATEGORIES };
const ANSWERED = { type: 'object', properties: { value: VALUE, unit: { type: 'string' } }, required: ['value', 'unit'] };

const convertUnits = {
  name: 'convert_units',
  description: `Converts a value to another unit of the same kind: ${CATEGORIES.join(', ')}. Exact, then rounded once.`,
  effects: [],
  idempotent: true,
  input: {
    type: 'object',
    properties: { value: VALUE, from: UNIT, to: UNIT },
    required: ['value', 'from', 'to'],
    additionalProperties: false,
  },
  output: {
    type: 'object',
    properties: {
      value: { type: 'number' },
      unit: { type: 'string' },
      unit_name: { type: 'string' },
      category: CATEGORY,
      from: ANSWERED,
    },
    required: ['value', 'unit', 'unit_name', 'category', 'from'],
  },
  /** @param {{ value: number, from: string, to: string }} input */
  handler({ value, from, to }) {
    const [source, target] = [unitBeside(from, to), unitBeside(to, from)];
    requireSameCategory(source, target);
    const converted = fromBase(toBase(value, source), target);
    return new ToolResult({
      text: `${readable(value)} ${source.symbol} = ${readable(converted)} ${target.symbol}`,
      structured: {
        value: converted,
        unit: target.symbol,
        unit_name: target.name,
        category: target.category,
        from: { value, unit: source.symbol },
      },
    });
  },
};

const compareUnits = {
  name: 'compare_units',
  description: 'Compares two values in units of the same kind: which is greater, by how much, and their ratio.',
  effects: [],
  idempotent: true,
  input: {
    type: 'object',
    properties: { a: QUANTITY, b: QUANTITY },
    required: ['a', 'b'],
    additionalProperties: false,
  },
  output: {
    type: 'object',
    properties: {
      relation: { enum: ['less', 'equal', 'greater'], description: 'a is ... than b' },
      difference: { ...ANSWERED, description: 'a minus b, in the unit of a' },
      ratio: { type: ['number', 'null'], description: 'a divided by b; null for temperatures and where b is zero' },
      b_in_unit_of_a: ANSWERED,
      category: CATEGORY,
    },
    required: ['relation', 'difference', 'ratio', 'b_in_unit_of_a', 'category'],
  },
  /** @param {{ a: { value: number, unit: string }, b: { value: number, unit: string } }} input */
  handler({ a, b }) {
    const [one, other] = [unitBeside(a.unit, b.unit), unitBeside(b.unit, a.unit)];
    requireSameCategory(one, other);
    const [first, second] = [toBase(a.value, one), toBase(b.value, other)];
    const apart = first.minus(second);
    const relation = /** @type {const} */ (['less', 'equal', 'greater'])[apart.sign + 1];
    // Twice 10 °C is not 20 °C: a ratio of temperatures on different scales would only mislead.
    const hasRatio = one.category !== 'temperature' && second.sign !== 0;
    const sign = { less: '<', equal: '=', greater: '>' }[relation];
    return new ToolResult({
      text: `${readable(a.value)} ${one.symbol} ${sign} ${readable(b.value)} ${other.symbol}`,
      structured: {
        relation,
        difference: { value: finite(apart.dividedBy(one.size)), unit: one.symbol },
        ratio: hasRatio ? finite(first.dividedBy(second)) : null,
        b_in_unit_of_a: { value: fromBase(second, one), unit: one.symbol },
        category: one.category,
      },
    });
  },
};

export const skill = defineSkill({ tools: [convertUnits, compareUnits] });
