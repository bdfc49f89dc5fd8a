// The clauses of the contract that are kept by a hub and its log together: what clients and publishers see.
// Needs `log-trial.ts`, and what that needs, beside it.

import assert from 'node:assert/strict';
import {
  epochOf,
  everyHub,
  everyLog,
  type HubNode,
  hubEventOf,
  own,
  type Rule,
  type StreamReader,
  seqOf,
  shared,
  someTurns,
} from './log-trial.ts';

const UNAVAILABLE = { code: 'ERR_SSE_LOG_UNAVAILABLE' };

/** Little memory and small pages, so that the log is read, and more than once. */
const LITTLE = { history: { maxEvents: 2 }, maxPageBytes: 20 };

/** `prefix1` up to `prefix<count>`. */
const numbered = (prefix: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => `${prefix}${i + 1}`);

/** Publishes one more event, and waits until a reader has it: it has then everything before that. */
async function finish(node: HubNode, reader: StreamReader, topic = 'a'): Promise<void> {
  await node.put(topic, 'the end');
  await reader.reaches('the end');
}

/** Whether a node has been told of another epoch than that of an id. */
function isOther({ hub }: HubNode, id: string): boolean {
  return hub.failure === undefined && epochOf(hub.position) !== epochOf(id);
}

/** What a reader got before `the end`. */
const storyOf = (reader: StreamReader): readonly string[] => reader.story.filter((one) => one !== 'the end');

/** The clauses that go through a hub. */
export const hubRules: readonly Rule[] = [
  {
    property: 'append before deliver',
    title: 'what was delivered is in the log, and what the log has refused is not delivered',
    orders: own,
    needs: ['failAppends'],
    hold: async (trial) => {
      const node = await trial.hub();
      const reader = await node.reader('a');
      await node.put('a', '1');
      await trial.fault('failAppends', true);
      await assert.rejects(node.put('a', 'refused'), UNAVAILABLE);
      await trial.fault('failAppends', false);
      await trial.until(() => node.hub.failure === undefined, 'the hub finds that its log can write again');
      await finish(node, reader);
      assert.deepEqual(reader.texts, ['1', 'the end']);
      await trial.close(node);
      assert.deepEqual(await (await trial.log()).texts(['a']), reader.texts);
    },
  },
  {
    property: 'append before deliver',
    title: 'what the log has refused is not delivered to those who read from the log either',
    orders: own,
    needs: ['failAppends'],
    hold: async (trial) => {
      const node = await trial.hub(LITTLE);
      const [first] = await node.put('a', '1');
      await trial.fault('failAppends', true);
      await assert.rejects(node.put('a', 'refused'), UNAVAILABLE);
      await trial.fault('failAppends', false);
      await trial.until(() => node.hub.failure === undefined, 'the hub finds that its log can write again');
      await node.put('a', '2', '3', '4', '5');
      const reader = node.read('a', { lastEventId: first });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['2', '3', '4', '5']);
    },
  },
  {
    property: 'no hole unsaid',
    title: 'a client that returns gets all that it has missed of its topics, once and in order',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const node = await trial.hub(trial.order === 'none' ? {} : LITTLE);
      const ids: string[] = [];
      const texts = numbered('', 20);
      for (const [i, text] of texts.entries()) ids.push(...(await node.put('ab'[i % 2]!, text)));
      const reader = await node.reader(['a', 'b'], { lastEventId: ids[2] });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), texts.slice(3));
      assert.deepEqual(reader.ids.slice(0, -1), ids.slice(3));
    },
  },
  {
    property: 'no hole unsaid',
    title: 'a conflating client that returns gets the newest event of each key',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const node = await trial.hub(trial.order === 'none' ? {} : { history: { maxEvents: 2 } });
      const [first] = await node.put('a', 'first');
      for (let i = 1; i <= 4; i++) for (const key of ['k', 'l']) await node.put('a', { text: key + i, key });
      const reader = node.read('a', { lastEventId: first, conflate: true });
      await finish(node, reader);
      const [k, l] = ['k', 'l'].map((key) => reader.texts.filter((text) => text.startsWith(key)));
      assert.deepEqual([k!.at(-1), l!.at(-1)], ['k4', 'l4']);
      assert.deepEqual(reader.gaps, []);
    },
  },
  {
    property: 'what was lost of a topic is decidable',
    title: 'a client that returns after a loss gets one gap, up to the last lost event, and all that is left',
    orders: everyLog,
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.hub(LITTLE);
      const [before] = await node.put('b', 'b0');
      const ids = await node.put('a', ...numbered('a', 3));
      await node.put('b', ...numbered('b', 4));
      await node.put('a', ...numbered('c', 4));
      await trial.fault('drop', 'a', node.seqIn(ids[2]!));
      const reader = await node.reader(['a', 'b'], { lastEventId: before });
      await finish(node, reader);
      const left = [...numbered('b', 4), ...numbered('c', 4)];
      assert.deepEqual(storyOf(reader), ['gap evicted', ...left]);
      assert.deepEqual([reader.gaps[0]!.to, reader.gaps[0]!.topics], [ids[2], ['a']]);
    },
  },
  {
    property: 'what was lost of a topic is decidable',
    title: 'a client whose topics have lost nothing gets no gap, whatever others have lost',
    orders: everyLog,
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.hub(LITTLE);
      const [before] = await node.put('b', 'b0');
      const ids = await node.put('a', ...numbered('a', 5));
      await node.put('b', ...numbered('b', 4));
      await trial.fault('drop', 'a', node.seqIn(ids[2]!));
      const reader = node.read('b', { lastEventId: before });
      await finish(node, reader, 'b');
      assert.deepEqual(storyOf(reader), numbered('b', 4));
    },
  },
  {
    property: 'what was lost of a topic is decidable',
    title: 'a client that returns to a topic that was deleted gets a gap before what came after that',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      const [first] = await before.put('a', '1', '2');
      assert.equal(await before.hub.change('a', 'delete'), true);
      const node = await trial.restarted(before);
      const reader = node.read('a', { lastEventId: first });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['gap evicted']);
    },
  },
  {
    property: 'a client ahead of this node waits',
    title: 'a client with an id that a node has not reached waits for it, and gets no gap',
    orders: shared,
    needs: [],
    hold: async (trial) => {
      const [one, slow] = [await trial.hub(), await trial.hub()];
      slow.lag(true);
      const ids = await one.put('a', '1', '2');
      const reader = await slow.reader('a', { lastEventId: ids[1] });
      slow.lag(false);
      await finish(one, reader);
      assert.deepEqual(storyOf(reader), []);
    },
  },
  {
    property: 'a client ahead of this node waits',
    title: 'a client with an id of an epoch that a node has not reached waits for it, and gets no gap',
    orders: shared,
    needs: ['loseTail'],
    hold: async (trial) => {
      const [one, slow] = [await trial.hub(), await trial.hub()];
      const [old] = await one.put('a', '1');
      await trial.until(() => slow.hub.position === old, 'the other node has the event');
      slow.lag(true);
      await one.put('a', '2');
      await trial.fault('loseTail', 1);
      await trial.until(() => isOther(one, old!), 'a node is told of the new order');
      const [id] = await one.put('a', '3');
      const reader = await slow.reader('a', { lastEventId: id });
      slow.lag(false);
      await finish(one, reader);
      assert.deepEqual(storyOf(reader), []);
    },
  },
  {
    property: 'read your writes',
    title: 'once `append` has answered, a client that resumes just before the event gets it',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const node = await trial.hub();
      let [before] = await node.put('a', '0');
      for (const text of numbered('', 3)) {
        const [id] = await node.put('a', text);
        assert.ok(seqOf(node.hub.position) >= seqOf(id!), `${id} was answered at ${node.hub.position}`);
        const reader = node.read('a', { lastEventId: before });
        await reader.reaches(text);
        reader.leave();
        before = id;
      }
    },
  },
  {
    property: 'one order for all',
    title: 'an event has the same id on every node',
    orders: shared,
    needs: [],
    hold: async (trial) => {
      const nodes = [await trial.hub(), await trial.hub()];
      const readers = await Promise.all(nodes.map((node) => node.reader(['a', 'b'])));
      const puts = Array.from({ length: 10 }, (_, i) => nodes[i % 2]!.put('ab'[i % 3 ? 0 : 1]!, `${i}`));
      const ids = (await Promise.all(puts)).flat();
      await nodes[0]!.put('a', 'the end');
      for (const reader of readers) await reader.reaches('the end');
      const told = readers.map((reader) => new Map(reader.texts.map((text, i) => [text, reader.ids[i]])));
      for (const of of told) {
        assert.deepEqual(
          ids.map((_, i) => of.get(`${i}`)),
          ids,
        );
      }
    },
  },
  {
    property: 'three outcomes of an append',
    title: 'an append that was rejected as unavailable is not delivered later',
    orders: shared,
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const node = await trial.hub();
      const reader = await node.reader('a');
      await node.put('a', '1');
      // The first may be asked of the log, which then says what has become of it.
      const cut = trial.fault('disconnect', node.log);
      const early = await node.put('a', 'early').catch((error: { readonly code?: string }) => error);
      await cut;
      await trial.until(() => node.hub.failure !== undefined, 'the hub knows that its log is away');
      await assert.rejects(node.put('a', 'late'), UNAVAILABLE);
      await trial.fault('reconnect', node.log);
      await trial.until(() => node.hub.failure === undefined, 'the hub knows that its log is back');
      await finish(node, reader);
      const isRefused = 'code' in early && early.code === UNAVAILABLE.code;
      const story = storyOf(reader).filter((text) => text !== 'early' || isRefused);
      assert.deepEqual(story, ['1']);
    },
  },
  {
    property: 'three outcomes of an append',
    title: 'an append with an unknown outcome that is sent again with its key is delivered once',
    orders: shared,
    needs: ['loseAnswer'],
    hold: async (trial) => {
      const [one, other] = [await trial.hub(), await trial.hub()];
      const reader = await other.reader('a');
      await one.put('a', '1');
      const idempotency = { key: 'k', digest: 'd' };
      await trial.fault('loseAnswer', one.log);
      const first = one.hub.append('a', { data: '2' }, { idempotency });
      await assert.rejects(first, { code: 'ERR_SSE_OUTCOME_UNKNOWN' });
      await other.hub.append('a', { data: '2' }, { idempotency });
      await finish(other, reader);
      assert.deepEqual(storyOf(reader), ['1', '2']);
    },
  },
  {
    property: 'a repeated request is published once',
    title:
      'a request that is sent again after a restart, with its key, gets its answer and is published once',
    orders: own,
    needs: ['recall'],
    hold: async (trial) => {
      const before = await trial.hub();
      const options = { idempotency: { key: 'k', digest: 'd' } };
      const id = await before.hub.append('a', { data: '1' }, options);
      const node = await trial.restarted(before);
      assert.equal(await node.hub.append('a', { data: '1' }, options), id);
      const reader = await node.reader('a', { from: 'earliest' });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['1']);
    },
  },
  {
    property: 'batches are atomic',
    title: 'a batch is delivered whole and with consecutive ids, live and from the log',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const node = await trial.hub(trial.order === 'none' ? {} : { history: { maxEvents: 6 } });
      const live = await node.reader('a');
      const [before] = await node.put('a', '0');
      const texts = ['1', '2', '3'];
      const ids = await node.hub.appendAll('a', texts.map(hubEventOf));
      await node.put('a', ...numbered('later', 8));
      const late = node.read('a', { lastEventId: before });
      await finish(node, live);
      await late.reaches('the end');
      assert.deepEqual(
        ids.map((id) => seqOf(id) - seqOf(ids[0]!)),
        [0, 1, 2],
      );
      const all = [...texts, ...numbered('later', 8)];
      assert.deepEqual([storyOf(live), storyOf(late)], [['0', ...all], all]);
    },
  },
  {
    property: 'away is not gone',
    title: 'while the log cannot be reached streams stay open, and afterwards go on without a gap',
    orders: shared,
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const [one, gone] = [await trial.hub(), await trial.hub()];
      const reader = await gone.reader('a');
      await one.put('a', '1');
      await reader.reaches('1');
      await trial.fault('disconnect', gone.log);
      await trial.until(() => gone.hub.failure !== undefined, 'the hub knows that its log is away');
      await one.put('a', '2', '3');
      await someTurns();
      assert.equal(reader.closed, false);
      await trial.fault('reconnect', gone.log);
      await finish(one, reader);
      assert.deepEqual(storyOf(reader), ['1', '2', '3']);
    },
  },
  {
    property: 'away is not gone',
    title: 'a hub that starts while its log is away refuses events, keeps streams open, and begins later',
    orders: shared,
    needs: ['disconnect', 'reconnect'],
    hold: async (trial) => {
      const [one, late] = [await trial.hub(), await trial.hubAway()];
      await one.put('a', '1');
      const reader = late.read('a');
      await assert.rejects(late.put('a', 'refused'), UNAVAILABLE);
      await someTurns();
      assert.equal(reader.closed, false);
      await trial.fault('reconnect', late.log);
      await trial.until(() => late.hub.failure === undefined, 'the hub reaches its log');
      // Nobody knows what was published since it came.
      await reader.until(() => reader.gaps.length > 0, 'a gap up to where it begins');
      await late.put('a', '2');
      await finish(one, reader);
      assert.deepEqual(storyOf(reader).slice(1), ['2']);
    },
  },
  {
    property: 'one order for all',
    title: 'a topic that is ended on one node ends the streams of every node, after its last event',
    orders: shared,
    needs: [],
    hold: async (trial) => {
      const nodes = [await trial.hub(), await trial.hub()];
      const readers = await Promise.all(nodes.map((node) => node.reader('a')));
      await nodes[0]!.put('a', '1');
      assert.equal(await nodes[1]!.hub.change('a', 'end'), true);
      for (const reader of readers) await reader.until(() => reader.closed, 'the end of its stream');
      assert.deepEqual(
        readers.map(({ story }) => story),
        [
          ['1', 'end'],
          ['1', 'end'],
        ],
      );
    },
  },
  {
    property: 'a replay is bounded by the head',
    title: 'a client that reads the log of a node that lags gets each event once',
    orders: shared,
    needs: [],
    hold: async (trial) => {
      const [one, slow] = [await trial.hub(), await trial.hub(LITTLE)];
      const ids = await one.put('a', ...numbered('', 6));
      await trial.until(() => slow.hub.position === ids[5], 'the other node has all');
      slow.lag(true);
      await one.put('a', ...numbered('later', 6));
      const reader = slow.read('a', { lastEventId: ids[0] });
      await reader.reaches('6');
      slow.lag(false);
      await finish(one, reader);
      assert.deepEqual(storyOf(reader), [...numbered('', 6).slice(1), ...numbered('later', 6)]);
    },
  },
  {
    property: 'another order is noticed',
    title: 'after a loss of the newest events each stream gets `store-changed` once, before newer events',
    orders: shared,
    needs: ['loseTail'],
    hold: async (trial) => {
      const nodes = [await trial.hub(), await trial.hub()];
      const readers = await Promise.all(nodes.map((node) => node.reader('a')));
      const ids = await nodes[0]!.put('a', '1', '2', '3', '4');
      for (const reader of readers) await reader.reaches('4');
      await trial.fault('loseTail', 2);
      for (const node of nodes)
        await trial.until(() => isOther(node, ids[0]!), 'a node is told of the new order');
      readers.push(nodes[1]!.read('a', { lastEventId: ids[3] }));
      await nodes[0]!.put('a', '5');
      for (const reader of readers) await reader.reaches('5');
      const end = ['gap store-changed', '5'];
      const live = ['1', '2', '3', '4', ...end];
      assert.deepEqual(
        readers.map(({ story }) => story),
        [live, live, end],
      );
    },
  },
  {
    property: 'another order is noticed',
    title: 'after a loss of the newest events a client gets what is left of the old order, then one gap',
    orders: own,
    needs: ['loseTail'],
    hold: async (trial) => {
      const before = await trial.hub();
      const ids = await before.put('a', '1', '2', '3', '4');
      await trial.close(before);
      await trial.fault('loseTail', 2);
      const node = await trial.hub();
      await node.put('a', '5', '6', '7');
      // The first lacks one event that is left; the others have all of those, or even lost ones.
      const readers = [0, 1, 3].map((i) => node.read('a', { lastEventId: ids[i] }));
      for (const reader of readers) await reader.reaches('7');
      const { log } = node;
      const isKnown = log.order !== 'shared' && log.epochs.length > 1;
      const end = [isKnown ? 'gap store-changed' : 'gap unknown-epoch', '5', '6', '7'];
      const stories = readers.map(({ story }) => story);
      assert.deepEqual(stories[0], isKnown ? ['2', ...end] : end);
      assert.deepEqual(stories.slice(1), [end, end]);
    },
  },
  {
    property: 'a log outlives its process',
    title: 'a client that returns after a restart gets what it missed, without a gap',
    orders: everyLog,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      const ids = await before.put('a', '1', '2', '3');
      const node = await trial.restarted(before);
      const reader = node.read('a', { lastEventId: ids[0] });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['2', '3']);
    },
  },
  {
    property: 'a log outlives its process',
    title: 'ids go on after a restart: none is used twice',
    orders: everyLog,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      const ids = await before.put('a', '1', '2', '3');
      const node = await trial.restarted(before);
      const [next] = await node.put('b', '4');
      assert.ok(!ids.includes(next!), `${next} was used before`);
      assert.ok(seqOf(next!) > seqOf(ids[2]!), `${next} comes after ${ids[2]}`);
    },
  },
  {
    property: 'a log outlives its process',
    title: 'a client that returns after a crash gets all newer events, or a gap before them',
    orders: own,
    needs: ['crash'],
    hold: async (trial) => {
      const before = await trial.hub();
      const ids = await before.put('a', '1', '2', '3');
      await trial.crash(before);
      const node = await trial.hub();
      await node.put('a', '4', '5');
      const reader = node.read('a', { lastEventId: ids[2] });
      await finish(node, reader);
      const story = storyOf(reader);
      const all = ['4', '5'];
      assert.deepEqual(story[0]?.startsWith('gap') ? story.slice(1) : story, all);
    },
  },
  {
    property: 'a log outlives its process',
    title: '`from: earliest` gives all that the log has, after a restart as well',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      await before.put('a', '1', '2');
      await before.put('b', '3');
      const node = await trial.restarted(before);
      const reader = await node.reader(['a', 'b'], { from: 'earliest' });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['1', '2', '3']);
    },
  },
  {
    property: 'a log outlives its process',
    title: '`last` gives the newest events that the log has, after a restart as well',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      await before.put('a', '1', '2');
      await before.put('b', '3');
      await before.put('c', '4');
      const node = await trial.restarted(before);
      const reader = await node.reader(['a', 'b'], { last: 2 });
      await finish(node, reader);
      assert.deepEqual(storyOf(reader), ['2', '3']);
    },
  },
  {
    property: 'a log outlives its process',
    title: 'a client that has all of a topic that has ended is refused with 204, after a restart as well',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      const [id] = await before.put('a', '1');
      assert.equal(await before.hub.change('a', 'end'), true);
      const node = await trial.restarted(before);
      const reader = node.read('a', { lastEventId: id });
      await reader.until(() => reader.closed, 'the end of its stream');
      assert.equal(reader.status, 204);
    },
  },
  {
    property: 'a log outlives its process',
    title: 'a topic that has ended takes no events, after a restart as well',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      await before.put('a', '1');
      await before.hub.change('a', 'end');
      const node = await trial.restarted(before);
      await assert.rejects(node.put('a', '2'), { code: 'ERR_SSE_TOPIC_ENDED' });
      assert.equal(await node.hub.change('a', 'reopen'), true);
      await node.put('a', '3');
    },
  },
  {
    property: 'a log outlives its process',
    title: '`list` of a hub has the topics that the log knows, after a restart as well',
    orders: everyHub,
    needs: [],
    hold: async (trial) => {
      const before = await trial.hub();
      const [a] = await before.put('a', '1');
      const [, b] = await before.put('b', '2', '3');
      const node = await trial.restarted(before);
      const topics = await node.hub.list({});
      assert.deepEqual(
        topics.map(({ topic, events, last }) => [topic, events, last]),
        [
          ['a', 1, a],
          ['b', 2, b],
        ],
      );
    },
  },
];
