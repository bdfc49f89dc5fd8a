// Whether the simulation notices: its checker names each kind of fault, in evidence written by hand and in runs
// with a log, a store or a door that is wrong on purpose. And whether its clock is one.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LogEntry, LogIntake, LogPage, SharedLog } from '../lib/log.ts';
import {
  type Disturbance,
  findingNames,
  type Item,
  judge,
  type Life,
  type Publication,
} from './simulation/nodes/checker.ts';
import { Clock } from './simulation/nodes/clock.ts';
import { type Kind, scenarioOf } from './simulation/nodes/scenario.ts';
import { runScenario, type Spoilers } from './simulation/nodes/world.ts';

// ── evidence by hand ──────────────────────────────────────────────────────────────────────────────────────

const event = (n: number, id: string, topic = 'a'): Item => ({ kind: 'event', time: 10 + n, id, topic, n });
const ready = (id: string): Item => ({ kind: 'ready', time: 1, id });
const gap = (reason: string, from: string | null, to: string, topics = ['a']): Item => ({
  kind: 'gap',
  time: 50,
  id: to,
  reason,
  from,
  to,
  topics,
});

function namesOf(
  items: readonly Item[],
  {
    answers = { 1: '7-1', 2: '7-2', 3: '7-3' },
    others = [],
    fate = 'running',
    disturbances = [],
    withdrawnAt = Infinity,
  }: {
    answers?: Record<number, string>;
    others?: readonly Item[];
    fate?: Life['fate'];
    disturbances?: readonly Disturbance[];
    withdrawnAt?: number;
  } = {},
): string[] {
  const publications = Object.entries(answers).map(([number, id]): [number, Publication] => {
    const n = Number(number);
    const common = {
      topic: 'a',
      key: undefined,
      batch: [n],
      attempts: 1,
      isIdempotent: false,
      isRefused: false,
    };
    return [n, { n, sentAt: n, id, answeredAt: n, ...common }];
  });
  const life = (client: string, own: readonly Item[], end: Life['fate']): Life => ({
    client,
    topics: ['a'],
    conflate: false,
    start: '',
    isFromEarlier: false,
    isForged: false,
    items: [...own],
    asks: [],
    fate: end,
  });
  const lives = [life('victim', items, fate), life('other', others, 'crashed')];
  const evidence = {
    publications: new Map(publications),
    lives,
    disturbances,
    withdrawnAt: () => withdrawnAt,
    keptOf: () => 10,
    strays: new Set<number>(),
    ended: new Set<string>(),
  };
  return judge(evidence).map(({ name }) => name);
}

const all = [ready('7-0'), event(1, '7-1'), event(2, '7-2'), event(3, '7-3')];
const order: readonly Disturbance[] = [{ time: 0, kind: 'order' }];

describe('the checker', () => {
  const cases: [string, readonly string[], string[]][] = [
    ['finds nothing where all has arrived', namesOf(all), []],
    [
      'names an event that others received, and this client did not',
      namesOf([all[0]!, all[1]!, all[3]!], { others: all }),
      ['silent-hole'],
    ],
    ['names an event that came twice', namesOf([...all.slice(0, 3), all[2]!, all[3]!]), ['duplicate']],
    [
      'names an event that came after a later one',
      namesOf([all[0]!, all[2]!, all[1]!, all[3]!]),
      ['silent-hole', 'reorder'],
    ],
    ['names an event that nobody published', namesOf([...all, event(4, '7-4')]), ['phantom']],
    [
      'names an id that two events have',
      namesOf([...all, event(4, '7-3')], { answers: { 1: '7-1', 2: '7-2', 3: '7-3', 4: '7-4' } }).slice(0, 1),
      ['inconsistent-id'],
    ],
    [
      'names an event that its reader may not have',
      namesOf(all, { withdrawnAt: 2 }).slice(0, 1),
      ['wrong-tenant'],
    ],
    [
      'names an event that was answered, and nobody received',
      namesOf([all[0]!, all[1]!, all[3]!]),
      ['lost-write'],
    ],
    ['names the newest event where it never came', namesOf(all.slice(0, 3)), ['unseen-tail']],
    [
      'names a gap that covers what had arrived',
      namesOf([...all.slice(0, 3), gap('evicted', '7-1', '7-2'), all[3]!]),
      ['false-gap'],
    ],
    [
      'names a gap that covers nothing',
      namesOf([...all.slice(0, 3), gap('evicted', '7-2', '7-2'), all[3]!]),
      ['false-gap'],
    ],
    [
      'names a new epoch for which there was no cause',
      namesOf([...all, gap('store-changed', '7-3', '8-0')]),
      ['unexplained-gap'],
    ],
    [
      'takes a new epoch where there was a cause',
      namesOf([...all, gap('store-changed', '7-3', '8-0')], { disturbances: order }),
      [],
    ],
    [
      'names an event that comes although it was called lost',
      namesOf([all[0]!, all[1]!, gap('evicted', '7-1', '7-2'), { ...event(2, '7-2') }, all[3]!]),
      ['duplicate-or-late'],
    ],
  ];
  for (const [title, found, expected] of cases) {
    it(title, () => {
      if (expected[0] === 'duplicate-or-late') assert.ok(found.includes('late-after-lost'), found.join());
      else assert.deepEqual([...new Set(found)], expected);
    });
  }
});

// ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Changes some members of a log. */
function changed(log: object, members: (log: SharedLog) => Partial<SharedLog>): object {
  const own = log as SharedLog;
  const others = members(own);
  return new Proxy(own, {
    get: (target, name) => {
      const value = Reflect.get(others, name) ?? Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(name in others ? others : target) : value;
    },
  });
}

function intakeWith(intake: LogIntake, members: Partial<LogIntake>): LogIntake {
  return {
    accept: (entries) => intake.accept(entries),
    skip: (seq) => intake.skip(seq),
    renew: (epoch, oldEnd) => intake.renew(epoch, oldEnd),
    away: (error) => intake.away(error),
    back: () => intake.back(),
    ...members,
  };
}

const isDropped = (entry: object): boolean => 'frame' in entry && (entry as LogEntry).seq % 5 === 3;

describe('a run', () => {
  const faults: [string, Kind, Spoilers, readonly string[]][] = [
    [
      'a log that drops entries, and does not say so',
      'shared',
      {
        log: (log) =>
          changed(log, (own) => ({
            follow: (intake) =>
              own.follow(
                intakeWith(intake, {
                  accept: (entries) => intake.accept(entries.filter((one) => !isDropped(one))),
                }),
              ),
            read: async (...asked) => {
              const page = await own.read(...asked);
              return { ...page, entries: page.entries.filter((one) => !isDropped(one)) } as LogPage;
            },
          })),
      },
      ['silent-hole', 'lost-write', 'unseen-tail'],
    ],
    [
      'a store that uses ids again after its tail was lost',
      'shared',
      { lineage: 'trust' },
      ['inconsistent-id', 'lost-write', 'silent-hole'],
    ],
    [
      'a log in Redis that goes on after its tail was lost',
      'redis',
      { lineage: 'trust' },
      ['inconsistent-id', 'lost-write', 'silent-hole'],
    ],
    [
      'a log that says more than is true of what was dropped',
      'shared',
      {
        log: (log) =>
          changed(log, (own) => ({
            read: async (topics, after, ...asked) => {
              const page = await own.read(topics, after, ...asked);
              return { ...page, dropped: topics.map((topic) => ({ topic, seq: page.until })) };
            },
          })),
      },
      ['false-gap', 'late-after-lost'],
    ],
    [
      'a log that begins a new epoch without cause',
      'memory',
      {
        item: (item) =>
          item.kind === 'event' && item.n % 9 === 0
            ? { ...gap('store-changed', item.id, '1895408776000000-0'), id: item.id }
            : item,
      },
      ['unexplained-gap'],
    ],
    [
      'a follower that stops for good',
      'shared',
      {
        log: (log, node) =>
          changed(log, (own) => ({
            follow: (intake) => own.follow(intakeWith(intake, node === 'node 1' ? { accept: () => {} } : {})),
          })),
      },
      ['unseen-tail', 'silent-hole', 'lost-write'],
    ],
    [
      'a log that answers before it has the events',
      'own',
      {
        log: (log) =>
          changed(log, (own) => ({
            append: ((entries: readonly LogEntry[]) =>
              (own.append as unknown as (kept: readonly LogEntry[]) => void)(
                entries.filter(({ seq }) => seq % 4 !== 2),
              )) as never,
          })),
      },
      ['lost-write', 'silent-hole', 'unseen-tail'],
    ],
    ['a door that does not hear of withdrawn permissions', 'memory', { mayAll: true }, ['wrong-tenant']],
    ['a client that hands on an event twice', 'memory', { item: twice }, ['duplicate']],
  ];
  for (const [title, kind, spoilers, expected] of faults) {
    it(`names what is wrong with ${title}`, async () => {
      const found = new Set<string>();
      for (let seed = 1; seed <= 40; seed++) {
        const { findings } = await runScenario(scenarioOf(seed, kind), { spoilers });
        for (const { name } of findings) found.add(name);
      }
      assert.ok(
        expected.some((name) => found.has(name)),
        `found ${[...found].join(', ') || 'nothing'}`,
      );
    });
  }

  for (const kind of ['shared', 'redis'] as const) {
    it(`is the same again for the same seed, and for its trace: ${kind}`, async () => {
      const scenario = scenarioOf(4, kind);
      const first = await runScenario(scenario, { isTold: true });
      const second = await runScenario(scenario, { isTold: true });
      const third = await runScenario(scenario, { isTold: true, draws: first.draws });
      assert.ok(first.story.length > 50);
      assert.deepEqual(second.story, first.story);
      assert.deepEqual(third.story, first.story);
      assert.deepEqual(third.draws, first.draws);
    });
  }

  it('has a name for each kind of finding', () => assert.equal(new Set(findingNames).size, 11));
});

function twice(item: Item, life: Life): Item | undefined {
  if (item.kind === 'event' && item.n % 5 === 0) life.items.push(item);
  return item;
}

// ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────

describe('the clock', () => {
  const process = (name: string) => ({ name, isDead: false, random: () => 0.5 });

  async function withClock(test: (clock: Clock) => Promise<void>): Promise<void> {
    const clock = new Clock(() => 0.25);
    clock.install();
    try {
      await test(clock);
    } finally {
      clock.uninstall();
    }
  }

  it('calls what falls due in order, and lets promises go on after each', () =>
    withClock(async (clock) => {
      const calls: string[] = [];
      setTimeout(() => calls.push('later'), 20);
      setTimeout(() => void Promise.resolve().then(() => calls.push('promise')), 10);
      setTimeout(() => calls.push('same time'), 10);
      setImmediate(() => calls.push('now'));
      await clock.run(30);
      assert.deepEqual(calls, ['now', 'promise', 'same time', 'later']);
    }));

  it('takes the timers of a process that has crashed, also those it set after waiting', () =>
    withClock(async (clock) => {
      const calls: string[] = [];
      const [one, other] = [process('one'), process('other')];
      for (const own of [one, other]) {
        clock.as(own, async () => {
          await Promise.resolve();
          setTimeout(() => calls.push(own.name), 10);
          setInterval(() => calls.push(own.name), 10);
        });
      }
      await clock.run(5);
      one.isDead = true;
      await clock.run(16);
      assert.deepEqual(calls, ['other', 'other', 'other']);
    }));

  it('gives each process random numbers of its own, and the time of the run', () =>
    withClock(async (clock) => {
      const begun = [Date.now(), performance.now()];
      await clock.run(1000);
      assert.deepEqual([Date.now() - begun[0]!, performance.now() - begun[1]!], [1000, 1000]);
      assert.equal(clock.as(process('one'), Math.random), 0.5);
      assert.equal(Math.random(), 0.25);
    }));
});
