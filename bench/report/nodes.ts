// Shows the same figures under several Nodes side by side.

import { type Figure, figures, isOurs, type Run } from '../scenarios/scenario.ts';
import { aggregate, keyOf, ratiosOf, summarize, valuesOf } from './aggregate.ts';
import { headlineOf, parametersOf, times, withInterval } from './format.ts';
import type { Environment, Report, Summary } from './report.ts';
import { type Row, type Table, textOf } from './tables.ts';

/** Whether figures were measured under more than one Node. */
export function hasSeveralNodes({ nodes = [] }: Environment): boolean {
  return nodes.length > 1;
}

/** The most important figure of each server: a column for each Node, and its ratio to the first in pairs. */
export function nodesTable({ environment: { nodes = [] }, runs, titles }: Report): Table {
  const [first, ...others] = nodes;
  const groups = aggregate(runs.map(withoutNode));
  const rows = groups.flatMap(({ scenario, parameters, peers }) =>
    peers.flatMap(({ peer, figures: own }): Row[] => {
      const figure = headlineOf((name) => own[name] !== undefined);
      if (figure === undefined) return [];
      const key = keyOf({ scenario, parameters });
      const under = (node: string | undefined) =>
        runs.filter(
          (run) => run.peer === peer && run.parameters.node === node && keyOf(withoutNode(run)) === key,
        );
      const cell = (summary: Summary | undefined) => (summary === undefined ? '–' : withInterval(summary));
      const values = nodes.map((node) => cell(summarize(valuesOf(under(node), figure))));
      if (values.filter((text) => text !== '–').length < 2) return [];
      const ratios = others.map((node) => ratioOf(under(node), under(first), figure));
      const situation = [scenario, parametersOf(parameters)].filter((part) => part !== '').join(', ');
      const { label, unit } = figures[figure];
      const cells = [situation, titles[peer] ?? peer, `${label} (${unit})`, ...values, ...ratios];
      return [{ cells, isOurs: isOurs(peer) }];
    }),
  );
  const ratioHeads = others.map((node) => `${node} / ${first}`);
  return { head: ['scenario', 'server', 'figure', ...nodes, ...ratioHeads], rows, names: 3 };
}

function ratioOf(tops: readonly Run[], bottoms: readonly Run[], figure: Figure): string {
  const ratio = summarize(ratiosOf(tops, bottoms, figure));
  return ratio === undefined ? '–' : times(ratio);
}

function withoutNode(run: Run): Run {
  const { node: _, ...parameters } = run.parameters;
  return { ...run, parameters };
}

/** For a terminal; nothing where there is one Node only. */
export function nodeLines(report: Report): string[] {
  return hasSeveralNodes(report.environment) ? ['', ...textOf(nodesTable(report))] : [];
}
