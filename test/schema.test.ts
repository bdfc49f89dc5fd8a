import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { type ConnectError, type ConnectOptions, connect, type ReceivedEvent } from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { serveEvents } from '../lib/events.ts';
import { EventSource } from '../lib/eventsource.ts';
import { Generations } from '../lib/generations.ts';
import { Hub, type HubEvent } from '../lib/hub.ts';
import { MemoryLog } from '../lib/memory-log.ts';
import { gapEvent, readyEvent } from '../lib/protocol.ts';
import { defineEvents, type SchemaMap } from '../lib/schema.ts';
import { createSseServer } from '../lib/server.ts';
import { collect } from '../lib/testing.ts';
import { at, handRun, MemoryReader } from './helpers/hub.ts';
import { idOf, open, whole } from './helpers/misbehaving.ts';
import { halt, schemaOf, type Tick, tick } from './helpers/schemas.ts';
import { listen, serve } from './helpers/server.ts';

const events = defineEvents({ tick, halt });
const NOON = '2026-11-30T12:00:00.000Z';
const noon: Tick = { price: 7, at: new Date(NOON) };
const fitting = JSON.stringify({ price: 7, at: NOON });

const badEvent = (message: RegExp | string) => ({
  name: 'TypeError',
  code: 'ERR_SSE_BAD_EVENT',
  status: 400,
  message,
});

describe('defineEvents', () => {
  it('reads data as JSON, and returns what the schema of the type makes of it', () => {
    assert.deepEqual(events.names, ['tick', 'halt']);
    assert.deepEqual(events.parse('tick', fitting), noon);
    assert.equal(events.parse('halt', ' null '), null);
  });

  it('says of data that does not fit which event it is, where in it, and how much else is wrong', () => {
    const refused: [string, string, RegExp | string][] = [
      ['tick', '{"price":"7","at":""}', 'event "tick": price: expected a number, got 7'],
      ['tick', '{"price":7}', 'event "tick": at: expected text'],
      ['tick', '[]', 'event "tick": price: expected a number, got undefined (and 1 more)'],
      ['halt', '0', 'event "halt": expected nothing'],
      ['halt', '', /^event "halt": the data is not JSON: Unexpected end/],
      ['tack', 'null', 'event "tack": is not defined: the types are "tick", "halt"'],
      ['constructor', 'null', /^event "constructor": is not defined/],
      ['__proto__', 'null', /^event "__proto__": is not defined/],
    ];
    for (const [event, data, message] of refused)
      assert.throws(() => events.parse(event, data), badEvent(message));
  });

  it('repeats no more than a line of what a sender has chosen', () => {
    const long = 'x'.repeat(100_000);
    const control = '\x1b[31m\r\n\x9b';
    const issue = { message: control + long, path: Array.from({ length: 1000 }, () => control + long) };
    const issues = Array.from({ length: 1000 }, () => issue);
    const hostile = defineEvents({
      tick: schemaOf(() => ({ issues })),
      thrown: schemaOf(() => {
        throw new Error(control + long);
      }),
    });
    for (const [event, data] of [
      ['tick', '0'],
      ['thrown', '0'],
      ['tick', long],
      [control + long, '0'],
    ] as const) {
      assert.throws(
        () => hostile.parse(event, data),
        ({ message }: Error) => message.length < 700 && !/[\x00-\x1f\x7f-\x9f]/.test(message),
      );
    }
    assert.throws(() => hostile.parse('tick', '0'), badEvent(/ \(and 999 more\)$/));
  });

  it('counts a schema that throws as one that refuses, because a value may be nested too deeply for it', () => {
    const depth = (value: unknown): number => (Array.isArray(value) ? 1 + depth(value[0]) : 0);
    const nested = defineEvents({ deep: schemaOf((value) => ({ value: depth(value) })) });
    assert.equal(nested.parse('deep', '[[[]]]'), 3);
    const data = '['.repeat(1e5) + ']'.repeat(1e5);
    assert.throws(
      () => nested.parse('deep', data),
      badEvent(/^event "deep": the schema failed: Maximum call/),
    );
  });

  it('does not wait for a schema, and names one that would need that or has no answer', async () => {
    const odd = defineEvents({
      later: schemaOf(async () => ({ value: 1 })),
      failing: schemaOf(async () => Promise.reject(new Error('not unhandled'))),
      none: schemaOf(() => undefined),
    });
    for (const event of ['later', 'failing']) {
      const message = `the schema of event "${event}" validates asynchronously: use one that does not wait`;
      assert.throws(() => odd.parse(event, '0'), { name: 'TypeError', message });
    }
    const message = 'the schema of event "none" must return an object, got undefined';
    assert.throws(() => odd.parse('none', '0'), { name: 'TypeError', message });
    await new Promise(setImmediate);
  });

  it('refuses at once what is no schema, and types that no event can have', () => {
    const define = (schemas: unknown, options?: object) => () => defineEvents(schemas as SchemaMap, options);
    const wrong: [() => unknown, RegExp][] = [
      [define(undefined), /^`schemas` must be an object of event types and schemas, got undefined$/],
      [
        define({ tick: { type: 'object' } }),
        /^`schemas` must be Standard Schemas, but that of "tick" is not$/,
      ],
      [define({ tick: null }), /but that of "tick" is not$/],
      [define({ tick: { '~standard': { version: 2, validate() {} } } }), /but that of "tick" is not$/],
      [
        define({ 'Sluice:gap': tick }),
        /^`schemas` must not have types that begin with "sluice:", got "Sluice:gap"$/,
      ],
      [define({ 'a\nb': tick }), /^`schemas` must have types of one line, got "a\\nb"$/],
      [define({ '': tick }), /^`schemas` must have types of one line, got ""$/],
      [
        define({ tick }, { jsonSchemas: { tack: {} } }),
        /^`jsonSchemas` must be for defined event types, got "tack"$/,
      ],
    ];
    for (const [act, message] of wrong) assert.throws(act, { name: 'TypeError', message });
    // ArkType's schemas are functions.
    assert.equal(
      defineEvents({ tick: Object.assign(() => {}, tick) }).parse('tick', fitting) instanceof Object,
      true,
    );
  });

  it('has the JSON Schema that was given for a type, else that of its schema, else none', () => {
    const failing = schemaOf(
      () => ({ value: 0 }),
      () => {
        throw new Error('cannot be expressed');
      },
    );
    const described = defineEvents({ tick, halt, failing }, { jsonSchemas: { halt: { type: 'null' } } });
    assert.deepEqual(described.jsonSchemaOf('halt'), { type: 'null' });
    assert.equal(described.jsonSchemaOf('tick')?.type, 'object');
    for (const event of ['failing', 'tack']) assert.equal(described.jsonSchemaOf(event), undefined);
    assert.equal(events.jsonSchemaOf('halt'), undefined);
  });
});

describe('a hub with schemas', () => {
  it('sends what fits as it was given, not as the schema returns it', () => {
    const { hub, turns } = handRun({ events });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    assert.equal(hub.publish('a', { event: 'tick', json: { price: 7, at: NOON } }), at(1));
    hub.publish('a', { event: 'tick', data: `{ "at": "${NOON}",\n"price": 7 }` });
    turns.all();
    assert.deepEqual(
      reader.of().map(({ event, data }) => [event, data]),
      [
        ['tick', fitting],
        ['tick', `{ "at": "${NOON}",\n"price": 7 }`],
      ],
    );
  });

  it('checks what readers will get: the value as JSON has it', () => {
    const seen: unknown[] = [];
    const spied = defineEvents({ message: schemaOf((value) => ({ value: seen.push(value) })) });
    const { hub } = handRun({ events: spied });
    hub.publish('a', { json: { at: new Date(NOON), none: undefined, much: Infinity } });
    hub.publish('a', { event: '', json: 1 });
    assert.deepEqual(seen, [{ at: NOON, much: null }, 1]);
  });

  it('publishes nothing that does not fit, and nothing of a batch with it', async () => {
    const wrong: [HubEvent, RegExp][] = [
      [{ event: 'tick', json: { price: '7', at: NOON } }, /^event "tick": price: expected a number/],
      [{ event: 'tick', data: 'seven' }, /^event "tick": the data is not JSON/],
      [{ event: 'tack', json: null }, /^event "tack": is not defined/],
      [{ json: null }, /^event "message": is not defined/],
      [{ event: 'sluice:end', json: null }, /^`event` must not begin with/],
      [{ event: 'halt', json: () => {} }, /^`json` must be a value that JSON can express/],
      [{ event: 'halt', json: 1n }, /^`json` must be a value that JSON can express/],
    ];
    const log = new MemoryLog();
    for (const hub of [handRun({ events }).hub, new Hub({ events, log }) as unknown as Hub]) {
      const { position } = hub;
      for (const [event, message] of wrong) {
        const batch = [{ event: 'halt', json: null }, event];
        assert.throws(() => hub.publish('a', event), badEvent(message));
        assert.throws(() => hub.publishAll('a', batch), badEvent(message));
        await assert.rejects(hub.append('a', event), badEvent(message));
        await assert.rejects(hub.appendAll('a', batch), badEvent(message));
      }
      assert.deepEqual([hub.position, hub.stats.published], [position, 0]);
      hub.publish('a', { event: 'halt', json: null });
      await hub.close();
    }
    assert.equal((await log.list({ after: '', limit: 9 }))[0]?.events, 1);
  });

  it('refuses schemas that were not given to `defineEvents`', () => {
    for (const [wrong, got] of [
      [{ tick }, 'object'],
      [null, 'null'],
    ] as const) {
      const message = `\`events\` must be made by \`defineEvents\`, got ${got}`;
      assert.throws(() => new Hub({ events: wrong as never }), { name: 'TypeError', message });
    }
  });

  it('is not one for generations, which publish text and types of their own', () => {
    assert.throws(() => new Generations(new Hub({ events })), {
      name: 'TypeError',
      message: /^generations need a hub without `events`/,
    });
  });

  it('answers what is published over HTTP and does not fit with 400, and the reason', async (t) => {
    const sse = createSseServer({ hub: { events } });
    t.after(() => sse.close({ deadline: 0 }));
    const url = await sse.listen(0);
    const post = async (path: string, body: string, type = 'text/plain') => {
      const headers = { 'content-type': type };
      const response = await fetch(url + path, { method: 'POST', body, headers });
      return [response.status, (await response.json()) as object] as const;
    };
    const [status, answer] = await post('/topics/a?event=tick', fitting);
    assert.deepEqual([status, Object.keys(answer)], [200, ['id']]);
    const refused = async (path: string, body: string, message: string, type?: string) =>
      assert.deepEqual(await post(path, body, type), [400, { error: 'bad-event', message }]);
    await refused('/topics/a?event=tick', '{"price":7}', 'event "tick": at: expected text');
    await refused('/topics/a', '{}', 'event "message": is not defined: the types are "tick", "halt"');
    const lines = `{"event":"tick","data":${fitting}}\n{"event":"halt","data":1}\n`;
    const type = 'application/vnd.sluice+ndjson';
    await refused('/topics/a', lines, 'Line 2: event "halt": expected nothing', type);
    assert.equal(sse.hub.stats.published, 1);
  });
});

// ── reading ───────────────────────────────────────────────────────────────────────────────────────────────

const ready = encode(readyEvent(idOf(0), ['a']));
const good = (seq: number): string => encode({ id: idOf(seq), event: 'tick', data: fitting });
const bad = (seq: number): string => encode({ id: idOf(seq), event: 'tick', data: '{"price":"7","at":""}' });
const other = (seq: number): string => encode({ id: idOf(seq), event: 'tack', data: 'text' });
const end = encode({ event: 'sluice:end', data: '{}' });

const atOnce = { minRetryDelay: 0, backoffDelay: 0 } as const;

/** A reader of one stream that has this text. */
async function reading(t: TestContext, text: string, options: object = {}) {
  const { url, requests } = await serve(t, (_, res) => whole(res, text));
  const made = connect(url, { events, ...atOnce, onError: () => {}, ...options } as ConnectOptions<Ticks>);
  return { made, requests };
}
type Ticks = { tick: Tick; halt: null };

async function all(made: AsyncIterable<ReceivedEvent>): Promise<unknown[]> {
  const values: unknown[] = [];
  for await (const { json } of made) values.push(json);
  return values;
}

const invalid = (message: RegExp) => ({ code: 'ERR_SSE_INVALID_EVENT', message });

describe('connect with schemas', () => {
  it('reads what a hub with the same schemas publishes, as the schemas return it', async (t) => {
    const hub = new Hub({ events });
    const port = await listen(t, createServer(serveEvents(hub, { topics: 'a' })));
    hub.publish('a', { event: 'tick', json: { price: 7, at: NOON } });
    hub.publish('a', { event: 'halt', json: null });
    const read = await collect(connect(`http://127.0.0.1:${port}/?from=earliest`, { events }), 2);
    assert.deepEqual(
      read.map(({ event, json, data }) => [event, json, data]),
      [
        ['tick', noon, fitting],
        ['halt', null, 'null'],
      ],
    );
  });

  it('ends the loop before an event that does not fit, and keeps the position before it', async (t) => {
    const stored = new Map<string, string>();
    const storage = {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, value: string) => void stored.set(key, value),
    };
    const { made, requests } = await reading(t, ready + good(1) + bad(2) + good(3) + end, { storage });
    const read: unknown[] = [];
    await assert.rejects(
      async () => {
        for await (const { json } of made) read.push(json);
      },
      invalid(new RegExp(`^event "tick": price: expected a number, got 7 \\(last event ID "${idOf(2)}"\\)$`)),
    );
    assert.deepEqual([read, made.lastEventId, requests.length], [[noon], idOf(1), 1]);
    assert.deepEqual([...stored.values()], [idOf(1)]);
  });

  it('does not take the event for a repetition where its application asks for it again', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) =>
      whole(res, ready + (attempt < 3 ? bad(1) : good(1) + end)),
    );
    const failures: string[] = [];
    const shouldRetry = ({ code }: ConnectError) => failures.push(code) < 9;
    assert.deepEqual(await all(connect(url, { events, ...atOnce, shouldRetry })), [noon]);
    assert.deepEqual(failures, ['ERR_SSE_INVALID_EVENT', 'ERR_SSE_INVALID_EVENT']);
    assert.equal(requests.length, 3);
  });

  it('hands the event to `onInvalid` in its place, and goes on when that has done with it', async (t) => {
    const seen: unknown[] = [];
    const onInvalid = async (error: ConnectError, event: ReceivedEvent) => {
      await new Promise(setImmediate);
      seen.push([error.code, event.lastEventId, event.json]);
    };
    const { made } = await reading(t, ready + good(1) + bad(2) + good(3) + end, { onInvalid });
    for await (const { json } of made) seen.push(json);
    const raw = { price: '7', at: '' };
    assert.deepEqual(seen, [noon, ['ERR_SSE_INVALID_EVENT', idOf(2), raw], noon]);
    assert.equal(made.lastEventId, idOf(3));
  });

  it('throws what `onInvalid` throws, and leaves the event unprocessed', async (t) => {
    const reason = new Error('stop');
    const onInvalid = (): void => {
      throw reason;
    };
    const { made } = await reading(t, ready + good(1) + bad(2), { onInvalid });
    await assert.rejects(all(made), (error) => error === reason);
    assert.equal(made.lastEventId, idOf(1));
  });

  it('does not ask `isLast` about an event that does not fit, or is of another type', async (t) => {
    const asked: unknown[] = [];
    const isLast = ({ json }: { json: Tick }) => asked.push(json.at.getTime()) > 1;
    const text = ready + bad(1) + other(2) + good(3) + good(4) + good(5);
    const { made } = await reading(t, text, { onInvalid: () => {}, isLast });
    assert.deepEqual(await all(made), [noon, noon]);
    assert.equal(asked.length, 2);
  });

  it('does not ask `isLast` about a gap, which the loop gets', async (t) => {
    const asked: string[] = [];
    const isLast = ({ event }: { event: string }) => asked.push(event) > 1;
    const gap = encode(gapEvent(idOf(2), { reason: 'evicted', from: idOf(1), to: idOf(2), topics: ['a'] }));
    const { made } = await reading(t, ready + gap + good(3) + good(4) + good(5), { isLast });
    const seen: string[] = [];
    for await (const { event } of made) seen.push(event);
    assert.deepEqual(
      [seen, asked],
      [
        ['sluice:gap', 'tick', 'tick'],
        ['tick', 'tick'],
      ],
    );
  });

  it('skips events of types that are not defined, and reports each', async (t) => {
    const reported: string[] = [];
    const onError = ({ code, message }: ConnectError) => reported.push(`${code} ${message}`);
    const { made } = await reading(t, ready + other(1) + good(2) + other(3) + end, { onError });
    assert.deepEqual(await all(made), [noon]);
    assert.equal(made.lastEventId, idOf(3));
    const name = 'ERR_SSE_UNKNOWN_EVENT event "tack"';
    assert.deepEqual(
      reported,
      [1, 3].map((seq) => `${name} (last event ID "${idOf(seq)}") was skipped: its type is not defined`),
    );
  });

  it('yields a gap as before, unchecked', async (t) => {
    const gap = { reason: 'evicted', from: idOf(0), to: idOf(1), topics: ['a'] } as const;
    const { made } = await reading(t, ready + encode(gapEvent(idOf(1), gap)) + good(2) + end);
    assert.deepEqual(await all(made), [gap, noon]);
  });

  it('rejects with what a schema is at fault for', async (t) => {
    const later = defineEvents({ tick: schemaOf(async () => ({ value: 1 })) });
    const { made } = await reading(t, ready + good(1), { events: later });
    await assert.rejects(all(made), /^TypeError: the schema of event "tick" validates asynchronously/);
  });

  it('refuses options that do not go together', () => {
    const make = (options: object) => () => connect('http://localhost', options);
    const wrong: [() => unknown, RegExp][] = [
      [make({ onInvalid: () => {} }), /^`onInvalid` needs `events`, by which events are checked$/],
      [make({ events: { tick } }), /^`events` must be made by `defineEvents`, got object$/],
      [make({ events: null }), /^`events` must be made by `defineEvents`, got null$/],
      [
        make({ events, relay: true }),
        /^`events` must not be given beside `relay`, which hands on what it gets$/,
      ],
    ];
    for (const [act, message] of wrong) assert.throws(act, { name: 'TypeError', message });
  });
});

describe('EventSource with schemas', () => {
  it('gives listeners what the schema returns, once for all of them', async (t) => {
    let checks = 0;
    const counted = defineEvents({
      tick: schemaOf<unknown, Tick>(() => ({ value: { ...noon, price: ++checks } })),
    });
    const { url } = await serve(t, (_, res) => open(res, ready + good(1) + good(2)));
    const source = new EventSource(url, { events: counted });
    t.after(() => source.close());
    const prices: number[] = [];
    source.listen('tick', ({ json }) => prices.push(json.price));
    source.listen('tick', ({ json }) => prices.push(json.price));
    while (prices.length < 4) await once(source, 'tick');
    assert.deepEqual([prices, checks], [[1, 1, 2, 2], 2]);
  });

  it('closes before an event that does not fit, and tells why', async (t) => {
    const { url, requests } = await serve(t, (_, res) => open(res, ready + bad(1) + good(2)));
    const source = new EventSource(url, { events });
    t.after(() => source.close());
    source.listen('tick', () => assert.fail('no event fits'));
    const [event] = await once(source, 'error');
    assert.deepEqual([event.error.code, source.readyState, requests.length], ['ERR_SSE_INVALID_EVENT', 2, 1]);
  });
});
