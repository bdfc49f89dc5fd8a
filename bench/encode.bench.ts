// Measures encoding an event, beside a template literal, which checks nothing, and eventsource-encoder.
//   npx tsx bench/encode.bench.ts

import { encode, type ServerSentEvent } from '../lib/encode.ts';
import { type Effort, load, type Measurement, measureInTurns, runAlone } from './harness.ts';

const EVENTS = 1000;
const ids = Array.from({ length: EVENTS }, (_, i) => `1795408776829123-${i}`);

const situations: Record<string, (id: string) => ServerSentEvent> = {
  'id + event + 100 bytes of data': (id) => ({ id, event: 'tick', data: `${id}${'x'.repeat(80)}` }),
  'id + event + 1 KB of data': (id) => ({ id, event: 'tick', data: `${id}${'x'.repeat(1004)}` }),
  'id + a token of 5 bytes': (id) => ({ id, data: id.slice(-5) }),
  'id + 20 lines of data': (id) => ({ id, data: Array(20).fill(id).join('\n') }),
  'id + 100 characters beyond Latin-1': (id) => ({ id, data: `${id}${'事件'.repeat(40)}` }),
  'id + event + an object as JSON': (id) => ({ id, event: 'tick', json: { id, bid: 1.0871, ask: 1.0872 } }),
};

function template({ id, event, json, data = JSON.stringify(json) }: ServerSentEvent): string {
  return event === undefined
    ? `id: ${id}\ndata: ${data}\n\n`
    : `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`;
}

type Turn = (event: ServerSentEvent) => string;

/** Sums the lengths, because V8 never builds a string that nobody reads. */
let length = 0;

function each(events: readonly ServerSentEvent[], turn: Turn): () => number {
  return () => {
    for (const event of events) length += turn(event).length;
    return events.length;
  };
}

export async function bench(effort: Effort): Promise<Measurement[]> {
  const { encode: theirs } = await load<{ encode: Turn }>('eventsource-encoder');
  const encoder: Turn = (event) =>
    theirs(event.json === undefined ? event : { ...event, data: JSON.stringify(event.json) });
  const peers: Record<string, Turn> = { sluice: encode, template, 'eventsource-encoder': encoder };
  const found = Object.entries(situations).flatMap(([name, make]): Measurement[] => {
    const events = ids.map(make);
    const works = Object.values(peers).map((turn) => each(events, turn));
    const names = Object.keys(peers);
    return measureInTurns(works, effort).map((value, i) => ({
      case: name,
      peer: names[i]!,
      figure: 'nanoseconds',
      value,
    }));
  });
  if (length === 0) throw new Error('nothing was encoded');
  return found;
}

await runAlone(import.meta.url, bench);
