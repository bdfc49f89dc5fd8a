import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Labels, METRICS_CONTENT_TYPE, Registry } from '../lib/metrics.ts';

/** Reads one line back as the format's own text says it is to be read. */
function parseLine(line: string): { name: string; labels: Record<string, string>; value: string } {
  const [, name, inner = '', value] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s.exec(line)!;
  const labels: Record<string, string> = {};
  for (const [, label, text] of inner.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/gs)) {
    labels[label!] = text!.replace(/\\(.)/gs, (_, character) => (character === 'n' ? '\n' : character));
  }
  return { name: name!, labels, value: value! };
}

describe('Registry', () => {
  it('writes what it reads at the time, in the order of registration', () => {
    const registry = new Registry();
    let open = 2;
    registry
      .gauge('streams_open', 'Streams that are open.', () => open)
      .counter('streams_closed_total', 'Streams closed, by reason.', () => [
        [{ reason: 'ended' }, 7],
        [{ reason: 'client-gone' }, 1],
      ]);
    const text = (count: number) => `# HELP streams_open Streams that are open.
# TYPE streams_open gauge
streams_open ${count}
# HELP streams_closed_total Streams closed, by reason.
# TYPE streams_closed_total counter
streams_closed_total{reason="ended"} 7
streams_closed_total{reason="client-gone"} 1
`;
    assert.equal(registry.render(), text(2));
    open = 3;
    assert.equal(registry.render(), text(3));
    assert.equal(registry.contentType, 'text/plain; version=0.0.4; charset=utf-8');
    assert.equal(METRICS_CONTENT_TYPE, registry.contentType);
    assert.equal(new Registry().render(), '');
  });

  it('writes a histogram with cumulative buckets, its sum and its count', () => {
    const registry = new Registry();
    const latency = registry.histogram('latency_seconds', 'To the socket.', [0.001, 0.01, 0.1]);
    for (const value of [0.0005, 0.001, 0.002, 0.05, 3, -1]) latency.observe(value);
    assert.equal(
      registry.render(),
      `# HELP latency_seconds To the socket.
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.001"} 3
latency_seconds_bucket{le="0.01"} 4
latency_seconds_bucket{le="0.1"} 5
latency_seconds_bucket{le="+Inf"} 6
latency_seconds_sum ${0.0005 + 0.001 + 0.002 + 0.05 + 3 - 1}
latency_seconds_count 6
`,
    );
  });

  it('writes numbers that have no decimal form', () => {
    const values = [Number.NaN, Infinity, -Infinity, -0, 1e21, 5e-324, Number.MAX_SAFE_INTEGER];
    const registry = new Registry().gauge('x', '', () => values.map((value, n) => [{ n }, value] as const));
    const written = registry
      .render()
      .split('\n')
      .slice(2, -1)
      .map((line) => line.split(' ')[1]);
    assert.deepEqual(written, ['NaN', '+Inf', '-Inf', '0', '1e+21', '5e-324', '9007199254740991']);
  });

  it('escapes help and labels', () => {
    const registry = new Registry().gauge('x', 'a\\b\n"c"', () => [[{ path: 'a\\b\n"c"' }, 1]]);
    assert.equal(registry.render(), '# HELP x a\\\\b\\n"c"\n# TYPE x gauge\nx{path="a\\\\b\\n\\"c\\""} 1\n');
  });

  it('reads back as it was, whatever the labels hold', () => {
    const label = fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed());
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9_]{0,8}$/), label),
        fc.double(),
        (labels, value) => {
          const text = new Registry().gauge('x', '', () => [[labels as Labels, value]]).render();
          const lines = text.split('\n');
          assert.equal(lines.length, 4);
          const parsed = parseLine(lines[2]!);
          assert.deepEqual({ ...parsed.labels }, { ...labels });
          assert.ok(
            Number.isFinite(value) ? Number(parsed.value) === value : /^(NaN|[+-]Inf)$/.test(parsed.value),
          );
        },
      ),
    );
  });

  it('counts every value once, in the first bucket that holds it', () => {
    const bounds = fc.uniqueArray(fc.integer({ min: -50, max: 50 }), { minLength: 0, maxLength: 8 });
    fc.assert(
      fc.property(bounds, fc.array(fc.integer({ min: -60, max: 60 })), (unsorted, values) => {
        const sorted = unsorted.sort((a, b) => a - b);
        const registry = new Registry();
        const histogram = registry.histogram('x', '', sorted);
        for (const value of values) histogram.observe(value);
        const lines = registry.render().split('\n').slice(2, -1).map(parseLine);
        for (const [nth, bound] of [...sorted, Infinity].entries()) {
          const { labels, value } = lines[nth]!;
          assert.equal(labels.le, bound === Infinity ? '+Inf' : String(bound));
          assert.equal(Number(value), values.filter((one) => one <= bound).length);
        }
        assert.equal(lines.at(-2)?.value, String(values.reduce((sum, value) => sum + value, 0)));
        assert.equal(lines.at(-1)?.value, String(values.length));
      }),
    );
  });

  it('refuses names that are none, and names that are taken, by a histogram’s lines too', () => {
    const registry = new Registry();
    const gauge = (name: string) => () => registry.gauge(name, '', () => 1);
    for (const name of ['', '1a', 'a-b', 'a b', 'é', 'a\n', 'a.b']) {
      assert.throws(gauge(name), {
        name: 'TypeError',
        message: `\`name\` must be letters, digits, _ and :, got ${JSON.stringify(name)}`,
      });
    }
    registry.histogram('h', '', [1]);
    registry.gauge('g_count', '', () => 1);
    for (const name of ['h', 'h_bucket', 'h_sum', 'h_count'])
      assert.throws(gauge(name), /`name` must be a new one/);
    assert.throws(() => registry.histogram('g', '', [1]), /got "g_count"$/);
    registry.gauge('g', '', () => 1);
    assert.throws(
      () => registry.gauge('x', undefined as never, () => 1),
      /`help` must be a string, got undefined/,
    );
  });

  it('refuses bounds that do not rise, and values that are none', () => {
    for (const bounds of [[1, 1], [2, 1], [Number.NaN], [1, Infinity]]) {
      assert.throws(
        () => new Registry().histogram('x', '', bounds),
        /^TypeError: `bounds` must be finite numbers that rise, got /,
      );
    }
    const histogram = new Registry().histogram('x', '', [1]);
    assert.throws(() => histogram.observe(Number.NaN), {
      name: 'TypeError',
      message: '`value` must be a number, got NaN',
    });
    assert.throws(() => histogram.observe('1' as never), TypeError);
  });

  it('names the family whose reading cannot be written', () => {
    const render = (read: () => unknown) => new Registry().gauge('bad', '', read as never).render();
    assert.throws(() => render(() => [[{}, undefined]]), {
      name: 'TypeError',
      message: '`bad` must be read as numbers, got undefined',
    });
    assert.throws(() => render(() => [[{ 'a-b': 1 }, 1]]), /^TypeError: `bad` has a bad label name: "a-b"$/);
    assert.throws(() => render(() => [[{ __name__: 1 }, 1]]), /bad label name/);
    const twice = () => [
      [{ a: 1, b: 2 }, 1],
      [{ b: 2, a: 1 }, 1],
    ];
    assert.throws(
      () => render(twice),
      /^TypeError: `bad` was read twice with the same labels: bad\{a="1",b="2"\}$/,
    );
    assert.throws(
      () => render(() => undefined),
      /^TypeError: `bad` must be read as a number or several with labels, got undefined$/,
    );
  });
});
