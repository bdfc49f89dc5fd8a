import { Redis } from 'ioredis';
import { RedisLog } from '../../lib/redis.ts';
import { startOn } from './on-log.ts';
import type { StartPeer } from './peer.ts';

/** The reference server with its log in Redis: one of the nodes that share it. */
const start: StartPeer = async () => {
  const client = new Redis(Number(process.env.REDIS_PORT), { lazyConnect: true });
  // On a machine that does other work, answers take long.
  const log = new RedisLog(client, { appendTimeout: 60_000 });
  await log.verify();
  return startOn(log);
};

export default start;
