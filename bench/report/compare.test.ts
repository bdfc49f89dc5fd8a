import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Misuse } from '../options.ts';
import type { Run } from '../scenarios/scenario.ts';
import { compare } from './compare.ts';
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

  it('is content when nothing changed', () => {
    const [code, text] = compared(before, before);
    assert.equal(code, 0);
    assert.match(text, /no figure of ours became worse/);
    assert.match(text, /fanout, connections 1,000, batch 1, sluice: .* 1\.000 × \[/);
  });

  it('fails when ours became worse, whichever way worse is', () => {
    const [code, text] = compared(before, madeReport(runsOf(7.5)));
    assert.equal(code, 1);
    assert.match(text, /sluice: CPU of the server per delivery .* µs, 1\.250 × .* worse/);
    assert.match(text, /sluice: deliveries .* worse/);
  });

  it('is content when ours became better, or another worse', () => {
    assert.equal(compared(before, madeReport(runsOf(4)))[0], 0);
    assert.equal(compared(before, madeReport(runsOf(6, 20)))[0], 0);
  });

  it('does not take a slower machine for a worse server', () => {
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

  it('takes a change within 5 % for none', () => {
    assert.equal(compared(before, madeReport(runsOf(6.2)))[0], 0);
  });

  it('does not call chance what may be chance: an interval that holds 1', () => {
    const noisy = runsOf(6).map((run, i) => {
      const factor = [0.7, 1.4, 1.3, 0.8, 1.1][run.repetition]!;
      return i % 2 === 1 ? run : { ...run, figures: { cpuPerDelivery: 6 * factor } };
    });
    assert.equal(compared(before, madeReport(noisy))[0], 0);
  });

  it('judges nothing by one run', () => {
    const [code, text] = compared(madeReport(runsOf(6, 10, 1)), madeReport(runsOf(12, 10, 1)));
    assert.equal(code, 0);
    assert.match(text, /figures are of fewer than 3 runs/);
  });

  it('says when the machines are not the same', () => {
    const other = { ...before, environment: { ...before.environment, cpu: 'another', node: 'v22.1.0' } };
    const [, text] = compared(before, other);
    assert.match(text, /note: cpu was .* and is another\nnote: node was v20\.20\.2, and is v22\.1\.0/);
  });

  it('takes no other file for a report', () => {
    const path = join(folder, 'other.json');
    writeFileSync(path, '{}');
    const say = () => {};
    assert.throws(() => compare([path, path], say), Misuse);
    assert.throws(() => compare([join(folder, 'nowhere.json'), path], say), /nowhere\.json cannot be read/);
  });
});
