// What events that are defined by schemas must refuse at compile time, and what they must allow. Nothing here runs:
// `tsc` is the test, and fails at each `@ts-expect-error` once the line below it compiles.

import { connect, type Gap } from '../lib/client.ts';
import { EventSource } from '../lib/eventsource.ts';
import { Hub } from '../lib/hub.ts';
import { defineEvents, type StandardSchema } from '../lib/schema.ts';

declare const tick: StandardSchema<{ price: number; at: string }, { price: number; at: Date }>;
declare const halt: StandardSchema<null>;
const events = defineEvents({ tick, halt });

export function publish(): void {
  const hub = new Hub({ events, retry: 1000 });
  hub.publish('a', { event: 'tick', json: { price: 7, at: '2026-11-30T00:00:00Z' } });
  hub.publishAll('a', [{ event: 'halt', json: null }]);
  // @ts-expect-error: the definition has no such type
  hub.publish('a', { event: 'tack', json: { price: 7, at: '' } });
  // @ts-expect-error: a price is a number
  hub.publish('a', { event: 'tick', json: { price: '7', at: '' } });
  // @ts-expect-error: what is published is the input of the schema, not its output
  hub.publish('a', { event: 'tick', json: { price: 7, at: new Date() } });
  // @ts-expect-error: JSON, not text
  hub.publish('a', { event: 'tick', data: '{}' });
  // @ts-expect-error: no type
  void hub.append('a', { json: null });
  // Without a definition, a hub takes anything.
  new Hub({ retry: 1000 }).publish('a', { data: 'text' });
}

export async function read(): Promise<void> {
  for await (const event of connect('http://localhost', { events, onGap: () => {} })) {
    // @ts-expect-error: which type it is decides what its JSON is
    event.json.at;
    if (event.event === 'tick') event.json.at.getTime() satisfies number;
    else event.json satisfies null;
    // @ts-expect-error: the definition has no such type
    if (event.event === 'tack') break;
  }
  for await (const event of connect('http://localhost', { events })) {
    if (event.event === 'tick') event.json.at satisfies Date;
    // @ts-expect-error: without `onGap`, a gap is an event of the loop
    else event.json satisfies null;
    if (event.event === 'sluice:gap') event.json satisfies Gap;
  }
  connect('http://localhost', { events, isLast: ({ event }) => event === 'halt' });
}

export function listen(): void {
  const source = new EventSource('http://localhost', { events });
  source.listen('tick', ({ json }) => json.at satisfies Date);
  // @ts-expect-error: the definition has no such type
  source.listen('tack', () => {});
}

export function define(): void {
  // @ts-expect-error: no Standard Schema
  defineEvents({ tick: { type: 'object' } });
  // @ts-expect-error: no such event type
  defineEvents({ tick }, { jsonSchemas: { tack: {} } });
}
