// Measures what a delivery costs, and checks that the reader got what was published.

import { setTimeout as sleep } from 'node:timers/promises';
import { type RunOrder, type Usage, usageOf } from '../loads/lead.ts';
import type { Percentiles } from '../loads/reader.ts';
import type { Figure } from './scenario.ts';
import { Failure, type Stage } from './stage.ts';

export interface Measured {
  readonly figures: Partial<Record<Figure, number>>;
  readonly invalid: string | undefined;
}

/** What is published, and on how many connections it arrives. */
export interface Play {
  readonly order: RunOrder;
  readonly connections: number;
  /** How many of them are checked; default all. */
  readonly checked?: number | undefined;
}

export const LIMITED = 'the reader was the limit';
/** Microseconds that a reader that reads once a millisecond may take to notice that it has everything. */
const PATIENCE = 50_000;

/** Where all clients wait for the server, it must be busy; if it was not, it waited for the reader. */
export function limitOf({ user, system }: Used, elapsed: number): string | undefined {
  return user + system < (elapsed * 2) / 3 ? LIMITED : undefined;
}

/** Milliseconds to wait for events that are delivered twice. */
const GRACE = 20;

/** Microseconds of CPU time. */
export type Used = Omit<Usage, 'rss'>;

interface Slice {
  readonly used: Used;
  readonly deliveries: number;
  readonly bytes: number;
  readonly latency: Percentiles;
  /** Microseconds that publishing took. */
  readonly elapsed: number;
  /** Microseconds from then until everything was read, without those in which the server was still busy. */
  readonly waited: number;
  readonly complaint: string | undefined;
}

async function play(
  { server, reader }: Stage,
  { order, connections, checked = connections }: Play,
): Promise<Slice> {
  await reader.ask({ do: 'reset' });
  const before = usageOf(server.pids());
  const { turns, elapsed } = await server.run(order);
  const stopped = performance.now();
  const atStop = usageOf(server.pids());
  const events = turns * (order.batch ?? 1);
  await reader.ask({ do: 'await', events: events * checked });
  const late = (performance.now() - stopped) * 1000;
  const after = usageOf(server.pids());
  const { user, system } = usedBetween(atStop, after);
  await sleep(GRACE);
  const answer = await reader.ask({ do: 'await', events: events * checked });
  return {
    used: usedBetween(before, after),
    deliveries: events * connections,
    bytes: answer.bytes,
    latency: answer.latency,
    elapsed,
    waited: Math.max(0, late - user - system),
    complaint: complaint(answer, events * checked),
  };
}

/**
 * Publishes, and measures what a delivery costs. Every event of the checked connections is checked: a run in
 * which one was lost, duplicated or out of order has no figures, and neither has one in which the reader was
 * the limit.
 */
export async function measure(stage: Stage, what: Play): Promise<Measured> {
  const slice = await play(stage, what);
  const { figures, invalid } = measuredOf([slice]);
  const { latency } = slice;
  if (invalid !== undefined || latency.count === 0) return { figures, invalid };
  return { figures: { ...figures, ...latencyOf(latency) }, invalid };
}

/** One of several servers that are measured in turns. */
export interface Act extends Play {
  /** The server, or why it did not start. */
  readonly stage: Stage | Failure;
  /** Runs before the first turn; default: publishes for half of the order's duration. */
  prepare?(stage: Stage): Promise<void>;
}

/** Turns of each server. */
const SLICES = 4;

/**
 * Measures several servers in turns, each for a part of its order's duration, so that a change of the
 * machine's speed affects all of them. A server that fails has no figures; the others go on.
 */
export async function measureInTurns(acts: readonly Act[]): Promise<Measured[]> {
  const slices = acts.map((): Slice[] => []);
  const failures = new Map<Act, Failure>();
  const withEach = async (work: (act: Act, stage: Stage, i: number) => Promise<unknown>) => {
    for (const [i, act] of acts.entries()) {
      if (act.stage instanceof Failure) failures.set(act, act.stage);
      if (act.stage instanceof Failure || failures.has(act)) continue;
      await work(act, act.stage, i).catch((error: Error) => failures.set(act, new Failure(error)));
    }
  };
  await withEach((act, stage) => act.prepare?.(stage) ?? warm(stage, inPart(act, 1 / 2)));
  for (let turn = 0; turn < SLICES; turn++) {
    await withEach(async (act, stage, i) => {
      const slice = await play(stage, inPart(act, 1 / SLICES));
      if (slice.complaint !== undefined) throw new Error(slice.complaint);
      slices[i]!.push(slice);
    });
  }
  return acts.map((act, i) => {
    const failure = failures.get(act);
    return failure === undefined ? measuredOf(slices[i]!) : { figures: {}, invalid: failure.reason };
  });
}

/** Measures several servers at the same time; for work that takes long and uses little CPU time. */
export function together(
  stages: readonly (Stage | Failure)[],
  work: (stage: Stage, i: number) => Promise<Measured>,
): Promise<Measured[]> {
  return Promise.all(
    stages.map(async (stage, i) => {
      if (stage instanceof Failure) return { figures: {}, invalid: stage.reason };
      return work(stage, i).catch((error: Error) => ({ figures: {}, invalid: new Failure(error).reason }));
    }),
  );
}

function inPart(one: Play, part: number): Play {
  return { ...one, order: { ...one.order, duration: (one.order.duration ?? 0) * part } };
}

/** Publishes without measuring, so that V8 has compiled the code before it is measured. */
export async function warm({ server, reader }: Stage, { order, connections, checked }: Play): Promise<void> {
  await reader.ask({ do: 'reset' });
  const { turns } = await server.run(order);
  await reader.ask({ do: 'await', events: turns * (order.batch ?? 1) * (checked ?? connections) });
}

function measuredOf(slices: readonly Slice[]): Measured {
  const sum = (of: (slice: Slice) => number) => slices.reduce((total, slice) => total + of(slice), 0);
  const deliveries = sum((slice) => slice.deliveries);
  const elapsed = sum((slice) => slice.elapsed);
  const isLimited = sum(({ waited }) => waited) > elapsed / 10 + slices.length * PATIENCE;
  const invalid = slices.flatMap((slice) => slice.complaint ?? [])[0] ?? (isLimited ? LIMITED : undefined);
  if (invalid !== undefined) return { figures: {}, invalid };
  const used = { user: sum(({ used: { user } }) => user), system: sum(({ used: { system } }) => system) };
  return {
    figures: {
      ...costOf(used, deliveries),
      deliveriesPerSecond: deliveries / (elapsed / 1e6),
      bytesPerDelivery: sum(({ bytes }) => bytes) / deliveries,
    },
    invalid: undefined,
  };
}

export function usedBetween(before: Usage, after: Usage): Used {
  return { user: after.user - before.user, system: after.system - before.system };
}

export function costOf(
  { user, system }: Used,
  deliveries: number,
): Record<'cpuPerDelivery' | 'userPerDelivery' | 'systemPerDelivery', number> {
  // The kernel splits its exact sum by ticks of 10 ms, so a part may shrink between two readings.
  const inUser = Math.min(user + system, Math.max(0, user));
  return {
    cpuPerDelivery: (user + system) / deliveries,
    userPerDelivery: inUser / deliveries,
    systemPerDelivery: (user + system - inUser) / deliveries,
  };
}

export function latencyOf(latency: Percentiles): Record<'p50' | 'p90' | 'p99' | 'p999' | 'max', number> {
  const { p50, p90, p99, p999, max } = latency;
  return { p50, p90, p99, p999, max };
}

/** CPU time in percent of one core over `elapsed` milliseconds. */
export function percentOf(before: Usage, after: Usage, elapsed: number): number {
  return (after.user - before.user + after.system - before.system) / elapsed / 10;
}

/** What is wrong with what the reader got; `undefined` when nothing is. */
export function complaint(
  answer: { events: number; disorder: number; negative: number; lost: number },
  expected: number,
): string | undefined {
  if (expected === 0) return 'nothing was published';
  if (answer.events === 0) return 'nothing was delivered';
  if (answer.lost > 0) return `${answer.lost} connections were lost`;
  if (answer.events < expected) return `${expected - answer.events} of ${expected} events were not delivered`;
  if (answer.events > expected) return `${answer.events - expected} events too many were delivered`;
  if (answer.disorder > 0) return `${answer.disorder} events were lost, doubled or out of order`;
  if (answer.negative > 0) return `${answer.negative} events arrived before they were due`;
  return undefined;
}
