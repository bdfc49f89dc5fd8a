// Publishes to a log in Redis from one process: how fast that is, and what an event costs there and in Redis.

import { type Served, usageOf } from '../loads/lead.ts';
import { type RedisServer, startOn } from '../loads/redis.ts';
import { costOf, usedBetween } from './measure.ts';
import { adapterOf, onNodes, onRedis, withoutRedis } from './on-redis.ts';
import { type Run, repeat, type Scenario } from './scenario.ts';

export const redis: Scenario = {
  name: 'redis',
  constant:
    'one process publishes 100 bytes of data to one topic, or to each of 1,000 topics in turn; of each 10,000 events ' +
    'are kept; at most 1,000 events wait for their answer. Redis has the other core, and keeps nothing on disk. `script`: two XADD for each event and a ' +
    'ZADD; `xadd`: one bare XADD for each event; `node-…`: by the client `redis`, the others by `ioredis`',
  shows:
    'events kept per second, and CPU time per event of the process and of Redis, by the number of topics and the size of a batch',
  headlines: [{ where: { topics: 1, batch: 1 }, figure: 'eventsPerSecond' }],
  peers: ['sluice', 'node-redis', 'script', 'xadd', 'node-xadd'],
  missing: withoutRedis,
  async run(settings, note) {
    const { batches = [1, 100], isQuick } = settings;
    const duration = isQuick ? 200 : 2000;
    await repeat(settings, (peer, repetition) =>
      onRedis((store) =>
        onNodes(
          1,
          () => startOn(store, adapterOf(peer, settings)),
          async ([node]) => {
            for (const parameters of [...batches.map((batch) => ({ topics: 1, batch })), MANY_TOPICS]) {
              const figures = await publish(node!, store, { ...parameters, duration });
              note({ scenario: 'redis', peer, parameters, repetition, figures });
            }
          },
        ),
      ),
    );
  },
};

/** As notifications are: each goes to another topic. */
const MANY_TOPICS = { topics: 1000, batch: 1 };

/** The turns end when all events are answered. A server of which one is refused stops. */
async function publish(
  node: Served,
  { pid }: RedisServer,
  order: { topics: number; batch: number; duration: number },
): Promise<Run['figures']> {
  await node.run({ ...order, duration: order.duration / 2 });
  const [before, inRedis] = [usageOf(node.pids()), usageOf([pid])];
  const { turns, elapsed } = await node.run(order);
  const used = usedBetween(before, usageOf(node.pids()));
  const usedInRedis = usedBetween(inRedis, usageOf([pid]));
  const events = turns * order.topics * order.batch;
  return {
    eventsPerSecond: events / (elapsed / 1e6),
    cpuPerEvent: costOf(used, events).cpuPerDelivery,
    redisCpuPerEvent: costOf(usedInRedis, events).cpuPerDelivery,
  };
}
