// Reads a command's words: options by name, each checked, with one clear line for whatever is wrong.
// Stands alone: copy this file by itself.

import { parseArgs } from 'node:util';

/** How an option is written and what it becomes. `many` collects every occurrence into a list. */
export interface OptionSpec {
  readonly kind: 'flag' | 'text' | 'count' | 'duration';
  readonly many?: boolean | undefined;
  readonly short?: string | undefined;
}

/** `flag` gives a boolean, `text` a string, `count` and `duration` (in milliseconds) a number; absent: `undefined`. */
export type OptionValues<Specs extends Readonly<Record<string, OptionSpec>>> = {
  readonly [Name in keyof Specs]: Specs[Name] extends { many: true }
    ? readonly OptionValue<Specs[Name]['kind']>[]
    : OptionValue<Specs[Name]['kind']> | undefined;
};

type OptionValue<Kind> = Kind extends 'flag' ? boolean : Kind extends 'text' ? string : number;

/** A misuse of the command: print its message and exit with 2. */
export interface UsageError extends Error {
  readonly code: 'ERR_SSE_USAGE';
}

/**
 * Every word of a command line. Durations are `500ms`, `10s`, `5m`, `1h`, `0`, or `off` for no limit; a bare
 * number could be meant as seconds or as milliseconds, and is refused.
 *
 * @throws {UsageError} naming the option that is unknown, lacks its value or has one that cannot be read.
 */
export function readOptions<const Specs extends Readonly<Record<string, OptionSpec>>>(
  argv: readonly string[],
  specs: Specs,
): { values: OptionValues<Specs>; positionals: string[] } {
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { kind, many = false, short }]) => [
      name,
      { type: kind === 'flag' ? 'boolean' : 'string', multiple: many, ...(short && { short }) } as const,
    ]),
  );
  const { values, positionals } = parse(argv, options);
  const read = Object.entries(specs).map(([name, spec]) => [name, readAll(name, spec, values[name])]);
  return { values: Object.fromEntries(read), positionals };
}

/** `http://host:port/…`, where the scheme may be left out. @throws {UsageError} for anything else. */
export function readUrl(text: string): URL {
  const full = text.includes('://') ? text : `http://${text}`;
  if (URL.canParse(full) && /^https?:/.test(full)) return new URL(full);
  throw usageError(`expected an http or https URL, got ${text}`);
}

/** Lines of `NAME: VALUE`, names in lower case. @throws {UsageError} for a line that is no header. */
export function readHeaders(lines: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name, value = ''] = HEADER.exec(line) ?? [];
    if (name === undefined) throw usageError(`--header must be 'NAME: VALUE', got ${JSON.stringify(line)}`);
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

export function usageError(message: string): UsageError {
  return Object.assign(new Error(message), { code: 'ERR_SSE_USAGE' as const });
}

type Raw = string | boolean | (string | boolean)[] | undefined;

function parse(
  argv: readonly string[],
  options: NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>,
): { values: Record<string, Raw>; positionals: string[] } {
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true });
  } catch (error) {
    // Node's own text goes on to explain positionals; its first sentence names the option.
    const [sentence = ''] = (error as Error).message.split(/\.(?: |$)/);
    throw usageError(
      sentence.charAt(0).toLowerCase() + sentence.slice(1).replaceAll("'", '"').split('\n')[0],
    );
  }
}

function readAll(name: string, spec: OptionSpec, raw: Raw): unknown {
  if (Array.isArray(raw)) return raw.map((one) => readOne(name, spec, one));
  if (raw === undefined) return spec.many ? [] : undefined;
  return readOne(name, spec, raw);
}

function readOne(name: string, { kind }: OptionSpec, raw: string | boolean): unknown {
  if (kind === 'flag' || kind === 'text') return raw;
  const text = String(raw);
  const value = kind === 'count' ? readCount(text) : readDuration(text);
  if (value !== undefined) return value;
  throw usageError(`--${name} must be ${EXPECTED[kind]}, got "${text}"`);
}

const EXPECTED = {
  count: 'a whole number',
  duration: 'a duration such as 500ms, 10s, 5m, 1h or off',
} as const;

function readCount(text: string): number | undefined {
  const value = Number(text);
  return /^\d+$/.test(text) && Number.isSafeInteger(value) ? value : undefined;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function readDuration(text: string): number | undefined {
  if (text === 'off') return Number.POSITIVE_INFINITY;
  if (text === '0') return 0;
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * (UNITS[unit] as number);
}
