import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { LogIntake, SharedLog } from '../lib/log.ts';
import { SharedStore } from './helpers/shared-store.ts';

/** Notes what a log tells its hub. */
class Notes implements LogIntake {
  readonly all: string[] = [];
  readonly epochs: number[] = [];

  accept(entries: Parameters<LogIntake['accept']>[0]): void {
    for (const entry of entries)
      this.all.push(
        'change' in entry ? `${entry.seq} ${entry.topic} ${entry.change}` : `${entry.seq} ${entry.topic}`,
      );
  }

  skip(seq: number): void {
    this.all.push(`skip ${seq}`);
  }

  renew(epoch: number, oldEnd: number): void {
    this.all.push(`renew ${oldEnd}`);
    this.epochs.push(epoch);
  }

  away(): void {
    this.all.push('away');
  }

  back(): void {
    this.all.push('back');
  }

  take(): string[] {
    return this.all.splice(0);
  }
}

/** Promises, and what follows from them, have run: without a network no time passes. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const event = (text: string) => ({ at: 1, frame: Buffer.from(`data: ${text}\n\n`), key: undefined });

async function follow(store: SharedStore, node: string): Promise<{ log: SharedLog; notes: Notes }> {
  const log = store.open(node);
  const notes = new Notes();
  log.follow(notes);
  await until(() => notes.epochs.length > 0);
  return { log, notes };
}

it('tells every node all events in one order, and answers the publisher after that', async () => {
  const store = new SharedStore();
  const a = await follow(store, 'a');
  const b = await follow(store, 'b');
  const { first, count, epoch } = await a.log.append('t', [event('1'), event('2')]);
  assert.deepEqual([first, count, epoch], [1, 2, a.notes.epochs[0]]);
  assert.deepEqual(a.notes.take(), ['renew 0', '1 t', '2 t']);
  assert.equal(await b.log.change('t', 'end'), true);
  assert.deepEqual(b.notes.take(), ['renew 0', '1 t', '2 t', '3 t end']);
  await assert.rejects(a.log.append('t', [event('4')]), { code: 'ERR_SSE_TOPIC_ENDED' });
});

it('begins another epoch where a replica takes over, and says what was kept of the one before', async () => {
  const store = new SharedStore();
  const { log, notes } = await follow(store, 'a');
  for (const text of ['1', '2', '3']) await log.append('t', [event(text)]);
  notes.take();
  store.failOver({ lost: 2 });
  await settled();
  assert.deepEqual(notes.take(), ['away', 'back', 'renew 1']);
  assert.equal((await log.append('t', [event('4')])).first, 1);
  const page = await log.read(['t'], 0, 1000, { newestOnly: false });
  assert.deepEqual(
    page.entries.map(({ seq }) => seq),
    [1],
  );
});

it('keeps the order where the primary is renamed and nothing was lost', async () => {
  const store = new SharedStore();
  const { log, notes } = await follow(store, 'a');
  await log.append('t', [event('1')]);
  store.renameOrder();
  await log.append('t', [event('2')]);
  assert.deepEqual(notes.take(), ['renew 0', '1 t', '2 t']);
});

it('tells a node that returns what it missed, and skips what the feed no longer has', async () => {
  const store = new SharedStore();
  const a = await follow(store, 'a');
  const b = await follow(store, 'b');
  store.disconnect('b');
  for (const text of ['1', '2']) await a.log.append('t', [event(text)]);
  store.trimFeed(1);
  await assert.rejects(b.log.append('t', [event('3')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
  store.reconnect('b');
  await settled();
  assert.deepEqual(b.notes.take(), ['renew 0', 'away', 'back', 'skip 1', '2 t']);
});

it('makes what was dropped of a topic decidable', async () => {
  const store = new SharedStore({ maxEvents: 2 });
  const { log } = await follow(store, 'a');
  for (const text of ['1', '2', '3']) await log.append('t', [event(text)]);
  await log.append('u', [event('4')]);
  const dropped = async (after: number) =>
    (await log.read(['t', 'u'], after, 1000, { newestOnly: false })).dropped;
  assert.deepEqual(await dropped(0), [{ topic: 't', seq: 1 }]);
  assert.deepEqual(await dropped(1), []);
  store.evict('t');
  assert.deepEqual(await dropped(1), [{ topic: 't', seq: 3 }]);
  assert.deepEqual(await dropped(3), []);
  const [record] = await log.find(['t']);
  assert.deepEqual([record?.last, record?.dropped, record?.events], [3, 3, 0]);
});

it('publishes a request that is sent again once, and refuses another under its key', async () => {
  const store = new SharedStore();
  const { log } = await follow(store, 'a');
  const idempotency = { key: 'k', digest: 'd' };
  const first = await log.append('t', [event('1')], { idempotency });
  assert.deepEqual(await log.append('t', [event('1')], { idempotency }), first);
  const other = log.append('t', [event('2')], { idempotency: { key: 'k', digest: 'e' } });
  await assert.rejects(other, { code: 'ERR_SSE_IDEMPOTENCY_CONFLICT' });
  assert.deepEqual(store.held('t'), [1]);
});

it('leaves the outcome unknown where a command was sent and its answer is lost', async () => {
  const network = {
    delay: () => 0,
    timeout: 1,
    fate: (_: string, command: string) => (command === 'write' ? ('unanswered' as const) : ('done' as const)),
  };
  const store = new SharedStore({ network });
  const { log } = await follow(store, 'a');
  await assert.rejects(log.append('t', [event('1')]), { code: 'ERR_SSE_OUTCOME_UNKNOWN' });
  assert.deepEqual(store.held('t'), [1]);
});

it('has two orders during a split, and ends that of the minority with it', async () => {
  const store = new SharedStore();
  const a = await follow(store, 'a');
  const b = await follow(store, 'b');
  await a.log.append('t', [event('1')]);
  store.split({ minority: ['b'] });
  await settled();
  assert.equal((await a.log.append('t', [event('2')])).first, 1);
  assert.equal((await b.log.append('t', [event('2')])).first, 2);
  store.heal();
  await settled();
  assert.deepEqual(b.notes.take(), ['renew 0', '1 t', '2 t', 'away', 'back', 'renew 1', '1 t']);
  assert.deepEqual(a.notes.take(), ['renew 0', '1 t', 'away', 'back', 'renew 1', '1 t']);
});

it('begins another epoch after the loss of everything, or of its index alone', async () => {
  const store = new SharedStore({ checkInterval: 1 });
  const { log, notes } = await follow(store, 'a');
  await log.append('t', [event('1')]);
  store.evictIndex();
  await until(() => notes.epochs.length > 1);
  assert.deepEqual(notes.take(), ['renew 0', '1 t', 'renew 1']);
  store.flush();
  await until(() => notes.epochs.length > 2);
  assert.deepEqual(notes.take(), ['renew 0']);
  assert.ok(notes.epochs[2]! > notes.epochs[1]!);
  await log.close?.();
});
