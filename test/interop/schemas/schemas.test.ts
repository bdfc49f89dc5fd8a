// Events that Zod and Valibot define: published, refused, read, and described, in the eyes of real validators.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { registerSchema, type SchemaObject, validate } from '@hyperjump/json-schema/openapi-3-2';
import { Validator } from '@seriousme/openapi-schema-validator';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { type ConnectError, connect } from '../../../lib/client.ts';
import { type DescribedEvents, describeStreams, type OpenApiDocument } from '../../../lib/openapi.ts';
import { createSseServer, type SseServerOptions } from '../../../lib/server.ts';
import { valibot, zod } from './libraries.ts';

const NOON = '2026-11-30T12:00:00Z';
const tree = { name: 'root', children: [{ name: 'leaf', children: [] }] };
const libraries = [
  ['Zod', zod, /^event "tick": price: Invalid input: expected number, received string$/],
  ['Valibot', valibot, /^event "tick": price: Invalid type: Expected number but received "7"$/],
] as const;

async function serving(t: TestContext, options: SseServerOptions) {
  const sse = createSseServer(options);
  t.after(() => sse.close({ deadline: 0 }));
  return { hub: sse.hub, url: await sse.listen(0) };
}

for (const [name, events, refusal] of libraries) {
  describe(`events that ${name} defines`, () => {
    it('are refused where their values do not fit, in the words of the library', async (t) => {
      const { hub, url } = await serving(t, { hub: { events } });
      const publish = (event: string, json: unknown) => () => hub.publish('a', { event, json });
      assert.throws(publish('tick', { price: '7', at: NOON }), {
        code: 'ERR_SSE_BAD_EVENT',
        message: refusal,
      });
      assert.throws(publish('tick', { price: 7, at: 'noon' }), /^TypeError: event "tick": at: /);
      const wrong = { name: 'root', children: [{ name: 1, children: [] }] };
      assert.throws(publish('tree', wrong), /^TypeError: event "tree": children\.0\.name: /);
      const body = JSON.stringify({ price: '7', at: NOON });
      const response = await fetch(`${url}/topics/a?event=tick`, { method: 'POST', body });
      const { error, message } = (await response.json()) as Record<string, string>;
      assert.deepEqual([response.status, error], [400, 'bad-event']);
      assert.match(message as string, refusal);
      assert.equal(hub.stats.published, 0);
    });

    it('are read as the schemas return them', async (t) => {
      const { hub, url } = await serving(t, { hub: { events } });
      hub.publish('a', { event: 'tick', json: { price: 7, at: NOON } });
      hub.publish('a', { event: 'tree', json: tree });
      hub.publish('a', { json: 'hello' });
      hub.end('a');
      const read: unknown[] = [];
      const options = { events, onGap: () => assert.fail('nothing is lost') };
      for await (const { event, json } of connect(`${url}/events/a?from=earliest`, options)) {
        // Compiles only where the types of the library arrive here.
        if (event === 'tick') read.push([event, json.price.toFixed(1), json.at.getTime()]);
        else if (event === 'tree') read.push([event, json.children[0]?.name]);
        else read.push([event, json.toUpperCase()]);
      }
      assert.deepEqual(read, [
        ['tick', '7.0', Date.parse(NOON)],
        ['tree', 'leaf'],
        ['message', 'HELLO'],
      ]);
    });

    it('end a reader whose server sends something else', async (t) => {
      const { hub, url } = await serving(t, {});
      hub.publish('a', { event: 'tick', json: { price: '7', at: NOON } });
      const reading = async () => {
        for await (const { json } of connect(`${url}/events/a?from=earliest`, { events }))
          assert.fail(`${json}`);
      };
      await assert.rejects(reading, ({ code, cause }: ConnectError) => {
        return code === 'ERR_SSE_INVALID_EVENT' && refusal.test((cause as Error).message);
      });
    });

    it('make a description that two validators of OpenAPI 3.2 accept, whatever the server needs', async (t) => {
      const tokens = { publishTokens: ['p'], subscribeTokens: ['s'], metricsTokens: ['m'] };
      for (const options of [{}, tokens, { access: { authorize: () => 1, may: () => true } }]) {
        const { url } = await serving(t, { hub: { events }, ...options });
        await assertValid((await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument);
      }
      await assertValid(describing(events));
    });

    it('fit the description: each item of a real stream, and the JSON in it', async (t) => {
      const { hub, url } = await serving(t, { hub: { events, history: { maxEvents: 4 } } });
      for (let i = 0; i < 3; i++) hub.publish('a', { event: 'tick', json: { price: i, at: NOON } });
      hub.publish('a', { event: 'tree', json: tree });
      hub.publish('a', { json: 'hello' });
      hub.end('a');
      const document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument;
      const check = await itemsOf(document, `http://${name.toLowerCase()}.test/openapi.json`);
      const [epoch] = hub.position.split('-');
      const items = parsed(await (await fetch(`${url}/events/a?lastEventId=${epoch}-0`)).text());
      assert.deepEqual(
        items.map(({ event }) => event),
        ['sluice:ready', 'sluice:gap', 'tick', 'tick', 'tree', undefined, 'sluice:end'],
      );
      for (const item of items) assert.deepEqual([item.event, await check(item)], [item.event, true]);
      const wrong: Item[] = [
        { event: 'tack', data: '{}' },
        { event: 'tick', data: '{"price":"7","at":""}' },
        { event: 'tree', data: JSON.stringify({ name: 'root', children: [{ name: 1, children: [] }] }) },
        { event: 'sluice:gap', data: '{"reason":"boredom","from":null,"to":"1-1","topics":[]}' },
        { event: 'sluice:unheard-of', data: '{}' },
        { data: '7' },
      ];
      for (const item of wrong) assert.deepEqual([item, await check(item)], [item, false]);
    });
  });
}

describe('a hub without schemas', () => {
  it('has a description that two validators accept, and that any event of its stream fits', async (t) => {
    const { hub, url } = await serving(t, {});
    hub.publish('a', { data: 'any text' });
    hub.publish('a', { event: 'anything', data: 'more' });
    hub.end('a');
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as OpenApiDocument;
    await assertValid(document);
    registerSchema(document as unknown as SchemaObject, 'http://plain.test/openapi.json', DIALECT);
    const fits = await validate('http://plain.test/openapi.json#/components/schemas/Event');
    const items = parsed(await (await fetch(`${url}/events/a?from=earliest`)).text());
    assert.equal(items.length, 4);
    for (const item of items) assert.ok(fits(item as object as Record<string, string>).valid, item.event);
  });

  it('notices a description that is wrong, which the tests above depend on', async () => {
    const document = describing(zod);
    const { get, ...rest } = document.paths['/events'] as Record<string, object>;
    const broken = {
      ...document,
      paths: { '/events': { ...rest, get: { ...get, parameters: [{ in: 'query' }] } } },
    };
    await assert.rejects(assertValid(broken));
    const schema = { ...document.components.schemas, Event: { type: 'nothing' } };
    await assert.rejects(assertValid({ ...document, components: { schema } as never }));
  });
});

// ── validators ────────────────────────────────────────────────────────────────────────────────────────────

const DIALECT = 'https://spec.openapis.org/oas/3.2/dialect';

function describing(events: DescribedEvents): OpenApiDocument {
  return describeStreams({
    title: 'Trees',
    version: '1.0.0',
    streams: {
      '/events': { events, security: [{ token: [] }] },
      '/events/{topic}': { events },
      '/plain': {},
    },
    securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
  });
}

/** In the eyes of both: one knows the schemas inside as well. */
async function assertValid(document: OpenApiDocument): Promise<void> {
  const copy = () => JSON.parse(JSON.stringify(document));
  const { valid } = await validate('https://spec.openapis.org/oas/3.2/schema-base', copy());
  assert.ok(valid, 'not valid in the eyes of @hyperjump/json-schema');
  const validator = new Validator();
  const result = await validator.validate(copy());
  assert.deepEqual([validator.version, result.valid, result.errors], ['3.2', true, undefined]);
}

interface Item {
  readonly event?: string;
  readonly data: string;
}

/** As OpenAPI 3.2 sees a stream: objects with the fields that were sent. */
function parsed(text: string): Item[] {
  const items: Item[] = [];
  const take = ({ event, data, id }: EventSourceMessage): void => {
    items.push({ ...(event !== undefined && { event }), data, ...(id !== undefined && { id }) });
  };
  createParser({ onEvent: take }).feed(text);
  return items;
}

/**
 * Checks an item by `itemSchema`, and its data by the `contentSchema` of its branch, which no validator applies by
 * itself.
 */
async function itemsOf(document: OpenApiDocument, uri: string): Promise<(item: Item) => Promise<boolean>> {
  registerSchema(document as unknown as SchemaObject, uri, DIALECT);
  const base = `${uri}#/components/schemas/Event`;
  const fits = await validate(base);
  const { oneOf: branches } = document.components.schemas!.Event as { oneOf: { title: string }[] };
  return async (item) => {
    if (!fits(item as object as Record<string, string>).valid) return false;
    const index = branches.findIndex(({ title }) => title === (item.event ?? 'message'));
    const dataFits = await validate(`${base}/oneOf/${index}/properties/data/contentSchema`);
    return dataFits(JSON.parse(item.data)).valid;
  };
}
