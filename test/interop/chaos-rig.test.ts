// The rig of the chaos tests on a modelled store: it passes where nothing is wrong, and notices what is.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SharedLog } from '../../lib/log.ts';
import { SharedStore } from '../helpers/shared-store.ts';
import { startChaosRig } from './helpers/chaos-rig.ts';
import { until } from './helpers/redis-servers.ts';

describe('the rig', () => {
  it('passes a store that fails over, is away, and a node that starts again', async (t) => {
    const store = new SharedStore({ checkInterval: 500 });
    const rig = await startChaosRig(t, { log: (node) => store.open(`node ${node}`), readers: 30 });
    rig.disturb('order');
    store.failOver({ lost: 2 });
    await rig.settled();
    rig.check({ gaps: 'store-changed', each: 1 });
    store.disconnect();
    await until(() => rig.nodes.every(({ hub }) => hub!.failure !== undefined));
    store.reconnect();
    await rig.settled();
    rig.check({ gaps: 'none' });
    await rig.nodes[1]!.stop();
    await rig.nodes[1]!.start();
    await rig.finish();
    rig.check({ gaps: 'none' });
  });

  it('notices an order that goes on as if nothing had been lost', async (t) => {
    const store = new SharedStore({ checkInterval: 500, lineage: 'trust' });
    const rig = await startChaosRig(t, {
      log: (node) => blind(store.open(`node ${node}`)),
      readers: 30,
      patience: 3000,
    });
    store.failOver({ lost: 4 });
    await rig.published();
    await assert.rejects(rig.finish(), /silent-hole|inconsistent-id|lost-write|not within/);
  });

  it('notices a log that leaves out an event when it is read', async (t) => {
    const store = new SharedStore({ checkInterval: 500 });
    const log = (node: number): SharedLog => forgetful(store.open(`node ${node}`));
    const rig = await startChaosRig(t, { log, readers: 30, cutInterval: 20 });
    for (const node of rig.nodes) {
      // It starts with nothing in memory.
      await node.stop();
      await rig.published();
      const { reads } = rig;
      const starting = node.start();
      // Some of them come to it, with places from before its memory begins.
      for (const reader of rig.readers) reader.cut();
      await starting;
      await rig.until('the log is read', () => rig.reads > reads);
    }
    await assert.rejects(rig.finish(), /silent-hole/);
  });

  it('notices a gap for which there was no reason, and one that is missing', async (t) => {
    const store = new SharedStore({ checkInterval: 500 });
    const rig = await startChaosRig(t, { log: (node) => store.open(`node ${node}`), readers: 30 });
    assert.throws(() => rig.check({ gaps: 'store-changed', each: 1 }));
    store.failOver();
    await rig.settled();
    assert.throws(() => rig.check({ gaps: 'none' }));
    await assert.rejects(rig.finish(), /unexplained-gap/);
  });
});

/** It does not say that the order has changed. */
function blind(log: SharedLog): SharedLog {
  const follow = log.follow.bind(log);
  log.follow = (intake) => {
    let hasBegun = false;
    follow({
      accept: (entries) => intake.accept(entries),
      skip: (seq) => intake.skip(seq),
      renew: (epoch, oldEnd) => {
        if (!hasBegun) intake.renew(epoch, oldEnd);
        hasBegun = true;
      },
      away: (error) => intake.away(error),
      back: () => intake.back(),
    });
  };
  return log;
}

function forgetful(log: SharedLog): SharedLog {
  const read = log.read.bind(log);
  log.read = async (...asked) => {
    const page = await read(...asked);
    return { ...page, entries: page.entries.slice(1) };
  };
  return log;
}
