// Reads the arguments of the command.

import { parseArgs } from 'node:util';
import type { Scenario } from './scenarios/scenario.ts';

export const USAGE = `npm run bench [-- [SCENARIO …] [OPTIONS]]

  (nothing)               runs every scenario with every server, within 20 minutes
  SCENARIO …              runs these: fanout, micro, …
  targets                 runs what the targets need and shows for each its figure and whether it holds; exits with 1 if
                          one does not
  compare A.json B.json   shows what changed between two reports, relative to the floor where both have one; exits with 1
                          if a figure of ours became worse: by more than 5 %, with its whole confidence interval on that
                          side. Needs five runs in each report
  list                    lists the scenarios, and which servers can run here

  --against REV           runs our servers of another commit beside ours and shows each figure's ratio; exits with 1 if
                          a figure is worse, by the same rule
  --node 20,24,26         the Nodes under which servers and benches run, by major version or by path; default the Node that
                          runs this command, which the load stays on. Several run one after the other in each
                          repetition, and their figures are shown side by side. A missing version is fetched
  --peers a,b | all       the servers to run; default all that the scenario has
  --connections 1000      replaces the scenario's own number; fanout, scale and idle take several: 100,1000
  --batch 1,16            fanout: events published in one turn
  --bytes 100,1000        fanout: bytes of data in each event
  --bench hub,memory      micro: the benches to run; default all
  --runs 5                repetitions; default 5; fewer if the time for everything does not suffice
  --quick                 runs as briefly as possible: checks that everything works; the figures mean nothing
  --out DIR               the folder for the reports; default bench/results
  --no-install            does not install missing packages
  --help                  shows this text`;

export type Order =
  | { readonly do: 'help' | 'list' }
  | { readonly do: 'compare'; readonly reports: readonly [string, string] }
  | ({ readonly do: 'run' } & RunOptions);

export interface RunOptions {
  readonly scenarios: readonly Scenario[];
  /** No scenario was named: all of them run. */
  readonly isAll: boolean;
  readonly isTargets: boolean;
  /** `undefined`: all. */
  readonly peers: readonly string[] | undefined;
  readonly connections: readonly number[] | undefined;
  readonly batches: readonly number[] | undefined;
  readonly payloads: readonly number[] | undefined;
  /** `undefined`: all. */
  readonly benches: readonly string[] | undefined;
  readonly runs: number;
  readonly isQuick: boolean;
  readonly out: string;
  readonly isInstalling: boolean;
  /** Another commit, by any name that git accepts. */
  readonly against: string | undefined;
  /** Major versions of Node and paths; empty: the Node that runs this command. */
  readonly nodes: readonly string[];
}

/** A mistake in the arguments, which the command reports in one line. */
export class Misuse extends Error {}

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;
const OPTIONS = {
  node: { type: 'string', multiple: true },
  peers: text,
  connections: text,
  batch: text,
  bytes: text,
  bench: text,
  runs: text,
  quick: flag,
  out: text,
  against: text,
  'no-install': flag,
  help: { type: 'boolean', short: 'h' },
} as const;

/** @throws {Misuse} */
export function orderOf(argv: readonly string[], scenarios: readonly Scenario[]): Order {
  const { values, positionals } = parse(argv);
  if (values.help) return { do: 'help' };
  const [word, ...rest] = positionals;
  if (word === 'list') return { do: 'list' };
  if (word === 'compare') return { do: 'compare', reports: twoOf(rest) };
  const isTargets = word === 'targets';
  if (isTargets && rest.length > 0) throw new Misuse(`\`targets\` takes no scenario, got "${rest[0]}"`);
  const names = isTargets ? [] : positionals;
  const chosen = names.length === 0 ? scenarios : names.map((name) => scenarioNamed(name, scenarios));
  const peers = peersOf(values.peers, chosen);
  return {
    do: 'run',
    scenarios: [...new Set(chosen)],
    isAll: positionals.length === 0,
    isTargets,
    peers,
    connections: sizesOf(values.connections, chosen),
    batches: numbersOf('batch', values.batch),
    payloads: numbersOf('bytes', values.bytes),
    benches: someOf(
      'bench',
      values.bench,
      chosen.flatMap(({ benches = [] }) => benches),
    ),
    runs: numbersOf('runs', values.runs)?.[0] ?? (values.quick ? 1 : 5),
    isQuick: values.quick ?? false,
    out: values.out ?? 'bench/results',
    isInstalling: !values['no-install'],
    against: values.against,
    nodes: (values.node ?? []).flatMap((some) => some.split(',')),
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    // What Node says more is how to write a positional argument that looks like an option.
    throw new Misuse((error as Error).message.split('. ')[0]);
  }
}

function twoOf(paths: readonly string[]): [string, string] {
  const [before, after] = paths;
  if (before !== undefined && after !== undefined && paths.length === 2) return [before, after];
  throw new Misuse(`\`compare\` takes two reports, got ${paths.length}`);
}

function scenarioNamed(name: string, scenarios: readonly Scenario[]): Scenario {
  const scenario = scenarios.find((one) => one.name === name);
  if (scenario !== undefined) return scenario;
  throw new Misuse(`there is no scenario "${name}": ${scenarios.map((one) => one.name).join(', ')}`);
}

function peersOf(value: string | undefined, scenarios: readonly Scenario[]): string[] | undefined {
  if (value === 'all') return undefined;
  return someOf(
    'peer',
    value,
    scenarios.flatMap(({ peers }) => peers),
  );
}

function someOf(what: string, value: string | undefined, all: readonly string[]): string[] | undefined {
  const known = new Set(all);
  const wanted = value?.split(',');
  const unknown = wanted?.find((name) => !known.has(name));
  if (unknown === undefined) return wanted;
  throw new Misuse(`there is no ${what} "${unknown}": ${[...known].join(', ')}`);
}

function sizesOf(value: string | undefined, scenarios: readonly Scenario[]): number[] | undefined {
  const sizes = numbersOf('connections', value);
  const single = scenarios.find(({ takesSeveral }) => takesSeveral !== true);
  if (sizes === undefined || sizes.length === 1 || single === undefined) return sizes;
  throw new Misuse(`\`--connections\` must be one number for "${single.name}", got ${value}`);
}

function numbersOf(name: string, value: string | undefined): number[] | undefined {
  const numbers = value?.split(',').map(Number);
  if (numbers === undefined || numbers.every((one) => Number.isSafeInteger(one) && one >= 1)) return numbers;
  throw new Misuse(`\`--${name}\` must be whole numbers ≥ 1, got ${value}`);
}
