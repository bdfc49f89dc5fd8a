// What happens in a simulation, step by step: drawn from a seed, or read from a trace.

import { Chance, type Draws, type Stream } from './chance.ts';
import type { ReaderPlan } from './reader.ts';

/**
 * `own`: a modelled file. `sqlite`: a real one, of which a run takes longer. `shared`: a modelled store. `redis`: a
 * modelled server, and the real log with its scripts.
 */
export const kinds = ['memory', 'own', 'sqlite', 'shared', 'redis'] as const;
export type Kind = (typeof kinds)[number];

/** One thing that happens, at a time in milliseconds. */
export type Step = { readonly at: number } & (
  | {
      readonly do: 'publish';
      readonly topic: string;
      readonly key?: string | undefined;
      readonly count: number;
      /** Whether its publisher sends it again where it got no answer. */
      readonly retries: boolean;
      /** Whether it takes the id before the log has the event, where that is possible. */
      readonly isHasty?: boolean;
    }
  | { readonly do: 'change'; readonly topic: string; readonly change: 'end' | 'reopen' | 'delete' }
  | { readonly do: 'kick' | 'stop' | 'crash'; readonly node: number; readonly down: number }
  | { readonly do: 'cut' | 'half-dead'; readonly client: number }
  /** Cuts the connection of a client as soon as it is in that state. */
  | { readonly do: 'arm'; readonly client: number; readonly when: Trigger }
  | { readonly do: 'restart client'; readonly client: number; readonly down: number }
  | { readonly do: 'forge'; readonly client: number; readonly as: Forgery }
  | { readonly do: 'withdraw'; readonly client: number; readonly topic: string }
  /** The store, or the file of one node. */
  | { readonly do: 'fail over' | 'restart store'; readonly lost: number }
  | { readonly do: 'split'; readonly node: number; readonly lost: number; readonly lasts: number }
  | { readonly do: 'rename order' | 'trim feed' | 'flush' | 'evict meta' | 'evict index' }
  | { readonly do: 'disconnect'; readonly node: number; readonly lasts: number }
  | { readonly do: 'trim'; readonly topic: string; readonly keep: number }
  | { readonly do: 'evict'; readonly topic: string }
  | { readonly do: 'lose wakes' | 'lose answers'; readonly lasts: number }
  | { readonly do: 'fail appends'; readonly times: number }
  /** Of Redis: keys that can be made again, and no memory for writes. */
  | { readonly do: 'evict helper'; readonly topic: string }
  | { readonly do: 'no memory'; readonly lasts: number }
);

/** Whether several nodes have one store. */
export function isShared(kind: Kind): boolean {
  return kind === 'shared' || kind === 'redis';
}

export const triggers = [
  'gap under way',
  'inside a frame',
  'before the first event',
  'between two',
  'reading',
] as const;
export type Trigger = (typeof triggers)[number];
export const forgeries = ['malformed', 'future', 'foreign', 'old'] as const;
export type Forgery = (typeof forgeries)[number];

export interface Scenario {
  readonly seed: number;
  readonly kind: Kind;
  readonly nodes: number;
  readonly topics: readonly string[];
  /** Of the store: whether it takes a restart and a promotion for the same order, because nothing is ever lost. */
  readonly lineage: 'gap' | 'trust';
  /** Most events that memory keeps of a topic, and the log. */
  readonly memory: number;
  readonly kept: number;
  readonly maxFeed: number;
  readonly pageBytes: number;
  readonly readers: readonly ReaderPlan[];
  readonly steps: readonly Step[];
  readonly length: number;
}

/** A scenario, and what was drawn when it ran: replays alone. */
export interface Trace {
  readonly scenario: Scenario;
  readonly draws: Draws;
}

export function scenarioOf(seed: number, only?: Kind): Scenario {
  const chance = new Chance(seed).stream('scenario');
  const kind = only ?? chance.pick(['memory', 'own', 'own', 'shared', 'shared', 'shared'] as const);
  const topics = ['a', 'b', 'c'].slice(0, 1 + chance.below(3));
  const nodes = isShared(kind) ? 2 + chance.below(2) : 1;
  const readers = Array.from({ length: 3 + chance.below(3) }, (_, i) => readerOf(chance, i, topics));
  const length = 1500 + chance.below(1500);
  const count = 25 + chance.below(30);
  const lineage = chance.of(0.2) ? 'trust' : 'gap';
  const steps = Array.from({ length: count }, () =>
    stepOf(chance, kind, nodes, readers.length, topics, length),
  ).flatMap((step) => (lineage === 'gap' ? [step] : withoutLoss(step)));
  return {
    seed,
    kind,
    nodes,
    topics,
    lineage,
    memory: chance.pick([2, 4, 10, 1000]),
    kept: chance.pick([3, 6, 20, 1000]),
    maxFeed: chance.pick([2, 8, 1000]),
    pageBytes: chance.pick([1, 150, 600, 65_536]),
    readers,
    steps: steps.sort((a, b) => a.at - b.at),
    length,
  };
}

/** What may happen to a store that loses nothing. */
function withoutLoss(step: Step): Step[] {
  if (step.do === 'split') return [];
  return 'lost' in step ? [{ ...step, lost: 0 }] : [step];
}

function readerOf(chance: Stream, i: number, topics: readonly string[]): ReaderPlan {
  const own = topics.filter(() => chance.of(0.7));
  return {
    name: `client ${i + 1}`,
    topics: own.length > 0 ? own : [topics[0]!],
    conflate: chance.of(0.25),
    slowness: chance.of(0.35) ? chance.pick([5, 30, 120]) : 0,
    persists: chance.pick(['late', 'late', 'early', 'never'] as const),
    from: chance.pick(['', '', 'earliest', 'last'] as const),
  };
}

function stepOf(
  chance: Stream,
  kind: Kind,
  nodes: number,
  readers: number,
  topics: readonly string[],
  length: number,
): Step {
  const at = chance.below(length);
  const topic = chance.pick(topics);
  const client = chance.below(readers);
  const node = chance.below(nodes);
  const key = chance.of(0.3) ? chance.pick(['x', 'y']) : undefined;
  if (chance.of(0.5)) {
    const isBatch = chance.of(0.25);
    return {
      at,
      do: 'publish',
      topic,
      key,
      count: isBatch ? 1 + chance.below(4) : 1,
      retries: chance.of(0.8),
    };
  }
  const common: (() => Step)[] = [
    () => ({ at, do: 'change', topic, change: chance.pick(['end', 'reopen', 'reopen', 'delete'] as const) }),
    () => ({ at, do: chance.pick(['kick', 'stop', 'crash'] as const), node, down: 20 + chance.below(600) }),
    () => ({ at, do: 'cut', client }),
    () => ({ at, do: 'half-dead', client }),
    () => ({ at, do: 'arm', client, when: chance.pick(triggers) }),
    () => ({ at, do: 'arm', client, when: chance.pick(triggers) }),
    () => ({ at, do: 'restart client', client, down: chance.below(300) }),
    () => ({ at, do: 'forge', client, as: chance.pick(forgeries) }),
    () => (chance.of(0.3) ? { at, do: 'withdraw', client, topic } : { at, do: 'cut', client }),
  ];
  const logged: (() => Step)[] = [
    () => ({ at, do: 'trim', topic, keep: chance.below(3) }),
    () => ({ at, do: 'trim', topic, keep: chance.below(3) }),
  ];
  const owned: (() => Step)[] = [
    ...logged,
    () => ({ at, do: 'fail appends', times: 1 + chance.below(3) }),
    () => ({ at, do: 'restart store', lost: chance.below(4) }),
  ];
  const shared: (() => Step)[] = [
    ...logged,
    () => ({ at, do: 'fail over', lost: chance.below(4) }),
    () => ({ at, do: 'restart store', lost: chance.pick([0, 0, 2]) }),
    () => ({ at, do: 'split', node, lost: chance.below(3), lasts: 100 + chance.below(1500) }),
    () => ({
      at,
      do: chance.pick(['rename order', 'trim feed', 'flush', 'evict meta', 'evict index'] as const),
    }),
    () => ({ at, do: 'disconnect', node, lasts: 20 + chance.below(1500) }),
    () => ({ at, do: 'evict', topic }),
    () => ({ at, do: chance.pick(['lose wakes', 'lose answers'] as const), lasts: 50 + chance.below(400) }),
  ];
  const redis: (() => Step)[] = [
    ...shared,
    () => ({ at, do: 'evict helper', topic }),
    () => ({ at, do: 'no memory', lasts: 20 + chance.below(600) }),
  ];
  const extra = { memory: [], own: owned, sqlite: owned, shared, redis }[kind];
  return chance.pick(extra.length > 0 && chance.of(0.45) ? extra : common)();
}
