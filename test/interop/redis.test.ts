import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { logContract, type UncoveredClause } from '../../lib/log-contract.ts';
import { redisHarness } from './helpers/redis-harness.ts';
import { startRedis } from './helpers/redis-servers.ts';

const server = await startRedis({ after }, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] });

describe('the contract of logs: Redis', () => {
  const uncovered: UncoveredClause[] = [];
  const clauses = logContract(redisHarness(server), { onUncovered: (found) => uncovered.push(...found) });
  for (const { property, title, run } of clauses) it(`${property}: ${title}`, run);

  it('covers every clause but those that need a fault which a Redis cannot have', () => {
    assert.deepEqual([...new Set(uncovered.flatMap(({ needs }) => needs))], ['truncate']);
  });
});
