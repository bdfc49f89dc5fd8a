// Publishes to topics, ends them and lists them over HTTP: handlers of the reference server.
// Needs `body.ts`, `hub.ts`, `idempotency.ts`, `permissions.ts`, `problem.ts` and `protocol.ts` beside it.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { readText } from './body.ts';
import type { Hub, HubEvent } from './hub.ts';
import { IdempotencyCache } from './idempotency.ts';
import type { Permissions } from './permissions.ts';
import { httpError, sendJson } from './problem.ts';
import { isTopic, topicRule } from './protocol.ts';

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

type Published = { readonly id: string } | { readonly ids: readonly string[] };

/** Makes the handlers. `maxBodyBytes`: most bytes of a published body. */
export function createTopicHandlers(hub: Hub, permissions: Permissions, maxBodyBytes: number): TopicHandlers {
  const published = new IdempotencyCache<Published>();

  async function publishAll(topic: string, events: HubEvent | readonly HubEvent[]): Promise<Published> {
    // Requests at the same time would push out what readers that keep up have not got yet.
    await hub.ready(topic);
    return isList(events) ? { ids: hub.publishAll(topic, events) } : { id: hub.publish(topic, events) };
  }

  return {
    async publish({ req, res, params, query }) {
      const topic = topicOf(params);
      await permissions.admit(req, 'publish', [topic]);
      const fields = { event: query.get('event') ?? undefined, key: query.get('key') ?? undefined };
      const events = eventsOf(req.headers['content-type'], await readText(req, maxBodyBytes), fields);
      const key = retryKey(req, topic);
      const act = (): Promise<Published> => publishAll(topic, events);
      sendJson(res, 200, await (key === undefined ? act() : published.run(key, act)));
    },

    async end({ req, res, params }) {
      const topic = topicOf(params);
      await permissions.admit(req, 'publish', [topic]);
      if (!hub.end(topic)) {
        const message = `There is no topic "${topic}" that could end.`;
        throw httpError({ status: 404, error: 'no-such-topic', message });
      }
      res.writeHead(204).end();
    },

    async list({ req, res }) {
      const principal = await permissions.reader(req);
      const topics = hub.topics().filter(({ topic }) => permissions.may(principal, 'subscribe', topic));
      sendJson(res, 200, { topics, position: hub.position });
    },

    async position({ req, res }) {
      await permissions.reader(req);
      sendJson(res, 200, { position: hub.position });
    },
  };
}

function topicOf({ topic }: Readonly<Record<string, string>>): string {
  if (isTopic(topic)) return topic;
  throw httpError({ status: 400, error: 'malformed-topic', message: `A topic is ${topicRule}.` });
}

/**
 * Returns the key that a retry has in common with the first request. The same header of another client, or
 * for another topic, gives another key.
 */
function retryKey({ headers }: IncomingMessage, topic: string): string | undefined {
  const key = headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (key.length <= 200) return JSON.stringify([key, topic, headers.authorization]);
  const message = 'An Idempotency-Key has at most 200 characters.';
  throw httpError({ status: 400, error: 'malformed-key', message });
}

/** A body is one event; or one event per line; or one event per line as JSON, with its own type and key. */
function eventsOf(
  type = '',
  text: string,
  fields: Pick<HubEvent, 'event' | 'key'>,
): HubEvent | readonly HubEvent[] {
  const [mediaType = ''] = type.toLowerCase().split(/[;\s]/);
  if (mediaType === 'application/x-ndjson') return linesOf(text).map((data) => ({ ...fields, data }));
  if (mediaType === 'application/vnd.sluice+ndjson')
    return linesOf(text).map((line) => ({ ...fields, ...readEvent(line) }));
  return { ...fields, data: text };
}

function linesOf(text: string): string[] {
  return text.split(/\r?\n/).filter((line) => line !== '');
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
    data: typeof data === 'string' ? data : JSON.stringify(data),
  };
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

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value);
}
