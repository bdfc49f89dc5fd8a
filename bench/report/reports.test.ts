import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { targets, verdictsOf } from '../targets.ts';
import { measurementsOf } from './aggregate.ts';
import { toHtml } from './html.ts';
import { readReport, toJson } from './json.ts';
import { made, madeReport, madeRuns } from './made.ts';
import { toMarkdown } from './markdown.ts';
import type { Report } from './report.ts';

const runs = madeRuns(made());
const report = { ...madeReport(runs), verdicts: verdictsOf(targets, measurementsOf(runs)) };

describe('a report as JSON', () => {
  it('is read as it was written', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-report-'));
    const path = join(folder, 'report.json');
    writeFileSync(path, toJson(report));
    const { runs: read, environment } = readReport(path);
    rmSync(folder, { recursive: true });
    assert.deepEqual(read, JSON.parse(JSON.stringify(runs)));
    assert.deepEqual(environment, report.environment);
  });
});

describe('a report as Markdown', () => {
  const text = toMarkdown(report);
  const lines = text.split('\n');

  it('says where it was measured, and with what', () => {
    assert.match(text, /Some CPU <& "more">, 2 cores, 24 GiB, linux 6\.1\.0\n- Node 20\.20\.2\n/);
    assert.match(text, /servers on the first core/);
    assert.match(text, /better-sse: 0\.16\.1/);
  });

  it('has a table for each scenario, in which every row has all columns', () => {
    for (const { name } of report.scenarios) assert.ok(lines.includes(`## ${name}`), name);
    let columns = 0;
    for (const [i, line] of lines.entries()) {
      if (!line.startsWith('|')) continue;
      const count = line.split(/(?<!\\)\|/).length;
      if (!lines[i - 1]!.startsWith('|')) columns = count;
      assert.equal(count, columns, line);
    }
  });

  it('shows what a delivery costs beside the floor, and beside ours', () => {
    const row = lines.find((line) => line.includes('better-sse') && line.startsWith('| 1,000 | 1 |'));
    assert.match(row!, /\| 12\.\d\s\[.*\| 1\.\d+ × \| 2\.\d+ × \|$/);
  });

  it('says of a quick run that its figures mean nothing', () => {
    assert.match(toMarkdown({ ...report, isQuick: true }), /the figures mean nothing/);
    assert.doesNotMatch(text, /the figures mean nothing/);
  });

  it('names the servers that were skipped, with the reason', () => {
    assert.ok(lines.includes('- h3 was skipped: npm package h3 is not installed.'));
  });
});

describe('a report of a run beside another commit', () => {
  const parameters = { connections: 20, batch: 1 };
  const of = (peer: string, cpuPerDelivery: number) => ({
    scenario: 'fanout',
    peer,
    parameters,
    figures: { cpuPerDelivery },
  });
  const beside = madeReport(madeRuns([of('sluice', 8), of('sluice@35312b5', 6), of('raw', 9)]));
  const against: Report = {
    ...beside,
    titles: { ...beside.titles, 'sluice@35312b5': 'sluice at 35312b5' },
    against: '35312b5',
  };

  it('has a row for the other commit, and a table of the changes', () => {
    const text = toMarkdown(against);
    assert.match(text, /^\| 20 \| 1 \| sluice at 35312b5 \| 5 \| 6\.\d+/m);
    assert.match(text, /^## Against 35312b5$/m);
    assert.match(text, /^\| fanout, connections 20, batch 1 \| sluice \| .* \| worse \|$/m);
  });

  it('has both on the page', () => {
    const page = toHtml(against);
    assert.match(page, /<th scope="row">sluice at 35312b5<\/th>/);
    assert.match(page, /<section id="against"><h2>against 35312b5<\/h2>/);
    assert.match(page, /<td[^>]*>worse<\/td>/);
    assert.doesNotMatch(page, /undefined|NaN/);
  });

  it('has no table of changes where there is no other commit', () => {
    assert.doesNotMatch(toMarkdown(beside), /Against/);
    assert.doesNotMatch(toHtml(beside), /id="against"/);
  });
});

describe('a report as a page', () => {
  const page = toHtml(report);

  it('loads nothing and has no scripts', () => {
    assert.doesNotMatch(page, /https?:|\/\/[a-z]|<script|<link|<img|<iframe|@import|url\((?!#)/i);
    assert.doesNotMatch(page, /\ssrc=|xlink/);
  });

  it('follows the light or dark theme of the system', () => {
    assert.match(page, /@media \(prefers-color-scheme: dark\)/);
    const seen = page.replace(/<clipPath[\s\S]*?<\/clipPath>/g, '');
    const colours = [...seen.matchAll(/(?:fill|stroke)="([^"]+)"/g)].map(([, colour]) => colour!);
    const fixed = new Set(
      colours.filter((colour) => !/^(var\(--[a-z0-9]+\)|none|transparent)$/.test(colour)),
    );
    assert.deepEqual([...fixed], []);
  });

  it('uses no colour that it does not define', () => {
    const used = new Set([...page.matchAll(/var\((--[a-z0-9]+)\)/g)].map(([, name]) => name!));
    for (const name of used) assert.equal(page.split(`${name}: #`).length - 1, 2, name);
  });

  it('holds the charts: the costs, the latencies, the memory, the stall', () => {
    const captions = [...page.matchAll(/<figcaption>(.*?)<\/figcaption>/g)].map(([, text]) => text);
    for (const wanted of [
      'fanout, connections 1,000, batch 1: CPU of the server per delivery',
      'latency, rate 50: latency from the scheduled time',
      'idle: memory (RSS) per connection, B, over connections',
      'stalled: memory, MB, over seconds',
      'encode: CPU per operation',
    ])
      assert.ok(captions.includes(wanted), wanted);
    assert.equal(page.match(/<svg role="img"/g)!.length, captions.length);
  });

  it('escapes names in HTML', () => {
    assert.ok(page.includes('Some CPU &lt;&amp; &quot;more&quot;&gt;'));
  });

  it('shows what each guarantees beside what it costs', () => {
    assert.match(
      page,
      /<tr class="ours"><th scope="row">sluice<\/th><td>6\.\d+<\/td><td>0\.6\d<\/td><td class="yes">/,
    );
  });

  it('is complete without charts, verdicts and guarantees', () => {
    const empty = { ...report, runs: [], verdicts: undefined, guarantees: undefined };
    assert.match(toHtml(empty), /<\/main>\n<\/html>\n$/);
    assert.doesNotMatch(toHtml(empty), /undefined|NaN/);
  });

  it('never says undefined or NaN', () => assert.doesNotMatch(page, /undefined|NaN/));
});
