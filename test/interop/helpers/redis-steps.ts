// Random steps of the log in Redis: what it sends, and what happens to its keys meanwhile.

import { setTimeout as sleep } from 'node:timers/promises';
import type { NewEntry, TopicChange } from '../../../lib/log.ts';
import type { RedisConnection } from '../../../lib/redis-client.ts';
import { type Lineage, type Place, RedisStore } from '../../../lib/redis-store.ts';
import type { Stream } from '../../simulation/nodes/chance.ts';

/** One of two servers that go through the same steps. */
export interface Side {
  readonly connection: RedisConnection;
  /** What it knows of the order, which is another one on each side. */
  known: Place;
  readonly stores: readonly RedisStore[];
  /** Runs a command as somebody else. */
  command(...words: string[]): Promise<unknown>;
  /** It has memory left, or none. */
  setMemory(isFull: boolean): Promise<unknown>;
  /** It gets another replid, and nothing is lost. */
  renameOrder(): Promise<unknown>;
}

export interface Step {
  readonly title: string;
  readonly run: (side: Side) => Promise<unknown>;
}

const TIMEOUT = 5000;
const topics = ['a', 'b', 'topic {with} braces', 'ü\u0000\n', 'é'];
const wrongTypes: readonly (readonly string[])[] = [
  ['SET', 'text'],
  ['RPUSH', 'one'],
  ['HSET', 'field', 'value'],
  ['ZADD', '1', 'member'],
];

export function storesOf(lineage: Lineage): readonly RedisStore[] {
  const limits = [
    { maxEvents: 4, maxBytes: Infinity, maxAge: Infinity },
    { maxEvents: 100, maxBytes: 200, maxAge: 3_600_000 },
  ];
  return limits.map(
    (limit, i) =>
      new RedisStore({
        name: 'sluice',
        lineage,
        limitsOf: () => limit,
        feed: { maxEvents: i === 0 ? 1000 : 6, maxBytes: i === 0 ? 700 : 1e6 },
        idempotency: { maxAge: 3_600_000, maxKeys: i === 0 ? 3 : 1000 },
      } as ConstructorParameters<typeof RedisStore>[0]),
  );
}

export function randomStep(chance: Stream, now: number): Step {
  return chance.of(0.75) ? logStep(chance, now) : faultStep(chance);
}

function logStep(chance: Stream, now: number): Step {
  const node = chance.below(2);
  const topic = chance.pick(topics);
  const some = topics.filter(() => chance.of(0.5));
  const after = chance.below(12);
  const limits = { maxBytes: chance.pick([1, 60, 10_000]), newestOnly: chance.of(0.4), timeout: TIMEOUT };
  const count = 1 + chance.below(4);
  const name = chance.pick(['', 'a', 'b', 'zz']);
  const steps: readonly (() => Step)[] = [
    () => appendStep(chance, node, topic, now),
    () => appendStep(chance, node, topic, now),
    () => appendStep(chance, node, topic, now),
    () => changeStep(node, topic, chance.pick(['end', 'reopen', 'delete'] as const)),
    () =>
      step('check', node, async (store, side) =>
        learn(side, await store.check(side.connection, side.known, TIMEOUT)),
      ),
    () =>
      step(`read ${some} after ${after}, ${JSON.stringify(limits)}`, node, (store, { connection, known }) =>
        store.read(connection, known, some, after, limits),
      ),
    () =>
      step(`find ${some}`, node, (store, { connection, known }) =>
        store.find(connection, known, some, TIMEOUT),
      ),
    () =>
      step(`newest ${count} of ${some}`, node, (store, { connection, known }) =>
        store.newest(connection, known, some, { below: after + 1, count, timeout: TIMEOUT }),
      ),
    () =>
      step(`names after ${name}`, node, (store, { connection, known }) =>
        store.names(connection, known, { after: name, count, timeout: TIMEOUT }),
      ),
    () => step('prune', node, (store, { connection }) => store.prune(connection, 2, count, TIMEOUT)),
    () => step('clean', node, (store, { connection }) => store.clean(connection, TIMEOUT)),
    () =>
      step(`follow ${count}`, node, (store, { connection, known }) =>
        store.feedAfter(connection, { epoch: known.epoch, seq: after }, { count, timeout: TIMEOUT }),
      ),
  ];
  return chance.pick(steps)();
}

function step(title: string, node: number, run: (store: RedisStore, side: Side) => Promise<unknown>): Step {
  return { title: `node ${node}: ${title}`, run: (side) => run(side.stores[node]!, side) };
}

function appendStep(chance: Stream, node: number, topic: string, now: number): Step {
  const events = Array.from({ length: chance.of(0.3) ? 1 + chance.below(3) : 1 }, () => eventOf(chance, now));
  const idempotency = chance.of(0.3)
    ? { key: `k${chance.below(6)}`, digest: chance.pick(['d', 'd', 'e']) }
    : undefined;
  const known = chance.of(0.05) ? chance.pick(['ahead', 'later'] as const) : undefined;
  const title = `append ${events.length} to ${topic} ${idempotency?.key ?? ''} ${known ?? ''}`;
  return step(title, node, async (store, side) => {
    const place = placeOf(side.known, known);
    const appended = await store.append(side.connection, place, topic, events, { idempotency }, TIMEOUT);
    const { epoch, first, count } = appended;
    side.known = { epoch, seq: first + count - 1 };
    // Which of two requests of one millisecond is forgotten first, is left to chance.
    if (idempotency !== undefined) await sleep(2);
    return appended;
  });
}

function placeOf({ epoch, seq }: Place, known: 'ahead' | 'later' | undefined): Place {
  if (known === undefined) return { epoch, seq };
  return known === 'ahead' ? { epoch, seq: seq + 1000 } : { epoch: epoch + 1, seq: 0 };
}

function eventOf(chance: Stream, now: number): NewEntry {
  const text = chance.pick(['x', 'data: \n\n', '\u0000 ü 😀', 'y'.repeat(90)]);
  const at = chance.of(0.2) ? now - 7_200_000 : now;
  const key = chance.of(0.4) ? chance.pick(['x', 'y', 'two words', '"\n\ud800']) : undefined;
  return { at, frame: Buffer.from(`data: ${text}\n\n`), key };
}

function changeStep(node: number, topic: string, change: TopicChange): Step {
  return step(`${change} ${topic}`, node, async (store, side) => {
    const place = await store.change(side.connection, side.known, topic, change, TIMEOUT);
    if (place !== undefined) side.known = place;
    return place;
  });
}

function learn(side: Side, status: Awaited<ReturnType<RedisStore['check']>>): unknown {
  side.known = status.head;
  return status;
}

/** Commands take strings of bytes. */
function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function faultStep(chance: Stream): Step {
  const { keys } = storesOf('gap')[0]!;
  const topic = chance.pick(topics);
  const all = [keys.meta, keys.feed, keys.index, keys.names, keys.stale, keys.requests, keys.ages];
  const key = chance.pick([...all, keys.history(topic), keys.newest(topic)]);
  const [make, ...rest] = chance.pick(wrongTypes);
  const command = (...words: string[]): Step => ({
    title: words.join(' '),
    run: (side) => side.command(...words.map(bytesOf)),
  });
  const steps: readonly (() => Step)[] = [
    () => command('DEL', key),
    () => command('XTRIM', keys.feed, 'MAXLEN', String(chance.below(3))),
    () => command('LTRIM', keys.history(topic), String(chance.below(2)), '-1'),
    () => command('SCRIPT', 'FLUSH'),
    () => (chance.of(0.2) ? command('FLUSHALL') : command('PEXPIRE', keys.history(topic), '-1')),
    () => ({ title: 'rename order', run: (side) => side.renameOrder() }),
    () => ({
      title: `another type at ${key}`,
      run: async (side) => [
        await side.command('DEL', bytesOf(key)),
        await side.command(make!, bytesOf(key), ...rest),
      ],
    }),
    () => ({ title: 'no memory', run: (side) => side.setMemory(true) }),
    () => ({ title: 'memory', run: (side) => side.setMemory(false) }),
  ];
  return chance.pick(steps)();
}
