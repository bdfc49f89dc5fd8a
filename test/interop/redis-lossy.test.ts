import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Hub, type SubscribeOptions } from '../../lib/hub.ts';
import { LossyRedis, type LossyRedisOptions } from '../../lib/redis-lossy.ts';
import { startChaosProxy } from '../helpers/chaos-proxy.ts';
import { freePort } from '../helpers/free-port.ts';
import { MemoryReader } from '../helpers/hub.ts';
import { Reader } from '../helpers/reader.ts';
import { kept } from './helpers/children.ts';
import { type ClientKind, clientKinds } from './helpers/redis-clients.ts';
import { startCluster, startRedis, startSentinels, until } from './helpers/redis-servers.ts';

/** A hub of its own process, as far as the others can tell. */
function openHub(t: TestContext, client: unknown, options: LossyRedisOptions = {}): Hub {
  const hub = new Hub({
    log: new LossyRedis(client, { appendTimeout: 5000, checkInterval: 200, ...options }),
    onError: () => {},
  });
  t.after(() => hub.close());
  return hub;
}

const isUp = (hub: Hub): boolean => hub.failure === undefined;
const isDown = (hub: Hub): boolean => hub.failure !== undefined;

async function openHubs(t: TestContext, clients: readonly unknown[]): Promise<[Hub, Hub]> {
  const hubs = clients.map((client) => openHub(t, client)) as [Hub, Hub];
  await until(() => hubs.every(isUp));
  return hubs;
}

/** A stream that has got its first event. */
async function follow(hub: Hub, topic: string, options: SubscribeOptions = {}): Promise<MemoryReader> {
  const reader = new MemoryReader();
  hub.subscribe(topic, reader, options);
  await until(() => reader.events.length > 0);
  return reader;
}

const storyOf = (reader: MemoryReader): string[] => reader.story.slice(1);

for (const kind of clientKinds) {
  describe(`hubs over a channel of Redis, with clients of ${kind.name}`, { timeout: 60_000 }, () => {
    it('all get what one of them appends, in one order', async (t) => {
      const server = await startRedis(t);
      const [one, two] = await openHubs(t, [kind.single(server), kind.single(server)]);
      const readers = await Promise.all([follow(one, 'news'), follow(two, 'news')]);
      const appends = Array.from({ length: 20 }, (_, i) => {
        return (i % 2 === 0 ? one : two).append('news', { data: `event ${i} <é😀\r\n>` });
      });
      await Promise.all(appends);
      await until(() => readers.every(({ texts }) => texts.length === 20));
      assert.deepEqual(readers[0].texts, readers[1].texts);
      assert.deepEqual([readers[0].gaps, readers[1].gaps], [[], []]);
      assert.deepEqual(
        [...readers[0].texts].sort(),
        Array.from({ length: 20 }, (_, i) => `event ${i} <é😀\n>`).sort(),
      );
    });

    it('tell what may have been lost while the server was away', async (t) => {
      const server = await startRedis(t);
      const [one, two] = await openHubs(t, [kind.single(server), kind.single(server)]);
      const reader = await follow(two, 'news');
      await one.append('news', { data: 'before' });
      await until(() => reader.texts.length === 1);
      await server.kill();
      await until(() => isDown(one) && isDown(two));
      await assert.rejects(one.append('news', { data: 'meanwhile' }), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
      assert.deepEqual(storyOf(reader), ['before']);
      await server.start();
      await until(() => isUp(one) && isUp(two));
      await one.append('news', { data: 'after' });
      await until(() => reader.texts.length === 2);
      assert.deepEqual(storyOf(reader), ['before', 'sluice:gap', 'after']);
      assert.equal(reader.gaps[0]?.reason, 'store-changed');
    });
  });
}

describe('a hub over a channel of Redis', { timeout: 60_000 }, () => {
  const [kind] = clientKinds.slice(-1) as [ClientKind];
  const start = async (t: TestContext) => {
    const server = await startRedis(t);
    const proxy = await startChaosProxy(t, server.port);
    const [near, far] = await openHubs(t, [kind.single(server), kind.single({ port: proxy.port })]);
    return { server, proxy, near, far };
  };

  it('says in its first event that events can be missing', async (t) => {
    const { near } = await start(t);
    const reader = await follow(near, 'news', { announce: { more: 1 } });
    const [{ data = '' } = {}] = reader.of('sluice:ready');
    assert.deepEqual(JSON.parse(data), { lossy: true, more: 1, topics: ['news'] });
  });

  it('answers an append once its own readers can have the event', async (t) => {
    const { near } = await start(t);
    const before = near.position;
    const id = await near.append('news', { data: 'a' });
    assert.equal(near.position, id);
    const reader = new MemoryReader();
    near.subscribe('news', reader, { lastEventId: before });
    await until(() => reader.texts.length === 1);
    assert.deepEqual(storyOf(reader), ['a']);
  });

  it('resumes and begins earlier from its memory', async (t) => {
    const { near, far } = await start(t);
    const ids = await near.appendAll(
      'news',
      ['a', 'b', 'c'].map((data) => ({ data })),
    );
    await until(() => far.stats.published === 3);
    for (const hub of [near, far]) {
      const earliest = await follow(hub, 'news', { from: 'earliest' });
      const newest = await follow(hub, 'news', { last: 2 });
      await until(() => earliest.texts.length === 3 && newest.texts.length === 2);
      assert.deepEqual(
        [storyOf(earliest), storyOf(newest)],
        [
          ['a', 'b', 'c'],
          ['b', 'c'],
        ],
      );
    }
    const resumed = await follow(near, 'news', { lastEventId: ids[1] });
    await until(() => resumed.texts.length === 1);
    assert.deepEqual(storyOf(resumed), ['c']);
    // The other hub has an order of its own.
    const elsewhere = await follow(far, 'news', { lastEventId: ids[1] });
    assert.deepEqual(
      elsewhere.gaps.map(({ reason }) => reason),
      ['unknown-epoch'],
    );
  });

  it('tells its readers of a cut of its own, and those of the others of none', async (t) => {
    const { proxy, near, far } = await start(t);
    const readers = await Promise.all([follow(near, 'news'), follow(far, 'news')]);
    await near.append('news', { data: 'before' });
    await until(() => readers.every(({ texts }) => texts.length === 1));
    proxy.refuse();
    await until(() => isDown(far));
    await near.append('news', { data: 'meanwhile' });
    proxy.pass();
    await until(() => isUp(far));
    await near.append('news', { data: 'after' });
    await until(() => readers.every(({ texts }) => texts.at(-1) === 'after'));
    assert.deepEqual(readers.map(storyOf), [
      ['before', 'meanwhile', 'after'],
      ['before', 'sluice:gap', 'after'],
    ]);
  });

  it('finds out that it hears nothing, although no connection breaks', async (t) => {
    const { proxy, near, far } = await start(t);
    const reader = await follow(far, 'news');
    proxy.loseAnswers();
    await near.append('news', { data: 'meanwhile' });
    await until(() => isDown(far));
    proxy.pass();
    await until(() => isUp(far));
    await near.append('news', { data: 'after' });
    await until(() => reader.texts.length === 1);
    assert.deepEqual(storyOf(reader), ['sluice:gap', 'after']);
  });

  it('does not know of an append whose message does not come back', async (t) => {
    const { proxy, far } = await start(t);
    proxy.loseAnswers();
    const sent = assert.rejects(far.append('news', { data: 'a' }), { code: 'ERR_SSE_OUTCOME_UNKNOWN' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    proxy.cut();
    await sent;
  });

  it('ends, reopens and deletes topics on all', async (t) => {
    const { near, far } = await start(t);
    await near.append('news', { data: 'a' });
    await until(() => far.stats.published === 1);
    const reader = await follow(far, 'news', { from: 'earliest' });
    assert.equal(await far.change('news', 'end'), true);
    await until(() => reader.writableEnded);
    assert.deepEqual(storyOf(reader), ['a', 'sluice:end']);
    await until(async () => (await near.change('news', 'end')) === false);
    await assert.rejects(near.append('news', { data: 'b' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    assert.equal(await near.change('news', 'reopen'), true);
    await near.append('news', { data: 'c' });
    assert.equal(await near.change('news', 'delete'), true);
    assert.equal(await near.change('news', 'delete'), false);
    assert.equal(await near.change('unheard', 'delete'), false);
  });

  it('publishes what is asked twice once, within a hub', async (t) => {
    const { near } = await start(t);
    const idempotency = { key: 'k', digest: 'd' };
    const ids = await Promise.all([1, 2].map(() => near.append('news', { data: 'a' }, { idempotency })));
    assert.equal(ids[0], ids[1]);
    assert.equal(near.stats.published, 1);
    await assert.rejects(near.append('news', { data: 'b' }, { idempotency: { key: 'k', digest: 'e' } }), {
      code: 'ERR_SSE_IDEMPOTENCY_CONFLICT',
    });
  });

  it('hears only hubs of its name, and nothing that is no message', async (t) => {
    const { server, near } = await start(t);
    const other = openHub(t, kind.single(server), { name: 'other' });
    await until(() => isUp(other));
    const reader = await follow(near, 'news');
    await other.append('news', { data: 'theirs' });
    for (const text of ['', 'hello', 'sluice1 ', 'sluice1 {}', 'sluice1 null', 'sluice2 {}'])
      await server.command('publish', '{sluice}:lossy', text);
    await near.append('news', { data: 'ours' });
    await until(() => reader.texts.length > 0);
    assert.deepEqual(storyOf(reader), ['ours']);
  });

  it('takes up what it knew of topics after a cut', async (t) => {
    const { proxy, near, far } = await start(t);
    for (const topic of ['going', 'over']) await near.append(topic, { data: 'a' });
    await near.change('over', 'end');
    await until(async () => (await far.change('over', 'end')) === false);
    const before = far.position;
    proxy.cut();
    await until(() => isUp(far) && far.position !== before);
    await assert.rejects(far.append('over', { data: 'b' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    await far.append('going', { data: 'b' });
    const { log } = far;
    assert.ok(log?.order === 'shared');
    const list = await log.list({});
    assert.deepEqual(
      list.map(({ topic, ended, last }) => [topic, ended, last]),
      [
        ['going', false, 1],
        ['over', true, 0],
      ],
    );
  });
});

it('the example of the documentation serves what it appends', { timeout: 60_000 }, async (t) => {
  const page = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  const [, example = ''] = /```ts\n([^`]*new LossyRedis\(new Redis[^`]*)```/.exec(page) ?? [];
  const [server, port] = [await startRedis(t), await freePort()];
  const code = example
    .replaceAll(/'sluice(?:\/([\w-]+))?'/g, (_, name = 'index') => `'${libOf(name)}'`)
    .replace("'ioredis'", `'${import.meta.resolve('ioredis')}'`)
    .replace('lazyConnect', `port: ${server.port}, lazyConnect`)
    .replace('8080', String(port));
  const folder = mkdtempSync(join(tmpdir(), 'sluice-lossy-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'example.mts'), code);
  const child = kept(
    spawn(process.execPath, ['--import', import.meta.resolve('tsx'), join(folder, 'example.mts')]),
  );
  t.after(() => child.kill());
  const hub = openHub(t, (clientKinds[3] as ClientKind).single(server));
  await until(() => isUp(hub));
  const near = await follow(hub, 'news');
  await until(() => near.texts.length > 0);
  assert.equal(near.texts[0], 'to the readers of all hubs');
  const reader = await Reader.open(`http://127.0.0.1:${port}/?topic=news&from=earliest`);
  t.after(() => reader.close());
  await reader.until(({ data }) => data.includes('to the readers of all hubs'));
});

const libOf = (name: string): string => new URL(`../../lib/${name}.ts`, import.meta.url).href;

for (const kind of clientKinds) {
  it(`hubs over a cluster hear each other, with clients of ${kind.name}`, { timeout: 60_000 }, async (t) => {
    const cluster = await startCluster(t);
    const ports = cluster.primaries.map(({ port }) => port);
    const [one, two] = await openHubs(t, [kind.cluster({ ports }), kind.cluster({ ports })]);
    const reader = await follow(two, 'news');
    for (const data of ['a', 'b', 'c']) await one.append('news', { data });
    await until(() => reader.texts.length === 3);
    assert.deepEqual(storyOf(reader), ['a', 'b', 'c']);
    // They listen at the node to which they publish.
    const owner = await cluster.ownerOf(await cluster.slotOf('{sluice}:lossy'));
    assert.match(await owner.command('pubsub', 'numsub', '{sluice}:lossy'), /\n2$/);
    await owner.command('client', 'kill', 'type', 'pubsub');
    await until(() => reader.gaps.length === 1);
  });

  if (kind.sentinel === undefined) continue;
  it(`hubs find each other at the new primary, with clients of ${kind.name}`, {
    timeout: 120_000,
  }, async (t) => {
    const group = await startSentinels(t);
    const ports = group.sentinels.map(({ port }) => port);
    const open = () => kind.sentinel?.({ ports, name: group.name });
    const [one, two] = await openHubs(t, [open(), open()]);
    const reader = await follow(two, 'news');
    await one.append('news', { data: 'before' });
    await until(() => reader.texts.length === 1);
    await (await group.primary()).kill();
    await until(() => isDown(one) && isDown(two));
    await until(() => isUp(one) && isUp(two));
    await one.append('news', { data: 'after' });
    await until(() => reader.texts.at(-1) === 'after');
    assert.deepEqual([...new Set(storyOf(reader))], ['before', 'sluice:gap', 'after']);
  });
}
