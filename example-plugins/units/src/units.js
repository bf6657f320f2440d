/** Finds units by what a person or a model calls them, and says what was probably meant when there is none. */
import { Rational } from './rational.js';
import { TABLE, ZERO_OFFSETS } from './table.js';

/**
 * @typedef {object} Unit
 * @property {string} symbol
 * @property {string} name
 * @property {string} category
 * @property {Rational} size In the category's base unit.
 * @property {Rational} offset Added to a value in this unit before it is scaled.
 */

/** Nothing a unit is called is longer; the search for near names would only waste time. */
const MAX_NAME_LENGTH = 40;
/** More letters apart than this is another word. */
const MAX_DISTANCE = 2;
const MAX_SUGGESTIONS = 4;

export const CATEGORIES = Object.keys(TABLE);

/** @type {Map<string, Unit[]>} */
const exact = new Map();
/** @type {Map<string, Unit[]>} */
const folded = new Map();

for (const [category, lines] of Object.entries(TABLE)) {
  for (const [symbol, name, size, ...spellings] of lines) {
    const offset = Rational.parse(/** @type {Record<string, string>} */ (ZERO_OFFSETS)[symbol] ?? '0');
    const unit = { symbol, name, category, size: Rational.parse(size), offset };
    const words = [name, ...spellings].filter((word) => word.length > 2).map((word) => `${word}s`);
    for (const spelling of new Set([symbol, name, ...spellings, ...words])) {
      add(exact, spelling, unit);
      add(folded, fold(spelling), unit);
    }
  }
}

/** @param {Map<string, Unit[]>} index @param {string} key @param {Unit} unit */
function add(index, key, unit) {
  const units = index.get(key) ?? [];
  if (!units.includes(unit)) index.set(key, [...units, unit]);
}

/** @param {string} text */
function fold(text) {
  return text.normalize('NFKC').toLowerCase().replace(/^degrees? |^deg /, '').replace(/[\s_.-]+/g, ' ').trim();
}

/**
 * Every unit that `text` may mean: as it is written first (`Mb` is not `MB`), else without regard to case.
 * @param {string} text
 * @returns {Unit[]}
 */
export function candidates(text) {
  return exact.get(text.trim()) ?? folded.get(fold(text)) ?? [];
}

/** The units of one category, for messages: "mm, cm, m, ...". @param {string} category */
export function symbolsOf(category) {
  return TABLE[category].map(([symbol]) => symbol).join(', ');
}

/**
 * Units with a name close to `text`, the closest first.
 * @param {string} text
 * @returns {string[]}
 */
export function nearNames(text) {
  const wanted = fold(text.slice(0, MAX_NAME_LENGTH));
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const [spelling, units] of folded) {
    // One letter apart makes two different words of short ones.
    const allowed = Math.min(MAX_DISTANCE, Math.floor(spelling.length / 3));
    const distance = editDistance(wanted, spelling);
    if (distance > allowed) continue;
    for (const { name } of units) found.set(name, Math.min(distance, found.get(name) ?? distance));
  }
  return [...found].sort(([, one], [, other]) => one - other).slice(0, MAX_SUGGESTIONS).map(([name]) => name);
}

/** Letters to insert, drop or change to make one text the other. @param {string} one @param {string} other */
function editDistance(one, other) {
  let previous = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const change = previous[column - 1] + (one[row - 1] === other[column - 1] ? 0 : 1);
      current.push(Math.min(change, previous[column] + 1, current[column - 1] + 1));
    }
    previous = current;
  }
  return previous[other.length];
}
