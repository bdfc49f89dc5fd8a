import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Run } from '../scenarios/scenario.ts';
import { aggregate, measurementsOf, summarize, summarizeChange } from './aggregate.ts';

function run(peer: string, repetition: number, cpuPerDelivery: number, batch = 1): Run {
  return { scenario: 'fanout', peer, parameters: { batch }, repetition, figures: { cpuPerDelivery } };
}

describe('summaries', () => {
  it('have the median and the quartiles', () => {
    const { count, median, q1, q3 } = summarize([5, 1, 2, 4, 3])!;
    assert.deepEqual([count, median, q1, q3], [5, 3, 2, 4]);
  });

  it('have an interval that contains the median, lies within the values, and is the same every time', () => {
    const values = [10, 11, 12, 13, 30];
    const { low, high, median } = summarize(values)!;
    assert.ok(low >= 10 && low <= median && median <= high && high <= 30);
    assert.deepEqual(summarize(values), summarize(values));
  });

  it('have a wider interval where the values differ more', () => {
    const width = (values: number[]) => summarize(values)!.high - summarize(values)!.low;
    assert.ok(width([8, 9, 10, 11, 12]) > width([9.8, 9.9, 10, 10.1, 10.2]));
  });

  it('do not exist without values', () => {
    assert.equal(summarize([]), undefined);
    assert.equal(summarizeChange([], [1]), undefined);
  });

  it('have no change relative to zero', () => {
    assert.equal(summarizeChange([0, 0, 0], [1, 1, 1]), undefined);
  });

  it('have the ratio by which a median changed', () => {
    const { median, low, high } = summarizeChange([10, 10.1, 9.9], [20, 20.2, 19.8])!;
    assert.equal(median, 2);
    assert.ok(low > 1.9 && high < 2.1);
  });
});

describe('groups', () => {
  const runs = [
    ...[run('sluice', 0, 2), run('floor', 0, 1), run('raw', 0, 4)],
    // Twice as slow a machine: what is a pair is affected alike.
    ...[run('sluice', 1, 4), run('floor', 1, 2), run('raw', 1, 8)],
    ...[run('sluice', 2, 2.2), run('floor', 2, 1), run('raw', 2, 4)],
  ];

  it('consist of runs with the same parameters', () => {
    const groups = aggregate([...runs, run('sluice', 0, 1, 16)]);
    assert.deepEqual(
      groups.map(({ parameters, peers }) => [parameters.batch, peers.map(({ peer }) => peer)]),
      [
        [1, ['sluice', 'floor', 'raw']],
        [16, ['sluice']],
      ],
    );
  });

  it('know their floor, and compare each peer with it and with ours, pair by pair', () => {
    const [{ floor, peers }] = aggregate(runs) as [ReturnType<typeof aggregate>[0]];
    const [ours, , raw] = peers;
    assert.equal(floor, 'floor');
    assert.equal(ours!.byFloor.cpuPerDelivery!.median, 2);
    assert.equal(raw!.byOurs.cpuPerDelivery!.median, 2);
    assert.equal(raw!.byFloor.cpuPerDelivery!.median, 4);
  });

  it('leave out invalid runs, and say why', () => {
    const invalid = { ...run('sluice', 3, 0), figures: {}, invalid: '3 of 10 events were not delivered' };
    const [group] = aggregate([...runs, invalid]);
    const ours = group!.peers[0]!;
    assert.equal(ours.figures.cpuPerDelivery!.count, 3);
    assert.equal(ours.runs, 4);
    assert.deepEqual(ours.invalid, ['3 of 10 events were not delivered']);
  });

  it('pair only runs of the same repetition', () => {
    const { ratio } = measurementsOf([run('sluice', 0, 2), run('floor', 1, 1)]);
    const choice = (peer: string) => ({ scenario: 'fanout', peer });
    assert.equal(ratio(choice('sluice'), choice('floor'), 'cpuPerDelivery'), undefined);
  });
});
