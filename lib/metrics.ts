// Reads the numbers that modules keep and writes them down as Prometheus does.
// Stands alone: copy this file by itself.

/** Names and values of labels. Never client input: each new value is a new series, kept for ever by who reads it. */
export type Labels = Readonly<Record<string, string | number | boolean>>;

export type Sample = readonly [labels: Labels, value: number];

/** A number, or one for each set of labels. Asked at every reading, so it should only look things up. */
export type Read = () => number | Iterable<Sample>;

/** Counts how often values fell into which range. */
export interface Histogram {
  /** @throws {TypeError} when the value is no number: one NaN would spoil the sum for good. */
  observe(value: number): void;
}

/** The content type of what `render` gives. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * Families of metrics, each with the function that reads it. Nothing is counted here but histograms: what a
 * module counts anyway is looked up when somebody asks.
 *
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
export class Registry {
  /** The content type to answer with. */
  readonly contentType: string = METRICS_CONTENT_TYPE;
  readonly #families: Family[] = [];
  readonly #names: Set<string> = new Set();

  /**
   * What goes up and down.
   *
   * @throws {TypeError} when the name is no metric name, or is taken.
   */
  gauge(name: string, help: string, read: Read): this {
    return this.#register({ name, help, type: 'gauge', samples: () => readSamples(name, read) }, [name]);
  }

  /** What only goes up; its name ends in `_total` by custom. Else as `gauge`. */
  counter(name: string, help: string, read: Read): this {
    return this.#register({ name, help, type: 'counter', samples: () => readSamples(name, read) }, [name]);
  }

  /**
   * How values are spread, by upper bounds in rising order; one without bound is added.
   *
   * @throws {TypeError} when the name is no metric name or is taken, or the bounds do not rise.
   */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    const histogram = new Buckets(name, bounds);
    const names = ['', '_bucket', '_sum', '_count'].map((suffix) => name + suffix);
    this.#register({ name, help, type: 'histogram', samples: () => histogram.samples() }, names);
    return histogram;
  }

  /**
   * All families, in the order in which they were registered.
   *
   * @throws {TypeError} naming the family whose reading is not numbers with proper and different labels.
   */
  render(): string {
    return this.#families.map(renderFamily).join('');
  }

  #register(family: Family, names: readonly string[]): this {
    if (typeof family.name !== 'string' || !METRIC_NAME.test(family.name)) {
      throw new TypeError(`\`name\` must be letters, digits, _ and :, got ${JSON.stringify(family.name)}`);
    }
    if (typeof family.help !== 'string') throw new TypeError(`\`help\` must be a string, got ${family.help}`);
    for (const name of names) {
      if (this.#names.has(name))
        throw new TypeError(`\`name\` must be a new one, got ${JSON.stringify(name)}`);
    }
    for (const name of names) this.#names.add(name);
    this.#families.push(family);
    return this;
  }
}

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
// Those that begin with two underscores are Prometheus's own.
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly samples: () => Iterable<Line>;
}

type Line = readonly [name: string, labels: Labels, value: number];

function* readSamples(name: string, read: Read): Generator<Line> {
  const reading = read();
  if (typeof reading === 'number') {
    yield [name, {}, reading];
  } else if (typeof reading?.[Symbol.iterator] === 'function') {
    for (const [labels, value] of reading) yield [name, labels, value];
  } else {
    throw new TypeError(`\`${name}\` must be read as a number or several with labels, got ${reading}`);
  }
}

function renderFamily({ name, help, type, samples }: Family): string {
  let text = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
  const seen = new Set<string>();
  for (const [line, labels, value] of samples()) {
    const series = line + renderLabels(name, labels);
    if (seen.has(series)) throw new TypeError(`\`${name}\` was read twice with the same labels: ${series}`);
    seen.add(series);
    text += `${series} ${renderValue(name, value)}\n`;
  }
  return text;
}

/** In the order of their names, so that the same labels are the same text. */
function renderLabels(family: string, labels: Labels): string {
  const names = Object.keys(labels).sort();
  if (names.length === 0) return '';
  for (const name of names) {
    if (!LABEL_NAME.test(name))
      throw new TypeError(`\`${family}\` has a bad label name: ${JSON.stringify(name)}`);
  }
  return `{${names.map((name) => `${name}="${escapeLabel(String(labels[name]))}"`).join()}}`;
}

function renderValue(family: string, value: number): string {
  if (typeof value !== 'number') throw new TypeError(`\`${family}\` must be read as numbers, got ${value}`);
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}

function escapeHelp(text: string): string {
  return text.toWellFormed().replace(/[\\\n]/g, (character) => (character === '\n' ? '\\n' : '\\\\'));
}

function escapeLabel(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\\\n"]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}

class Buckets implements Histogram {
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  constructor(name: string, bounds: readonly number[]) {
    const rising = bounds.every(
      (bound, nth) => Number.isFinite(bound) && (nth === 0 || bound > bounds[nth - 1]!),
    );
    if (!rising) throw new TypeError(`\`bounds\` must be finite numbers that rise, got ${bounds}`);
    this.#name = name;
    this.#bounds = [...bounds];
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    if (typeof value !== 'number' || Number.isNaN(value))
      throw new TypeError(`\`value\` must be a number, got ${value}`);
    let nth = 0;
    while (value > this.#bounds[nth]!) nth++;
    this.#counts[nth]!++;
    this.#sum += value;
  }

  /** Each bucket counts all that is not above its bound, so those of the buckets before it too. */
  *samples(): Generator<Line> {
    let count = 0;
    for (const [nth, added] of this.#counts.entries()) {
      count += added;
      yield [`${this.#name}_bucket`, { le: renderValue(this.#name, this.#bounds[nth] ?? Infinity) }, count];
    }
    yield [`${this.#name}_sum`, {}, this.#sum];
    yield [`${this.#name}_count`, {}, count];
  }
}
