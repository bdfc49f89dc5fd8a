// Runs scenarios, shows the progress, and writes the reports.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Commit, checkOut } from '../loads/commit.ts';
import { choose, type NodeProgram, nodesOf } from '../loads/nodes.ts';
import { addServersOf, servers } from '../loads/servers.ts';
import type { RunOptions } from '../options.ts';
import { expected, guess, nextOf, type Work } from '../plan.ts';
import { LIMITED } from '../scenarios/measure.ts';
import { figures, isOurs, peerAt, type Run, type Scenario } from '../scenarios/scenario.ts';
import { Failure } from '../scenarios/stage.ts';
import { needsOf, targets, verdictsOf } from '../targets.ts';
import { aggregate, measurementsOf } from './aggregate.ts';
import { changeLines, changesSince } from './compare.ts';
import { environment, headLines, warningsOf } from './environment.ts';
import { headlineOf, number, parametersOf, withInterval } from './format.ts';
import { toHtml } from './html.ts';
import { toJson } from './json.ts';
import { toMarkdown } from './markdown.ts';
import { nodeLines } from './nodes.ts';
import { type Bar, startBar } from './progress.ts';
import type { Guarantees, Report, Skipped, Verdict } from './report.ts';

/** Seconds for all scenarios; with start and reports the command takes 20 minutes. */
const BUDGET = 19 * 60;
/** Of a quick run, unless it is one of the targets, which judge their own numbers of connections. */
const QUICK_CONNECTIONS: readonly number[] = [100];
/** Of a quick run of everything. */
const QUICK_BATCHES: readonly number[] = [16];

/** A quick run of everything: only whether it works counts. */
function isTrial({ isAll, isQuick, isTargets }: RunOptions): boolean {
  return isAll && isQuick && !isTargets;
}

interface ScenarioWork extends Work {
  readonly scenario: Scenario;
  readonly peers: readonly string[];
  /** Under which its servers run. */
  readonly node: NodeProgram;
}

/**
 * @param interrupted aborts, with the name of the signal as its reason, when no more may be measured; what was
 *   measured until then is reported.
 * @returns the exit code: 130 when it was interrupted; 1 when a scenario failed, a run of ours was invalid, a
 *   target is missed, or a figure is worse than at the other commit.
 * @throws {Misuse} when the other commit cannot be checked out, or a Node is missing.
 */
export async function runSuite(options: RunOptions, interrupted: AbortSignal): Promise<0 | 1 | 130> {
  const { isAll, isQuick, out } = options;
  const nodes = nodesOf(options.nodes, options.isInstalling);
  const against = options.against === undefined ? undefined : checkOut(options.against);
  if (against !== undefined) addServersOf(against);
  const skipped: Skipped[] = [];
  const works = worksOf(options, nodes, against, skipped);
  const bar = startBar();
  const here = environment(nodes);
  for (const line of [...warningsOf({ isQuick }), ...headLines(here)]) bar.say(line);
  for (const { scenario, peer, reason } of skipped) bar.say(`${scenario}: ${peer} is skipped: ${reason}`);
  const runs: Run[] = [];
  const budget = isAll && !isQuick ? BUDGET * nodes.length : Infinity;
  const stop = stopAt(interrupted);
  try {
    const failures = await runAll(works, { bar, runs, budget, against, stop }, options);
    bar.stop();
    if (stop.signal.aborted && runs.length === 0) return codeOf(stop.signal)!;
    const verdicts = options.isTargets ? verdictsOn(nodes, runs) : undefined;
    const report: Report = {
      environment: here,
      isQuick,
      incomplete: incompleteness(works, failures, stop.signal),
      scenarios: options.scenarios
        .filter((scenario) => works.some((work) => work.scenario === scenario))
        .map(({ name, constant, shows, headlines }) => ({ name, constant, shows, headlines })),
      titles: Object.fromEntries(Object.entries(servers).map(([name, { title }]) => [name, title])),
      skipped: [...skipped, ...failures],
      runs,
      verdicts,
      against: against?.name,
      guarantees: await guarantees(),
    };
    for (const line of linesOf(report)) console.log(line);
    for (const path of write(report, out)) console.log(path);
    return codeOf(stop.signal) ?? (failures.length > 0 || isBad(report) ? 1 : 0);
  } finally {
    stop.release();
  }
}

/** Whether a run of ours does not count, a target is missed, or a figure is worse than at the other commit. */
function isBad({ runs, verdicts = [], against }: Report): boolean {
  const changes = against === undefined ? undefined : changesSince(against, runs);
  return (
    runs.some(({ peer, invalid }) => isOurs(peer) && invalid !== undefined) ||
    verdicts.some(({ holds }) => holds === false) ||
    changes?.length === 0 ||
    (changes ?? []).some(({ verdict }) => verdict === 'worse')
  );
}

/** What will run; peers that cannot run are added to `skipped`. */
function worksOf(
  options: RunOptions,
  nodes: readonly NodeProgram[],
  against: Commit | undefined,
  skipped: Skipped[],
): ScenarioWork[] {
  const { isAll, isQuick, isTargets } = options;
  const needs = isTargets ? needsOf(targets) : undefined;
  const skip = (one: Skipped) => {
    const isKnown = skipped.some((known) =>
      Object.entries(one).every(([name, text]) => known[name as keyof Skipped] === text),
    );
    if (!isKnown) skipped.push(one);
  };
  return options.scenarios.flatMap((scenario) => {
    const all = isAll && isQuick ? quickPeersOf(scenario, options.scenarios) : scenario.peers;
    const wanted = needs === undefined ? (options.peers ?? all) : (needs.get(scenario.name) ?? []);
    return nodes.flatMap((node): ScenarioWork[] => {
      choose(node);
      const peers = scenario.peers
        .filter((peer) => wanted.includes(peer))
        .flatMap((peer) =>
          against !== undefined && isOurs(peer) ? [peer, peerAt(peer, against.name)] : peer,
        )
        .filter((peer) => {
          const reason = missing(scenario, peer);
          if (reason !== undefined) skip({ scenario: scenario.name, peer, reason });
          return reason === undefined;
        });
      if (peers.length === 0) return [];
      const seconds = guess(scenario.name, peers.length, isQuick);
      const name = nodes.length === 1 ? scenario.name : `${scenario.name}, ${node.name},`;
      return [{ name, scenario, peers, node, runs: options.runs, done: 0, seconds }];
    });
  });
}

/**
 * A quick run of everything tries ours in each scenario, and each other server in the first scenario that has
 * it.
 */
function quickPeersOf(scenario: Scenario, scenarios: readonly Scenario[]): string[] {
  const earlier = scenarios.slice(0, scenarios.indexOf(scenario)).flatMap(({ peers }) => peers);
  return scenario.peers.filter((peer) => isOurs(peer) || !earlier.includes(peer));
}

function missing(scenario: Scenario, peer: string): string | undefined {
  if (scenario.missing !== undefined) return scenario.missing(peer);
  const server = servers[peer];
  return server === undefined ? 'there is no such server' : server.missing();
}

// ── the end before the end ──────────────────────────────────────────────────────────────────────────────

interface Stop {
  /** Its reason is the name of a signal, or an error that nobody caught. */
  readonly signal: AbortSignal;
  /** Rejects at the same time. */
  readonly over: Promise<never>;
  release(): void;
}

/** An error that no scenario catches also ends the run, and not the process before the report is written. */
function stopAt(interrupted: AbortSignal): Stop {
  const fatal = new AbortController();
  const onError = (error: Error) => {
    // What a scenario does that is no longer waited for may well fail.
    if (!signal.aborted) console.error(error);
    fatal.abort(error);
  };
  const signal = AbortSignal.any([interrupted, fatal.signal]);
  process.on('uncaughtException', onError);
  const over = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    if (signal.aborted) reject(signal.reason);
  });
  over.catch(() => {});
  return { signal, over, release: () => void process.off('uncaughtException', onError) };
}

function codeOf({ aborted, reason }: AbortSignal): 1 | 130 | undefined {
  if (!aborted) return undefined;
  return reason instanceof Error ? 1 : 130;
}

/** Why the report is incomplete; `undefined` when it is not. */
function incompleteness(
  works: readonly ScenarioWork[],
  failures: readonly Skipped[],
  { aborted, reason }: AbortSignal,
): string | undefined {
  const [done, all] = [sumOf(works, 'done'), sumOf(works, 'runs')];
  const why = reason instanceof Error ? `by an error: ${new Failure(reason).reason}` : `by ${reason}`;
  if (aborted) return `the run was interrupted ${why}, after ${done} of ${all} rounds`;
  const failed = [...new Set(failures.map(({ scenario, peer }) => `${scenario} (${peer})`))];
  return failed.length === 0 ? undefined : `not everything was measured: ${failed.join(', ')}`;
}

function sumOf(works: readonly ScenarioWork[], name: 'done' | 'runs'): number {
  return works.reduce((sum, work) => sum + work[name], 0);
}

// ── the runs ────────────────────────────────────────────────────────────────────────────────────────────

interface Going {
  readonly bar: Bar;
  readonly runs: Run[];
  /** Seconds. */
  readonly budget: number;
  readonly against: Commit | undefined;
  readonly stop: Stop;
}

/** Runs everything, repetition by repetition, until all is done or the time is over; returns what failed. */
async function runAll(works: readonly ScenarioWork[], going: Going, options: RunOptions): Promise<Skipped[]> {
  const start = performance.now();
  const left = () => (going.stop.signal.aborted ? 0 : going.budget - (performance.now() - start) / 1000);
  const failures: Skipped[] = [];
  const underWay = new Set<ScenarioWork>();
  // Where figures mean nothing, two scenarios may share the cores.
  const isOne = going.against === undefined && works.every(({ node }) => node === works[0]!.node);
  const lanes = isTrial(options) && isOne ? 2 : 1;
  const next = () =>
    nextOf(
      works.filter((work) => !underWay.has(work)),
      left(),
    );
  const runOneByOne = async (): Promise<void> => {
    for (let work = next(); work !== undefined; work = next()) {
      underWay.add(work);
      const begun = performance.now();
      const known = going.runs.length;
      failures.push(...(await repeatOnce(work, going, options, () => expected(works, left()) / lanes)));
      underWay.delete(work);
      if (going.stop.signal.aborted) break;
      // A scenario that caps its repetitions has run nothing more.
      if (going.runs.length === known) work.runs = work.done;
      work.seconds = (performance.now() - begun) / 1000;
      work.done++;
    }
  };
  await Promise.all(Array.from({ length: lanes }, runOneByOne));
  const reason = going.stop.signal.aborted
    ? 'the run was interrupted before'
    : 'no time was left; run the scenario by its name';
  const never = works.filter(({ done }) => done === 0);
  return [...failures, ...never.map(({ scenario: { name } }) => ({ scenario: name, peer: 'all', reason }))];
}

/** Runs one peer after the other, so that a failure of one does not affect the others, or all in one call. */
async function repeatOnce(
  { name, scenario, peers, node, done, runs, seconds }: ScenarioWork,
  { bar, runs: all, against, stop }: Going,
  options: RunOptions,
  expectedSeconds: () => number,
): Promise<Skipped[]> {
  const { payloads, benches, isQuick, isTargets } = options;
  const batches = options.batches ?? (isTrial(options) ? QUICK_BATCHES : undefined);
  const connections = options.connections ?? (isQuick && !isTargets ? QUICK_CONNECTIONS : undefined);
  const failures: Skipped[] = [];
  choose(node);
  const note = (run: Run) => {
    if (stop.signal.aborted) return;
    const parameters = name === scenario.name ? run.parameters : { ...run.parameters, node: node.name };
    const invalid = isTrial(options) && run.invalid === LIMITED ? undefined : run.invalid;
    all.push({ ...run, parameters, invalid });
    if (invalid !== undefined) bar.say(`${name} ${run.peer} does not count: ${invalid}`);
  };
  // Which one runs first alternates, so that a machine that slows down favours none.
  const inTurn = done % 2 === 0 ? peers : peers.toReversed();
  const parts = scenario.isTogether ? [peers] : inTurn.map((peer) => [peer]);
  for (const [i, part] of parts.entries()) {
    const left = expectedSeconds() - (seconds * i) / parts.length;
    bar.begin(`${name}${part.length === 1 ? ` ${part[0]}` : ''} ${done + 1}/${runs}`, left);
    const settings = {
      peers: part,
      runs: done + 1,
      first: done,
      connections,
      batches,
      payloads,
      benches,
      isQuick,
      against,
    };
    try {
      await Promise.race([scenario.run(settings, note), stop.over]);
    } catch (error) {
      if (stop.signal.aborted) return failures;
      const { reason } = new Failure(error as Error);
      bar.say(`${name} ${part.join(', ')} failed: ${reason}`);
      failures.push({ scenario: scenario.name, peer: part.join(', '), reason });
    }
  }
  return failures;
}

// ── the report ──────────────────────────────────────────────────────────────────────────────────────────

/** Each target on each Node. */
function verdictsOn(nodes: readonly NodeProgram[], runs: readonly Run[]): Verdict[] {
  if (nodes.length === 1) return verdictsOf(targets, measurementsOf(runs));
  const each = nodes.map(({ name }) =>
    verdictsOf(targets, measurementsOf(runs.filter(({ parameters }) => parameters.node === name))),
  );
  return targets.flatMap((_, i) => each.map((of, j) => ({ ...of[i]!, node: nodes[j]!.name })));
}

/** What the terminal shows. */
function linesOf(report: Report): string[] {
  const { verdicts, against, runs, incomplete } = report;
  return [
    ...(verdicts === undefined ? summaryLines(report) : verdictLines(verdicts)),
    ...nodeLines(report),
    ...(against === undefined ? [] : changeLines(against, changesSince(against, runs))),
    ...warningsOf({ isQuick: false, incomplete }).map((text) => `\n${text}`),
  ];
}

async function guarantees(): Promise<Guarantees | undefined> {
  try {
    const module = await import(new URL('../peers/guarantees.ts', import.meta.url).href);
    const { guarantees: all, guaranteeTitles: titled = {} } = module as {
      guarantees: Guarantees;
      guaranteeTitles?: Readonly<Record<string, string>>;
    };
    const titleAll = (of: Guarantees[string]) =>
      Object.fromEntries(Object.entries(of).map(([name, value]) => [titled[name] ?? name, value]));
    return Object.fromEntries(Object.entries(all).map(([peer, of]) => [peer, titleAll(of)]));
  } catch {
    return undefined;
  }
}

function write(report: Report, out: string): string[] {
  mkdirSync(out, { recursive: true });
  const name = report.environment.date.slice(0, 19).replaceAll(':', '');
  const kinds = { json: toJson(report), md: toMarkdown(report), html: toHtml(report) };
  return Object.entries(kinds).map(([kind, content]) => {
    const path = join(out, `${name}.${kind}`);
    writeFileSync(path, content);
    return path;
  });
}

/** The most important figure of each peer. */
function summaryLines({ runs, titles }: Report): string[] {
  return aggregate(runs).flatMap(({ scenario, parameters, peers }) => [
    `\n${[scenario, parametersOf(parameters)].filter(Boolean).join(', ')}`,
    ...peers.map(({ peer, figures: own, byFloor, invalid }) => {
      const figure = headlineOf((name) => own[name] !== undefined);
      const title = (titles[peer] ?? peer).padEnd(34);
      if (figure === undefined)
        return `  ${title} ${invalid.length > 0 ? `does not count: ${invalid[0]}` : 'ran, without a figure'}`;
      const ratio = byFloor[figure] === undefined ? '' : `  ${number(byFloor[figure].median)} × floor`;
      return `  ${title} ${withInterval(own[figure]!)} ${figures[figure].unit}${ratio}`;
    }),
  ]);
}

export function verdictLines(verdicts: readonly Verdict[]): string[] {
  const words = { true: 'holds', false: 'FAILS', undefined: 'not measured' };
  const count = (wanted: boolean | undefined) => verdicts.filter(({ holds }) => holds === wanted).length;
  return [
    ...verdicts.map(({ what, text, node, figure, floor, holds }) => {
      const beside = floor === undefined ? '' : ` (floor: ${floor})`;
      const where = node === undefined ? '' : `${node}: `;
      return `${words[`${holds}`].padEnd(13)}${where}${what}: ${text}\n${''.padEnd(13)}${figure}${beside}`;
    }),
    `\n${count(true)} hold, ${count(false)} do not, ${count(undefined)} were not measured`,
  ];
}
