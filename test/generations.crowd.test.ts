// Many generations, each with readers that leave and come back, on every kind of log.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openNode, ownPlaces, randomFrom, readGeneration, sharedPlaces } from './helpers/generations.ts';
import { folderFor } from './helpers/sqlite.ts';

const GENERATIONS = 500;
const READERS = 2;
const TTL = 60_000;
const LEASE = 4000;

describe('many generations at once, whose readers leave and come back', () => {
  for (const place of [...ownPlaces, ...sharedPlaces])
    it(`each reader gets every token once, all topics end, and nothing stays: ${place.name}`, async (t) => {
      let passed = 0;
      const { now } = Date;
      Date.now = () => now() + passed;
      t.after(() => {
        Date.now = now;
      });
      const random = randomFrom(7);
      const count = GENERATIONS;
      const open = await place.open(t, folderFor(t));
      const options = { ttl: TTL, lease: LEASE, maxRunning: count };
      const nodes = [];
      for (let i = 1; i <= place.nodes; i++) nodes.push(await openNode(t, open(`node ${i}`), options));
      const urls = nodes.map(({ url }) => url);
      const reads = [];
      const runs = [];
      for (let i = 0; i < count; i++) {
        const topic = `answer-${i}`;
        const tokens = Array.from({ length: 5 + Math.floor(random() * 20) }, (_, n) => `${topic} token ${n}`);
        const node = nodes[i % nodes.length]!;
        for (let r = 0; r < READERS; r++)
          reads.push(
            readGeneration(urls, topic, {
              leaves: Math.floor(random() * 4),
              random,
              delay: random() * 2000,
            }).then((read) => {
              assert.deepEqual(read.tokens, tokens);
              assert.deepEqual([read.ends, read.gaps], [['done'], []]);
              return read.connections;
            }),
          );
        const source = async function* () {
          for (const token of tokens) {
            yield token;
            if (random() < 0.5) await sleep(random() * 50);
          }
        };
        runs.push(sleep(random() * 2000).then(() => node.generations.run(topic, source)));
      }
      const generations = await Promise.all(runs);
      assert.ok((await Promise.all(generations.map(({ done }) => done))).every((end) => end === 'done'));
      const connections = await Promise.all(reads);
      assert.ok(connections.reduce((sum, n) => sum + n, 0) > count * READERS);
      passed = TTL + LEASE;
      for (const { hub, generations } of nodes) {
        const answers = Array.from({ length: count }, (_, i) => `answer-${i}`);
        // A node need not list what it does not hold: the log knows of all.
        const known = async () => (await hub.log?.find(answers)) ?? hub.topics();
        const held = () => hub.topics().filter(({ topic, events }) => answers.includes(topic) && events > 0);
        for (let left = count; left > 0 || held().length > 0; await sleep(50))
          left = count - (await known()).filter(({ events, ended }) => events === 0 && ended).length;
        assert.equal(generations.size, 0);
        if (hub.log === undefined) assert.equal(hub.historyBytes, 0);
        // The node itself follows what the nodes tell each other, and a topic until the log has answered that it ended.
        const followed = hub.log === undefined ? [] : ['generations'];
        const names = () => [...hub.subscriptions()].flatMap(({ topics }) => topics);
        for (let left = 400; left > 0 && names().length > followed.length; left--) await sleep(50);
        assert.deepEqual(names(), followed);
      }
    });
});
