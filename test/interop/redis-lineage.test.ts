import assert from 'node:assert/strict';
import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { RedisLogOptions } from '../../lib/redis.ts';
import { RedisNode } from './helpers/redis-node.ts';
import { type RedisProcess, startRedis, until } from './helpers/redis-servers.ts';

type Lineage = NonNullable<RedisLogOptions['lineage']>;

const LINEAGES: readonly Lineage[] = ['gap', 'trust', 'position'];

/** Keeps each command on disk before it answers. */
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];

/** A replica does not wait for others to attach. */
const PRIMARY = ['--repl-diskless-sync-delay', '0'];

function fileOf({ folder }: RedisProcess): string {
  const files = join(folder, 'appendonlydir');
  return join(files, readdirSync(files).find((file) => file.endsWith('.incr.aof'))!);
}

async function startReplica(t: TestContext, { port }: RedisProcess): Promise<RedisProcess> {
  const replica = await startRedis(t, {
    args: ['--replicaof', `127.0.0.1 ${port}`],
  });
  await until(async () => (await replica.command('info', 'replication')).includes('master_link_status:up'));
  return replica;
}

/** Resolves once a replica has all that its primary has. */
async function hasAll(replica: RedisProcess, primary: RedisProcess): Promise<void> {
  const offsetOf = async (server: RedisProcess, field: string) =>
    new RegExp(`${field}:(\\d+)`).exec(await server.command('info', 'replication'))![1];
  await until(
    async () =>
      (await offsetOf(replica, 'slave_repl_offset')) === (await offsetOf(primary, 'master_repl_offset')),
  );
}

async function replidOf(server: RedisProcess): Promise<string> {
  return /master_replid:(\w+)/.exec(await server.command('info', 'replication'))![1]!;
}

/** Leads a node to another server. */
function lead({ proxy }: RedisNode, { port }: RedisProcess): void {
  proxy.retarget(port);
}

/** Appends once the node has come back. */
async function appendAgain(node: RedisNode, text: string): Promise<number> {
  await until(() => !node.heard.isAway);
  for (;;) {
    try {
      const { first, epoch } = await node.append('a', [text]);
      await node.texts('a');
      assert.equal(epoch, node.heard.epoch);
      return first;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'ERR_SSE_LOG_UNAVAILABLE') throw error;
    }
  }
}

function epochsOf({ heard }: RedisNode): number {
  assert.deepEqual(heard.wrongs, []);
  return heard.renewals.length;
}

for (const lineage of LINEAGES) {
  describe(`another order, with lineage "${lineage}"`, () => {
    const told = lineage === 'gap' ? 2 : 1;

    it(`${told === 2 ? 'begins' : 'does not begin'} where the server starts again with all that it had`, async (t) => {
      const server = await startRedis(t, { args: DURABLE });
      const node = await RedisNode.open(t, server.port, { lineage });
      await node.put('a', '1', '2');
      await server.kill();
      await until(() => node.heard.isAway);
      await server.start();
      await appendAgain(node, '3');
      assert.equal(epochsOf(node), told);
      if (told === 1) assert.deepEqual(await node.texts('a'), ['1', '2', '3']);
      else assert.equal(node.heard.renewals.at(-1)!.oldEnd, 2);
    });

    it('begins where the server starts again without what a node has seen', async (t) => {
      const server = await startRedis(t, { args: DURABLE });
      const node = await RedisNode.open(t, server.port, { lineage });
      await node.put('a', '1');
      const { size } = statSync(fileOf(server));
      await node.put('a', '2', '3');
      await server.kill();
      truncateSync(fileOf(server), size);
      await server.start();
      await appendAgain(node, '4');
      assert.equal(epochsOf(node), 2);
      assert.equal(node.heard.renewals.at(-1)!.oldEnd, 1);
      assert.deepEqual(await node.texts('a'), ['4']);
    });

    it('does not begin where the first replica attaches, or its backlog is freed', async (t) => {
      const server = await startRedis(t, { args: PRIMARY });
      await server.command('config', 'set', 'repl-backlog-ttl', '1');
      const node = await RedisNode.open(t, server.port, { lineage });
      await node.put('a', '1');
      const first = await replidOf(server);
      const replica = await startReplica(t, server);
      const second = await replidOf(server);
      assert.notEqual(second, first);
      await node.put('a', '2');
      await replica.kill();
      await until(async () => (await replidOf(server)) !== second);
      await node.put('a', '3');
      assert.equal(epochsOf(node), 1);
      assert.deepEqual(await node.texts('a'), ['1', '2', '3']);
    });

    it(`${told === 2 ? 'begins' : 'does not begin'} where a replica takes over that has all`, async (t) => {
      const server = await startRedis(t, { args: PRIMARY });
      const replica = await startReplica(t, server);
      const node = await RedisNode.open(t, server.port, { lineage });
      await node.put('a', '1', '2');
      await hasAll(replica, server);
      await replica.command('replicaof', 'no', 'one');
      lead(node, replica);
      await until(() => node.heard.isAway);
      await appendAgain(node, '3');
      assert.equal(epochsOf(node), told);
      assert.equal((await node.texts('a')).at(-1), '3');
    });

    it('begins where a replica takes over that lacks what a node has seen', async (t) => {
      const server = await startRedis(t, { args: PRIMARY });
      const replica = await startReplica(t, server);
      const node = await RedisNode.open(t, server.port, { lineage });
      await node.put('a', '1');
      await hasAll(replica, server);
      await replica.command('replicaof', 'no', 'one');
      await node.put('a', '2', '3');
      lead(node, replica);
      await until(() => node.heard.isAway);
      await appendAgain(node, '4');
      assert.equal(epochsOf(node), 2);
      assert.equal(node.heard.renewals.at(-1)!.oldEnd, 1);
      assert.deepEqual(await node.texts('a'), ['4']);
    });

    it('begins once where two nodes come back at the same time', async (t) => {
      const server = await startRedis(t);
      const nodes = await Promise.all([1, 2].map(() => RedisNode.open(t, server.port, { lineage })));
      await nodes[0]!.put('a', '1');
      await until(() => nodes.every(({ told }) => told.length === 1));
      await server.kill();
      await server.start();
      await Promise.all(nodes.map((node, i) => appendAgain(node, `${2 + i}`)));
      const [one, other] = nodes as [RedisNode, RedisNode];
      await until(() => one.told.length === 3 && other.told.length === 3);
      assert.deepEqual(one.told, other.told);
      assert.deepEqual([epochsOf(one), epochsOf(other)], [2, 2]);
      assert.equal(one.heard.epoch, other.heard.epoch);
    });
  });
}

describe('what is lost on a server that goes on', () => {
  it('is a new epoch after FLUSHALL, also where nobody publishes', async (t) => {
    const server = await startRedis(t);
    const node = await RedisNode.open(t, server.port);
    await node.put('a', '1', '2');
    const { epoch } = node.heard;
    await server.command('flushall');
    await until(() => node.heard.epoch > epoch);
    await node.put('a', '3');
    assert.equal(epochsOf(node), 2);
    assert.deepEqual(await node.texts('a'), ['3']);
  });

  for (const key of ['meta', 'index'] as const) {
    it(`is a new epoch where ${key} is deleted, and the keys of its topics are removed`, async (t) => {
      const server = await startRedis(t);
      const node = await RedisNode.open(t, server.port);
      await node.put('a', '1', { text: '2', key: 'k' });
      await node.put('b', '3');
      await server.command('del', node.keys[key]);
      const { epoch } = await node.append('b', ['4']);
      assert.equal(epoch, node.heard.epoch);
      assert.equal(epochsOf(node), 2);
      assert.deepEqual(await node.texts(['a', 'b']), ['4']);
      const left = [node.keys.history('a'), node.keys.newest('a'), node.keys.stale];
      await until(async () => (await server.command('exists', ...left)) === '0');
      assert.deepEqual(await node.texts(['a', 'b']), ['4']);
    });
  }

  for (const key of ['meta', 'index'] as const) {
    it(`refuses to read without ${key}, rather than that it knows of no loss`, async (t) => {
      const server = await startRedis(t);
      const node = await RedisNode.open(t, server.port, { checkInterval: 60_000 });
      await node.put('a', '1');
      await server.command('del', node.keys[key]);
      await assert.rejects(node.log.find(['a']), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
      assert.equal(epochsOf(node), 2);
    });
  }

  it('is no new epoch where the feed is deleted: what is not read there is skipped', async (t) => {
    const server = await startRedis(t);
    const node = await RedisNode.open(t, server.port);
    const late = await RedisNode.open(t, server.port);
    await node.put('a', '1');
    await until(() => late.told.length === 1);
    late.proxy.refuse();
    await node.put('a', '2', '3');
    await server.command('del', node.keys.feed);
    late.proxy.pass();
    await until(() => late.heard.skipped === 3);
    await node.put('a', '4');
    assert.deepEqual(await late.texts('a'), ['1', '2', '3', '4']);
    await until(() => late.told.length === 2);
    assert.deepEqual([epochsOf(node), epochsOf(late)], [1, 1]);
  });

  it('is a loss of one topic where its history is deleted', async (t) => {
    const server = await startRedis(t);
    const node = await RedisNode.open(t, server.port);
    const seqs = await node.put('a', '1', { text: '2', key: 'k' });
    await node.put('b', '3');
    await server.command('del', node.keys.history('a'));
    assert.equal(await node.dropped('a'), seqs[1]);
    await node.put('a', { text: '4', key: 'l' });
    assert.equal(await node.dropped('a'), seqs[1]);
    assert.deepEqual(await node.texts(['a', 'b'], 0, { newestOnly: true }), ['3', '4']);
    assert.equal(epochsOf(node), 1);
  });

  for (const key of ['names', 'stale', 'requests', 'ages'] as const) {
    it(`is nothing that a reader sees where ${key} is deleted`, async (t) => {
      const server = await startRedis(t);
      const node = await RedisNode.open(t, server.port);
      const options = { idempotency: { key: 'k', digest: 'd' } };
      await node.append('a', ['1'], options);
      await server.command('del', node.keys[key]);
      await node.append('b', ['2'], options);
      assert.deepEqual((await node.log.list()).map(({ topic }) => topic).sort(), [
        ...new Set(['a', ...(await node.texts('b')).map(() => 'b')]),
      ]);
      assert.equal(epochsOf(node), 1);
    });
  }

  it('keeps the newest of each key where the hash of a topic is deleted', async (t) => {
    const server = await startRedis(t);
    const node = await RedisNode.open(t, server.port);
    await node.put('a', { text: '1', key: 'k' }, { text: '2', key: 'l' });
    await server.command('del', node.keys.newest('a'));
    await node.put('a', { text: '3', key: 'k' });
    assert.deepEqual(await node.texts('a', 0, { newestOnly: true }), ['2', '3']);
  });

  it('goes on where somebody else has written to the feed', async (t) => {
    const server = await startRedis(t);
    const node = await RedisNode.open(t, server.port);
    await node.put('a', '1');
    await server.command('xadd', node.keys.feed, '*', 'field', 'value');
    await node.put('a', '2');
    await server.command('xadd', node.keys.feed, '*', 'field', 'value');
    await server.command('xtrim', node.keys.feed, 'maxlen', '0');
    await node.put('a', '3');
    assert.equal((await node.texts('a')).at(-1), '3');
    assert.deepEqual(node.heard.wrongs, []);
  });
});
