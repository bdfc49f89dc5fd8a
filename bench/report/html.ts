// Writes a report as one HTML page without scripts or external files, in the light or dark theme of the
// reader's system.

import { OURS, type Run } from '../scenarios/scenario.ts';
import { aggregate } from './aggregate.ts';
import { chartsOf } from './charts.ts';
import { changesSince, changesTable, RULE } from './compare.ts';
import { headLines, warningsOf } from './environment.ts';
import { METHOD, targetsTable } from './markdown.ts';
import type { Group, Report, Verdict } from './report.ts';
import { guaranteesOf, remarksOf, type Table, tableOf } from './tables.ts';

export function toHtml(report: Report): string {
  const { environment, scenarios, runs, titles, verdicts, guarantees } = report;
  const groups = aggregate(runs);
  const title = `${OURS} bench, ${environment.date.slice(0, 10)}`;
  const parts = [
    `<h1>${escaped(title)}</h1>`,
    listOf([...warningsOf(report), ...headLines(environment)]),
    `<p>${escaped(METHOD)}</p>`,
    contents(report),
  ];
  if (verdicts !== undefined) parts.push(section('targets', targets(verdicts)));
  if (report.against !== undefined)
    parts.push(section('against', against(report.against, runs), `against ${report.against}`));
  if (guarantees !== undefined)
    parts.push(section('guarantees', htmlOf(guaranteesOf(guarantees, groups, titles), 'marks')));
  for (const { name, constant, shows } of scenarios) {
    const own = groups.filter(({ scenario }) => scenario === name);
    const about = `<p>Shows: ${escaped(shows)}.<br>Holds constant: ${escaped(constant)}.</p>`;
    parts.push(section(name, about + scenario(name, own, report)));
  }
  return page(title, parts.join('\n'));
}

function scenario(name: string, groups: readonly Group[], report: Report): string {
  const runs = report.runs.filter((run) => run.scenario === name);
  const charts = chartsOf(groups, runs, report.titles).map(
    ({ caption, svg }) =>
      `<figure><figcaption>${escaped(caption)}</figcaption><div class="wide">${svg}</div></figure>`,
  );
  const table = groups.length === 0 ? '' : htmlOf(tableOf(groups, report.titles));
  return [...charts, fold(table), listOf(remarksOf(name, groups, report))].join('\n');
}

function fold(table: string): string {
  return table === '' ? '' : `<details open><summary>All figures</summary>${table}</details>`;
}

function contents({ scenarios, verdicts, against, guarantees }: Report): string {
  const first = [verdicts && 'targets', against && 'against', guarantees && 'guarantees'].filter(
    (name) => name !== undefined,
  );
  const links = [...first, ...scenarios.map(({ name }) => name)].map(
    (name) => `<a href="#${name}">${name}</a>`,
  );
  return `<nav>${links.join(' ')}</nav>`;
}

function section(name: string, content: string, title: string = name): string {
  return `<section id="${name}"><h2>${escaped(title)}</h2>\n${content}</section>`;
}

function targets(verdicts: readonly Verdict[]): string {
  const { head, rows, names } = targetsTable(verdicts);
  const plain = rows.map((row) => ({ ...row, cells: row.cells.map((text) => text.replaceAll('**', '')) }));
  const count = (wanted: boolean | undefined) => verdicts.filter(({ holds }) => holds === wanted).length;
  const sum = `${count(true)} hold, ${count(false)} do not, ${count(undefined)} were not measured.`;
  return `<p>${sum}</p>${htmlOf({ head, rows: plain, names }, 'marks')}`;
}

function against(commit: string, runs: readonly Run[]): string {
  return `<p>${escaped(RULE)}</p>${htmlOf(changesTable(commit, changesSince(commit, runs)))}`;
}

/** @param kind `marks`: colours cells that say yes or no. */
function htmlOf({ head, rows, names }: Table, kind = ''): string {
  const mark = (text: string) => ({ yes: ' class="yes"', no: ' class="no"' })[text] ?? '';
  const cell = (text: string, i: number) =>
    i < names ? `<th scope="row">${escaped(text)}</th>` : `<td${mark(text)}>${escaped(text)}</td>`;
  const body = rows.map(
    ({ cells, isOurs }) => `<tr${isOurs ? ' class="ours"' : ''}>${cells.map(cell).join('')}</tr>`,
  );
  const heads = head
    .map((text, i) => `<th scope="col"${i < names ? ' class="name"' : ''}>${escaped(text)}</th>`)
    .join('');
  return `<div class="wide"><table class="${kind}"><thead><tr>${heads}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`;
}

function listOf(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `<ul>${lines.map((line) => `<li>${escaped(line)}</li>`).join('')}</ul>`;
}

function escaped(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!,
  );
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
main { max-width: 960px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 12px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); }
p, ul { margin: 8px 0; }
ul { padding-left: 20px; color: var(--faint); font-size: 14px; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 16px 0; }
figure { margin: 20px 0; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg { display: block; width: 100%; min-width: 620px; height: auto; }
.wide { overflow-x: auto; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--faint); font-size: 14px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 8px 0; min-width: 100%; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; white-space: nowrap; }
thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; white-space: normal; min-width: 64px; }
tbody th { font-weight: 400; text-align: left; }
thead th.name { text-align: left; }
tr.ours { background: var(--tint); }
tr.ours th, tr.ours td { font-weight: 600; }
table.marks td, table.marks th { text-align: left; white-space: normal; }
table.marks td { min-width: 84px; }
table.marks td:first-of-type { min-width: 134px; }
td.yes { color: var(--good); font-weight: 600; }
td.no { color: var(--bad); font-weight: 600; }
`;
