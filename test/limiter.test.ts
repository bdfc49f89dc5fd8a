import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  type ConnectionLimit,
  type LimitOptions,
  type LimitRequest,
  type LimitResponse,
  limitConnections,
} from '../lib/limiter.ts';
import { readRefused } from '../lib/protocol.ts';
import { Semaphore } from '../lib/semaphore.ts';
import { FakeClock } from './helpers/clock.ts';
import { session } from './helpers/http2.ts';
import { raw } from './helpers/raw.ts';
import { listen, serve } from './helpers/server.ts';

setFlagsFromString('--expose-gc');

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A server behind the limiter whose responses stay open until the test ends them. */
async function limited(t: TestContext, options: LimitOptions) {
  const limit: ConnectionLimit = limitConnections(options);
  const held: ServerResponse[] = [];
  const calls = new EventEmitter();
  const { server, port } = await serve(t, (req, res) => {
    const done = limit(req, res, () => {
      if (req.method === 'HEAD') return res.end();
      held.push(res);
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: in\n\n');
    });
    assert.ok(!(done instanceof Promise));
    calls.emit('call');
  });
  return { limit, held, calls, server, port };
}

/** Opens a stream and waits for its head. */
async function open(port: number, path = '/', headers: Record<string, string> = {}) {
  const req = get({ port, host: '127.0.0.1', path, headers, agent: false });
  req.on('error', () => {});
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  res.on('error', () => {});
  return { status: res.statusCode, headers: res.headers, res, leave: () => req.destroy() };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

const HOST = 'Host: localhost';

/** Lets a made-up connection in, for when sockets would be too many. Returns what closes it. */
function enter(limit: ConnectionLimit, remoteAddress = '192.0.2.1'): () => void {
  let close: () => void = assert.fail;
  const res: LimitResponse = {
    headersSent: false,
    writableEnded: false,
    on: (_event, listener) => {
      close = listener;
    },
    writeHead: assert.fail,
    end: assert.fail,
    destroy: assert.fail,
  };
  const socket = { remoteAddress, destroyed: false, on() {} };
  const req: LimitRequest = { httpVersionMajor: 2, headers: {}, socket };
  void limit(req, res, () => {});
  return close;
}

describe('limitConnections', () => {
  it('admits up to `maxConnections`, and again as many as have ended', async (t) => {
    const { limit, port } = await limited(t, { maxConnections: 2 });
    const first = await open(port);
    await open(port);
    assert.equal((await open(port)).status, 503);
    first.leave();
    await until(() => limit.stats.open === 1);
    assert.equal((await open(port)).status, 200);
    const { open: count, peak, admitted, refused } = limit.stats;
    assert.deepEqual({ count, peak, admitted }, { count: 2, peak: 2, admitted: 3 });
    assert.deepEqual(refused, { 'server-full': 1, 'client-full': 0, 'topic-full': 0, 'too-fast': 0 });
  });

  it('never ends a connection to admit another', async (t) => {
    const { held, port } = await limited(t, { maxConnections: 1 });
    await open(port);
    for (let n = 0; n < 20; n++) assert.equal((await open(port)).status, 503);
    assert.equal(held.length, 1);
    assert.equal(held[0]!.destroyed, false);
    assert.equal(held[0]!.writable, true);
  });

  it('refuses with a status, Retry-After and a JSON error', async (t) => {
    const refusals: unknown[] = [];
    const onRefuse: LimitOptions['onRefuse'] = ({ reason, status, refusal, req }) =>
      refusals.push([reason, status, refusal, req.method]);
    const { port } = await limited(t, { maxPerKey: 1, retryDelay: 4000, onRefuse });
    await open(port);
    const { status, headers, body } = await raw(port, 'GET / HTTP/1.1', HOST);
    assert.equal(status, 429);
    assert.equal(JSON.parse(body).error, 'client-full');
    assert.equal(headers['cache-control'], 'no-store');
    const seconds = Number(headers['retry-after']);
    assert.ok(seconds >= 4 && seconds <= 8, `${seconds}`);
    assert.deepEqual(refusals, [['client-full', 429, 'status', 'GET']]);
  });

  it('answers a browser’s EventSource with 200, one block of a random `retry` and the reason, and the end', async (t) => {
    const { limit, port } = await limited(t, { maxConnections: 1, retryDelay: 1000 });
    await open(port);
    const accept = 'Accept: text/event-stream';
    const retries = new Set<number>();
    for (const browser of ['Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty', 'User-Agent: Mozilla/5.0']) {
      for (let n = 0; n < 5; n++) {
        const { status, headers, body } = await raw(port, 'GET / HTTP/1.1', HOST, accept, browser);
        assert.equal(status, 200);
        assert.equal(headers['content-type'], 'text/event-stream');
        assert.match(headers['cache-control']!, /no-store/);
        const [, retry, data = ''] = /retry: (\d+)\nevent: sluice:refused\ndata: (.*)\n\n/.exec(body)!;
        retries.add(Number(retry));
        assert.deepEqual(readRefused(data), {
          error: 'server-full',
          message: 'The server has no room for another connection.',
        });
      }
    }
    assert.ok(
      [...retries].every((retry) => retry >= 1000 && retry <= 2000),
      [...retries].join(),
    );
    assert.ok(retries.size > 5, 'the delays are not random');
    assert.equal(limit.stats.refused['server-full'], 15);
    assert.equal((await raw(port, 'GET / HTTP/1.1', HOST, accept)).status, 503);
    assert.equal((await raw(port, 'GET / HTTP/1.1', HOST, 'Sec-Fetch-Mode: cors')).status, 503);
  });

  it('refuses as `refusal` says', async (t) => {
    const always = await limited(t, { maxConnections: 1, refusal: 'event-stream' });
    await open(always.port);
    assert.equal((await open(always.port)).status, 200);
    const chosen = await limited(t, {
      maxConnections: 1,
      refusal: (req) => (req.headers['x-sse'] ? 'event-stream' : 'status'),
    });
    await open(chosen.port);
    assert.equal((await open(chosen.port)).status, 503);
    assert.equal(
      (await open(chosen.port, '/', { 'x-sse': '1' })).headers['content-type'],
      'text/event-stream',
    );
  });

  it('lets a refused browser in on its first try after a connection has ended', async (t) => {
    const { limit, port } = await limited(t, { maxConnections: 3, retryDelay: 10 });
    const opened = await Promise.all([open(port), open(port), open(port)]);
    const tries: string[] = [];
    const browser = async () => {
      const { res } = await open(port, '/', { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' });
      const [text] = await once(res.setEncoding('utf8'), 'data');
      tries.push(text);
      return Number(/retry: (\d+)/.exec(text)?.[1] ?? 0);
    };
    for (let n = 0; n < 3; n++) {
      const retry = await browser();
      await new Promise((resolve) => setTimeout(resolve, retry));
    }
    opened[0]!.leave();
    await until(() => limit.stats.open === 2);
    await browser();
    assert.equal(tries.pop(), 'data: in\n\n');
    for (const text of tries) assert.match(text, /^retry: (1\d|20)\nevent: sluice:refused\ndata: .*\n\n$/);
    assert.equal(limit.stats.refused['server-full'], tries.length);
    assert.equal(limit.stats.open, 3);
  });

  it('counts clients and topics apart', async (t) => {
    const { limit, port } = await limited(t, {
      maxPerKey: 1,
      maxPerTopic: 2,
      key: (req) => JSON.stringify([req.headers['x-tenant'], req.headers['x-user']]),
      topics: (req) => new URL((req as IncomingMessage).url ?? '', 'http://x').searchParams.getAll('topic'),
    });
    const as = (tenant: string, user: string, path = '/') =>
      open(port, path, { 'x-tenant': tenant, 'x-user': user });
    assert.equal((await as('a_b', 'c')).status, 200);
    assert.equal((await as('a', 'b_c')).status, 200);
    assert.equal((await as('a', 'b_c')).status, 429);
    assert.equal((await as('a', '1', '/?topic=x&topic=x&topic=y')).status, 200);
    assert.equal((await as('a', '2', '/?topic=x')).status, 200);
    assert.equal((await as('a', '3', '/?topic=y&topic=x')).status, 503);
    assert.equal((await as('a', '3', '/?topic=y')).status, 200);
    assert.deepEqual([limit.stats.open, limit.stats.keys, limit.stats.topics], [5, 5, 2]);
    assert.equal(limit.stats.refused['topic-full'], 1);
  });

  it('admits as many again as those of a topic that have ended', async (t) => {
    const { limit, port } = await limited(t, { maxPerTopic: 1, topics: () => ['a', 'b'] });
    for (let n = 0; n < 3; n++) {
      const one = await open(port);
      assert.deepEqual([one.status, limit.stats.topics], [200, 2]);
      one.leave();
      await until(() => limit.stats.open === 0);
    }
    assert.equal(limit.stats.topics, 0);
  });

  it('throws a TypeError with a code when `key` returns no string', () => {
    for (const [wrong, got] of [
      [['tenant', 'user'], 'an array'],
      [null, 'null'],
      [7, 'a value of type number'],
      [Promise.resolve('a'), 'a value of type object'],
    ] as const) {
      const limit = limitConnections({ key: () => wrong as never });
      assert.throws(() => enter(limit), {
        name: 'TypeError',
        code: 'ERR_SSE_BAD_KEY',
        message: `\`key\` must return a string or undefined, got ${got}`,
      });
      assert.equal(limit.stats.open, 0);
    }
  });

  it('takes a slot of each limit, or none', async (t) => {
    const { limit, port } = await limited(t, {
      maxConnections: 2,
      maxPerKey: 1,
      key: (req) => req.headers['x-user'] as string | undefined,
    });
    await open(port, '/', { 'x-user': 'a' });
    await open(port, '/', { 'x-user': 'b' });
    assert.equal((await open(port, '/', { 'x-user': 'c' })).status, 503);
    assert.equal((await open(port, '/', { 'x-user': 'a' })).status, 429);
    assert.deepEqual([limit.stats.open, limit.stats.keys], [2, 2]);
  });

  it('counts no refused connection against the rate of its client', async (t) => {
    const clock = new FakeClock();
    const { limit, port } = await limited(t, { maxConnections: 1, rate: 1, burst: 2, clock });
    assert.equal((await open(port)).status, 200);
    for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 503);
    assert.deepEqual([limit.stats.refused['server-full'], limit.stats.refused['too-fast']], [3, 0]);
  });

  it('applies no limit per client when `key` returns undefined', async (t) => {
    const { limit, port } = await limited(t, { maxPerKey: 1, rate: 1, key: () => undefined });
    for (let n = 0; n < 5; n++) assert.equal((await open(port)).status, 200);
    assert.deepEqual([limit.stats.open, limit.stats.keys, limit.stats.rates], [5, 0, 0]);
  });

  it('lets a client open `burst` connections at once, and then `rate` per second', async (t) => {
    const clock = new FakeClock();
    const { limit, port } = await limited(t, { rate: 0.5, burst: 3, retryDelay: 0, clock });
    for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 200);
    const { status, headers } = await raw(port, 'GET / HTTP/1.1', HOST);
    assert.equal(status, 429);
    const seconds = Number(headers['retry-after']);
    assert.ok(seconds >= 2 && seconds <= 4, `Retry-After: ${seconds}`);
    clock.advance(2000);
    assert.equal((await open(port)).status, 200);
    assert.equal((await open(port)).status, 429);
    clock.advance(6000);
    assert.equal((await open(port)).status, 200);
    assert.equal(limit.stats.rates, 1);
    clock.advance(60_000);
    assert.equal(limit.stats.rates, 0);
    assert.equal(clock.timers, 0);
    for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 200);
    assert.equal((await open(port)).status, 429);
    assert.equal(limit.stats.refused['too-fast'], 3);
    assert.equal(clock.holds, false);
  });

  it('needs a clock only for differences of time', async (t) => {
    const { port } = await limited(t, { rate: 1, burst: 2, clock: new FakeClock(-60_000) });
    for (let n = 0; n < 2; n++) assert.equal((await open(port)).status, 200);
    assert.equal((await open(port)).status, 429);
  });

  it('loses no connection to rounding when the rate divides no second', async (t) => {
    const clock = new FakeClock();
    const { limit, port } = await limited(t, { rate: 3, clock });
    clock.advance(1 / 3);
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 200);
      assert.equal((await open(port)).status, 429);
      clock.advance(1000);
    }
    assert.equal(limit.stats.admitted, 15);
  });

  it('shares a semaphore with other limiters and other callers', async (t) => {
    const permits = new Semaphore(1);
    const [one, other] = [
      await limited(t, { maxConnections: permits }),
      await limited(t, { maxConnections: permits }),
    ];
    const { leave } = await open(one.port);
    assert.equal((await open(other.port)).status, 503);
    const job = permits.acquire();
    assert.deepEqual([one.limit.stats.waiting, other.limit.stats.waiting], [1, 1]);
    leave();
    (await job).release();
    await until(() => permits.available === 1);
    assert.equal(one.limit.stats.waiting, 0);
    assert.equal((await open(other.port)).status, 200);
  });

  it('leaves the permits of a shared semaphore alone when it refuses for another reason', async (t) => {
    for (const [reason, options] of [
      ['too-fast', { rate: 0.001, burst: 1 }],
      ['client-full', { maxPerKey: 1 }],
      ['topic-full', { maxPerTopic: 1, topics: () => ['a'] }],
    ] as const) {
      const permits = new Semaphore(3);
      const { limit, port } = await limited(t, { maxConnections: permits, ...options });
      await open(port);
      await open(port);
      assert.equal(limit.stats.refused[reason], 1);
      assert.deepEqual([permits.taken, permits.granted], [1, 1], reason);
    }
  });

  it('lets HEAD requests pass uncounted', async (t) => {
    const { limit, port } = await limited(t, { maxConnections: 1 });
    await open(port);
    assert.equal((await raw(port, 'HEAD / HTTP/1.1', HOST)).status, 200);
    assert.equal(limit.stats.admitted, 1);
  });

  it('rejects an option that is out of range, naming it and its value', () => {
    assert.throws(() => limitConnections({ maxConnections: 0 }), {
      name: 'RangeError',
      message: '`maxConnections` must be a whole number ≥ 1 or Infinity, got 0',
    });
    assert.throws(
      () => limitConnections({ maxConnections: '5' as never }),
      /^TypeError: `maxConnections` must be a number or a Semaphore, got 5$/,
    );
    assert.throws(() => limitConnections({ maxPerKey: 0.5 }), /`maxPerKey`/);
    assert.throws(() => limitConnections({ maxPerTopic: 3 }), /^TypeError: `maxPerTopic` needs `topics`$/);
    assert.throws(
      () => limitConnections({ trustProxy: true as never }),
      /`trustProxy` must be the number of proxies in front, got true/,
    );
    assert.throws(() => limitConnections({ trustProxy: Infinity }), /`trustProxy`/);
    assert.throws(
      () => limitConnections({ rate: 0 }),
      /^RangeError: `rate` must be more than 0 per second, got 0$/,
    );
    assert.throws(() => limitConnections({ burst: 3 }), /^TypeError: `burst` needs `rate`$/);
    assert.throws(() => limitConnections({ rate: 1, burst: 0 }), /`burst`/);
    assert.throws(() => limitConnections({ retryDelay: Infinity }), /`retryDelay`/);
  });
});

describe('limitConnections releases all slots', () => {
  const endings: Record<string, (parts: { res: ServerResponse; leave: () => void }) => void> = {
    'the client disconnects': ({ leave }) => leave(),
    'the server ends the response': ({ res }) => void res.end(),
    'the response is destroyed': ({ res }) => void res.destroy(),
    'the response fails': ({ res }) => void res.destroy(new Error('test')),
    'the socket is destroyed': ({ res }) => void res.socket?.destroy(),
  };
  for (const [name, ending] of Object.entries(endings)) {
    it(`when ${name}`, async (t) => {
      const { limit, held, port } = await limited(t, { maxPerKey: 5 });
      const clients = await Promise.all([open(port), open(port), open(port)]);
      assert.equal(limit.stats.open, 3);
      for (const [nth, res] of held.entries()) ending({ res, leave: clients[nth]!.leave });
      await until(() => limit.stats.open === 0);
      assert.equal(limit.stats.keys, 0);
      assert.equal((await open(port)).status, 200);
      assert.equal(limit.stats.open, 1);
    });
  }

  it('when a client closes its half of the connection and stops reading', async (t) => {
    const { limit, held, calls, port } = await limited(t, {});
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(calls, 'call');
    // More than the kernel takes, so that the response cannot end by itself.
    held[0]!.write(Buffer.alloc(64 << 20));
    socket.end();
    await once(held[0]!, 'close');
    assert.equal(limit.stats.open, 0);
    socket.destroy();
  });

  it('when thousands of requests were pipelined on one socket', async (t) => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on('warning', onWarning);
    t.after(() => process.off('warning', onWarning));
    const limit = limitConnections({});
    let first: ServerResponse | undefined;
    const { port } = await serve(t, (req, res) => {
      first ??= res;
      void limit(req, res, () => {});
    });
    for (const side of ['client', 'server']) {
      first = undefined;
      const socket: Socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(5000));
      await until(() => limit.stats.open === 5000);
      if (side === 'client') socket.destroy();
      else first!.destroy();
      await until(() => limit.stats.open === 0);
      assert.equal(limit.stats.keys, 0);
    }
    assert.equal(limit.stats.admitted, 10_000);
    await turn();
    assert.deepEqual(warnings, []);
  });

  it('after many requests on one kept-alive socket', async (t) => {
    const limit = limitConnections({ maxConnections: 1 });
    let sockets = 0;
    const { server, port } = await serve(t, (req, res) => void limit(req, res, () => res.end('ok')));
    server.on('connection', (socket) => {
      sockets++;
      socket.setMaxListeners(10);
    });
    const socket = connect(port, '127.0.0.1').setEncoding('latin1');
    for (let n = 0; n < 50; n++) {
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      let text = '';
      while (!text.endsWith('ok')) text += (await once(socket, 'data'))[0];
      assert.match(text, /^HTTP\/1.1 200/);
      await until(() => limit.stats.open === 0);
    }
    socket.destroy();
    assert.deepEqual([sockets, limit.stats.admitted, limit.stats.peak], [1, 50, 1]);
  });

  it('when the chain behind it fails, at once or later, or refuses', async (t) => {
    const limit = limitConnections({ maxConnections: 1 });
    const failures: Record<string, (res: ServerResponse) => unknown> = {
      '/throws': () => {
        throw new Error('test');
      },
      '/rejects': async () => {
        await turn();
        throw new Error('test');
      },
      '/refuses': (res) => res.writeHead(403).end('no'),
    };
    const { port } = await serve(t, async (req, res) => {
      try {
        await limit(req, res, () => failures[req.url!]!(res));
      } catch {
        assert.equal(limit.stats.open, 0);
        res.writeHead(500).end();
      }
    });
    for (const path of Object.keys(failures)) {
      const { status } = await raw(port, `GET ${path} HTTP/1.1`, HOST);
      assert.equal(status, path === '/refuses' ? 403 : 500);
      await until(() => limit.stats.open === 0);
    }
    assert.equal(limit.stats.admitted, 3);
  });

  it('only when the response is over, if the chain fails after the head was sent', async (t) => {
    const limit = limitConnections({});
    const { port } = await serve(t, (req, res) => {
      const chain = async () => {
        res.writeHead(200).write('x');
        throw new Error('test');
      };
      void assert.rejects(limit(req, res, chain) as Promise<unknown>, { message: 'test' });
    });
    const { leave } = await open(port);
    assert.equal(limit.stats.open, 1);
    leave();
    await until(() => limit.stats.open === 0);
  });

  it('and keeps no long key, which a client may have chosen, but tells such clients apart', () => {
    let number = 0;
    const key = () => `${number}${String.fromCharCode(0x61 + (number % 26)).repeat(20_000)}`;
    const limit = limitConnections({ maxPerKey: 1, rate: 1000, key });
    runInNewContext('gc')();
    const before = process.memoryUsage().heapUsed;
    const leave: (() => void)[] = [];
    for (number = 0; number < 2000; number++) leave.push(enter(limit));
    runInNewContext('gc')();
    assert.deepEqual([limit.stats.keys, limit.stats.rates], [2000, 2000]);
    // The keys have 40 MB.
    const grown = process.memoryUsage().heapUsed - before;
    assert.ok(grown < 10_000_000, `${grown} bytes`);
    for (const one of leave) one();
    assert.equal(limit.stats.open, 0);
  });

  it('and keeps no old responses of a client that always has another request under way', async (t) => {
    const limit = limitConnections({});
    const waiting: ServerResponse[] = [];
    const over: WeakRef<ServerResponse>[] = [];
    const { port } = await serve(t, (req, res) => {
      limit(req, res, () => {
        over.push(new WeakRef(res));
        waiting.push(res);
        if (waiting.length > 2) waiting.shift()!.end('x');
      });
    });
    const socket = connect(port, '127.0.0.1').resume();
    for (let n = 1; n <= 200; n++) {
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await until(() => over.length === n && limit.stats.open <= 2);
    }
    await turn();
    runInNewContext('gc')();
    const kept = over.filter((one) => one.deref() !== undefined).length;
    assert.ok(kept < 20, `${kept} responses kept`);
    assert.equal(limit.stats.open, 2);
    socket.destroy();
    await until(() => limit.stats.open === 0);
  });

  it('and takes none for a client that has already disconnected', async (t) => {
    const limit = limitConnections({});
    const verdicts: unknown[] = [];
    const seen = new EventEmitter();
    const { port } = await serve(t, (req, res) => {
      res.on('close', async () => {
        verdicts.push(await limit(req, res, assert.fail));
        seen.emit('verdict');
      });
      seen.emit('request');
    });
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(seen, 'request');
    socket.destroy();
    await once(seen, 'verdict');
    assert.deepEqual(verdicts, [undefined]);
    assert.deepEqual([limit.stats.open, limit.stats.admitted], [0, 0]);
  });

  it('on HTTP/2, of one stream when it closes and of all when the session ends', async (t) => {
    const limit = limitConnections({ maxConnections: 3 });
    const server = createHttp2Server((req, res) => {
      void limit(req, res, () => res.writeHead(200).write('in'));
    });
    await listen(t, server);
    const client = session(t, server);
    const ask = async () => {
      const stream = client.request({ ':path': '/' });
      stream.on('error', () => {});
      const [headers] = await once(stream, 'response');
      return { stream, status: headers[':status'] };
    };
    const { stream } = await ask();
    await ask();
    await ask();
    assert.equal((await ask()).status, 503);
    stream.close();
    await until(() => limit.stats.open === 2);
    assert.equal((await ask()).status, 200);
    client.destroy();
    await until(() => limit.stats.open === 0);
  });

  it('and memory stays bounded over a quarter of a million addresses', async () => {
    const clock = new FakeClock();
    const limit = limitConnections({ maxPerKey: 2, rate: 1, burst: 5, clock });
    let most = 0;
    for (let n = 0; n < 250_000; n++) {
      const address =
        n % 2 === 0
          ? `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
          : `2001:db8:${n >> 16}:${n & 0xffff}::1`;
      const over = enter(limit, address);
      most = Math.max(most, limit.stats.rates);
      over();
      if (n % 1000 === 0) await turn();
    }
    assert.equal(limit.stats.admitted, 250_000);
    assert.equal(limit.stats.keys, 0);
    assert.ok(most <= 200_000, `${most} remembered at once`);
    clock.advance(15_000);
    assert.equal(limit.stats.rates, 0);
    assert.equal(clock.timers, 0);
  });
});
