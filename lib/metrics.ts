// Renders numbers as a page for Prometheus, in text format 0.0.4.
// Stands alone: copy this file by itself.

import { performance } from 'node:perf_hooks';

/** The `Content-Type` of the page. */
export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

/** Never use text from clients as a value: each new value is a series that Prometheus keeps for weeks. */
export type Labels = Readonly<Record<string, string | number>>;

export type Sample = readonly [labels: Labels, value: number];

/** One number, or one for each set of labels. */
export type Reading = number | Iterable<Sample>;

export interface Histogram {
  /**
   * Counts a value in its bucket.
   * @throws {TypeError} for a value that is not a number, and for labels that cannot be written.
   */
  observe(value: number, labels?: Labels): void;
}

export interface RegistryOptions {
  /** Receives the error of each reading that failed, and the name of its family; by default it is ignored. */
  onError?: ((error: unknown, context: { readonly family: string }) => void) | undefined;
}

/**
 * The metric families of one page, in the order of their registration.
 *
 * Counters and gauges are read when the page is rendered; only histograms count by themselves. Where a
 * reading throws or cannot be written, a comment takes the place of its family, and the rest of the page is
 * rendered.
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export class Registry {
  readonly #families: Family[] = [];
  readonly #taken = new Set<string>();
  readonly #onError: (error: unknown, context: { readonly family: string }) => void;

  constructor(options: RegistryOptions = {}) {
    this.#onError = options.onError ?? (() => {});
  }

  /**
   * Registers a number that never decreases while the process lives.
   * @throws {TypeError} when the name is not a metric name, is taken, or does not end in `_total`; or without
   *   help.
   */
  counter(name: string, help: string, read: () => Reading): this {
    if (!checkName(name).endsWith('_total'))
      throw new TypeError(`a counter's \`name\` must end in _total, got ${name}`);
    const render = () => scalars(name, read(), isCount);
    return this.#add({ name, help, type: 'counter', render }, [name]);
  }

  /**
   * Registers a number that goes up and down.
   * @throws {TypeError} when the name is not a metric name, is taken, or has the ending of another type; or
   *   without help.
   */
  gauge(name: string, help: string, read: () => Reading): this {
    checkEnd(name);
    const render = () => scalars(name, read(), isNumber);
    return this.#add({ name, help, type: 'gauge', render }, [name]);
  }

  /**
   * Registers counts of values up to each bound. `buckets` are the upper bounds, ascending, in the base unit
   * (seconds, bytes); the bucket `+Inf` is added.
   * @throws {TypeError} as `gauge` does, and for bounds that are not finite or do not ascend.
   */
  histogram(name: string, help: string, buckets: readonly number[]): Histogram {
    const histogram = new Buckets(checkEnd(name), checkBuckets(buckets));
    const names = [name, `${name}_bucket`, `${name}_sum`, `${name}_count`];
    this.#add({ name, help, type: 'histogram', render: () => histogram.render() }, names);
    return histogram;
  }

  /** Renders the page. Serve it as `metricsContentType`. */
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
      this.#onError(error, { family: name });
      return `# could not be read: ${name}\n`;
    }
  }
}

/**
 * Registers memory, CPU time and event loop delay of this process. Returns a function that stops measuring
 * the delay.
 */
export function registerProcess(registry: Registry): () => void {
  const { memoryUsage } = process;
  registry
    .counter('process_cpu_seconds_total', 'User and system CPU time.', cpuSeconds)
    .gauge('process_resident_memory_bytes', 'Resident memory.', () => memoryUsage.rss())
    .gauge('process_start_time_seconds', 'Start time of the process, in Unix time.', startTime)
    .gauge(
      'nodejs_heap_used_bytes',
      'Heap in use, including garbage not yet collected.',
      () => memoryUsage().heapUsed,
    )
    .counter(
      'nodejs_event_loop_active_seconds_total',
      'Time the event loop was active; its rate is the utilization.',
      activeSeconds,
    );
  const help = 'Delay of a timer by the event loop.';
  return observeDelay(registry.histogram('nodejs_event_loop_delay_seconds', help, DELAYS));
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  render(): string;
}

/** Renders the samples of a counter or a gauge. */
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
  /** By rendered labels: the count of each bucket alone, not accumulated. */
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
    // Rendered with zeros before the first value, so that Prometheus sees it as an increase.
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

/** Sorted by name, so that equal labels have equal text. */
function renderLabels(labels: Labels, reserved?: string): string {
  const pairs: string[] = [];
  for (const name of Object.keys(labels).sort()) {
    const value = escapeValue(checkLabel(name, reserved), labels[name]);
    // Prometheus treats an empty label as a missing one.
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
  return wellFormed(value).replace(/[\\"\n]/g, (special) => (special === '\n' ? '\\n' : `\\${special}`));
}

/** The type of `String.prototype.toWellFormed` is in no `lib` before es2024; Node has it since 20. */
function wellFormed(text: string): string {
  return (text as unknown as { toWellFormed(): string }).toWellFormed();
}

function checkName(name: string): string {
  if (typeof name === 'string' && /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) return name;
  throw new TypeError(`\`name\` must be letters, digits, _ and :, got ${JSON.stringify(name)}`);
}

function checkEnd(name: string): string {
  const [end] = /_(?:total|bucket|sum|count)$/.exec(checkName(name)) ?? [];
  if (end === undefined) return name;
  throw new TypeError(`\`name\` must not end in ${end}, the ending of another type, got ${name}`);
}

function checkLabel(name: string, reserved: string | undefined): string {
  // Prometheus reserves names that begin with two underscores.
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

// Each wake-up costs an idle process more than 0.1 ms: 50 per second took a fifth of the CPU time of 15,000
// idle streams.
const TICK_INTERVAL = 250;
const DELAYS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

// Not `monitorEventLoopDelay`, whose quantiles count from a reset: two readers would reset each other's.
function observeDelay(histogram: Histogram): () => void {
  let due = performance.now() + TICK_INTERVAL;
  const tick = () => {
    const now = performance.now();
    // Also counts the ticks that a long delay has skipped; otherwise a stall of one second would count as one
    // late tick.
    for (let late = Math.max(0, now - due); late >= 0; late -= TICK_INTERVAL) histogram.observe(late / 1000);
    due = now + TICK_INTERVAL;
  };
  const timer = setInterval(tick, TICK_INTERVAL).unref();
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
