// Measures rendering a page for Prometheus, beside template literals of the same lines.
//   npx tsx bench/metrics.bench.ts

import { Hub } from '../lib/hub.ts';
import { instrument } from '../lib/instruments.ts';
import { Registry } from '../lib/metrics.ts';
import { type Effort, type Measurement, measure, measureInTurns, runAlone } from './harness.ts';

const labels = Array.from({ length: 100 }, (_, i) => ({ reason: `reason ${i}`, outcome: 'one of many' }));

function families(): Registry {
  const registry = new Registry();
  for (let family = 0; family < 10; family++) {
    registry.gauge(`family_${family}`, 'A hundred numbers.', () => labels.map((of, i) => [of, i]));
  }
  return registry;
}

function template(): string {
  let page = '';
  for (let family = 0; family < 10; family++) {
    const name = `family_${family}`;
    page += `# HELP ${name} A hundred numbers.\n# TYPE ${name} gauge\n`;
    for (const [i, { reason, outcome }] of labels.entries()) {
      page += `${name}{outcome="${outcome}",reason="${reason}"} ${i}\n`;
    }
  }
  return page;
}

/** The metrics of a server with so many streams. */
function server(streams: number): Registry {
  const hub = new Hub({ epoch: 1 });
  const sink = {
    write: () => true,
    end() {},
    on() {},
    off() {},
    writableLength: 0,
    writableNeedDrain: false,
  };
  const sinks = Array.from({ length: streams }, () => ({ ...sink }));
  for (const one of sinks) hub.subscribe('a', one);
  return instrument(new Registry(), {
    hub,
    events: {
      streams: sinks,
      stats: {
        opened: streams,
        closed: { 'client-gone': 0, 'slow-consumer': 0 },
        refused: { 'server-full': 0, 'client-full': 0 },
      },
      limit: { stats: { open: streams, peak: streams, waiting: 0, keys: streams } },
      keepalive: undefined,
    },
  });
}

/** Measures the length of each page, because V8 never builds a string that nobody reads. */
function pages(render: () => string): () => number {
  return () => Math.min(1, Buffer.byteLength(render()));
}

export function bench(effort: Effort): Measurement[] {
  const registry = families();
  if (registry.render() !== template()) throw new Error('the pages are not the same');
  const of = (name: string, value: number, peer = 'sluice'): Measurement => ({
    case: name,
    peer,
    figure: 'nanoseconds',
    value,
  });
  const [least, ours] = measureInTurns([pages(template), pages(() => registry.render())], effort);
  return [
    of('a page of 1,000 numbers', least!, 'template'),
    of('a page of 1,000 numbers', ours!),
    ...[100, 10_000].map((streams): Measurement => {
      const page = server(streams);
      return {
        ...of(
          'the page of a server',
          measure(
            pages(() => page.render()),
            effort,
          ),
        ),
        with: { streams },
      };
    }),
  ];
}

await runAlone(import.meta.url, bench);
