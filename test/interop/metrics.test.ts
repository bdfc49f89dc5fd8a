// Gives the pages of metrics to Prometheus's own checker. Needs `promtool`: apt-get install prometheus.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Registry, registerProcess } from '../../lib/metrics.ts';
import { createSseServer } from '../../lib/server.ts';

/** Fails where promtool is absent: a check that is skipped is none. */
function check(page: string): void {
  const { error, status, stdout, stderr } = spawnSync(
    process.env.PROMTOOL ?? 'promtool',
    ['check', 'metrics'],
    {
      input: page,
      encoding: 'utf8',
    },
  );
  if (error !== undefined) throw error;
  assert.equal(status, 0, `${stdout}${stderr}\n${page}`);
}

describe('promtool check metrics', () => {
  it('notices what is wrong, or nothing below would mean anything', () => {
    assert.throws(() => check('# TYPE a_total counter\na_total{b="c" 1\n'));
    assert.throws(() => check('a_total 1\n'), /no help text/);
  });

  it('has nothing to say about a page with every kind of family', () => {
    const registry = new Registry();
    const stop = registerProcess(registry);
    registry
      .counter('sluice_streams_closed_total', 'Streams that are over, by reason.', () => [
        [{ reason: 'client-gone' }, 12],
        [{ reason: 'ended' }, 1e21],
      ])
      .gauge('sluice_streams', 'Streams that are open.', () => 3)
      .gauge('sluice_odd', 'Odd numbers: \\ \n "', () =>
        [NaN, Infinity, -Infinity, -0, 1.5e-7].map((value, i) => [{ i }, value]),
      )
      .gauge('sluice_none', 'No samples.', () => [])
      .gauge('sluice_failed', 'No reading.', () => assert.fail('on purpose'));
    const latency = registry.histogram(
      'sluice_publish_seconds',
      'From publish to socket.',
      [0.001, 0.01, 0.1],
    );
    for (const value of [0, 0.001, 0.05, 7]) latency.observe(value, { topic: 'a' });
    registry.histogram('sluice_page_bytes', 'Sizes of pages.', [1024, 65536]);
    check(registry.render());
    stop();
  });

  it('reads whatever help and labels hold', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('\\', '"', '\n', '\r', '{', '}', ',', '=', ' ', '#') }),
    );
    fc.assert(
      fc.property(text, fc.uniqueArray(text, { maxLength: 50 }), (help, values) => {
        fc.pre(help.trim() !== '');
        const samples = [...new Set(values.map((value) => value.toWellFormed()))].map(
          (value, i) => [{ value }, i] as const,
        );
        check(new Registry().gauge('sluice_any', help, () => samples).render());
      }),
      { numRuns: 50 },
    );
  });

  it('has nothing to say about a busy server', async () => {
    const sse = createSseServer({ hub: { history: { maxEvents: 10 } }, limits: { maxConnections: 20 } });
    const url = await sse.listen(0);
    const stop = new AbortController();
    const ids = ['', 'nonsense', '1-1'];
    const responses = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        fetch(`${url}/events?topic=${i % 3}&lastEventId=${ids[i % 3]}`, { signal: stop.signal }),
      ),
    );
    for (let i = 0; i < 1000; i++)
      await fetch(`${url}/topics/${i % 3}`, { method: 'POST', body: 'x'.repeat(i) });
    await fetch(`${url}/events?topic=a`, { headers: { Origin: 'https://evil.example' } });
    assert.equal(responses.filter(({ status }) => status === 503).length, 10);
    check(await (await fetch(`${url}/metrics`)).text());
    stop.abort();
    while (sse.streams.size > 0) await new Promise(setImmediate);
    const page = await (await fetch(`${url}/metrics`)).text();
    check(page);
    assert.match(page, /^sluice_streams_closed_total{reason="client-gone"} 20$/m);
    await sse.close();
  });
});
