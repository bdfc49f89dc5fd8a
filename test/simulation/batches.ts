// Batches that come to a hub whose memory is nearly full, from one seed: one that is taken is held as a whole.

import { Hub, type HubEvent } from '../../lib/hub.ts';
import { EPOCH } from '../helpers/hub.ts';
import { Chance } from './world.ts';

/** Most events of a batch, and of what comes before it. */
const MANY = 2000;

/**
 * Fills a hub, and publishes the largest batch that it takes. Sizes and keys are such that segments are left
 * nearly empty, that a few events have most of the memory, or that many small ones come before large ones.
 * @returns how many events the batch had; 0 where the hub takes none.
 * @throws where an event of the batch is gone, or memory is over its limit.
 */
export function fuzzBatch(seed: number): number {
  const chance = new Chance(seed);
  const maxHistoryBytes = Math.round(2000 * chance.pick([3, 20, 1000]) ** chance.next());
  const maxEvents = chance.pick([Infinity, Infinity, 2000, 50, 10]);
  const hub = new Hub({
    epoch: EPOCH,
    schedule: () => {},
    maxHistoryBytes,
    maxPageBytes: chance.pick([300, 4096, 65_536]),
    maxEventBytes: Infinity,
    history: { maxEvents, maxBytes: Infinity },
  });
  for (let parts = chance.below(4); parts > 0; parts--) {
    const enough = maxHistoryBytes * chance.pick([0.03, 0.06, 0.1, 0.5, 1, 2]);
    const topic = chance.pick(['a', 'a', 'b']);
    for (const event of someEvents(chance, maxHistoryBytes, enough)) hub.publish(topic, event);
  }
  const most = Math.min(MANY, Math.floor(maxEvents / 2));
  const batch = [...someEvents(chance, maxHistoryBytes, maxHistoryBytes * 0.7)].slice(0, most);
  const { length } = publishMost(hub, batch);
  if (length === 0) return 0;
  const left = hub.topics().find(({ topic }) => topic === 'a')!.events;
  if (left < length) throw new Error(`${left} of a batch of ${length} are left in ${maxHistoryBytes} bytes`);
  if (hub.historyBytes > maxHistoryBytes)
    throw new Error(`historyBytes is ${hub.historyBytes} of ${maxHistoryBytes} after a batch of ${length}`);
  return length;
}

/** Publishes the first events of a batch, as many as the hub takes at once. */
function publishMost(hub: Hub, batch: readonly HubEvent[]): readonly HubEvent[] {
  for (let events = batch; events.length > 1; ) {
    try {
      hub.publishAll('a', events);
      return events;
    } catch (error) {
      const { code, maxEvents } = error as { code?: string; maxEvents: number };
      if (code !== 'ERR_SSE_BATCH_TOO_LARGE') throw error;
      // Where it was refused for its bytes, it takes a few tries.
      events = events.slice(0, Math.min(maxEvents, Math.floor(events.length * 0.95)));
    }
  }
  return [];
}

/** Events of two sizes, in turns or by chance, until they have this many bytes. */
function* someEvents(chance: Chance, maxHistoryBytes: number, enough: number): Generator<HubEvent> {
  const segment = Math.min(65_536, Math.max(256, maxHistoryBytes / 16));
  const sizes = [0, 0, 0, 0, segment / 4, segment / 2, segment, segment * 2];
  const [one, other] = [chance.pick(sizes), chance.pick(sizes)];
  const [mix, isKeyed, keyLength] = [
    chance.pick([0, 0.1, 0.5, 'in turns'] as const),
    chance.pick([0, 0, 0.5, 1]),
    chance.pick([1, 200]),
  ];
  for (let i = 0, bytes = 0; bytes < enough && i < MANY; i++) {
    const isOther = mix === 'in turns' ? i % 2 === 1 : chance.of(mix);
    // Such as fit just, or just not.
    const size = (isOther ? other : one) + chance.pick([0, -12, -60, 5, chance.below(20)]);
    const data = 'x'.repeat(Math.max(0, Math.floor(size)));
    yield { data, key: chance.of(isKeyed) ? `${i}`.padStart(keyLength) : undefined };
    bytes += data.length + 43;
  }
}
