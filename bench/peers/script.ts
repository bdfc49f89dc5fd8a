import { Redis } from 'ioredis';
import { Window } from '../loads/window.ts';
import type { StartPeer } from './peer.ts';

// What a shared log needs at least: an entry of the feed that all nodes follow, one of the topic's history, and the
// topic in an index.
const TEXT = `
local id
for i = 2, #ARGV do
  id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', '10000', '*', 't', ARGV[1], 'd', ARGV[i])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', id, 'd', ARGV[i])
end
redis.call('ZADD', KEYS[3], string.match(id, '%d+'), ARGV[1])
return id`;

/** Two XADD for each event and one ZADD, by a script. It serves nobody. */
const start: StartPeer = async () => {
  const redis = new Redis(Number(process.env.REDIS_PORT), { enableAutoPipelining: true });
  const sha = (await redis.script('LOAD', TEXT)) as string;
  const { add, ready, settled } = new Window();
  return {
    port: 0,
    publish: (topic, texts) => {
      const keys = ['feed', `t:${topic}`, 'index'];
      add(texts.length, redis.evalsha(sha, keys.length, ...keys, topic, ...texts));
    },
    ready,
    turnOver: ready,
    settled,
  };
};

export default start;
