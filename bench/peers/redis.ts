import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { RedisLog } from '../../lib/redis.ts';
import { createSseServer } from '../../lib/server.ts';
import { Window } from '../loads/window.ts';
import type { StartPeer } from './peer.ts';

/** The reference server with its log in Redis: one of the nodes that share it. */
const start: StartPeer = async () => {
  const client = new Redis(Number(process.env.REDIS_PORT), { lazyConnect: true });
  // On a machine that does other work, answers take long.
  const log = new RedisLog(client, { appendTimeout: 60_000 });
  await log.verify();
  const { hub, listen } = createSseServer({ hub: { log } });
  const url = await listen(0);
  // Before the log is reached, events are refused.
  while (hub.failure !== undefined) await sleep(1);
  const { add, ready, settled } = new Window();
  return {
    port: Number(new URL(url).port),
    publish: (topic, texts) => {
      const events = texts.map((data) => ({ data }));
      add(texts.length, hub.appendAll(topic, events));
    },
    ready,
    turnOver: ready,
    settled,
  };
};

export default start;
