import assert from 'node:assert/strict';
import { request } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { describeStream, describeStreams, itemSchemaOf, type OpenApiDocument } from '../lib/openapi.ts';
import { controlEvents } from '../lib/protocol.ts';
import { defineEvents } from '../lib/schema.ts';
import { createSseServer, type SseServerOptions } from '../lib/server.ts';
import { halt, schemaOf, tick } from './helpers/schemas.ts';

// What real validators say of these descriptions is tested in test/interop/schemas.

const events = defineEvents({ tick, halt });

interface Branch {
  readonly title: string;
  readonly required?: readonly string[];
  readonly properties: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

const branchesOf = (schema: Readonly<Record<string, unknown>>): readonly Branch[] => schema.oneOf as Branch[];

describe('itemSchemaOf', () => {
  it('has a branch for each event type, with the JSON Schema of its data, and for each control event', () => {
    const branches = branchesOf(itemSchemaOf(events));
    assert.deepEqual(
      branches.map(({ title }) => title),
      ['tick', 'halt', ...['ready', 'gap', 'position', 'end', 'refused'].map((name) => `sluice:${name}`)],
    );
    assert.deepEqual(branches[0], {
      title: 'tick',
      properties: {
        event: { const: 'tick' },
        data: { contentMediaType: 'application/json', contentSchema: events.jsonSchemaOf('tick') },
      },
      required: ['event', 'data'],
    });
    assert.deepEqual(branches[1]?.properties.data?.contentSchema, {});
  });

  it('has no control events where they are sent as comments, and any event where none is defined', () => {
    assert.deepEqual(
      branchesOf(itemSchemaOf(events, { controls: 'comments' })).map(({ title }) => title),
      ['tick', 'halt'],
    );
    const [any] = branchesOf(itemSchemaOf());
    assert.deepEqual(any?.properties, { event: { not: { pattern: '^sluice:' } } });
  });

  it('lets the event `message` lack its type, which a stream need not state', () => {
    const [message] = branchesOf(itemSchemaOf(defineEvents({ message: tick })));
    assert.deepEqual(message?.required, ['data']);
  });

  it('gives a schema that refers to itself an id, so that it still does inside a document', () => {
    const dialect = 'https://json-schema.org/draft/2020-12/schema';
    const tree = { $schema: dialect, type: 'object', properties: { children: { items: { $ref: '#' } } } };
    const known = { $id: 'https://example.com/tree', items: { $ref: '#/$defs/a' }, $defs: { a: {} } };
    const defined = defineEvents({
      'a tree': schemaOf(
        () => ({ value: 0 }),
        () => tree,
      ),
      known: schemaOf(
        () => ({ value: 0 }),
        () => known,
      ),
    });
    const [first, second] = branchesOf(itemSchemaOf(defined, { idPrefix: 'urn:x:' }));
    assert.deepEqual(first?.properties.data?.contentSchema, {
      $id: 'urn:x:a%20tree',
      type: 'object',
      properties: { children: { items: { $ref: '#' } } },
    });
    assert.deepEqual(second?.properties.data?.contentSchema, known);
  });
});

const namesOf = (operation: Readonly<Record<string, unknown>>): string[] =>
  (operation.parameters as { name: string; in: string }[]).map(
    (parameter) => `${parameter.in} ${parameter.name}`,
  );

describe('describeStream', () => {
  it('describes the parameters that serveEvents reads, and where topics are named', () => {
    const position = [
      'header Last-Event-ID',
      ...['lastEventId', 'from', 'last', 'conflate', 'nameTopics'].map((n) => `query ${n}`),
    ];
    assert.deepEqual(namesOf(describeStream()), ['query topic', ...position]);
    assert.deepEqual(namesOf(describeStream({ topics: 'path' })), ['path topic', 'query topic', ...position]);
    assert.deepEqual(namesOf(describeStream({ topics: 'none' })), position);
  });

  it('describes a 401 where credentials are needed', () => {
    const statuses = (operation: object) => Object.keys((operation as { responses: object }).responses);
    assert.deepEqual(statuses(describeStream()), ['200', '204', '400', '403', '406', '429', '503']);
    assert.ok(statuses(describeStream({ security: [{ token: [] }] })).includes('401'));
  });
});

describe('describeStreams', () => {
  it('describes the items of streams with the same events once', () => {
    const { paths, components } = describeStreams({
      title: 'Prices',
      version: '1.0.0',
      streams: {
        '/events': { events },
        '/events/{topic}': { events },
        '/plain': { events, controls: 'comments', topics: 'none' },
        '/other': {},
      },
    });
    assert.deepEqual(Object.keys(components.schemas ?? {}), ['Problem', 'Event', 'Event2', 'Event3']);
    const referred = Object.values(paths).map(
      ({ get }) => /"itemSchema":{"\$ref":"#\/components\/schemas\/(\w+)"}/.exec(JSON.stringify(get))?.[1],
    );
    assert.deepEqual(referred, ['Event', 'Event', 'Event2', 'Event3']);
    const [first] = namesOf(paths['/events/{topic}']?.get as object as Record<string, unknown>);
    assert.equal(first, 'path topic');
  });

  it('refuses paths that cannot be', () => {
    const describe = (path: string, topics?: 'path') => () =>
      describeStreams({ title: '', version: '', streams: { [path]: { topics } } });
    assert.throws(
      describe('events'),
      /^TypeError: `streams` must have paths that begin with "\/", got "events"$/,
    );
    assert.throws(describe('/events', 'path'), /^TypeError: `topics` can be "path" where that has {topic}/);
  });
});

// ── the reference server ──────────────────────────────────────────────────────────────────────────────────

async function started(t: TestContext, options: SseServerOptions = {}) {
  const sse = createSseServer(options);
  t.after(() => sse.close({ deadline: 0 }));
  const url = await sse.listen(0);
  const response = await fetch(`${url}/openapi.json`);
  return { sse, url, response, document: (await response.json()) as OpenApiDocument };
}

const methodsOf = (path: object): string[] => Object.keys(path).map((method) => method.toUpperCase());

describe('GET /openapi.json', () => {
  it('describes exactly the methods that the server allows at each path', async (t) => {
    const { url, document } = await started(t);
    for (const [path, operations] of Object.entries(document.paths)) {
      const target = url + path.replace('{topic}', 'a').replace('{file}', 'app.js');
      const { status, headers } = await fetch(target, { method: 'PATCH' });
      const allowed = headers.get('allow')?.split(', ');
      const described = methodsOf(operations);
      const expected = described.includes('GET') ? [...described, 'HEAD'] : described;
      assert.deepEqual([path, status, allowed?.sort()], [path, 405, expected.sort()]);
    }
  });

  it('has what a route answers among its answers', async (t) => {
    const { url, document } = await started(t);
    const seen: string[] = [];
    for (const [path, operations] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        const target = url + path.replace('{topic}', 'a%20b').replace('{file}', 'none');
        const body = method === 'post' ? { body: '' } : {};
        const response = await fetch(target, { method: method.toUpperCase(), ...body });
        await response.body?.cancel();
        const { responses } = operation as { responses: object };
        const isAnyRefusal = [400, 403, 421, 429, 500].includes(response.status);
        assert.ok(isAnyRefusal || response.status in responses, `${method} ${path}: ${response.status}`);
        seen.push(`${response.status}`);
      }
    }
    assert.ok(seen.includes('200') && seen.includes('400') && seen.includes('404'));
  });

  it('says which routes need a token', async (t) => {
    const needing = (document: OpenApiDocument): string[] =>
      Object.entries(document.paths).flatMap(([path, operations]) =>
        Object.entries(operations).flatMap(([method, operation]) => {
          const { security = [] } = operation as { security?: readonly object[] };
          return security.length === 0 ? [] : `${method} ${path} ${security.map((one) => Object.keys(one))}`;
        }),
      );
    assert.deepEqual(needing((await started(t)).document), []);
    const tokens = { publishTokens: ['p'], subscribeTokens: ['s'], metricsTokens: ['m'] };
    assert.deepEqual(needing((await started(t, tokens)).document), [
      'get /events token,ticket',
      'get /events/{topic} token,ticket',
      'post /topics/{topic} token',
      'delete /topics/{topic} token',
      'get /topics token',
      'get /position token',
      'post /tickets token',
      'get /metrics token',
      'get /metrics/recent token',
    ]);
    const access = { authorize: () => 'anybody', may: () => true };
    const optional = needing((await started(t, { access })).document);
    // An empty requirement: who shows nothing may be let in too.
    assert.ok(optional.includes('get /events token,ticket,'), optional.join('\n'));
  });

  it('has the schemas of the hub', async (t) => {
    const { document, response } = await started(t, { hub: { events }, maxTopicsPerStream: 3 });
    const titles = branchesOf(document.components.schemas?.Event as object as Record<string, unknown>).map(
      ({ title }) => title,
    );
    assert.deepEqual(titles.slice(0, 3), ['tick', 'halt', controlEvents.ready]);
    assert.match(JSON.stringify(document.paths['/events']), /"maxItems":3/);
    const bytes = Number(response.headers.get('content-length'));
    assert.ok(bytes > 0 && bytes < 32_768, `${bytes} bytes`);
  });

  it('can be cached, and is behind the same guard as all', async (t) => {
    const { url, response, document } = await started(t);
    assert.equal(document.openapi, '3.2.0');
    const { headers } = response;
    assert.deepEqual(
      [headers.get('content-type'), headers.get('cache-control'), headers.get('x-content-type-options')],
      ['application/json', 'no-cache', 'nosniff'],
    );
    const etag = headers.get('etag') as string;
    const again = await fetch(`${url}/openapi.json`, { headers: { 'if-none-match': etag } });
    assert.deepEqual([again.status, await again.text(), again.headers.get('etag')], [304, '', etag]);
    const head = await fetch(`${url}/openapi.json`, { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers.get('etag'), await head.text()], [200, etag, '']);
    const status = await new Promise((resolve, reject) => {
      request(`${url}/openapi.json`, { headers: { host: 'elsewhere.example' } }, (res) => {
        res.resume();
        resolve(res.statusCode);
      })
        .on('error', reject)
        .end();
    });
    assert.equal(status, 421);
  });
});
