import assert from 'node:assert/strict';
import { createHook } from 'node:async_hooks';
import { EventEmitter, getEventListeners, on, once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import * as http2 from 'node:http2';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type DrainableStream, shutdown, trackConnections } from '../lib/shutdown.ts';
import { type EventStream, openStream } from '../lib/stream.ts';
import { cert, key } from './fixtures/tls.ts';
import { fakeTime } from './helpers/clock.ts';
import { session } from './helpers/http2.ts';
import { ask, dial, dialTls, request } from './helpers/raw.ts';
import { Reading } from './helpers/reader.ts';
import { listen } from './helpers/server.ts';

setFlagsFromString('--expose-gc');

const BIG = 'x'.repeat(12 * 1024 * 1024);

/** Lets a server listen until the test is over, with its connections tracked. */
async function start<S extends Server>(t: TestContext, server: S): Promise<S> {
  trackConnections(server);
  await listen(t, server);
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** A connection that reads nothing unless asked to, over TLS where the server speaks it. */
function connectTo(t: TestContext, server: Server): Promise<Socket> {
  return isTls(server) ? dialTls(t, portOf(server)) : dial(t, portOf(server));
}

/** A connection that has sent a request. */
async function asking(t: TestContext, server: Server): Promise<Reading> {
  return ask(await connectTo(t, server));
}

/** A connection that has sent two requests at once, which are not answered so far. */
async function pipelined(
  t: TestContext,
): Promise<{ server: Server; held: ServerResponse[]; reader: Reading }> {
  const held: ServerResponse[] = [];
  const server = await start(
    t,
    createServer((_req, res) => held.push(res)),
  );
  const client = await dial(t, portOf(server));
  const reader = ask(client);
  client.write(request());
  while (held.length < 2) await turn();
  return { server, held, reader };
}

/** A connection that has sent some bytes, of which the server has read some. */
async function begun(t: TestContext, server: Server, bytes: string | Uint8Array): Promise<Reading> {
  const accepted = once(server, isTls(server) ? 'secureConnection' : 'connection');
  const client = await connectTo(t, server);
  client.write(bytes);
  await received(await accepted);
  return new Reading(client);
}

async function received([socket]: Socket[]): Promise<void> {
  while (socket!.bytesRead === 0) await turn();
}

function bodyOf(response: string): string {
  return response.slice(response.indexOf('\r\n\r\n') + 4);
}

function isTls(server: Server): boolean {
  return 'setSecureContext' in server;
}

/** A set of real streams, and how a server opens and ends them. */
class Streams extends Set<EventStream> {
  readonly open: RequestListener = (req, res) => {
    const stream = openStream(req, res);
    this.add(stream);
    stream.once('close', () => this.delete(stream));
    stream.send({ data: 'hello' });
  };

  readonly end = (stream: EventStream, { retry }: { readonly retry: number }): void => {
    stream.write(Buffer.from(`retry: ${retry}\n\n`));
    stream.end('shutdown');
  };
}

/** A stream that stays open until `end` is called. */
class Still extends EventEmitter implements DrainableStream {
  closed = false;
  readonly end = (): void => {
    this.closed = true;
  };
}

describe('shutdown', () => {
  it('calls onDraining before it refuses new connections', async (t) => {
    const server = await start(t, createServer());
    const port = portOf(server);
    let listening: boolean | undefined;
    const done = shutdown(server, {
      onDraining() {
        listening = server.listening;
      },
    });
    assert.equal(listening, true);
    const late = connect(port, '127.0.0.1');
    const [error] = await once(late, 'error');
    assert.equal(error.code, 'ECONNREFUSED');
    assert.deepEqual(await done.then(({ duration, ...rest }) => rest), {
      ended: 0,
      finished: 0,
      cut: 0,
      errors: [],
    });
  });

  it('closes idle keep-alive connections at once', async (t) => {
    const server = await start(
      t,
      createServer((_req, res) => res.end('done')),
    );
    const reader = await asking(t, server);
    await reader.until('done');
    const { cut } = await shutdown(server, { deadline: Infinity });
    await reader.over;
    assert.equal(cut, 0);
  });

  for (const kind of ['HTTP', 'HTTPS'])
    it(`closes an unused ${kind} connection after a second, in which its first request may still arrive`, async (t) => {
      const time = fakeTime(t);
      const answer: RequestListener = (_req, res) => res.end('done');
      const server = await start(
        t,
        kind === 'HTTPS' ? createTlsServer({ key, cert }, answer) : createServer(answer),
      );
      const accepted = on(server, isTls(server) ? 'secureConnection' : 'connection');
      const unused = new Reading(await connectTo(t, server));
      const late = await connectTo(t, server);
      for (let open = 0; open < 2; open++) await accepted.next();
      const done = shutdown(server, { deadline: Infinity });
      await time.pass(500);
      assert.match(await ask(late).over, /done/);
      await time.pass(600);
      await unused.over;
      assert.equal((await done).cut, 0);
    });

  it('leaves connections alone that have a request or response in progress, on every protocol', async (t) => {
    const time = fakeTime(t);
    const again = new AbortController();
    const open: Promise<unknown>[] = [];
    const answer: RequestListener = (_req, res) => res.write('held');
    const drain = (server: Server) =>
      open.push(shutdown(server, { deadline: Infinity, signal: again.signal }));
    const incomplete = await start(t, createServer());
    await begun(t, incomplete, 'GET / HT');
    drain(incomplete);
    for (const server of [createServer(answer), createTlsServer({ key, cert }, answer)]) {
      await start<Server>(t, server);
      await (await asking(t, server)).until('held');
      drain(server);
    }
    const server = await start(t, http2.createServer(answer as never));
    const stream = session(t, server).request({ ':path': '/' });
    await once(
      stream.on('error', () => {}),
      'data',
    );
    drain(server);
    await time.pass(3000);
    again.abort();
    const outcomes = (await Promise.all(open)) as { cut: number }[];
    assert.deepEqual(
      outcomes.map(({ cut }) => cut),
      [1, 1, 1, 1],
    );
  });

  it('leaves a connection alone that another protocol has taken over, although it carried a request before', async (t) => {
    for (const server of [createServer(), createTlsServer({ key, cert })]) {
      server.on('request', (_req, res) => res.end('done'));
      server.on('upgrade', (_req, socket) => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
        socket.pipe(socket);
      });
      await start<Server>(t, server);
      const client = await connectTo(t, server);
      const reader = ask(client);
      await reader.until('done');
      client.write(request('GET / HTTP/1.1', 'Connection: upgrade', 'Upgrade: echo'));
      await reader.until('101 Switching');
      const again = new AbortController();
      const done = shutdown(server, { deadline: Infinity, signal: again.signal });
      client.write('still here');
      await reader.until('still here');
      again.abort();
      assert.equal((await done).cut, 1);
    }
  });

  it('answers requests on a busy connection, with Connection: close', async (t) => {
    const answers: (() => void)[] = [];
    const server = await start(
      t,
      createServer((_req, res) => answers.push(() => res.end('done'))),
    );
    const client = await dial(t, portOf(server));
    const reader = ask(client);
    await once(server, 'request');
    const done = shutdown(server, { deadline: Infinity });
    client.write(request());
    await once(server, 'request');
    answers[0]!();
    await reader.until('done');
    answers[1]!();
    await reader.over;
    assert.equal(reader.text.split('done').length, 3);
    assert.match(reader.text, /Connection: close/i);
    assert.equal((await done).cut, 0);
  });

  it('closes a connection behind the last of its responses that were in progress', async (t) => {
    const { server, held, reader } = await pipelined(t);
    const done = shutdown(server, { deadline: Infinity });
    held[0]!.end('first');
    await reader.until('first');
    while (!held[0]!.closed) await turn();
    held[1]!.end('second');
    await reader.over;
    assert.match(reader.text, /first.*second/s);
    assert.equal((await done).cut, 0);
  });

  for (const when of ['before it', 'during it'] as const) {
    it(`lets a response end behind which another one was destroyed ${when}`, async (t) => {
      const { server, held, reader } = await pipelined(t);
      held[0]!.write('one');
      await reader.until('one');
      if (when === 'before it') held[1]!.destroy();
      const done = shutdown(server, { deadline: Infinity });
      if (when === 'during it') held[1]!.destroy();
      for (let n = 0; n < 20; n++) await turn();
      held[0]!.end('two');
      await reader.over;
      assert.match(reader.text, /one[\s\S]*two[\s\S]*\r\n0\r\n\r\n/);
      assert.equal((await done).cut, 0);
    });
  }

  it('adds no listener to responses before it, and keeps none of a connection that is idle', async (t) => {
    const over: WeakRef<ServerResponse>[] = [];
    const listeners: number[][] = [];
    const server = createServer((_req, res) => {
      listeners.push(['close', 'finish'].map((name) => res.listenerCount(name)));
      over.push(new WeakRef(res));
      res.end('done');
    });
    await listen(t, server);
    const untracked = await dial(t, portOf(server));
    await ask(untracked).until('done');
    untracked.destroy();
    trackConnections(server);
    const reader = await asking(t, server);
    await reader.until('done');
    assert.deepEqual(listeners[1], listeners[0]);
    const isKept = () => over[1]!.deref() !== undefined;
    for (let n = 0; n < 20 && isKept(); n++) {
      await turn();
      runInNewContext('gc')();
    }
    assert.ok(!isKept());
    assert.equal((await shutdown(server, { deadline: Infinity })).cut, 0);
    await reader.over;
  });

  describe('with a response of 12 MiB in progress', () => {
    it('lets it arrive completely over HTTP/1, although it ended before and its client has not begun to read', async (t) => {
      const server = await start(
        t,
        createServer((_req, res) => res.end(BIG)),
      );
      const client = await connectTo(t, server);
      client.write(request());
      await once(server, 'request');
      const done = shutdown(server, { deadline: Infinity });
      await turn();
      assert.equal(bodyOf(await new Reading(client).over) === BIG, true);
      assert.equal((await done).cut, 0);
    });

    it('lets it arrive completely over HTTPS', async (t) => {
      const server = await start(
        t,
        createTlsServer({ key, cert }, (_req, res) => res.end(BIG)),
      );
      const client = await connectTo(t, server);
      client.write(request());
      await once(server, 'request');
      const done = shutdown(server, { deadline: Infinity });
      await turn();
      assert.equal(bodyOf(await new Reading(client).over) === BIG, true);
      assert.equal((await done).cut, 0);
    });

    it('lets it arrive completely over HTTP/2', async (t) => {
      const server = await start(
        t,
        http2.createServer((_req, res) => res.end(BIG)),
      );
      const stream = session(t, server).request({ ':path': '/' });
      await once(server, 'request');
      const done = shutdown(server, { deadline: Infinity });
      await turn();
      assert.equal(Buffer.concat(await stream.toArray()).toString() === BIG, true);
      assert.equal((await done).cut, 0);
    });
  });

  describe('with streams', () => {
    it('sends each a retry of its own and ends it', async (t) => {
      const streams = new Streams();
      const server = await start(t, createServer(streams.open));
      const readers = await Promise.all(Array.from({ length: 20 }, () => asking(t, server)));
      await Promise.all(readers.map((reader) => reader.until('hello')));
      const outcome = await shutdown(server, { streams, end: streams.end, deadline: Infinity });
      await Promise.all(readers.map((reader) => reader.over));
      const retries = readers.map((reader) =>
        Number(/retry: (\d+)\n\n\r\n0\r\n\r\n$/.exec(reader.text)?.[1]),
      );
      assert.ok(
        retries.every((retry) => retry >= 1000 && retry <= 6000),
        `${retries}`,
      );
      assert.ok(new Set(retries).size > 15, `${retries}`);
      assert.equal(outcome.ended, 20);
      assert.equal(outcome.cut, 0);
    });

    it('waits for them over HTTP/2 in mode `finish`, after a GOAWAY', async (t) => {
      const streams = new Streams();
      const server = await start(
        t,
        http2.createServer((req, res) => streams.open(req as never, res as never)),
      );
      const client = session(t, server);
      const first = client.request({ ':path': '/' }).setEncoding('utf8');
      await once(first, 'data');
      const goneAway = once(client, 'goaway');
      let text = '';
      first.on('data', (chunk) => {
        text += chunk;
      });
      const done = shutdown(server, {
        streams,
        end: streams.end,
        mode: 'finish',
        window: 60_000,
        deadline: Infinity,
      });
      assert.equal((await goneAway)[0], http2.constants.NGHTTP2_NO_ERROR);
      assert.equal(first.closed, false);
      for (const stream of streams) streams.end(stream, { retry: 7 });
      await once(first, 'end');
      assert.match(text, /retry: 7\n\n$/);
      assert.equal((await done).finished, 1);
    });

    it('ends them evenly over the window', async (t) => {
      const time = fakeTime(t);
      const began = time.now();
      const server = await start(t, createServer());
      const streams = new Set(Array.from({ length: 5000 }, () => new Still()));
      const perSecond = new Array<number>(10).fill(0);
      const end = (stream: Still) => {
        perSecond[Math.min(9, Math.floor((time.now() - began) / 1000))]!++;
        stream.end();
      };
      const done = shutdown(server, { streams, end, window: 10_000, deadline: 15_000 });
      await time.pass(10_100);
      assert.equal((await done).ended, 5000);
      assert.ok(Math.max(...perSecond) <= 550 && Math.min(...perSecond) >= 450, `${perSecond}`);
    });

    it('ends a few evenly too, and does not hurry when others close by themselves', async (t) => {
      const time = fakeTime(t);
      const began = time.now();
      const server = await start(t, createServer());
      const streams = Array.from({ length: 10 }, () => new Still());
      const moments: number[] = [];
      const end = (stream: Still) => {
        moments.push(time.now() - began);
        stream.end();
      };
      const done = shutdown(server, { streams, end, window: 10_000, deadline: Infinity });
      await time.pass(4500);
      const left = streams.filter((stream) => !stream.closed).slice(0, 3);
      for (const stream of left) stream.end();
      await time.pass(5600);
      const { ended, finished } = await done;
      assert.deepEqual([ended, finished], [10 - left.length, left.length]);
      const gaps = moments.slice(1).map((moment, i) => moment - moments[i]!);
      assert.ok(Math.min(...gaps) >= 900, `${moments}`);
    });

    it('begins at a random offset, so that several processes that stop together are not in step', async (t) => {
      const time = fakeTime(t);
      const began = time.now();
      const moments: number[] = [];
      const end = (stream: Still) => {
        moments.push(time.now() - began);
        stream.end();
      };
      const phases = [0.25, 0.75];
      t.mock.method(Math, 'random', () => phases.pop());
      const options = { end, window: 1000, deadline: Infinity };
      const fleet = [
        shutdown(await start(t, createServer()), { ...options, streams: [new Still()] }),
        shutdown(await start(t, createServer()), { ...options, streams: [new Still()] }),
      ];
      await time.pass(1100);
      await Promise.all(fleet);
      assert.deepEqual(moments, [250, 750]);
    });

    it('calls `end` once for each, however long it takes to close', async (t) => {
      const time = fakeTime(t);
      const server = await start(
        t,
        createServer((_req, res) => res.write('held')),
      );
      const reader = await asking(t, server);
      await reader.until('held');
      let calls = 0;
      const end = () => {
        calls++;
      };
      const done = shutdown(server, { streams: [new Still()], end, deadline: 1000 });
      await time.pass(1000);
      assert.equal((await done).ended, 1);
      assert.equal(calls, 1);
    });

    it('spreads the retries evenly over retrySpread', async (t) => {
      const server = await start(t, createServer());
      const perSecond = new Array<number>(5).fill(0);
      const end = (stream: Still, { retry }: { retry: number }) => {
        perSecond[Math.floor((retry - 2000) / 1000)]!++;
        stream.end();
      };
      const streams = new Set(Array.from({ length: 1000 }, () => new Still()));
      await shutdown(server, { streams, end, retry: 2000, retrySpread: 5000 });
      assert.ok(Math.max(...perSecond) <= 205 && Math.min(...perSecond) >= 195, `${perSecond}`);
    });

    it('lets them end by themselves in mode `finish`, and ends the rest after the window', async (t) => {
      const time = fakeTime(t);
      const server = await start(t, createServer());
      const [finite, endless] = [new Still(), new Still()];
      const end = (stream: Still) => stream.end();
      const done = shutdown(server, { streams: [finite, endless], end, mode: 'finish', window: 5000 });
      await time.pass(2000);
      finite.end();
      await time.pass(2900);
      assert.equal(endless.closed, false);
      await time.pass(200);
      const { ended, finished } = await done;
      assert.deepEqual([ended, finished], [1, 1]);
    });

    it('resolves as soon as the last has ended by itself', async (t) => {
      const streams = new Streams();
      const server = await start(t, createServer(streams.open));
      const reader = await asking(t, server);
      await reader.until('hello');
      const options = {
        streams,
        end: streams.end,
        mode: 'finish',
        window: 60_000,
        deadline: Infinity,
      } as const;
      const done = shutdown(server, options);
      for (const stream of streams) stream.end();
      await reader.over;
      const { ended, finished } = await done;
      assert.deepEqual([ended, finished], [0, 1]);
    });

    it('ends one that opens later on a busy connection', async (t) => {
      const streams = new Streams();
      const admitted = new EventEmitter();
      const server = await start(
        t,
        createServer((req, res) => admitted.once('now', () => streams.open(req, res))),
      );
      const reader = await asking(t, server);
      await once(server, 'request');
      const done = shutdown(server, { streams, end: streams.end, deadline: Infinity });
      admitted.emit('now');
      await reader.over;
      assert.match(reader.text, /hello[\s\S]*retry: \d+/);
      assert.equal((await done).ended, 1);
    });

    it('continues when `end` throws, and reports the error', async (t) => {
      const streams = new Streams();
      const server = await start(t, createServer(streams.open));
      const readers = [await asking(t, server), await asking(t, server)];
      await Promise.all(readers.map((reader) => reader.until('hello')));
      const mistake = new Error('a mistake');
      const end = (stream: EventStream, context: { readonly retry: number }) => {
        streams.end(stream, context);
        throw mistake;
      };
      const { ended, errors } = await shutdown(server, { streams, end, deadline: Infinity });
      assert.equal(ended, 2);
      assert.deepEqual(errors, [mistake, mistake]);
    });
  });

  describe('at the deadline', () => {
    it('cuts a connection that never completes its request', async (t) => {
      const server = await start(t, createServer());
      const slowloris = await begun(t, server, 'GET / HTTP/1.1\r\nHost: loc');
      const { cut } = await shutdown(server, { deadline: 20 });
      await slowloris.over;
      assert.equal(cut, 1);
    });

    it('cuts a connection that never completes its TLS handshake, or its request after it', async (t) => {
      const server = await start(t, createTlsServer({ key, cert }));
      const accepted = once(server, 'connection');
      const client = await dial(t, portOf(server));
      const half = new Reading(client);
      client.write(Buffer.from([0x16, 0x03, 0x01, 0x02]));
      await received(await accepted);
      const silent = await begun(t, server, 'GET / HT');
      const { cut } = await shutdown(server, { deadline: 20 });
      await Promise.all([half.over, silent.over]);
      assert.equal(cut, 2);
    });

    it('cuts a response whose client does not read', async (t) => {
      const server = await start(
        t,
        createServer((_req, res) => res.end(BIG)),
      );
      const client = await dial(t, portOf(server));
      client.write(request());
      await once(server, 'request');
      assert.equal((await shutdown(server, { deadline: 20 })).cut, 1);
      assert.ok(bodyOf(await new Reading(client).over).length < BIG.length);
    });

    it('cuts connections that were open before trackConnections', async (t) => {
      const server = createServer();
      await listen(t, server);
      const early = await begun(t, server, 'GET /');
      trackConnections(server);
      await shutdown(server, { deadline: 20 });
      await early.over;
    });

    it('cuts HTTP/2 sessions with their streams', async (t) => {
      const server = await start(
        t,
        http2.createServer((_req, res) => res.write('never more')),
      );
      const client = session(t, server);
      const streams = [client.request({ ':path': '/' }), client.request({ ':path': '/' })];
      for (const stream of streams) stream.on('error', () => {});
      await Promise.all(streams.map((stream) => once(stream, 'data')));
      const closed = once(client, 'close');
      assert.equal((await shutdown(server, { deadline: 20 })).cut, 1);
      await closed;
    });

    it('is brought forward by the signal, which still sends streams their retry', async (t) => {
      const streams = new Streams();
      const server = await start(t, createServer(streams.open));
      const reader = await asking(t, server);
      const slowloris = await begun(t, server, 'GET /');
      await reader.until('hello');
      const again = new AbortController();
      const options = { streams, end: streams.end, window: 60_000, deadline: Infinity } as const;
      const done = shutdown(server, { ...options, signal: again.signal });
      again.abort();
      await Promise.all([reader.over, slowloris.over]);
      assert.match(reader.text, /retry: \d+\n\n/);
      const { ended, cut } = await done;
      assert.deepEqual([ended, cut], [1, 2]);
    });

    it('is immediate when the signal has already fired', async (t) => {
      const server = await start(t, createServer());
      const slowloris = await begun(t, server, 'GET /');
      const { cut } = await shutdown(server, { deadline: Infinity, signal: AbortSignal.abort() });
      await slowloris.over;
      assert.equal(cut, 1);
    });
  });

  describe('on HTTP/2', () => {
    it('refuses requests of a client that ignores the GOAWAY', async (t) => {
      const asked: (string | undefined)[] = [];
      const held: http2.Http2ServerResponse[] = [];
      const server = await start(
        t,
        http2.createServer((req, res) => {
          asked.push(req.url);
          res.write('held');
          held.push(res);
        }),
      );
      const client = await dial(t, portOf(server));
      const reading = new Reading(client);
      client.write(Buffer.concat([PREFACE, headers(1, '/')]));
      await reading.until('held');
      const done = shutdown(server, { deadline: Infinity });
      await reading.until(String.fromCharCode(0, 0, 8, GOAWAY));
      client.write(Buffer.concat([headers(3, '/index.html'), ping()]));
      // The answer to a PING proves that the server has read everything before it.
      await reading.until('pingpong');
      assert.deepEqual(asked, ['/']);
      for (const res of held) res.end();
      await reading.over;
      client.end();
      assert.equal((await done).cut, 0);
    });

    it('closes sessions without open streams', async (t) => {
      const server = await start(
        t,
        http2.createSecureServer({ key, cert }, (_req, res) => res.end('done')),
      );
      const client = session(t, server);
      await client.request({ ':path': '/' }).toArray();
      const closed = once(client, 'close');
      assert.equal((await shutdown(server, { deadline: Infinity })).cut, 0);
      await closed;
    });

    it('closes a session that begins on a connection accepted before', async (t) => {
      const server = await start(t, http2.createSecureServer({ key, cert }));
      const accepted = once(server, 'connection');
      const socket = await dial(t, portOf(server));
      await accepted;
      const done = shutdown(server, { deadline: Infinity });
      const client = http2.connect('https://127.0.0.1', {
        createConnection: () => connectTls({ socket, rejectUnauthorized: false, ALPNProtocols: ['h2'] }),
      });
      await once(client, 'close');
      assert.equal((await done).cut, 0);
    });

    it('closes the HTTP/1 connections of a server for both protocols', async (t) => {
      const server = await start(
        t,
        http2.createSecureServer({ key, cert, allowHTTP1: true }, (_req, res) => res.end('done')),
      );
      const reader = await asking(t, server);
      await reader.until('done');
      assert.equal((await shutdown(server, { deadline: Infinity })).cut, 0);
      await reader.over;
    });

    it('drains a server that handles `stream` events, without adding a request listener', async (t) => {
      const server = http2.createServer();
      server.on('stream', (stream) => {
        stream.respond({ ':status': 200 });
        stream.end('done');
      });
      await start(t, server);
      const body = await session(t, server).request({ ':path': '/' }).toArray();
      assert.equal(Buffer.concat(body).toString(), 'done');
      assert.equal(server.listenerCount('request'), 0);
      assert.equal((await shutdown(server, { deadline: Infinity })).cut, 0);
    });
  });

  it('returns the same promise when it is called again', async (t) => {
    const server = await start(t, createServer());
    let calls = 0;
    const onDraining = () => {
      calls++;
    };
    const first = shutdown(server, { onDraining });
    assert.equal(shutdown(server, { onDraining }), first);
    await first;
    assert.equal(shutdown(server), first);
    assert.equal(calls, 1);
  });

  it('waits for open responses although the application has closed the server', async (t) => {
    let answer = () => {};
    const server = await start(
      t,
      createServer((_req, res) => {
        answer = () => res.end('done');
      }),
    );
    const reader = await asking(t, server);
    await once(server, 'request');
    server.close();
    const done = shutdown(server, { deadline: Infinity });
    await turn();
    answer();
    await reader.over;
    assert.match(reader.text, /done/);
    assert.equal((await done).cut, 0);
  });

  it('leaves no timer and no listener behind', { timeout: 30_000 }, async (t) => {
    const timers = timersFromNow(t);
    const server = createServer((_req, res) => res.end('done'));
    await listen(t, server);
    const before = listenersOf(server);
    trackConnections(server);
    const reader = await asking(t, server);
    await reader.until('done');
    const { signal } = new AbortController();
    await shutdown(server, { signal, window: 1, deadline: 60_000 });
    await reader.over;
    assert.deepEqual(listenersOf(server), before);
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    while (timers.active.size > 0) await turn();
  });

  it('can be repeated after the server listens again', async (t) => {
    const server = await start(
      t,
      createServer((_req, res) => res.end('done')),
    );
    const first = shutdown(server);
    await first;
    await start(t, server);
    const reader = await asking(t, server);
    await reader.until('done');
    const second = shutdown(server, { deadline: Infinity });
    assert.notEqual(second, first);
    assert.equal((await second).cut, 0);
    await reader.over;
  });

  it('without a server, ends the streams and waits for their last bytes', async (t) => {
    const streams = new Streams();
    const server = createServer(streams.open);
    await listen(t, server);
    const reading = await asking(t, server);
    await reading.until('hello');
    const [stream] = streams;
    const outcome = await shutdown(null, { streams, retry: 3000, retrySpread: 0 });
    assert.equal(stream!.reason, 'shutdown');
    assert.match(await reading.until('retry: 3000'), /retry: 3000\n\n/);
    assert.deepEqual({ ...outcome, duration: 0 }, { ended: 1, finished: 0, cut: 0, duration: 0, errors: [] });
    // The server is the host's.
    assert.equal(server.listening, true);
  });

  it('without a server, ends streams that open after it has resolved', { timeout: 10_000 }, async (t) => {
    const streams = new Streams();
    const admitted = new EventEmitter();
    const server = createServer((req, res) => admitted.once('now', () => streams.open(req, res)));
    await listen(t, server);
    const reader = await asking(t, server);
    await once(server, 'request');
    await shutdown(null, { streams });
    admitted.emit('now');
    await reader.over;
    assert.match(reader.text, /hello[\s\S]*retry: \d+/);
  });

  it('without a server, cuts at the deadline the streams that have not closed', async (t) => {
    const streams = new Streams();
    const server = createServer((req, res) => {
      streams.open(req, res);
      res.write(BIG);
    });
    await listen(t, server);
    const client = await connectTo(t, server);
    client.pause().write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    while (streams.size === 0) await turn();
    const { ended, cut } = await shutdown(null, { streams, deadline: 100 });
    assert.deepEqual({ ended, cut, left: streams.size }, { ended: 1, cut: 1, left: 0 });
  });

  it('throws for bad options, naming them, before it touches the server', async (t) => {
    const server = await start(t, createServer());
    const streams = new Set<Still>();
    const end = (stream: Still) => stream.end();
    const wrong: [object, RegExp][] = [
      [{ window: -1 }, /^RangeError: `window` must be a number from 0 to 2147483647, got -1$/],
      [{ window: Infinity }, /`window`.*got Infinity/],
      [{ window: '5' }, /`window`.*got 5/],
      [{ mode: 'finish' }, /`window` must be a number from 1 to/],
      [{ mode: 'later' }, /^TypeError: `mode` must be 'now' or 'finish', got later$/],
      [{ window: 5000, deadline: 4000 }, /`deadline` must be a number from 5000 to 2147483647, got 4000/],
      [{ deadline: Number.NaN }, /`deadline`.*got NaN/],
      [{ retry: -1 }, /`retry`/],
      [{ retry: 2 ** 31 - 1, retrySpread: 1 }, /`retrySpread` must be a number from 0 to 0, got 1/],
      [{ streams, end: 5 as never }, /^TypeError: `end` must be a function, got number$/],
      [{ onDraining: 5 }, /^TypeError: `onDraining` must be a function, got number$/],
      [{ signal: 'SIGTERM' }, /^TypeError: `signal` must be an AbortSignal, got string$/],
      [{ streams: 5, end }, /^TypeError: `streams` must be iterable, got number$/],
      [{ streams: streams.values(), end }, /`streams` must be a collection that can be read again/],
    ];
    for (const [options, message] of wrong)
      for (const given of [server, null])
        assert.throws(
          () => shutdown(given, options),
          (error) => message.test(String(error)),
        );
    assert.equal(server.listening, true);
    assert.throws(() => shutdown(createServer()), /^TypeError: `server` must be given to `trackConnections`/);
  });
});

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function listenersOf(server: Server): Record<string, number> {
  const counts = server.eventNames().map((name) => [String(name), server.listenerCount(name)] as const);
  return Object.fromEntries(counts.sort());
}

/** The timers made from now on that are not cleared, whether or not they keep the process alive. */
function timersFromNow(t: { after(fn: () => void): void }): { readonly active: Set<number> } {
  const active = new Set<number>();
  const hook = createHook({
    init: (id, type) => type === 'Timeout' && active.add(id),
    destroy: (id) => active.delete(id),
  });
  hook.enable();
  t.after(() => hook.disable());
  return { active };
}

// HTTP/2 by hand, for a client that ignores a GOAWAY. https://www.rfc-editor.org/rfc/rfc9113#section-4.1

const GOAWAY = 7;

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const PREFACE = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, 0, 0, Buffer.alloc(0)),
]);

/** A GET of one of the two paths in the static table of HPACK, with END_STREAM and END_HEADERS. */
function headers(stream: number, path: '/' | '/index.html'): Buffer {
  const authority = Buffer.from('\x41\x09localhost', 'latin1');
  return frame(
    1,
    5,
    stream,
    Buffer.concat([Buffer.from([0x82, 0x86, path === '/' ? 0x84 : 0x85]), authority]),
  );
}

function ping(): Buffer {
  return frame(6, 0, 0, Buffer.from('pingpong'));
}
