import assert from 'node:assert/strict';
import test from 'node:test';
import { loadPlugin } from '../../../plugin-sdk/js/testing.js';
import { Rational } from '../src/rational.js';
import { TABLE } from '../src/table.js';
import { candidates } from '../src/units.js';

const plugin = await loadPlugin(new URL('../plugin.js', import.meta.url));
const convert = (value, from, to) => plugin.callTool('convert_units', { value, from, to }).structured.value;
const compare = (a, b) => plugin.callTool('compare_units', { a: { value: a[0], unit: a[1] }, b: { value: b[0], unit: b[1] } });
const refused = (work, ...patterns) =>
  assert.throws(work, (failure) => {
    assert.equal(failure.code, 'invalid-input');
    for (const pattern of patterns) assert.match(failure.message, pattern);
    return true;
  });

test('conversions come out exact', () => {
  // Expected values: definitions of the units, and an independent library (pint) for the rest.
  const golden = [
    [26.2, 'miles', 'km', 42.1648128],
    [7.5, 'ft', 'cm', 228.6],
    [1, 'nautical mile', 'mi', 1.1507794480235425],
    [1, 'light-year', 'km', 9460730472580.8],
    [1, 'stone', 'lb', 14],
    [1, 'troy ounce', 'oz', 1.0971428571428572],
    [1, 'long ton', 'lb', 2240],
    [1, 'grain', 'mg', 64.79891],
    [98.6, '°F', '°C', 37],
    [-40, 'C', 'F', -40],
    [0, 'kelvin', 'degrees Celsius', -273.15],
    [0, '°R', '°C', -273.15],
    [100, 'celsius', 'K', 373.15],
    [1, 'US gallon', 'litres', 3.785411784],
    [1, 'imperial gallon', 'L', 4.54609],
    [1, 'fl oz', 'ml', 29.5735295625],
    [1, 'cup', 'tbsp', 16],
    [1, 'barrel', 'gal', 42],
    [60, 'mph', 'km/h', 96.56064],
    [1, 'knot', 'kph', 1.852],
    [36, 'km/h', 'm/s', 10],
    [1, 'c', 'mph', 670616629.3843951],
    [1, 'GiB', 'Mbit', 8589.934592],
    [1.5, 'MB', 'KiB', 1464.84375],
    [1, 'fortnight', 'h', 336],
    [1, 'year', 'days', 365.25],
    [1, 'acre', 'm²', 4046.8564224],
    [1, 'square mile', 'acres', 640],
    [1, 'atm', 'psi', 14.695948775513449],
    [29.92, 'inHg', 'hPa', 1013.2074811900272],
    [1, 'Torr', 'Pa', 133.32236842105263],
    [1, 'kWh', 'BTU', 3412.141633127942],
    [500, 'kcal', 'kJ', 2092],
    [1, 'eV', 'J', 1.602176634e-19],
    [0.1, 'm', 'cm', 10],
    [0.3, 'ft', 'in', 3.6],
  ];
  for (const [value, from, to, expected] of golden) {
    assert.equal(convert(value, from, to), expected, `${value} ${from} in ${to}`);
  }
});

test('every unit converts to itself, and there and back', () => {
  for (const lines of Object.values(TABLE)) {
    for (const [, name] of lines) {
      assert.equal(convert(12.7, name, name), 12.7, name);
      const there = convert(12.7, name, lines[0][1]);
      const back = convert(there, lines[0][1], name);
      assert.ok(Math.abs(back - 12.7) < 1e-12, `${name}: ${back}`);
    }
  }
});

test('the answer says what was understood', () => {
  const { text, structured } = plugin.callTool('convert_units', { value: 5, from: ' Kilometers ', to: 'MILE' });
  assert.equal(text, '5 km = 3.10685596119 mi');
  assert.deepEqual(structured, {
    value: 3.1068559611866697, unit: 'mi', unit_name: 'mile', category: 'length', from: { value: 5, unit: 'km' },
  });
});

test('case tells units apart where it must, and only there', () => {
  assert.equal(convert(8, 'Mb', 'MB'), 1);
  assert.equal(convert(1, 'KM', 'm'), 1000);
  refused(() => convert(1, 'mB', 'kB'), /may mean/, /megabit \(Mbit\)/, /megabyte \(MB\)/);
});

test('a name with two meanings takes the one that fits', () => {
  assert.equal(convert(1, 'a', 'm2'), 100);
  assert.equal(convert(1, 'a', 'd'), 365.25);
  assert.deepEqual(candidates('a').map(({ category }) => category), ['time', 'area']);
});

test('an unknown unit is answered with near names and with what would fit', () => {
  refused(() => convert(1, 'kilometrs', 'mi'), /no unit "kilometrs"/, /Did you mean kilometre/, /Units of length: nm/);
  refused(() => convert(1, 'km', 'farenheit'), /Did you mean degree Fahrenheit/, /Units of length/);
  refused(() => convert(1, 'parrots', 'parrots'), /Known are units of length, mass/);
  refused(() => convert(1, 'toString', 'constructor'), /no unit "toString"/);
  assert.throws(() => convert(1, 'galon', 'l'), ({ extra }) => {
    assert.deepEqual(extra, { unit: 'galon', suggestions: ['US gallon'] });
    return true;
  });
});

test('units of different kinds do not convert', () => {
  refused(() => convert(1, 'kg', 'm'), /kilogram is a unit of mass, metre of length/, /goes with: µg, mg/);
});

test('there is nothing below absolute zero, and nothing beyond a number', () => {
  refused(() => convert(-300, 'C', 'K'), /-300 °C is below absolute zero/);
  assert.equal(convert(-459.67, 'F', 'K'), 0);
  refused(() => convert(1e300, 'ly', 'nm'), /too large/);
  refused(() => plugin.callTool('convert_units', { value: Infinity, from: 'm', to: 'm' }), /value is not a number|too large/);
  assert.equal(convert(5e-324, 'm', 'km'), 0);
  assert.equal(convert(-1e-300, 'm', 'm'), -1e-300);
});

test('comparisons', () => {
  const { text, structured } = compare([10, 'km'], [6, 'mi']);
  assert.equal(text, '10 km > 6 mi');
  assert.deepEqual(structured, {
    relation: 'greater', difference: { value: 0.343936, unit: 'km' }, ratio: 1.03561865372889,
    b_in_unit_of_a: { value: 9.656064, unit: 'km' }, category: 'length',
  });
  assert.equal(compare([12, 'in'], [1, 'ft']).structured.relation, 'equal');
  assert.equal(compare([0.1, 'm'], [10, 'cm']).structured.relation, 'equal');
  assert.equal(compare([1, 'GB'], [1, 'GiB']).structured.relation, 'less');
  assert.equal(compare([1, 'm'], [0, 'm']).structured.ratio, null);
  refused(() => compare([1, 's'], [1, 'm']), /unit of time/);
});

test('temperatures compare by difference, without a ratio', () => {
  assert.deepEqual(compare([20, 'C'], [50, 'F']).structured, {
    relation: 'greater', difference: { value: 10, unit: '°C' }, ratio: null, b_in_unit_of_a: { value: 10, unit: '°C' }, category: 'temperature',
  });
});

test('fractions read decimals and round once', () => {
  assert.equal(Rational.parse('1e3').toNumber(), 1000);
  assert.equal(Rational.parse('-0.125').toNumber(), -0.125);
  assert.equal(Rational.parse('5/9').times(Rational.parse(9)).toNumber(), 5);
  assert.equal(Rational.parse(1.7976931348623157e308).toNumber(), 1.7976931348623157e308);
  assert.equal(Rational.parse(5e-324).toNumber(), 5e-324);
  for (const bad of ['', '1.', 'abc', '0x10', 'NaN']) assert.throws(() => Rational.parse(bad), RangeError, bad);
});
