// What an event costs to encode, beside a bare template literal, which checks nothing.
//   npx tsx bench/encode.bench.ts

import { encode, type ServerSentEvent } from '../lib/encode.ts';
import { measure, print } from './harness.ts';

const EVENTS = 1000;
const ids = Array.from({ length: EVENTS }, (_, i) => `1795408776829123-${i}`);

const situations: Record<string, (id: string) => ServerSentEvent> = {
  'id + event + 100 bytes of data': (id) => ({ id, event: 'tick', data: `${id}${'x'.repeat(80)}` }),
  'id + event + 1 KB of data': (id) => ({ id, event: 'tick', data: `${id}${'x'.repeat(1004)}` }),
  'id + a token of 5 bytes': (id) => ({ id, data: id.slice(-5) }),
  'id + 20 lines of data': (id) => ({ id, data: Array(20).fill(id).join('\n') }),
  'id + 100 characters beyond Latin-1': (id) => ({ id, data: `${id}${'事件'.repeat(40)}` }),
};

function template({ id, event, data }: ServerSentEvent): string {
  return event === undefined
    ? `id: ${id}\ndata: ${data}\n\n`
    : `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`;
}

/** A text that is never read is never put together. */
let length = 0;

function perEvent(events: readonly ServerSentEvent[], turn: (event: ServerSentEvent) => string): number {
  return measure(() => {
    for (const event of events) length += turn(event).length;
    return events.length;
  });
}

for (const [name, make] of Object.entries(situations)) {
  const events = ids.map(make);
  const floor = perEvent(events, template);
  print(`${name}: template literal (floor)`, floor, 'ns/event');
  print(`${name}: encode`, perEvent(events, encode), 'ns/event', floor);
}
if (length === 0) throw new Error('nothing was encoded');
