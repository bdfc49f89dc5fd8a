import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { connect } from '../lib/client.ts';
import { serveEvents } from '../lib/events.ts';
import { Hub } from '../lib/hub.ts';
import { ChaosProxy, Checker, FakeClock, Reading } from '../lib/testing.ts';
import { dial } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';

interface Rig {
  readonly proxy: ChaosProxy;
  /** What the server has received, one for each connection. */
  readonly received: readonly Reading[];
  /** The server's ends. */
  readonly sockets: readonly Socket[];
  dial(): Promise<{ readonly socket: Socket; readonly reading: Reading }>;
}

/** A proxy before a server that says nothing by itself. */
async function start(t: TestContext): Promise<Rig> {
  const received: Reading[] = [];
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    received.push(new Reading(socket));
    sockets.push(socket);
  });
  const proxy = await ChaosProxy.listen(await listen(t, server));
  t.after(() => proxy.close());
  return {
    ...{ proxy, received, sockets },
    dial: async () => {
      const connections = received.length;
      const socket = connectTcp({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true });
      t.after(() => socket.destroy());
      const reading = new Reading(socket);
      // A connection that the proxy refuses never reaches the server.
      while (received.length === connections && !socket.closed) await turn();
      return { socket, reading };
    },
  };
}

/** Waits until something is so. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

const echo = (word: string): Server =>
  createServer((socket) => socket.on('data', () => socket.write(word)).on('error', () => {}));

describe('ChaosProxy', () => {
  it('hands everything on in both directions, and ends', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    socket.end('question');
    await received[0]!.over;
    assert.equal(received[0]!.text, 'question');
    // The other half is still open.
    sockets[0]!.end('answer');
    assert.equal(await reading.over, 'answer');
    await until(() => proxy.connections === 0);
    assert.equal(proxy.accepted, 1);
  });

  it('hands on what a server wrote before it closed, however slowly the client reads', async (t) => {
    const { dial, sockets } = await start(t);
    const { socket, reading } = await dial();
    socket.end();
    socket.pause();
    await until(() => sockets[0]!.readableEnded);
    const text = 'x'.repeat(3_000_000);
    sockets[0]!.end(text);
    await once(sockets[0]!, 'finish').catch(() => {});
    socket.resume();
    assert.equal((await reading.over).length, text.length);
  });

  it('hands on what is on its way where both sides have closed', async (t) => {
    const { dial, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    socket.end();
    await until(() => sockets[0]!.readableEnded);
    proxy.delay(50);
    sockets[0]!.end('answer');
    if (!sockets[0]!.closed) await once(sockets[0]!, 'close');
    assert.equal(await reading.over, 'answer');
  });

  it('makes a server wait for a client that does not read', async (t) => {
    const { dial, sockets } = await start(t);
    const { socket } = await dial();
    socket.pause();
    let written = 0;
    const piece = Buffer.alloc(64 * 1024);
    // The kernel's buffers are larger than those of the proxy.
    while (written < 64 * 1024 * 1024) {
      if (sockets[0]!.write(piece)) await turn();
      else if ((await Promise.race([once(sockets[0]!, 'drain'), silence()])) === 'silence') break;
      written += piece.length;
    }
    assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken`);
  });

  it('delays each byte in each direction, by the timers of the process', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    proxy.delay(100);
    socket.write('question');
    await until(() => clock.timers === 1);
    clock.advance(99);
    await turn();
    assert.equal(received[0]!.text, '');
    clock.advance(1);
    await received[0]!.until('question');
    sockets[0]!.write('answer');
    await until(() => clock.timers === 1);
    clock.advance(100);
    await reading.until('answer');
  });

  it('keeps pieces in order while its delay changes', async (t) => {
    const { dial, sockets, proxy } = await start(t);
    const { reading } = await dial();
    for (const [i, latency] of [0, 40, 10, 0, 20, 0].entries()) {
      proxy.delay(latency);
      sockets[0]!.write(`${i} `);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal(await reading.until('5 '), '0 1 2 3 4 5 ');
  });

  it('cuts everything into slices', async (t) => {
    const { dial, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    proxy.slice(3);
    const pieces: string[] = [];
    socket.on('data', (piece) => pieces.push(String(piece)));
    sockets[0]!.write('0123456789');
    await reading.until('9');
    assert.ok(pieces.length > 1, pieces.join(' | '));
    assert.equal(pieces.join(''), '0123456789');
  });

  it('throttles: a connection carries so many bytes a second', async (t) => {
    const { dial, sockets, proxy } = await start(t);
    const { reading } = await dial();
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    proxy.throttle(1000);
    sockets[0]!.write('x'.repeat(2000));
    await until(() => clock.timers === 1);
    for (let ms = 0; ms < 1000; ms += 20) {
      clock.advance(20);
      await until(() => clock.timers === 1);
    }
    await reading.until(({ text }) => text.length >= 1000);
    assert.ok(reading.text.length <= 1040, `${reading.text.length} bytes after a second`);
    clock.uninstall();
    // The rest comes at once when the fault is over.
    proxy.pass();
    await reading.until(({ text }) => text.length === 2000);
  });

  it('stalls: everything waits, ends included, and goes on', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    proxy.stall();
    socket.write('question');
    sockets[0]!.end('answer');
    await silence();
    assert.deepEqual([received[0]!.text, reading.text, reading.ended], ['', '', false]);
    proxy.pass();
    assert.equal(await reading.over, 'answer');
    await received[0]!.until('question');
  });

  it('stalls connections that come later as well', async (t) => {
    const { dial, received, proxy } = await start(t);
    proxy.stall();
    const { socket } = await dial();
    socket.write('question');
    await silence();
    assert.equal(received[0]!.text, '');
    proxy.pass();
    await received[0]!.until('question');
  });

  it('cuts and resets the connections that are open, and takes new ones', async (t) => {
    for (const how of ['cut', 'reset'] as const) {
      const { dial, received, sockets, proxy } = await start(t);
      const { socket, reading } = await dial();
      let code: string | undefined;
      socket.on('error', (error: NodeJS.ErrnoException) => {
        code = error.code;
      });
      proxy[how]();
      await Promise.all([reading.over, received[0]!.over]);
      assert.equal(code, how === 'reset' ? 'ECONNRESET' : undefined);
      const again = await dial();
      again.socket.write('again');
      await received[1]!.until('again');
      sockets[1]!.destroy();
    }
  });

  it('hands on resets, from either side', async (t) => {
    const { dial, received, sockets } = await start(t);
    for (const side of ['client', 'server'] as const) {
      const { socket, reading } = await dial();
      const far = sockets.at(-1)!;
      const [one, other] = side === 'client' ? [socket, far] : [far, socket];
      const failed = once(other, 'error').catch((error: unknown) => [error]);
      one.resetAndDestroy();
      assert.equal((await failed)[0].code, 'ECONNRESET');
      await Promise.all([reading.over, received.at(-1)!.over]);
    }
  });

  it('cuts each connection after so many bytes of answers', async (t) => {
    const { dial, sockets, proxy } = await start(t);
    const first = await dial();
    sockets[0]!.write('before ');
    await first.reading.until('before ');
    const limits = [4, 7];
    proxy.cutAfter(() => limits.shift()!);
    sockets[0]!.write('0123456789');
    assert.equal(await first.reading.over, 'before 0123');
    const second = await dial();
    sockets[1]!.write('012345');
    await second.reading.until('012345');
    sockets[1]!.write('6789');
    assert.equal(await second.reading.over, '0123456');
    proxy.pass();
    const third = await dial();
    sockets[2]!.end('0123456789');
    assert.equal(await third.reading.over, '0123456789');
  });

  it('refuses connections until it lets them pass', async (t) => {
    const { dial, received, proxy } = await start(t);
    const first = await dial();
    proxy.refuse();
    await first.reading.over;
    await (await dial()).reading.over;
    assert.equal(received.length, 1);
    proxy.pass();
    await dial();
    assert.equal(received.length, 2);
  });

  it('is a black hole: nothing gets through, and nobody hears of that', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    proxy.blackHole();
    socket.write('question');
    sockets[0]!.end('answer');
    await until(() => proxy.lost === 2);
    sockets[0]!.destroy();
    await silence();
    assert.deepEqual([received[0]!.text, reading.text, reading.ended], ['', '', false]);
    // The rest would be half of something.
    proxy.pass();
    assert.equal(await reading.over, '');
  });

  it('loses answers, and hands requests on', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    proxy.loseAnswers();
    socket.write('question');
    await received[0]!.until('question');
    sockets[0]!.write('answer');
    await until(() => proxy.lost === 1);
    proxy.pass();
    assert.equal(await reading.over, '');
    const { socket: next } = await dial();
    next.write('question');
    await received[1]!.until('question');
  });

  it('loses the answer to one request, and its connection', async (t) => {
    const { dial, received, sockets, proxy } = await start(t);
    const { socket, reading } = await dial();
    proxy.loseAnswerTo('POST');
    socket.write('GET');
    await received[0]!.until('GET');
    sockets[0]!.write('one ');
    await reading.until('one');
    socket.write('POST');
    await received[0]!.until('POST');
    sockets[0]!.write('two');
    assert.equal(await reading.over, 'one ');
    const { socket: again, reading: answer } = await dial();
    again.write('POST');
    sockets[1]!.write('three');
    await answer.until('three');
  });

  it('leads to another server, and refuses on behalf of one that is gone', async (t) => {
    const [one, other] = [echo('one '), echo('other ')];
    const proxy = await ChaosProxy.listen(`http://127.0.0.1:${await listen(t, one)}/path`);
    t.after(() => proxy.close());
    const ask = async (): Promise<Reading> => {
      const socket = await dial(t, proxy.port);
      socket.write('?');
      return new Reading(socket);
    };
    const first = await ask();
    await first.until('one ');
    proxy.retarget(await listen(t, other));
    await first.over;
    const second = await ask();
    await second.until('other ');
    other.close();
    proxy.reset();
    await second.over;
    await until(() => proxy.connections === 0);
    assert.equal(await (await ask()).over, '');
  });

  it('closes all of its connections and its port', async (t) => {
    const { dial, proxy } = await start(t);
    const { reading } = await dial();
    const { port } = proxy;
    await proxy[Symbol.asyncDispose]();
    await proxy.close();
    await reading.over;
    await assert.rejects(once(connectTcp(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
  });

  it('lets its process end, also where it resets a connection that is just ending', async (t) => {
    const child = spawn(process.execPath, [
      '--import',
      import.meta.resolve('tsx'),
      '--input-type=module',
      '--eval',
      ENDING,
    ]);
    t.after(() => child.kill('SIGKILL'));
    const [exitCode] = await once(child, 'close');
    assert.equal(exitCode, 0);
  });

  it('has the URL at which it listens, and keeps it', async (t) => {
    const { hostname, port } = new URL(`http://127.0.0.1:${await listen(t, echo('hello'))}`);
    for (const [host, shown] of [
      [undefined, '127.0.0.1'],
      ['localhost', 'localhost'],
      ['0.0.0.0', '127.0.0.1'],
      ['::1', '[::1]'],
      ['::', '[::1]'],
    ] as const) {
      const proxy = await ChaosProxy.listen(`tcp://${hostname}:${port}`, { host });
      t.after(() => proxy.close());
      assert.equal(proxy.url, `http://${shown}:${proxy.port}`);
      const url = new URL(proxy.url);
      const socket = connectTcp(Number(url.port), url.hostname.replace(/[[\]]/g, ''));
      socket.write('?');
      await new Reading(socket).until('hello');
      await proxy.close();
      assert.equal(proxy.url, url.origin);
    }
  });

  it('waits for as long as it is told, where no timer can', async (t) => {
    const { dial, received, proxy } = await start(t);
    const { socket } = await dial();
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    proxy.delay(2 ** 31);
    socket.write('question');
    await until(() => clock.timers === 1);
    clock.advance(1000);
    assert.equal(clock.timers, 1);
    await turn();
    assert.equal(received[0]!.text, '');
    clock.advance(2 ** 31);
    await received[0]!.until('question');
  });

  it('refuses what is no target', async (t) => {
    const { proxy } = await start(t);
    for (const target of [0, 65_536, Number.NaN, 'redis://127.0.0.1', 'tcp:6379', 'here']) {
      await assert.rejects(ChaosProxy.listen(target), /`target` must be .*, got |Invalid URL/);
      assert.throws(() => proxy.retarget(target), /`target` must be .*, got |Invalid URL/);
    }
  });

  it('refuses what is no measure', async (t) => {
    const { proxy } = await start(t);
    assert.throws(() => proxy.delay(-1), /`latency` must be a number ≥ 0, got -1/);
    assert.throws(() => proxy.slice(0), /`bytes` must be a number ≥ 1, got 0/);
    assert.throws(() => proxy.throttle(Number.NaN), /`bytesPerSecond` must be a number ≥ 1, got NaN/);
    assert.throws(() => proxy.cutAfter(-1), /`bytes` must be a number ≥ 0, got -1/);
  });
});

describe('a reader behind a ChaosProxy', () => {
  it('gets everything once, across cuts at any byte, by the judgement of the checker', async (t) => {
    const hub = new Hub({ retry: 1 });
    const proxy = await ChaosProxy.listen(await listen(t, createHttpServer(serveEvents(hub))));
    t.after(() => proxy.close());
    proxy.slice(20);
    proxy.cutAfter(() => 300 + Math.random() * 1000);
    const checker = new Checker({ kind: 'published', numberOf: Number });
    const publish = (number: number): void =>
      checker.answered(number, hub.publish('a', { data: `${number}` }));
    publish(1);
    const record = checker.reader('phone', { start: hub.position });
    const options = { lastEventId: hub.position, controlEvents: true, minRetryDelay: 0, backoffDelay: 1 };
    let next = 2;
    for await (const event of connect(`${proxy.url}/?topic=a`, options)) {
      record.take(event);
      if (event.data === '300') break;
      // Each event that arrives has two more published, up to the last.
      for (let i = 0; i < 2 && next <= 300; i++) publish(next++);
    }
    assert.ok(proxy.accepted > 3, `${proxy.accepted} connections`);
    assert.deepEqual(checker.finish().findings, []);
  });
});

/** A program whose proxy resets its connection in the turn in which it hands on its end. */
const ENDING = `
  import { once } from 'node:events';
  import { connect, createServer } from 'node:net';
  import { ChaosProxy } from ${JSON.stringify(new URL('../lib/chaos-proxy.ts', import.meta.url).href)};
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await ChaosProxy.listen(server.address().port);
  const accepted = once(server, 'connection');
  const socket = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => {});
  const [far] = await accepted;
  far.on('error', () => {});
  const { end } = socket.constructor.prototype;
  socket.constructor.prototype.end = function (...words) {
    end.apply(this, words);
    if (this !== socket && this !== far) proxy.reset();
    return this;
  };
  socket.end();
  await new Promise((resolve) => socket.once('close', resolve));
  await proxy.close();
  server.close();
`;

function silence(): Promise<'silence'> {
  return new Promise((resolve) => setTimeout(resolve, 100, 'silence'));
}
