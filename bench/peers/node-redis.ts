import { createClient } from 'redis';
import { RedisLog } from '../../lib/redis.ts';
import { startOn } from './on-log.ts';
import type { StartPeer } from './peer.ts';

/** As `redis.ts`, by the other client. */
const start: StartPeer = async () => {
  const client = createClient({ url: `redis://127.0.0.1:${process.env.REDIS_PORT}` });
  const log = new RedisLog(client, { appendTimeout: 60_000 });
  await log.verify();
  return startOn(log);
};

export default start;
