// Measures how long an event takes from one node to a reader of another, over a log in Redis, in an open loop.

import { type Reader, startReader } from '../loads/lead.ts';
import { type RedisServer, startOn } from '../loads/redis.ts';
import { type latencyOf, measure, warm } from './measure.ts';
import { adapterOf, onNodes, onRedis, withoutRedis } from './on-redis.ts';
import { isOurs, kindOf, repeat, type Scenario, type Settings } from './scenario.ts';
import { fill, type Stage } from './stage.ts';

/** Milliseconds between two events. */
const INTERVAL = 1;

export const redisLatency: Scenario = {
  name: 'redis-latency',
  constant:
    '1,000 events a second of 100 bytes of data, due at even times. `sluice`: published at one node, read over HTTP ' +
    'from another, both on the first core. `xread`: one process writes each by XADD, another reads by XREAD. Redis ' +
    'and the reader have the second core',
  shows:
    'milliseconds from the time an event was due to its arrival; up to one of them is the timer of the publisher',
  headlines: [{ where: {}, figure: 'p99' }],
  peers: ['sluice', 'xread'],
  missing: withoutRedis,
  async run(settings, note) {
    const duration = settings.isQuick ? 500 : 10_000;
    await repeat(settings, async (peer, repetition) => {
      await onPair(peer, settings, async (stage) => {
        const order = { interval: INTERVAL, duration };
        await warm(stage, { order: { ...order, duration: duration / 4 }, connections: 1 });
        const { figures, invalid } = await measure(stage, { order, connections: 1 });
        const { p50, p90, p99, p999, max } = figures as ReturnType<typeof latencyOf>;
        const shown = invalid === undefined ? { p50, p90, p99, p999, max } : {};
        const parameters = { rate: 1000 / INTERVAL };
        note({ scenario: 'redis-latency', peer, parameters, repetition, figures: shown, invalid });
      });
    });
  },
};

/** Stages one process that publishes, and one that gets what is published over Redis, with a reader. */
function onPair(peer: string, settings: Settings, play: (stage: Stage) => Promise<void>): Promise<void> {
  return onRedis(async (redis) => {
    // Of the same kind for both, so that only what is before it differs.
    const reader = await startReader('node');
    try {
      await (isOurs(kindOf(peer)) ? onTwoNodes : onStream)(redis, reader, adapterOf(peer, settings), play);
    } finally {
      await reader.stop();
    }
  });
}

type Pair = (
  redis: RedisServer,
  reader: Reader,
  adapter: string,
  play: (stage: Stage) => Promise<void>,
) => Promise<void>;

const stop = async (): Promise<void> => {};

const onTwoNodes: Pair = (redis, reader, adapter, play) =>
  onNodes(
    2,
    () => startOn(redis, adapter),
    async ([first, second]) => {
      const pids = () => [...first!.pids(), ...second!.pids()];
      const stage = { server: { ...first!, port: second!.port, pids }, reader, stop };
      await fill(stage, { connections: 1, sample: 1 });
      await play(stage);
    },
  );

const onStream: Pair = (redis, reader, _adapter, play) =>
  onNodes(
    1,
    () => startOn(redis, 'xadd'),
    async ([server]) => {
      await reader.ask({ do: 'xread', port: redis.port, key: 't0', bytes: 100 });
      await play({ server: server!, reader, stop });
    },
  );
