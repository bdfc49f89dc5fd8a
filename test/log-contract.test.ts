import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type LogHarness, logContract, type UncoveredClause } from '../lib/log-contract.ts';
import { noLog, ownLog, sharedLog } from './contracts/log-harnesses.ts';
import { memoryLog } from './contracts/memory-harness.ts';
import { processesLog, processesSqliteLog } from './contracts/processes-harness.ts';
import { hasSqlite, sqliteLog } from './contracts/sqlite-harness.ts';
import { ownMembers, wrongLogs } from './contracts/wrong-logs.ts';
import { MemoryLog, MemoryStore } from './helpers/memory-log.ts';

/** Runs the contract, and compares what is not covered. */
function describeLog(name: string, harness: LogHarness, uncovered: readonly string[] = []): void {
  describe(`the contract of logs: ${name}`, () => {
    const missing: UncoveredClause[] = [];
    const clauses = logContract(harness, { onUncovered: (found) => missing.push(...found) });
    for (const { property, title, run } of clauses) it(`${property}: ${title}`, run);

    it('covers every clause but those that need faults which this log cannot have', () => {
      const needs = missing.flatMap(({ needs }) => needs);
      assert.deepEqual([...new Set(needs)].sort(), uncovered);
    });
  });
}

describeLog('a hub without a log', noLog);
describeLog('an own order, in memory', ownLog);
describeLog('a log in memory', memoryLog, ['crash', 'failAppends', 'loseTail', 'truncate']);
if (hasSqlite) describeLog('an SQLite file', sqliteLog, ['truncate']);
describeLog('a shared order, in memory', sharedLog, ['forget', 'truncate']);
describeLog('the log of several processes', processesLog);
if (hasSqlite) {
  const uncovered = ['drop', 'forget', 'loseTail', 'truncate'];
  describeLog('the log of several processes, in an SQLite file', processesSqliteLog, uncovered);
}

describe('the contract of logs, and logs that break it', () => {
  const quiet = { onUncovered: () => {} };
  const harnesses: readonly LogHarness[] = [noLog, ownLog, sharedLog];
  const titles = harnesses.flatMap((harness) => logContract(harness, quiet).map(({ title }) => title));

  it('has for each clause one log that breaks it', () => {
    assert.deepEqual(Object.keys(wrongLogs).sort(), [...new Set(titles)].sort());
  });

  for (const [broken, { fault, harness }] of Object.entries(wrongLogs)) {
    it(`notices a log that ${fault}: ${broken}`, async () => {
      const clauses = logContract(harness, { ...quiet, patience: 500 });
      const clause = clauses.find(({ title }) => title === broken);
      assert.ok(clause !== undefined, 'no clause of this order has the title');
      await assert.rejects(clause.run(), { name: 'AssertionError' });
    });
  }
});

describe('logContract', () => {
  const { faults: _, ...harness } = ownLog;

  it('leaves out the clauses that need faults which the harness does not have, and says which', () => {
    const missing: UncoveredClause[] = [];
    const clauses = logContract(harness, { onUncovered: (found) => missing.push(...found) });
    const all = logContract(ownLog, { onUncovered: () => {} });
    const listed = [...clauses, ...missing].map(({ title }) => title);
    assert.deepEqual(listed.sort(), all.map(({ title }) => title).sort());
    const { needs } = missing.find(({ title }) => title === 'an append that throws leaves nothing behind')!;
    assert.deepEqual(needs, ['failAppends']);
  });

  it('prints them where nobody asks for them', (t) => {
    const { mock } = t.mock.method(console, 'warn', () => {});
    logContract(harness);
    const lines = mock.calls.map(({ arguments: [line] }) => String(line));
    assert.ok(
      lines.includes(
        'not covered, because the harness has no failAppends: an append that throws leaves nothing behind',
      ),
    );
  });

  it('throws for an order that there is not', () => {
    const wrong = { ...harness, order: 'other' as 'own' };
    assert.throws(() => logContract(wrong), { name: 'TypeError', message: /got other$/ });
  });

  it('removes each store, also where the clause does not hold', async () => {
    let open = 0;
    const counting: LogHarness<MemoryStore> = {
      ...harness,
      create: () => {
        open++;
        return new MemoryStore();
      },
      open: (store) => ({ ...ownMembers(new MemoryLog(store)), head: NaN }),
      dispose: () => {
        open--;
      },
    };
    const runs = logContract(counting, { onUncovered: () => {} }).map(({ run }) => run());
    const failed = (await Promise.allSettled(runs)).filter(({ status }) => status === 'rejected');
    assert.ok(failed.length > 0);
    assert.equal(open, 0);
  });
});
