import assert from 'node:assert/strict';
import { EventEmitter, getEventListeners, once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import {
  addressGroup,
  type ConnectionLimit,
  clientAddress,
  type LimitKey,
  type LimitOptions,
  type LimitRequest,
  type LimitResponse,
  limitConnections,
  type Release,
  Semaphore,
} from '../lib/limiter.ts';
import { FakeClock } from './helpers/clock.ts';
import { raw } from './helpers/raw.ts';
import { serve } from './helpers/server.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('Semaphore', () => {
  it('gives as many permits as it has, and takes them back', () => {
    const permits = new Semaphore(2);
    const [one, two] = [permits.tryAcquire(), permits.tryAcquire()];
    assert.ok(one && two);
    assert.equal(permits.tryAcquire(), undefined);
    assert.deepEqual([permits.capacity, permits.available, permits.taken], [2, 0, 2]);
    one();
    assert.equal(permits.available, 1);
    assert.ok(permits.tryAcquire());
    assert.deepEqual([permits.peak, permits.granted], [2, 3]);
  });

  it('takes a permit back once, however often it is released', () => {
    const permits = new Semaphore(1);
    const release = permits.tryAcquire()!;
    release();
    const other = permits.tryAcquire();
    release();
    assert.equal(permits.taken, 1);
    assert.ok(other);
  });

  it('hands a freed permit to the one who waited longest', async () => {
    const permits = new Semaphore(1);
    const order: number[] = [];
    const first = await permits.acquire();
    const waits = [1, 2, 3].map(async (nth) => {
      const release = await permits.acquire();
      order.push(nth);
      release();
    });
    assert.equal(permits.waiting, 3);
    first();
    assert.equal(permits.tryAcquire(), undefined);
    await Promise.all(waits);
    assert.deepEqual(order, [1, 2, 3]);
    assert.deepEqual([permits.waiting, permits.taken, permits.peak], [0, 0, 1]);
  });

  it('lets only so many wait', async () => {
    const permits = new Semaphore(1, { maxWaiting: 1 });
    const release = permits.tryAcquire()!;
    const waiting = permits.acquire();
    await assert.rejects(permits.acquire(), { code: 'ERR_SSE_QUEUE_FULL', message: '1 are waiting already' });
    release();
    (await waiting)();
    assert.deepEqual([permits.refused, permits.taken], [1, 0]);
    const none = new Semaphore(1, { maxWaiting: 0 });
    none.tryAcquire();
    await assert.rejects(none.acquire(), { code: 'ERR_SSE_QUEUE_FULL' });
  });

  it('lets nobody wait for longer than the time-out, each from its own arrival', async () => {
    const permits = new Semaphore(1, { waitTimeout: 20 });
    const release = permits.tryAcquire()!;
    const first = permits.acquire();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const second = permits.acquire();
    await assert.rejects(first, { code: 'ERR_SSE_WAIT_TIMEOUT', message: 'no permit within 20 ms' });
    await assert.rejects(second, { code: 'ERR_SSE_WAIT_TIMEOUT' });
    assert.deepEqual([permits.expired, permits.waiting], [2, 0]);
    release();
    assert.equal(permits.available, 1);
  });

  it('rejects an aborted wait with the signal’s own reason, and leaves no listener', async () => {
    const permits = new Semaphore(1);
    const release = permits.tryAcquire()!;
    const controller = new AbortController();
    const { signal } = controller;
    const [aborted, kept] = [permits.acquire({ signal }), permits.acquire()];
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    const reason = { why: 'test' };
    controller.abort(reason);
    await assert.rejects(aborted, (error) => error === reason);
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    await assert.rejects(permits.acquire({ signal }), (error) => error === reason);
    release();
    (await kept)();
    assert.deepEqual([permits.aborted, permits.available], [1, 1]);
  });

  it('leaves no listener on the signal of a wait that ended well', async () => {
    const permits = new Semaphore(1);
    const { signal } = new AbortController();
    const release = await permits.acquire({ signal });
    const waiting = permits.acquire({ signal });
    release();
    (await waiting)();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });

  it('does as a list and a counter would, in any order of things', async () => {
    const action = fc.oneof(
      fc.record({ type: fc.constant('acquire' as const) }),
      fc.record({ type: fc.constantFrom('release' as const, 'abort' as const), at: fc.nat(10) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(action, { maxLength: 60 }),
        async (capacity, actions) => {
          const permits = new Semaphore(capacity, { maxWaiting: 3 });
          const held: { id: number; release: Release }[] = [];
          const model = { held: [] as number[], queue: [] as { id: number; controller: AbortController }[] };
          let id = 0;
          for (const act of actions) {
            if (act.type === 'acquire') {
              const mine = id++;
              const controller = new AbortController();
              const { signal } = controller;
              permits.acquire({ signal }).then(
                (release) => held.push({ id: mine, release }),
                () => {},
              );
              if (model.held.length < capacity) model.held.push(mine);
              else if (model.queue.length < 3) model.queue.push({ id: mine, controller });
            } else if (act.type === 'release' && held.length > 0) {
              const [gone] = held.splice(act.at % held.length, 1);
              gone!.release();
              model.held.splice(model.held.indexOf(gone!.id), 1);
              const next = model.queue.shift();
              if (next !== undefined) model.held.push(next.id);
            } else if (act.type === 'abort' && model.queue.length > 0) {
              const [gone] = model.queue.splice(act.at % model.queue.length, 1);
              gone!.controller.abort();
            }
            await turn();
            const ids = held.map((one) => one.id).sort((a, b) => a - b);
            assert.deepEqual(
              ids,
              [...model.held].sort((a, b) => a - b),
            );
            assert.equal(permits.taken, model.held.length);
            assert.equal(permits.waiting, model.queue.length);
          }
        },
      ),
    );
  });

  it('refuses options out of range, by name', () => {
    assert.throws(() => new Semaphore(0), {
      name: 'RangeError',
      message: '`capacity` must be a whole number ≥ 1, got 0',
    });
    assert.throws(() => new Semaphore(1.5), /`capacity`/);
    assert.throws(
      () => new Semaphore(1, { maxWaiting: -1 }),
      /`maxWaiting` must be a whole number ≥ 0, got -1$/,
    );
    assert.throws(
      () => new Semaphore(1, { waitTimeout: 2 ** 31 }),
      /`waitTimeout` must be .* got 2147483648$/,
    );
    assert.equal(new Semaphore(Infinity).available, Infinity);
  });
});

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

describe('limitConnections', () => {
  it('lets in as many as there is room for, and again as many as have left', async (t) => {
    const { limit, port } = await limited(t, { max: 2 });
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

  it('never ends a connection to let in another', async (t) => {
    const { held, port } = await limited(t, { max: 1 });
    await open(port);
    for (let n = 0; n < 20; n++) assert.equal((await open(port)).status, 503);
    assert.equal(held.length, 1);
    assert.equal(held[0]!.destroyed, false);
    assert.equal(held[0]!.writable, true);
  });

  it('says no with a status, when to come back, and a JSON error', async (t) => {
    const refusals: unknown[] = [];
    const onRefuse: LimitOptions['onRefuse'] = ({ reason, status, refusal, req }) =>
      refusals.push([reason, status, refusal, req.method]);
    const { port } = await limited(t, { maxPerKey: 1, retryInterval: 4000, onRefuse });
    await open(port);
    const { status, headers, body } = await raw(port, 'GET / HTTP/1.1', HOST);
    assert.equal(status, 429);
    assert.equal(JSON.parse(body).error, 'client-full');
    assert.equal(headers['cache-control'], 'no-store');
    const seconds = Number(headers['retry-after']);
    assert.ok(seconds >= 4 && seconds <= 8, `${seconds}`);
    assert.deepEqual(refusals, [['client-full', 429, 'status', 'GET']]);
  });

  it('tells a browser’s EventSource 200, when to come back, and the end', async (t) => {
    const { limit, port } = await limited(t, { max: 1, retryInterval: 1000 });
    await open(port);
    const accept = 'Accept: text/event-stream';
    const retries = new Set<number>();
    for (const browser of ['Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty', 'User-Agent: Mozilla/5.0']) {
      for (let n = 0; n < 5; n++) {
        const { status, headers, body } = await raw(port, 'GET / HTTP/1.1', HOST, accept, browser);
        assert.equal(status, 200);
        assert.equal(headers['content-type'], 'text/event-stream');
        assert.match(headers['cache-control']!, /no-store/);
        retries.add(Number(/retry: (\d+)\n\n/.exec(body)?.[1]));
      }
    }
    assert.ok(
      [...retries].every((retry) => retry >= 1000 && retry <= 2000),
      [...retries].join(),
    );
    assert.ok(retries.size > 5, 'all at one time');
    assert.equal(limit.stats.refused['server-full'], 15);
    assert.equal((await raw(port, 'GET / HTTP/1.1', HOST, accept)).status, 503);
    assert.equal((await raw(port, 'GET / HTTP/1.1', HOST, 'Sec-Fetch-Mode: cors')).status, 503);
  });

  it('says no as the option says', async (t) => {
    const always = await limited(t, { max: 1, refusal: 'event-stream' });
    await open(always.port);
    assert.equal((await open(always.port)).status, 200);
    const chosen = await limited(t, {
      max: 1,
      refusal: (req) => (req.headers['x-sse'] ? 'event-stream' : 'status'),
    });
    await open(chosen.port);
    assert.equal((await open(chosen.port)).status, 503);
    assert.equal(
      (await open(chosen.port, '/', { 'x-sse': '1' })).headers['content-type'],
      'text/event-stream',
    );
  });

  it('brings N + 1 browsers back no faster than they were told', async (t) => {
    const { limit, port } = await limited(t, { max: 3, retryInterval: 10 });
    const opened = await Promise.all([open(port), open(port), open(port)]);
    const early: number[] = [];
    let got = 0;
    const browser = async () => {
      for (;;) {
        const at = performance.now();
        const { res } = await open(port, '/', { accept: 'text/event-stream', 'sec-fetch-mode': 'cors' });
        const [first] = await once(res.setEncoding('utf8'), 'data');
        if (first.includes('data: in')) break;
        const retry = Number(/retry: (\d+)/.exec(first)![1]);
        if (retry < 10) early.push(retry);
        await new Promise((resolve) => setTimeout(resolve, retry));
        assert.ok(performance.now() - at >= 9);
      }
      got++;
    };
    const waiting = browser();
    await until(() => limit.stats.refused['server-full'] >= 3);
    assert.equal(got, 0);
    opened[0]!.leave();
    await waiting;
    assert.equal(limit.stats.open, 3);
    assert.deepEqual(early, []);
  });

  it('keeps clients and topics apart, by structure and not by spelling', async (t) => {
    const { limit, port } = await limited(t, {
      maxPerKey: 1,
      maxPerTopic: 2,
      key: (req) => [req.headers['x-tenant'], req.headers['x-user']],
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

  it('takes a key for a path of one step, and tells paths of different lengths apart', async (t) => {
    const keys: LimitKey[] = [
      'a',
      ['a', 'b'],
      ['a', 'b', 'c'],
      ['a', undefined],
      [],
      ['b'],
      ['a', ['b']],
      Symbol('a'),
    ];
    let key: LimitKey;
    const { limit, held, port } = await limited(t, { maxPerKey: 1, key: () => key });
    for (key of keys) assert.equal((await open(port)).status, 200);
    for (key of [['a'], 'b', ...keys.slice(0, 4)]) assert.equal((await open(port)).status, 429);
    assert.equal(limit.stats.keys, keys.length);
    for (const res of held) res.destroy();
    await until(() => limit.stats.open === 0);
    assert.equal(limit.stats.keys, 0);
  });

  it('takes all of the slots a connection needs, or none', async (t) => {
    const { limit, port } = await limited(t, {
      max: 2,
      maxPerKey: 1,
      key: (req) => req.headers['x-user'] as string | undefined,
    });
    await open(port, '/', { 'x-user': 'a' });
    await open(port, '/', { 'x-user': 'b' });
    assert.equal((await open(port, '/', { 'x-user': 'c' })).status, 503);
    assert.equal((await open(port, '/', { 'x-user': 'a' })).status, 429);
    assert.deepEqual([limit.stats.open, limit.stats.keys], [2, 2]);
  });

  it('has no limit per client for one that is nobody in particular', async (t) => {
    const { limit, port } = await limited(t, { maxPerKey: 1, rate: 1, key: () => undefined });
    for (let n = 0; n < 5; n++) assert.equal((await open(port)).status, 200);
    assert.deepEqual([limit.stats.open, limit.stats.keys, limit.stats.rates], [5, 0, 0]);
  });

  it('lets a client open connections so fast and no faster', async (t) => {
    const clock = new FakeClock();
    const { limit, port } = await limited(t, { rate: 0.5, burst: 3, retryInterval: 0, clock });
    for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 200);
    const { status, headers } = await raw(port, 'GET / HTTP/1.1', HOST);
    assert.equal(status, 429);
    const seconds = Number(headers['retry-after']);
    assert.ok(seconds >= 2 && seconds <= 4, 'until there is a token, or up to twice as long');
    clock.advance(2000);
    assert.equal((await open(port)).status, 200);
    assert.equal((await open(port)).status, 429);
    clock.advance(60_000);
    assert.equal(limit.stats.rates, 0);
    assert.equal(clock.timers, 0);
    for (let n = 0; n < 3; n++) assert.equal((await open(port)).status, 200);
    assert.equal((await open(port)).status, 429);
    assert.equal(limit.stats.refused['too-fast'], 3);
    assert.equal(clock.holds, false);
  });

  it('counts fractions of a second for nothing less than they are', async (t) => {
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

  it('shares a semaphore with others', async (t) => {
    const permits = new Semaphore(1);
    const [one, other] = [await limited(t, { max: permits }), await limited(t, { max: permits })];
    const { leave } = await open(one.port);
    assert.equal((await open(other.port)).status, 503);
    const job = permits.acquire();
    assert.deepEqual([one.limit.stats.waiting, other.limit.stats.waiting], [1, 1]);
    leave();
    (await job)();
    await until(() => permits.available === 1);
    assert.equal(one.limit.stats.waiting, 0);
    assert.equal((await open(other.port)).status, 200);
  });

  it('gives HEAD no permit', async (t) => {
    const { limit, port } = await limited(t, { max: 1 });
    await open(port);
    assert.equal((await raw(port, 'HEAD / HTTP/1.1', HOST)).status, 200);
    assert.equal(limit.stats.admitted, 1);
  });

  it('refuses options out of range, by name', () => {
    assert.throws(() => limitConnections({ max: 0 }), {
      name: 'RangeError',
      message: '`max` must be a whole number ≥ 1, got 0',
    });
    assert.throws(
      () => limitConnections({ max: '5' as never }),
      /^TypeError: `max` must be a number or a Semaphore, got 5$/,
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
      /^RangeError: `rate` must be more than 0 a second, got 0$/,
    );
    assert.throws(() => limitConnections({ burst: 3 }), /^TypeError: `burst` needs `rate`$/);
    assert.throws(() => limitConnections({ rate: 1, burst: 0 }), /`burst`/);
    assert.throws(() => limitConnections({ retryInterval: Infinity }), /`retryInterval`/);
  });
});

describe('limitConnections counts back to zero', () => {
  const endings: Record<string, (parts: { res: ServerResponse; leave: () => void }) => void> = {
    'the client leaves': ({ leave }) => leave(),
    'the server ends': ({ res }) => void res.end(),
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

  it('when a client closes its half and reads no more', async (t) => {
    const { limit, held, calls, port } = await limited(t, {});
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(calls, 'call');
    const full = Buffer.alloc(1 << 20);
    while (held[0]!.write(full));
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
    const limit = limitConnections({ max: 1 });
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
    const limit = limitConnections({ max: 1 });
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

  it('keeps the slot of a stream that goes on after the chain has failed', async (t) => {
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

  it('holds on to nothing of a client that always has another request under way', async (t) => {
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
    setFlagsFromString('--expose-gc');
    runInNewContext('gc')();
    const kept = over.filter((one) => one.deref() !== undefined).length;
    assert.ok(kept < 20, `${kept} responses kept`);
    assert.equal(limit.stats.open, 2);
    socket.destroy();
    await until(() => limit.stats.open === 0);
  });

  it('when the client is gone before its turn', async (t) => {
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

  it('on HTTP/2, stream by stream, and when the session goes', async (t) => {
    const limit = limitConnections({ max: 3 });
    const server = createHttp2Server((req, res) => {
      void limit(req, res, () => res.writeHead(200).write('in'));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const client = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
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

  it('leaves nothing behind of a quarter of a million distinct addresses', async () => {
    const clock = new FakeClock();
    const limit = limitConnections({ maxPerKey: 2, rate: 1, burst: 5, clock });
    let most = 0;
    for (let n = 0; n < 250_000; n++) {
      const address =
        n % 2 === 0
          ? `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
          : `2001:db8:${n >> 16}:${n & 0xffff}::1`;
      let over: () => void = assert.fail;
      const res = {
        headersSent: false,
        writableEnded: false,
        on: (event: string, listener: () => void) => {
          if (event === 'close') over = listener;
        },
        writeHead: assert.fail,
        end: assert.fail,
        destroy: assert.fail,
      } as unknown as LimitResponse;
      const socket = { remoteAddress: address, destroyed: false, on() {} };
      const req: LimitRequest = { httpVersionMajor: 2, headers: {}, socket };
      void limit(req, res, () => {});
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

describe('clientAddress', () => {
  const request = (forwarded?: string) => ({
    headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
    socket: { remoteAddress: '10.0.0.1' },
  });

  it('is the socket’s where no proxy is trusted, whatever the header says', () => {
    assert.equal(clientAddress(request('1.2.3.4')), '10.0.0.1');
    assert.equal(clientAddress(request(), 1), '10.0.0.1');
  });

  it('is counted from the right, so that nobody can make one up', () => {
    const forged = request('6.6.6.6, 192.0.2.1 , 10.9.9.9');
    assert.equal(clientAddress(forged, 1), '10.9.9.9');
    assert.equal(clientAddress(forged, 2), '192.0.2.1');
    assert.equal(clientAddress(request('192.0.2.1'), 2), '192.0.2.1');
  });

  it('is read without the port that some proxies add', () => {
    assert.equal(clientAddress(request('192.0.2.1:4711'), 1), '192.0.2.1');
    assert.equal(clientAddress(request('[2001:db8::1]:4711'), 1), '2001:db8::1');
    assert.equal(clientAddress(request('[2001:db8::1]'), 1), '2001:db8::1');
    assert.equal(clientAddress(request('2001:db8::1'), 1), '2001:db8::1');
  });

  it('is the socket’s where the proxy wrote no address', () => {
    for (const text of ['unknown', '', '_hidden', '999.1.1.1', '1.2.3.4,', 'x'.repeat(10_000)]) {
      assert.equal(clientAddress(request(text), 1), '10.0.0.1', text.slice(0, 20));
    }
  });
});

describe('addressGroup', () => {
  it('is the /64 of an IPv6 address, however that is written', () => {
    const spellings = [
      '2001:db8:0:1::1',
      '2001:DB8:0:1:ffff:ffff:ffff:ffff',
      '2001:0db8:0000:0001:0:0:1.2.3.4',
    ];
    for (const one of spellings) assert.equal(addressGroup(one), '2001:db8:0:1::/64');
    assert.equal(addressGroup('::1'), '0:0:0:0::/64');
    assert.equal(addressGroup('fe80::1%eth0'), 'fe80:0:0:0::/64');
    assert.equal(addressGroup('2001:db8::'), '2001:db8:0:0::/64');
  });

  it('is the IPv4 address itself, mapped and translated ones too', () => {
    for (const one of [
      '192.0.2.33',
      '::ffff:192.0.2.33',
      '::FFFF:c000:221',
      '64:ff9b::192.0.2.33',
      '64:ff9b::c000:221',
    ]) {
      assert.equal(addressGroup(one), '192.0.2.33', one);
    }
  });

  it('is the same for every spelling of one address', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }),
        fc.boolean(),
        (groups, pad) => {
          groups[0] = 0x2000 | (groups[0]! & 0xfff);
          const written = groups.map((group) => group.toString(16).padStart(pad ? 4 : 1, '0')).join(':');
          const short = new URL(`http://[${written}]`).hostname.slice(1, -1);
          assert.equal(addressGroup(short), addressGroup(written.toUpperCase()));
          const neighbour = [...groups.slice(0, 4), 1, 2, 3, 4].map((group) => group.toString(16)).join(':');
          assert.equal(addressGroup(neighbour), addressGroup(written));
          const stranger = [...groups.slice(0, 3), groups[3]! ^ 1, ...groups.slice(4)].map((group) =>
            group.toString(16),
          );
          assert.notEqual(addressGroup(stranger.join(':')), addressGroup(written));
        },
      ),
    );
  });
});
