/**
 * Exact fractions. Unit factors are exact by definition (an inch is 0.0254 m), so a conversion is exact too until its
 * result is rounded once, to a number.
 */

/** Enough to pick the nearest double from a decimal text. */
const SIGNIFICANT_DIGITS = 34;

export class Rational {
  /** @param {bigint} numerator @param {bigint} [denominator] Not zero. */
  constructor(numerator, denominator = 1n) {
    const divisor = greatestCommonDivisor(numerator, denominator) * (denominator < 0n ? -1n : 1n);
    this.numerator = numerator / divisor;
    this.denominator = denominator / divisor;
  }

  /**
   * The decimal a person reads: 0.1 is one tenth, not the double nearest to it.
   * @param {string | number} decimal Finite, such as 12, -0.5, "1.602e-19", or a fraction of two decimals: "5/9".
   */
  static parse(decimal) {
    const [over, under] = String(decimal).split('/');
    if (under !== undefined) return Rational.parse(over).dividedBy(Rational.parse(under));
    const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(over);
    if (!match) throw new RangeError(`${decimal} is not a decimal number`);
    const [, sign, whole, fraction = '', exponent = '0'] = match;
    const digits = BigInt(sign + whole + fraction);
    const shift = Number(exponent) - fraction.length;
    return shift >= 0 ? new Rational(digits * 10n ** BigInt(shift)) : new Rational(digits, 10n ** BigInt(-shift));
  }

  /** @param {Rational} other */
  plus(other) {
    return new Rational(
      this.numerator * other.denominator + other.numerator * this.denominator,
      this.denominator * other.denominator,
    );
  }

  /** @param {Rational} other */
  minus(other) {
    return this.plus(new Rational(-other.numerator, other.denominator));
  }

  /** @param {Rational} other */
  times(other) {
    return new Rational(this.numerator * other.numerator, this.denominator * other.denominator);
  }

  /** @param {Rational} other Not zero. */
  dividedBy(other) {
    return new Rational(this.numerator * other.denominator, this.denominator * other.numerator);
  }

  /** -1, 0 or 1. */
  get sign() {
    return this.numerator < 0n ? -1 : this.numerator > 0n ? 1 : 0;
  }

  /** The nearest number; infinite when there is none that large. */
  toNumber() {
    const magnitude = this.numerator < 0n ? -this.numerator : this.numerator;
    const excess = String(magnitude).length - String(this.denominator).length;
    const shift = SIGNIFICANT_DIGITS - excess;
    const digits = shift >= 0
      ? (magnitude * 10n ** BigInt(shift)) / this.denominator
      : magnitude / (this.denominator * 10n ** BigInt(-shift));
    return Number(`${this.sign < 0 ? '-' : ''}${digits}e${-shift}`);
  }
}

/** @param {bigint} one @param {bigint} other @returns {bigint} Positive. */
function greatestCommonDivisor(one, other) {
  let [larger, smaller] = [one < 0n ? -one : one, other < 0n ? -other : other];
  while (smaller > 0n) [larger, smaller] = [smaller, larger % smaller];
  return larger;
}
