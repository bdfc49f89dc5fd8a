import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { serveEvents } from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { limitPipelining, type PipeliningOptions, type PipeliningRefusal } from '../lib/pipelining.ts';
import { createSseServer } from '../lib/server.ts';
import { session } from './helpers/http2.ts';
import { dial, readAll, request } from './helpers/raw.ts';
import { Reading } from './helpers/reader.ts';
import { listen } from './helpers/server.ts';

const CLOSE = 'Connection: close';
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Counts the turns of the event loop until the test is over. */
function countTurns(t: TestContext): () => number {
  let turn = 0;
  let isOver = false;
  t.after(() => {
    isOver = true;
  });
  const count = () => {
    turn++;
    if (!isOver) setImmediate(count);
  };
  count();
  return () => turn;
}

/** That many requests in one write, the last of which closes the connection. */
function pipelined(count: number, line = 'GET / HTTP/1.1'): string {
  return request(line).repeat(count - 1) + request(line, CLOSE);
}

function statuses(text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
}

/** A server that counts the requests that have begun, and whose answers the test gives. */
async function gated(t: TestContext, answer: (res: ServerResponse) => void, options?: PipeliningOptions) {
  const limit = limitPipelining(options);
  const begun: ServerResponse[] = [];
  const server = createServer((req, res) => {
    limit(req, res, () => {
      begun.push(res);
      answer(res);
    });
  });
  const port = await listen(t, server);
  return { limit, begun, server, port };
}

describe('limitPipelining', () => {
  it('begins each request in a turn of its own, after the answer before it, and answers in order', async (t) => {
    const beganIn: number[] = [];
    const turns = countTurns(t);
    const { begun, port } = await gated(t, (res) => {
      assert.ok(begun.slice(0, -1).every(({ writableFinished }) => writableFinished));
      beganIn.push(turns());
      res.end(`<${begun.length}>`);
    });
    const socket = await dial(t, port);
    socket.write(pipelined(50));
    const text = await readAll(socket);
    assert.deepEqual(
      [...text.matchAll(/<(\d+)>/g)].map(([, number]) => Number(number)),
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    assert.equal(new Set(beganIn).size, 50);
  });

  it('leaves nothing on a connection when its requests are answered, however often some have waited', async (t) => {
    const { port, server } = await gated(t, (res) => res.end('<answered>'));
    const connected = once(server, 'connection');
    const socket = await dial(t, port);
    const [own] = (await connected) as [Socket];
    const heard = new Reading(socket);
    for (let rounds = 1; rounds <= 20; rounds++) {
      socket.write(request().repeat(2));
      await heard.until(({ text }) => text.split('<answered>').length > 2 * rounds);
      for (let i = 0; i < 3; i++) await nextTurn();
    }
    assert.ok(own.listenerCount('close') < 10, `${own.listenerCount('close')} listeners`);
  });

  it('begins no request while its client takes nothing of the answer before', async (t) => {
    // More than the kernel takes for a client that reads nothing.
    const large = Buffer.alloc(32 * 1024 * 1024);
    const { begun, port } = await gated(t, (res) => res.end(large));
    const socket = await dial(t, port);
    socket.write(pipelined(4));
    while (begun.length === 0 || begun[0]!.writableLength === 0) await nextTurn();
    for (let i = 0; i < 100; i++) await nextTurn();
    assert.equal(begun.length, 1);
    let bytes = 0;
    for await (const chunk of socket) bytes += chunk.length;
    assert.equal(begun.length, 4);
    assert.ok(bytes > 4 * large.length);
  });

  it('waits for a handler that answers later, also where the body of a request behind it is large', async (t) => {
    const { begun, port, server } = await gated(t, (res) => {
      if (begun.length === 1) return;
      let bytes = 0;
      res.req.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      res.req.on('end', () => res.end(String(bytes)));
    });
    const socket = await dial(t, port);
    socket.write(request() + request('POST / HTTP/1.1', 'Content-Length: 1000000', CLOSE));
    socket.write(Buffer.alloc(1_000_000));
    await once(server, 'request');
    await nextTurn();
    assert.equal(begun.length, 1);
    begun[0]!.end('first');
    assert.match(await readAll(socket), /first[\s\S]*\r\n1000000$/);
  });

  it('answers 429 in its turn and closes the connection where more would wait than may', async (t) => {
    const refusals: PipeliningRefusal[] = [];
    const onRefuse = (refusal: PipeliningRefusal) => refusals.push(refusal);
    const { limit, begun, port } = await gated(t, (res) => setImmediate(() => res.end('first')), {
      maxWaitingInAll: 1000,
      onRefuse,
    });
    const socket = await dial(t, port);
    socket.write(pipelined(1500));
    const text = await readAll(socket);
    assert.deepEqual(statuses(text), [200, 429]);
    assert.match(text, /first[\s\S]*connection: close[\s\S]*"error":"pipeline-full"/i);
    assert.equal(begun.length, 1);
    assert.deepEqual([limit.refused, refusals.length], [{ 'pipeline-full': 1 }, 1]);
    assert.deepEqual([refusals[0]!.reason, refusals[0]!.status], ['pipeline-full', 429]);
  });

  it('takes more than `maxWaiting` of a connection while there is room for them in all', async (t) => {
    const { limit, port, begun, server } = await gated(t, () => {}, { maxWaiting: 2, maxWaitingInAll: 5 });
    const greedy = await dial(t, port);
    greedy.write(request().repeat(1 + 5));
    await once(server, 'request');
    while (begun.length < 1) await nextTurn();
    const modest = await dial(t, port);
    modest.write(request().repeat(1 + 2));
    while (begun.length < 2) await nextTurn();
    const second = await dial(t, port);
    const heard = new Reading(second);
    second.write(request().repeat(1 + 3));
    while (begun.length < 3) await nextTurn();
    begun[2]!.end();
    assert.deepEqual(statuses(await heard.over), [200, 429]);
    assert.equal(limit.refused['pipeline-full'], 1);
    // Who has left takes no room.
    const closed = once(begun[0]!, 'close');
    greedy.destroy();
    await closed;
    const third = await dial(t, port);
    third.write(request().repeat(1 + 3));
    while (begun.length < 4) await nextTurn();
    for (let at = 3; at < 7; at++) {
      while (begun.length <= at) await nextTurn();
      begun[at]!.end();
    }
    assert.equal(limit.refused['pipeline-full'], 1);
  });

  it('takes as many as may wait, again and again', async (t) => {
    const { limit, port } = await gated(t, (res) => res.end(), { maxWaiting: 3, maxWaitingInAll: 0 });
    const socket = await dial(t, port);
    const reading = new Reading(socket);
    for (let round = 1; round <= 3; round++) {
      socket.write(request().repeat(4));
      await reading.until(({ text }) => statuses(text).length === 4 * round);
    }
    assert.deepEqual(statuses(reading.text), new Array(12).fill(200));
    assert.equal(limit.refused['pipeline-full'], 0);
  });

  it('takes one request at a time where none may wait', async (t) => {
    const { port } = await gated(t, (res) => setImmediate(() => res.end()), {
      maxWaiting: 0,
      maxWaitingInAll: 0,
    });
    const socket = await dial(t, port);
    const reading = new Reading(socket);
    for (let round = 1; round <= 3; round++) {
      socket.write(request());
      await reading.until(({ text }) => statuses(text).length === round);
    }
    socket.write(request().repeat(2));
    assert.deepEqual(statuses(await reading.over), [200, 200, 200, 200, 429]);
  });

  it('cuts a refused connection whose client does not read the answer in progress', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { begun, port, server } = await gated(t, () => {}, { maxWaiting: 0, maxWaitingInAll: 0 });
    const socket = await dial(t, port);
    socket.write(request().repeat(2));
    await once(server, 'request');
    while (begun.length === 0) await nextTurn();
    const closed = once(begun[0]!, 'close');
    await nextTurn();
    t.mock.timers.tick(5000);
    await closed;
    assert.ok(begun[0]!.req.socket.destroyed);
  });

  it('begins none of the requests that wait on a connection that has closed', async (t) => {
    const { begun, port, server } = await gated(t, () => {});
    const socket = await dial(t, port);
    socket.write(request().repeat(10));
    await once(server, 'request');
    await nextTurn();
    const closed = once(begun[0]!, 'close');
    socket.destroy();
    await closed;
    for (let i = 0; i < 10; i++) await nextTurn();
    assert.equal(begun.length, 1);
  });

  it('lets made-up requests pass that have no connection', () => {
    const limit = limitPipelining({ maxWaiting: 0 });
    let begun = 0;
    const req = { httpVersionMajor: 1, socket: undefined } as never;
    const res = { on: assert.fail, writeHead: assert.fail, end: assert.fail };
    for (let i = 0; i < 3; i++) limit(req, res, () => begun++);
    const socket = { destroyed: false, destroy: assert.fail, once: assert.fail, off: assert.fail };
    for (let i = 0; i < 3; i++) limit({ httpVersionMajor: 1, socket }, res, () => begun++);
    assert.equal(begun, 6);
  });

  it('counts a request once, where another limit is in front', async (t) => {
    const inner = limitPipelining({ maxWaiting: 0, maxWaitingInAll: 0 });
    const { port } = await gated(t, (res) => inner(res.req, res, () => res.end()));
    const socket = await dial(t, port);
    socket.write(pipelined(20));
    assert.deepEqual(statuses(await readAll(socket)), new Array(20).fill(200));
  });

  it('refuses the HTTP/2 requests of a session above `maxConcurrent`, which may be sent again', async (t) => {
    const limit = limitPipelining({ maxConcurrent: 2 });
    const begun: { end(): unknown }[] = [];
    const server = createHttp2Server((req, res) => {
      limit(req, res, () => begun.push(res));
    });
    await listen(t, server);
    const client = session(t, server);
    const open = () => client.request({ ':path': '/' }).on('error', () => {});
    const answered = [open(), open()];
    while (begun.length < 2) await nextTurn();
    const refused = open();
    await new Promise((resolve) => refused.on('close', resolve));
    assert.equal(refused.rstCode, 7);
    assert.deepEqual([begun.length, limit.refused], [2, { 'pipeline-full': 1 }]);
    for (const res of begun) res.end();
    await Promise.all(answered.map((stream) => once(stream.resume(), 'close')));
    const again = open();
    while (begun.length < 3) await nextTurn();
    begun[2]!.end();
    const [headers] = await once(again, 'response');
    assert.equal(headers[':status'], 200);
  });

  it('rejects an option that is out of range, naming it and its value', () => {
    assert.throws(() => limitPipelining({ maxWaiting: -1 }), /`maxWaiting` must be .* ≥ 0 .* got -1/);
    assert.throws(() => limitPipelining({ maxWaitingInAll: NaN }), /`maxWaitingInAll` must be .* got NaN/);
    assert.throws(() => limitPipelining({ maxConcurrent: 0 }), /`maxConcurrent` must be .* ≥ 1 .* got 0/);
  });
});

describe('the reference server', () => {
  it('makes one answer at a time for each connection, on every path', async (t) => {
    const sse = createSseServer();
    const responses: ServerResponse[] = [];
    sse.server.prependListener('request', (_, res) => responses.push(res));
    const port = Number(new URL(await sse.listen(0)).port);
    t.after(() => sse.close({ deadline: 0 }));
    const lines = ['/topics', '/position', '/healthz', '/readyz', '/metrics', '/', '/dashboard/app.js']
      .concat(['/nothing', '/%', '/events', '/events?topic=a%20b'])
      .map((path) => `GET ${path} HTTP/1.1`)
      .concat('POST /tickets HTTP/1.1', 'PUT /topics/a HTTP/1.1', 'DELETE /topics/a HTTP/1.1');
    for (const line of lines) {
      responses.length = 0;
      const socket = await dial(t, port);
      const reading = readAll(socket);
      socket.write(pipelined(20, line));
      let most = 0;
      while (responses.length < 20 || !responses.every(({ writableFinished }) => writableFinished)) {
        most = Math.max(most, responses.filter((res) => res.headersSent && !res.closed).length);
        await nextTurn();
      }
      assert.equal(statuses(await reading).length, 20, line);
      assert.ok(most <= 1, `${most} answers at once to ${line}`);
    }
  });

  it('answers 1,500 listings at once, and counts a client that sends more than may wait', async (t) => {
    const refused: unknown[] = [];
    const logger = ({ event, reason }: { event: string; reason?: unknown }) => {
      if (event === 'refused') refused.push(reason);
    };
    const sse = createSseServer({ logger });
    const port = Number(new URL(await sse.listen(0)).port);
    t.after(() => sse.close({ deadline: 0 }));
    const socket = await dial(t, port);
    socket.write(pipelined(1500, 'GET /topics HTTP/1.1'));
    assert.deepEqual(statuses(await readAll(socket)), new Array(1500).fill(200));
    const flood = await dial(t, port);
    flood.write(pipelined(30_000, 'GET /topics HTTP/1.1'));
    const answers = statuses(await readAll(flood));
    assert.equal(answers.pop(), 429);
    assert.ok(answers.length < 5000);
    assert.deepEqual(refused, ['pipeline-full']);
    assert.match(sse.registry.render(), /sluice_refused_total\{reason="pipeline-full"\} 1\n/);
  });
});

describe('the metrics of the reference server', () => {
  it('are rendered once a turn, however many connections request them at once', async (t) => {
    const sse = createSseServer();
    const turns = countTurns(t);
    const counted: number[] = [];
    const rendered: number[] = [];
    let accepted = 0;
    sse.server.on('connection', () => accepted++);
    sse.server.prependListener('request', () => counted.push(turns()));
    sse.registry.gauge('test_reads', 'Reads.', () => rendered.push(turns()));
    const port = Number(new URL(await sse.listen(0)).port);
    t.after(() => sse.close({ deadline: 0 }));
    const sockets = await Promise.all(Array.from({ length: 50 }, () => dial(t, port)));
    while (accepted < 50) await nextTurn();
    const answers = sockets.map((socket) => readAll(socket));
    for (const socket of sockets) socket.write(request('GET /metrics HTTP/1.1', CLOSE));
    // The server finds all of them when it looks again.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    for (const answer of await Promise.all(answers)) assert.match(answer, /\ntest_reads \d+\n/);
    assert.equal(counted.length, 50);
    assert.deepEqual(rendered, [...new Set(counted)]);
    assert.ok(rendered.length < 50);
  });
});

describe('serveEvents', () => {
  it('asks `authorize` about one request of a connection at a time, and opens no stream before others', async (t) => {
    let asked = 0;
    const hub = new Hub();
    const authorize = async () => {
      asked++;
      await nextTurn();
      return 'somebody';
    };
    const port = await listen(t, createServer(serveEvents(hub, { topics: 'a', authorize })));
    const socket = await dial(t, port);
    socket.write(pipelined(50, 'GET /?from=earliest HTTP/1.1'));
    assert.deepEqual(statuses(await readAll(socket)), []);
    assert.deepEqual([asked, hub.size], [1, 0]);
  });

  it('answers what is sent behind a HEAD, which opens no stream', async (t) => {
    const port = await listen(t, createServer(serveEvents(new Hub(), { topics: 'a' })));
    const socket = await dial(t, port);
    socket.write(pipelined(3, 'HEAD / HTTP/1.1'));
    assert.deepEqual(statuses(await readAll(socket)), [200, 200, 200]);
  });
});
