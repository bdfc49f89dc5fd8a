import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { metricsContentType, type Reading, Registry, registerProcess } from '../lib/metrics.ts';
import { fakeTime } from './helpers/clock.ts';
import { readExposition } from './helpers/exposition.ts';
import { serve } from './helpers/server.ts';

const nothing = () => 0;

function gauge(read: () => Reading): string {
  return new Registry().gauge('g', 'A gauge.', read).render();
}

describe('Registry', () => {
  it('renders counters, gauges and histograms in the text format', () => {
    const registry = new Registry();
    registry.counter('http_requests_total', 'Requests, by outcome.', () => [
      [{ method: 'get', code: 200 }, 1027],
      [{ method: 'post', code: 400 }, 3],
    ]);
    registry.gauge('temperature_celsius', 'Inside.', () => -3.5);
    const seconds = registry.histogram('request_seconds', 'Until the last byte.', [0.05, 1]);
    for (const value of [0.05, 0.25, 17]) seconds.observe(value);
    assert.equal(
      registry.render(),
      `# HELP http_requests_total Requests, by outcome.
# TYPE http_requests_total counter
http_requests_total{code="200",method="get"} 1027
http_requests_total{code="400",method="post"} 3
# HELP temperature_celsius Inside.
# TYPE temperature_celsius gauge
temperature_celsius -3.5
# HELP request_seconds Until the last byte.
# TYPE request_seconds histogram
request_seconds_bucket{le="0.05"} 1
request_seconds_bucket{le="1"} 2
request_seconds_bucket{le="+Inf"} 3
request_seconds_sum 17.3
request_seconds_count 3
`,
    );
  });

  it('renders an empty page while nothing is registered', () => {
    assert.equal(new Registry().render(), '');
  });

  it('reads the numbers for each page anew', () => {
    let open = 1;
    const registry = new Registry().gauge('open', 'Open streams.', () => open);
    registry.render();
    open = 2;
    assert.match(registry.render(), /^open 2$/m);
  });

  it('escapes backslash and line feed, and quotes in labels only', () => {
    const page = new Registry().gauge('g', 'a\\b\n"c"', () => [[{ a: 'a\\b\n"c"' }, 1]]).render();
    assert.equal(page, '# HELP g a\\\\b\\n"c"\n# TYPE g gauge\ng{a="a\\\\b\\n\\"c\\""} 1\n');
  });

  it('writes NaN, infinities and exponents as Prometheus does', () => {
    const page = gauge(() => [NaN, Infinity, -Infinity, -0, 1e21, 1.5e-7].map((value, i) => [{ i }, value]));
    const spelled = page.matchAll(/^g\{.*\} (.*)$/gm);
    assert.deepEqual(
      [...spelled].map(([, value]) => value),
      ['NaN', '+Inf', '-Inf', '0', '1e+21', '1.5e-7'],
    );
  });

  it('leaves out empty labels, which Prometheus treats as missing', () => {
    assert.match(
      gauge(() => [[{ a: '', b: 'x' }, 1]]),
      /^g\{b="x"\} 1$/m,
    );
    assert.match(
      gauge(() => [[{ a: '' }, 1]]),
      /^g 1$/m,
    );
  });

  it('can be read back, whatever help, labels and numbers contain', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('\\', '"', '\n', '\r', 'n', '{', '}', ',', '=', ' ', '#', 'é') }),
    );
    const name = fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9_]{0,5}$/);
    const labels = fc.dictionary(
      name,
      text.filter((value) => value !== ''),
      { noNullPrototype: true },
    );
    const sample = fc.tuple(labels, fc.oneof(fc.double(), fc.integer()));
    const samples = fc.uniqueArray(sample, {
      selector: ([pairs]) => JSON.stringify(Object.entries(pairs).sort()),
    });
    fc.assert(
      fc.property(text, samples, (help, expected) => {
        fc.pre(help.trim() !== '');
        const page = new Registry().gauge('g', help, () => expected).render();
        const family = readExposition(page).get('g')!;
        assert.equal(family.help, help);
        // -0 is rendered as 0.
        const plain = expected.map(([pairs, value]) => ({ name: 'g', labels: pairs, value: value + 0 }));
        assert.deepEqual(
          family.samples.map((each) => ({ ...each, labels: { ...each.labels } })),
          plain.map((each) => ({ ...each, labels: { ...each.labels } })),
        );
      }),
    );
  });

  describe('with a reading that cannot be rendered', () => {
    const failing: [string, () => unknown][] = [
      ['throws', () => assert.fail('on purpose')],
      [
        'throws half-way',
        function* () {
          yield [{}, 1];
          assert.fail('on purpose');
        },
      ],
      ['is a promise', async () => 1],
      ['is a string', () => '1'],
      ['is undefined', () => undefined],
      ['holds a value that is not a number', () => [[{}, '1']]],
      ['holds a bigint', () => [[{}, 1n]]],
      [
        'has the same labels twice',
        () => [
          [{ a: 'x', b: 'y' }, 1],
          [{ b: 'y', a: 'x' }, 2],
        ],
      ],
      [
        'has labels that are the same as UTF-8',
        () => [
          [{ a: '\ud800' }, 1],
          [{ a: '\udbff' }, 2],
        ],
      ],
      [
        'has labels that differ in an empty label only',
        () => [
          [{}, 1],
          [{ a: '' }, 2],
        ],
      ],
      ['has a label with a dash', () => [[{ 'a-b': 'x' }, 1]]],
      ['has a label that Prometheus reserves', () => [[{ __name__: 'x' }, 1]]],
      ['has a label that is undefined', () => [[{ a: undefined }, 1]]],
      ['is below zero', () => -1],
      ['is NaN', () => NaN],
    ];

    for (const [how, read] of failing)
      it(`leaves out only that family when the reading ${how}`, () => {
        const errors: [unknown, unknown][] = [];
        const registry = new Registry({ onError: (...reported) => errors.push(reported) });
        registry.counter('before_total', 'Before.', nothing);
        registry.counter('bad_total', 'Bad.', read as () => Reading);
        registry.counter('after_total', 'After.', nothing);
        const page = registry.render();
        assert.match(page, /^# could not be read: bad_total$/m);
        assert.deepEqual([...readExposition(page).keys()], ['before_total', 'after_total']);
        assert.equal(errors.length, 1);
        assert.ok(errors[0]![0] instanceof Error);
        assert.deepEqual(errors[0]![1], { family: 'bad_total' });
      });

    it('renders the page without onError too', () => {
      assert.equal(
        gauge(() => assert.fail('on purpose')),
        '# could not be read: g\n',
      );
    });
  });

  it('leaves a name free when another argument is refused', () => {
    const own = new Registry();
    assert.throws(() => own.gauge('g', '', nothing));
    assert.throws(() => own.histogram('h', 'H.', []));
    own.gauge('g', 'G.', nothing).histogram('h', 'H.', [1]);
    assert.equal(readExposition(own.render()).size, 2);
  });

  describe('throws a TypeError for', () => {
    const registry = () => new Registry();
    const wrong: [string, () => unknown, RegExp][] = [
      [
        'a counter whose name does not end in _total',
        () => registry().counter('c', 'C.', nothing),
        /must end in _total, got c$/,
      ],
      [
        'a gauge whose name ends in _total',
        () => registry().gauge('g_total', 'G.', nothing),
        /must not end in _total/,
      ],
      [
        'a gauge named as part of a histogram',
        () => registry().gauge('g_sum', 'G.', nothing),
        /must not end in _sum/,
      ],
      [
        'a histogram named as a part',
        () => registry().histogram('h_count', 'H.', [1]),
        /must not end in _count/,
      ],
      [
        'a name with a dash',
        () => registry().gauge('a-b', 'G.', nothing),
        /`name` must be letters.*got "a-b"/,
      ],
      ['a name with a line feed', () => registry().gauge('a\n', 'G.', nothing), /`name` must be letters/],
      [
        'a name that begins with a digit',
        () => registry().counter('0_total', 'G.', nothing),
        /`name` must be letters/,
      ],
      ['a missing name', () => registry().gauge(undefined as never, 'G.', nothing), /`name` must be letters/],
      ['empty help', () => registry().gauge('g', '', nothing), /`help` must say what g is, got ""/],
      [
        'a name that is taken',
        () => registry().gauge('g', 'G.', nothing).gauge('g', 'G.', nothing),
        /`name` must be free, got g, which is taken/,
      ],
      [
        'no buckets',
        () => registry().histogram('h', 'H.', []),
        /`buckets` must be finite numbers that ascend/,
      ],
      ['buckets that do not ascend', () => registry().histogram('h', 'H.', [1, 1]), /got 1,1$/],
      ['an infinite bucket', () => registry().histogram('h', 'H.', [1, Infinity]), /got 1,Infinity$/],
      ['an observation of NaN', () => registry().histogram('h', 'H.', [1]).observe(NaN), /`value`.*got NaN/],
      [
        'an observation of a string',
        () =>
          registry()
            .histogram('h', 'H.', [1])
            .observe('1' as never),
        /`value`.*got 1/,
      ],
      [
        'the label le in an observation',
        () => registry().histogram('h', 'H.', [1]).observe(1, { le: '1' }),
        /a label's name must be.*not reserved, got "le"/,
      ],
    ];

    for (const [what, action, message] of wrong)
      it(what, () =>
        assert.throws(action, (error) => error instanceof TypeError && message.test(error.message)),
      );

    it('a histogram where one of its parts is taken', () => {
      const own = registry();
      own.histogram('h', 'H.', [1]);
      assert.throws(() => own.histogram('h', 'H.', [1]), /which is taken/);
    });
  });
});

describe('the series of a family', () => {
  it('are at most `maxSeries`, whatever labels an application makes', () => {
    const registry = new Registry({ maxSeries: 3 });
    const many = Array.from({ length: 10 }, (_, i) => [{ path: `/${i}` }, i] as const);
    let read = 0;
    registry.gauge('a', 'A.', function* () {
      for (const sample of many) {
        read++;
        yield sample;
      }
    } as never);
    registry.counter('b_total', 'B.', () => many.slice(0, 3));
    const histogram = registry.histogram('c', 'C.', [1]);
    for (const [labels, value] of many) histogram.observe(value, labels);
    const page = registry.render();
    assert.match(page, /a\{path="\/2"\} 2\n# more than 3 series: a\n/);
    assert.equal(read, 4);
    assert.match(page, /b_total\{path="\/2"\} 2\n(?!# more)/);
    assert.match(page, /c_count\{path="\/2"\} 1\n/);
    assert.match(page, /c_sum 42\nc_count 7\n/);
    assert.equal(page.split('c_count').length - 1, 4);
  });

  it('are at most a whole number', () => {
    assert.throws(() => new Registry({ maxSeries: 0 }), /`maxSeries` must be .* got 0/);
  });
});

describe('a histogram', () => {
  it('is rendered with zeros before the first value', () => {
    const registry = new Registry();
    registry.histogram('h', 'H.', [1]);
    assert.deepEqual(
      readExposition(registry.render())
        .get('h')!
        .samples.map(({ value }) => value),
      [0, 0, 0, 0],
    );
  });

  it('copies the array of its buckets', () => {
    const registry = new Registry();
    const bounds = [1, 2];
    registry.histogram('h', 'H.', bounds);
    bounds.reverse();
    const buckets = readExposition(registry.render()).get('h')!.samples;
    assert.deepEqual(
      buckets.flatMap(({ labels }) => labels.le ?? []),
      ['1', '2', '+Inf'],
    );
  });

  it('keeps different labels apart, in any order of their names', () => {
    const registry = new Registry();
    const h = registry.histogram('h', 'H.', [1]);
    h.observe(1, { a: 'x', b: 'y' });
    h.observe(2, { b: 'y', a: 'x' });
    h.observe(3, { a: 'z' });
    const counts = readExposition(registry.render())
      .get('h')!
      .samples.filter(({ name }) => name === 'h_count');
    assert.deepEqual(
      counts.map(({ labels, value }) => [{ ...labels }, value]),
      [
        [{ a: 'x', b: 'y' }, 2],
        [{ a: 'z' }, 1],
      ],
    );
  });

  it('counts in each bucket all values up to its bound', () => {
    const finite = { noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 };
    const bounds = fc
      .uniqueArray(fc.double(finite), { minLength: 1 })
      .map((all) => [...new Set(all.map((bound) => bound + 0))].sort((a, b) => a - b));
    fc.assert(
      fc.property(bounds, fc.array(fc.double(finite)), (buckets, values) => {
        const registry = new Registry();
        const h = registry.histogram('h', 'H.', buckets);
        // A value on a bound belongs to its bucket.
        const all = [...values, ...buckets, Infinity];
        for (const value of all) h.observe(value);
        const { samples } = readExposition(registry.render()).get('h')!;
        for (const { name, labels, value } of samples.filter(({ name }) => name === 'h_bucket')) {
          const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
          assert.equal(value, all.filter((each) => each <= bound).length, `${name} ${bound}`);
        }
        assert.equal(samples.at(-2)!.value, Infinity);
      }),
    );
  });
});

describe('registerProcess', () => {
  it('reports memory, CPU time and the event loop in base units', () => {
    const registry = new Registry({ onError: (error) => assert.fail(error as Error) });
    registerProcess(registry)();
    const families = readExposition(registry.render());
    const value = (name: string) => families.get(name)!.samples[0]!.value;
    assert.ok(value('process_resident_memory_bytes') > 10e6);
    assert.ok(value('nodejs_heap_used_bytes') < value('process_resident_memory_bytes'));
    const seconds = value('process_cpu_seconds_total');
    assert.ok(seconds > 0 && seconds < 3600);
    assert.ok(Math.abs(value('process_start_time_seconds') + process.uptime() - Date.now() / 1000) < 60);
    assert.ok(value('nodejs_event_loop_active_seconds_total') <= process.uptime());
  });

  it('counts a stall of the event loop with its full length, and each tick that it skipped', (t) => {
    const time = fakeTime(t);
    const registry = new Registry();
    t.after(registerProcess(registry));
    const count = () => sampleOf(registry, 'nodejs_event_loop_delay_seconds_count');
    const sum = () => sampleOf(registry, 'nodejs_event_loop_delay_seconds_sum');
    time.advance(250);
    assert.deepEqual([count(), sum()], [1, 0]);
    time.hang(1270);
    time.advance(0);
    // Five ticks were due, late by 1,020, 770, … 20 ms.
    assert.equal(count(), 6);
    assert.equal(Math.round(sum() * 1000), 2600);
    // The tick after the stall is on time again.
    time.advance(250);
    assert.equal(count(), 7);
    assert.equal(Math.round(sum() * 1000), 2600);
  });

  it('keeps no process alive', () => {
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const stop = registerProcess(new Registry());
    assert.equal(timers(), before);
    stop();
  });
});

it('a page is served with metricsContentType and read as UTF-8', async (t) => {
  const registry = new Registry().gauge('g', 'Größe.', () => [[{ name: 'é' }, 1]]);
  const { url } = await serve(t, (_req, res) =>
    res.writeHead(200, { 'content-type': metricsContentType }).end(registry.render()),
  );
  const response = await fetch(`${url}metrics`);
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.deepEqual({ ...readExposition(await response.text()).get('g')!.samples[0]!.labels }, { name: 'é' });
});

function sampleOf(registry: Registry, name: string): number {
  for (const family of readExposition(registry.render()).values())
    for (const sample of family.samples) if (sample.name === name) return sample.value;
  return assert.fail(`no ${name}`);
}
