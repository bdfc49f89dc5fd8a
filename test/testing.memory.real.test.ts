// What servers and clients of node:http see of a connection, over a real one and over one in memory: the same.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { connect, type Socket } from 'node:net';
import { after, describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { MemoryServer, type RawSocket, Reading } from '../lib/testing.ts';
import { listen } from './helpers/server.ts';

interface Connections {
  /** A connection of a client. */
  dial(): RawSocket;
  readonly options: RequestOptions;
}

const REACH: Record<string, (t: TestContext, server: Server) => Promise<Connections>> = {
  'over a network': async (t, server) => {
    const port = await listen(t, server);
    const agent = new Agent({ keepAlive: false });
    return {
      dial: () => connect(port, '127.0.0.1'),
      options: { host: '127.0.0.1', port, agent },
    };
  },
  'in memory': async (t, server) => {
    const memory = new MemoryServer(server);
    t.after(() => memory.close());
    return { dial: () => memory.connect(), options: { host: '127.0.0.1', agent: memory.agent } };
  },
};

const GET = 'GET /a HTTP/1.1\r\nhost: a\r\n\r\n';

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

/** Notes the names of events, and the codes of errors. */
function noting(words: string[], emitters: Readonly<Record<string, NodeJS.EventEmitter>>): void {
  for (const [name, emitter] of Object.entries(emitters))
    for (const event of ['end', 'finish', 'aborted', 'error', 'timeout', 'close'])
      emitter.on(event, (error?: { code?: string }) =>
        words.push([name, event, ...(event === 'error' ? [error?.code] : [])].join(' ')),
      );
}

for (const [where, reach] of Object.entries(REACH)) {
  describe(`a connection ${where}`, () => {
    // A connection in memory does not keep the process alive, nor do timers of silence.
    const alive = setInterval(() => {}, 1000);
    after(() => clearInterval(alive));

    /** A server, and a connection on which it has been asked for a stream, of which it has sent the beginning. */
    async function open(t: TestContext): Promise<{
      readonly client: RawSocket;
      readonly reading: Reading;
      readonly req: IncomingMessage;
      readonly res: ServerResponse;
    }> {
      const server = createServer();
      const { dial } = await reach(t, server);
      const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>;
      const client = dial();
      t.after(() => client.destroy());
      const reading = new Reading(client);
      client.write(GET);
      const [req, res] = await asked;
      req.resume();
      res.write('begun');
      // What a client has not read when it closes would make that a reset.
      await reading.until('begun\r\n');
      return { client, reading, req, res };
    }

    it('carries one request after another', async (t) => {
      const server = createServer((req, res) => res.end(`<${req.url}>`));
      const { dial } = await reach(t, server);
      const client = dial();
      const reading = new Reading(client);
      client.write(GET);
      await reading.until('</a>');
      client.write(GET.replace('/a', '/b'));
      await reading.until('</b>');
      client.end();
      await reading.over;
      await until(() => client.closed);
    });

    it('carries the answers to pipelined requests in their order', async (t) => {
      const answers: ServerResponse[] = [];
      const server = createServer((_, res) => answers.push(res));
      const { dial } = await reach(t, server);
      const client = dial();
      const reading = new Reading(client);
      client.write(GET + GET);
      await until(() => answers.length === 2);
      answers[1]!.end('second');
      answers[0]!.end('first');
      const text = await reading.until('second');
      assert.ok(text.indexOf('first') < text.indexOf('second'));
      client.destroy();
    });

    it('tells a server that its client has closed, in the same order', async (t) => {
      const { client, req, res } = await open(t);
      const words: string[] = [];
      const { socket } = req;
      noting(words, { res, socket });
      client.destroy();
      await until(() => socket.closed && res.closed);
      assert.deepEqual(
        words.filter((word) => word !== 'socket finish'),
        ['socket end', 'res close', 'socket close'],
      );
      res.on('error', () => assert.fail('a write to a response that is closed is no error of the process'));
      assert.equal(res.write('more'), false);
      assert.deepEqual([res.destroyed, res.writableEnded, res.closed], [true, false, true]);
    });

    it('tells a server that its client has reset it', async (t) => {
      const { client, req, res } = await open(t);
      const words: string[] = [];
      const { socket } = req;
      noting(words, { res, socket });
      client.resetAndDestroy!();
      await until(() => socket.closed && res.closed);
      assert.deepEqual(words, ['socket error ECONNRESET', 'res close', 'socket close']);
    });

    it('tells a server that its client has ended its half', async (t) => {
      const { client, req, res } = await open(t);
      const words: string[] = [];
      noting(words, { socket: req.socket });
      client.end();
      await until(() => req.socket.closed && client.closed);
      assert.equal(words[0], 'socket end');
      assert.equal(res.writableFinished, false);
    });

    it('ends at the client when the server closes it, and the client closes', async (t) => {
      const { client, res, reading } = await open(t);
      const words: string[] = [];
      noting(words, { client });
      res.destroy();
      await reading.over;
      await until(() => words.includes('client close'));
      assert.deepEqual(
        words.filter((word) => word !== 'client finish'),
        ['client end', 'client close'],
      );
    });

    it('breaks a response of node:http when the server closes it', async (t) => {
      const server = createServer((_, res) => {
        res.write('begun');
        setTimeout(() => res.destroy(), 5);
      });
      const { options } = await reach(t, server);
      const [response] = (await once(request(options).end(), 'response')) as [IncomingMessage];
      const words: string[] = [];
      noting(words, { response });
      response.resume();
      await until(() => response.closed);
      assert.deepEqual(words, ['response aborted', 'response error ECONNRESET', 'response close']);
    });

    it('answers HEAD without a body, and closes where the client asks for that', async (t) => {
      const server = createServer((_, res) => {
        res.write('body');
        res.end();
      });
      const { dial } = await reach(t, server);
      const client = dial();
      const reading = new Reading(client);
      client.write('HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
      assert.match(await reading.over, /^HTTP\/1\.1 200 OK\r\n(?:.+\r\n)+\r\n$/);
      await until(() => client.closed);
    });

    it('carries a body in both directions, larger than any buffer', async (t) => {
      const server = createServer((req, res) => req.pipe(res));
      const { options } = await reach(t, server);
      const asking = request({ ...options, method: 'POST' });
      asking.end(Buffer.alloc(3_000_000));
      const [response] = (await once(asking, 'response')) as [IncomingMessage];
      let bytes = 0;
      for await (const piece of response) bytes += piece.length;
      assert.equal(bytes, 3_000_000);
    });

    it('changes to another protocol', async (t) => {
      const server = createServer();
      server.on('upgrade', (_, socket) => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
        socket.once('data', (data) => socket.end(`<${data}>`));
      });
      const { dial } = await reach(t, server);
      const client = dial();
      const reading = new Reading(client);
      client.write('GET / HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
      await reading.until('101');
      client.write('hello');
      assert.match(await reading.over, /<hello>$/);
      await until(() => client.closed);
    });

    it('makes a server wait for a client that does not read', async (t) => {
      const { client, res } = await open(t);
      client.pause();
      const piece = Buffer.alloc(64 * 1024);
      let isWaiting = false;
      // The kernel takes megabytes; silence of a tenth of a second is the sign that it takes no more.
      while (!isWaiting)
        if (!res.write(piece))
          isWaiting = (await Promise.race([once(res, 'drain'), silence()])) === 'silence';
      const drained = once(res, 'drain');
      client.resume();
      await drained;
    });

    it('notices silence, where it is asked to', async (t) => {
      const { req, res } = await open(t);
      await new Promise<void>((resolve) => res.setTimeout(10, () => resolve()));
      const { socket } = req;
      socket.setTimeout(0);
      assert.equal(socket.timeout, 0);
      const timedOut = once(socket, 'timeout');
      socket.setTimeout(10, () => {});
      await timedOut;
      // Whoever has called for less is not called any more.
      assert.equal(socket.listenerCount('timeout') > 0, true);
      socket.setTimeout(10).setTimeout(0);
      socket.once('timeout', () => assert.fail('the timer is stopped'));
      assert.equal(await silence(), 'silence');
    });

    it('closes a connection that is kept for nothing, by the time-outs of the server', async (t) => {
      const server = createServer((_, res) => res.end('all'));
      server.keepAliveTimeout = 10;
      // From Node 22 on, added to it.
      Object.assign(server, { keepAliveTimeoutBuffer: 0 });
      const { dial } = await reach(t, server);
      const client = dial();
      client.write(GET);
      assert.match(await new Reading(client).over, /all$/);
    });

    it('lets a client give up after silence', async (t) => {
      const server = createServer(() => {});
      const { options } = await reach(t, server);
      const asking = request({ ...options, timeout: 10 }).end();
      await once(asking, 'timeout');
      const failed = once(asking, 'error').catch((error: unknown) => [error]);
      asking.destroy();
      assert.equal(((await failed) as [{ code: string }])[0].code, 'ECONNRESET');
    });

    it('has the members that handlers read', async (t) => {
      const { req, client } = await open(t);
      const socket = req.socket as Socket;
      const { remoteAddress, remoteFamily, localAddress, connecting, pending, readyState, destroyed } =
        socket;
      assert.deepEqual(
        [remoteAddress, remoteFamily, localAddress, connecting, pending, readyState, destroyed],
        ['127.0.0.1', 'IPv4', '127.0.0.1', false, false, 'open', false],
      );
      assert.equal(socket.timeout, undefined);
      assert.ok(socket.remotePort! > 1024 && socket.localPort! > 0);
      assert.deepEqual(socket.address(), {
        address: '127.0.0.1',
        family: 'IPv4',
        port: socket.localPort,
      });
      assert.equal((client as Socket).localPort, socket.remotePort);
      assert.equal((client as Socket).remotePort, socket.localPort);
      assert.equal(socket.bytesRead, GET.length);
      await until(() => socket.bytesWritten > 0 && socket.bytesWritten === (client as Socket).bytesRead);
    });
  });
}

function silence(): Promise<'silence'> {
  return new Promise((resolve) => setTimeout(resolve, 100, 'silence'));
}
