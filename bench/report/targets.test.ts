import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Figure, Run } from '../scenarios/scenario.ts';
import { needsOf, targets, verdictsOf } from '../targets.ts';
import { measurementsOf } from './aggregate.ts';
import { madeRuns } from './made.ts';
import type { Verdict } from './report.ts';

type Figures = Readonly<Partial<Record<Figure, number>>>;

const one = (scenario: string, peer: string, parameters: Run['parameters'], figures: Figures) => ({
  scenario,
  peer,
  parameters,
  figures,
});

const DECODED = ['tokens, 20 B', 'data 100 B', 'data 1 KB', 'data 64 KB', 'data 100 B, not ASCII'];

function verdicts(runs: readonly Run[]): Verdict[] {
  return verdictsOf(targets, measurementsOf(runs));
}

function about(all: readonly Verdict[], what: RegExp, text: RegExp): Verdict {
  const found = all.filter((verdict) => what.test(verdict.what) && text.test(verdict.text));
  assert.equal(found.length, 1, `${what} ${text}`);
  return found[0]!;
}

function fanOut(batch: number, costs: Readonly<Record<string, number>>) {
  return Object.entries(costs).map(([peer, cpuPerDelivery]) =>
    one(
      'fanout',
      peer,
      { connections: 1000, batch },
      { cpuPerDelivery, userPerDelivery: cpuPerDelivery / 4 },
    ),
  );
}

/** Clients that come back, from one place or from many: the nanoseconds that each server needs for a missed event. */
function returns(missed: number, costs: Readonly<Record<string, number>>) {
  const parameters = { clients: 10_000, missed, load: missed === 1000 ? 'storm' : 'spread' };
  return Object.entries(costs).map(([peer, cpuPerMissed]) =>
    one('storm', peer, parameters, { cpuPerMissed, deliveriesPerSecond: 2e8 / cpuPerMissed }),
  );
}

/** Runs of everything that a target needs. */
function everything(): Run[] {
  const costs = { cpuPerDelivery: 5 };
  const latencies = { p99: 3 };
  const micro = (peers: readonly string[], figures: Figures, ...all: Run['parameters'][]) =>
    peers.flatMap((peer) => all.map((parameters) => one('micro', peer, parameters, figures)));
  const among = 'catching up with 100 to 199 events of one topic, an event';
  const drip = 'a line that drips in, a KiB of it';
  const decoded = DECODED.flatMap((name) =>
    [1400, 65_536].flatMap((chunk) =>
      ['bytes', 'text'].map((input) => ({ bench: 'decode', case: name, chunk, input })),
    ),
  );
  const flood = (stalled: number) => ({
    ...one('stalled10k', 'sluice', { stalled, published: '1 GB' }, { rssGrowth: 9 }),
    series: [
      {
        name: 'memory grown',
        unit: 'MB',
        points: [
          [25, 8],
          [100, 9],
        ] as [number, number][],
      },
    ],
  });
  const everyone = ['sluice', 'floor', 'socket', 'better-sse', 'sse-channel', 'gin', 'nchan'];
  return madeRuns([
    ...[1, 16].flatMap((batch) => fanOut(batch, Object.fromEntries(everyone.map((peer) => [peer, 5])))),
    ...['sluice', 'raw'].flatMap((peer) =>
      [0, 1].map((stalled) =>
        one('stalled', peer, { connections: 1000, stalled }, { ...latencies, rssGrowth: 1 }),
      ),
    ),
    ...[0, 10_000].map(flood),
    ...['sluice', 'server', 'raw'].map((peer) =>
      one('idle', peer, { connections: 10_000 }, { rssPerConnection: 10_000, heldPerConnection: 5000 }),
    ),
    ...['server', 'floor', 'socket'].map((peer) =>
      one('heartbeat', peer, { connections: 15_000 }, { cpuPercent: 1 }),
    ),
    ...['alone', 'storm'].flatMap((load) => [
      one(
        'storm',
        'sluice',
        { clients: 10_000, missed: 1000, load },
        { ...latencies, deliveriesPerSecond: 2e6, cpuPerMissed: 100 },
      ),
      one('storm', 'raw', { clients: 10_000, missed: 0, load }, { ...latencies, seconds: 1 }),
    ]),
    ...returns(1000, { sluice: 100, 'sluice@35312b5': 200, prepared: 100 }).slice(1),
    ...returns(500.5, { sluice: 100, 'sluice@35312b5': 200, prepared: 100 }),
    ...['sluice', 'floor', 'socket'].flatMap((peer) =>
      [100, 15_000].map((connections) => one('scale', peer, { connections }, costs)),
    ),
    ...['sluice', 'socket', 'raw'].flatMap((peer) =>
      [1, 10_000].map((topics) => one('topics', peer, { topics }, costs)),
    ),
    ...micro(
      ['sluice', 'array'],
      { nanoseconds: 5 },
      { case: among, topics: 1 },
      { case: among, topics: 1000 },
    ),
    one('drain', 'sluice', {}, { evenness: 1 }),
    ...micro(
      ['sluice', 'eventsource-encoder', 'template'],
      { nanoseconds: 5 },
      {
        bench: 'encode',
        case: 'id + event + 100 bytes of data',
      },
    ),
    ...micro(['sluice', 'eventsource-parser', 'cut'], { megabytesPerSecond: 5 }, ...decoded),
    ...micro(
      ['sluice', 'join'],
      { nanoseconds: 5 },
      { case: drip, kibibytes: 512 },
      { case: drip, kibibytes: 4096 },
    ),
    ...micro(
      ['sluice', 'unused'],
      { heapBytes: 5 },
      {
        case: 'a decoder after a line of 2 MiB, where 1 MiB is allowed',
      },
    ),
    ...['JSON, made before', 'JSON, of events', 'openaiChat, of chunks', 'openaiChat, of text'].flatMap(
      (form) => ['sluice', 'raw'].map((peer) => one('llm', peer, { form }, costs)),
    ),
    ...['identity', 'gzip'].map((encoding) =>
      one('gzip', 'sluice', { encoding }, { ...costs, rssPerConnection: 1 }),
    ),
    one('gzip', 'zlib', { encoding: 'gzip' }, costs),
    ...['sluice', 'script', 'xadd'].map((peer) =>
      one('redis', peer, { batch: 1 }, { eventsPerSecond: 30_000 }),
    ),
    ...['sluice', 'script', 'set'].map((peer) =>
      one('redis-memory', peer, { of: 'idle topic', topics: 100_000 }, { redisBytes: 500 }),
    ),
  ]);
}

describe('the targets', () => {
  it('are undecided where nothing was measured', () => {
    for (const verdict of verdicts([])) assert.equal(verdict.holds, undefined, verdict.text);
  });

  it('need only peers that their scenarios run', () => {
    const needs = needsOf(targets);
    const beside = ['better-sse', 'gin', 'nchan', 'sse-channel'];
    assert.deepEqual(needs.get('fanout'), ['sluice', 'socket', 'floor', ...beside]);
    for (const peers of needs.values()) assert.ok(['sluice', 'server'].includes(peers[0]!));
  });

  it('show the figure of the floor in the same run', () => {
    for (const { what, text, figure, floor, holds } of verdicts(everything())) {
      assert.notEqual(holds, undefined, `${what}: ${text}`);
      assert.match(figure, /\d/);
      assert.match(floor ?? '', /\d/, `${what}: ${text}`);
    }
  });

  it('compare our own part with a bare write, in user mode and in growth', () => {
    const growing = (peer: string, costs: readonly number[]) =>
      costs.map((cpuPerDelivery, i) =>
        one('scale', peer, { connections: [100, 1000, 15_000][i]! }, { cpuPerDelivery }),
      );
    const all = (ours: readonly number[]) =>
      verdicts(
        madeRuns([
          ...fanOut(1, { sluice: 5, socket: 4 }),
          ...fanOut(16, { sluice: 0.44, socket: 0.4 }),
          ...growing('socket', [4, 5, 8]),
          ...growing('sluice', ours),
        ]),
      );
    const growth = (ours: readonly number[]) => about(all(ours), /^from the least to 15,000 conn/, /grows/);
    assert.equal(about(all([5, 6, 10]), / 1 a turn/, /user-mode/).holds, false);
    assert.equal(about(all([5, 6, 10]), / 16 a turn/, /user-mode/).holds, true);
    assert.equal(growth([5, 6, 10]).holds, true);
    assert.equal(growth([5, 7.5, 10]).holds, false);
    assert.match(growth([5, 7.5, 10]).figure, /^1\.[123]\d\s×\sat\sworst\s\(1,000\sconnections\)$/);
    assert.match(growth([5, 6, 10]).floor!, /its own growth (1\.9|2\.0|2\.1)\d\s×/);
  });

  it('compare what a stream keeps with bare http', () => {
    const idle = (peer: string, heldPerConnection: number) =>
      one('idle', peer, { connections: 10_000 }, { rssPerConnection: 20_000, heldPerConnection });
    const all = verdicts(madeRuns([idle('raw', 5000), idle('sluice', 6000), idle('server', 8000)]));
    assert.equal(about(all, /idle/, /embedded/).holds, true);
    assert.equal(about(all, /idle/, /createSseServer/).holds, false);
  });

  it('compare ours with the floor and the peers', () => {
    const all = verdicts(
      madeRuns([
        ...fanOut(1, { sluice: 6.8, floor: 6, socket: 6.5, 'better-sse': 13, gin: 7.5, nchan: 9 }),
        ...fanOut(16, { sluice: 0.9, floor: 0.43, 'better-sse': 5.2 }),
      ]),
    );
    const floor = about(all, /^fan-out .* 1 a turn/, /C floor/);
    assert.equal(floor.holds, true);
    assert.match(floor.figure, /^1\.\d\d\s×\s\[/);
    assert.match(floor.floor!, /^C [56]\.\d+\sµs, Node [56]\.\d+\sµs, which is 1\.\d\d\s×/);
    assert.equal(about(all, / 1 a turn/, /better-sse/).holds, true);
    assert.equal(about(all, / 16 a turn/, /C floor/).holds, false);
    assert.equal(about(all, / 16 a turn/, /better-sse/).holds, false);
    assert.equal(about(all, / 16 a turn/, /nchan/).holds, undefined);
  });

  it('ask for half of the baseline’s cost, or for what is near the floor', () => {
    const of = (costs: Readonly<Record<string, number>>) =>
      about(verdicts(madeRuns(returns(500.5, costs))), /1,000 places/, /35312b5/);
    const before = 'sluice@35312b5';
    const half = of({ sluice: 80, [before]: 200, prepared: 20 });
    assert.equal(half.holds, true);
    assert.match(
      half.figure,
      /^[78]\d\.\d\sns, 2\.\d+\s×\s\[.*\] as much at 35312b5 \(\d+\sns\); with connecting 2\.\d+\sM\s\/s, 2\.\d+\s×.* as many as 35312b5 \(\d.*\/s\)$/,
    );
    assert.match(
      half.floor!,
      /^C [12]\d\.\d\sns, which is [34]\.\d+\s×.*; with connecting [\d.]+\sM\s\/s, which is [34]\.\d+\s×/,
    );
    assert.equal(of({ sluice: 80, [before]: 100, prepared: 75 }).holds, true);
    assert.equal(of({ sluice: 80, [before]: 100, prepared: 20 }).holds, false);
    assert.equal(of({ sluice: 80, prepared: 75 }).holds, true);
    assert.equal(of({ sluice: 80, prepared: 20 }).holds, undefined);
    assert.equal(of({ sluice: 80, [before]: 200 }).holds, undefined);
  });

  it('say nothing of a cost that lay in the noise in one repetition', () => {
    const runs = madeRuns(returns(500.5, { sluice: 80, 'sluice@35312b5': 200, prepared: 20 }));
    const without = (peer: string) =>
      runs.map((run) => {
        const { cpuPerMissed: _, ...figures } = run.figures;
        return run.peer === peer && run.repetition === 2 ? { ...run, figures } : run;
      });
    const of = (peer: string) => about(verdicts(without(peer)), /1,000 places/, /35312b5/);
    const ours = of('sluice');
    assert.equal(ours.holds, undefined);
    assert.match(ours.figure, /^in the noise of connecting; with connecting 2\.\d+\sM\s\/s, /);
    assert.equal(of('sluice@35312b5').holds, undefined);
    const floor = of('prepared');
    assert.equal(floor.holds, true);
    assert.match(floor.floor!, /^C in the noise of connecting; with connecting /);
  });

  it('hold a dialect to the worse of its two sources', () => {
    const of = (chunks: number, text: number) => {
      const costs = {
        'JSON, made before': 3,
        'JSON, of events': 5,
        'openaiChat, of chunks': chunks,
        'openaiChat, of text': text,
      };
      const runs = Object.entries(costs).map(([form, cpuPerDelivery]) =>
        one('llm', 'sluice', { form }, { cpuPerDelivery }),
      );
      return about(verdicts(madeRuns(runs)), /language model/, /1\.2 ×/);
    };
    assert.equal(of(5.2, 3.2).holds, true);
    assert.equal(of(7, 3.2).holds, false);
    const slow = of(5.2, 6);
    assert.equal(slow.holds, false);
    assert.match(slow.figure, /at worst \(of text\)$/);
  });

  it('fail where a run of ours was invalid', () => {
    const runs = madeRuns(fanOut(1, { floor: 6 }));
    const parameters = { connections: 1000, batch: 1 };
    const invalid = '5 events were lost, doubled or out of order';
    const wrong: Run = {
      scenario: 'fanout',
      peer: 'sluice',
      parameters,
      repetition: 0,
      figures: {},
      invalid,
    };
    const floor = about(verdicts([...runs, wrong]), / 1 a turn/, /C floor/);
    assert.equal(floor.holds, false);
    assert.match(floor.figure, /invalid: 5 events were lost/);
  });

  it('compare the same server in two situations', () => {
    const stalled = (percent: number, p99: number, rssGrowth: number) =>
      one('stalled', 'sluice', { connections: 1000, stalled: percent }, { p99, rssGrowth });
    const all = verdicts(madeRuns([stalled(0, 2, 10), stalled(1, 2, 40)]));
    assert.equal(about(all, /1 % of clients/, /p99/).holds, true);
    assert.equal(about(all, /1 % of clients/, /memory/).holds, false);
  });

  it('judge by the worst of several cases, and only if all were measured', () => {
    const decoded = (peer: string, name: string, chunk: number, megabytesPerSecond: number) =>
      one('micro', peer, { bench: 'decode', case: name, chunk, input: 'bytes' }, { megabytesPerSecond });
    const cases = DECODED.flatMap((name) =>
      [1400, 65_536].flatMap((chunk) => [
        decoded('eventsource-parser', name, chunk, 400),
        decoded('sluice', name, chunk, name === 'data 1 KB' && chunk === 1400 ? 410 : 900),
      ]),
    );
    const worst = about(verdicts(madeRuns(cases)), /^decode.*bytes/, /eventsource-parser/);
    assert.equal(worst.holds, false);
    assert.match(worst.figure, /at worst \(data 1 KB, chunks of 1400 B\)/);
    assert.equal(
      about(verdicts(madeRuns(cases.slice(4))), /^decode.*bytes/, /eventsource-parser/).holds,
      undefined,
    );
  });

  it('are undecided where less was measured than they need', () => {
    const parameters = { clients: 50, missed: 1000, load: 'storm' };
    const few = madeRuns([
      one('storm', 'sluice', parameters, { deliveriesPerSecond: 2e6 }),
      one('scale', 'sluice', { connections: 100 }, { cpuPerDelivery: 5 }),
      one('scale', 'floor', { connections: 100 }, { cpuPerDelivery: 4 }),
      one('stalled10k', 'sluice', { stalled: 50, published: '1 GB' }, { rssGrowth: 1 }),
    ]);
    for (const { holds, text } of verdicts(few)) assert.equal(holds, undefined, text);
  });

  it('follow memory while more and more is published', () => {
    const growing = (last: number) => {
      const points = [20, 21, 21, last].map((value, i): [number, number] => [i * 25, value]);
      const flood = one('stalled10k', 'sluice', { stalled: 10_000, published: '1 GB' }, { rssGrowth: last });
      const runs = madeRuns([
        {
          ...flood,
          series: [{ name: 'memory grown', unit: 'MB', points }],
        },
      ]);
      return about(verdicts(runs), /1 GB/, /first quarter/).holds;
    };
    assert.equal(growing(22), true);
    assert.equal(growing(60), false);
  });

  it('follow the cost over connections and topics', () => {
    const scale = [100, 1000, 15_000].flatMap((connections) => [
      one('scale', 'floor', { connections }, { cpuPerDelivery: 4 + connections / 3000 }),
      one('scale', 'sluice', { connections }, { cpuPerDelivery: 5 + connections / 2900 }),
    ]);
    const topics = [1, 100, 10_000].map((count) =>
      one('topics', 'sluice', { topics: count }, { cpuPerDelivery: count === 10_000 ? 9 : 6 }),
    );
    const all = verdicts(madeRuns([...scale, ...topics]));
    assert.equal(about(all, /15,000 connections/, /C floor/).holds, true);
    const many = about(all, /10,000 topics/, /one topic/);
    assert.equal(many.holds, false);
    assert.match(many.figure, /10,000 topics/);
  });
});
