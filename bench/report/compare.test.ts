import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Misuse } from '../options.ts';
import type { Run } from '../scenarios/scenario.ts';
import { changeLines, changesSince, changesTable, compare } from './compare.ts';
import { toJson } from './json.ts';
import { cost, madeReport, madeRuns } from './made.ts';
import type { Report } from './report.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-compare-'));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
function fileOf(report: Report): string {
  const path = join(folder, `${++files}.json`);
  writeFileSync(path, toJson(report));
  return path;
}

function runsOf(ours: number, theirs = 10, repetitions = 5): Run[] {
  const parameters = { connections: 1000, batch: 1 };
  return madeRuns(
    [
      { scenario: 'fanout', peer: 'sluice', parameters, figures: cost(ours / 4, (ours / 4) * 3) },
      { scenario: 'fanout', peer: 'raw', parameters, figures: cost(theirs / 2, theirs / 2) },
    ],
    repetitions,
  );
}

function compared(before: Report, after: Report): [code: number, text: string] {
  const lines: string[] = [];
  const code = compare([fileOf(before), fileOf(after)], (line) => lines.push(line));
  return [code, lines.join('\n')];
}

describe('comparing two reports', () => {
  const before = madeReport(runsOf(6));

  it('passes when nothing changed', () => {
    const [code, text] = compared(before, before);
    assert.equal(code, 0);
    assert.match(text, /no figure of ours became worse/);
    assert.match(text, /fanout, connections 1,000, batch 1, sluice: .* 1\.000 × \[/);
  });

  it('fails when a figure of ours became worse, whether it rose or fell', () => {
    const [code, text] = compared(before, madeReport(runsOf(7.5)));
    assert.equal(code, 1);
    assert.match(text, /sluice: CPU of the server per delivery .* µs, 1\.250 × .* worse/);
    assert.match(text, /sluice: deliveries .* worse/);
  });

  it('passes when ours became better, or another server worse', () => {
    assert.equal(compared(before, madeReport(runsOf(4)))[0], 0);
    assert.equal(compared(before, madeReport(runsOf(6, 20)))[0], 0);
  });

  it('does not mistake a slower machine for a worse server', () => {
    const runsOn = (speed: number, ours: number) => {
      const parameters = { connections: 1000, batch: 1 };
      const of = (peer: string, total: number) => ({
        scenario: 'fanout',
        peer,
        parameters,
        figures: cost((total / 4) * speed, ((total * 3) / 4) * speed),
      });
      return madeReport(madeRuns([of('sluice', ours), of('floor', 5)]));
    };
    const [code, text] = compared(runsOn(1, 6), runsOn(2, 6));
    assert.equal(code, 0);
    assert.match(text, /sluice: CPU of the server per delivery .* 1\.0\d\d × \[.*\] beside the floor$/m);
    assert.match(text, /floor: CPU of the server per delivery .* 2\.\d+ × \[.*\] worse$/m);
    assert.equal(compared(runsOn(2, 6), runsOn(1, 8))[0], 1, 'nor a faster one for a better server');
  });

  it('ignores a change of less than 5 %', () => {
    assert.equal(compared(before, madeReport(runsOf(6.2)))[0], 0);
  });

  it('ignores a change whose interval contains 1', () => {
    const noisy = runsOf(6).map((run, i) => {
      const factor = [0.7, 1.4, 1.3, 0.8, 1.1][run.repetition]!;
      return i % 2 === 1 ? run : { ...run, figures: { cpuPerDelivery: 6 * factor } };
    });
    assert.equal(compared(before, madeReport(noisy))[0], 0);
  });

  it('gives no verdict on one run', () => {
    const [code, text] = compared(madeReport(runsOf(6, 10, 1)), madeReport(runsOf(12, 10, 1)));
    assert.equal(code, 0);
    assert.match(text, /figures are of fewer than 5 runs/);
  });

  it('says when the machines are not the same', () => {
    const other = { ...before, environment: { ...before.environment, cpu: 'another', node: 'v22.1.0' } };
    const [, text] = compared(before, other);
    assert.match(text, /note: cpu was .* and is another\nnote: node was v20\.20\.2, and is v22\.1\.0/);
  });

  it('says when servers ran under other Nodes, and when a report is incomplete', () => {
    const environment = { ...before.environment, nodes: ['Node 24.21.0'] };
    const incomplete = 'the run was interrupted by SIGINT, after 3 of 5 rounds';
    const [, text] = compared(before, { ...before, environment, incomplete });
    assert.match(text, /^note: nodes was Node 20\.20\.2, and is Node 24\.21\.0$/m);
    assert.match(
      text,
      /^note: a report is incomplete: the run was interrupted by SIGINT, after 3 of 5 rounds$/m,
    );
    assert.doesNotMatch(compared(before, before)[1], /note:/);
  });

  it('refuses a file that is not a report', () => {
    const path = join(folder, 'other.json');
    writeFileSync(path, '{}');
    const say = () => {};
    assert.throws(() => compare([path, path], say), Misuse);
    assert.throws(() => compare([join(folder, 'nowhere.json'), path], say), /nowhere\.json cannot be read/);
  });
});

describe('the changes since another commit in the same run', () => {
  const parameters = { connections: 1000, batch: 1 };
  const commit = '35312b5';
  const runsAt = (ours: number, before: number, repetitions = 5): Run[] => {
    const of = (peer: string, total: number) => ({
      scenario: 'fanout',
      peer,
      parameters,
      figures: cost(total / 4, (total * 3) / 4),
    });
    return madeRuns([of('sluice', ours), of(`sluice@${commit}`, before), of('raw', 10)], repetitions);
  };
  const verdictOn = (figure: string, runs: readonly Run[]) =>
    changesSince(commit, runs).find((change) => change.figure === figure)?.verdict;

  it('divide each figure of ours by that of the other commit, in the same repetition', () => {
    const changes = changesSince(commit, runsAt(12, 6));
    assert.deepEqual(
      changes.map(({ peer, figure }) => [peer, figure]),
      ['cpuPerDelivery', 'userPerDelivery', 'systemPerDelivery', 'deliveriesPerSecond'].map((figure) => [
        'sluice',
        figure,
      ]),
    );
    assert.ok(changes[0]!.ratio.median > 1.9 && changes[0]!.ratio.median < 2.1);
    assert.equal(changes[0]!.ratio.count, 5);
  });

  it('are worse or better by the rule for two reports', () => {
    assert.equal(verdictOn('cpuPerDelivery', runsAt(8, 6)), 'worse');
    assert.equal(verdictOn('deliveriesPerSecond', runsAt(8, 6)), 'worse');
    assert.equal(verdictOn('cpuPerDelivery', runsAt(6, 8)), 'better');
    assert.equal(verdictOn('cpuPerDelivery', runsAt(6, 6)), 'unclear', 'a small change');
    assert.equal(verdictOn('cpuPerDelivery', runsAt(8, 6, 4)), 'unclear', 'four runs');
  });

  it('are unclear where the interval contains 1', () => {
    const runs = runsAt(6, 6).map((run) => {
      const factor = run.peer === 'sluice' ? [0.7, 1.4, 1.3, 0.8, 1.2][run.repetition]! : 1;
      return { ...run, figures: { cpuPerDelivery: 6 * factor } };
    });
    assert.equal(verdictOn('cpuPerDelivery', runs), 'unclear');
  });

  it('are not hidden by a machine whose speed differs between repetitions', () => {
    const runs = runsAt(8, 6).map((run) => {
      const cpuPerDelivery = run.figures.cpuPerDelivery! * (1 + run.repetition);
      return { ...run, figures: { cpuPerDelivery } };
    });
    assert.equal(verdictOn('cpuPerDelivery', runs), 'worse');
  });

  it('make a table with a row for each figure', () => {
    const { head, rows } = changesTable(commit, changesSince(commit, runsAt(8, 6)));
    assert.equal(rows.length, 4);
    for (const { cells } of rows) assert.equal(cells.length, head.length);
    const [, , , before, ours, ratio, verdict] = rows[0]!.cells;
    assert.match(`${before} ${ours}`, /^[56]\.\d+ [78]\.\d+$/);
    assert.match(ratio!, /^1\.3\d\d × \[1\.\d+ – 1\.\d+\]$/);
    assert.equal(verdict, 'worse');
  });

  it('are summed up in the last line', () => {
    const last = (runs: readonly Run[]) => changeLines(commit, changesSince(commit, runs)).at(-1);
    assert.equal(last(runsAt(8, 6)), '4 figures of ours are worse than at 35312b5');
    assert.equal(last(runsAt(6, 6)), 'no figure of ours is worse than at 35312b5');
    assert.equal(last(runsAt(8, 6, 4)), '4 of 4 figures have fewer than 5 pairs: no verdict');
    assert.match(last(runsOf(6))!, /no figure was measured both here and at 35312b5/);
  });
});
