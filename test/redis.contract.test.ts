import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { logContract, type UncoveredClause } from '../lib/log-contract.ts';
import { redisLog } from './contracts/redis-harness.ts';

describe('the contract of logs: Redis, as a model of it', () => {
  const missing: UncoveredClause[] = [];
  const clauses = logContract(redisLog, { onUncovered: (found) => missing.push(...found) });
  for (const { property, title, run } of clauses) it(`${property}: ${title}`, run);

  it('covers every clause but those that need faults which this log cannot have', () => {
    const needs = missing.flatMap(({ needs }) => needs);
    assert.deepEqual([...new Set(needs)].sort(), ['truncate']);
  });
});
