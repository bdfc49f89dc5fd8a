// Checks that the scenarios yield what they promise, and that a server that loses events gets no figure.
//   npx tsx --test bench/scenarios/scenarios.test.ts

import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { startNode } from '../loads/lead.ts';
import { servers } from '../loads/servers.ts';
import { fanout } from './fanout.ts';
import { scenarios } from './index.ts';
import { complaint } from './measure.ts';
import { atMost, type Figure, figures, isOurs, kindOf, peerAt, type Run, type Scenario } from './scenario.ts';

const latencies: readonly Figure[] = ['p50', 'p90', 'p99', 'p999', 'max'];
const costs: readonly Figure[] = ['cpuPerDelivery', 'userPerDelivery', 'systemPerDelivery'];

/** For each value of the parameters. */
const promised: Readonly<Record<string, readonly (readonly Figure[])[]>> = {
  fanout: [
    [...costs, 'deliveriesPerSecond', 'bytesPerDelivery'],
    [...costs, 'deliveriesPerSecond', 'bytesPerDelivery'],
  ],
  latency: [latencies, latencies],
  scale: [costs],
  topics: [costs, costs],
  gzip: [
    [...costs, 'bytesPerDelivery', 'rssPerConnection'],
    [...costs, 'bytesPerDelivery', 'rssPerConnection'],
  ],
  llm: Array.from({ length: 5 }, () => [...costs, 'deliveriesPerSecond'] as const),
  connect: [['connectsPerSecond', 'cpuPerConnect']],
  idle: [['rssPerConnection', 'heldPerConnection']],
  heartbeat: [['cpuPercent']],
  stalled: [
    ['rssGrowth', ...latencies],
    ['rssGrowth', ...latencies],
  ],
  stalled10k: [['rssGrowth'], ['rssGrowth']],
  storm: [
    latencies,
    ['cpuPercent', 'seconds', ...latencies],
    ['cpuPercent', 'seconds'],
    ['cpuPercent', 'seconds', ...latencies],
    ['cpuPercent', 'seconds'],
  ],
  drain: [['evenness', 'seconds']],
  redis: [
    ['eventsPerSecond', 'cpuPerEvent', 'redisCpuPerEvent'],
    ['eventsPerSecond', 'cpuPerEvent', 'redisCpuPerEvent'],
    ['eventsPerSecond', 'cpuPerEvent', 'redisCpuPerEvent'],
  ],
  'redis-latency': [latencies],
  'redis-memory': [['redisBytes'], ['redisBytes'], ['redisBytes'], ['redisBytes']],
  follow: [['cpuPerEvent'], ['cpuPerEvent']],
  workers: [
    [...costs, 'deliveriesPerSecond'],
    [...costs, 'deliveriesPerSecond'],
    [...costs, 'deliveriesPerSecond'],
    [...costs, 'deliveriesPerSecond'],
  ],
};

/** How many of the last kinds of runs a peer does not have: it remembers nothing, or has no such keys. */
const lacking: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  llm: { raw: 3 },
  storm: { raw: 3 },
  'redis-memory': { script: 1, set: 3 },
};

/** What a loop of `res.write` does not have either. */
const promisedOfOurs: Readonly<Record<string, readonly (readonly Figure[])[]>> = {
  storm: [
    [],
    ['deliveriesPerSecond', 'cpuPerDelivery'],
    ['cpuPerConnect'],
    ['deliveriesPerSecond', 'cpuPerDelivery'],
    ['cpuPerConnect'],
  ],
};

/** Those that show how it goes over time. */
const timelines = ['stalled', 'stalled10k'];

function hasPoints({ points }: NonNullable<Run['series']>[number]): boolean {
  return points.length > 1 && points.flat().every(Number.isFinite);
}

/** The servers that there always are, those in C where they can be had. */
const always = ['sluice', 'server', 'floor', 'prepared', 'raw'].filter(
  (name) => servers[name]?.missing() === undefined,
);

/** The peers of a scenario to run here. Those that are no servers all run, unless a program is missing. */
function peersOf({ peers, missing }: Scenario): string[] {
  return peers.filter((peer) => (missing ? missing(peer) === undefined : always.includes(peer)));
}

async function runsOf(scenario: Scenario, wanted: readonly string[], connections = 100): Promise<Run[]> {
  const runs: Run[] = [];
  const settings = { peers: wanted, runs: 1, connections: [connections], isQuick: true };
  await scenario.run(settings, (run) => runs.push(run));
  return runs;
}

/** Again, at most five times, for those runs in which it was the machine that had no time. */
async function validRunsOf(scenario: Scenario, wanted: readonly string[]): Promise<Run[]> {
  let runs = await runsOf(scenario, wanted);
  const isLimited = ({ invalid }: Run) => invalid === 'the reader was the limit';
  for (let tries = 1; tries < 5 && runs.some(isLimited); tries++) {
    const again = await runsOf(scenario, wanted);
    runs = runs.map((run, i) => (isLimited(run) ? again[i]! : run));
  }
  return runs;
}

describe('a scenario', () => {
  it('has a name of its own, and says what it holds constant and what it shows', () => {
    assert.equal(new Set(scenarios.map(({ name }) => name)).size, scenarios.length);
    for (const { name, constant, shows, peers } of scenarios) {
      assert.ok(constant.length > 20 && shows.length > 20, name);
      assert.ok(peers.length > 0, name);
    }
  });

  for (const scenario of scenarios) {
    const kinds = promised[scenario.name];
    if (kinds === undefined) continue;
    const wanted = peersOf(scenario);
    const why = wanted.length === 0 && `missing: ${scenario.missing?.(scenario.peers[0]!)}`;
    it(`${scenario.name} yields the figures it promises`, { skip: why }, async () => {
      const runs = await validRunsOf(scenario, wanted);
      for (const peer of wanted) {
        const lacks = lacking[scenario.name]?.[peer] ?? 0;
        assert.equal(runs.filter((run) => run.peer === peer).length, kinds.length - lacks, peer);
      }
      for (const run of runs) {
        assert.equal(run.invalid, undefined, `${run.peer}: ${run.invalid}`);
        assert.equal(run.scenario, scenario.name);
        const i = runs.filter(({ peer }) => peer === run.peer).indexOf(run);
        const more = run.peer === 'raw' ? undefined : promisedOfOurs[scenario.name]?.[i];
        for (const figure of [...kinds[i]!, ...(more ?? [])]) {
          assert.ok(Number.isFinite(run.figures[figure]), `${run.peer} has no ${figure}`);
        }
        for (const figure of Object.keys(run.figures)) assert.ok(figure in figures, figure);
        if (timelines.includes(scenario.name))
          assert.ok(run.series?.every(hasPoints) && run.series.length > 0);
      }
    });
  }
});

describe('one of ours at another commit', () => {
  it('has the settings of its kind, and is not counted as ours', () => {
    const before = peerAt('server', '35312b5');
    assert.equal(before, 'server@35312b5');
    assert.equal(kindOf(before), 'server');
    assert.equal(isOurs(before), false);
    assert.equal(kindOf('better-sse'), 'better-sse');
  });

  it('is repeated as often as was asked for, to tell a change from chance', () => {
    const settings = { peers: [], runs: 5, isQuick: true };
    assert.equal(atMost(3, settings).runs, 3);
    assert.equal(atMost(3, { ...settings, against: { name: '35312b5', root: '' } }).runs, 5);
  });
});

describe('the gate', () => {
  const fine = { events: 100, disorder: 0, negative: 0, lost: 0 };

  it('accepts a run with every event once and in order', () => {
    assert.equal(complaint(fine, 100), undefined);
  });

  it('names what is wrong', () => {
    assert.equal(complaint({ ...fine, events: 0 }, 0), 'nothing was published');
    assert.equal(complaint({ ...fine, events: 0 }, 100), 'nothing was delivered');
    assert.equal(complaint({ ...fine, events: 99 }, 100), '1 of 100 events were not delivered');
    assert.equal(complaint({ ...fine, events: 102 }, 100), '2 events too many were delivered');
    assert.equal(complaint({ ...fine, disorder: 2 }, 100), '2 events were lost, doubled or out of order');
    assert.equal(complaint({ ...fine, negative: 1 }, 100), '1 events arrived before they were due');
    assert.equal(complaint({ ...fine, lost: 3 }, 100), '3 connections were lost');
  });

  describe('for a server that loses events', () => {
    const kinds = servers as Record<string, (typeof servers)[string]>;
    kinds.lossy = {
      title: 'one that loses events',
      answers: false,
      version: () => '',
      missing: () => undefined,
      start: () => startNode('../scenarios/fixtures/lossy'),
    };
    after(() => delete kinds.lossy);

    it('has no figure', async () => {
      const runs = await runsOf(fanout, ['lossy']);
      assert.equal(runs.length, 2);
      for (const { figures, invalid } of runs) {
        assert.deepEqual(figures, {});
        assert.match(invalid ?? '', /events were not delivered$/);
      }
    });
  });
});
