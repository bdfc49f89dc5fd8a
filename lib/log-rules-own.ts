// The clauses of the contract that a log of an own order keeps by itself, without a hub.
// Needs `log.ts` and `log-trial.ts`, and what that needs, beside it.

import assert from 'node:assert/strict';
import type { AppendRecord } from './log.ts';
import { type LogNode, own, type Rule, rulesOf, type Sentence, type Trial, textOf } from './log-trial.ts';

/** Reads everything of some topics, page by page. */
async function wholeOf(node: LogNode, topics: readonly string[], upTo: number): Promise<readonly string[]> {
  return (await node.pages(topics, 0, upTo)).flatMap(({ entries }) => entries.map(textOf));
}

const last = (seqs: readonly number[]): number => seqs.at(-1)!;

async function reject(what: () => unknown, code?: string): Promise<void> {
  await assert.rejects(
    async () => what(),
    (error: Partial<{ code: string }>) => code === undefined || error.code === code,
  );
}

const unknownTopics: readonly Sentence[] = [
  {
    title: '`end` ends a topic as well that the log does not know',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      assert.equal(await node.change('a', 'end'), true);
      assert.equal(await node.change('a', 'end'), false);
      assert.equal((await node.record('a'))?.ended, true);
      const { entries, dropped } = await node.page(['a'], 0);
      assert.deepEqual([entries, dropped], [[], []]);
    },
  },
];

const appends: readonly Sentence[] = [
  {
    title: '`append` keeps the entries of several topics in one call, and answers at once',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const answer: unknown = node.append(node.entries(['a', '1'], ['b', '2'], ['a', '3']));
      assert.equal(typeof (answer as Partial<Promise<void>> | undefined)?.then, 'undefined');
      assert.deepEqual(await node.texts(['a', 'b']), ['1', '2', '3']);
    },
  },
  {
    title: 'an append that throws leaves nothing behind',
    needs: ['failAppends'],
    hold: async (trial) => {
      const node = await trial.log();
      const [first] = await node.put('a', '1');
      await trial.fault('failAppends', true);
      await reject(() => node.append(node.entries(['a', '2'], ['b', '3'])));
      await trial.fault('failAppends', false);
      assert.deepEqual(await node.texts(['a', 'b']), ['1']);
      assert.equal((await node.record('a'))?.last, first);
      assert.equal(await node.record('b'), undefined);
    },
  },
  {
    title: 'seqs may be missing: what comes after them is kept, and nothing counts as lost',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1');
      node.burn(10);
      const head = last(await node.put('a', '2'));
      const { entries, dropped, truncated = 0, until } = await node.page(['a'], 0);
      assert.deepEqual(entries.map(textOf), ['1', '2']);
      assert.deepEqual([dropped, truncated], [[], 0]);
      assert.ok(until >= head, `\`until\` is ${until}, and the head ${head}`);
    },
  },
  {
    title: 'an append without entries changes nothing',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1'));
      node.append([]);
      assert.deepEqual(await node.texts(['a']), ['1']);
      assert.deepEqual(await node.list(), ['a']);
      assert.equal((await node.record('a'))?.last, head);
    },
  },
  {
    title: 'an append without entries throws as long as nothing can be written',
    needs: ['failAppends'],
    hold: async (trial) => {
      const node = await trial.log();
      await trial.fault('failAppends', true);
      await reject(() => node.append(node.entries(['a', '1'])));
      await reject(() => node.append([]));
      await trial.fault('failAppends', false);
      node.append([]);
      await node.put('a', '2');
      assert.deepEqual(await node.texts(['a']), ['2']);
    },
  },
];

/** The record of a request whose events have these seqs. */
function recordOf(key: string, seqs: readonly number[]): AppendRecord {
  return { key, digest: `digest of ${key}`, first: seqs[0]!, count: seqs.length };
}

const keyed: readonly Sentence[] = [
  {
    title: 'the record of a request is kept with its events, and is there after a restart as well',
    needs: ['recall'],
    hold: async (trial) => {
      const before = await trial.log();
      const entries = before.entries(['a', '1'], ['a', '2']);
      const record = recordOf(
        'k',
        entries.map(({ seq }) => seq),
      );
      before.append(entries, [record]);
      assert.deepEqual({ ...before.own.recall?.('k') }, record);
      assert.equal(before.own.recall?.('another'), undefined);
      const node = await reopened(trial, before);
      assert.deepEqual({ ...node.own.recall?.('k') }, record);
    },
  },
  {
    title: 'the record of a request that was refused is not kept',
    needs: ['recall', 'failAppends'],
    hold: async (trial) => {
      const node = await trial.log();
      await trial.fault('failAppends', true);
      const entries = node.entries(['a', '1']);
      await reject(() => node.append(entries, [recordOf('k', [entries[0]!.seq])]));
      await trial.fault('failAppends', false);
      assert.equal(node.own.recall?.('k'), undefined);
    },
  },
];

/** Each epoch but the last has an end, and the next one begins after that. */
function checkEpochs({ own: { epochs, head } }: LogNode): void {
  assert.ok(epochs.length > 0, 'a log has at least one epoch');
  const numbers = epochs.map(({ epoch }) => epoch);
  assert.equal(new Set(numbers).size, numbers.length, `an epoch came twice: ${numbers}`);
  for (const [i, { epoch, base, end }] of epochs.entries()) {
    assert.ok(Number.isSafeInteger(epoch) && epoch >= 1, `not a whole number ≥ 1: ${epoch}`);
    const next = epochs[i + 1];
    if (next === undefined) assert.equal(end, undefined, 'the last epoch has no end');
    else
      assert.ok(end !== undefined && end >= base && end < next.base, `${base} … ${end} before ${next.base}`);
  }
  assert.ok(head >= epochs.at(-1)!.base, `the head ${head} lies before the last epoch`);
}

const restarts: readonly Sentence[] = [
  {
    title: 'a log that is closed and opened again has its entries, and what it knew of topics',
    needs: [],
    hold: async (trial) => {
      const before = await trial.log();
      const head = last(await before.put('a', '1', { text: '2', key: 'k' }));
      await before.put('b', '3');
      await before.change('b', 'end');
      await before.put('c', '4');
      await before.change('c', 'delete');
      const records = [await before.record('a'), await before.record('b'), await before.record('c')];
      const node = await reopened(trial, before);
      assert.deepEqual(await node.texts(['a', 'b', 'c']), ['1', '2', '3']);
      assert.deepEqual([await node.record('a'), await node.record('b'), await node.record('c')], records);
      assert.equal((await node.page(['a'], head - 1)).entries[0]?.key, 'k');
    },
  },
  {
    title: 'the head of a log that is opened again is its newest seq',
    needs: [],
    hold: async (trial) => {
      const before = await trial.log();
      await before.put('a', '1');
      before.burn(5);
      const head = last(await before.put('a', '2'));
      const node = await reopened(trial, before);
      assert.equal(node.own.head, head);
    },
  },
  {
    title: 'a log that is closed and opened again goes on in the same epoch',
    needs: [],
    hold: async (trial) => {
      const before = await trial.log();
      await before.put('a', '1');
      const node = await reopened(trial, before);
      checkEpochs(node);
      assert.deepEqual(node.own.epochs, before.own.epochs);
    },
  },
  {
    title: 'after a crash each entry that was appended is there, or another epoch has begun',
    needs: ['crash'],
    hold: async (trial) => {
      const before = await trial.log();
      await before.put('a', '1', '2');
      await before.put('b', '3');
      const { epoch } = before.own.epochs.at(-1)!;
      await trial.crash(before);
      const node = await trial.log();
      checkEpochs(node);
      if (node.own.epochs.at(-1)!.epoch !== epoch) return;
      assert.deepEqual(await node.texts(['a', 'b']), ['1', '2', '3']);
    },
  },
  {
    title: 'where the newest entries were lost, another epoch begins after the newest that is left',
    needs: ['loseTail'],
    hold: async (trial) => {
      const before = await trial.log();
      const [, second] = await oneByOne(before, '1', '2', '3', '4');
      const known = before.own.epochs.map(({ epoch }) => epoch);
      const node = await withoutTail(trial, before, 2);
      checkEpochs(node);
      assert.ok(!known.includes(node.own.epochs.at(-1)!.epoch), 'no new epoch has begun');
      const old = node.own.epochs.find(({ epoch }) => epoch === known.at(-1));
      // It may have forgotten the old one.
      if (old !== undefined) assert.equal(old.end, second);
    },
  },
  {
    title: 'what an earlier epoch has left is read, or stated as lost',
    needs: ['loseTail'],
    hold: async (trial) => {
      const before = await trial.log();
      await oneByOne(before, '1', '2', '3');
      const node = await withoutTail(trial, before, 1);
      const [next] = await node.put('a', '4');
      const { dropped, truncated = 0 } = await node.page(['a'], 0);
      const lost = Math.max(truncated, dropped[0]?.seq ?? 0);
      assert.ok(lost < next!, 'the new event counts as lost');
      if (lost === 0) assert.deepEqual(await wholeOf(node, ['a'], next!), ['1', '2', '4']);
    },
  },
];

async function reopened(trial: Trial, node: LogNode): Promise<LogNode> {
  await trial.close(node);
  return trial.log();
}

/** Appends events of one topic one by one: a log may lose what it appended at once only as a whole. */
async function oneByOne(node: LogNode, ...texts: readonly string[]): Promise<readonly number[]> {
  const seqs: number[] = [];
  for (const text of texts) seqs.push(...(await node.put('a', text)));
  return seqs;
}

async function withoutTail(trial: Trial, node: LogNode, count: number): Promise<LogNode> {
  await trial.close(node);
  await trial.fault('loseTail', count);
  return trial.log();
}

/** The clauses of an own order. */
export const ownRules: readonly Rule[] = [
  ...rulesOf('topics', own, unknownTopics),
  ...rulesOf('all or none', own, appends),
  ...rulesOf('a repeated request is published once', own, keyed),
  ...rulesOf('a log outlives its process', own, restarts),
];
