// Shows numbers that are kept elsewhere as a page that Prometheus reads: text format 0.0.4, exactly.
// Stands alone: copy this file by itself.

import { performance } from 'node:perf_hooks';

/** What the page must be served as. */
export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

/** Never of what a client sent: every new value is a series that Prometheus keeps for weeks. */
export type Labels = Readonly<Record<string, string | number>>;

export type Sample = readonly [labels: Labels, value: number];

/** One number, or one for each set of labels. */
export type Reading = number | Iterable<Sample>;

export interface Histogram {
  /**
   * Counts a value in its bucket.
   * @throws {TypeError} for what is not a number, and for labels that cannot be written.
   */
  observe(value: number, labels?: Labels): void;
}

export interface RegistryOptions {
  /** Told of each reading that failed; by default nobody is. */
  onError?: ((error: unknown, name: string) => void) | undefined;
}

/**
 * The families of numbers on one page, in the order in which they were registered.
 *
 * Nothing is counted here but histograms: a counter or a gauge is read when the page is asked for. Where a reading
 * throws or cannot be written, its family is left out, a comment in its place, and the rest of the page stands.
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export class Registry {
  readonly #families: Family[] = [];
  readonly #taken = new Set<string>();
  readonly #onError: (error: unknown, name: string) => void;

  constructor(options: RegistryOptions = {}) {
    this.#onError = options.onError ?? (() => {});
  }

  /**
   * A number that only grows, until the process starts anew.
   * @throws {TypeError} when the name is no metric's, is taken, or does not end in `_total`; or without help.
   */
  counter(name: string, help: string, read: () => Reading): this {
    if (!checkName(name).endsWith('_total'))
      throw new TypeError(`a counter's \`name\` must end in _total, got ${name}`);
    const render = () => scalars(name, read(), isCount);
    return this.#add({ name, help, type: 'counter', render }, [name]);
  }

  /**
   * A number that goes up and down.
   * @throws {TypeError} when the name is no metric's, is taken, or ends as one of another type; or without help.
   */
  gauge(name: string, help: string, read: () => Reading): this {
    checkEnd(name);
    const render = () => scalars(name, read(), isNumber);
    return this.#add({ name, help, type: 'gauge', render }, [name]);
  }

  /**
   * How many values there were up to each bound. `buckets` are the upper bounds, ascending, in the base unit
   * (seconds, bytes); the one for all the rest comes by itself.
   * @throws {TypeError} as `gauge` does, and for bounds that are not finite or do not ascend.
   */
  histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    const histogram = new Buckets(checkEnd(name), checkBuckets(buckets));
    const names = [name, `${name}_bucket`, `${name}_sum`, `${name}_count`];
    this.#add({ name, help, type: 'histogram', render: () => histogram.render() }, names);
    return histogram;
  }

  /** The page. Serve it as `metricsContentType`. */
  render(): string {
    return this.#families.map((family) => this.#section(family)).join('');
  }

  #add(family: Family, names: readonly string[]): this {
    if (typeof family.help !== 'string' || family.help.trim() === '')
      throw new TypeError(`\`help\` must say what ${family.name} is, got ${JSON.stringify(family.help)}`);
    for (const name of names)
      if (this.#taken.has(name)) throw new TypeError(`\`name\` must be free, got ${name}, which is taken`);
    for (const name of names) this.#taken.add(name);
    this.#families.push(family);
    return this;
  }

  #section({ name, help, type, render }: Family): string {
    try {
      return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n${render()}`;
    } catch (error) {
      this.#onError(error, name);
      return `# could not be read: ${name}\n`;
    }
  }
}

/**
 * What is worth knowing of any Node process: memory, CPU, and how late its event loop is. Returns what ends the
 * measuring of the latter.
 */
export function registerProcess(registry: Registry): () => void {
  const { memoryUsage } = process;
  registry
    .counter('process_cpu_seconds_total', 'CPU time spent, user and system.', cpuSeconds)
    .gauge('process_resident_memory_bytes', 'Memory that the process has in RAM.', () => memoryUsage.rss())
    .gauge('process_start_time_seconds', 'When the process started, in Unix time.', startTime)
    .gauge('nodejs_heap_used_bytes', 'JavaScript objects, dead ones included.', () => memoryUsage().heapUsed)
    .counter(
      'nodejs_event_loop_active_seconds_total',
      'Its rate is how busy the event loop is.',
      activeSeconds,
    );
  const help = 'How late the event loop came to a timer.';
  return observeDelay(registry.histogram('nodejs_event_loop_delay_seconds', help, DELAYS));
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  render(): string;
}

/** The samples of a counter or a gauge. */
function scalars(name: string, reading: Reading, isFit: (value: number) => boolean): string {
  const samples: Iterable<Sample> = typeof reading === 'number' ? [[{}, reading]] : reading;
  const seen = new Set<string>();
  let text = '';
  for (const [labels, value] of samples) {
    const pairs = renderLabels(labels);
    if (!isFit(value)) throw new TypeError(`${name} must not be ${value}`);
    if (seen.has(pairs)) throw new TypeError(`${name} must not have {${pairs}} twice`);
    seen.add(pairs);
    text += line(name, pairs, value);
  }
  return text;
}

class Buckets implements Histogram {
  readonly #name: string;
  readonly #bounds: readonly number[];
  /** By rendered labels: how many values fell into each bucket, not added up. */
  readonly #series = new Map<string, Series>();

  constructor(name: string, bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
  }

  observe(value: number, labels?: Labels): void {
    if (!isNumber(value) || Number.isNaN(value))
      throw new TypeError(`\`value\` must be a number, got ${value}`);
    const series = this.#of(labels === undefined ? '' : renderLabels(labels, 'le'));
    let bucket = 0;
    while (bucket < this.#bounds.length && value > this.#bounds[bucket]!) bucket++;
    series.counts[bucket]!++;
    series.sum += value;
  }

  render(): string {
    // One that has no labels is there from the start, so that the first value is a step up from 0.
    if (this.#series.size === 0) return this.#section('', this.#empty());
    return [...this.#series].map(([pairs, series]) => this.#section(pairs, series)).join('');
  }

  #of(pairs: string): Series {
    let series = this.#series.get(pairs);
    if (series === undefined) {
      series = this.#empty();
      this.#series.set(pairs, series);
    }
    return series;
  }

  #empty(): Series {
    return { counts: new Array<number>(this.#bounds.length + 1).fill(0), sum: 0 };
  }

  #section(pairs: string, { counts, sum }: Series): string {
    const before = pairs === '' ? '' : `${pairs},`;
    let count = 0;
    let text = '';
    counts.forEach((inBucket, index) => {
      count += inBucket;
      const bound = renderNumber(this.#bounds[index] ?? Infinity);
      text += line(`${this.#name}_bucket`, `${before}le="${bound}"`, count);
    });
    return text + line(`${this.#name}_sum`, pairs, sum) + line(`${this.#name}_count`, pairs, count);
  }
}

interface Series {
  readonly counts: number[];
  sum: number;
}

function line(name: string, pairs: string, value: number): string {
  return `${name}${pairs === '' ? '' : `{${pairs}}`} ${renderNumber(value)}\n`;
}

function renderNumber(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}

/** In the order of their names, so that one set of labels is one text. */
function renderLabels(labels: Labels, reserved?: string): string {
  const pairs: string[] = [];
  for (const name of Object.keys(labels).sort()) {
    const value = escapeValue(checkLabel(name, reserved), labels[name]);
    // To Prometheus a label that is empty is one that is not there.
    if (value !== '') pairs.push(`${name}="${value}"`);
  }
  return pairs.join(',');
}

function escapeHelp(help: string): string {
  return help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeValue(name: string, value: unknown): string {
  if (typeof value === 'number') return renderNumber(value);
  if (typeof value !== 'string')
    throw new TypeError(`label \`${name}\` must be a string or a number, got ${typeof value}`);
  return value.toWellFormed().replace(/[\\"\n]/g, (special) => (special === '\n' ? '\\n' : `\\${special}`));
}

function checkName(name: string): string {
  if (typeof name === 'string' && /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) return name;
  throw new TypeError(`\`name\` must be letters, digits, _ and :, got ${JSON.stringify(name)}`);
}

function checkEnd(name: string): string {
  const [end] = /_(?:total|bucket|sum|count)$/.exec(checkName(name)) ?? [];
  if (end === undefined) return name;
  throw new TypeError(`\`name\` must not end in ${end}, which tells of another type, got ${name}`);
}

function checkLabel(name: string, reserved: string | undefined): string {
  // Names that begin with two underscores are Prometheus's own.
  if (/^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) && name !== reserved) return name;
  throw new TypeError(
    `a label's name must be letters, digits and _, not reserved, got ${JSON.stringify(name)}`,
  );
}

function checkBuckets(buckets: readonly number[]): readonly number[] {
  const ascend = (bound: number, index: number) => index === 0 || bound > buckets[index - 1]!;
  if (Array.isArray(buckets) && buckets.length > 0 && buckets.every(Number.isFinite) && buckets.every(ascend))
    return [...buckets];
  throw new TypeError(`\`buckets\` must be finite numbers that ascend, got ${String(buckets)}`);
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number';
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && value >= 0;
}

// Each waking costs an idle process more than 0.1 ms: fifty a second were a fifth of what 15,000 idle streams take.
const BEAT_INTERVAL = 250;
const DELAYS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

// Not `monitorEventLoopDelay`: its quantiles are of the time since a reset, and two who read would reset for each other.
function observeDelay(histogram: Histogram): () => void {
  let due = performance.now() + BEAT_INTERVAL;
  const beat = () => {
    const now = performance.now();
    // Each beat that a long delay swallowed was late as well, or one stall of a second would count as one in four.
    for (let late = Math.max(0, now - due); late >= 0; late -= BEAT_INTERVAL) histogram.observe(late / 1000);
    due = now + BEAT_INTERVAL;
  };
  const timer = setInterval(beat, BEAT_INTERVAL).unref();
  return () => clearInterval(timer);
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function startTime(): number {
  return performance.timeOrigin / 1000;
}

function activeSeconds(): number {
  return performance.eventLoopUtilization().active / 1000;
}
