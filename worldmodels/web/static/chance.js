// Luck: numbers that follow from a seed, uniform in (0, 1), and what becomes of them.

/** A stream of uniform numbers: a counter, each value of which is stirred until nothing of it shows. */
export class Luck {
  constructor(...seeds) {
    this.at = seeds.reduce((sum, seed) => stirred(sum + seed), 0);
  }

  /** `count` numbers. */
  draw(count) {
    return Float32Array.from({ length: count }, () => {
      this.at = (this.at + 0x9e3779b9) >>> 0;
      return (Math.floor(stirred(this.at) / 512) + 0.5) / 2 ** 23; // as many digits as a float32 keeps between 0 and 1
    });
  }
}

function stirred(number) {
  let mixed = number >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/**
 * A standard normal number from a uniform one: its quantile, by Wichura (1988), Algorithm AS 241, to seven digits. The
 * uniform one is first rounded as Python's models do, which far out makes a difference.
 */
export function normal(uniform) {
  const q = Math.fround(uniform * 2 - 1) / 2;
  if (Math.abs(q) <= 0.425) return q * ratio(CENTRE, 0.180625 - q * q);
  const r = Math.sqrt(-Math.log(0.5 - Math.abs(q)));
  return Math.sign(q) * (r <= 5 ? ratio(MIDDLE, r - 1.6) : ratio(TAIL, r - 5));
}

const CENTRE = [[3.3871327179, 50.434271938, 159.29113202, 59.109374720], [1, 17.895169469, 78.757757664, 67.187563600]];
const MIDDLE = [[1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103], [1, 0.73700164250, 0.12021132975]];
const TAIL = [[6.6579051150, 3.0812263860, 0.42868294337, 0.017337203997], [1, 0.24197894225, 0.012258202635]];

function ratio([above, below], x) {
  return polynomial(above, x) / polynomial(below, x);
}

function polynomial(factors, x) {
  return factors.reduceRight((sum, factor) => sum * x + factor, 0);
}

/** Shares that sum to 1, of powers of e. */
export function softmax(logs) {
  const highest = Math.max(...logs);
  const powers = logs.map((log) => Math.exp(log - highest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
