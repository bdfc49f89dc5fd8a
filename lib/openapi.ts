// Describes event streams in OpenAPI 3.2: the routes of `serveEvents`, and what each event of a stream looks like.
// Needs `protocol.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.
//
// How it works: OpenAPI 3.2 sees an event stream as a sequence of items, and each item as an object with the fields
// of the event, once the stream was parsed. `itemSchema` is the schema of one. Data is text in it, whose content is
// JSON.

import { controlEvents, controlPrefix, gapReasons, topicRule } from './protocol.ts';

/** A JSON value of a description. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** The members of what `defineEvents` makes that are used. */
export interface DescribedEvents {
  readonly names: readonly string[];
  jsonSchemaOf(event: string): JsonObject | undefined;
}

export interface ItemSchemaOptions {
  /**
   * How the stream sends its control events: the option `controls` of the hub's stream. `comments` are no items;
   * those that a function makes you describe yourself. Default `events`.
   */
  readonly controls?: 'events' | 'comments' | undefined;
  /**
   * The beginning of the `$id` that a JSON Schema with references into itself gets, so that they stay right where it
   * is put. Give each its own where one document has several definitions. Default `urn:sluice:event:`.
   */
  readonly idPrefix?: string | undefined;
}

export interface StreamDescription extends ItemSchemaOptions {
  /** Made by `defineEvents`. Without it, events are of any type, and their data is any text. */
  readonly events?: DescribedEvents | undefined;
  readonly summary?: string | undefined;
  readonly description?: string | undefined;
  readonly operationId?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  /**
   * Where a request names its topics, as the option `topics` of `serveEvents` decides: `query`, in `?topic=`; `path`,
   * in `{topic}` of the path and in `?topic=`; `none`, where the server chooses them. Default `query`.
   */
  readonly topics?: 'query' | 'path' | 'none' | undefined;
  /** Most topics of one stream; default 64. */
  readonly maxTopics?: number | undefined;
  /** What a client must show: names of security schemes of your document. With it, a 401 is described. */
  readonly security?: readonly JsonObject[] | undefined;
  /** In place of the schema of an item and of a problem, such as `{ $ref: '#/components/schemas/Event' }`. */
  readonly itemSchema?: JsonObject | undefined;
  readonly problemSchema?: JsonObject | undefined;
}

export interface DocumentOptions {
  readonly title: string;
  /** The version of your API. */
  readonly version: string;
  /** The streams, by their paths: `/events`, `/rooms/{topic}`. */
  readonly streams: Readonly<Record<string, StreamDescription>>;
  readonly securitySchemes?: JsonObject | undefined;
}

export interface OpenApiDocument {
  readonly openapi: '3.2.0';
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly paths: Readonly<Record<string, JsonObject>>;
  readonly components: Readonly<Record<string, JsonObject>>;
}

/**
 * Makes an OpenAPI document of streams: each a `GET` of `serveEvents`. Add your other routes to its `paths`, or put
 * what `describeStream` returns into a document of your own.
 *
 * @throws {TypeError} for a path that does not begin with `/`, and for topics in a path that has no `{topic}`.
 */
export function describeStreams({
  title,
  version,
  streams,
  securitySchemes,
}: DocumentOptions): OpenApiDocument {
  const schemas: Record<string, JsonObject> = { Problem: problemSchema };
  const paths: Record<string, JsonObject> = {};
  const known: { readonly name: string; readonly stream: StreamDescription }[] = [];
  for (const [path, stream] of Object.entries(streams)) {
    checkPath(path, stream);
    const same = known.find((one) => haveSameItems(one.stream, stream));
    const name = same?.name ?? (known.length === 0 ? 'Event' : `Event${known.length + 1}`);
    if (same === undefined) {
      known.push({ name, stream });
      schemas[name] = itemSchemaOf(stream.events, {
        idPrefix: `urn:sluice:${name.toLowerCase()}:`,
        ...stream,
      });
    }
    const refs = { itemSchema: refTo(name), problemSchema: refTo('Problem') };
    paths[path] = { get: describeStream({ topics: topicsIn(path), ...refs, ...stream }) };
  }
  const components = { schemas, ...(securitySchemes && { securitySchemes }) };
  return { openapi: '3.2.0', info: { title, version }, paths, components };
}

function haveSameItems(one: StreamDescription, other: StreamDescription): boolean {
  return one.events === other.events && one.controls === other.controls && one.idPrefix === other.idPrefix;
}

/** A reference to a schema of the same document. */
function refTo(name: string): JsonObject {
  return { $ref: `#/components/schemas/${name}` };
}

function topicsIn(path: string): 'path' | 'query' {
  return path.includes('{topic}') ? 'path' : 'query';
}

function checkPath(path: string, { topics }: StreamDescription): void {
  if (!path.startsWith('/'))
    throw new TypeError(`\`streams\` must have paths that begin with "/", got ${JSON.stringify(path)}`);
  if (topics === 'path' && topicsIn(path) !== 'path')
    throw new TypeError(`\`topics\` can be "path" where that has {topic}, got ${JSON.stringify(path)}`);
}

/** Makes the operation of one stream, for `paths` of an OpenAPI document: `{ '/events': { get: … } }`. */
export function describeStream(stream: StreamDescription = {}): JsonObject {
  const {
    events,
    topics = 'query',
    maxTopics = 64,
    security,
    problemSchema: problem = problemSchema,
  } = stream;
  const { summary = 'Streams the events of topics.', description, operationId, tags } = stream;
  const item = stream.itemSchema ?? itemSchemaOf(events, stream);
  const answers: Record<string, JsonObject> = {
    200: {
      description: RESPONSE_200,
      content: { 'text/event-stream': { itemSchema: item } },
    },
    204: {
      description: 'The topics have ended, and nothing is left to deliver. EventSource does not reconnect.',
    },
  };
  for (const [status, text] of Object.entries(PROBLEMS)) {
    if (status === '401' && security === undefined) continue;
    answers[status] = { description: text, content: { 'application/json': { schema: problem } } };
  }
  const all: Record<string, unknown> = { summary, description, operationId, tags, security };
  const given = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  return { ...given, parameters: [...topicParameters(topics, maxTopics), ...POSITION], responses: answers };
}

const RESPONSE_200 = `The stream. A client that is over a limit may get one that has a single event, \
\`${controlEvents.refused}\`, with a time to reconnect after.`;

const PROBLEMS: Readonly<Record<string, string>> = {
  400: 'The topics, the query or the path cannot be read.',
  401: 'Send credentials that are valid here.',
  403: 'You may not read a topic, or not from there.',
  406: 'The `Accept` header does not allow an event stream.',
  429: 'You have too many streams, or open them too fast. `Retry-After` says when to come back.',
  503: 'The server is full, or cannot decide about the request at present.',
};

/** The JSON answer to a failed request. */
export const problemSchema: JsonObject = {
  type: 'object',
  properties: {
    error: { type: 'string', description: 'The kind of failure, in kebab-case.' },
    message: { type: 'string', description: 'What went wrong, for people.' },
  },
  required: ['error', 'message'],
};

// ── parameters ────────────────────────────────────────────────────────────────────────────────────────────

const TOPIC: JsonObject = {
  type: 'string',
  minLength: 1,
  maxLength: 200,
  description: topicRule,
};

function topicParameters(topics: 'query' | 'path' | 'none', maxTopics: number): readonly JsonObject[] {
  if (topics === 'none') return [];
  const inPath = { name: 'topic', in: 'path', required: true, schema: TOPIC };
  const isInPath = topics === 'path';
  const inQuery = {
    name: 'topic',
    in: 'query',
    required: !isInPath,
    description: isInPath ? 'Further topics of the same stream.' : 'The topics to follow, each once.',
    schema: { type: 'array', items: TOPIC, minItems: 1, maxItems: maxTopics },
    style: 'form',
    explode: true,
  };
  return isInPath ? [inPath, inQuery] : [inQuery];
}

/** Where delivery begins. */
const POSITION: readonly JsonObject[] = [
  {
    name: 'Last-Event-ID',
    in: 'header',
    description: 'The id of the last event that was processed. Delivery continues after it, or with a gap.',
    schema: { type: 'string' },
  },
  {
    name: 'lastEventId',
    in: 'query',
    description: 'The same, where the header is missing.',
    schema: { type: 'string' },
  },
  {
    name: 'from',
    in: 'query',
    description: 'Where to begin without an id: with the oldest event, or with the next one.',
    schema: { type: 'string', enum: ['earliest', 'now'], default: 'now' },
  },
  {
    name: 'last',
    in: 'query',
    description: 'Where to begin without an id: with so many of the newest events.',
    schema: { type: 'integer', minimum: 0, maximum: 999_999_999 },
  },
  {
    name: 'conflate',
    in: 'query',
    description: 'Whether to skip, of what was missed, all but the newest event of each key.',
    schema: { type: 'string', enum: ['1', 'true'] },
  },
  {
    name: 'nameTopics',
    in: 'query',
    description: 'Whether a comment in the block of each event names its topic.',
    schema: { type: 'string', enum: ['1', 'true'] },
  },
];

// ── items ─────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Makes the JSON Schema (draft 2020-12) of one event of a stream, for `itemSchema` of OpenAPI 3.2: an object of
 * `event`, `data`, `id` and `retry`, which is one of the defined types or one of the control events. An item of the
 * type `message` may lack `event`.
 */
export function itemSchemaOf(events?: DescribedEvents, options: ItemSchemaOptions = {}): JsonObject {
  const { controls = 'events', idPrefix = 'urn:sluice:event:' } = options;
  const own = events?.names.map((name) => {
    const schema = embedded(events.jsonSchemaOf(name) ?? {}, `${idPrefix}${encodeURIComponent(name)}`);
    return branch(name, schema);
  });
  return {
    type: 'object',
    properties: {
      event: { type: 'string' },
      data: { type: 'string' },
      id: { type: 'string' },
      retry: { type: 'integer', minimum: 0 },
    },
    required: ['data'],
    oneOf: [...(own ?? [ANY_EVENT]), ...(controls === 'events' ? CONTROL_EVENTS : [])],
  };
}

function branch(name: string, contentSchema: JsonObject, description?: string): JsonObject {
  return {
    title: name,
    ...(description !== undefined && { description }),
    properties: {
      event: { const: name },
      data: { contentMediaType: 'application/json', contentSchema },
    },
    required: name === 'message' ? ['data'] : ['event', 'data'],
  };
}

/** Where no types are defined. */
const ANY_EVENT: JsonObject = {
  title: 'An event of the application',
  properties: { event: { not: { pattern: `^${controlPrefix}` } } },
};

/** `#` in a schema means its own root: an `$id` keeps it one within another document. */
function embedded(schema: JsonObject, id: string): JsonObject {
  const { $schema: _, ...rest } = schema;
  const { $id } = rest;
  return $id === undefined && refersToItself(rest) ? { $id: id, ...rest } : rest;
}

function refersToItself(schema: JsonObject): boolean {
  return /"\$(?:ref|dynamicRef)":"#/.test(JSON.stringify(schema));
}

const TOPICS = { type: 'array', items: { type: 'string' } };

const HEARTBEAT = {
  type: ['object', 'null'],
  description: 'A connection is dead after `missed + 1` intervals, in milliseconds, without a byte.',
  properties: { interval: { type: 'number', minimum: 0 }, missed: { type: 'number', minimum: 0 } },
  required: ['interval', 'missed'],
};

const CONTROL_EVENTS: readonly JsonObject[] = [
  branch(
    controlEvents.ready,
    { type: 'object', properties: { topics: TOPICS, heartbeat: HEARTBEAT }, required: ['topics'] },
    'The first event. Its id is the position from which delivery continues.',
  ),
  branch(
    controlEvents.gap,
    {
      type: 'object',
      properties: {
        reason: { type: 'string', enum: gapReasons },
        from: { type: ['string', 'null'] },
        to: { type: 'string' },
        topics: TOPICS,
      },
      required: ['reason', 'from', 'to', 'topics'],
    },
    'Events that this client will never receive.',
  ),
  branch(controlEvents.position, { type: 'object' }, 'The position has moved, to its id.'),
  branch(
    controlEvents.end,
    { type: 'object', properties: { topics: TOPICS } },
    'The last event: the topics have ended.',
  ),
  branch(
    controlEvents.refused,
    problemSchema,
    'The only event of a stream that was refused: come back after its `retry`.',
  ),
];
