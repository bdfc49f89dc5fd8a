import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { compose } from '../lib/compose.ts';
import { cors } from '../lib/cors.ts';
import { serveEvents } from '../lib/events.ts';
import { guard } from '../lib/guard.ts';
import { Hub } from '../lib/hub.ts';
import { openaiChat } from '../lib/openai-chat.ts';
import type { PipeSource } from '../lib/pipe.ts';
import { httpError } from '../lib/problem.ts';
import { shutdown } from '../lib/shutdown.ts';
import type { EventStream } from '../lib/stream.ts';
import { requestOf, toFetchHandler, toResponse } from '../lib/web.ts';
import { type Frame, parse } from './helpers/reader.ts';

// The timers of streams keep no process alive, and here no socket does.
let alive: NodeJS.Timeout;
before(() => {
  alive = setInterval(() => {}, 60_000);
});
after(() => clearInterval(alive));

/** Reads the body of a response, chunk by chunk, and only when it is asked to. */
class BodyReader {
  text = '';
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();

  constructor({ body }: Response) {
    assert.ok(body !== null, 'the response has no body');
    this.#reader = body.getReader();
  }

  /** The length of the next chunk; `undefined` at the end. */
  async read(): Promise<number | undefined> {
    const { value } = await this.#reader.read();
    this.text += this.#decoder.decode(value, { stream: true });
    return value?.length;
  }

  async until(holds: (reader: this) => boolean): Promise<this> {
    while (!holds(this)) {
      const length = await this.read();
      if (length === undefined) throw new Error(`ended after ${JSON.stringify(this.text.slice(-300))}`);
    }
    return this;
  }

  async rest(): Promise<string> {
    while ((await this.read()) !== undefined);
    return this.text;
  }

  cancel(): Promise<void> {
    return this.#reader.cancel();
  }

  get frames(): readonly Frame[] {
    return parse(this.text).frames;
  }

  /** The data of the events that are not the hub's own. */
  get data(): readonly string[] {
    return this.frames.filter(({ event }) => !event?.startsWith('sluice:')).map(({ data }) => data);
  }

  get lastEventId(): string {
    return this.frames.findLast(({ id }) => id !== undefined)?.id ?? '';
  }
}

const ask = (path = '/', init: RequestInit = {}): Request => new Request(`http://site.example${path}`, init);

type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await nextTurn();
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await nextTurn();
}

const numbers = (count: number): string[] => Array.from({ length: count }, (_, index) => String(index + 1));

describe('toResponse with a hub', { timeout: 20_000 }, () => {
  const open = async (hub: Hub, request: Request = ask()) =>
    new BodyReader(await toResponse(hub, { topics: 'a', request }));

  it('answers with the head of a stream and its first event, before anything is published', async () => {
    const response = await toResponse(new Hub(), { topics: ['a', 'b'], request: ask() });
    assert.equal(response.status, 200);
    assert.deepEqual(Object.fromEntries(response.headers), {
      'cache-control': 'no-store, no-transform',
      'content-type': 'text/event-stream',
      'x-accel-buffering': 'no',
    });
    const reader = new BodyReader(response);
    await reader.read();
    assert.equal(reader.frames[0]?.event, 'sluice:ready');
    assert.deepEqual(JSON.parse(reader.frames[0]!.data).topics, ['a', 'b']);
    await reader.cancel();
  });

  it('takes the topics that it is given, and not those of the query', async () => {
    const hub = new Hub();
    const reader = await open(hub, ask('/?topic=secret'));
    hub.publish('secret', { data: 'no' });
    hub.publish('a', { data: 'yes' });
    assert.deepEqual((await reader.until(({ data }) => data.length > 0)).data, ['yes']);
    await reader.cancel();
  });

  it('resumes after the id of the client, in its header or its query, and loses and doubles nothing', async () => {
    const hub = new Hub();
    let lastEventId = '';
    const seen: string[] = [];
    for (const events of [numbers(3), ['4'], numbers(40).slice(4)]) {
      const inHeader = seen.length < 4;
      const request = inHeader
        ? ask('/', lastEventId === '' ? {} : { headers: { 'last-event-id': lastEventId } })
        : ask(`/?lastEventId=${lastEventId}`);
      // What is published while the client is away waits for it.
      if (seen.length > 0) for (const data of events) hub.publish('a', { data });
      const reader = await open(hub, request);
      if (seen.length === 0) {
        await reader.read();
        for (const data of events) hub.publish('a', { data });
      }
      await reader.until(({ data }) => data.length === events.length);
      seen.push(...reader.data);
      lastEventId = reader.lastEventId;
      await reader.cancel();
    }
    assert.deepEqual(seen, numbers(40));
  });

  it('answers 204 where all topics have ended, and HEAD with headers alone', async () => {
    const hub = new Hub();
    hub.publish('a', { data: '1' });
    hub.end('a');
    const headers = { 'last-event-id': hub.position };
    const ended = await toResponse(hub, { topics: 'a', request: ask('/', { headers }) });
    assert.deepEqual([ended.status, ended.body], [204, null]);
    const head = await toResponse(hub, { topics: 'b', request: ask('/', { method: 'HEAD' }) });
    assert.deepEqual(
      [head.status, head.headers.get('content-type'), head.body],
      [200, 'text/event-stream', null],
    );
    await turns();
    assert.equal(hub.size, 0);
  });

  it('refuses what serveEvents refuses, with the same JSON', async () => {
    const refusals: [Request, string, number, string][] = [
      [ask('/', { method: 'POST' }), 'a', 405, 'method-not-allowed'],
      [ask('/', { headers: { accept: 'text/html' } }), 'a', 406, 'not-acceptable'],
      [ask('/'), 'no topic', 400, 'malformed-topic'],
    ];
    for (const [request, topics, status, error] of refusals) {
      const response = await toResponse(new Hub(), { topics, request });
      const problem = (await response.json()) as { error: string };
      assert.deepEqual([response.status, problem.error], [status, error]);
      assert.equal(response.headers.get('content-type'), 'application/json');
    }
  });

  it('ends the subscription when the body is cancelled, or the request is aborted', async () => {
    const hub = new Hub();
    const controller = new AbortController();
    const cancelled = await open(hub);
    const aborted = await open(hub, ask('/', { signal: controller.signal }));
    await Promise.all([cancelled.read(), aborted.read()]);
    assert.equal(hub.size, 2);
    await cancelled.cancel();
    await until(() => hub.size === 1);
    controller.abort();
    // Not an error of the body, which hosts would log as one of the application.
    await aborted.rest();
    await until(() => hub.size === 0);
  });

  it('leaves no listener on the signal of a request that is answered', async () => {
    const { signal } = new AbortController();
    const hub = new Hub();
    for (let count = 0; count < 3; count++) {
      const request = Object.assign(ask(), {}) as Request;
      Object.defineProperty(request, 'signal', { value: signal });
      const reader = await open(hub, request);
      await reader.read();
      assert.equal(getEventListeners(signal, 'abort').length, 1);
      await reader.cancel();
      await until(() => hub.size === 0);
      assert.equal(getEventListeners(signal, 'abort').length, 0);
      await toResponse(hub, { topics: 'not a topic', request });
      await turns();
      assert.equal(getEventListeners(signal, 'abort').length, 0);
    }
  });

  it('opens nothing for a client that has left before', async () => {
    const hub = new Hub();
    const response = await toResponse(hub, {
      topics: 'a',
      request: ask('/', { signal: AbortSignal.abort() }),
    });
    assert.deepEqual([response.status, response.body], [499, null]);
    assert.equal(hub.size, 0);
  });

  it('ends the body properly when the signal fires that streams share', async () => {
    const hub = new Hub();
    const stopping = new AbortController();
    const streams = new Set<EventStream>();
    const readers: BodyReader[] = [];
    for (let count = 0; count < 20; count++) {
      const options = { topics: 'a', request: ask(), signal: stopping.signal, streams };
      readers.push(new BodyReader(await toResponse(hub, options)));
    }
    await Promise.all(readers.map((reader) => reader.read()));
    const reasons = [...streams].map((stream) => stream.done);
    assert.equal(reasons.length, 20);
    hub.publish('a', { data: 'last' });
    await turns();
    stopping.abort();
    for (const reader of readers) assert.match(await reader.rest(), /data: last\n\n$/);
    assert.deepEqual(new Set(await Promise.all(reasons)), new Set(['aborted']));
    assert.equal(streams.size, 0);
  });

  it('gives each reader bytes of its own, so that a host that transfers them takes nothing from others', async () => {
    const hub = new Hub();
    for (const data of numbers(300)) hub.publish('a', { data });
    const open = () => toResponse(hub, { topics: 'a', request: ask('/?from=earliest') });
    const body = (await open()).body!.getReader();
    // As middleware does that wraps a body: a stream of bytes transfers what it is given.
    const bytes = new ReadableStream({
      type: 'bytes',
      pull: async (controller) => controller.enqueue((await body.read()).value!),
    });
    const reader = bytes.getReader();
    for (let text = ''; !text.includes('data: 300\n'); ) text += Buffer.from((await reader.read()).value!);
    const other = new BodyReader(await open());
    assert.deepEqual((await other.until(({ data }) => data.length === 300)).data, numbers(300));
    await Promise.all([other.cancel(), body.cancel()]);
  });

  it('holds one page for a reader that has stalled, who then gets every event in order', async () => {
    const hub = new Hub({ history: { maxEvents: 10_000 } });
    const streams = new Set<EventStream>();
    const reader = new BodyReader(await toResponse(hub, { topics: 'a', request: ask(), streams }));
    await reader.read();
    const [stream] = streams;
    const texts = numbers(2000).map((number) => number.padEnd(1000, '.'));
    for (const data of texts) {
      hub.publish('a', { data });
      if (Number.parseInt(data, 10) % 100 === 0) await turns(2);
      assert.ok(stream!.writableLength <= 2 * 64 * 1024, `${stream!.writableLength} bytes wait`);
    }
    assert.ok(stream!.writableNeedDrain);
    await reader.until(({ text }) => text.includes(texts.at(-1)!));
    assert.deepEqual(reader.data, texts);
    await reader.cancel();
  });
});

describe('toResponse with a source', { timeout: 20_000 }, () => {
  async function* slowly(values: readonly string[], pulled: string[] = []): AsyncGenerator<string> {
    for (const value of values) {
      pulled.push(value);
      await nextTurn();
      yield value;
    }
  }

  it('sends a first byte before the source has yielded anything', async () => {
    let begin!: () => void;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const source = (async function* () {
      await begun;
      yield 'late';
    })();
    const response = await toResponse(source, { request: ask('/', { method: 'POST', body: 'prompt' }) });
    const reader = new BodyReader(response);
    await reader.read();
    assert.equal(reader.text, ':\n');
    begin();
    assert.equal(await reader.rest(), ':\ndata: late\n\nevent: sluice:end\ndata: {}\n\n');
  });

  it('takes the options of pipe and of a stream', async () => {
    const response = await toResponse(['one', { event: 'two', data: '2' }], {
      request: ask('/', { headers: { 'accept-encoding': 'gzip' } }),
      end: { data: '[DONE]' },
      headers: { 'x-vendor': 'v1' },
      status: 201,
      gzip: true,
    });
    assert.equal(response.status, 201);
    assert.equal(response.headers.get('x-vendor'), 'v1');
    assert.equal(response.headers.get('content-encoding'), 'gzip');
    assert.equal(response.headers.get('vary'), 'Accept-Encoding');
    const unzipped = new Response(response.body!.pipeThrough(new DecompressionStream('gzip')));
    assert.equal(await unzipped.text(), ':\ndata: one\n\nevent: two\ndata: 2\n\ndata: [DONE]\n\n');
  });

  it('speaks the dialect of an API, for a source of its chunks', async () => {
    const chunks = [
      { choices: [{ index: 0, delta: { content: 'Hello' }, finish_reason: null }] },
      { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] },
    ];
    const response = await toResponse(() => chunks, { request: ask(), ...openaiChat() });
    const reader = new BodyReader(response);
    await reader.rest();
    assert.deepEqual(reader.data, [...chunks.map((chunk) => JSON.stringify(chunk)), '[DONE]']);
    const cut = new BodyReader(await toResponse(chunks.slice(0, 1), { request: ask(), ...openaiChat() }));
    assert.doesNotMatch(await cut.rest(), /DONE/);
  });

  it('makes a source wait whose reader does not read', async () => {
    const pulled: string[] = [];
    const texts = numbers(500).map((number) => number.padEnd(10_000, '.'));
    const reader = new BodyReader(await toResponse(slowly(texts, pulled), { request: ask() }));
    await turns(50);
    // One that waits for the reader, and one that was asked for before it was refused.
    assert.ok(pulled.length <= 2, `${pulled.length} were pulled`);
    await reader.rest();
    assert.deepEqual(reader.data, texts);
  });

  it('stops the source when the body is cancelled or the request is aborted', async () => {
    for (const leave of ['cancel', 'abort']) {
      const controller = new AbortController();
      let isStopped = false;
      let signal: AbortSignal | undefined;
      const response = await toResponse(
        async function* (stream: EventStream) {
          signal = stream.signal;
          try {
            for (;;) {
              yield 'again';
              await nextTurn();
            }
          } finally {
            isStopped = true;
          }
        },
        { request: ask('/', { signal: controller.signal }) },
      );
      const reader = new BodyReader(response);
      await reader.until(({ data }) => data.length > 3);
      if (leave === 'cancel') await reader.cancel();
      else controller.abort();
      await until(() => isStopped);
      assert.equal(signal?.aborted, true);
      assert.equal(signal?.reason.reason, 'client-gone');
    }
  });

  it('rejects with what the function throws that makes the source, so that a host can answer a status', async () => {
    const failure = new Error('the upstream has answered 401');
    const streams = new Set<EventStream>();
    const options = { request: ask(), streams };
    await assert.rejects(
      toResponse(() => Promise.reject(failure), options),
      failure,
    );
    await assert.rejects(
      toResponse(() => {
        throw failure;
      }, options),
      failure,
    );
    await turns();
    assert.equal(streams.size, 0);
  });

  it('does not reject where the client has left while the source was made', async () => {
    const controller = new AbortController();
    const answer = toResponse(
      ({ signal }) =>
        new Promise<PipeSource>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
      { request: ask('/', { signal: controller.signal }) },
    );
    await nextTurn();
    controller.abort();
    assert.equal((await answer).status, 499);
  });

  it('does not wait for the function that makes the source once the stream has closed', async () => {
    const never = () => new Promise<PipeSource>(() => {});
    const leaving = new AbortController();
    const stopping = new AbortController();
    const streams = new Set<EventStream>();
    const left = toResponse(never, { request: ask('/', { signal: leaving.signal }) });
    const stopped = toResponse(never, { request: ask(), signal: stopping.signal });
    const ended = toResponse(never, { request: ask(), streams });
    await turns();
    leaving.abort();
    stopping.abort();
    assert.equal((await left).status, 499);
    const { status, body, headers } = await stopped;
    assert.deepEqual([status, body, headers.get('content-type')], [200, null, 'text/event-stream']);
    const over = shutdown(null, { streams, retry: 3000, retrySpread: 0 });
    assert.equal(await (await ended).text(), 'retry: 3000\n\n');
    assert.equal((await over).cut, 0);
  });

  it('sends no heartbeat before the source is made, so that its failure can still become a status', async () => {
    const failure = new Error('the upstream has answered 401');
    const answer = toResponse(
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 60));
        throw failure;
      },
      { request: ask(), heartbeat: { interval: 10 } },
    );
    await assert.rejects(answer, failure);
  });

  it('sends the failure of a function that has begun the stream as an event, as it does one of the source', async () => {
    const failures: unknown[] = [];
    const response = await toResponse(
      async (stream) => {
        stream.send({ data: 'thinking' });
        await nextTurn();
        throw new Error('secret');
      },
      { request: ask(), error: (error) => ({ event: 'oops', data: String(failures.push(error)) }) },
    );
    assert.equal(await response.text(), 'data: thinking\n\nevent: oops\ndata: 1\n\n');
  });

  it('sends a failure in the middle as an event, and nothing that looks like success', async () => {
    const source = (async function* () {
      yield 'token';
      throw new Error('secret');
    })();
    const reader = new BodyReader(await toResponse(source, { request: ask() }));
    const text = await reader.rest();
    assert.match(text, /data: token\n\nevent: sluice:error\n/);
    assert.doesNotMatch(text, /secret|sluice:end/);
  });

  it('sends heartbeats while the source is silent, unless they are switched off', async () => {
    const silent = (stream: EventStream) =>
      (async function* () {
        await new Promise((resolve) => stream.signal.addEventListener('abort', resolve));
        yield* [];
      })();
    const beating = await toResponse(silent, { request: ask(), heartbeat: { interval: 20 } });
    const still = await toResponse(silent, { request: ask(), heartbeat: false });
    const reader = new BodyReader(beating);
    await reader.until(({ text }) => text === ':\n:\n:\n:\n');
    const other = new BodyReader(still);
    await other.read();
    assert.equal(other.text, ':\n');
    await Promise.all([reader.cancel(), other.cancel()]);
  });

  it('gives a body up that nobody reads', async () => {
    const streams = new Set<EventStream>();
    const response = await toResponse(['a'], { request: ask(), streams, stallTimeout: 30 });
    const [stream] = streams;
    assert.equal(await stream!.done, 'stalled');
    // What was cut must not pass for the whole.
    await assert.rejects(response.text(), { code: 'ERR_SSE_CLOSED' });
  });

  it('cuts a stream to which more was sent than may wait for its reader', async () => {
    let opened: EventStream | undefined;
    const response = await toResponse(
      (stream) => {
        opened = stream;
        return new ReadableStream<string>();
      },
      { request: ask(), maxBufferedBytes: 10_000 },
    );
    for (let count = 0; count < 20; count++) opened!.send({ data: 'x'.repeat(1000) });
    assert.equal(await opened!.done, 'slow-consumer');
    assert.equal(opened!.writableLength, 0);
    await assert.rejects(response.text(), { code: 'ERR_SSE_CLOSED' });
  });

  it('starts no source for HEAD', async () => {
    let isStarted = false;
    const start = () => {
      isStarted = true;
      return ['a'];
    };
    const response = await toResponse(start, { request: ask('/', { method: 'HEAD' }) });
    assert.deepEqual([response.status, response.body, isStarted], [200, null, false]);
    assert.equal(response.headers.get('content-type'), 'text/event-stream');
  });

  it('names what cannot be used', async () => {
    const request = ask();
    const locked = new ReadableStream<string>();
    locked.getReader();
    const wrong: [() => Promise<Response>, RegExp][] = [
      [() => toResponse(['a'], {} as never), /`request` must be a Request, got undefined/],
      [() => toResponse('text' as never, { request }), /`source` must be .* a hub, got string/],
      [() => toResponse(new Hub(), { request } as never), /`topics` must be a topic or a list/],
      [() => toResponse(new Hub(), { request, topics: 5 as never }), /`topics` must be .* got number/],
      [
        () => toResponse(new Hub(), { request, topics: 'a', streams: [] as never }),
        /`streams` must be a Set/,
      ],
      [() => toResponse(['a'], { request, streams: {} as never }), /`streams` must be a Set, got object/],
      [() => toResponse({} as never, { request }), /`source` must be an iterable of .* got object/],
      [() => toResponse(Promise.resolve(['a']) as never, { request }), /got a promise: await it/],
      [() => toResponse((() => undefined) as never, { request }), /`source` must be .* got undefined/],
      [() => toResponse(locked, { request }), /`source` must be a ReadableStream that nobody reads/],
      [() => toResponse(() => locked, { request }), /`source` must be a ReadableStream that nobody reads/],
      [() => toResponse(['a'], { request, heartbeat: true as never }), /`heartbeat` must be .* got true/],
      [() => toResponse(['a'], { request, stallTimeout: -1 }), /`stallTimeout` must be .* got -1/],
      [() => toResponse(['a'], { request, heartbeat: { interval: 0 } }), /`interval` must be .* got 0/],
      [() => toResponse(['a'], { request, headers: { 'bad name': 'x' } }), /bad name/],
    ];
    for (const [call, message] of wrong) await assert.rejects(call, message);
    assert.throws(() => toFetchHandler({} as never), /`handler` must be a function \(req, res\), got object/);
  });
});

describe('toFetchHandler', { timeout: 20_000 }, () => {
  it('gives the functions of serveEvents the request in the form of Node, and the original', async () => {
    const hub = new Hub();
    const seen: unknown[] = [];
    const events = toFetchHandler(
      serveEvents(hub, {
        path: '/events',
        authorize: (req) => {
          const original = requestOf(req);
          seen.push(
            req.method,
            req.url,
            req.headers.cookie,
            req.headers.host,
            original?.headers.get('cookie'),
          );
          return req.headers.cookie === 'session=1' ? { name: 'ann' } : undefined;
        },
        may: ({ name }, topic) => topic.startsWith(name),
      }),
    );
    const allowed = await events(ask('/events/ann?last=3', { headers: { cookie: 'session=1' } }));
    assert.equal(allowed.status, 200);
    assert.deepEqual(seen, ['GET', '/events/ann?last=3', 'session=1', 'site.example', 'session=1']);
    await allowed.body!.cancel();
    const statuses: [string, string, number][] = [
      ['/events/ann', 'session=2', 401],
      ['/events/bob', 'session=1', 403],
      ['/other', 'session=1', 404],
    ];
    for (const [path, cookie, status] of statuses)
      assert.equal((await events(ask(path, { headers: { cookie } }))).status, status);
  });

  it('takes a client that leaves while it is being authorized for no failure', async () => {
    const controller = new AbortController();
    const errors: unknown[] = [];
    const handler = serveEvents(new Hub(), {
      topics: 'a',
      authorize: async () => {
        controller.abort();
        await nextTurn();
        return true;
      },
      onError: (error) => errors.push(error),
    });
    const response = await toFetchHandler(handler)(ask('/', { signal: controller.signal }));
    assert.equal(response.status, 499);
    await turns();
    assert.deepEqual({ errors, opened: handler.stats.opened }, { errors: [], opened: 0 });
  });

  it('limits the streams of each client, by the address that the host knows, and frees their places', async () => {
    const events = toFetchHandler(serveEvents(new Hub(), { topics: 'a', limits: { maxPerKey: 1 } }), {
      remoteAddress: (_request, info: { readonly address: string }) => info.address,
    });
    const first = await events(ask(), { address: '192.0.2.1' });
    const second = await events(ask(), { address: '192.0.2.1' });
    const other = await events(ask(), { address: '192.0.2.2' });
    assert.deepEqual([first.status, second.status, other.status], [200, 429, 200]);
    assert.match(second.headers.get('retry-after')!, /^\d+$/);
    assert.equal(((await second.json()) as { error: string }).error, 'client-full');
    await first.body!.cancel();
    await turns();
    const again = await events(ask(), { address: '192.0.2.1' });
    assert.equal(again.status, 200);
    await Promise.all([again.body!.cancel(), other.body!.cancel()]);
  });

  it('refuses a browser over a limit with a stream after which its EventSource reconnects', async () => {
    const events = toFetchHandler(serveEvents(new Hub(), { topics: 'a', limits: { maxConnections: 1 } }));
    const first = await events(ask());
    const headers = { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' };
    const second = await events(ask('/', { headers }));
    assert.equal(second.status, 200);
    assert.match(await second.text(), /^event: sluice:refused\n|^retry: \d+\n/);
    await first.body!.cancel();
  });

  it('serves middleware in front of the events: cors keeps its headers, guard refuses', async () => {
    const origin = 'https://app.example';
    const events = toFetchHandler(
      compose([
        cors({ origins: [origin], credentials: true }),
        guard({ origins: [origin], hosts: ['site.example'] }),
        serveEvents(new Hub(), { topics: 'a' }),
      ]),
    );
    const response = await events(ask('/', { headers: { origin } }));
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('access-control-allow-origin'), origin);
    assert.equal(response.headers.get('content-type'), 'text/event-stream');
    await response.body!.cancel();
    const preflight = await events(
      ask('/', { method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'GET' } }),
    );
    assert.deepEqual([preflight.status, preflight.body], [204, null]);
    assert.match(preflight.headers.get('access-control-allow-headers')!, /Last-Event-ID/);
    const refused = await events(ask('/', { headers: { origin: 'https://evil.example' } }));
    assert.equal(refused.status, 403);
    const wrongHost = await events(new Request('http://rebound.example/'));
    assert.equal(wrongHost.status, 421);
  });

  it('rejects with what a handler throws before the head, and cuts the body afterwards', async () => {
    const failure = new Error('broken');
    await assert.rejects(toFetchHandler(() => Promise.reject(failure))(ask()), failure);
    const late = toFetchHandler(
      compose([
        async (_req, _res, next) => {
          await next();
          await nextTurn();
          await nextTurn();
          throw failure;
        },
        serveEvents(new Hub(), { topics: 'a' }),
      ]),
    );
    await assert.rejects((await late(ask())).text(), { code: 'ERR_SSE_CLOSED' });
  });

  it('rejects where the answer of a handler cannot be sent', async () => {
    const answers: [Handler, RegExp][] = [
      [(_, res) => void res.setHeader('x-name', '\u4e00').end('x'), /ByteString/],
      [(_, res) => void res.writeHead(101).end(), /status/],
      [(_, res) => void res.end((() => 'x') as never), /`chunk` must be text or bytes, got function/],
    ];
    for (const [handler, message] of answers)
      await assert.rejects(toFetchHandler(handler)(ask()), ({ message: got }) => message.test(got));
  });

  it('sends all that a handler writes, as text or bytes, and drops what has no place in the answer', async () => {
    const answers: [Handler, unknown[]][] = [
      [(_, res) => void res.end(Buffer.from('all')), [200, 'all']],
      [
        (_, res) => [res.write('one '), res.write(Buffer.from('two ')), res.end('three')],
        [200, 'one two three'],
      ],
      [(_, res) => [res.flushHeaders(), res.end('late')], [200, 'late']],
      [(_, res) => void res.writeHead(204).end('no place'), [204, '']],
      [(_, res) => [res.writeHead(304).flushHeaders(), res.end('no place')], [304, '']],
    ];
    for (const [handler, expected] of answers) {
      const response = await toFetchHandler(handler)(ask());
      assert.deepEqual([response.status, await response.text()], expected);
    }
    const cookies = await toFetchHandler((_, res) => {
      res.setHeader('Set-Cookie', ['a=1', 'b=2']);
      res.setHeader('Set-Cookie', [...(res.getHeader('set-cookie') as string[]), 'c=3']);
      res.end();
    })(ask());
    assert.deepEqual(cookies.headers.getSetCookie(), ['a=1', 'b=2', 'c=3']);
  });

  it('answers an unexpected failure with a 500 that reveals nothing', async () => {
    const errors: unknown[] = [];
    const events = toFetchHandler(
      serveEvents(new Hub(), {
        topics: () => {
          throw new Error('secret');
        },
        onError: (error) => errors.push(error),
      }),
    );
    const response = await events(ask());
    assert.equal(response.status, 503);
    assert.doesNotMatch(await response.text(), /secret/);
    assert.equal(errors.length, 1);
    const refusing = toFetchHandler(
      serveEvents(new Hub(), {
        topics: () => {
          throw httpError({ status: 401, error: 'unauthorized', message: 'Log in.' });
        },
      }),
    );
    assert.equal((await refusing(ask())).status, 401);
  });
});

describe('shutdown without a server', { timeout: 20_000 }, () => {
  it('ends the streams of handlers and of sources, each with a retry, and waits until they are read', async () => {
    const hub = new Hub();
    const events = serveEvents(hub, { topics: 'a' });
    const streams = new Set<EventStream>();
    const readers = [
      new BodyReader(await toFetchHandler(events)(ask())),
      new BodyReader(await toResponse(hub, { topics: 'a', request: ask(), streams })),
      new BodyReader(await toResponse(new ReadableStream<string>(), { request: ask(), streams })),
    ];
    await Promise.all(readers.map((reader) => reader.read()));
    const all = {
      *[Symbol.iterator]() {
        yield* events.streams;
        yield* streams;
      },
    };
    let isOver = false;
    const over = shutdown(null, { streams: all, retry: 3000, retrySpread: 0 }).finally(() => {
      isOver = true;
    });
    for (const reader of readers) {
      assert.equal(isOver, false);
      assert.match(await reader.rest(), /retry: 3000\n\n$/);
    }
    const { ended, finished, cut, errors } = await over;
    assert.deepEqual({ ended, finished, cut, errors }, { ended: 3, finished: 0, cut: 0, errors: [] });
    assert.equal(hub.size, 0);
  });

  it('waits for a stream that has ended by itself until its last bytes are read', async () => {
    const streams = new Set<EventStream>();
    const response = await toResponse(['token'.repeat(10)], { request: ask(), streams });
    const reader = new BodyReader(response);
    await reader.read();
    await until(() => [...streams].every(({ closed }) => closed));
    let isOver = false;
    const over = shutdown(null, { streams }).finally(() => {
      isOver = true;
    });
    await turns();
    assert.equal(isOver, false);
    assert.match(await reader.rest(), /event: sluice:end\ndata: \{\}\n\n$/);
    assert.equal((await over).cut, 0);
  });

  it('cuts the streams whose body nobody has read by the deadline', async (t) => {
    const delays = t.mock.method(globalThis, 'setTimeout');
    const streams = new Set<EventStream>();
    const options = { request: ask(), streams };
    const responses = [
      await toResponse(['a'], options),
      await toResponse(new Hub(), { ...options, topics: 'a' }),
    ];
    await turns();
    const { ended, cut } = await shutdown(null, { streams, deadline: 100 });
    assert.deepEqual({ ended, cut }, { ended: 2, cut: 2 });
    for (const response of responses) await assert.rejects(response.text(), { code: 'ERR_SSE_CLOSED' });
    for (const { arguments: given } of delays.mock.calls) assert.ok(Number(given[1]) >= 0, `${given[1]} ms`);
  });
});
