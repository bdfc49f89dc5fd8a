// Reads Prometheus text 0.0.4 line by line, stricter than Prometheus does, and throws at whatever is out of place.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
import assert from 'node:assert/strict';

export interface ReadSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface ReadFamily {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: ReadSample[];
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\]|\\\\|\\n)*)$/;
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.+)\})? (\S+)$/s;
const PAIR = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(,(?=.)|$)/y;
const NUMBER = /^(?:NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/;
const PARTS = { counter: [''], gauge: [''], histogram: ['_bucket', '_sum', '_count'] } as const;

/** The families by name. */
export function readExposition(page: string): Map<string, ReadFamily> {
  const families = new Map<string, ReadFamily>();
  if (page === '') return families;
  assert.ok(page.endsWith('\n'), 'the last line ends as well');
  const lines = page.slice(0, -1).split('\n');
  for (let at = 0; at < lines.length; ) {
    if (/^# (?!HELP|TYPE)/.test(lines[at]!)) {
      at++;
      continue;
    }
    const [, name = '', help = ''] = HELP.exec(lines[at]!) ?? assert.fail(`no HELP: ${lines[at]}`);
    const [, typed, type = ''] = TYPE.exec(lines[++at]!) ?? assert.fail(`no TYPE: ${lines[at]}`);
    assert.equal(typed, name);
    assert.ok(!families.has(name), `${name} is there twice`);
    const samples: ReadSample[] = [];
    for (at++; at < lines.length && !lines[at]!.startsWith('#'); at++) samples.push(readSample(lines[at]!));
    const family = { name, help: unescaped(help), type, samples };
    checkSamples(family);
    families.set(name, family);
  }
  return families;
}

function readSample(line: string): ReadSample {
  const [, name = '', pairs, value = ''] = SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
  assert.match(value, NUMBER, line);
  const infinity = { '+Inf': Infinity, '-Inf': -Infinity }[value];
  return { name, labels: pairs === undefined ? {} : readPairs(pairs), value: infinity ?? Number(value) };
}

function readPairs(pairs: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (PAIR.lastIndex = 0; PAIR.lastIndex < pairs.length; ) {
    const [, name = '', value = ''] = PAIR.exec(pairs) ?? assert.fail(`no labels: ${pairs}`);
    assert.ok(!Object.hasOwn(labels, name), `${name} is there twice: ${pairs}`);
    labels[name] = unescaped(value);
  }
  return labels;
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/gs, (_, escaped) => (escaped === 'n' ? '\n' : escaped));
}

function checkSamples({ name, type, samples }: ReadFamily): void {
  const allowed = PARTS[type as keyof typeof PARTS].map((part) => name + part);
  const series = new Set<string>();
  for (const sample of samples) {
    assert.ok(allowed.includes(sample.name), `${sample.name} is not of ${name}`);
    const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
    assert.ok(!series.has(key), `twice: ${key}`);
    series.add(key);
  }
  if (type === 'histogram') checkHistogram(name, samples);
}

/**
 * Each set of labels: buckets that ascend in bound and count, the last of them all there is, then sum and
 * count.
 */
function checkHistogram(name: string, samples: readonly ReadSample[]): void {
  for (let at = 0; at < samples.length; at++) {
    let [bound, count] = [-Infinity, 0];
    const { le: _, ...labels } = samples[at]!.labels;
    for (; samples[at]!.name === `${name}_bucket`; at++) {
      const { labels: own, value } = samples[at]!;
      const { le = '', ...others } = own;
      assert.deepEqual(others, labels);
      const next = le === '+Inf' ? Infinity : Number(le);
      assert.ok(next > bound && value >= count, `${name} at ${le}`);
      [bound, count] = [next, value];
    }
    assert.equal(bound, Infinity);
    const [sum, total] = [samples[at]!, samples[++at]!];
    assert.deepEqual([sum.name, sum.labels], [`${name}_sum`, labels]);
    assert.deepEqual([total.name, total.labels, total.value], [`${name}_count`, labels, count]);
  }
}
