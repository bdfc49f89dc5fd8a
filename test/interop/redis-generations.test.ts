// Generations on a real Redis, on two nodes that are processes of their own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readGeneration } from '../helpers/generations.ts';
import { Reader, Reading } from '../helpers/reader.ts';
import { kept } from './helpers/children.ts';
import { startRedis } from './helpers/redis-servers.ts';

const redis = await startRedis({ after });
const program = fileURLToPath(new URL('./helpers/generation-node.ts', import.meta.url));

interface NodeProcess {
  readonly url: string;
  run(topic: string, tokens: number, delay: number): Promise<void>;
  stop(topic: string): Promise<unknown>;
  kill(): void;
}

async function startNode(t: TestContext, lease = 30_000): Promise<NodeProcess> {
  const child = kept(
    spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program, `${redis.port}`, `${lease}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  t.after(() => child.kill('SIGKILL'));
  const url = (await new Reading(child.stdout).until('\n')).trim();
  return {
    url,
    run: async (topic, tokens, delay) => {
      const response = await fetch(`${url}${topic}?tokens=${tokens}&delay=${delay}`, { method: 'POST' });
      assert.equal(response.status, 201, await response.text());
    },
    stop: async (topic) => await (await fetch(`${url}${topic}`, { method: 'DELETE' })).json(),
    kill: () => child.kill('SIGKILL'),
  };
}

/** Resolves once some tokens of a generation have arrived at a node. */
async function begun(url: string, topic: string): Promise<void> {
  const reader = await Reader.open(`${url}events/${topic}?from=earliest`);
  await reader.until(({ data }) => data.length > 3);
  reader.close();
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `${i}`);

describe('generations on a Redis', { timeout: 60_000 }, () => {
  it('that run on one node are read and stopped at the other', async (t) => {
    const [a, b] = await Promise.all([startNode(t), startNode(t)]);
    await a.run('one', 10_000, 5);
    const reading = readGeneration([b.url], 'one');
    const again = readGeneration([a.url, b.url], 'one', { leaves: 5 });
    await begun(b.url, 'one');
    assert.equal(await b.stop('one'), true);
    assert.equal(await b.stop('one'), false);
    const read = await reading;
    assert.ok(read.tokens.length > 0);
    assert.deepEqual(read, {
      tokens: numbered(read.tokens.length),
      ends: ['stopped'],
      gaps: [],
      connections: 1,
    });
    const { tokens, ends, gaps } = await again;
    assert.deepEqual({ tokens, ends, gaps }, { tokens: read.tokens, ends: ['stopped'], gaps: [] });
  });

  it('of a node that is killed have failed, for all readers of the other node, and once', async (t) => {
    const [a, b, c] = await Promise.all([startNode(t, 1500), startNode(t, 1500), startNode(t, 1500)]);
    const topics = Array.from({ length: 20 }, (_, i) => `killed-${i}`);
    // Half of them say nothing when their node is killed.
    await Promise.all(topics.map((topic, i) => a.run(topic, 10_000, i % 2 === 0 ? 5 : 1e9)));
    const readings = topics.flatMap((topic) => [
      readGeneration([b.url], topic),
      readGeneration([b.url, c.url], topic, { leaves: 3 }),
    ]);
    await begun(b.url, 'killed-0');
    a.kill();
    for (const { tokens, ends, gaps } of await Promise.all(readings))
      assert.deepEqual(
        { tokens, ends, gaps },
        { tokens: numbered(tokens.length), ends: ['failed'], gaps: [] },
      );
    for (const topic of topics) {
      const response = await fetch(`${b.url}${topic}?tokens=1&delay=0`, { method: 'POST' });
      assert.deepEqual([response.status, (await response.json()).error], [409, 'topic-ended']);
    }
  });

  it('get every token to every reader once, at both nodes', async (t) => {
    const nodes = await Promise.all([startNode(t), startNode(t)]);
    const urls = nodes.map(({ url }) => url);
    await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        await sleep(i * 10);
        const readings = [1, 2].map(() => readGeneration(urls, `all-${i}`, { leaves: 3 }));
        await nodes[i % 2]!.run(`all-${i}`, 30, 5);
        for (const { tokens, ends, gaps } of await Promise.all(readings))
          assert.deepEqual({ tokens, ends, gaps }, { tokens: numbered(30), ends: ['done'], gaps: [] });
      }),
    );
  });
});
