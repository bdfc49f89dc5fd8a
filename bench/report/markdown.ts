// Writes a report as Markdown.

import { aggregate } from './aggregate.ts';
import { betterOf } from './bars.ts';
import { changesSince, changesTable, RULE } from './compare.ts';
import { headLines, warningsOf } from './environment.ts';
import { hasSeveralNodes, nodesTable } from './nodes.ts';
import { outcomesOf } from './outcomes.ts';
import type { Report, Verdict } from './report.ts';
import { guaranteesOf, remarksOf, type Table, tableOf } from './tables.ts';

export function toMarkdown(report: Report): string {
  const { environment, scenarios, runs, titles, verdicts, guarantees } = report;
  const groups = aggregate(runs);
  const parts = [`# Bench, ${environment.date.slice(0, 10)}`];
  parts.push(...warningsOf(report).map((text) => `**${text}.**`));
  const outcomes = outcomesOf(report, groups).map(
    ({ scenario, situation, figure, sentence }) =>
      `**${[scenario, situation].filter((part) => part !== '').join(', ')}** (${betterOf(figure)}). ${sentence}`,
  );
  if (outcomes.length > 0) parts.push('## What came out', listOf(outcomes));
  parts.push('## How it was measured', listOf(headLines(environment)), METHOD);
  if (verdicts !== undefined) parts.push('## Targets', markdownOf(targetsTable(verdicts)));
  if (hasSeveralNodes(environment)) parts.push('## Under each Node', markdownOf(nodesTable(report)));
  if (report.against !== undefined)
    parts.push(
      `## Against ${report.against}`,
      RULE,
      markdownOf(changesTable(report.against, changesSince(report.against, runs))),
    );
  if (guarantees !== undefined)
    parts.push('## What each server guarantees', markdownOf(guaranteesOf(guarantees, groups, titles)));
  for (const { name, constant, shows } of scenarios) {
    const own = groups.filter(({ scenario }) => scenario === name);
    parts.push(`## ${name}`, `Shows: ${shows}.  \nHolds constant: ${constant}.`);
    if (own.length > 0) parts.push(markdownOf(tableOf(own, titles)));
    const remarks = remarksOf(name, own, report);
    if (remarks.length > 0) parts.push(listOf(remarks));
  }
  return `${parts.join('\n\n')}\n`;
}

export const METHOD: string =
  'Each figure is the median of its runs; in brackets the 95 % confidence interval of that median, where there ' +
  'were three runs or more. Ratios are the medians of pairs: two servers run one after the other.';

/** A row for each target; where there are several Nodes, for each target under each. */
export function targetsTable(verdicts: readonly Verdict[]): Table {
  const isEach = verdicts.some(({ node }) => node !== undefined);
  return {
    head: ['what', 'must hold', ...(isEach ? ['under'] : []), 'measured', 'floor of the same run', 'holds'],
    rows: verdicts.map(({ what, text, node, figure, floor, holds }) => ({
      cells: [
        what,
        text,
        ...(isEach ? [node ?? '–'] : []),
        figure,
        floor ?? '–',
        { true: 'yes', false: '**no**', undefined: 'not measured' }[`${holds}`],
      ],
      isOurs: false,
    })),
    names: isEach ? 3 : 2,
  };
}

function listOf(lines: readonly string[]): string {
  return lines.map((line) => `- ${line}`).join('\n');
}

function markdownOf({ head, rows, names }: Table): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((text) => text.replaceAll('|', '\\|')).join(' | ')} |`;
  const ruler = head.map((_, i) => (i < names ? '---' : '--:'));
  const ours = (cells: readonly string[]) => cells.map((text, i) => (i === names - 1 ? `**${text}**` : text));
  return [
    line(head),
    line(ruler),
    ...rows.map(({ cells, isOurs }) => line(isOurs ? ours(cells) : cells)),
  ].join('\n');
}
