import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { NewEntry } from '../../lib/log.ts';
import { RedisLog, type RedisLogOptions } from '../../lib/redis.ts';
import { openRedis, type RedisConnection } from '../../lib/redis-client.ts';
import { RedisReader } from '../../lib/redis-reader.ts';
import { appendScript, redisKeys } from '../../lib/redis-script.ts';
import { type Place, RedisStore } from '../../lib/redis-store.ts';
import type { Cleanup } from '../helpers/server.ts';
import { eventOf, RedisNode, type Text } from './helpers/redis-node.ts';
import { startRedis, until } from './helpers/redis-servers.ts';

const server = await startRedis(
  { after },
  {
    args: ['--enable-debug-command', 'local', '--repl-diskless-sync-delay', '0'],
  },
);

let hubs = 0;

/** A node of a hub of its own. */
function open(t: Cleanup, options: RedisLogOptions = {}): Promise<RedisNode> {
  return RedisNode.open(t, server.port, { name: nextName(), ...options });
}

function nextName(): string {
  return `hub-${++hubs}`;
}

/** Another node of the same hub. */
function join(t: Cleanup, { name }: RedisNode, options: RedisLogOptions = {}): Promise<RedisNode> {
  return RedisNode.open(t, server.port, { name, ...options });
}

const numbered = (count: number, from = 1): readonly string[] =>
  Array.from({ length: count }, (_, i) => String(from + i));

async function scriptsRun(): Promise<number> {
  const stats = await server.command('info', 'commandstats');
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)![1]);
}

const UNAVAILABLE = { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 };
const UNKNOWN = { code: 'ERR_SSE_OUTCOME_UNKNOWN', status: 503 };

describe('what a log in Redis keeps', () => {
  it('is a frame byte for byte, with its lines, its emoji and a megabyte of them', async (t) => {
    const node = await open(t);
    const texts = [
      '',
      'a\ndata: b',
      'Grüße 👋🏽',
      '\u0000\u0001\u007f',
      '\ufeff',
      '7 0 1 0 "k"',
      'x'.repeat(1 << 20),
    ];
    await node.put('a', ...texts);
    const entries = await node.entries('a');
    assert.deepEqual(
      entries.map(({ frame }) => Buffer.from(frame)),
      texts.map((text) => eventOf(text).frame),
    );
    await until(() => node.told.length === texts.length);
    assert.deepEqual(node.told, texts);
  });

  it('is a key with any characters, half surrogates among them, and a time with fractions', async (t) => {
    const node = await open(t);
    const keys = ['', ' ', '\n', '\0', '"', '\\', '\ud83d', '\ude00x', '👋', '0'];
    const ats = [0, 1.25, 1_700_000_000_000.5, -1];
    for (const [i, key] of keys.entries()) await node.put('a', { text: `${i}`, key, at: ats[i % 4]! });
    const read = await node.entries('a', 0, { newestOnly: true });
    assert.deepEqual(
      read.map(({ key }) => key),
      keys,
    );
    assert.deepEqual(
      read.map(({ at }) => at),
      keys.map((_, i) => ats[i % 4]),
    );
    await until(() => node.heard.position === keys.length);
    assert.deepEqual(
      node.heard.entries.map((entry) => 'key' in entry && entry.key),
      keys,
    );
    await node.put('a', { text: 'newer', key: '\ud83d' });
    assert.equal((await node.texts('a', 0, { newestOnly: true })).length, keys.length);
  });

  it('is at most `maxEvents` of a topic, and says up to where others were dropped', async (t) => {
    const node = await open(t, { history: { maxEvents: 4 } });
    await node.put('a', ...numbered(3));
    await node.put('b', 'other');
    await node.append('a', ['4', '5']);
    assert.deepEqual(await node.texts('a'), ['2', '3', '4', '5']);
    assert.equal(await node.dropped('a'), 1);
    const [record] = await node.log.find(['a']);
    assert.deepEqual([record?.events, record?.dropped, record?.last], [4, 1, 6]);
  });

  it('is at most `maxBytes` of a topic, but its newest event whatever that takes', async (t) => {
    const frame = eventOf('x'.repeat(100)).frame.length;
    const node = await open(t, { history: { maxBytes: 3 * frame } });
    await node.put('a', ...numbered(5).map((n) => n.padEnd(100, 'x')));
    assert.deepEqual(
      (await node.texts('a')).map((text) => text[0]),
      ['3', '4', '5'],
    );
    await node.put('a', 'y'.repeat(1000));
    assert.deepEqual(
      (await node.texts('a')).map((text) => text[0]),
      ['y'],
    );
    const [record] = await node.log.find(['a']);
    assert.deepEqual([record?.events, record?.bytes, record?.dropped], [1, 1000 + 'data: \n\n'.length, 5]);
  });

  it('is not older than `maxAge`: what is older is not read, and its memory is freed', async (t) => {
    const node = await open(t, { history: (topic) => (topic === 'a' ? { maxAge: 60_000 } : {}) });
    const old = Date.now() - 61_000;
    await node.put('a', ...[1, 2, 3].map((n) => ({ text: `${n}`, at: old + n })), '4', '5');
    assert.deepEqual(await node.texts('a'), ['4', '5']);
    assert.equal(await node.dropped('a'), 3);
    assert.equal(await server.command('llen', node.keys.history('a')), '2');
    const left = Number(await server.command('pttl', node.keys.history('a')));
    assert.ok(left > 50_000 && left <= 60_000, `${left}`);
    await node.put('b', '6');
    assert.equal(await server.command('pttl', node.keys.history('b')), '-1');
  });

  it('reads by the ages of the node that reads', async (t) => {
    const writer = await open(t);
    const reader = await join(t, writer, { history: { maxAge: 60_000 } });
    const old = Date.now() - 61_000;
    const texts: Text[] = numbered(100).map((text) => ({ text, at: old }));
    await writer.put('a', ...texts);
    const last = await writer.put('a', 'young');
    await writer.put('b', ...texts.slice(0, 3));
    await until(() => reader.heard.position === last[0]! + 3);
    assert.deepEqual(await reader.texts(['a', 'b']), ['young']);
    const records = await reader.log.find(['a', 'b']);
    assert.deepEqual(
      records.map(({ events, dropped }) => [events, dropped]),
      [
        [1, 100],
        [0, 104],
      ],
    );
    assert.equal(await reader.log.beforeNewest(['a', 'b'], 10), 100);
    assert.equal((await writer.texts('a', 0, { maxBytes: 1e6 })).length, 101);
  });

  it('forgets the topics that were silent for longest beyond `maxTopics`, and tells their readers of a loss', async (t) => {
    const node = await open(t, { maxTopics: 3 });
    for (const topic of ['a', 'b', 'c']) await node.put(topic, topic);
    await node.put('a', 'again');
    await node.put('d', 'd');
    await until(async () => (await server.command('zcard', node.keys.index)) === '3');
    assert.deepEqual(
      (await node.log.list()).map(({ topic }) => topic),
      ['a', 'c', 'd'],
    );
    assert.equal(await server.command('exists', node.keys.history('b')), '0');
    assert.deepEqual([await node.dropped('b'), await node.dropped('never')], [2, 2]);
    await node.put('b', 'back');
    assert.equal((await node.dropped('b')) >= 2, true);
    assert.deepEqual(await node.texts('b'), ['back']);
  });

  it('forgets hundreds of topics where the limit was lowered', async (t) => {
    const node = await open(t);
    await Promise.all(numbered(450).map((n) => node.put(`topic-${n}`, { text: n, key: n })));
    const other = await join(t, node, { maxTopics: 7 });
    await until(async () => (await server.command('zcard', node.keys.index)) === '7');
    assert.equal((await other.log.list()).length, 7);
    const keys = await server.command('keys', `{${node.name}}:[tk]:*`);
    assert.equal(keys.split('\n').length, 14);
  });

  it('forgets topics also where the memory is full', async (t) => {
    const node = await open(t);
    for (const topic of numbered(10)) await node.put(topic, topic);
    await server.command('config', 'set', 'maxmemory', '1');
    try {
      await join(t, node, { maxTopics: 4 });
      await until(async () => (await server.command('zcard', node.keys.index)) === '4');
      assert.equal(await node.dropped('1'), 6);
    } finally {
      await server.command('config', 'set', 'maxmemory', '0');
    }
  });

  it('is a feed of at most so many entries and bytes', async (t) => {
    const node = await open(t, { feed: { maxEvents: 10 } });
    await node.put('a', ...numbered(25));
    assert.equal(await server.command('xlen', node.keys.feed), '10');
    const small = await open(t, { feed: { maxBytes: 5000 } });
    await small.put('a', ...numbered(20).map((n) => n.padEnd(1000, 'x')));
    assert.equal(await server.command('xlen', small.keys.feed), '4');
    await small.put('a', 'y'.repeat(10_000));
    assert.equal(await server.command('xlen', small.keys.feed), '1');
  });

  it('leaves no key of an event behind that was dropped', async (t) => {
    const node = await open(t, { history: { maxEvents: 3 } });
    for (const n of numbered(10)) await node.put('a', { text: n, key: `key-${n}` });
    assert.equal(await server.command('hlen', node.keys.newest('a')), '3');
    await node.put('a', { text: '11', key: 'key-9' }, '12', '13', '14');
    assert.equal(await server.command('exists', node.keys.newest('a')), '0');
  });
});

describe('what a log in Redis answers', () => {
  it('lists hundreds of topics page by page, without those that are deleted', async (t) => {
    const node = await open(t);
    const names = numbered(500)
      .map((n) => `topic-${n}`)
      .sort();
    await Promise.all(names.map((name) => node.put(name, '1')));
    await Promise.all(names.slice(100, 400).map((name) => node.log.change(name, 'delete')));
    const left = [...names.slice(0, 100), ...names.slice(400)];
    assert.deepEqual(
      (await node.log.list()).map(({ topic }) => topic),
      left,
    );
    assert.deepEqual(
      (await node.log.list({ after: names[98]!, limit: 3 })).map(({ topic }) => topic),
      [names[99], names[400], names[401]],
    );
    await server.command('del', node.keys.names);
    assert.deepEqual(
      (await node.log.list({ limit: 1 })).map(({ topic }) => topic),
      [names[0]],
    );
  });

  it('lists one topic behind hundreds that are deleted, in few questions', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    const names = numbered(300).map((n) => `a${n}`);
    for (const name of [...names, 'b', 'c'])
      await store.append(connection, NOWHERE, name, [eventOf('1')], {}, 1000);
    for (const name of names) await store.change(connection, NOWHERE, name, 'delete', 1000);
    const { head } = await store.check(connection, NOWHERE, 1000);
    let questions = 0;
    const counting: RedisConnection = {
      isUp: true,
      close: () => {},
      send(...args) {
        questions++;
        return connection.send(...args);
      },
    };
    const reader = readerOf(store, () => counting, { known: head });
    assert.deepEqual(
      (await reader.list({ limit: 1 })).map(({ topic }) => topic),
      ['b'],
    );
    assert.ok(questions < 20, `${questions}`);
  });

  it('merges more topics than one script takes', async (t) => {
    const node = await open(t);
    const topics = numbered(150).map((n) => `t${n}`);
    for (const topic of topics) await node.put(topic, topic);
    await node.put('t1', 'last');
    assert.deepEqual(await node.texts(topics, 0, { maxBytes: 100 }), [...topics, 'last']);
    assert.equal(await node.log.beforeNewest(topics, 3), 148);
    assert.equal((await node.log.find(topics)).length, 150);
  });

  it('asks at most `maxReads` questions at once', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    const { epoch } = await store.append(connection, NOWHERE, 'a', [eventOf('1')], {}, 1000);
    let [now, most] = [0, 0];
    const counting: RedisConnection = {
      isUp: true,
      close: () => {},
      send: async (...args) => {
        most = Math.max(most, ++now);
        return connection.send(...args).finally(() => now--);
      },
    };
    const reader = readerOf(store, () => counting, { maxReads: 2, known: { epoch, seq: 1 } });
    const pages = await Promise.all(numbered(20).map(() => reader.read(['a'], 0, 1000, false)));
    assert.ok(pages.every(({ entries }) => entries.length === 1));
    assert.equal(most, 2);
  });

  it('reads on where thousands of events are replaced by newer ones', async (t) => {
    const node = await open(t);
    const batch = numbered(1000).map((text) => ({ text, key: 'k' }));
    for (let i = 0; i < 4; i++) await node.append('a', batch);
    assert.deepEqual(await node.texts('a', 0, { newestOnly: true }), ['1000']);
  });

  it('says what was dropped while it reads past events that are replaced', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    const events = numbered(1500).map((text) => eventOf({ text, key: text === '1100' ? 'only' : 'k' }));
    const { epoch } = await store.append(connection, NOWHERE, 'a', events, {}, 1000);
    let reads = 0;
    const trimming: RedisConnection = {
      isUp: true,
      close: () => {},
      send: async (...args) => {
        if (++reads === 2) await server.command('ltrim', store.keys.history('a'), '1200', '-1');
        return connection.send(...args);
      },
    };
    const reader = readerOf(store, () => trimming, { known: { epoch, seq: 1500 } });
    const { entries, dropped } = await reader.read(['a'], 0, 1000, true);
    assert.deepEqual(
      entries.map(({ seq }) => seq),
      [1500],
    );
    assert.deepEqual(dropped, [{ topic: 'a', seq: 1200 }]);
  });

  for (const seed of process.env.SLUICE_SEED ? [Number(process.env.SLUICE_SEED)] : [1, 2, 3]) {
    it(`is what a simple log would answer, whatever was asked (seed ${seed})`, async (t) => {
      const random = randomFrom(seed);
      const pick = (count: number): number => Math.floor(random() * count);
      const most = 5 + pick(20);
      const node = await open(t, { history: { maxEvents: most } });
      const topics = numbered(6).map((n) => `t${n}`);
      const simple = new Map<string, SimpleTopic>();
      let head = 0;
      for (let step = 0; step < 150; step++) {
        const topic = topics[pick(6)]!;
        const held = simple.get(topic) ?? { dropped: 0, last: 0, events: [] };
        if (pick(12) === 0 && simple.has(topic)) {
          if (await node.log.change(topic, 'delete')) {
            head++;
            Object.assign(held, { dropped: held.last, events: [] });
          }
        } else {
          const count = 1 + pick(Math.min(3, most / 2));
          const batch = numbered(count).map((n) => {
            const key = pick(2) === 0 ? `k${pick(3)}` : undefined;
            return { text: `${step}-${n}${'x'.repeat(pick(80))}`, ...(key !== undefined && { key }) };
          });
          await node.append(topic, batch);
          for (const { text, key } of batch) held.events.push({ seq: ++head, text, key });
          held.last = head;
          while (held.events.length > most) held.dropped = held.events.shift()!.seq;
          simple.set(topic, held);
        }
        const asked = topics.filter(() => pick(2) === 0);
        const after = pick(head + 2);
        const all = asked.flatMap((name) => simple.get(name)?.events ?? []).sort((a, b) => a.seq - b.seq);
        const later = all.filter(({ seq }) => seq > after);
        const maxBytes = 20 + pick(400);
        assert.deepEqual(
          await node.texts(asked, after, { maxBytes }),
          later.map(({ text }) => text),
        );
        const newest = asked
          .flatMap((name) => {
            const { events } = simple.get(name) ?? { events: [] };
            return events.filter(
              ({ key }, i) => key === undefined || !events.slice(i + 1).some((e) => e.key === key),
            );
          })
          .filter(({ seq }) => seq > after)
          .sort((a, b) => a.seq - b.seq);
        assert.deepEqual(
          await node.texts(asked, after, { maxBytes, newestOnly: true }),
          newest.map(({ text }) => text),
        );
        const { dropped } = await node.log.read(asked, after, maxBytes, { newestOnly: false });
        const lost = asked.flatMap((name) => {
          const seq = simple.get(name)?.dropped ?? 0;
          return seq > after ? [{ topic: name, seq }] : [];
        });
        assert.deepEqual(dropped, lost);
        const count = pick(10);
        const before = count === 0 || all.length === 0 ? head : all.at(-Math.min(count, all.length))!.seq - 1;
        assert.equal(await node.log.beforeNewest(asked, count), before);
        const records = (await node.log.find(topics)).map(({ topic, last, dropped, events }) => ({
          topic,
          last,
          dropped,
          events,
        }));
        assert.deepEqual(
          records,
          topics.flatMap((topic) => {
            const one = simple.get(topic);
            return one === undefined
              ? []
              : [{ topic, last: one.last, dropped: one.dropped, events: one.events.length }];
          }),
        );
      }
    });
  }
});

interface SimpleTopic {
  dropped: number;
  last: number;
  events: { seq: number; text: string; key: string | undefined }[];
}

function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('what a log in Redis writes', () => {
  const digest = () => server.command('debug', 'digest');

  for (const key of ['meta', 'feed', 'index', 'names', 'requests', 'ages', 'history', 'newest'] as const) {
    it(`is nothing at all where ${key} is of another type`, async (t) => {
      const node = await open(t, { checkInterval: 60_000 });
      await node.append('a', [{ text: '1', key: 'k' }], { idempotency: { key: 'i', digest: 'd' } });
      const at = node.keys[key];
      const name = typeof at === 'function' ? at('a') : at;
      await server.command('del', name);
      await server.command('set', name, 'foreign');
      const before = await digest();
      // Its name is written only where a topic is new.
      const topic = key === 'names' ? 'new' : 'a';
      const appending = node.append(topic, [{ text: '2', key: 'k' }], {
        idempotency: { key: 'j', digest: 'd' },
      });
      await assert.rejects(appending, UNAVAILABLE);
      assert.equal(await digest(), before);
    });
  }

  it('is nothing at all where an epoch must begin, and stale is of another type', async (t) => {
    const node = await open(t, { checkInterval: 60_000 });
    await node.put('a', '1');
    await server.command('set', node.keys.stale, 'foreign');
    await server.command('del', node.keys.meta);
    const before = await digest();
    await assert.rejects(node.put('a', '2'), UNAVAILABLE);
    assert.equal(await digest(), before);
  });

  it('is nothing where the memory is full, but for what makes room, and goes on when there is some', async (t) => {
    const node = await open(t, { checkInterval: 60_000 });
    await node.put('a', '1');
    await node.put('b', 'much');
    const before = await digest();
    await server.command('config', 'set', 'maxmemory', '1');
    try {
      await assert.rejects(node.put('a', '2'), UNAVAILABLE);
      await assert.rejects(node.log.change('a', 'end'), UNAVAILABLE);
      assert.equal(await digest(), before);
      assert.deepEqual(await node.texts('a'), ['1']);
      assert.equal(await node.log.change('b', 'delete'), true);
    } finally {
      await server.command('config', 'set', 'maxmemory', '0');
    }
    await node.put('a', '3');
    assert.deepEqual(await node.texts('a'), ['1', '3']);
  });

  it('is said to be impossible while the memory is full, until there is room, also where nobody tries', async (t) => {
    const node = await open(t);
    await node.put('a', '1');
    assert.equal(node.log.failure, undefined);
    await server.command('config', 'set', 'maxmemory', '1');
    try {
      await assert.rejects(node.put('a', '2'), UNAVAILABLE);
      assert.match(node.log.failure!.message, /OOM/);
      const scripts = await scriptsRun();
      // Two checks, after each of which it is tried.
      await until(async () => (await scriptsRun()) >= scripts + 4);
      assert.match(node.log.failure!.message, /OOM/);
      assert.equal(node.heard.isAway, false);
    } finally {
      await server.command('config', 'set', 'maxmemory', '0');
    }
    await until(() => node.log.failure === undefined);
    await node.put('a', '3');
  });

  it('is refused at once where so much waits already', async (t) => {
    const node = await open(t);
    const events: NewEntry[] = [{ at: 1, key: undefined, frame: Buffer.alloc(33 * 1024 * 1024, 'x') }];
    const outcomes = await Promise.allSettled([1, 2].map(() => node.log.append('a', events)));
    assert.equal(outcomes[1]!.status, 'rejected');
    assert.equal((outcomes[1] as PromiseRejectedResult).reason.code, 'ERR_SSE_LOG_UNAVAILABLE');
  });

  it('is refused at once where many small ones wait, or long keys: what they hold counts', async (t) => {
    const node = await open(t);
    const small = await Promise.allSettled(numbered(50_000).map((text) => node.append('a', [text])));
    const refused = small.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []));
    assert.ok(refused.length > 0 && refused.length < 25_000, `${refused.length} of 50,000`);
    assert.deepEqual([...new Set(refused)], ['ERR_SSE_LOG_UNAVAILABLE']);
    const key = 'k'.repeat(17 * 1024 * 1024);
    const keyed = await Promise.allSettled([1, 2].map(() => node.append('b', [{ text: 'x', key }])));
    assert.deepEqual(
      keyed.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
  });

  it('is one batch or nothing, and a batch of more than half of the history is refused', async (t) => {
    const node = await open(t, { history: { maxEvents: 6, maxBytes: 1000 } });
    assert.deepEqual(await node.append('a', numbered(3)), { epoch: node.heard.epoch, first: 1, count: 3 });
    const tooLarge = { code: 'ERR_SSE_BATCH_TOO_LARGE', status: 413, maxEvents: 3, maxBytes: 500 };
    await assert.rejects(node.append('a', numbered(4)), tooLarge);
    await assert.rejects(node.append('a', ['x'.repeat(300), 'x'.repeat(300)]), tooLarge);
    await assert.rejects(node.append('a', []), RangeError);
    assert.deepEqual(await node.texts('a'), ['1', '2', '3']);
  });
});

/** Sends each append to the server twice, as a client does that did not get the answer. */
function twice(connection: RedisConnection): RedisConnection {
  return {
    get isUp() {
      return connection.isUp;
    },
    send: async (command, options) => {
      const answer = await connection.send(command, options);
      return command.includes(appendScript.sha) ? connection.send(command, options) : answer;
    },
    close: () => connection.close(),
  };
}

/** What reads a store for a node that knows a place. */
function readerOf(
  store: RedisStore,
  connection: () => RedisConnection,
  { known, maxReads = 4 }: { readonly known: Place; readonly maxReads?: number },
): RedisReader {
  return new RedisReader({
    store,
    maxReads,
    connection,
    known: () => known,
    checkReached: () => {},
    hasChanged: async () => false,
  });
}

/** A store, and a connection on which a test speaks to it. */
async function openStore(
  t: Cleanup,
  name: string,
): Promise<{ store: RedisStore; connection: RedisConnection }> {
  const client = new Redis(server.port, '127.0.0.1', { lazyConnect: true });
  const connection = await new Promise<RedisConnection>((resolve) => {
    const opened = openRedis(client, { onUp: () => resolve(opened), onDown: () => {} });
    t.after(() => {
      opened.close();
      client.disconnect();
    });
  });
  const limits = { maxEvents: 2000, maxBytes: 1e6, maxAge: Infinity };
  const store = new RedisStore({
    name,
    lineage: 'gap',
    limitsOf: () => limits,
    feed: { maxEvents: 1000, maxBytes: 1e6 },
    idempotency: { maxAge: 60_000, maxKeys: 10 },
  });
  await store.check(connection, NOWHERE, 1000);
  return { store, connection };
}

const NOWHERE = { epoch: 0, seq: 0 };

describe('a command that a client sends again', () => {
  it('is run once, and has the same answer', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    const events = [eventOf('1'), eventOf('2')];
    await store.append(connection, NOWHERE, 'a', events, {}, 1000);
    const { topics: _, ...again } = await store.append(twice(connection), NOWHERE, 'a', events, {}, 1000);
    assert.deepEqual({ ...again, epoch: 0 }, { epoch: 0, first: 3, count: 2 });
    assert.equal(await server.command('llen', store.keys.history('a')), '4');
  });

  it('has the same answer also where it was for several topics, of which some were refused', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    await store.append(connection, NOWHERE, 'ended', [eventOf('1')], {}, 1000);
    await store.change(connection, NOWHERE, 'ended', 'end', 1000);
    await server.command('set', store.keys.history('foreign'), 'x');
    const batches = ['a', 'ended', 'foreign', 'b'].map((topic) => ({ topic, events: [eventOf(topic)] }));
    const { parts } = await store.appendAll(twice(connection), NOWHERE, batches, 1000);
    assert.deepEqual(
      parts.map((part) => (part instanceof Error ? part.message.split(' ', 3).join(' ') : part)),
      [{ first: 3, count: 1 }, 'the topic "ended"', 'WRONGTYPE Operation against', { first: 4, count: 1 }],
    );
    for (const topic of ['a', 'b'])
      assert.equal(await server.command('llen', store.keys.history(topic)), '1');
  });

  it('is refused where 64 newer ones were run since', async (t) => {
    const { store, connection } = await openStore(t, nextName());
    let first: Parameters<RedisConnection['send']> | undefined;
    const spy: RedisConnection = {
      isUp: true,
      send: (...args) => {
        first ??= args;
        return connection.send(...args);
      },
      close: () => {},
    };
    await store.append(spy, NOWHERE, 'a', [eventOf('1')], {}, 1000);
    for (const n of numbered(64)) await store.append(spy, NOWHERE, 'a', [eventOf(n)], {}, 1000);
    const [[, , ...rest], options] = first!;
    const answer = await connection.send(['EVAL', appendScript.text, ...rest], options);
    assert.deepEqual(answer, ['STALE']);
    assert.equal(await server.command('llen', store.keys.history('a')), '65');
    assert.ok(Number(await server.command('hlen', rest[6] as string)) <= 64);
  });
});

describe('a server that has forgotten the scripts', () => {
  it('gets what is appended in the order of the calls, and refuses nothing', async (t) => {
    const node = await open(t);
    await node.put('a', 'first');
    const texts = numbered(2000);
    await server.command('script', 'flush');
    const seqs: Promise<readonly number[]>[] = [];
    for (const text of texts) {
      seqs.push(node.put('a', text));
      // Others are sent while the first ones are refused, and while these are sent again.
      if (seqs.length % 50 === 0) await new Promise(setImmediate);
    }
    assert.deepEqual(
      (await Promise.all(seqs)).flat(),
      texts.map(Number).map((n) => n + 1),
    );
  });
});

describe('an idempotency key in Redis', () => {
  const asked = (key: string, digest = 'd') => ({ idempotency: { key, digest } });

  it('is kept for `maxAge`', async (t) => {
    const node = await open(t, { idempotency: { maxAge: 1000 } });
    const first = await node.append('a', ['1'], asked('k'));
    assert.deepEqual(await node.append('a', ['1'], asked('k')), first);
    await sleep(1100);
    assert.equal((await node.append('a', ['1'], asked('k', 'other'))).first, 2);
  });

  it('makes the oldest go beyond `maxKeys`', async (t) => {
    const node = await open(t, { idempotency: { maxKeys: 3 } });
    for (const key of ['k', 'l', 'm', 'n']) {
      await node.append('a', [key], asked(key));
      await sleep(2);
    }
    assert.equal(await server.command('hlen', node.keys.requests), '3');
    assert.equal(await server.command('zcard', node.keys.ages), '3');
    assert.equal((await node.append('a', ['l'], asked('l'))).first, 2);
    assert.equal((await node.append('a', ['k'], asked('k'))).first, 5);
  });

  it('takes the same room whatever its length, and tells half surrogates apart', async (t) => {
    const node = await open(t);
    await node.append('a', ['1'], asked('x'.repeat(100_000), 'y'.repeat(100_000)));
    assert.ok(Number(await server.command('memory', 'usage', node.keys.requests)) < 1000);
    const first = await node.append('a', ['2'], asked('\ud83d'));
    const other = await node.append('a', ['3'], asked('\ud83c'));
    assert.notEqual(first.first, other.first);
  });
});

describe('a node of a log in Redis', () => {
  it('hears from Redis at once of what it and others append', async (t) => {
    const node = await open(t, { checkInterval: 60_000 });
    const other = await join(t, node, { checkInterval: 60_000 });
    await other.put('a', '1');
    assert.deepEqual(other.told, ['1']);
    await until(() => node.told.length === 1);
  });

  it('finds within `checkInterval` that its newest entries are gone from the feed', async (t) => {
    const node = await open(t);
    await node.put('a', '1');
    node.proxy.refuse();
    await until(() => node.heard.isAway);
    const other = await join(t, node);
    await other.put('a', '2');
    await server.command('xtrim', node.keys.feed, 'maxlen', '0');
    node.proxy.pass();
    await until(() => node.heard.skipped === 2);
    assert.deepEqual(node.heard.wrongs, []);
  });

  it('refuses appends at once where it is away, and rejects those within `appendTimeout` that are not answered', async (t) => {
    const own = await startRedis(t);
    const node = await RedisNode.open(t, own.port, { appendTimeout: 1000 });
    await node.put('a', '1');
    own.stop();
    await assert.rejects(node.put('a', '2'), UNKNOWN);
    await until(() => node.heard.isAway);
    await assert.rejects(node.put('a', '3'), UNAVAILABLE);
    own.resume();
    await until(() => !node.heard.isAway);
    await node.put('a', '4');
    const texts = await node.texts('a');
    assert.deepEqual(
      texts.filter((text) => text !== '2'),
      ['1', '4'],
    );
    assert.equal(node.heard.renewals.length, 1);
  });

  it('goes on where only one of its connections is lost', async (t) => {
    const node = await open(t, { checkInterval: 60_000 });
    await node.put('a', '1');
    const ids =
      (await server.command('client', 'list')).match(/(?<=^id=)\d+(?=.*cmd=(?:evalsha|eval)\b)/gm) ?? [];
    assert.ok(ids.length > 0);
    for (const id of ids) await server.command('client', 'kill', 'id', id).catch(() => {});
    await node.put('a', '2');
    assert.deepEqual(await node.texts('a'), ['1', '2']);
    assert.equal(node.heard.renewals.length, 1);
  });

  it('waits for replicas where it is asked to, and says that it does not know where there are none', async (t) => {
    const node = await open(t, { wait: { replicas: 1, timeout: 50 } });
    await assert.rejects(node.put('a', '1'), UNKNOWN);
    const replica = await startRedis(t, { args: ['--replicaof', `127.0.0.1 ${server.port}`] });
    await until(async () => (await replica.command('info', 'replication')).includes('master_link_status:up'));
    await until(() =>
      node.put('a', '2').then(
        () => true,
        () => false,
      ),
    );
    await replica.kill();
  });

  it('waits for replicas also for a request that another node has run', async (t) => {
    const replica = await startRedis(t, { args: ['--replicaof', `127.0.0.1 ${server.port}`] });
    await until(async () => (await replica.command('info', 'replication')).includes('master_link_status:up'));
    const options = { idempotency: { key: 'request', digest: 'same' } };
    const node = await open(t);
    const first = await node.append('a', ['1'], options);
    const other = await join(t, node, { wait: { replicas: 1, timeout: 4999.5 } });
    assert.deepEqual(await other.append('a', ['1'], options), first);
    await replica.kill();
  });

  it('waits once for all that is appended at the same time', async (t) => {
    const own = await startRedis(t);
    const node = await RedisNode.open(t, own.port, { wait: { replicas: 1, timeout: 20 } });
    const outcomes = await Promise.allSettled(numbered(30).map((n) => node.put('a', n)));
    assert.ok(outcomes.every((one) => one.status === 'rejected' && one.reason.code === UNKNOWN.code));
    const stats = await own.command('info', 'commandstats');
    const waits = Number(/cmdstat_wait:calls=(\d+)/.exec(stats)![1]);
    assert.ok(waits >= 1 && waits <= 10, `${waits} waits for 30 appends`);
  });

  it('holds nothing open once it is closed, and answers nothing', async (t) => {
    const node = await open(t);
    await node.log.close();
    await assert.rejects(node.put('a', '1'), UNAVAILABLE);
    await assert.rejects(node.log.find(['a']), UNAVAILABLE);
  });
});

describe('the options of a log in Redis', () => {
  const client = new Redis({ lazyConnect: true });

  it('are refused by name', () => {
    const wrong: readonly (readonly [RedisLogOptions, RegExp])[] = [
      [{ name: '{a}' }, /`name` must .* got "{a}"/],
      [{ name: '' }, /`name`/],
      [{ lineage: 'other' as 'gap' }, /`lineage` must be 'gap', 'trust' or 'position', got "other"/],
      [{ maxTopics: 0 }, /`maxTopics` must be a whole number ≥ 1, got 0/],
      [{ maxReads: 0.5 }, /`maxReads`/],
      [{ appendTimeout: 0 }, /`appendTimeout`/],
      [{ checkInterval: 2 ** 31 }, /`checkInterval`/],
      [{ history: { maxEvents: 0 } }, /`maxEvents`/],
      [{ feed: { maxEvents: 0 } }, /`feed.maxEvents`/],
      [{ feed: { maxBytes: 0 } }, /`feed.maxBytes`/],
      [{ idempotency: { maxAge: 0 } }, /`idempotency.maxAge`/],
      [{ idempotency: { maxKeys: -1 } }, /`idempotency.maxKeys`/],
      [{ wait: { replicas: 0, timeout: 1 } }, /`wait.replicas`/],
      [
        { wait: { replicas: Infinity, timeout: 1 } },
        /`wait.replicas` must be a whole number ≥ 1, got Infinity/,
      ],
      [{ wait: { replicas: 1, timeout: 0 } }, /`wait.timeout`/],
    ];
    for (const [options, message] of wrong) assert.throws(() => new RedisLog(client, options), { message });
  });

  it('need a client', () => {
    for (const wrong of [undefined, null, {}, 'redis://localhost']) {
      assert.throws(() => new RedisLog(wrong), { name: 'TypeError', message: /`client` must be/ });
    }
  });
});

describe('the memory that a log in Redis takes', () => {
  it('is at most 1 KiB for each of 100,000 topics with one event of 100 bytes', async (t) => {
    const own = await startRedis(t);
    const node = await RedisNode.open(t, own.port, { appendTimeout: 60_000 });
    const usedBy = async (): Promise<number> =>
      Number(/used_memory_dataset:(\d+)/.exec(await own.command('info', 'memory'))![1]) +
      Number(/used_memory_overhead:(\d+)/.exec(await own.command('info', 'memory'))![1]);
    const before = await usedBy();
    const text = 'x'.repeat(92);
    const topics = 100_000;
    for (let i = 0; i < topics; i += 500) {
      await Promise.all(numbered(500, i).map((n) => node.put(`user:${n}`, text)));
    }
    const each = ((await usedBy()) - before) / topics;
    t.diagnostic(`${Math.round(each)} bytes a topic`);
    assert.ok(each <= 1024, `${each} bytes a topic`);
    assert.equal(await own.command('zcard', redisKeys('sluice').index), String(topics));
  });
});
