// What a hub with a map of event types must refuse at compile time. Nothing here runs: `tsc` is the test, and fails at
// each `@ts-expect-error` once the line below it compiles.

import type { Hub } from '../lib/hub.ts';

interface Prices {
  tick: { price: number };
  halt: null;
}

export function refused(hub: Hub<Prices>): void {
  // @ts-expect-error: the map has no such type
  hub.publish('a', { event: 'tack', json: { price: 7 } });
  // @ts-expect-error: a price is a number
  hub.publish('a', { event: 'tick', json: { price: '7' } });
  // @ts-expect-error: a tick has a price
  hub.publish('a', { event: 'tick', json: {} });
  // @ts-expect-error: the JSON of another type
  hub.publish('a', { event: 'halt', json: { price: 7 } });
  // @ts-expect-error: JSON, not text
  hub.publish('a', { event: 'tick', data: '{"price":7}' });
  // @ts-expect-error: text beside JSON
  hub.publish('a', { event: 'tick', json: { price: 7 }, data: '7' });
  // @ts-expect-error: no type
  hub.publish('a', { json: { price: 7 } });
  // @ts-expect-error: no JSON
  hub.publish('a', { event: 'tick' });
  // @ts-expect-error: a hub gives ids itself
  hub.publish('a', { event: 'tick', json: { price: 7 }, id: '1-1' });
}
