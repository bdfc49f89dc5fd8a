// Writes a report as one HTML page without scripts or external files, in the light or dark theme of the
// reader's system.

import { OURS, type Run } from '../scenarios/scenario.ts';
import { aggregate } from './aggregate.ts';
import { barsOf, betterOf } from './bars.ts';
import { chartsOf } from './charts.ts';
import { changesSince, changesTable, RULE } from './compare.ts';
import { headLines, warningsOf } from './environment.ts';
import { escaped } from './format.ts';
import { METHOD, targetsTable } from './markdown.ts';
import { hasSeveralNodes, nodesTable } from './nodes.ts';
import { outcomesOf } from './outcomes.ts';
import type { Group, Report, Verdict } from './report.ts';
import { guaranteesOf, remarksOf, type Table, tableOf } from './tables.ts';

export function toHtml(report: Report): string {
  const { environment, scenarios, runs, titles, verdicts, guarantees } = report;
  const groups = aggregate(runs);
  const title = `${OURS} bench, ${environment.date.slice(0, 10)}`;
  const parts = [
    `<h1>${escaped(title)}</h1>`,
    ...warningsOf(report).map((text) => `<p class="warning">${escaped(text)}.</p>`),
    `<p class="note">${headLines(environment).slice(0, 3).map(escaped).join('; ')}</p>`,
    outcomes(report, groups),
    contents(report),
  ];
  if (verdicts !== undefined) parts.push(section('targets', targets(verdicts)));
  if (hasSeveralNodes(environment))
    parts.push(section('nodes', htmlOf(nodesTable(report), 'texts'), 'under each Node'));
  if (report.against !== undefined)
    parts.push(section('against', against(report.against, runs), `against ${report.against}`));
  if (guarantees !== undefined)
    parts.push(section('guarantees', htmlOf(guaranteesOf(guarantees, groups, titles), 'texts')));
  for (const { name, constant, shows } of scenarios) {
    const own = groups.filter(({ scenario }) => scenario === name);
    const about = `<p>Shows: ${escaped(shows)}.<br>Holds constant: ${escaped(constant)}.</p>`;
    parts.push(section(name, about + scenario(name, own, report)));
  }
  parts.push(
    section('measured', `${listOf(headLines(environment))}<p>${escaped(METHOD)}</p>`, 'how it was measured'),
  );
  return page(title, parts.join('\n'));
}

/** What came out: a sentence and bars for each scenario. */
function outcomes(report: Report, groups: readonly Group[]): string {
  const cards = outcomesOf(report, groups).map(
    ({ scenario: name, situation, figure, sentence, shown, group }) => {
      const bars = barsOf(shown, { figure, titles: report.titles, floor: group.floor });
      const head = `<h3><a href="#${name}">${name}</a> ${escaped(situation)}</h3>`;
      return `<article>${head}<p>${escaped(sentence)}</p>${bars}<p class="note">${betterOf(figure)}.</p></article>`;
    },
  );
  if (cards.length === 0) return '';
  return section('outcome', `<div class="cards">${cards.join('\n')}</div>`, 'what came out');
}

function scenario(name: string, groups: readonly Group[], report: Report): string {
  const runs = report.runs.filter((run) => run.scenario === name);
  const charts = chartsOf(groups, runs, report.titles).map(
    ({ caption, notes, html }) =>
      `<figure><figcaption>${escaped(caption)}</figcaption><p class="note">${notes.map((note) => `${escaped(note)}.`).join(' ')}</p>${html}</figure>`,
  );
  const table = groups.length === 0 ? '' : htmlOf(tableOf(groups, report.titles));
  return [...charts, fold(table), listOf(remarksOf(name, groups, report))].join('\n');
}

function fold(table: string): string {
  return table === '' ? '' : `<details><summary>All figures</summary>${table}</details>`;
}

function contents({ environment, scenarios, verdicts, against, guarantees }: Report): string {
  const first = {
    targets: verdicts,
    nodes: hasSeveralNodes(environment) || undefined,
    against,
    guarantees,
  };
  const names = Object.entries(first).flatMap(([name, part]) => (part === undefined ? [] : name));
  const links = [...names, ...scenarios.map(({ name }) => name), 'measured'].map(
    (name) => `<a href="#${name}">${name}</a>`,
  );
  return `<nav aria-label="Contents">${links.join(' ')}</nav>`;
}

function section(name: string, content: string, title: string = name): string {
  return `<section id="${name}"><h2>${escaped(title)}</h2>\n${content}</section>`;
}

function targets(verdicts: readonly Verdict[]): string {
  const { head, rows, names } = targetsTable(verdicts);
  const plain = rows.map((row) => ({ ...row, cells: row.cells.map((text) => text.replaceAll('**', '')) }));
  const count = (wanted: boolean | undefined) => verdicts.filter(({ holds }) => holds === wanted).length;
  const sum = `${count(true)} hold, ${count(false)} do not, ${count(undefined)} were not measured.`;
  return `<p>${sum}</p>${htmlOf({ head, rows: plain, names }, 'texts')}`;
}

function against(commit: string, runs: readonly Run[]): string {
  return `<p>${escaped(RULE)}</p>${htmlOf(changesTable(commit, changesSince(commit, runs)))}`;
}

/**
 * A table; in a narrow window a list for each row, in which each cell repeats the name of its column.
 * @param kind `texts`: aligns texts and colours those that say yes or no.
 */
function htmlOf({ head, rows, names }: Table, kind = 'figures'): string {
  const mark = (text: string) => ({ yes: ' class="yes"', no: ' class="no"' })[text] ?? '';
  const cell = (text: string, i: number) => {
    const of = `data-of="${escaped(head[i]!)}"`;
    return i < names
      ? `<th scope="row" ${of}><span>${escaped(text)}</span></th>`
      : `<td ${of}${mark(text)}><span>${withoutInterval(escaped(text))}</span></td>`;
  };
  const body = rows.map(
    ({ cells, isOurs }) => `<tr${isOurs ? ' class="ours"' : ''}>${cells.map(cell).join('')}</tr>`,
  );
  const heads = head
    .map((text, i) => `<th scope="col"${i < names ? ' class="name"' : ''}>${escaped(text)}</th>`)
    .join('');
  return `<table class="${kind}"><thead><tr>${heads}</tr></thead><tbody>${body.join('\n')}</tbody></table>`;
}

/** The interval goes to a line of its own, which makes columns narrow. */
function withoutInterval(text: string): string {
  return text.replace(
    /\u00a0(\[[^\]]*\])/,
    (_, interval: string) => ` <small>${interval.replaceAll('\u00a0', ' ')}</small>`,
  );
}

function listOf(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `<ul>${lines.map((line) => `<li>${escaped(line)}</li>`).join('')}</ul>`;
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
<main>
${body}
</main>
</html>
`;
}

const LIGHT = `
  --paper: #ffffff; --ink: #1d2733; --faint: #5d6b7a; --rule: #e1e6eb; --tint: #eef6f6; --link: #0b6e76;
  --good: #17703a; --bad: #b3261e; --others: #a9b6c3; --user: #0b7f88; --kernel: #8ec9cd;
  --c0: #0b7f88; --c1: #c2571a; --c2: #6a51a3; --c3: #a8831a; --c4: #2b6cb0; --c5: #b83280; --c6: #4a7c2c;
  --c7: #7b8794; --c8: #8c5a3c; --c9: #d0021b; --c10: #1d2733;`;
const DARK = `
  --paper: #12171d; --ink: #e3e9ef; --faint: #93a1b0; --rule: #2a333d; --tint: #16282b; --link: #5ec8d0;
  --good: #67c98a; --bad: #ff8a80; --others: #566474; --user: #3fb8c1; --kernel: #1f666c;
  --c0: #3fb8c1; --c1: #f0925a; --c2: #b39ddb; --c3: #e0bd5a; --c4: #7ab3ef; --c5: #f08cc0; --c6: #9ccc7a;
  --c7: #a3b0bd; --c8: #c99b7c; --c9: #ff6b6b; --c10: #e3e9ef;`;

const STYLE = `
:root { color-scheme: light dark;${LIGHT} }
@media (prefers-color-scheme: dark) { :root {${DARK} } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 20px 64px; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 0 0 12px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 14px 0 4px; }
p, ul { margin: 8px 0; }
section > p { max-width: 920px; }
ul { padding-left: 20px; color: var(--faint); font-size: 14px; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 16px 0; }
.warning { border-left: 4px solid var(--bad); padding: 4px 12px; font-weight: 600; }
.note { color: var(--faint); font-size: 13px; margin: 4px 0 8px; }
.note::first-letter { text-transform: uppercase; }
figure { margin: 24px 0; max-width: 920px; }
figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
.narrow { display: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 20px 40px; }
.bars { list-style: none; margin: 6px 0; padding: 0; color: var(--ink); font-size: 13px; }
.bars li { display: grid; grid-template-columns: minmax(90px, 28%) 1fr 150px; gap: 0 10px; align-items: center; }
.bars b { font-weight: 400; text-align: right; line-height: 1.25; }
.bars .ours b, .bars .ours span { font-weight: 700; }
.bars .ours b { color: var(--c0); }
.bars span { font-variant-numeric: tabular-nums; }
.track { display: flex; align-items: center; position: relative; height: 26px; }
.track i { flex: none; height: 16px; }
.whole { background: var(--others); }
.ours .whole { background: var(--c0); }
.least .whole { box-sizing: border-box; background: none; border: 1px solid var(--faint); }
.user { background: var(--user); }
.kernel { background: var(--kernel); }
.track .interval, .track .floor { position: absolute; box-sizing: border-box; }
.track .interval { height: 9px; border: solid var(--ink); border-width: 0 1px; background: linear-gradient(var(--ink), var(--ink)) center / 100% 1px no-repeat; }
.track .floor { top: 0; height: 100%; border-left: 1px dashed var(--ink); }
.key { color: var(--faint); font-size: 13px; margin: 4px 0; }
.key i { display: inline-block; width: 14px; height: 10px; margin-left: 10px; }
.key i:first-child { margin-left: 0; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--link); font-size: 14px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 8px 0; min-width: 100%; }
th, td { padding: 5px 6px; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; }
thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; overflow-wrap: normal; hyphens: auto; }
tbody th { font-weight: 400; text-align: left; }
thead th.name { text-align: left; }
small { display: block; color: var(--faint); font-size: 11px; }
tr.ours { background: var(--tint); }
tr.ours th, tr.ours td { font-weight: 600; }
tr.ours small { font-weight: 400; }
table.texts td, table.texts th { text-align: left; }
td.yes { color: var(--good); font-weight: 600; }
td.no { color: var(--bad); font-weight: 600; }
@media (max-width: 720px) {
  .wide { display: none; }
  .narrow { display: block; }
  .bars li { grid-template-columns: 1fr 150px; margin-bottom: 4px; }
  .bars b { grid-column: 1 / -1; text-align: left; }
  .track { height: 18px; }
  table, tbody, tr, th, td { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { padding: 8px; border-bottom: 1px solid var(--rule); }
  tbody th, tbody td, table.texts th, table.texts td { display: flex; justify-content: space-between; gap: 12px; padding: 2px 0; border: 0; text-align: right; }
  tbody th { font-weight: 600; }
  tbody th::before, tbody td::before { content: attr(data-of); color: var(--faint); font-weight: 400; text-align: left; flex: none; max-width: 45%; }
  small { display: inline; }
}
`;
