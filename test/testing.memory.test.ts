import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { connect } from '../lib/client.ts';
import { serveEvents } from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { openStream } from '../lib/stream.ts';
import { collect, exchange, FakeClock, MemoryServer, type MemorySocket, socketPair } from '../lib/testing.ts';
import { nodeTransport } from '../lib/transport.ts';

/** What an end has received once it is over. */
async function received(socket: MemorySocket): Promise<string> {
  let text = '';
  for await (const piece of socket) text += piece;
  return text;
}

describe('a connection in memory', () => {
  it('carries bytes both ways, in order, and never in the turn in which they were written', async () => {
    const [one, other] = socketPair();
    let arrived = '';
    other.on('data', (piece) => {
      arrived += piece;
    });
    one.write('a');
    one.write('b');
    await Promise.resolve();
    assert.equal(arrived, '');
    one.end('c');
    other.end('d');
    assert.equal(await received(one), 'd');
    assert.equal(arrived, 'abc');
  });

  it('can be half-closed: the other half goes on', async () => {
    const [one, other] = socketPair();
    one.end();
    other.resume();
    await once(other, 'end');
    other.write('still here');
    other.end();
    assert.equal(await received(one), 'still here');
  });

  it('makes writes wait while the other end does not read, and goes on when it does', async () => {
    const [one, other] = socketPair({ capacity: 1000 });
    let written = 0;
    for (; one.write('x'.repeat(100)); written += 100) await turn();
    assert.ok(written < 4000, `${written} bytes were taken`);
    const drained = once(one, 'drain');
    for (let turns = 0; turns < 10; turns++) await turn();
    assert.ok(one.writableNeedDrain);
    other.resume();
    await drained;
  });

  it('delivers what was written before an end was destroyed, and then its end', async () => {
    const [one, other] = socketPair();
    one.write('last words');
    one.destroy();
    assert.equal(await received(other), 'last words');
  });

  it('is reset where an end is destroyed that has not read everything', async () => {
    const [one, other] = socketPair();
    one.write('unread');
    await turn();
    await turn();
    other.destroy();
    await assert.rejects(received(one), { code: 'ECONNRESET' });
  });

  it('loses what is under way when it is reset', async () => {
    const [one, other] = socketPair();
    one.write('lost');
    one.resetAndDestroy();
    await assert.rejects(received(other), { code: 'ECONNRESET' });
  });

  it('rejects a write to an end that is gone', async () => {
    const [one, other] = socketPair();
    other.destroy();
    await turn();
    const [error] = await Promise.all([once(one, 'error'), one.write('x')]);
    assert.equal(error[0].code, 'EPIPE');
  });

  it('times out after silence, by the timers of the process, and stirs when something comes or goes', async (t) => {
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    const [one, other] = socketPair();
    let timeouts = 0;
    one.resume().setTimeout(100, () => timeouts++);
    const arrived = once(one, 'data');
    clock.advance(60);
    other.write('x');
    await arrived;
    clock.advance(60);
    one.write('y');
    clock.advance(99);
    assert.equal(timeouts, 0);
    clock.advance(1);
    assert.equal(timeouts, 1);
    one.setTimeout(100);
    one.destroy();
    await once(one, 'close');
    assert.equal(clock.timers, 0);
  });

  it('refuses a capacity that is none', () => {
    assert.throws(() => socketPair({ capacity: 0 }), /`capacity` must be .* got 0/);
  });
});

describe('MemoryServer', () => {
  it('answers as over a network: status, headers, chunks', async () => {
    const server = new MemoryServer((req, res) => {
      res.writeHead(201, { 'x-method': req.method }).write(`${req.headers['x-own']} `);
      req.on('data', (body) => res.end(body));
    });
    const response = await server.request('/', { headers: { 'x-own': 'own' }, body: 'body' });
    assert.deepEqual([response.statusCode, response.headers['x-method']], [201, 'POST']);
    assert.equal(response.headers['transfer-encoding'], 'chunked');
    let text = '';
    for await (const piece of response) text += piece;
    assert.equal(text, 'own body');
  });

  it('streams a hub, and the hub sees its reader leave', async () => {
    const hub = new Hub();
    const handler = serveEvents(hub);
    const server = new MemoryServer(handler);
    const response = await server.request('/?topic=news');
    hub.publish('news', { data: 'first' });
    const [stream] = handler.streams;
    const [event] = await collect(response, 1);
    assert.equal(event?.data, 'first');
    assert.equal(await stream?.done, 'client-gone');
  });

  it('serves `connect` through its agent, also after a cut', async () => {
    const hub = new Hub({ retry: 1 });
    const server = new MemoryServer(serveEvents(hub));
    const transport = nodeTransport({ agent: server.agent });
    hub.publish('news', { data: '1' });
    const read: string[] = [];
    for await (const { data } of connect('http://any.example/?topic=news&from=earliest', { transport })) {
      read.push(data);
      if (read.length === 1) {
        server.close();
        hub.publish('news', { data: '2' });
      } else break;
    }
    assert.deepEqual(read, ['1', '2']);
  });

  it('takes a server of node:http as well', async () => {
    const own = createServer((_, res) => res.end('own'));
    let connections = 0;
    own.on('connection', () => connections++);
    const response = await new MemoryServer(own).request('/');
    assert.equal(String(await once(response, 'data')), 'own');
    assert.equal(connections, 1);
  });

  it('says why a request has no response', async () => {
    const server = new MemoryServer((_, res) => void res.destroy());
    await assert.rejects(server.request('/'), { code: 'ECONNRESET' });
  });
});

describe('a MemoryServer that changes to another protocol', () => {
  it('leaves no request waiting', async (t) => {
    const own = createServer().on('upgrade', (_, socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
    });
    const server = new MemoryServer(own);
    t.after(() => server.close());
    const headers = { connection: 'upgrade', upgrade: 'x' };
    await assert.rejects(server.request('/', { headers }), /the connection was closed without a response/);
    await assert.rejects(server.request('/', { method: 'CONNECT' }), { code: 'ECONNRESET' });
  });
});

describe('exchange', () => {
  it('gives the code under test a request and a response, and the test what a client gets', async (t) => {
    const { req, res, response, close } = await exchange('/path?a=b', {
      headers: { accept: 'text/event-stream' },
    });
    t.after(close);
    assert.deepEqual([req.url, req.headers.accept], ['/path?a=b', 'text/event-stream']);
    openStream(req, res).send({ event: 'tick', data: '1' });
    const [event] = await collect(await response, 1);
    assert.deepEqual([event?.event, event?.data], ['tick', '1']);
  });

  it('makes a stream wait for a client that does not read', async (t) => {
    const { req, res, response, close } = await exchange();
    t.after(close);
    const stream = openStream(req, res);
    while (stream.send({ data: 'x'.repeat(1000) })) await turn();
    const ready = stream.ready();
    (await response).resume();
    await ready;
  });

  it('tells the code under test that the client has gone', async () => {
    const { req, res, close } = await exchange();
    const stream = openStream(req, res);
    stream.open();
    close();
    assert.equal(await stream.done, 'client-gone');
  });

  it('rejects a request that no server would hand to its handler', async () => {
    await assert.rejects(exchange('/', { headers: { 'content-length': 'x' } }), /answered 400 before/);
  });
});
