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

  it('begins with what came out of each scenario', () => {
    assert.ok(text.indexOf('## What came out') < text.indexOf('## How it was measured'));
    const about = lines.find((line) => line.startsWith('- **fanout, connections 1,000, batch 1**'));
    assert.match(
      about!,
      /\(lower is better\)\. sluice: 6\.\d+ µs \(CPU of the server per delivery\), 1\.1\d × the floor \(C, one write\(2\)\)\./,
    );
    assert.match(
      about!,
      /It is ahead of all 6 others: they have 1\.0\d × \(Go Gin\) to 5\.\d+ × \(hono streamSSE\) of its figure\.$/,
    );
    for (const { name } of report.scenarios) assert.ok(text.includes(`\n- **${name}`), name);
  });

  it('says what came out of the runs that have the figure, where others have the same parameters', () => {
    const returned = (
      peer: string,
      missed: number,
      figures: Parameters<typeof madeRuns>[0][0]['figures'],
    ) => ({
      scenario: 'storm',
      peer,
      parameters: { missed, load: 'storm' },
      figures,
    });
    const some = madeReport(
      madeRuns([
        returned('raw', 0, { cpuPerConnect: 70 }),
        returned('sluice', 0, { cpuPerConnect: 130 }),
        returned('sluice', 1000, { cpuPerMissed: 80, deliveriesPerSecond: 3e6 }),
      ]),
    );
    const headlines = (['cpuPerMissed', 'deliveriesPerSecond'] as const).map((figure) => ({
      where: { load: 'storm' },
      figure,
    }));
    const text = toMarkdown({ ...some, scenarios: some.scenarios.map((one) => ({ ...one, headlines })) });
    const about = text.split('\n').filter((line) => line.startsWith('- **storm, missed 1,000, storm**'));
    assert.equal(about.length, 2);
    assert.match(about[0]!, /sluice: [78]\d\.\d ns \(CPU beyond connecting, per missed event\)\./);
    assert.match(about[1]!, /sluice: [\d.]+ M \/s \(deliveries\)\./);
  });

  it('says of an incomplete run what it lacks, and why', () => {
    const incomplete = 'the run was interrupted by SIGINT, after 3 of 19 rounds';
    assert.match(
      toMarkdown({ ...report, incomplete }),
      /^\*\*Incomplete: the run was interrupted by SIGINT, after 3 of 19 rounds\.\*\*$/m,
    );
    assert.match(
      toHtml({ ...report, incomplete }),
      /<p class="warning">Incomplete: the run was interrupted by SIGINT/,
    );
    assert.doesNotMatch(text + toHtml(report), /incomplete/i);
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
    assert.match(page, /<th scope="row" data-of="server"><span>sluice at 35312b5<\/span><\/th>/);
    assert.match(page, /<section id="against"><h2>against 35312b5<\/h2>/);
    assert.match(page, /<td[^>]*><span>worse<\/span><\/td>/);
    assert.doesNotMatch(page, /undefined|NaN/);
  });

  it('has no table of changes where there is no other commit', () => {
    assert.doesNotMatch(toMarkdown(beside), /Against/);
    assert.doesNotMatch(toHtml(beside), /id="against"/);
  });
});

describe('a report of several Nodes', () => {
  const nodes = ['Node 20.20.2', 'Node 24.21.0'];
  const of = (peer: string, cpuPerDelivery: number, node: string) => ({
    scenario: 'fanout',
    peer,
    parameters: { connections: 20, batch: 1, node },
    figures: { cpuPerDelivery },
  });
  const runs = madeRuns([
    of('sluice', 8, nodes[0]!),
    of('floor', 4, nodes[0]!),
    of('sluice', 6, nodes[1]!),
    of('floor', 4, nodes[1]!),
  ]);
  const beside = madeReport(runs);
  const several: Report = {
    ...beside,
    environment: { ...beside.environment, nodes },
    verdicts: nodes.map((node, i) => ({
      what: 'it',
      text: 'holds',
      figure: '1',
      holds: i === 0,
      floor: '1',
      node,
    })),
  };
  const text = toMarkdown(several);

  it('says on which Nodes servers ran, and on which their readers', () => {
    assert.match(
      text,
      /^- servers and benches on Node 20\.20\.2 and Node 24\.21\.0, readers on Node 20\.20\.2$/m,
    );
  });

  it('has the figures of all Nodes in one row, with their ratios', () => {
    assert.match(
      text,
      /^\| scenario \| server \| figure \| Node 20\.20\.2 \| Node 24\.21\.0 \| Node 24\.21\.0 \/ Node 20\.20\.2 \|$/m,
    );
    assert.match(
      text,
      /^\| fanout, connections 20, batch 1 \| \*?\*?.* \| .*CPU of the server per delivery \(µs\).* \| [78]\.\d+.* \| [56]\.\d+.* \| 0\.7\d × \|$/m,
    );
  });

  it('compares each server with the floor of the same Node, and says what came out under each', () => {
    assert.match(
      text,
      /^- \*\*fanout, connections 20, batch 1, Node 20\.20\.2\*\* .*, (1\.9|2\.0)\d × the floor/m,
    );
    assert.match(
      text,
      /^- \*\*fanout, connections 20, batch 1, Node 24\.21\.0\*\* .*, 1\.[45]\d × the floor/m,
    );
  });

  it('judges each target under each Node', () => {
    assert.match(text, /^\| it \| holds \| Node 20\.20\.2 \| 1 \| 1 \| yes \|$/m);
    assert.match(text, /^\| it \| holds \| Node 24\.21\.0 \| 1 \| 1 \| \*\*no\*\* \|$/m);
  });

  it('has a chart for each', () => {
    for (const node of nodes)
      assert.ok(
        toHtml(several).includes(
          `<figcaption>fanout, connections 20, batch 1, ${node}: CPU of the server per delivery, µs</figcaption>`,
        ),
      );
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

  const figures = [
    ...page.matchAll(
      /<figure><figcaption>(.*?)<\/figcaption><p class="note">(.*?)<\/p>([\s\S]*?)<\/figure>/g,
    ),
  ].map(([, caption, note, html]) => ({ caption: caption!, note: note!, html: html! }));

  it('holds the charts: the costs, the latencies, the memory, the stall', () => {
    const captions = figures.map(({ caption }) => caption);
    for (const wanted of [
      'fanout, connections 1,000, batch 1: CPU of the server per delivery, µs',
      'latency, rate 50: latency from the scheduled time',
      'scale: CPU of the server per delivery, µs, over connections',
      'idle: memory (RSS) per connection, B, over connections',
      'stalled: memory, MB, over seconds',
      'encode: CPU per operation, ns',
    ])
      assert.ok(captions.includes(wanted), wanted);
  });

  it('begins with what came out: a sentence and bars for each scenario', () => {
    const cards = [
      ...page.matchAll(
        /<article><h3><a href="#(.*?)">.*?<\/h3><p>(.*?)<\/p><ul class="bars">([\s\S]*?)<\/ul>/g,
      ),
    ];
    assert.deepEqual(
      [...new Set(cards.map(([, name]) => name))],
      report.scenarios.map(({ name }) => name),
    );
    for (const [, name, sentence, bars] of cards) {
      assert.match(sentence!, /^sluice: /, name);
      assert.match(bars!, /<li class="ours"><b>sluice<\/b>/, name);
    }
    assert.ok(page.indexOf('<article>') < page.indexOf('<table'));
  });

  it('says of every chart which way is better, and of every logarithmic axis that it is one', () => {
    assert.ok(figures.length > 8);
    for (const { caption, note } of figures) assert.match(note, /^(lower|higher) is better\./, caption);
    const noted = (name: string) => figures.find(({ caption }) => caption.startsWith(name))!;
    assert.match(noted('scale').note, /The horizontal axis is logarithmic\./);
    assert.match(noted('scale').html, />connections \(logarithmic\)</);
    assert.match(
      noted('latency, rate 50: latency').note,
      /The horizontal and the vertical axis are logarithmic\./,
    );
    assert.doesNotMatch(noted('idle').note + noted('idle').html, /logarithmic/);
  });

  it('draws lines for wide and for narrow windows, each with its name', () => {
    const { html, caption } = figures.find((one) => one.caption.startsWith('scale'))!;
    assert.match(html, /<div class="wide"><svg role="img" aria-label="[^"]+"[^>]* viewBox="0 0 920 /);
    assert.match(html, /<div class="narrow"><svg role="img" aria-label="[^"]+"[^>]* viewBox="0 0 350 /);
    assert.equal(html.split(`aria-label="${caption}"`).length - 1, 2);
  });

  it('escapes names in HTML', () => {
    assert.ok(page.includes('Some CPU &lt;&amp; &quot;more&quot;&gt;'));
  });

  it('shows what each guarantees beside what it costs', () => {
    assert.match(
      page,
      /<tr class="ours"><th scope="row" data-of="server"><span>sluice<\/span><\/th><td [^>]*><span>6\.\d+<\/span><\/td><td [^>]*><span>0\.6\d<\/span><\/td><td data-of="replay" class="yes">/,
    );
  });

  it('is complete without charts, verdicts and guarantees', () => {
    const empty = { ...report, runs: [], verdicts: undefined, guarantees: undefined };
    assert.match(toHtml(empty), /<\/main>\n<\/html>\n$/);
    assert.doesNotMatch(toHtml(empty), /undefined|NaN/);
  });

  it('never says undefined or NaN', () => assert.doesNotMatch(page, /undefined|NaN/));
});
