import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Heard } from '../../lib/log-intake.ts';
import { RedisLog } from '../../lib/redis.ts';
import { redisKeys } from '../../lib/redis-script.ts';
import { clientKinds } from './helpers/redis-clients.ts';
import { eventOf, textOf } from './helpers/redis-node.ts';
import { type RedisCluster, startCluster, until } from './helpers/redis-servers.ts';

async function open(t: TestContext, client: unknown): Promise<{ log: RedisLog; heard: Heard }> {
  const log = new RedisLog(client, { checkInterval: 200, appendTimeout: 10_000 });
  t.after(() => log.close());
  const heard = new Heard();
  assert.equal(await log.verify(), true);
  log.follow(heard);
  await until(() => heard.epoch > 0);
  return { log, heard };
}

async function read(log: RedisLog): Promise<readonly string[]> {
  return (await log.read(['a', 'b'], 0, 1e6, { newestOnly: false })).entries.map(textOf);
}

/** Moves the slot of the hub to another primary. */
async function moveSlot(cluster: RedisCluster): Promise<void> {
  const slot = await cluster.slotOf(redisKeys('sluice').meta);
  const owner = await cluster.ownerOf(slot);
  const to = cluster.primaries.find((node) => node !== owner)!;
  const move = await cluster.beginMove(slot, to);
  await move.finish();
}

for (const kind of clientKinds) {
  describe(`a log in a cluster, with ${kind.name}`, () => {
    it('goes on in the same epoch where its slot moves to another node', async (t) => {
      const cluster = await startCluster(t);
      const { log, heard } = await open(
        t,
        kind.cluster({ ports: cluster.primaries.map(({ port }) => port) }),
      );
      const texts: string[] = [];
      for (let i = 0; i < 3; i++) {
        texts.push(`before ${i}`, `after ${i}`);
        await log.append('a', [eventOf(`before ${i}`)]);
        await moveSlot(cluster);
        await log.append('b', [{ ...eventOf(`after ${i}`), key: 'k' }]);
      }
      assert.deepEqual(await read(log), texts);
      assert.equal(heard.position, 6);
      assert.equal(heard.renewals.length, 1);
      assert.deepEqual(heard.wrongs, []);
    });
  });
}

describe('a log in a cluster', () => {
  const { cluster: clientOf } = clientKinds.at(-1)!;

  it('begins a new epoch where a replica takes over its slot', async (t) => {
    const cluster = await startCluster(t, { replicas: 1 });
    const all = [...cluster.primaries, ...cluster.replicas];
    const { log, heard } = await open(t, clientOf({ ports: all.map(({ port }) => port) }));
    await log.append('a', [eventOf('1')]);
    const slot = await cluster.slotOf(redisKeys('sluice').meta);
    const owner = await cluster.ownerOf(slot);
    await owner.kill();
    await until(async () => {
      const now = await cluster.ownerOf(slot).catch(() => owner);
      return now !== owner;
    });
    await until(() => heard.renewals.length === 2);
    await until(() =>
      log.append('a', [eventOf('2')]).then(
        () => true,
        () => false,
      ),
    );
    assert.equal((await read(log)).at(-1), '2');
    assert.deepEqual(heard.wrongs, []);
  });

  it('says that the outcome is not in the log while keys of its slot are on two nodes, and nothing is lost', async (t) => {
    const cluster = await startCluster(t);
    const client = clientOf({ ports: cluster.primaries.map(({ port }) => port) });
    const { log, heard } = await open(t, client);
    const keys = redisKeys('sluice');
    await log.append('a', [eventOf('1')]);
    const slot = await cluster.slotOf(keys.meta);
    const owner = await cluster.ownerOf(slot);
    const move = await cluster.beginMove(slot, cluster.primaries.find((node) => node !== owner)!);
    await move.migrate(keys.meta);
    const outcome = log.append('a', [eventOf('2')]);
    await move.finish();
    await outcome;
    assert.deepEqual(await read(log), ['1', '2']);
    assert.equal(heard.renewals.length, 1);
  });
});
