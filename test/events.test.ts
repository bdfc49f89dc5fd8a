import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import {
  type EventsHandler,
  type EventsRefusal,
  type ServeEventsOptions,
  serveEvents,
} from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { shutdown, trackConnections } from '../lib/shutdown.ts';
import { TestLog } from './helpers/hub.ts';
import { Reader } from './helpers/reader.ts';
import { listen } from './helpers/server.ts';

interface Served {
  readonly hub: Hub;
  readonly events: EventsHandler;
  readonly url: string;
}

/** A hub behind a bare server, until the test is over. */
async function serve<Principal>(
  t: TestContext,
  options: ServeEventsOptions<Principal> = {},
  hub: Hub = new Hub(),
): Promise<Served> {
  const events = serveEvents(hub, options);
  const url = `http://127.0.0.1:${await listen(t, createServer(events))}`;
  return { hub, events, url };
}

async function problem(url: string, init?: RequestInit): Promise<{ status: number; error: string }> {
  const response = await fetch(url, init);
  const { error } = (await response.json()) as { error: string };
  return { status: response.status, error };
}

function publish(hub: Hub, topic: string, ...texts: string[]): string[] {
  return texts.map((data) => hub.publish(topic, { data }));
}

const bySeq = (reader: Reader): string[] => reader.data;

describe('serveEvents', () => {
  it('streams the topics of the query, each event as soon as it is published', async (t) => {
    const { hub, url } = await serve(t);
    const reader = await Reader.open(`${url}/?topic=a&topic=b`);
    await reader.until(({ frames }) => frames.length === 1);
    publish(hub, 'b', '1');
    publish(hub, 'a', '2');
    publish(hub, 'c', '3');
    await reader.until(({ data }) => data.length === 2);
    assert.deepEqual(reader.data, ['1', '2']);
    assert.deepEqual(JSON.parse(reader.frame('sluice:ready').data), {
      heartbeat: { interval: 15_000, missed: 2 },
      topics: ['a', 'b'],
    });
  });

  it('streams fixed topics, or those that a function reads from the request, at once or by a promise', async (t) => {
    const options: ServeEventsOptions['topics'][] = [
      'a',
      ['a'],
      ({ url }: IncomingMessage) => url!.slice(1),
      async ({ url }: IncomingMessage) => [url!.slice(1)],
    ];
    for (const topics of options) {
      const { hub, url } = await serve(t, { topics });
      publish(hub, 'a', '1');
      const reader = await Reader.open(`${url}/a`, {
        headers: { 'last-event-id': hub.position.replace(/\d+$/, '0') },
      });
      await reader.until(({ data }) => data.length === 1);
    }
  });

  it('names a topic by the segment below its path, decoded, and leaves other paths to next, or answers 404', async (t) => {
    const { hub, url } = await serve(t, { path: '/events' });
    publish(hub, 'a~b', '1');
    publish(hub, 'c', '2');
    const reader = await Reader.open(`${url}/events/a%7Eb?topic=c&from=earliest`);
    await reader.until(({ data }) => data.length === 2);
    for (const path of ['/', '/event', '/events/', '/events/a/b', '/eventsa'])
      assert.deepEqual(await problem(url + path), { status: 404, error: 'not-found' });
    assert.deepEqual(await problem(`${url}/events/%`), { status: 400, error: 'malformed-path' });
    const passed: (string | undefined)[] = [];
    const handler = serveEvents(hub, { path: '/events' });
    const server = createServer((req, res) =>
      handler(req, res, () => {
        passed.push(req.url);
        res.end();
      }),
    );
    await (await fetch(`http://127.0.0.1:${await listen(t, server)}/other`)).text();
    assert.deepEqual(passed, ['/other']);
  });

  it('resumes after the header, else after the query, and the header wins', async (t) => {
    const { hub, url } = await serve(t, { topics: 'a' });
    const ids = publish(hub, 'a', '1', '2', '3');
    const byHeader = await Reader.open(`${url}/?lastEventId=${ids[0]}`, {
      headers: { 'last-event-id': ids[1]! },
    });
    assert.deepEqual(bySeq(await byHeader.until(({ data }) => data.length === 1)), ['3']);
    const byQuery = await Reader.open(`${url}/?lastEventId=${ids[0]}&from=earliest&last=1`);
    assert.deepEqual(bySeq(await byQuery.until(({ data }) => data.length === 2)), ['2', '3']);
  });

  it('begins with all that is remembered, or with the newest N events, where the client has no id', async (t) => {
    const { hub, url } = await serve(t);
    publish(hub, 'a', '1', '2');
    publish(hub, 'b', '3');
    publish(hub, 'a', '4');
    const expected = {
      'from=earliest': ['1', '2', '3', '4'],
      'last=2': ['3', '4'],
      'last=9': ['1', '2', '3', '4'],
    };
    for (const [query, texts] of Object.entries(expected)) {
      const reader = await Reader.open(`${url}/?topic=a&topic=b&${query}`);
      await reader.until(({ data }) => data.length === texts.length);
      assert.deepEqual(reader.data, texts);
      assert.ok(reader.frames.every(({ event }) => event !== 'sluice:gap'));
    }
    const live = await Reader.open(`${url}/?topic=a&from=now`);
    await live.until(({ frames }) => frames.length === 1);
    publish(hub, 'a', '5');
    assert.deepEqual(bySeq(await live.until(({ data }) => data.length === 1)), ['5']);
  });

  it('conflates by the query: a client that is behind gets the newest event of each key', async (t) => {
    const { hub, url } = await serve(t, { topics: 'a' });
    for (const [key, data] of ['x1', 'y1', 'x2'].entries())
      hub.publish('a', { key: data[0], data: `${key}${data}` });
    const reader = await Reader.open(`${url}/?conflate=1&from=earliest`);
    await reader.until(({ data }) => data.length === 2);
    assert.deepEqual(reader.data, ['1y1', '2x2']);
  });

  it('answers 204 once the topics have ended and the client has everything', async (t) => {
    const { hub, events, url } = await serve(t, { topics: 'a' });
    const [id] = publish(hub, 'a', '1');
    hub.end('a');
    const rest = await Reader.open(`${url}/?from=earliest`);
    await rest.over;
    assert.deepEqual(
      rest.frames.map(({ event, data }) => event ?? data),
      ['sluice:ready', '1', 'sluice:end'],
    );
    assert.equal((await fetch(url, { headers: { 'last-event-id': id! } })).status, 204);
    assert.equal(events.streams.size, 0);
    hub.reopen('a');
    const again = await Reader.open(url, { headers: { 'last-event-id': id! } });
    await again.until(({ frames }) => frames.length === 1);
    publish(hub, 'a', '2');
    await again.until(({ data }) => data.length === 1);
  });

  it('sends the headers of the options with streams and with refusals', async (t) => {
    const { hub, url } = await serve(t, { headers: { 'x-app': 'mine' } });
    hub.publish('a', { data: '1' });
    const reader = await Reader.open(`${url}/?topic=a`);
    assert.equal(reader.response.headers['x-app'], 'mine');
    assert.equal(reader.response.headers['content-type'], 'text/event-stream');
    assert.equal(reader.response.headers['cache-control'], 'no-store, no-transform');
    reader.close();
    assert.equal((await fetch(`${url}/?topic=%20`)).headers.get('x-app'), 'mine');
  });

  it('compresses for clients that accept gzip, by option', async (t) => {
    const { hub, url } = await serve(t, { topics: 'a', gzip: true });
    publish(hub, 'a', 'x'.repeat(5000));
    const response = await fetch(`${url}/?from=earliest`, { headers: { 'accept-encoding': 'gzip' } });
    assert.equal(response.headers.get('content-encoding'), 'gzip');
    const decoder = new TextDecoder();
    let text = '';
    for await (const chunk of response.body!) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes('x'.repeat(5000))) break;
    }
  });

  it('answers HEAD with the headers, and opens nothing', async (t) => {
    const { hub, events, url } = await serve(t, { topics: 'a' });
    const response = await fetch(url, { method: 'HEAD' });
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'text/event-stream']);
    assert.deepEqual([events.stats.opened, hub.size], [0, 0]);
  });

  for (const [target, init, status, error] of [
    ['/', {}, 400, 'topic-missing'],
    ['/?topic=a%20b', {}, 400, 'malformed-topic'],
    [`/?${'topic=a&'.repeat(65)}`, {}, 400, 'too-many-topics'],
    ['/?topic=a&from=start', {}, 400, 'malformed-query'],
    ['/?topic=a&last=-1', {}, 400, 'malformed-query'],
    ['/?topic=a&last=1e3', {}, 400, 'malformed-query'],
    ['/?topic=a', { method: 'POST', body: 'x' }, 405, 'method-not-allowed'],
    ['/?topic=a', { headers: { accept: 'application/json' } }, 406, 'not-acceptable'],
  ] as const) {
    it(`refuses ${JSON.stringify(init)} ${target.slice(0, 24)} with ${status} ${error}`, async (t) => {
      const { events, url } = await serve(t);
      assert.deepEqual(await problem(url + target, init), { status, error });
      assert.equal(events.stats.opened, 0);
    });
  }

  it('resolves with the stream once it is open, and with undefined where there is none', async (t) => {
    const events = serveEvents(new Hub(), { topics: 'a' });
    const answers: unknown[] = [];
    const server = createServer(async (req, res) => {
      const stream = await events(req, res);
      answers.push(stream === undefined ? undefined : await stream.done);
    });
    const url = `http://127.0.0.1:${await listen(t, server)}`;
    const reader = await Reader.open(url);
    reader.close();
    await (await fetch(url, { method: 'POST' })).text();
    while (answers.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(new Set(answers), new Set(['client-gone', undefined]));
  });

  it('reports each stream that opens and each that is over, and counts them by reason', async (t) => {
    const seen: string[] = [];
    const { events, url } = await serve(t, {
      topics: 'a',
      authorize: () => 'me',
      onOpen: ({ topics, principal }) => seen.push(`open ${topics} ${principal}`),
      onClose: ({ stream, topics }) => seen.push(`close ${topics} ${stream.reason}`),
    });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    const [stream] = events.streams;
    assert.ok(stream !== undefined);
    reader.close();
    await stream.done;
    assert.deepEqual(seen, ['open a me', 'close a client-gone']);
    assert.deepEqual(
      [events.stats.opened, events.stats.closed, events.streams.size],
      [1, { 'client-gone': 1 }, 0],
    );
  });

  it('hands its streams to shutdown, which sends each a `retry` and ends it', async (t) => {
    const events = serveEvents(new Hub(), { topics: 'a' });
    const server = createServer(events);
    trackConnections(server);
    const reader = await Reader.open(`http://127.0.0.1:${await listen(t, server)}`);
    await reader.until(({ frames }) => frames.length === 1);
    const outcome = await shutdown(server, { streams: events.streams, retry: 3000, retrySpread: 0 });
    assert.deepEqual([outcome.ended, outcome.cut], [1, 0]);
    await reader.over;
    assert.equal(reader.retries.at(-1), 3000);
    assert.deepEqual(events.stats.closed, { shutdown: 1 });
  });
});

describe('serveEvents, permissions', () => {
  for (const nobody of [undefined, null, false] as const) {
    it(`answers 401 where authorize returns ${nobody}`, async (t) => {
      const refusals: EventsRefusal[] = [];
      const { events, url } = await serve(t, {
        topics: 'a',
        authorize: async () => nobody,
        onRefuse: (refusal) => refusals.push(refusal),
      });
      assert.deepEqual(await problem(url), { status: 401, error: 'unauthorized' });
      assert.deepEqual(
        refusals.map(({ reason, status }) => [reason, status]),
        [['unauthorized', 401]],
      );
      assert.equal(events.stats.refused.unauthorized, 1);
    });
  }

  it('answers with the status of an error that authorize throws', async (t) => {
    const { url } = await serve(t, {
      topics: 'a',
      authorize() {
        throw Object.assign(new Error('pay first'), { status: 402 });
      },
    });
    assert.deepEqual(await problem(url), { status: 402, error: 'payment-required' });
  });

  it('lets a principal read the topics for which may returns true, and nothing else', async (t) => {
    for (const answer of [false, undefined, 1, 'yes', {}]) {
      const { url } = await serve(t, { topics: 'a', may: () => answer as boolean });
      assert.deepEqual(await problem(url), { status: 403, error: 'forbidden' });
    }
    const { url } = await serve(t, {
      authorize: ({ headers }) => headers.authorization,
      may: (principal, topic) => topic === principal,
    });
    const headers = { authorization: 'a' };
    assert.equal((await problem(`${url}/?topic=a&topic=b`, { headers })).status, 403);
    const reader = await Reader.open(`${url}/?topic=a`, { headers });
    await reader.until(({ frames }) => frames.length === 1);
  });

  it('answers 500 where may returns a promise, and opens no stream', async (t) => {
    const errors: unknown[] = [];
    const { hub, url } = await serve(t, {
      topics: 'a',
      may: (async () => true) as never,
      onError: (error) => errors.push(error),
    });
    assert.deepEqual(await problem(url), { status: 500, error: 'internal' });
    assert.match(String(errors), /TypeError: `may` must answer true or false, got a promise/);
    assert.equal(hub.size, 0);
  });

  it('ends a stream once may no longer returns true', async (t) => {
    let isAllowed = true;
    const { hub, url } = await serve(t, { topics: 'a', may: () => isAllowed });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    publish(hub, 'a', 'allowed');
    await reader.until(({ data }) => data.length === 1);
    isAllowed = false;
    publish(hub, 'a', 'secret');
    await reader.over;
    assert.deepEqual(reader.data, ['allowed']);
  });

  it('ends a stream when its principal expires, and counts a non-numeric expiry as past', async (t) => {
    const { events, url } = await serve(t, {
      topics: 'a',
      authorize: ({ url }) => ({ expiresAt: url === '/soon' ? Date.now() + 300 : ('tomorrow' as never) }),
    });
    assert.equal((await problem(`${url}/bad`)).status, 401);
    const reader = await Reader.open(`${url}/soon`);
    await reader.over;
    assert.deepEqual(events.stats.closed, { lifetime: 1 });
  });
});

describe('serveEvents, limits and failures', () => {
  it('refuses a program that is over the limit with 503, and a browser in a form after which it returns', async (t) => {
    const refusals: string[] = [];
    const { events, url } = await serve(t, {
      topics: 'a',
      limits: { maxConnections: 1, retryDelay: 2000 },
      onRefuse: ({ reason }) => refusals.push(reason),
    });
    const first = await Reader.open(url);
    await first.until(({ frames }) => frames.length === 1);
    assert.deepEqual(await problem(url), { status: 503, error: 'server-full' });
    const headers = { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' };
    const browser = await Reader.open(url, { headers });
    await browser.over;
    assert.equal(browser.status, 200);
    assert.ok(browser.retries[0]! >= 2000);
    assert.deepEqual(refusals, ['server-full', 'server-full']);
    assert.equal(events.stats.refused['server-full'], 2);
    first.close();
  });

  it('limits the streams of a topic that the handler itself has found', async (t) => {
    const { url } = await serve(t, { topics: ({ url }) => url!.slice(1), limits: { maxPerTopic: 1 } });
    const first = await Reader.open(`${url}/a`);
    await first.until(({ frames }) => frames.length === 1);
    assert.deepEqual(await problem(`${url}/a`), { status: 503, error: 'topic-full' });
    const other = await Reader.open(`${url}/b`);
    await other.until(({ frames }) => frames.length === 1);
    for (const reader of [first, other]) reader.close();
  });

  it('answers 503 where the hub has no room for another topic, and goes on', async (t) => {
    const { url } = await serve(t, {}, new Hub({ maxTopics: 1 }));
    const first = await Reader.open(`${url}/?topic=a`);
    await first.until(({ frames }) => frames.length === 1);
    assert.deepEqual(await problem(`${url}/?topic=b`), { status: 503, error: 'too-many-topics' });
    const second = await Reader.open(`${url}/?topic=a`);
    await second.until(({ frames }) => frames.length === 1);
    for (const reader of [first, second]) reader.close();
  });

  it('reports an unexpected failure to onError and answers 500, or hands it to next', async (t) => {
    const failure = new Error('the database is away');
    const topics = (): never => {
      throw failure;
    };
    const errors: unknown[] = [];
    const { url } = await serve(t, { topics, onError: (error, { req }) => errors.push([error, req.url]) });
    assert.deepEqual(await problem(`${url}/x`), { status: 500, error: 'internal' });
    assert.deepEqual(errors, [[failure, '/x']]);
    const handler = serveEvents(new Hub(), { topics });
    const server = createServer((req: IncomingMessage, res: ServerResponse) => {
      void handler(req, res, (error) => res.writeHead(500).end(String(error)));
    });
    const response = await fetch(`http://127.0.0.1:${await listen(t, server)}`);
    assert.equal(await response.text(), 'Error: the database is away');
  });

  it('sends heartbeats with the position of the stream, which moves with the hub', async (t) => {
    const { hub, url } = await serve(t, { topics: 'quiet', heartbeat: { interval: 20 } });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    const ids = publish(hub, 'busy', '1', '2');
    await reader.until(({ text }) => text.includes(`:\nid: ${ids[1]}\n\n`));
    reader.close();
  });

  it('sends a stream that is still behind heartbeats with the id that its client has', async (t) => {
    const log = new TestLog();
    log.answer = () => new Promise(() => {});
    const forgetful = new Hub({ log, history: { maxEvents: 1 } });
    const { hub, url } = await serve(t, { topics: 'a', heartbeat: { interval: 20 } }, forgetful);
    const ids = publish(hub, 'a', '1', '2', '3');
    const reader = await Reader.open(url, { headers: { 'last-event-id': ids[0]! } });
    const { text } = await reader.until(({ text }) => text.split(':\nid: ').length > 2);
    assert.deepEqual(new Set(text.match(/(?<=:\nid: )\S+(?=\n\n)/g)), new Set([ids[0]]));
    reader.close();
  });

  it('sends no heartbeats to a stream that has closed', async (t) => {
    const { events, url } = await serve(t, { topics: 'a', heartbeat: { interval: 60_000 } });
    const reader = await Reader.open(url);
    const { heartbeat } = events.keepalive!;
    assert.equal(heartbeat.size, 1);
    const [stream] = events.streams;
    reader.close();
    await once(stream!, 'close');
    assert.equal(heartbeat.size, 0);
  });

  it('announces and sends no heartbeats where `heartbeat` is false', async (t) => {
    const silent = await serve(t, { topics: 'quiet', heartbeat: false });
    const other = await Reader.open(silent.url);
    await other.until(({ frames }) => frames.length === 1);
    assert.equal(JSON.parse(other.frame('sluice:ready').data).heartbeat, null);
    assert.equal(silent.events.keepalive, undefined);
    other.close();
  });

  for (const [options, message] of [
    [{ path: 'events' }, /`path` must begin with "\/" and not end in one, got "events"/],
    [{ path: '/events/' }, /`path`.*got "\/events\/"/],
    [{ maxTopics: 0 }, /`maxTopics` must be a whole number ≥ 1, got 0/],
    [{ stallTimeout: -1 }, /`stallTimeout`.*got -1/],
    [{ heartbeat: { interval: 0 } }, /`interval`.*got 0/],
    [{ heartbeat: { profile: 'fast' } }, /`profile` must be one of mobile, wifi, lan, got fast/],
    [{ limits: { maxConnections: 0 } }, /`maxConnections`.*got 0/],
  ] as const) {
    it(`refuses ${JSON.stringify(options)} when the handler is created`, () => {
      assert.throws(() => serveEvents(new Hub(), options as never), message);
    });
  }
});

describe('serveEvents, types', () => {
  it('takes a hub with a map of types, and infers the principal of authorize for may and onOpen', () => {
    const hub = new Hub<{ tick: { price: number } }>();
    serveEvents(hub, {
      authorize: () => ({ name: 'ann' }),
      may: ({ name }, topic) => topic === name,
      onOpen: ({ principal }) => principal.name,
    });
    // @ts-expect-error: a principal has no age
    serveEvents(hub, { authorize: () => ({ name: 'ann' }), may: ({ age }) => age > 18 });
  });
});
