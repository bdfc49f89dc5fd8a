import { Redis } from 'ioredis';
import { Window } from '../loads/window.ts';
import type { StartPeer } from './peer.ts';

/** A string for each topic, with its newest event: the least that Redis can hold of it. It serves nobody. */
const start: StartPeer = async () => {
  const redis = new Redis(Number(process.env.REDIS_PORT), { enableAutoPipelining: true });
  const { add, ready, settled } = new Window();
  return {
    port: 0,
    publish: (topic, texts) => add(texts.length, redis.set(topic, texts.at(-1)!)),
    ready,
    turnOver: ready,
    settled,
  };
};

export default start;
