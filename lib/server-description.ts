// The routes of the reference server, and its description of them in OpenAPI 3.2: `GET /openapi.json`.
// Needs `openapi.ts` and `protocol.ts` beside it.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  type DescribedEvents,
  describeStream,
  itemSchemaOf,
  type JsonObject,
  type OpenApiDocument,
  problemSchema,
} from './openapi.ts';
import { topicRule } from './protocol.ts';

/** What of the options of a server a client can notice. */
export interface DescribedServer {
  readonly events: DescribedEvents | undefined;
  readonly maxTopics: number | undefined;
  readonly maxBodyBytes: number;
  /** Whether a client must show a token, by what it does; `application`: the application decides. */
  readonly tokens: {
    readonly subscribe: boolean | 'application';
    readonly publish: boolean | 'application';
    readonly metrics: boolean;
  };
}

/** Every route of the server: method and pattern. */
export type RouteName =
  | 'GET /events'
  | 'GET /events/:topic'
  | 'POST /topics/:topic'
  | 'DELETE /topics/:topic'
  | 'GET /topics'
  | 'GET /position'
  | 'POST /tickets'
  | 'GET /healthz'
  | 'GET /readyz'
  | 'GET /metrics'
  | 'GET /metrics/recent'
  | 'GET /openapi.json'
  | 'GET /'
  | 'GET /dashboard/:file';

/** Describes all routes. */
export function describeServer(server: DescribedServer): OpenApiDocument {
  const paths: Record<string, Record<string, JsonObject>> = {};
  for (const [name, describe] of Object.entries(ROUTES)) {
    const [method = '', pattern = ''] = name.split(' ');
    const path = pattern.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [method.toLowerCase()]: describe(server) };
  }
  return {
    openapi: '3.2.0',
    info: { title: 'sluice', version: '1', description: INFO },
    paths,
    components: {
      schemas: { Event: itemSchemaOf(server.events), Problem: problemSchema },
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer' },
        ticket: {
          type: 'apiKey',
          in: 'query',
          name: 'ticket',
          description: 'Of `POST /tickets`, for one use.',
        },
      },
    },
  };
}

const INFO =
  'Topics over HTTP. HEAD is answered where GET is. Any request can be refused with 400, 403, 421, 429 or 500, and ' +
  'with a problem: `{ "error", "message" }`.';

/** Answers `GET /openapi.json`. The description is made for the first request, and kept. */
export function serveDescription(
  describe: () => DescribedServer,
): (context: { readonly req: IncomingMessage; readonly res: ServerResponse }) => void {
  let made: { readonly body: Buffer; readonly etag: string } | undefined;
  return ({ req, res }) => {
    made ??= bodyOf(describeServer(describe()));
    const { body, etag } = made;
    const headers = { etag, 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' };
    if (req.headers['if-none-match']?.includes(etag)) return void res.writeHead(304, headers).end();
    res
      .writeHead(200, { ...headers, 'content-type': 'application/json', 'content-length': body.length })
      .end(body);
  };
}

function bodyOf(document: OpenApiDocument): { readonly body: Buffer; readonly etag: string } {
  const body = Buffer.from(`${JSON.stringify(document)}\n`);
  return { body, etag: `"${createHash('sha256').update(body).digest('base64url')}"` };
}

// ── routes ────────────────────────────────────────────────────────────────────────────────────────────────

const ROUTES: Readonly<Record<RouteName, (server: DescribedServer) => JsonObject>> = {
  'GET /events': (server) => stream(server, 'query'),
  'GET /events/:topic': (server) => stream(server, 'path'),

  'POST /topics/:topic': (server) => ({
    summary: 'Publishes to a topic.',
    parameters: [
      TOPIC,
      query('event', 'The type of the events.', { type: 'string' }),
      query('key', 'The key of the events, for readers that conflate.', { type: 'string', maxLength: 1000 }),
      {
        name: 'Idempotency-Key',
        in: 'header',
        description: 'Publishes once, however often the request is sent.',
        schema: { type: 'string', minLength: 1, maxLength: 200 },
      },
    ],
    requestBody: {
      required: true,
      description: `At most ${server.maxBodyBytes} bytes of UTF-8.`,
      content: {
        '*/*': { schema: { type: 'string', description: 'The data of one event.' } },
        'application/x-ndjson': { itemSchema: { description: 'A line: the data of one event, as it is.' } },
        'application/vnd.sluice+ndjson': { itemSchema: LINE },
      },
    },
    responses: {
      200: json('The id of the event, or the ids of a batch.', {
        oneOf: [
          { type: 'object', properties: { id: { type: 'string' } }, required: ['id'] },
          {
            type: 'object',
            properties: { ids: { type: 'array', items: { type: 'string' } } },
            required: ['ids'],
          },
        ],
      }),
      ...problems(
        '400 The topic, the key or an event is not valid; nothing was published.',
        '409 The topic has ended.',
        '411 The request has neither a length nor chunks.',
        '413 The body, an event or the batch is too large.',
        '415 The body cannot be read as text.',
        '422 The `Idempotency-Key` was used for another request.',
        '503 The log cannot be written to at present.',
      ),
      ...denied(server.tokens.publish),
    },
    ...security(server.tokens.publish),
  }),

  'DELETE /topics/:topic': (server) => ({
    summary: 'Ends a topic: its streams end, and it takes no more events.',
    parameters: [TOPIC],
    responses: {
      204: { description: 'It has ended.' },
      ...problems('404 There is no such topic.'),
      ...denied(server.tokens.publish),
    },
    ...security(server.tokens.publish),
  }),

  'GET /topics': (server) => ({
    summary: 'Lists topics by name.',
    parameters: [
      query('after', 'Lists those after this name: `next` of the page before.', { type: 'string' }),
      query('limit', 'Most topics of the page.', {
        type: 'integer',
        minimum: 1,
        maximum: 1000,
        default: 1000,
      }),
    ],
    responses: {
      200: json('A page of topics.', {
        type: 'object',
        properties: {
          topics: { type: 'array', items: TOPIC_INFO },
          position: { type: 'string' },
          next: { type: 'string' },
        },
        required: ['topics', 'position'],
      }),
      ...denied(server.tokens.subscribe),
    },
    ...security(server.tokens.subscribe),
  }),

  'GET /position': (server) => ({
    summary: 'Returns the position of the newest event, to put into a snapshot.',
    responses: {
      200: json('The position.', {
        type: 'object',
        properties: { position: { type: 'string' } },
        required: ['position'],
      }),
      ...denied(server.tokens.subscribe),
    },
    ...security(server.tokens.subscribe),
  }),

  'POST /tickets': (server) => ({
    summary: 'Issues a ticket with which a browser’s EventSource, which sends no token, opens one stream.',
    responses: {
      200: json('The ticket, and when it expires, in milliseconds since 1970.', {
        type: 'object',
        properties: { ticket: { type: 'string' }, expiresAt: { type: 'number' } },
        required: ['ticket', 'expiresAt'],
      }),
      ...denied(server.tokens.subscribe),
    },
    ...security(server.tokens.subscribe),
  }),

  'GET /healthz': () => ({
    summary: 'Says that the process is alive.',
    responses: { 200: json('It is.', status('ok')) },
  }),

  'GET /readyz': () => ({
    summary: 'Says whether to send clients here.',
    responses: {
      200: json('They can come.', status('ready')),
      503: json('They should go elsewhere.', status('draining', 'log-unavailable')),
    },
  }),

  'GET /metrics': (server) => ({
    summary: 'Returns the metrics in the text format of Prometheus.',
    responses: {
      200: { description: 'The metrics.', content: { 'text/plain': { schema: { type: 'string' } } } },
      ...denied(server.tokens.metrics),
    },
    ...security(server.tokens.metrics),
  }),

  'GET /metrics/recent': (server) => ({
    summary: 'Returns a few figures of this process in the last ten minutes, for charts.',
    responses: {
      200: json('The figures, oldest first. `published` and `delivered` are events a second.', {
        type: 'object',
        properties: {
          interval: { type: 'number', description: 'Milliseconds from one figure to the next.' },
          until: { type: 'string', format: 'date-time' },
          figures: {
            type: 'object',
            additionalProperties: { type: 'array', items: { type: 'number' }, maxItems: 120 },
          },
        },
        required: ['interval', 'until', 'figures'],
      }),
      ...denied(server.tokens.metrics),
    },
    ...security(server.tokens.metrics),
  }),

  'GET /openapi.json': () => ({
    summary: 'Returns this description.',
    responses: { 200: json('An OpenAPI document.', { type: 'object' }), 304: UNCHANGED },
  }),

  'GET /': () => ({
    summary: 'Returns the dashboard, a page.',
    responses: { 200: { description: 'The page.', content: { 'text/html': {} } }, 304: UNCHANGED },
  }),

  'GET /dashboard/:file': () => ({
    summary: 'Returns a file that the dashboard loads.',
    parameters: [{ name: 'file', in: 'path', required: true, schema: { type: 'string' } }],
    responses: {
      200: {
        description: 'The file.',
        content: { 'text/css': {}, 'text/javascript': {}, 'image/svg+xml': {} },
      },
      304: UNCHANGED,
      ...problems('404 There is no such file.'),
    },
  }),
};

function stream({ events, maxTopics, tokens }: DescribedServer, topics: 'query' | 'path'): JsonObject {
  const { security: required } = security(tokens.subscribe);
  return describeStream({
    events,
    topics,
    maxTopics,
    security: required && [...required.slice(0, 1), { ticket: [] }, ...required.slice(1)],
    itemSchema: refTo('Event'),
    problemSchema: refTo('Problem'),
  });
}

// ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

const TOPIC: JsonObject = {
  name: 'topic',
  in: 'path',
  required: true,
  schema: { type: 'string', description: topicRule },
};
const UNCHANGED: JsonObject = { description: 'It is what `If-None-Match` names.' };

const LINE: JsonObject = {
  description: 'An event with its own type and key, or its data alone.',
  oneOf: [
    { type: 'string' },
    {
      type: 'object',
      properties: { data: {}, event: { type: 'string' }, key: { type: 'string', maxLength: 1000 } },
      required: ['data'],
    },
  ],
};

const TOPIC_INFO: JsonObject = {
  type: 'object',
  properties: {
    topic: { type: 'string' },
    events: { type: 'integer' },
    bytes: { type: 'integer' },
    subscribers: { type: 'integer' },
    last: { type: 'string', description: 'The id of its newest event.' },
    ended: { type: 'boolean' },
  },
  required: ['topic', 'events', 'bytes', 'subscribers', 'last', 'ended'],
};

function refTo(name: string): JsonObject {
  return { $ref: `#/components/schemas/${name}` };
}

function query(name: string, description: string, schema: JsonObject): JsonObject {
  return { name, in: 'query', description, schema };
}

function json(description: string, schema: JsonObject): JsonObject {
  return { description, content: { 'application/json': { schema } } };
}

function status(...words: readonly string[]): JsonObject {
  return { type: 'object', properties: { status: { enum: words } }, required: ['status'] };
}

/** Problems, each as its status and what it means. */
function problems(...answers: readonly string[]): Record<string, JsonObject> {
  return Object.fromEntries(
    answers.map((answer) => [answer.slice(0, 3), json(answer.slice(4), refTo('Problem'))]),
  );
}

function denied(token: boolean | 'application'): Record<string, JsonObject> {
  if (token === false) return {};
  return problems('401 Send credentials that are valid here.', '403 Your credentials do not allow this.');
}

/** Where the application decides, it may also let in who shows nothing, or something else. */
function security(token: boolean | 'application'): { readonly security?: readonly JsonObject[] } {
  if (token === false) return {};
  return { security: token === 'application' ? [{ token: [] }, {}] : [{ token: [] }] };
}
