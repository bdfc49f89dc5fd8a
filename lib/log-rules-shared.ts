// The clauses of the contract that a log of a shared order keeps towards the hubs that follow it.
// Needs `log-trial.ts`, and what that needs, beside it.

import assert from 'node:assert/strict';
import {
  type LogNode,
  type Rule,
  rulesOf,
  type Sentence,
  shared,
  someTurns,
  type Trial,
  textOf,
} from './log-trial.ts';

type Node = LogNode;

/** Fails where what a node was told is not an order. */
function checkOrder({ heard }: Node): void {
  assert.deepEqual(heard.wrongs, []);
}

/** Waits until nodes have all that was appended last. */
async function settle(seq: number, epoch: number, ...nodes: readonly Node[]): Promise<void> {
  for (const node of nodes) await node.hears(seq, epoch);
}

async function two(trial: Trial): Promise<readonly [Node, Node]> {
  return [await trial.log(), await trial.log()];
}

/** Appends, and expects a rejection with this code. */
async function refused(node: Node, text: string, code: string, key?: string): Promise<void> {
  const options = key === undefined ? undefined : { idempotency: { key, digest: 'd' } };
  await assert.rejects(node.share('a', [text], options), { code });
}

/** Everything of a topic that the store has. */
async function stored(node: Node, topic = 'a'): Promise<readonly string[]> {
  return (await node.pages([topic], 0, Math.max(1, node.heard.position))).flatMap(({ entries }) =>
    entries.map(textOf),
  );
}

const UNAVAILABLE = 'ERR_SSE_LOG_UNAVAILABLE';
const UNKNOWN = 'ERR_SSE_OUTCOME_UNKNOWN';

const order: readonly Sentence[] = [
  {
    title: '`follow` tells the epoch, and then each entry with the next seq',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const { epoch, first, count } = await node.share('a', ['1', '2', '3']);
      await node.share('b', ['4']);
      await settle(first + 3, epoch, node);
      checkOrder(node);
      assert.equal(count, 3);
      assert.equal(epoch, node.heard.epoch);
      assert.deepEqual(node.told, ['1', '2', '3', '4']);
    },
  },
  {
    title: 'all nodes are told the same entries in the same order',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const appended = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 ? one : other).share('ab'[i % 3 ? 0 : 1]!, [`${i}`])),
      );
      const newest = Math.max(...appended.map(({ first }) => first));
      await settle(newest, appended[0]!.epoch, one, other);
      for (const node of [one, other]) checkOrder(node);
      const seqsOf = ({ heard }: Node) => heard.entries.map((entry) => ({ ...entry, frame: undefined }));
      assert.deepEqual(seqsOf(one), seqsOf(other));
      assert.deepEqual(one.told, other.told);
      assert.equal(one.told.length, 20);
    },
  },
  {
    title: 'the events of an append have consecutive seqs, whoever appends at the same time',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const texts = (of: string): readonly string[] => ['1', '2', '3'].map((n) => of + n);
      const batches = Array.from(
        { length: 6 },
        (_, i) => [i % 2 ? one : other, texts('uvwxyz'[i]!)] as const,
      );
      const appended = await Promise.all(batches.map(([node, batch]) => node.share('a', batch)));
      await settle(Math.max(...appended.map(({ first }) => first + 2)), appended[0]!.epoch, one);
      checkOrder(one);
      batches.forEach(([, batch], i) => {
        const { first } = appended[i]!;
        const got = one.heard.entries.filter(({ seq }) => seq >= first && seq < first + 3);
        assert.deepEqual(
          got.map((entry) => ('frame' in entry ? textOf(entry) : entry.change)),
          batch,
        );
      });
    },
  },
  {
    title: 'a change of a topic has its place among the events, on all nodes',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      await one.share('a', ['1']);
      assert.equal(await one.change('a', 'end'), true);
      const { first, epoch } = await one.share('b', ['2']);
      await settle(first, epoch, one, other);
      for (const node of [one, other]) {
        checkOrder(node);
        const told = node.heard.entries.map((entry) => ('change' in entry ? entry.change : textOf(entry)));
        assert.deepEqual(told, ['1', 'end', '2']);
      }
    },
  },
  {
    title: 'a change of a topic that the log does not know changes nothing',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      for (const change of ['end', 'reopen', 'delete'] as const) {
        assert.equal(await node.change('a', change), false);
      }
      assert.equal(await node.record('a'), undefined);
    },
  },
  {
    title: 'a node that joins late is told where the order is, and reads what came before',
    needs: [],
    hold: async (trial) => {
      const one = await trial.log();
      await one.share('a', ['1', '2']);
      const late = await trial.log();
      const { first, epoch } = await one.share('a', ['3']);
      await settle(first, epoch, late);
      checkOrder(late);
      assert.equal(late.heard.epoch, one.heard.epoch);
      assert.deepEqual(await stored(late), ['1', '2', '3']);
    },
  },
  {
    title: 'a node that no longer finds its next entry in the feed is told to skip, and reads it',
    needs: ['disconnect', 'reconnect', 'trimFeed'],
    hold: async (trial) => {
      const [one, gone] = await two(trial);
      await settle((await one.share('a', ['1'])).first, one.heard.epoch, gone);
      await trial.fault('disconnect', gone.log);
      await one.share('a', ['2', '3']);
      await trial.fault('trimFeed');
      await trial.fault('reconnect', gone.log);
      const { first, epoch } = await one.share('a', ['4']);
      await settle(first, epoch, gone);
      checkOrder(gone);
      assert.ok(gone.heard.skipped >= first - 1, `skipped up to ${gone.heard.skipped}`);
      assert.deepEqual(await stored(gone), ['1', '2', '3', '4']);
    },
  },
  {
    title: 'a node that is closed is told nothing more',
    needs: [],
    hold: async (trial) => {
      const [one, gone] = await two(trial);
      await trial.close(gone);
      gone.heard.isOver = true;
      await one.share('a', ['1']);
      await someTurns();
      checkOrder(gone);
    },
  },
];

const outcomes: readonly Sentence[] = [
  {
    title: '`append` resolves after the intake of its node has accepted the events',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      for (const text of ['1', '2', '3']) {
        const { first } = await node.share('a', [text]);
        assert.ok(node.heard.position >= first, `resolved with ${first} at ${node.heard.position}`);
      }
    },
  },
  {
    title: 'an append that certainly was not sent rejects as unavailable, and is never published',
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const node = await trial.log();
      await node.share('a', ['1']);
      await trial.fault('disconnect', node.log);
      await trial.until(() => node.heard.isAway, '`away` is called');
      await refused(node, 'lost', UNAVAILABLE);
      await trial.fault('reconnect', node.log);
      await trial.until(() => !node.heard.isAway, '`back` is called');
      await node.share('a', ['2']);
      assert.deepEqual(await stored(node), ['1', '2']);
    },
  },
  {
    title: 'an append whose answer is lost rejects as unknown',
    needs: ['loseAnswer'],
    hold: async (trial) => {
      const node = await trial.log();
      await node.share('a', ['1']);
      await trial.fault('loseAnswer', node.log);
      await refused(node, '2', UNKNOWN);
    },
  },
  {
    title: 'an append to a topic that was ended on another node is refused, and publishes nothing',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      await one.share('a', ['1']);
      await one.change('a', 'end');
      await refused(other, '2', 'ERR_SSE_TOPIC_ENDED');
      assert.deepEqual(await stored(one), ['1']);
      assert.equal((await one.record('a'))?.ended, true);
    },
  },
  {
    title: 'a request that is sent again after a lost answer is published once',
    needs: ['loseAnswer'],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      await one.share('a', ['1']);
      await trial.fault('loseAnswer', one.log);
      await refused(one, '2', UNKNOWN, 'k');
      const { first, epoch } = await other.share('a', ['2'], { idempotency: { key: 'k', digest: 'd' } });
      await settle(first, epoch, other);
      assert.deepEqual(await stored(other), ['1', '2']);
      assert.equal(first, 2);
    },
  },
  {
    title: 'a second request with a key and its digest gets the answer of the first, on every node',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const options = { idempotency: { key: 'k', digest: 'd' } };
      const first = await one.share('a', ['1', '2'], options);
      assert.deepEqual(await one.share('a', ['1', '2'], options), first);
      assert.deepEqual(await other.share('a', ['1', '2'], options), first);
      await settle(first.first + 1, first.epoch, one);
      assert.deepEqual(await stored(one), ['1', '2']);
    },
  },
  {
    title: 'a request with a key of another one is refused as a conflict, and publishes nothing',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.share('a', ['1'], { idempotency: { key: 'k', digest: 'd' } });
      const again = node.share('a', ['2'], { idempotency: { key: 'k', digest: 'e' } });
      await assert.rejects(again, { code: 'ERR_SSE_IDEMPOTENCY_CONFLICT' });
      assert.deepEqual(await stored(node), ['1']);
    },
  },
  {
    title: 'of several appends behind the same event, one is taken, whichever nodes they come from',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const { first, epoch } = await one.share('b', ['0']);
      await settle(first, epoch, one, other);
      for (let behind = `${epoch}-0`, round = 1; round <= 3; round++) {
        // A log may join what it is given in one turn: two of one node, and one of another.
        const asked = [one, one, other].map((node, i) => node.share('a', [`${round} ${i}`], { behind }));
        const settled = await Promise.allSettled(asked);
        const taken = settled.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
        for (const answer of settled)
          if (answer.status === 'rejected') assert.equal(answer.reason.code, 'ERR_SSE_TOPIC_MOVED');
        assert.equal(taken.length, 1);
        behind = `${epoch}-${taken[0]!.first}`;
      }
      assert.equal((await stored(one)).length, 3);
    },
  },
  {
    title:
      'an append behind an event that is no longer the newest of its topic is refused, and publishes nothing',
    needs: [],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const { first, epoch } = await one.share('a', ['1', '2']);
      await settle((await other.share('b', ['3'])).first, epoch, one);
      for (const behind of [`${epoch}-0`, `${epoch}-${first}`, `${epoch + 1}-${first + 1}`]) {
        const late = other.share('a', ['late'], { behind });
        await assert.rejects(late, { code: 'ERR_SSE_TOPIC_MOVED', status: 409 });
      }
      // Events of other topics do not matter, nor changes of this one.
      await one.change('a', 'end');
      await one.change('a', 'reopen');
      await other.share('a', ['4'], { behind: `${epoch}-${first + 1}` });
      assert.deepEqual(await stored(one), ['1', '2', '4']);
    },
  },
];

const away: readonly Sentence[] = [
  {
    title: 'a node that was away goes on where it was: nothing that others appended meanwhile is missing',
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const [one, gone] = await two(trial);
      await settle((await one.share('a', ['1'])).first, one.heard.epoch, gone);
      await trial.fault('disconnect', gone.log);
      await trial.until(() => gone.heard.isAway, '`away` is called');
      await one.share('a', ['2', '3']);
      await trial.fault('reconnect', gone.log);
      const { first, epoch } = await one.share('a', ['4']);
      await settle(first, epoch, gone);
      checkOrder(gone);
      assert.deepEqual(await stored(gone), ['1', '2', '3', '4']);
    },
  },
  {
    title: 'a node that was away and has missed nothing is told no new epoch',
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const node = await trial.log();
      await node.share('a', ['1']);
      await trial.fault('disconnect', node.log);
      await trial.until(() => node.heard.isAway, '`away` is called');
      await trial.fault('reconnect', node.log);
      await trial.until(() => !node.heard.isAway, '`back` is called');
      await node.share('a', ['2']);
      assert.equal(node.heard.renewals.length, 1);
    },
  },
];

const epochs: readonly Sentence[] = [
  {
    title: 'where the newest entries were lost, each node is told one new epoch before newer entries',
    needs: ['loseTail'],
    hold: async (trial) => {
      const [one, other] = await two(trial);
      const { first, epoch } = await fourOf(one);
      await settle(first, epoch, one, other);
      await trial.fault('loseTail', 2);
      const after = await appendedAgain(trial, one, '5');
      await settle(after.first, after.epoch, one, other);
      for (const node of [one, other]) {
        checkOrder(node);
        assert.deepEqual(
          node.heard.renewals.map(({ epoch }) => epoch),
          [epoch, after.epoch],
        );
        assert.deepEqual(node.told, ['1', '2', '3', '4', '5']);
      }
      assert.notEqual(after.epoch, epoch);
    },
  },
  {
    title: 'the end that is told of an epoch is not above what the log has kept of it',
    needs: ['loseTail'],
    hold: async (trial) => {
      const node = await trial.log();
      const { first } = await fourOf(node);
      await trial.fault('loseTail', 3);
      await appendedAgain(trial, node, '5');
      const { oldEnd } = node.heard.renewals.at(-1)!;
      assert.ok(oldEnd <= first - 3, `${oldEnd} is said to be kept, and ${first - 3} is`);
    },
  },
  {
    title: 'once a new epoch was told, `read` and `find` know only what came after it',
    needs: ['loseTail'],
    hold: async (trial) => {
      const node = await trial.log();
      await fourOf(node);
      await node.share('b', ['lost']);
      await trial.fault('loseTail', 1);
      const { first } = await appendedAgain(trial, node, '5');
      assert.deepEqual(await stored(node), ['5']);
      assert.equal((await node.record('a'))?.last, first);
      assert.equal((await node.record('b'))?.last ?? 0, 0);
    },
  },
];

/** Appends four events, one by one, and returns where the last one is. */
async function fourOf(node: Node): ReturnType<LogNode['share']> {
  for (const text of ['1', '2', '3']) await node.share('a', [text]);
  return node.share('a', ['4']);
}

/** Appends after a fail-over. The first request may learn of it by a rejection. */
async function appendedAgain(trial: Trial, node: Node, text: string): ReturnType<LogNode['share']> {
  const known = node.heard.epoch;
  await trial.until(() => !node.heard.isAway, 'the store can be reached again');
  const appended = await node
    .share('a', [text], { idempotency: { key: text, digest: text } })
    .catch(async () => {
      await trial.until(() => node.heard.epoch !== known && !node.heard.isAway, 'a new epoch is told');
      return node.share('a', [text], { idempotency: { key: text, digest: text } });
    });
  return appended;
}

/** The clauses of a shared order. */
export const sharedRules: readonly Rule[] = [
  ...rulesOf('one order for all', shared, order),
  ...rulesOf('three outcomes of an append', shared, outcomes),
  ...rulesOf('away is not gone', shared, away),
  ...rulesOf('another order is noticed', shared, epochs),
];
