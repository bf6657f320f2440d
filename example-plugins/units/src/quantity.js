/** A value with a unit: converted and compared exactly. */
import { PluginFailure } from '../../../plugin-sdk/js/failure.js';
import { Rational } from './rational.js';
import { candidates, CATEGORIES, nearNames, symbolsOf } from './units.js';

/** @typedef {import('./units.js').Unit} Unit */

/**
 * The unit that `text` names. A name with several meanings (`a`: an are, a year) takes its meaning from the other unit.
 * @param {string} text
 * @param {string} otherText The unit it is converted to or compared with.
 * @returns {Unit}
 * @throws {PluginFailure} `invalid-input`, which says what would be understood.
 */
export function unitBeside(text, otherText) {
  const units = candidates(text);
  if (units.length === 0) throw unknown(text, candidates(otherText));
  const categories = candidates(otherText).map(({ category }) => category);
  const fitting = units.filter(({ category }) => categories.includes(category));
  const chosen = fitting.length > 0 ? fitting : units;
  if (chosen.length > 1) {
    const meanings = chosen.map(({ name, symbol }) => `${name} (${symbol})`).join(', ');
    throw new PluginFailure('invalid-input', `"${shown(text)}" may mean ${meanings}. Write one of these.`);
  }
  return chosen[0];
}

/** @param {string} text @param {Unit[]} others */
function unknown(text, others) {
  const near = nearNames(text);
  const category = others[0]?.category;
  const advice = [
    near.length > 0 ? `Did you mean ${near.join(', ')}?` : '',
    category ? `Units of ${category}: ${symbolsOf(category)}.` : near.length > 0 ? '' : `Known are units of ${CATEGORIES.join(', ')}.`,
  ];
  return new PluginFailure('invalid-input', [`There is no unit "${shown(text)}".`, ...advice].filter(Boolean).join(' '), {
    extra: { unit: shown(text), suggestions: near },
  });
}

/** @param {string} text */
const shown = (text) => (text.length > 40 ? `${text.slice(0, 40)}…` : text);

/** @param {Unit} one @param {Unit} other */
export function requireSameCategory(one, other) {
  if (one.category === other.category) return;
  throw new PluginFailure(
    'invalid-input',
    `${one.name} is a unit of ${one.category}, ${other.name} of ${other.category}. ${one.name} goes with: ${symbolsOf(one.category)}.`,
    { extra: { categories: [one.category, other.category] } },
  );
}

/**
 * The value in the category's base unit.
 * @param {number} value
 * @param {Unit} unit
 * @returns {Rational}
 * @throws {PluginFailure} `invalid-input` below absolute zero and for a value that is not finite.
 */
export function toBase(value, unit) {
  if (!Number.isFinite(value)) throw new PluginFailure('invalid-input', 'The value is too large for a number.');
  const base = Rational.parse(value).plus(unit.offset).times(unit.size);
  if (unit.category === 'temperature' && base.sign < 0) {
    throw new PluginFailure('invalid-input', `${value} ${unit.symbol} is below absolute zero.`);
  }
  return base;
}

/**
 * @param {Rational} base
 * @param {Unit} unit
 * @returns {number}
 */
export function fromBase(base, unit) {
  return finite(base.dividedBy(unit.size).minus(unit.offset));
}

/** @param {Rational} rational */
export function finite(rational) {
  const number = rational.toNumber();
  if (!Number.isFinite(number)) throw new PluginFailure('invalid-input', 'The result is too large for a number.');
  return number;
}

/** A number for people: no more digits than a double can vouch for. @param {number} value */
export const readable = (value) => String(Number(value.toPrecision(12)));
