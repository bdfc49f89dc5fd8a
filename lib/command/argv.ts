// Reads a command line: options, URLs, headers and topics. Each mistake gives one line that names it.
// Needs `../protocol.ts` and `did-you-mean.ts` beside it.

import { parseArgs } from 'node:util';
import { isTopic, topicRule } from '../protocol.ts';
import { didYouMean } from './did-you-mean.ts';

/** How an option is written and which values it takes. */
interface OptionSpec {
  readonly kind: 'flag' | 'text' | 'count' | 'duration' | 'size';
  readonly short?: string | undefined;
  /** Collects the values of every occurrence. Of any other option only the last occurrence counts. */
  readonly many?: boolean | undefined;
  /** The smallest value of a count, or of a duration in milliseconds. */
  readonly min?: number | undefined;
  /** The largest value of a count, or of a finite duration in milliseconds. */
  readonly max?: number | undefined;
  /** `false`: the duration must be finite, so `off` is refused. */
  readonly off?: boolean | undefined;
  /** The unit of a count, for messages: `lines`. */
  readonly unit?: string | undefined;
  /** The only texts that are accepted. */
  readonly choices?: readonly string[] | undefined;
  /** The variable of the environment that is read where the option is absent. */
  readonly variable?: string | undefined;
  /** The value is the name of a file: shells complete it. */
  readonly isFile?: boolean | undefined;
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/**
 * A flag gives a boolean, a text a string, a count, duration (milliseconds) or size (bytes) a number. Absent:
 * `undefined`.
 */
export type OptionValues<Specs extends OptionSpecs> = {
  readonly [Name in keyof Specs]: Specs[Name] extends { many: true }
    ? readonly OptionValue<Specs[Name]>[]
    : OptionValue<Specs[Name]> | undefined;
};

type OptionValue<Spec> = Spec extends { readonly choices: readonly (infer Choice)[] }
  ? Choice
  : Spec extends { readonly kind: 'flag' }
    ? boolean
    : Spec extends { readonly kind: 'text' }
      ? string
      : number;

export interface CommandLine<Specs extends OptionSpecs> {
  readonly values: OptionValues<Specs>;
  readonly positionals: readonly string[];
  /** Every option that occurs, with its values as they were written. */
  readonly written: ReadonlyMap<string, readonly string[]>;
}

/** The error for a wrong use of the command: print the message and exit with 2. */
export interface UsageError extends Error {
  readonly code: 'ERR_SSE_USAGE';
}

export function usageError(message: string): UsageError {
  return Object.assign(new Error(message), { code: 'ERR_SSE_USAGE' as const });
}

/**
 * Reads a whole command line. A duration is `500ms`, `10s`, `5m`, `1h`, `0`, or `off` for `Infinity`. A bare
 * number could mean seconds or milliseconds, so it is refused. A size is `65536`, `64KiB`, `256MiB` or `1GiB`;
 * `kB` and `MB` are refused, because they are read as powers of ten and of two.
 *
 * @throws {UsageError} naming the option or the variable that is unknown, lacks its value or has one that is not
 * accepted. With `--help` the others are not read.
 */
export function readOptions<const Specs extends OptionSpecs>(
  argv: readonly string[],
  specs: Specs,
  env: Readonly<Record<string, string | undefined>> = {},
): CommandLine<Specs> {
  const positionals: string[] = [];
  const written = new Map<string, string[]>();
  for (const token of tokensOf(argv, specs)) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind === 'option') addTo(written, token.name, checkToken(token, specs));
  }
  // Whoever asks for help may have another value wrong.
  const isRead = (name: string): boolean => name === 'help' || !written.has('help');
  const values = Object.entries(specs).map(([name, spec]) => {
    const { variable = '' } = spec;
    const texts = isRead(name) ? written.get(name) : undefined;
    const text = texts === undefined && isRead(name) ? env[variable] : undefined;
    return [name, text === undefined ? readAll(`--${name}`, spec, texts) : readOne(variable, spec, text)];
  });
  return { values: Object.fromEntries(values), positionals, written };
}

/**
 * Calls `make`, which passes options of the command on to a module. Where the module rejects one, the error
 * names the option of the command instead, and the value as it was written. `names` lists, for each option of
 * the module, the options of the command that set it.
 *
 * @throws {UsageError} for a `TypeError` or `RangeError` of `make`; any other error as it is.
 */
export function withOptionNames<Result>(
  line: CommandLine<OptionSpecs>,
  names: Readonly<Record<string, readonly string[]>>,
  make: () => Result,
): Result {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
    throw usageError(renamed(error.message, line, names));
  }
}

/** Reads `http://host:port/…`; the scheme may be left out. @throws {UsageError} for anything else. */
export function readUrl(text: string): URL {
  const full = /^[a-z][a-z\d+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (URL.canParse(full) && /^https?:/.test(full)) return new URL(full);
  throw usageError(`expected an http or https URL, got ${text}`);
}

/** The URL that is the only argument beside options. @throws a usage error for none, and for several. */
export function readOneUrl([text, ...more]: readonly string[]): URL {
  if (text === undefined || more.length > 0)
    throw usageError(`expected one URL, got ${text === undefined ? 'none' : more.length + 1}`);
  return readUrl(text);
}

/** The URL of a path of the server that another URL names. */
export function urlBelow(url: URL, path: string): URL {
  const full = new URL(url);
  full.pathname = `${url.pathname.replace(/\/$/, '')}/${path}`;
  return full;
}

/** A URL without what may be a secret in it: reports are sent to colleagues. */
export function shownUrl(url: URL): string {
  const shown = new URL(url);
  shown.username = shown.password = '';
  for (const name of new Set(url.searchParams.keys()))
    if (!PUBLIC_PARAMETERS.has(name)) shown.searchParams.set(name, '*');
  return shown.href;
}

const PUBLIC_PARAMETERS = new Set(['topic', 'from', 'last', 'conflate', 'nameTopics']);

/**
 * Reads lines of `NAME: VALUE`. Names become lower case, and the values of one name are joined as RFC 9110 does.
 *
 * @throws {UsageError} for any other line.
 */
export function readHeaders(lines: readonly string[]): Record<string, string> {
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, written, value = ''] = HEADER.exec(line) ?? [];
    if (written === undefined)
      throw usageError(`--header must be 'NAME: VALUE', got ${JSON.stringify(line)}`);
    const name = written.toLowerCase();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ', '}${value}`);
  }
  return Object.fromEntries(headers);
}

const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

/** Returns the topic itself. @throws {UsageError} that begins with `where`, for a name that is not valid. */
export function readTopic(where: string, text: string): string {
  if (isTopic(text)) return text;
  throw usageError(`${where} must be ${topicRule}, got ${JSON.stringify(text)}`);
}

// ── from words to texts ───────────────────────────────────────────────────────────────────────────────────

type Token = NonNullable<ReturnType<typeof parseArgs>['tokens']>[number];
type OptionToken = Token & { kind: 'option' };

// Not strict: the messages of Node take several lines, and call `--port -1` ambiguous.
function tokensOf(argv: readonly string[], specs: OptionSpecs): readonly Token[] {
  const options = Object.entries(specs).map(([name, { kind, short }]) => [
    name,
    { type: kind === 'flag' ? 'boolean' : 'string', ...(short && { short }) } as const,
  ]);
  const config = { args: [...argv], options: Object.fromEntries(options) };
  return parseArgs({ ...config, strict: false, tokens: true, allowPositionals: true }).tokens;
}

/** Returns the text of an option's value; empty for a flag. */
function checkToken({ name, rawName, value, inlineValue }: OptionToken, specs: OptionSpecs): string {
  const spec = Object.hasOwn(specs, name) ? specs[name] : undefined;
  if (spec === undefined) {
    const meant = rawName.startsWith('--') ? didYouMean(name, Object.keys(specs)) : undefined;
    throw usageError(
      `unknown option "${rawName}"${meant === undefined ? '' : ` (did you mean --${meant}?)`}`,
    );
  }
  if (spec.kind === 'flag') {
    if (value === undefined) return '';
    throw usageError(`--${name} takes no value, got "${value}"`);
  }
  if (value === undefined) throw usageError(`--${name} needs a value`);
  if (spec.kind === 'text' && !inlineValue && /^-./.test(value))
    throw usageError(
      `--${name} needs a value, got "${value}"; write --${name}=${value} if that is the value`,
    );
  return value;
}

function addTo(written: Map<string, string[]>, name: string, text: string): void {
  const texts = written.get(name);
  if (texts === undefined) written.set(name, [text]);
  else texts.push(text);
}

// ── from texts to values ──────────────────────────────────────────────────────────────────────────────────

/** @param where - What the value belongs to, for messages: `--port`, or a variable of the environment. */
function readAll(where: string, spec: OptionSpec, texts: readonly string[] = []): unknown {
  if (spec.many) return texts.map((text) => readOne(where, spec, text));
  const last = texts.at(-1);
  return last === undefined ? undefined : readOne(where, spec, last);
}

function readOne(where: string, spec: OptionSpec, text: string): unknown {
  if (spec.kind === 'flag') return true;
  if (spec.kind === 'text' && (spec.choices === undefined || spec.choices.includes(text))) return text;
  const value = READERS[spec.kind](text, spec);
  if (typeof value === 'number') return value;
  throw usageError(`${where} must be ${value}, got ${JSON.stringify(text)}`);
}

const READERS = {
  text: (_: string, { choices = [] }: OptionSpec) => inWords(choices),
  count: readCount,
  duration: readDuration,
  size: readSize,
} as const;

/** `a, b or c`. */
function inWords(choices: readonly string[]): string {
  return [choices.slice(0, -1).join(', '), ...choices.slice(-1)].filter(Boolean).join(' or ');
}

/** Returns the number, or the rule in words where the text does not meet it. */
function readCount(
  text: string,
  { min = 0, max = Number.MAX_SAFE_INTEGER, unit }: OptionSpec,
): number | string {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  const what = unit === undefined ? 'a whole number' : `a whole number of ${unit}`;
  if (max < Number.MAX_SAFE_INTEGER) return `${what} from ${min} to ${max}`;
  return min > 0 ? `${what} ≥ ${min}` : what;
}

/** Returns the milliseconds, or the rule in words where the text does not meet it. */
function readDuration(text: string, { min = 0, max = Infinity, off = true }: OptionSpec): number | string {
  const value = milliseconds(text);
  if (value === Infinity && off) return value;
  if (value === undefined || value === Infinity)
    return off ? 'a duration such as 500ms, 10s, 5m, 1h or off' : 'a duration such as 500ms, 10s, 5m or 1h';
  if (value < min) return `at least ${inUnits(min)}`;
  return value > max ? `at most ${inUnits(max)}${off ? ', or off' : ''}` : value;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const SIZES: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Returns the bytes, or the rule in words where the text does not meet it. */
function readSize(text: string): number | string {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB|)$/.exec(text) ?? [];
  const bytes = digits === '' ? NaN : Number(digits) * SIZES[unit]!;
  return Number.isSafeInteger(bytes) ? bytes : 'a number of bytes such as 65536, 64KiB or 256MiB';
}

function milliseconds(text: string): number | undefined {
  if (text === 'off') return Infinity;
  if (text === '0') return 0;
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * UNITS[unit]!;
}

/** Rounded down to tenths of an hour, so that the limit itself is accepted. */
function inUnits(duration: number): string {
  return duration < 3_600_000 ? `${duration}ms` : `${Math.floor(duration / 360_000) / 10}h`;
}

// ── a module's options as the command calls them ──────────────────────────────────────────────────────────

/** `` `maxAge` must be …, got 0 `` becomes `--history-age must be …, got "0s"`. */
function renamed(
  message: string,
  { values, written }: CommandLine<OptionSpecs>,
  names: Readonly<Record<string, readonly string[]>>,
): string {
  const [, option = '', limit, got] = /^`(\w+)` (.*?)(?:, got (.*))?$/s.exec(message) ?? [];
  const possible = Object.hasOwn(names, option) ? names[option]! : [];
  const name = possible.find((one) => String(values[one]) === got) ?? possible[0];
  if (name === undefined) return message;
  const text = String(values[name]) === got ? JSON.stringify(written.get(name)?.at(-1)) : got;
  return `--${name} ${limit}${got === undefined ? '' : `, got ${text}`}`;
}
