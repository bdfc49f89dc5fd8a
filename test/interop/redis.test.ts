import { after, describe, it } from 'node:test';
import { logContract } from '../../lib/log-contract.ts';
import { startRedis } from './helpers/redis.ts';
import { redisHarness } from './helpers/redis-harness.ts';

const server = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
after(() => server.stop());

describe('the contract of logs: Redis', () => {
  for (const { property, title, run } of logContract(redisHarness(server), { onUncovered: () => {} }))
    it(`${property}: ${title}`, run);
});
