// Publishes to topics, ends them and lists them over HTTP: handlers of the reference server.
// Needs `auth.ts`, `body.ts`, `hub.ts`, `hub-event.ts`, `idempotency.ts`, `permissions.ts`, `problem.ts` and
// `protocol.ts` beside it.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { identityOf } from './auth.ts';
import { readText } from './body.ts';
import type { AppendOptions, Hub, HubEvent, TopicInfo } from './hub.ts';
import type { EventBatch } from './hub-event.ts';
import { IdempotencyCache } from './idempotency.ts';
import type { Permissions } from './permissions.ts';
import { httpError, problemOf, sendJson } from './problem.ts';
import { formatId, isTopic, parseId, topicRule } from './protocol.ts';

/** The members of a request's context that are used. */
interface TopicsContext {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
}

interface TopicHandlers {
  /** `POST /topics/:topic` */
  publish(context: TopicsContext): Promise<void>;
  /** `DELETE /topics/:topic` */
  end(context: TopicsContext): Promise<void>;
  /** `GET /topics` */
  list(context: TopicsContext): Promise<void>;
  /** `GET /position` */
  position(context: TopicsContext): Promise<void>;
}

/** What was published: a batch, or one event where there is no `count`. Small, because it is kept for retries. */
interface Published {
  readonly first: string;
  readonly count: number | undefined;
}

const MAX_LISTED = 1000;

/** Makes the handlers. `maxBodyBytes`: most bytes of a published body. */
export function createTopicHandlers(hub: Hub, permissions: Permissions, maxBodyBytes: number): TopicHandlers {
  const published = new IdempotencyCache<Published>();

  /** Resolves once the log has the events; without a log, at once. */
  async function append(topic: string, events: HubEvent | Lines, options: AppendOptions): Promise<Published> {
    if (!(events instanceof Lines))
      return { first: await hub.append(topic, events, options), count: undefined };
    try {
      const ids = await hub.appendAll(topic, events, options);
      return { first: ids[0] ?? '', count: ids.length };
    } catch (error) {
      throw events.number === 0 ? error : atLine(events.number, error);
    }
  }

  /** Looks at one page of topics in each turn, until the sender may read enough of them, or has gone. */
  async function list(
    principal: unknown,
    { after, limit, isGone }: { after: string; limit: number; isGone: () => boolean },
  ): Promise<{ topics: TopicInfo[]; next?: string }> {
    const found: TopicInfo[] = [];
    for (let from = after; ; await nextTurn()) {
      if (isGone()) return { topics: [] };
      const page = await hub.list({ after: from, limit: limit + 1 });
      for (const info of page) if (permissions.may(principal, 'subscribe', info.topic)) found.push(info);
      // The last topic that is sent: the name of one that the sender may not read must not be.
      if (found.length > limit) return { topics: found.slice(0, limit), next: found[limit - 1]!.topic };
      if (page.length <= limit) return { topics: found };
      from = page[limit]!.topic;
    }
  }

  return {
    async publish({ req, res, params, query }) {
      const topic = topicOf(params);
      const principal = await permissions.admit(req, 'publish', [topic]);
      const type = req.headers['content-type'] ?? '';
      const key = keyOf(req);
      const text = await readText(req, maxBodyBytes);
      const fields = { event: query.get('event') ?? undefined, key: query.get('key') ?? undefined };
      const act = async (options: AppendOptions = {}): Promise<Published> => {
        const events = eventsOf(type, text, fields);
        // Requests at the same time would push out what readers that keep up have not got yet.
        await hub.ready(topic);
        return append(topic, events, options);
      };
      const once = (retryKey: string): Promise<Published> => {
        const attempt = digest(identityOf(principal), topic, retryKey);
        const asked = digest(type, query.toString(), text);
        // A log keeps keys for longer than this process lives.
        if (hub.keepsKeys) return act({ idempotency: { key: attempt, digest: asked } });
        return published.run(attempt, act, asked);
      };
      sendJson(res, 200, answerOf(await (key === undefined ? act() : once(key))));
    },

    async end({ req, res, params }) {
      const topic = topicOf(params);
      await permissions.admit(req, 'publish', [topic]);
      if (!(await hub.change(topic, 'end'))) {
        const message = `There is no topic "${topic}" that could end.`;
        throw httpError({ status: 404, error: 'no-such-topic', message });
      }
      res.writeHead(204).end();
    },

    async list({ req, res, query }) {
      const principal = await permissions.reader(req);
      const { position } = hub;
      const after = query.get('after') ?? '';
      const limit = limitOf(query.get('limit'));
      const { topics, next } = await list(principal, { after, limit, isGone: () => res.destroyed });
      sendJson(res, 200, { topics, position, ...(next !== undefined && { next }) });
    },

    async position({ req, res }) {
      await permissions.reader(req);
      sendJson(res, 200, { position: hub.position });
    },
  };
}

function limitOf(text: string | null): number {
  if (text === null) return MAX_LISTED;
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= MAX_LISTED) return limit;
  const message = `\`limit\` is a whole number from 1 to ${MAX_LISTED}.`;
  throw httpError({ status: 400, error: 'malformed-query', message });
}

function answerOf({ first, count }: Published): { id: string } | { ids: string[] } {
  if (count === undefined) return { id: first };
  // The ids of a batch are consecutive.
  const { epoch, seq } = parseId(first) ?? { epoch: 0, seq: 0 };
  return { ids: Array.from({ length: count }, (_, i) => formatId(epoch, seq + i)) };
}

function topicOf({ topic }: Readonly<Record<string, string>>): string {
  if (isTopic(topic)) return topic;
  throw httpError({ status: 400, error: 'malformed-topic', message: `A topic is ${topicRule}.` });
}

function keyOf({ headers }: IncomingMessage): string | undefined {
  const key = headers['idempotency-key'] as string | undefined;
  if (key === undefined || (key !== '' && key.length <= 200)) return key;
  const message = 'An Idempotency-Key has 1 to 200 characters.';
  throw httpError({ status: 400, error: 'malformed-key', message });
}

/** Stands for all the parts, in 43 characters. */
function digest(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url');
}

// ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────

/** A body is one event; or one event per line; or one event per line as JSON, with its own type and key. */
function eventsOf(type: string, text: string, fields: Pick<HubEvent, 'event' | 'key'>): HubEvent | Lines {
  const [mediaType = ''] = type.toLowerCase().split(/[;\s]/);
  if (mediaType === 'application/x-ndjson') return new Lines(text, (data) => ({ ...fields, data }));
  if (mediaType === 'application/vnd.sluice+ndjson')
    return new Lines(text, (line) => ({ ...fields, ...readEvent(line) }));
  return { ...fields, data: text };
}

/**
 * The lines of a body as a batch. They are counted at once, and read one by one: a batch that has too many
 * costs no more than the count.
 */
class Lines implements EventBatch<HubEvent> {
  readonly length: number;
  /** The number of the line that was read last, from 1; 0 before the first, and after the last. */
  number = 0;
  readonly #text: string;
  readonly #read: (line: string) => HubEvent;

  constructor(text: string, read: (line: string) => HubEvent) {
    this.length = countLines(text);
    this.#text = text;
    this.#read = read;
  }

  *[Symbol.iterator](): Generator<HubEvent> {
    const text = this.#text;
    for (let from = 0, number = 1; from < text.length; number++) {
      const feed = text.indexOf('\n', from);
      const next = feed === -1 ? text.length : feed;
      let end = next;
      while (end > from && text.charCodeAt(end - 1) === CR) end--;
      if (end > from) {
        this.number = number;
        yield this.#read(text.slice(from, end));
      }
      from = next + 1;
    }
    this.number = 0;
  }
}

const LF = 10;
const CR = 13;

/** How many lines have anything but carriage returns. */
function countLines(text: string): number {
  let count = 0;
  let isBlank = true;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === LF) isBlank = true;
    else if (isBlank && code !== CR) {
      isBlank = false;
      count++;
    }
  }
  return count;
}

/** The error of an event, with the number of its line in the message. */
function atLine(number: number, error: unknown): unknown {
  const { status, error: kind, message, limits } = problemOf(error);
  const isOfEvent = kind === 'bad-event' || kind === 'event-too-large';
  if (!isOfEvent) return error;
  return Object.assign(httpError({ status, error: kind, message: `Line ${number}: ${message}` }), limits);
}

function readEvent(line: string): HubEvent & { readonly data: string } {
  const value = parseJson(line);
  if (typeof value === 'string') return { data: value };
  const { data, event, key } = Object(value) as Record<string, unknown>;
  if (data === undefined)
    throw badEvent(`a line must be a JSON string or an object with \`data\`, got ${line.slice(0, 80)}`);
  for (const [name, field] of Object.entries({ event, key })) {
    if (field !== undefined && typeof field !== 'string')
      throw badEvent(`\`${name}\` must be a string, got ${line.slice(0, 80)}`);
  }
  return {
    ...(event !== undefined && { event: event as string }),
    ...(key !== undefined && { key: key as string }),
    data: typeof data === 'string' ? data : jsonOf(data),
  };
}

/** JSON is read however deep it is. Before Node 26, writing it ends with the stack, at some thousand levels. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    throw badEvent('`data` is nested too deeply to be written again: send it as a string of JSON');
  }
}

function badEvent(message: string): Error {
  return httpError({ status: 400, error: 'bad-event', message });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
