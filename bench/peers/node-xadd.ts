import { createClient } from 'redis';
import { Window } from '../loads/window.ts';
import type { StartPeer } from './peer.ts';

const TRIM = { strategy: 'MAXLEN', strategyModifier: '~', threshold: 10_000 } as const;

/** As `xadd.ts`, by the other client. */
const start: StartPeer = async () => {
  const redis = createClient({ url: `redis://127.0.0.1:${process.env.REDIS_PORT}` });
  await redis.connect();
  const { add, ready, settled } = new Window();
  return {
    port: 0,
    publish: (topic, texts) => {
      const answers = texts.map((text) => redis.xAdd(topic, '*', { d: text }, { TRIM }));
      add(texts.length, Promise.all(answers));
    },
    ready,
    turnOver: ready,
    settled,
  };
};

export default start;
