// What the model of Redis answers, and how it writes and reads numbers. Strings are binary: a character stands for
// a byte.

export type Reply = string | number | null | Status | readonly Reply[];

/** A simple string, such as `OK`. */
export class Status {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** An error reply. The first word of its message is its code. */
export class Failure {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

export const OK: Status = new Status('OK');

export const MAX_INTEGER: bigint = 2n ** 63n - 1n;

export function wrongType(): Failure {
  return new Failure('WRONGTYPE Operation against a key holding the wrong kind of value');
}

export function syntaxError(): Failure {
  return new Failure('ERR syntax error');
}

export function notAnInteger(): Failure {
  return new Failure('ERR value is not an integer or out of range');
}

export function notAFloat(): Failure {
  return new Failure('ERR value is not a valid float');
}

/** Reads a whole number of 64 bits, as strictly as Redis does: no plus, no leading zeros, no spaces. */
export function bigOf(text: string): bigint {
  if (!/^(?:0|-?[1-9]\d{0,18})$/.test(text)) throw notAnInteger();
  const value = BigInt(text);
  if (value > MAX_INTEGER || value < -MAX_INTEGER - 1n) throw notAnInteger();
  return value;
}

export function integerOf(text: string): number {
  return Number(bigOf(text));
}

/** Reads a number as C does, or gives `undefined`. */
export function doubleOf(text: string): number | undefined {
  const infinite = /^([+-]?)inf(?:inity)?$/i.exec(text);
  if (infinite !== null) return infinite[1] === '-' ? -Infinity : Infinity;
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}

/** Writes a number with up to 17 digits, as `%.17g` of C. */
export function formatDouble(value: number): string {
  if (value === Infinity) return 'inf';
  if (value === -Infinity) return '-inf';
  if (Object.is(value, -0)) return '-0';
  if (Number.isInteger(value) && Math.abs(value) < 1e17)
    return Number.isSafeInteger(value) ? String(value) : BigInt(value).toString();
  const [digits, exponent] = value.toExponential(16).split('e') as [string, string];
  const power = Number(exponent);
  if (power >= -4 && power < 17) return trimZeros(value.toFixed(16 - power));
  return `${trimZeros(digits)}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
}

function trimZeros(digits: string): string {
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
}
