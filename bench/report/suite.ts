// Runs scenarios, shows the progress, and writes the reports.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Commit, checkOut } from '../loads/commit.ts';
import { addServersOf, servers } from '../loads/servers.ts';
import type { RunOptions } from '../options.ts';
import { expected, guess, nextOf, type Work } from '../plan.ts';
import { figures, isOurs, peerAt, type Run, type Scenario } from '../scenarios/scenario.ts';
import { Failure } from '../scenarios/stage.ts';
import { needsOf, targets, verdictsOf } from '../targets.ts';
import { aggregate, measurementsOf } from './aggregate.ts';
import { type Bar, startBar } from './bar.ts';
import { changeLines, changesSince } from './compare.ts';
import { environment, headLines } from './environment.ts';
import { headlineOf, number, parametersOf, withInterval } from './format.ts';
import { toHtml } from './html.ts';
import { toJson } from './json.ts';
import { toMarkdown } from './markdown.ts';
import type { Environment, Guarantees, Report, Skipped, Verdict } from './report.ts';

/** Seconds for all scenarios; with start and reports the command takes 20 minutes. */
const BUDGET = 19 * 60;

interface ScenarioWork extends Work {
  readonly scenario: Scenario;
  readonly peers: readonly string[];
}

/**
 * @returns the exit code: 1 when a scenario failed, a run of ours was invalid, a target is missed, or a
 * figure is worse than at the other commit.
 * @throws {Misuse} when the other commit cannot be checked out.
 */
export async function runSuite(options: RunOptions): Promise<0 | 1> {
  const { isAll, isTargets, isQuick, out } = options;
  const against = options.against === undefined ? undefined : checkOut(options.against);
  if (against !== undefined) addServersOf(against);
  const skipped: Skipped[] = [];
  const works = worksOf(options, against, skipped);
  const bar = startBar();
  const here = environment();
  for (const line of headLines({ environment: here, isQuick })) bar.say(line);
  for (const { scenario, peer, reason } of skipped) bar.say(`${scenario}: ${peer} is skipped: ${reason}`);
  const runs: Run[] = [];
  const failures = await runAll(
    works,
    { bar, runs, budget: isAll && !isQuick ? BUDGET : Infinity, against },
    options,
  );
  bar.stop();
  const verdicts = isTargets ? verdictsOf(targets, measurementsOf(runs)) : undefined;
  const report = await reportOf(here, isQuick, works, runs, [...skipped, ...failures], verdicts, against);
  for (const line of verdicts === undefined ? summaryLines(report) : verdictLines(verdicts))
    console.log(line);
  const changes = against && changesSince(against.name, runs);
  for (const line of changes === undefined ? [] : changeLines(against!.name, changes)) console.log(line);
  for (const path of write(report, out)) console.log(path);
  const isWrong = runs.some(({ peer, invalid }) => isOurs(peer) && invalid !== undefined);
  const isMissed = verdicts?.some(({ holds }) => holds === false) ?? false;
  const isWorse = changes?.length === 0 || (changes?.some(({ verdict }) => verdict === 'worse') ?? false);
  return failures.length > 0 || isWrong || isMissed || isWorse ? 1 : 0;
}

/** What will run; peers that cannot run are added to `skipped`. */
function worksOf(options: RunOptions, against: Commit | undefined, skipped: Skipped[]): ScenarioWork[] {
  const needs = options.isTargets ? needsOf(targets) : undefined;
  return options.scenarios.flatMap((scenario) => {
    const wanted = needs === undefined ? (options.peers ?? scenario.peers) : (needs.get(scenario.name) ?? []);
    const peers = scenario.peers
      .filter((peer) => wanted.includes(peer))
      .flatMap((peer) => (against !== undefined && isOurs(peer) ? [peer, peerAt(peer, against.name)] : peer))
      .filter((peer) => {
        const reason = missing(scenario, peer);
        if (reason !== undefined) skipped.push({ scenario: scenario.name, peer, reason });
        return reason === undefined;
      });
    if (peers.length === 0) return [];
    const seconds = guess(scenario.name, peers.length, options.isQuick);
    return { name: scenario.name, scenario, peers, runs: options.runs, done: 0, seconds };
  });
}

function missing(scenario: Scenario, peer: string): string | undefined {
  if (scenario.missing !== undefined) return scenario.missing(peer);
  const server = servers[peer];
  return server === undefined ? 'there is no such server' : server.missing();
}

interface Going {
  readonly bar: Bar;
  readonly runs: Run[];
  /** Seconds. */
  readonly budget: number;
  readonly against: Commit | undefined;
}

/** Runs everything, repetition by repetition, until all is done or the time is over; returns what failed. */
async function runAll(works: readonly ScenarioWork[], going: Going, options: RunOptions): Promise<Skipped[]> {
  const start = performance.now();
  const left = () => going.budget - (performance.now() - start) / 1000;
  const failures: Skipped[] = [];
  for (let work = nextOf(works, left()); work !== undefined; work = nextOf(works, left())) {
    const begun = performance.now();
    const known = going.runs.length;
    failures.push(...(await repeatOnce(work, going, options, () => expected(works, left()))));
    // A scenario that caps its repetitions has run nothing more.
    if (going.runs.length === known) work.runs = work.done;
    work.seconds = (performance.now() - begun) / 1000;
    work.done++;
  }
  const never = works.filter(({ done }) => done === 0);
  return [
    ...failures,
    ...never.map(({ name }) => ({
      scenario: name,
      peer: 'all',
      reason: 'no time was left; run the scenario by its name',
    })),
  ];
}

/** Runs one peer after the other, so that a failure of one does not affect the others, or all in one call. */
async function repeatOnce(
  { name, scenario, peers, done, runs, seconds }: ScenarioWork,
  going: Going,
  options: RunOptions,
  expectedSeconds: () => number,
): Promise<Skipped[]> {
  const { connections, batches, payloads, benches, isQuick } = options;
  const { against } = going;
  const failures: Skipped[] = [];
  // Which one runs first alternates, so that a machine that slows down favours none.
  const inTurn = done % 2 === 0 ? peers : peers.toReversed();
  const parts = scenario.isTogether ? [peers] : inTurn.map((peer) => [peer]);
  for (const [i, part] of parts.entries()) {
    const left = expectedSeconds() - (seconds * i) / parts.length;
    going.bar.begin(`${name}${part.length === 1 ? ` ${part[0]}` : ''} ${done + 1}/${runs}`, left);
    try {
      await scenario.run(
        {
          peers: part,
          runs: done + 1,
          first: done,
          connections,
          batches,
          payloads,
          benches,
          isQuick,
          against,
        },
        (run) => {
          going.runs.push(run);
          if (run.invalid !== undefined) going.bar.say(`${name} ${run.peer} does not count: ${run.invalid}`);
        },
      );
    } catch (error) {
      const { reason } = new Failure(error as Error);
      going.bar.say(`${name} ${part.join(', ')} failed: ${reason}`);
      failures.push({ scenario: name, peer: part.join(', '), reason });
    }
  }
  return failures;
}

// ── the report ──────────────────────────────────────────────────────────────────────────────────────────

async function reportOf(
  here: Environment,
  isQuick: boolean,
  works: readonly ScenarioWork[],
  runs: readonly Run[],
  skipped: readonly Skipped[],
  verdicts: readonly Verdict[] | undefined,
  against: Commit | undefined,
): Promise<Report> {
  return {
    environment: here,
    isQuick,
    scenarios: works.map(({ scenario: { name, constant, shows } }) => ({ name, constant, shows })),
    titles: Object.fromEntries(Object.entries(servers).map(([name, { title }]) => [name, title])),
    skipped,
    runs,
    verdicts,
    against: against?.name,
    guarantees: await guarantees(),
  };
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
      if (figure === undefined) return `  ${title} does not count: ${invalid[0]}`;
      const ratio = byFloor[figure] === undefined ? '' : `  ${number(byFloor[figure].median)} × floor`;
      return `  ${title} ${withInterval(own[figure]!)} ${figures[figure].unit}${ratio}`;
    }),
  ]);
}

export function verdictLines(verdicts: readonly Verdict[]): string[] {
  const words = { true: 'holds', false: 'FAILS', undefined: 'not measured' };
  const count = (wanted: boolean | undefined) => verdicts.filter(({ holds }) => holds === wanted).length;
  return [
    ...verdicts.map(({ what, text, figure, floor, holds }) => {
      const beside = floor === undefined ? '' : ` (floor: ${floor})`;
      return `${words[`${holds}`].padEnd(13)}${what}: ${text}\n${''.padEnd(13)}${figure}${beside}`;
    }),
    `\n${count(true)} hold, ${count(false)} do not, ${count(undefined)} were not measured`,
  ];
}
