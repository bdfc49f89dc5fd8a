// Adds up the pages of metrics of several processes, so that they read as those of one server.
// Stands alone: copy this file by itself.

/** What the numbers of one family become. Of all others the sum is taken. */
const LARGEST = new Set([
  // Each worker may know every topic.
  ...['sluice_topics', 'sluice_lag_max_events', 'sluice_log_lag_seconds'],
  ...['sluice_draining', 'sluice_heartbeat_interval_seconds{bound="max"}'],
]);
const LEAST = new Set([
  ...['sluice_log_available', 'process_start_time_seconds', 'sluice_heartbeat_interval_seconds{bound="min"}'],
]);

/** What the owner counts for all. Each worker receives every event, and nothing of what came before it began. */
const OF_OWNER = ['sluice_published_events_total', 'sluice_published_bytes_total'];

interface Family {
  readonly head: string;
  readonly isGauge: boolean;
  /** By the name and the labels, as they are written. */
  readonly samples: Map<string, number>;
}

/** The numbers of some processes, family by family, in the order of the first page that has each. */
export class MetricsSum {
  readonly #families = new Map<string, Family>();

  /** Adds a page in the text format of Prometheus, as `Registry` renders it. Its comments are left out. */
  add(page: string): this {
    let family: Family | undefined;
    let help = '';
    for (const line of page.split('\n')) {
      const [, word = '', name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
      if (word === 'HELP') help = line;
      else if (word === 'TYPE') family = this.#family(name, `${help}\n${line}\n`, rest === 'gauge');
      else if (line !== '' && !line.startsWith('#') && family !== undefined) addSample(family, line);
    }
    return this;
  }

  /** The same without gauges: what a process has counted that is gone. */
  counts(): MetricsSum {
    const counts = new MetricsSum();
    for (const [name, family] of this.#families) if (!family.isGauge) counts.#families.set(name, family);
    return counts;
  }

  /** The same without what the owner counts for all. */
  ofWorker(): MetricsSum {
    const rest = new MetricsSum();
    for (const [name, family] of this.#families)
      if (!OF_OWNER.includes(name)) rest.#families.set(name, family);
    return rest;
  }

  render(): string {
    return [...this.#families.values()]
      .map(({ head, samples }) => {
        const lines = Array.from(samples, ([sample, value]) => `${sample} ${renderNumber(value)}\n`);
        return head + lines.join('');
      })
      .join('');
  }

  #family(name: string, head: string, isGauge: boolean): Family {
    const known = this.#families.get(name);
    if (known !== undefined) return known;
    const family = { head, isGauge, samples: new Map<string, number>() };
    this.#families.set(name, family);
    return family;
  }
}

function addSample({ samples }: Family, line: string): void {
  const end = line.lastIndexOf(' ');
  const sample = line.slice(0, end);
  const value = readNumber(line.slice(end + 1));
  const before = samples.get(sample);
  samples.set(sample, before === undefined ? value : combined(sample, before, value));
}

function combined(sample: string, one: number, other: number): number {
  if (LARGEST.has(sample)) return Math.max(one, other);
  return LEAST.has(sample) ? Math.min(one, other) : one + other;
}

function readNumber(text: string): number {
  if (text === '+Inf') return Infinity;
  return text === '-Inf' ? -Infinity : Number(text);
}

function renderNumber(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
