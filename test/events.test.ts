import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import {
  type EventsHandler,
  type EventsRefusal,
  type ServeEventsOptions,
  serveEvents,
} from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { readRefused } from '../lib/protocol.ts';
import { shutdown, trackConnections } from '../lib/shutdown.ts';
import { session } from './helpers/http2.ts';
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

  it('never takes the topics of the query where a function answers with none', async (t) => {
    for (const none of [undefined, null, [], async () => undefined]) {
      const topics = (typeof none === 'function' ? none : () => none) as () => undefined;
      const { events, url } = await serve(t, { topics });
      assert.deepEqual(await problem(`${url}/?topic=secret`), { status: 400, error: 'topic-missing' });
      assert.equal(events.stats.opened, 0);
    }
  });

  it('answers 400 where a function answers with no names, as query parsers can', async (t) => {
    for (const topics of [{ x: 'a' }, 7, [{ x: 'a' }]]) {
      const { url } = await serve(t, { topics: () => topics as never });
      assert.deepEqual(await problem(url), { status: 400, error: 'malformed-topic' });
    }
  });

  it('reports each topic once, however often the request names it', async (t) => {
    const opened: unknown[] = [];
    const { url } = await serve(t, { onOpen: ({ topics }) => opened.push(topics) });
    const reader = await Reader.open(`${url}/?topic=b&topic=a&topic=b`);
    assert.deepEqual(opened, [['b', 'a']]);
    reader.close();
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

  it('names a topic by the only segment where its path is /, as below the path of a mounted handler', async (t) => {
    const { hub, url } = await serve(t, { path: '/' });
    publish(hub, 'a', '1');
    publish(hub, 'b', '2');
    for (const target of ['/a?topic=b&from=earliest', '/?topic=a&topic=b&from=earliest']) {
      const reader = await Reader.open(url + target);
      await reader.until(({ data }) => data.length === 2);
      reader.close();
    }
    assert.deepEqual(await problem(`${url}/a/b`), { status: 404, error: 'not-found' });
  });

  it('waits for what next returns, and leaves its failure to the caller', async (t) => {
    const handler = serveEvents(new Hub(), { path: '/events' });
    const seen: unknown[] = [];
    const next = async (error?: unknown): Promise<void> => {
      seen.push(error);
      await new Promise((resolve) => setImmediate(resolve));
      throw new Error('behind');
    };
    const server = createServer(async (req, res) => {
      await handler(req, res, next).catch(({ message }: Error) => seen.push(message));
      res.end();
    });
    await (await fetch(`http://127.0.0.1:${await listen(t, server)}/other`)).text();
    assert.deepEqual(seen, [undefined, 'behind']);
  });

  it('does not answer for a next that throws, and does not call it again', async (t) => {
    const handler = serveEvents(new Hub(), { path: '/events' });
    const seen: unknown[] = [];
    const next = (error?: unknown): never => {
      seen.push(error);
      throw new Error('behind');
    };
    const server = createServer(async (req, res) => {
      await handler(req, res, next).catch(({ message }: Error) => seen.push(message));
      res.end(String(res.headersSent));
    });
    const response = await fetch(`http://127.0.0.1:${await listen(t, server)}/other`);
    assert.deepEqual([await response.text(), seen], ['false', [undefined, 'behind']]);
  });

  it('hands next an error also where authorize rejects with none', async (t) => {
    const handler = serveEvents(new Hub(), { topics: 'a', authorize: () => Promise.reject() });
    const server = createServer((req, res) =>
      handler(req, res, (error) => res.writeHead(error == null ? 200 : 500).end()),
    );
    assert.equal((await fetch(`http://127.0.0.1:${await listen(t, server)}`)).status, 500);
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

  it('takes an empty header for none, and more than one id for one that cannot be read', async (t) => {
    const { hub, url } = await serve(t, { topics: 'a' });
    const ids = publish(hub, 'a', '1', '2', '3');
    const empty = await Reader.open(`${url}/?lastEventId=${ids[1]}`, { headers: { 'last-event-id': '' } });
    assert.deepEqual(bySeq(await empty.until(({ data }) => data.length === 1)), ['3']);
    const twice = await Reader.open(`${url}/?lastEventId=${ids[0]}&lastEventId=${ids[1]}`);
    await twice.until(({ frames }) => frames.length === 2);
    assert.equal(JSON.parse(twice.frame('sluice:gap').data).reason, 'malformed');
    for (const reader of [empty, twice]) reader.close();
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

  it('names the topic of each event by the query', async (t) => {
    const { hub, url } = await serve(t, {});
    for (const topic of ['a', 'b', 'a']) hub.publish(topic, { data: topic });
    const response = await fetch(`${url}/?topic=a&topic=b&nameTopics=1&from=earliest`);
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.split('\ndata: ').length > 4) break;
    }
    const blocks = text.split('\n\n').slice(1, 4);
    assert.deepEqual(
      blocks.map((block) => block.replace(/^id: .*$/m, 'id')),
      ['a', 'b', 'a'].map((topic) => `: topic ${topic}\nid\ndata: ${topic}`),
    );
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
    hub.end('a');
    const ended = await fetch(`${url}/?topic=a`);
    assert.deepEqual([ended.status, ended.headers.get('x-app')], [204, 'mine']);
  });

  for (const refusal of ['status', 'event-stream'] as const) {
    it(`sends the headers of the options where a limit refuses with ${refusal}`, async (t) => {
      const headers = { 'access-control-allow-origin': '*' };
      const maxConnections = { tryAcquire: () => undefined };
      const { url } = await serve(t, { topics: 'a', headers, limits: { refusal, maxConnections } });
      assert.equal((await fetch(url)).headers.get('access-control-allow-origin'), '*');
    });
  }

  it('sends the headers of the options with the answer to a path that is malformed or not served', async (t) => {
    const { url } = await serve(t, { path: '/events', headers: { 'x-app': 'mine' } });
    for (const [path, status] of [
      ['/events/%', 400],
      ['/other', 404],
    ] as const) {
      const response = await fetch(url + path);
      assert.deepEqual([response.status, response.headers.get('x-app')], [status, 'mine']);
    }
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

  it('opens no stream for an image, a frame or a window of a page, and asks nobody about it', async (t) => {
    let asked = 0;
    const authorize = () => ++asked;
    const { url, events } = await serve(t, { topics: 'a', authorize });
    for (const destination of ['image', 'document', 'iframe', 'script', 'video', 'style', 'audio']) {
      const site = destination === 'document' ? 'same-origin' : 'same-site';
      const headers = { 'sec-fetch-dest': destination, 'sec-fetch-site': site };
      assert.deepEqual(await problem(url, { headers }), { status: 403, error: 'wrong-destination' });
    }
    assert.deepEqual([asked, events.limit.stats.admitted], [0, 0]);
    assert.equal(events.stats.refused['wrong-destination'], 7);
    const typed = { 'sec-fetch-dest': 'document', 'sec-fetch-site': 'none' };
    for (const headers of [{ 'sec-fetch-dest': 'empty', 'sec-fetch-site': 'same-site' }, typed, {}]) {
      const reader = await Reader.open(url, { headers });
      assert.equal(reader.status, 200);
      reader.close();
    }
  });

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

  it('reports what may throws for an open stream to onError, and ends the stream', async (t) => {
    const errors: unknown[] = [];
    let isAway = false;
    const may = (): boolean => {
      if (isAway) throw new Error('away');
      return true;
    };
    const { hub, url } = await serve(t, { topics: 'a', may, onError: (error) => errors.push(error) });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    isAway = true;
    publish(hub, 'a', 'secret');
    await reader.over;
    assert.deepEqual([reader.data, errors.map(String)], [[], ['Error: away']]);
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

  it('sends a reader of another protocol no control event, neither first, with heartbeats, when refused nor last', async (t) => {
    const { hub, url } = await serve(t, {
      topics: 'a',
      controls: 'comments',
      heartbeat: { interval: 20 },
      limits: { maxConnections: 1, retryDelay: 2000 },
    });
    const reader = await Reader.open(url);
    await reader.until(': sluice:ready ');
    const headers = { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' };
    const refused = await Reader.open(url, { headers });
    const text = await refused.over;
    assert.deepEqual([refused.status, refused.frames], [200, []]);
    assert.match(text, /^: sluice:refused {"error":"server-full",.*}\nretry: \d+\n\n$/);
    const [id] = publish(hub, 'busy', 'not for this one');
    await reader.until(`:\n: sluice:position {}\nid: ${id}\n\n`);
    publish(hub, 'a', 'x');
    hub.end('a');
    await reader.over;
    assert.deepEqual(
      reader.frames.map(({ event, data }) => [event, data]),
      [[undefined, 'x']],
    );
    assert.match(reader.text, /^: sluice:end /m);
  });

  it('refuses a way to send control events that it does not know, when it is made', () => {
    assert.throws(() => serveEvents(new Hub(), { controls: 'none' as never }), /^TypeError: `controls`/);
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

  it('answers 503 where the hub has no room for another topic to follow, or a browser in a form after which it returns', async (t) => {
    const refusals: unknown[] = [];
    const { events, url } = await serve(
      t,
      { onRefuse: ({ reason, status }) => refusals.push([reason, status]), limits: { retryDelay: 3000 } },
      new Hub({ maxFollowedTopics: 1 }),
    );
    const first = await Reader.open(`${url}/?topic=a`);
    await first.until(({ frames }) => frames.length === 1);
    const program = await fetch(`${url}/?topic=b`);
    assert.equal(program.status, 503);
    assert.ok(Number(program.headers.get('retry-after')) >= 3);
    assert.equal(((await program.json()) as { error: string }).error, 'too-many-followed');
    const headers = { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' };
    const browser = await Reader.open(`${url}/?topic=b`, { headers });
    await browser.over;
    assert.equal(browser.status, 200);
    assert.ok(browser.retries[0]! >= 3000);
    assert.deepEqual(refusals, [
      ['too-many-followed', 503],
      ['too-many-followed', 503],
    ]);
    assert.equal(events.stats.refused['too-many-followed'], 2);
    const second = await Reader.open(`${url}/?topic=a`);
    await second.until(({ frames }) => frames.length === 1);
    for (const reader of [first, second]) reader.close();
  });

  it('lets a browser return where authorize throws an error with status 429, whatever its message', async (t) => {
    const { url } = await serve(t, {
      topics: 'a',
      authorize() {
        throw Object.assign(new Error('away\n\ndata: forged'), { status: 429 });
      },
    });
    const headers = { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' };
    const browser = await Reader.open(url, { headers });
    await browser.over;
    assert.deepEqual([browser.status, browser.retries.length, browser.frames.length], [200, 1, 1]);
    const [{ event, data }] = browser.frames as [(typeof browser.frames)[0]];
    assert.equal(event, 'sluice:refused');
    assert.deepEqual(readRefused(data), { error: 'too-many-requests', message: 'away\n\ndata: forged' });
    assert.equal((await problem(url)).status, 429);
  });

  for (const [option, status] of [
    ['authorize', 503],
    ['topics', 503],
    ['may', 500],
    ['onOpen', 500],
  ] as const) {
    it(`lets a browser return where ${option} fails unexpectedly, and answers a program ${status}`, async (t) => {
      const failures: unknown[] = [];
      const onError = (error: unknown) => failures.push(error);
      const lost = new Error('the store is down');
      const fail = () => {
        throw lost;
      };
      const { hub, events, url } = await serve(t, { topics: 'a', onError, [option]: fail });
      const browser = await Reader.open(url, {
        headers: { accept: 'text/event-stream', 'user-agent': 'Mozilla/5.0' },
      });
      await browser.over;
      assert.deepEqual([browser.status, browser.retries.length], [200, 1]);
      const program = await fetch(url);
      assert.deepEqual([program.status, program.headers.has('retry-after')], [status, true]);
      assert.doesNotMatch(await program.text(), /store/);
      assert.deepEqual(failures, [lost, lost]);
      assert.deepEqual([hub.size, events.streams.size], [0, 0]);
    });
  }

  it('counts at most 100 reasons of refusals apart', async (t) => {
    let asked = 0;
    const authorize = () => {
      throw Object.assign(new Error('no'), { status: 403, code: `ERR_SSE_REASON_${++asked}` });
    };
    const { events, url } = await serve(t, { topics: 'a', authorize });
    for (let i = 0; i < 110; i++) assert.equal((await problem(url)).status, 403);
    assert.ok(Object.keys(events.stats.refused).length < 110);
    assert.ok((events.stats.refused.other ?? 0) >= 10);
  });

  it('reports an unexpected failure of authorize to onError and answers 503, or hands it to next', async (t) => {
    const failure = new Error('the database is away');
    const topics = (): never => {
      throw failure;
    };
    const errors: unknown[] = [];
    const { url } = await serve(t, { topics, onError: (error, { req }) => errors.push([error, req.url]) });
    assert.deepEqual(await problem(`${url}/x`), { status: 503, error: 'unavailable' });
    assert.deepEqual(errors, [[failure, '/x']]);
    const handler = serveEvents(new Hub(), { topics });
    const server = createServer((req: IncomingMessage, res: ServerResponse) => {
      void handler(req, res, (error) => res.writeHead(500).end(String(error)));
    });
    const response = await fetch(`http://127.0.0.1:${await listen(t, server)}`);
    assert.equal(await response.text(), 'Error: the database is away');
  });

  for (const isAsync of [false, true]) {
    const how = isAsync ? 'rejects' : 'throws';
    const failing = (message: string): (() => never) =>
      isAsync
        ? ((async () => Promise.reject(new Error(message))) as unknown as () => never)
        : () => {
            throw new Error(message);
          };

    it(`hands what onClose ${how} to onError, and goes on`, async (t) => {
      const errors: string[] = [];
      const { events, url } = await serve(t, {
        topics: 'a',
        onClose: failing('closing'),
        onError: (error, { req }) => errors.push(`${(error as Error).message} ${req.url}`),
      });
      const reader = await Reader.open(`${url}/x`);
      await reader.until(({ frames }) => frames.length === 1);
      const [stream] = events.streams;
      reader.close();
      await stream!.done;
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(errors, ['closing /x']);
      assert.equal(events.streams.size, 0);
    });

    it(`answers a refused client where onRefuse ${how}, and hands that to onError`, async (t) => {
      const errors: string[] = [];
      const onError = (error: unknown): void => void errors.push((error as Error).message);
      const onRefuse = failing('refusing');
      const nobody = await serve(t, { topics: 'a', authorize: () => null, onRefuse, onError });
      assert.equal((await problem(nobody.url)).status, 401);
      const limits = { maxConnections: { tryAcquire: () => undefined } };
      const full = await serve(t, { topics: 'a', limits, onRefuse, onError });
      assert.equal((await problem(full.url)).status, 503);
      assert.deepEqual(errors, ['refusing', 'refusing']);
    });

    it(`answers 503 where onError ${how}, and warns of that`, async (t) => {
      const warned = once(process, 'warning');
      const topics = failing('topics');
      const { url } = await serve(t, { topics, onError: failing('reporting') });
      assert.equal((await problem(url)).status, 503);
      const [{ code, detail }] = (await warned) as [NodeJS.ErrnoException & { detail: string }];
      assert.equal(code, 'ERR_SSE_REQUEST_FAILED');
      assert.match(detail, /^Error: reporting/);
    });
  }

  it('hands what onOpen rejects with to onError, and the stream goes on', async (t) => {
    const errors: unknown[] = [];
    const onOpen = async (): Promise<never> => Promise.reject(new Error('opening'));
    const { hub, url } = await serve(t, { topics: 'a', onOpen, onError: (error) => errors.push(error) });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    publish(hub, 'a', '1');
    await reader.until(({ data }) => data.length === 1);
    assert.deepEqual(errors.map(String), ['Error: opening']);
    reader.close();
  });

  it('writes nothing into the answer to a request whose onOpen throws', async (t) => {
    const closed: unknown[] = [];
    const hub = new Hub();
    const events = serveEvents(hub, {
      topics: 'a',
      onOpen() {
        throw new Error('opening');
      },
      onClose: ({ stream }) => closed.push(stream.reason),
    });
    const later = async (res: ServerResponse, error: unknown): Promise<void> => {
      publish(hub, 'a', '1');
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      res.writeHead(500).end(String(error));
    };
    const server = createServer((req, res) => events(req, res, (error) => later(res, error)));
    const response = await fetch(`http://127.0.0.1:${await listen(t, server)}`);
    assert.deepEqual([response.status, await response.text()], [500, 'Error: opening']);
    assert.deepEqual([hub.size, events.streams.size, events.keepalive!.heartbeat.size], [0, 0, 0]);
    assert.deepEqual([events.limit.stats.open, events.stats.opened, closed], [0, 0, []]);
  });

  it('warns of an unexpected failure where there is neither onError nor next', async (t) => {
    const warned = once(process, 'warning');
    const { url } = await serve(t, { topics: () => Promise.reject(new Error('the database is away')) });
    assert.equal((await problem(url)).status, 503);
    const [{ detail }] = (await warned) as [{ detail: string }];
    assert.match(detail, /^Error: the database is away/);
  });

  it('reports to onError, once, that other code has ended its streams, and what to do', async (t) => {
    const errors: NodeJS.ErrnoException[] = [];
    const onError = (error: unknown): unknown => errors.push(error as Error);
    const events = serveEvents(new Hub(), { topics: 'a', onError });
    // As a framework does that answers when its handler returns.
    const port = await listen(
      t,
      createServer(async (req, res) => {
        await events(req, res);
        res.end();
      }),
    );
    for (let n = 0; n < 2; n++) await (await fetch(`http://127.0.0.1:${port}`)).text();
    while (events.stats.closed.answered !== 2) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      errors.map(({ code }) => code),
      ['ERR_SSE_ANSWERED'],
    );
    assert.match(errors[0]!.message, /`await \(await handler\(req, res\)\)\?\.done`/);
  });

  it('reports to onError that the response was answered before, also where it has headers to set', async (t) => {
    const errors: NodeJS.ErrnoException[] = [];
    const onError = (error: unknown): unknown => errors.push(error as Error);
    const events = serveEvents(new Hub(), { topics: 'a', headers: { 'x-mine': '1' }, onError });
    const server = createServer(async (req, res) => {
      res.end('answered before');
      await events(req, res);
    });
    const response = await fetch(`http://127.0.0.1:${await listen(t, server)}`);
    assert.equal(await response.text(), 'answered before');
    while (errors.length === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(
      errors.map(({ code }) => code),
      ['ERR_SSE_HEAD_SENT'],
    );
  });

  it('cuts a request whose error has headers that cannot be sent', async (t) => {
    const errors: unknown[] = [];
    const { url } = await serve(t, {
      topics: 'a',
      authorize() {
        throw Object.assign(new Error('no'), {
          status: 403,
          code: 'ERR_SSE_FORBIDDEN',
          headers: { 'bad name': 'x' },
        });
      },
      onError: (error) => errors.push(error),
    });
    await assert.rejects(fetch(url));
    assert.match(String(errors), /Header name must be a valid HTTP token/);
  });

  it('sends heartbeats with the position of the stream, which moves with the hub', async (t) => {
    const { hub, url } = await serve(t, { topics: 'quiet', heartbeat: { interval: 20 } });
    const reader = await Reader.open(url);
    await reader.until(({ frames }) => frames.length === 1);
    const ids = publish(hub, 'busy', '1', '2');
    await reader.until(({ text }) => text.includes(`:\nid: ${ids[1]}\nevent: sluice:position\n`));
    reader.close();
  });

  it('sends a stream that is still behind heartbeats without a position', async (t) => {
    const log = new TestLog();
    log.answer = () => new Promise(() => {});
    const forgetful = new Hub({ log, history: { maxEvents: 1 } });
    const { hub, url } = await serve(t, { topics: 'a', heartbeat: { interval: 20 } }, forgetful);
    const ids = publish(hub, 'a', '1', '2', '3');
    const reader = await Reader.open(url, { headers: { 'last-event-id': ids[0]! } });
    await reader.until(':\n:\n:\n');
    assert.deepEqual(
      reader.frames.map(({ id, event }) => [id, event]),
      [[ids[0], 'sluice:ready']],
    );
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
    [
      { path: 'events' },
      /`path` must begin with "\/" and, but for "\/" itself, not end in one, got "events"/,
    ],
    [{ path: '/events/' }, /`path`.*got "\/events\/"/],
    [{ topics: [] }, /`topics` must be 1 to 64 topics, each of .*, got \[\]/],
    [{ topics: 'a b' }, /`topics` must be .*, got \["a b"\]/],
    [{ topics: ['a', 'b'], maxTopics: 1 }, /`topics` must be 1 to 1 topics/],
    [{ maxTopics: 0 }, /`maxTopics` must be a whole number ≥ 1, got 0/],
    [{ stallTimeout: -1 }, /`stallTimeout`.*got -1/],
    [{ headers: { 'bad name': 'x' } }, /Header name must be a valid HTTP token \["bad name"\]/],
    [{ headers: { 'x-app': 'two\nlines' } }, /Invalid character in header content \["x-app"\]/],
    [{ keepAliveDelay: 1 }, /`keepAliveDelay`.*got 1/],
    [{ heartbeat: { interval: 0 } }, /`interval`.*got 0/],
    [{ heartbeat: { profile: 'fast' } }, /`profile` must be one of mobile, wifi, lan, got fast/],
    [{ limits: { maxConnections: 0 } }, /`maxConnections`.*got 0/],
  ] as const) {
    it(`refuses ${JSON.stringify(options)} when the handler is created`, () => {
      assert.throws(() => serveEvents(new Hub(), options as never), message);
    });
  }
});

it('serveEvents reports no stream when the handler is created', () => {
  const seen: unknown[] = [];
  const listener = (message: unknown): void => void seen.push(message);
  subscribe('sluice.stream.close', listener);
  serveEvents(new Hub());
  unsubscribe('sluice.stream.close', listener);
  assert.deepEqual(seen, []);
});

describe('serveEvents, types', () => {
  it('refuses what is no hub when the handler is created', () => {
    assert.throws(() => serveEvents(undefined as never), /^TypeError: `hub` must be a Hub, got undefined$/);
  });

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

  it('is a handler of node:http2 as well, and serves it', async (t) => {
    const hub = new Hub();
    const server = createHttp2Server(serveEvents(hub, { topics: 'a' }));
    await listen(t, server);
    const stream = session(t, server).request({ ':path': '/?from=earliest' }).setEncoding('utf8');
    hub.publish('a', { data: 'over HTTP/2' });
    let text = '';
    for await (const chunk of stream) {
      text += chunk;
      if (text.includes('over HTTP/2')) break;
    }
    assert.match(text, /event: sluice:ready\n/);
  });

  it("takes functions of a framework's own request, and then no other request", () => {
    interface Request extends IncomingMessage {
      params: Record<string, string>;
      user?: { name: string };
    }
    const events = serveEvents(new Hub(), {
      topics: ({ params }: Request) => params.topic,
      authorize: ({ user }) => user,
      may: ({ name }, topic) => topic === name,
      onRefuse: ({ req }) => req.params,
    });
    const route = (_handler: (req: Request, res: ServerResponse, next: () => void) => unknown): void => {};
    route(events);
    route(serveEvents(new Hub()));
    // @ts-expect-error: a plain request has no params
    createServer(events);
  });
});
