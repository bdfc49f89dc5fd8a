// The clauses of the contract that every log keeps by itself, without a hub.
// Needs `log-trial.ts`, and what that needs, beside it.

import assert from 'node:assert/strict';
import { everyLog, type Rule, rulesOf, type Sentence, type Text, textOf } from './log-trial.ts';

const last = (seqs: readonly number[]): number => seqs.at(-1)!;

/** A text whose frame has this many bytes. */
const ofBytes = (bytes: number): string => 'x'.repeat(bytes - 'data: \n\n'.length);

const bytesOf = (entries: readonly { readonly frame: Uint8Array }[]): number =>
  entries.reduce((sum, { frame }) => sum + frame.length, 0);

const reading: readonly Sentence[] = [
  {
    title: '`read` returns the events of the topics that it is asked for, merged by seq, and no others',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1');
      await node.put('b', '2');
      await node.put('c', '3');
      await node.put('a', '4');
      assert.deepEqual(await node.texts(['b', 'a']), ['1', '2', '4']);
    },
  },
  {
    title: '`read` returns an entry as it was appended: seq, topic, time, frame and key',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const before = Date.now();
      const [seq] = await node.put('a', { text: 'Grüße', key: 'k' });
      const [entry] = (await node.page(['a'], 0)).entries;
      assert.deepEqual([entry?.seq, entry?.topic, entry?.key], [seq, 'a', 'k']);
      assert.equal(textOf(entry!), 'Grüße');
      // The clauses give a time before that of the append.
      assert.ok(entry!.at > 0 && entry!.at <= before, `\`at\` is ${entry!.at}`);
    },
  },
  {
    title: 'a key is kept whatever its characters, and so is the name of a topic, with its case',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const keys = ['', 'a\0b', 'a\nb', '\ud83d\ude00', 'x'.repeat(1000)];
      const topics = ['a', 'A', '__proto__', 'constructor', 'a:*~._-', 'x'.repeat(200)];
      for (const topic of topics) await node.put(topic, topic);
      const head = last(await node.put('keys', ...keys.map((key) => ({ text: '', key }))));
      for (const topic of topics) assert.deepEqual(await node.texts([topic]), [topic]);
      assert.deepEqual(
        (await node.page(['keys'], 0)).entries.map(({ key }) => key),
        keys,
      );
      const pages = await node.pages(['keys'], 0, head, { newestOnly: true });
      assert.equal(pages.flatMap(({ entries }) => entries).length, keys.length);
    },
  },
  {
    title: '`read` returns what comes after the seq, and not the entry of that seq',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const [, second] = await node.put('a', '1', '2', '3');
      assert.deepEqual(await node.texts(['a'], second), ['3']);
    },
  },
  {
    title: '`read` returns about as many bytes as it is asked for',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', ...Array.from({ length: 20 }, () => ofBytes(1000)));
      const { entries } = await node.page(['a'], 0, { maxBytes: 5000 });
      const bytes = bytesOf(entries);
      assert.ok(bytes >= 1000 && bytes <= 6000, `${bytes} bytes of 5000`);
    },
  },
  {
    title: '`read` returns one entry where the first is larger than a page',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const [seq] = await node.put('a', ofBytes(5000), '2');
      const { entries } = await node.page(['a'], 0, { maxBytes: 1000 });
      assert.equal(entries[0]?.seq, seq);
    },
  },
  {
    title: 'pages that are read one after another have every event once, in order',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const seqs: number[] = [];
      for (let i = 0; i < 20; i++) seqs.push(...(await node.put('ab'[i % 2]!, ofBytes(1000))));
      const pages = await node.pages(['a', 'b'], 0, last(seqs), { maxBytes: 3000 });
      const read = pages.flatMap(({ entries }) => entries.map(({ seq }) => seq));
      assert.deepEqual(read, seqs);
      assert.ok(pages.length > 1);
    },
  },
  {
    title: 'a page states in `until` how far it reaches, never less than its newest entry',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', ofBytes(1000), ofBytes(1000), ofBytes(1000));
      const head = last(await node.put('b', '4'));
      for (let maxBytes = 500; maxBytes < 5000; maxBytes += 500) {
        const { entries, until } = await node.page(['a', 'b'], 0, { maxBytes });
        const next = entries.length < 4 ? entries.at(-1)!.seq + 1 : Infinity;
        assert.ok(
          until >= entries.at(-1)!.seq && until < next,
          `${until} after ${entries.length} of ${head}`,
        );
      }
    },
  },
  {
    title: 'a page without entries reaches the head',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '2', '3'));
      const { entries, until } = await node.page(['never'], 0);
      assert.deepEqual(entries, []);
      assert.ok(until >= head, `\`until\` is ${until}, and the head ${head}`);
    },
  },
  {
    title: 'a page keeps its frames while others are read and appended',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const [first] = await node.put('a', '1', '2');
      const kept = (await node.page(['a'], 0)).entries;
      await node.put('a', '3', '4');
      await node.page(['a'], first!);
      assert.deepEqual(kept.map(textOf), ['1', '2']);
    },
  },
  {
    title: 'without `newestOnly`, events that newer ones replace are returned as well',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', { text: '1', key: 'k' }, { text: '2', key: 'k' });
      assert.deepEqual(await node.texts(['a']), ['1', '2']);
    },
  },
  {
    title: 'with `newestOnly`, what is left out was replaced by a newer event of the same topic and key',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const keyed = (text: string, key: string): Text => ({ text, key });
      await node.put('a', keyed('1', 'k'), '2', keyed('3', 'l'));
      await node.put('b', keyed('4', 'k'), keyed('5', 'k'));
      const head = last(await node.put('a', '6'));
      const pages = await node.pages(['a', 'b'], 0, head, { newestOnly: true });
      const read = pages.flatMap(({ entries }) => entries.map(textOf));
      const kept = read.filter((text) => text !== '4');
      assert.deepEqual(kept, ['1', '2', '3', '5', '6']);
    },
  },
  {
    title: 'pages with `newestOnly` reach the head, however much is left out of them',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const replaced = Array.from({ length: 20 }, () => ({ text: ofBytes(1000), key: 'k' }));
      await node.put('a', ...replaced.slice(0, 10));
      await node.put('a', ...replaced.slice(10));
      const head = last(await node.put('a', { text: 'newest', key: 'k' }));
      const pages = await node.pages(['a'], 0, head, { newestOnly: true, maxBytes: 3000 });
      assert.equal(pages.flatMap(({ entries }) => entries.map(textOf)).at(-1), 'newest');
    },
  },
];

const lost: readonly Sentence[] = [
  {
    title: 'where nothing is lost, a page states no loss',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1', '2');
      await node.put('b', '3');
      const { dropped, truncated = 0 } = await node.page(['a', 'b', 'never'], 0);
      assert.deepEqual([dropped, truncated], [[], 0]);
    },
  },
  {
    title: 'what retention has dropped of a topic is stated with the newest seq that was dropped',
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.log();
      const [, second] = await node.put('a', '1', '2', '3');
      await node.put('b', '4');
      await trial.fault('drop', 'a', second!);
      const { dropped, entries } = await node.page(['a', 'b'], 0);
      assert.deepEqual(dropped, [{ topic: 'a', seq: second }]);
      assert.deepEqual(entries.map(textOf), ['3', '4']);
    },
  },
  {
    title: 'a page that is cut short states what was dropped before it as well',
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.log();
      const [first] = await node.put('a', '1');
      await node.put('b', ofBytes(1000), ofBytes(1000));
      await node.put('a', ofBytes(1000));
      await trial.fault('drop', 'a', first!);
      const { dropped } = await node.page(['a', 'b'], 0, { maxBytes: 1000 });
      assert.deepEqual(dropped, [{ topic: 'a', seq: first }]);
    },
  },
  {
    title: 'a cursor that lies where the loss ends, or after it, has lost nothing',
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.log();
      const [, second, third] = await node.put('a', '1', '2', '3');
      await trial.fault('drop', 'a', second!);
      for (const cursor of [second!, third!]) {
        assert.deepEqual((await node.page(['a'], cursor)).dropped, []);
      }
    },
  },
  {
    title: 'a topic of which no event is left still states what it lost',
    needs: ['drop'],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '2'));
      await trial.fault('drop', 'a', head);
      assert.deepEqual((await node.page(['a'], 0)).dropped, [{ topic: 'a', seq: head }]);
      const record = await node.record('a');
      assert.deepEqual([record?.last, record?.dropped, record?.events], [head, head, 0]);
    },
  },
  {
    title: 'a deleted topic states its last seq as lost',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '2'));
      await node.change('a', 'delete');
      const { dropped, entries } = await node.page(['a'], 0);
      assert.deepEqual(entries, []);
      assert.deepEqual(dropped, [{ topic: 'a', seq: head }]);
    },
  },
  {
    title: 'a topic that was forgotten with its record states as lost at least what it had',
    needs: ['forget'],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '2'));
      await node.put('b', '3');
      await trial.fault('forget', 'a');
      const { dropped, truncated = 0 } = await node.page(['a', 'b'], 0);
      const seq = Math.max(truncated, dropped.find(({ topic }) => topic === 'a')?.seq ?? 0);
      assert.ok(seq >= head, `states ${seq}, and its last event was ${head}`);
    },
  },
  {
    title: 'a log that was shortened from outside states up to where',
    needs: ['truncate'],
    hold: async (trial) => {
      const node = await trial.log();
      const [, second] = await node.put('a', '1', '2', '3');
      await trial.fault('truncate', second!);
      const { dropped, truncated = 0, entries } = await node.page(['a'], 0);
      assert.deepEqual(entries.map(textOf), ['3']);
      const seq = Math.max(truncated, dropped[0]?.seq ?? 0);
      assert.ok(seq >= second!, `states ${seq}, and ${second} is gone`);
    },
  },
];

const records: readonly Sentence[] = [
  {
    title: '`find` returns the record of each topic, and none for one that it does not know',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '22'));
      await node.put('b', '3');
      const bytes = 'data: 1\n\n'.length + 'data: 22\n\n'.length;
      const expected = { topic: 'a', last: head, dropped: 0, ended: false, events: 2, bytes };
      assert.deepEqual({ ...(await node.record('a')) }, expected);
      const found = await node.log.find(['never', 'b', 'a']);
      assert.deepEqual(found.map(({ topic }) => topic).sort(), ['a', 'b']);
    },
  },
  {
    title: '`list` returns topics by name: those after a name, at most as many as it is asked for',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      for (const topic of ['b', 'a.c', 'a', 'B', 'a:c', 'c']) await node.put(topic, '1');
      const read: string[] = [];
      for (let page = await node.list({ limit: 2 }); page.length > 0 && read.length < 10; ) {
        assert.ok(page.length <= 2, `${page.length} topics of 2`);
        read.push(...page);
        page = await node.list({ limit: 2, after: page.at(-1)! });
      }
      assert.deepEqual(read, ['B', 'a', 'a.c', 'a:c', 'b', 'c']);
      assert.deepEqual(await node.list(), read);
    },
  },
  {
    title: '`list` leaves out a deleted topic until something is published to it',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1');
      await node.put('b', '2');
      await node.change('a', 'delete');
      assert.deepEqual(await node.list(), ['b']);
      await node.put('a', '3');
      assert.deepEqual(await node.list(), ['a', 'b']);
    },
  },
  {
    title: '`beforeNewest` returns the seq after which the topics together have that many events',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const [first] = await node.put('a', '1');
      await node.put('b', '2');
      const [third] = await node.put('a', '3');
      await node.put('c', '4');
      await node.put('b', '5');
      assert.equal(await node.beforeNewest(['a', 'b'], 2), third! - 1);
      assert.equal(await node.beforeNewest(['a', 'b'], 4), first! - 1);
      assert.deepEqual(await node.texts(['a', 'b'], await node.beforeNewest(['a', 'b'], 0)), []);
    },
  },
  {
    title: '`beforeNewest` of more events than there are lies before all, and after what was lost',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1', '2');
      await node.change('a', 'delete');
      await node.put('a', '3', '4');
      const { entries, dropped } = await node.page(['a'], await node.beforeNewest(['a'], 10));
      assert.deepEqual(entries.map(textOf), ['3', '4']);
      assert.deepEqual(dropped, []);
    },
  },
];

const changes: readonly Sentence[] = [
  {
    title: '`end` ends a topic once, keeps its events, and answers whether there was something to end',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1');
      assert.equal(await node.change('a', 'end'), true);
      assert.equal(await node.change('a', 'end'), false);
      assert.equal((await node.record('a'))?.ended, true);
      assert.deepEqual(await node.texts(['a']), ['1']);
    },
  },
  {
    title: '`reopen` takes back the end of a topic, and leaves its events',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      await node.put('a', '1');
      assert.equal(await node.change('a', 'reopen'), false);
      await node.change('a', 'end');
      assert.equal(await node.change('a', 'reopen'), true);
      assert.equal((await node.record('a'))?.ended, false);
      await node.put('a', '2');
      assert.deepEqual(await node.texts(['a']), ['1', '2']);
    },
  },
  {
    title: '`delete` removes the events and the end of a topic, and answers whether there were any',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      assert.equal(await node.change('a', 'delete'), false);
      await node.put('a', '1');
      await node.change('a', 'end');
      assert.equal(await node.change('a', 'delete'), true);
      assert.equal(await node.change('a', 'delete'), false);
      assert.equal((await node.record('a'))?.ended, false);
      await node.put('a', '2');
      assert.deepEqual(await node.texts(['a']), ['2']);
    },
  },
  {
    title: 'a topic that was deleted and published to states only the older events as lost',
    needs: [],
    hold: async (trial) => {
      const node = await trial.log();
      const head = last(await node.put('a', '1', '2'));
      await node.change('a', 'delete');
      await node.put('a', '3');
      const { entries, dropped } = await node.page(['a'], 0);
      assert.deepEqual(entries.map(textOf), ['3']);
      assert.deepEqual(dropped, [{ topic: 'a', seq: head }]);
    },
  },
];

/** The clauses of every log. */
export const logRules: readonly Rule[] = [
  ...rulesOf('reading', everyLog, reading),
  ...rulesOf('what was lost of a topic is decidable', everyLog, lost),
  ...rulesOf('topics', everyLog, [...records, ...changes]),
];
