import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Backpressure } from '../lib/backpressure.ts';
import { times } from './helpers/hub.ts';

describe('Backpressure', () => {
  it('looks at each reader once a turn, however many topics have sources that wait', async () => {
    let looked = 0;
    const crowd = times(500, () => ({ seq: 9, closed: false, blockedAt: 0, group: 'crowd' }));
    const due = {
      *[Symbol.iterator]() {
        for (const reader of crowd) {
          looked++;
          yield reader;
        }
      },
    };
    const topics = times(200, (i) => ({ followers: new Set<unknown>([`of topic ${i}`, 'crowd']) }));
    const paced = new Backpressure<(typeof topics)[0], (typeof crowd)[0]>(
      (name) => topics[Number(name)],
      (_, seq) => seq < 10,
      () => 0,
      () => {},
    );
    const stop = new AbortController();
    const waits = topics.map((_, i) => paced.ready(String(i), due, stop.signal));
    for (let turns = 1; turns <= 3; turns++) {
      paced.settle(due);
      assert.ok(looked <= (turns + 1) * crowd.length, `${looked} looks at ${crowd.length} readers`);
    }
    stop.abort();
    await Promise.allSettled(waits);
  });
});
