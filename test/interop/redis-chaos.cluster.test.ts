// Three nodes on a real cluster of Redis, and on a Redis with Sentinels.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cleanup } from '../helpers/server.ts';
import type { ChaosRig } from './helpers/chaos-rig.ts';
import {
  clientOf,
  info,
  inRounds,
  keys,
  LONG,
  lastFirst,
  NONE,
  ONCE,
  PROMPT,
  READERS,
  REFUSED,
  ROUNDS,
  startNodes,
  untilInfo,
} from './helpers/redis-chaos.ts';
import {
  type RedisProcess,
  type RedisSentinels,
  startCluster,
  startSentinels,
  until,
} from './helpers/redis-servers.ts';

describe(`${ROUNDS} × with ${READERS} readers, in a cluster and with Sentinels`, () => {
  it('no stream gets a gap when the slot of the hub moves from node to node', async (t) => {
    const last = lastFirst(t);
    const cluster = await startCluster(last, { args: PROMPT });
    const ports = cluster.primaries.map(({ port }) => port);
    const rig = await startNodes(last, (node) => clientOf(node).cluster({ ports }));
    const slot = await cluster.slotOf(keys.meta);
    await inRounds(rig, NONE, async () => {
      const owner = await cluster.ownerOf(slot);
      const next = cluster.primaries[(cluster.primaries.indexOf(owner) + 1) % 3]!;
      const begun = performance.now();
      const move = await cluster.beginMove(slot, next);
      // A script names keys that are absent. They may have moved already, so Redis runs none until all have.
      await rig.until('publishing is refused', () =>
        rig.publishers.every(({ answers }) =>
          answers.some(({ at, error }) => at > begun && error === REFUSED),
        ),
      );
      await move.migrate(keys.feed);
      await sleep(LONG ? 2000 : 500);
      await move.finish();
    });
  });

  it('each stream gets one gap, store-changed, when a primary of the cluster dies', async (t) => {
    const last = lastFirst(t);
    const cluster = await startCluster(last, { replicas: 1, args: PROMPT });
    const nodes = [...cluster.primaries, ...cluster.replicas];
    const ports = nodes.map(({ port }) => port);
    const rig = await startNodes(last, (node) => clientOf(node).cluster({ ports }));
    const slot = await cluster.slotOf(keys.meta);
    await inRounds(rig, ONCE, async () => {
      const owner = await cluster.ownerOf(slot);
      rig.disturb('order');
      await owner.kill();
      await until(async () => (await cluster.ownerOf(slot).catch(() => owner)) !== owner);
      await owner.start();
      await untilInfo(owner, 'master_link_status', 'up');
    });
  });

  it('each stream gets one gap, store-changed, when a primary dies that Sentinels watch', async (t) => {
    const { rig, primary } = await startWithSentinels(t);
    await inRounds(rig, ONCE, async () => {
      const dead = await primary();
      rig.disturb('order');
      await dead.kill();
      await until(async () => (await primary()) !== dead);
      await dead.start();
      await untilInfo(dead, 'master_link_status', 'up');
    });
  });

  it('each stream that stays with its node gets one gap, store-changed, when Sentinels are told to fail over', async (t) => {
    const { rig, primary, failover } = await startWithSentinels(t);
    await inRounds(rig, ONCE, async () => {
      const before = await primary();
      rig.disturb('order');
      // Until all nodes have left the old one they disagree, and so do readers that change nodes.
      rig.cuts = 'off';
      await allowDemotion(before, false);
      await failover();
      await rig.settled();
      assert.equal(await info(before, 'role'), 'master');
      await allowDemotion(before, true);
      await untilInfo(before, 'role', 'slave');
      rig.cuts = 'on';
    });
  });
});

/** Sentinels make an old primary a replica after some seconds, where they may. */
async function allowDemotion(server: RedisProcess, isAllowed: boolean): Promise<void> {
  const sign = isAllowed ? '+' : '-';
  await server.command('acl', 'setuser', 'default', `${sign}replicaof`, `${sign}slaveof`);
}

async function startWithSentinels(t: Cleanup): Promise<RedisSentinels & { readonly rig: ChaosRig }> {
  const last = lastFirst(t);
  const all = await startSentinels(last, { args: PROMPT });
  const ports = all.sentinels.map(({ port }) => port);
  const rig = await startNodes(last, (node) => clientOf(node).sentinel!({ ports, name: all.name }));
  return { ...all, rig };
}
