// Redis is away for a while: what publishers, readers and operators see meanwhile.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChaosRig } from './helpers/chaos-rig.ts';
import { type Chaos, LONG, REFUSED, startChaos, UNKNOWN } from './helpers/redis-chaos.ts';

const AWAY = LONG ? 60_000 : 5000;

/** What each of the nodes says of itself. */
async function ready({ nodes }: ChaosRig): Promise<string[]> {
  return Promise.all(
    nodes.map(async (node) => {
      const { status, text } = await node.status('/readyz');
      const metrics = await node.status('/metrics');
      const available = /^sluice_log_available (\d)$/m.exec(metrics.text)?.[1];
      return `${status} ${(JSON.parse(text) as { status: string }).status} ${available}`;
    }),
  );
}

const all = (said: readonly string[], what: string): boolean => said.every((one) => one === what);

const ways: Record<string, readonly [begin: (chaos: Chaos) => void, end: (chaos: Chaos) => void]> = {
  'refuses connections': [
    ({ proxies }) => proxies.forEach((proxy) => void proxy.refuse()),
    ({ proxies }) => proxies.forEach((proxy) => void proxy.pass()),
  ],
  'does not answer': [({ redis }) => redis.stop(), ({ redis }) => redis.resume()],
};

for (const [how, [begin, end]] of Object.entries(ways)) {
  it(`while Redis ${how} for ${AWAY / 1000} s, publishing is refused at once, and streams stay`, async (t) => {
    const chaos = await startChaos(t, { cutInterval: Infinity });
    const { rig } = chaos;
    assert.ok(all(await ready(rig), '200 ready 1'));
    const losses = rig.readers.map((reader) => reader.losses);
    const answers = rig.publishers.map((publisher) => publisher.answers.length);
    begin(chaos);
    const began = performance.now();
    await rig.until('all nodes say so', async () => all(await ready(rig), '503 log-unavailable 0'));
    const beats = rig.readers.map((reader) => reader.beats);
    await sleep(AWAY - (performance.now() - began));
    assert.ok(all(await ready(rig), '503 log-unavailable 0'));
    end(chaos);
    await rig.until('all nodes are ready', async () => all(await ready(rig), '200 ready 1'));
    await rig.settled();
    rig.check({ gaps: 'none' });
    assert.deepEqual(
      rig.readers.map((reader) => reader.losses),
      losses,
    );
    for (const [i, reader] of rig.readers.entries()) assert.ok(reader.beats >= beats[i]! + 3, reader.name);
    const failed = rig.publishers.flatMap(({ answers: given }, i) =>
      given.slice(answers[i]).filter(({ status }) => status !== 200),
    );
    assert.ok(failed.length >= 30, `${failed.length} answers`);
    assert.deepEqual([...new Set(failed.map(({ status }) => status))], [503]);
    for (const { error } of failed) assert.ok([REFUSED, UNKNOWN].includes(error!), error);
    // The promise is a second; this machine may be busy with other things.
    const slowest = Math.max(...failed.map(({ took }) => took));
    assert.ok(slowest <= 3000, `the slowest refusal took ${Math.round(slowest)} ms`);
    await rig.finish();
  });
}
