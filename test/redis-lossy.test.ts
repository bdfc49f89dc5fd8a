// Over a channel in memory. Real ones are in interop/redis-lossy.test.ts.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Hub, type SubscribeOptions } from '../lib/hub.ts';
import { LossyRedis, type LossyRedisOptions } from '../lib/redis-lossy.ts';
import { formatMessage, parseMessage } from '../lib/redis-message.ts';
import { type FakeClock, fakeTime } from './helpers/clock.ts';
import { MemoryReader } from './helpers/hub.ts';
import { Channel } from './helpers/redis-stand-in.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function rest(): Promise<void> {
  for (let i = 0; i < 12; i++) await turn();
}

interface Node {
  readonly hub: Hub;
  readonly log: LossyRedis;
  readonly reader: MemoryReader;
}

/** A hub on a channel, with a reader of the topic `a`. */
async function join(t: TestContext, channel: Channel, options: LossyRedisOptions = {}): Promise<Node> {
  const log = new LossyRedis(channel.client, options);
  const hub = new Hub({ log, onError: () => {} });
  t.after(() => hub.close());
  while (hub.failure !== undefined) await turn();
  const reader = new MemoryReader();
  hub.subscribe('a', reader);
  await rest();
  return { hub, log, reader };
}

const storyOf = ({ reader }: Node): string[] => reader.story.slice(1);
const events = (...texts: readonly string[]) =>
  texts.map((text) => ({ at: 1, key: undefined, frame: Buffer.from(`data: ${text}\n\n`) }));
/** A message of a hub that is not there. */
const said = (node: string, count: number, text?: string): string => {
  const content = { topic: 'a', events: [{ at: 1, key: undefined, frame: `data: ${text}\n\n` }] };
  return formatMessage({ node, count, ...(text === undefined ? {} : content) });
};

describe('a lossy log', () => {
  it('refuses options that cannot be used, and names them', () => {
    const { client } = new Channel();
    const cases: readonly (readonly [options: LossyRedisOptions, message: RegExp])[] = [
      [{ name: '' }, /`name` must be 1 to 100 of .*, got ""/],
      [{ name: 'a{b}' }, /`name` must be .*, got "a\{b\}"/],
      [{ appendTimeout: 0 }, /`appendTimeout` must be a whole number from 1 to 2147483647, got 0/],
      [{ checkInterval: Infinity }, /`checkInterval` must be .*, got Infinity/],
      [{ maxTopics: 1.5 }, /`maxTopics` must be .*, got 1.5/],
    ];
    for (const [options, message] of cases) assert.throws(() => new LossyRedis(client, options), message);
    assert.throws(() => new LossyRedis({}, {}), { name: 'TypeError', message: /`client` must be a client/ });
  });

  it('tells of a message that is missing between two of a hub, before the second', async (t) => {
    const channel = new Channel();
    const node = await join(t, channel);
    channel.deliver(said('x', 7, 'first'));
    channel.deliver(said('x', 8, 'second'));
    channel.deliver(said('y', 1, 'other'));
    channel.deliver(said('x', 10, 'fourth'));
    channel.deliver(said('y', 2, 'another'));
    await rest();
    assert.deepEqual(storyOf(node), ['first', 'second', 'other', 'sluice:gap', 'fourth', 'another']);
    assert.equal(node.reader.gaps[0]?.reason, 'store-changed');
  });

  it('tells of the last message that is missing, once the hub has said how many it sent', async (t) => {
    const channel = new Channel();
    const node = await join(t, channel);
    channel.deliver(said('x', 3));
    channel.deliver(said('x', 4, 'first'));
    channel.deliver(said('x', 4));
    await rest();
    assert.deepEqual(storyOf(node), ['first']);
    channel.deliver(said('x', 5));
    channel.deliver(said('x', 5));
    await rest();
    assert.deepEqual(storyOf(node), ['first', 'sluice:gap']);
  });

  it('finds by its own checks that another has lost something', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const [one, two] = [await join(t, channel), await join(t, channel)];
    await one.hub.append('a', { data: 'both' });
    await rest();
    const [first, second] = [...channel.listeners];
    assert.ok(first !== undefined && second !== undefined);
    channel.listeners.delete(second);
    await one.hub.append('a', { data: 'one' });
    channel.listeners.add(second);
    await rest();
    assert.deepEqual(storyOf(two), ['both']);
    clock.advance(5000);
    await rest();
    assert.deepEqual(
      [storyOf(one), storyOf(two)],
      [
        ['both', 'one'],
        ['both', 'sluice:gap'],
      ],
    );
  });

  it('connects again where it does not hear itself twice, but not where once', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const node = await join(t, channel);
    channel.fate = () => 'waits';
    clock.advance(5000);
    await rest();
    channel.release();
    clock.advance(5000);
    await rest();
    channel.release();
    assert.equal(node.hub.failure, undefined);
    channel.fate = () => 'is lost';
    for (let i = 0; i < 2; i++) {
      clock.advance(5000);
      await rest();
      assert.equal(node.hub.failure, undefined);
    }
    clock.advance(5000);
    assert.match(String(node.hub.failure), /the channel has fallen silent/);
    channel.fate = () => 'arrives';
    await until(clock, () => node.hub.failure === undefined);
    assert.deepEqual(storyOf(node), ['sluice:gap']);
  });

  it('knows after a cut which topics have ended, and begins to count anew', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const { hub, log } = await join(t, channel);
    for (const topic of ['going', 'over']) await hub.append(topic, { data: 'x' });
    await hub.change('over', 'end');
    channel.cut();
    await until(clock, () => hub.failure === undefined);
    await assert.rejects(hub.append('over', { data: 'x' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    const records = await log.find(['going', 'over', 'other']);
    assert.deepEqual(
      records.map(({ topic, last, ended }) => [topic, last, ended]),
      [
        ['going', 0, false],
        ['over', 0, true],
      ],
    );
  });

  it('tells one gap for any number of losses while nothing is published', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const node = await join(t, channel);
    const late = new MemoryReader({ highWaterMark: 1 });
    node.hub.subscribe('a', late);
    await node.hub.append('a', { data: 'kept' });
    for (let i = 0; i < 3; i++) {
      channel.cut();
      await until(clock, () => node.hub.failure === undefined);
    }
    await node.hub.append('a', { data: 'after' });
    late.resume();
    await rest();
    assert.deepEqual(
      storyOf(node).filter((one) => one !== 'sluice:gap'),
      ['kept', 'after'],
    );
    // What memory has of before is not told as lost.
    assert.deepEqual(late.texts, ['kept', 'after']);
  });

  it('says of an append what became of it', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const { hub } = await join(t, channel);
    const outcome = (act: Promise<unknown>) => act.then(String, ({ code }) => code);
    const cases: readonly (readonly [fault: string, reply: () => unknown, code: string])[] = [
      ['refused', () => Promise.reject(new Error('NOPERM no')), 'ERR_SSE_LOG_UNAVAILABLE'],
      ['broken', () => Promise.reject(new Error('write EPIPE')), 'ERR_SSE_OUTCOME_UNKNOWN'],
      ['unheard', () => 1, 'ERR_SSE_OUTCOME_UNKNOWN'],
    ];
    channel.fate = () => 'is lost';
    for (const [fault, reply, code] of cases) {
      channel.reply = reply;
      const sent = outcome(hub.append('a', { data: fault }));
      await rest();
      clock.advance(900);
      assert.equal(await sent, code, fault);
    }
    const cut = outcome(hub.append('a', { data: 'cut' }));
    await rest();
    channel.cut();
    assert.equal(await cut, 'ERR_SSE_OUTCOME_UNKNOWN');
    assert.equal(await outcome(hub.append('a', { data: 'down' })), 'ERR_SSE_LOG_UNAVAILABLE');
  });

  it('refuses a batch of nothing, with and without an idempotency key', async (t) => {
    const { log } = await join(t, new Channel());
    const message = '`events` must have at least one event';
    const idempotency = { key: 'k', digest: 'd' };
    await assert.rejects(log.append('a', []), { name: 'RangeError', message });
    await assert.rejects(log.append('a', [], { idempotency }), { name: 'RangeError', message });
  });

  it('takes nothing for lost that Redis has refused', async (t) => {
    const clock = fakeTime(t);
    const channel = new Channel();
    const [one, two] = [await join(t, channel), await join(t, channel)];
    await one.hub.append('a', { data: 'before' });
    channel.reply = () => Promise.reject(new Error('NOPERM no channel'));
    channel.fate = () => 'is lost';
    const refused = await Promise.allSettled([1, 2, 3].map((data) => one.log.append('a', events(`${data}`))));
    assert.deepEqual(
      refused.map((outcome) => (outcome as PromiseRejectedResult).reason.code),
      Array(3).fill('ERR_SSE_LOG_UNAVAILABLE'),
    );
    channel.reply = () => 1;
    channel.fate = () => 'arrives';
    await one.hub.append('a', { data: 'after' });
    clock.advance(5000);
    await rest();
    for (const node of [one, two]) assert.deepEqual(storyOf(node), ['before', 'after']);
  });

  it('refuses everywhere what was sent to a topic that another hub had ended', async (t) => {
    const channel = new Channel();
    const [one, two] = [await join(t, channel), await join(t, channel)];
    await one.hub.append('a', { data: 'first' });
    await rest();
    channel.fate = () => 'waits';
    const end = one.hub.change('a', 'end');
    const sent = two.hub.append('a', { data: 'late' });
    await rest();
    channel.release();
    assert.equal(await end, true);
    await assert.rejects(sent, { code: 'ERR_SSE_TOPIC_ENDED' });
    await rest();
    for (const node of [one, two]) assert.deepEqual(storyOf(node), ['first', 'sluice:end']);
  });

  it('keeps at most 10,000 appends waiting, and 32 MiB of them', async (t) => {
    fakeTime(t);
    const channel = new Channel();
    const { log } = await join(t, channel);
    channel.fate = () => 'is lost';
    const codes: string[] = [];
    const send = (text: string) =>
      log.append('a', events(text)).catch(({ code }) => {
        codes.push(code);
      });
    const many = Array.from({ length: 10_001 }, () => send('x'));
    await turn();
    assert.deepEqual(codes, ['ERR_SSE_LOG_UNAVAILABLE']);
    channel.cut();
    await Promise.all(many);
    assert.equal(codes.filter((code) => code === 'ERR_SSE_OUTCOME_UNKNOWN').length, 10_000);

    const other = new Channel();
    const { log: second } = await join(t, other);
    other.fate = () => 'is lost';
    const large = events('x'.repeat(11_000_000));
    const sent = [1, 2, 3, 4].map(() => second.append('a', large));
    await assert.rejects(sent[3] as Promise<unknown>, { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    other.cut();
    await Promise.allSettled(sent);
  });

  it('counts the bytes of what waits, not its characters', async (t) => {
    fakeTime(t);
    const channel = new Channel();
    const { log } = await join(t, channel);
    channel.fate = () => 'is lost';
    const large = events('ä'.repeat(5_500_000));
    const sent = [1, 2, 3, 4].map(() => log.append('a', large));
    await assert.rejects(sent[3] as Promise<unknown>, { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    channel.cut();
    await Promise.allSettled(sent);
  });

  it('counts the messages of the last thousand hubs', async (t) => {
    const channel = new Channel();
    const node = await join(t, channel);
    channel.deliver(said('first', 1));
    for (let i = 1; i <= 1000; i++) channel.deliver(said(`n${i}`, 1));
    channel.deliver(said('first', 3));
    await rest();
    assert.deepEqual(storyOf(node), [], 'the first was forgotten');
    channel.deliver(said('n1000', 2));
    await rest();
    assert.deepEqual(storyOf(node), ['sluice:gap']);
  });

  it('forgets the topics that changed longest ago beyond maxTopics', async (t) => {
    const { hub, log } = await join(t, new Channel(), { maxTopics: 2 });
    for (const topic of ['a', 'b', 'c']) await hub.append(topic, { data: 'x' });
    const names = async () => (await log.list({})).map(({ topic }) => topic);
    assert.deepEqual(await names(), ['b', 'c']);
    await hub.append('b', { data: 'x' });
    await hub.append('d', { data: 'x' });
    assert.deepEqual(await names(), ['b', 'd']);
    assert.deepEqual(
      (await log.list({ after: 'b', limit: 1 })).map(({ topic }) => topic),
      ['d'],
    );
    assert.deepEqual(await log.list({ limit: 0 }), []);
  });

  it('tells its clients that it is lossy, and serves them from the memory of its hub', async (t) => {
    const channel = new Channel();
    const one = await join(t, channel);
    // Of two that begin in one millisecond, one in a thousand has the epoch of the other.
    for (const begun = Date.now(); Date.now() === begun; ) await turn();
    const two = await join(t, channel);
    const ids = await one.hub.appendAll(
      'a',
      ['1', '2', '3'].map((data) => ({ data })),
    );
    await rest();
    const follow = async ({ hub }: Node, options: SubscribeOptions) => {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, options);
      await rest();
      const [{ data = '' } = {}] = reader.of('sluice:ready');
      assert.deepEqual(JSON.parse(data), { lossy: true, topics: ['a'] });
      return reader.story.slice(1);
    };
    assert.deepEqual(await follow(two, { from: 'earliest' }), ['1', '2', '3']);
    assert.deepEqual(await follow(two, { last: 1 }), ['3']);
    assert.deepEqual(await follow(two, {}), []);
    assert.deepEqual(await follow(one, { lastEventId: ids[1] }), ['3']);
    // An id of another hub, also where that began later: at once, for nothing will come of it.
    const [early, late] = [one, two].sort((a, b) => (a.hub.position < b.hub.position ? -1 : 1)) as [
      Node,
      Node,
    ];
    assert.deepEqual(await follow(early, { lastEventId: late.hub.position }), ['sluice:gap']);
    assert.deepEqual(await follow(late, { lastEventId: early.hub.position }), ['sluice:gap']);
  });

  it('has nothing to read, and says so', async (t) => {
    const { hub, log } = await join(t, new Channel());
    await hub.appendAll('a', [{ data: '1' }, { data: '2' }]);
    await hub.append('b', { data: '3' });
    const page = await log.read(['a', 'b', 'c'], 2);
    assert.deepEqual(page, { entries: [], until: 3, dropped: [{ topic: 'b', seq: 3 }] });
    assert.equal(await log.beforeNewest(), 3);
  });
});

describe('a message between hubs', () => {
  it('is read as it was written', () => {
    for (const message of [
      { node: 'x', count: 0 },
      { node: 'x', count: 2, topic: 'a', change: 'end' as const },
      {
        node: 'x',
        count: 3,
        topic: 'a',
        events: [
          { at: 1, key: undefined, frame: 'data: é€😀\u2028\0\n\n' },
          { at: 2, key: '', frame: '' },
        ],
      },
    ])
      assert.deepEqual(parseMessage(formatMessage(message)), message);
  });

  it('is told from anything else', () => {
    const valid = { node: 'x', count: 1, topic: 'a', events: [[1, 'frame', 'key']] };
    const wrongs: readonly unknown[] = [
      { ...valid, node: 1 },
      { ...valid, node: 'x'.repeat(65) },
      { ...valid, count: '1' },
      { ...valid, count: 1.5 },
      { ...valid, topic: 1 },
      { ...valid, events: [] },
      { ...valid, events: {} },
      { ...valid, events: [null] },
      { ...valid, events: [[1]] },
      { ...valid, events: [['1', 'frame']] },
      { ...valid, events: [[1, 'frame', 2]] },
      { ...valid, events: undefined },
      { ...valid, events: undefined, change: 'other' },
      null,
      [],
      'text',
    ];
    assert.notEqual(parseMessage(`sluice1 ${JSON.stringify(valid)}`), undefined);
    for (const wrong of wrongs) assert.equal(parseMessage(`sluice1 ${JSON.stringify(wrong)}`), undefined);
    for (const text of ['', 'sluice1', 'sluice1 {', 'sluice2 {}', JSON.stringify(valid)])
      assert.equal(parseMessage(text), undefined);
  });
});

/** Lets time pass until something holds. */
async function until(clock: FakeClock, holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    assert.ok(i < 1000, 'did not happen');
    clock.advance(10);
    await rest();
  }
}
