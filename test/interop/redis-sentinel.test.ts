// A log on a Redis that Sentinels watch.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Heard } from '../../lib/log-intake.ts';
import { RedisLog, type RedisLogOptions } from '../../lib/redis.ts';
import { type ClientKind, clientKinds } from './helpers/redis-clients.ts';
import { eventOf, textOf } from './helpers/redis-node.ts';
import { type RedisProcess, type RedisSentinels, startSentinels, until } from './helpers/redis-servers.ts';

/** Its user is no longer allowed to make it a replica, so that it stays a primary. */
async function keepPrimary(server: RedisProcess): Promise<void> {
  await server.command('acl', 'setuser', 'default', '-replicaof', '-slaveof');
}

async function isPrimary(server: RedisProcess): Promise<boolean> {
  return (await server.command('info', 'replication')).includes('role:master');
}

/** Those that are connected, apart from Sentinels and the one that asks. */
async function clientsOf(server: RedisProcess): Promise<readonly string[]> {
  const list = await server.command('client', 'list', 'type', 'normal');
  return list.split('\n').filter((line) => !/ name=sentinel-| cmd=client/.test(line));
}

interface Node {
  readonly group: RedisSentinels;
  readonly log: RedisLog;
  readonly heard: Heard;
}

async function start(
  t: TestContext,
  kind: ClientKind,
  options: RedisLogOptions,
  args: readonly string[] = [],
): Promise<Node> {
  const group = await startSentinels(t, { args });
  const ports = group.sentinels.map(({ port }) => port);
  const log = new RedisLog(kind.sentinel!({ ports, name: group.name }), options);
  t.after(() => log.close());
  const heard = new Heard();
  assert.equal(await log.verify(), true);
  log.follow(heard);
  await until(() => heard.epoch > 0);
  return { group, log, heard };
}

for (const kind of clientKinds.filter(({ sentinel }) => sentinel !== undefined)) {
  describe(`a log with Sentinels, with ${kind.name}`, { timeout: 60_000 }, () => {
    it('leaves a primary that the Sentinels have replaced, also while that takes events', async (t) => {
      const wait = { replicas: 1, timeout: 1000 };
      const { group, log, heard } = await start(t, kind, { checkInterval: 200, wait });
      const [first] = group.servers as [RedisProcess];
      const before = await log.append('a', [eventOf('before')]);

      await keepPrimary(first);
      const promoted = await group.failover();
      await until(() => heard.epoch > before.epoch && !heard.isAway);
      assert.equal(await isPrimary(first), true);
      await until(async () => (await clientsOf(first)).length === 0);
      // It has no replica.
      await assert.rejects(log.append('a', [eventOf('after')]), { code: 'ERR_SSE_OUTCOME_UNKNOWN' });
      await until(async () => (await clientsOf(promoted)).length === 4);
      const { entries } = await log.read(['a'], 0, 1e6, { newestOnly: false });
      assert.deepEqual(entries.map(textOf), ['after']);
      assert.deepEqual(heard.wrongs, []);
    });
  });
}

describe('a log with Sentinels', { timeout: 60_000 }, () => {
  it('is refused by a replaced primary that must have a replica', async (t) => {
    const options = { checkInterval: 60_000 };
    const { group, log } = await start(t, clientKinds.at(-1)!, options, ['--min-replicas-to-write', '1']);
    const [first] = group.servers as [RedisProcess];
    await log.append('a', [eventOf('before')]);
    await keepPrimary(first);
    await group.failover();
    await assert.rejects(log.append('a', [eventOf('after')]), (error: Error & { code?: unknown }) => {
      assert.equal(error.code, 'ERR_SSE_LOG_UNAVAILABLE');
      assert.match(error.message, /NOREPLICAS/);
      return true;
    });
    assert.equal(await isPrimary(first), true);
  });
});
