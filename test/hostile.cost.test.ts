// Measures what hostile clients cost a server, and hostile servers our readers, each in a process of its own.
// Beside each attack, a reader that does nothing wrong gets every event, in order, on one connection. The
// bounds are generous: without a limit on what the other side can make us hold, most are exceeded by a factor.
//
// `npm run long` repeats the attacks with more clients, and with more bytes.

import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { createGzip } from 'node:zlib';
import type { ReaderOrder, ReaderReport } from './fixtures/reader.ts';
import type { ServerOrder, ServerReport } from './fixtures/sse-server.ts';
import { isLong, often } from './helpers/long.ts';
import { request } from './helpers/raw.ts';
import { Reader, Reading } from './helpers/reader.ts';
import { openServer, type TestServer } from './helpers/server.ts';

const TIMES = often(1, 4);
const MB = 1e6;
/** Headers by which a browser's EventSource is known, which gives up on any other status than 200. */
const AS_EVENTSOURCE = ['Accept: text/event-stream', 'Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty'];

let child: ChildProcess;
let port = 0;
const sockets = new Set<Socket>();

/** The orders are answered one after the other. */
let asked: Promise<unknown> = Promise.resolve();
function order(what: ServerOrder): Promise<ServerReport> {
  const answer = asked.then(async () => {
    child.send(what);
    const [report] = (await once(child, 'message')) as [ServerReport];
    return report;
  });
  asked = answer;
  return answer;
}

before(async () => {
  const execArgv = ['--expose-gc', '--import', 'tsx'];
  child = fork(`${import.meta.dirname}/fixtures/sse-server.ts`, { execArgv });
  [port] = (await once(child, 'message')) as [number];
  await order({ do: 'fill', topics: 5000, prefix: 'listed', events: 1 });
});
after(() => child.kill());

/** A client that sends text and reads nothing until it is asked to. */
async function dial(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.add(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Sends a request on a connection of its own, and returns all of the answer. */
async function ask(...lines: string[]): Promise<string> {
  const socket = await dial();
  const heard = new Reading(socket);
  socket.write(`${request(...lines, 'Connection: close')}`);
  return heard.over;
}

function publish(topic: string, type: string, body: string, ...headers: string[]): Promise<string> {
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  const head = request(
    `POST /topics/${topic} HTTP/1.1`,
    `Content-Type: ${type}`,
    length,
    'Connection: close',
  );
  return send(
    head.replace(/\r\n\r\n$/, `\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`) + body,
  );
}

async function send(text: string): Promise<string> {
  const socket = await dial();
  const heard = new Reading(socket);
  socket.write(text);
  return heard.over;
}

/**
 * Attacks while events are published to a reader, which must get all of them. Returns the report of what the
 * attack has cost, and what it was before.
 */
async function beside(attack: () => Promise<void>): Promise<{ before: ServerReport; during: ServerReport }> {
  const reader = await Reader.open(`http://127.0.0.1:${port}/events?topic=steady`);
  await reader.until(({ frames }) => frames.length === 1);
  const before = await order({ do: 'measure' });
  const sent: string[] = [];
  let isOver = false;
  const publishing = (async () => {
    for (let i = 0; !isOver || i < 20; i++) {
      sent.push(String(i));
      const text = await publish('steady', 'text/plain', String(i));
      assert.match(text, /^HTTP\/1\.1 200 /);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  try {
    await attack();
  } finally {
    isOver = true;
  }
  await publishing;
  await reader.until(({ events }) => events.length >= sent.length);
  reader.close();
  const during = await order({ do: 'measure' });
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  assert.deepEqual(
    reader.frames.map(({ event, data }) => event ?? data),
    ['sluice:ready', ...sent],
  );
  assert.deepEqual([...before.errors, ...during.errors], []);
  let { streams } = during;
  while (streams > 0) ({ streams } = await order({ do: 'measure' }));
  return { before, during };
}

/**
 * The garbage of honest requests between two collections is up to 85 MB (Node 24 with coverage). Each of these
 * attacks took 300 MB or more before it had a bound.
 */
const MOST = 150 * MB;

/** Asserts what the process has held at most beyond what it held before. */
function assertCost({ before, during }: Awaited<ReturnType<typeof beside>>, most: number): void {
  const grown = during.peak - before.peak;
  assert.ok(grown < most, `the process grew by ${(grown / MB).toFixed(1)} MB`);
}

describe('what a hostile client costs', { timeout: isLong ? 500_000 : 110_000 }, () => {
  for (const path of ['/topics', '/metrics', '/', '/nothing', '/position']) {
    it(`is one answer at a time when it pipelines 1,500 requests for ${path} and reads nothing`, async () => {
      const cost = await beside(async () => {
        const text = request(`GET ${path} HTTP/1.1`).repeat(1500);
        for (let i = 0; i < 3 * TIMES; i++) (await dial()).write(text);
        // The requests are there once an honest one behind them has had its answer.
        for (let i = 0; i < 5; i++) assert.match(await ask('GET /healthz HTTP/1.1'), /^HTTP\/1\.1 200 /);
      });
      assert.ok(cost.during.inFlight < 3 * TIMES + 20, `${cost.during.inFlight} answers at once`);
      assertCost(cost, MOST);
    });
  }

  it('is no other client’s topic, history or place when it follows 12,000 invented topics', async () => {
    await publish('kept', 'text/plain', 'before');
    const cost = await beside(async () => {
      const crowd: Reading[] = [];
      for (let i = 0; i < 200 * TIMES; i++) {
        const topics = Array.from({ length: 60 }, (_, n) => `topic=invented-${i}-${n}`).join('&');
        const socket = await dial();
        crowd.push(new Reading(socket));
        socket.write(request(`GET /events?${topics} HTTP/1.1`, ...AS_EVENTSOURCE));
      }
      await Promise.all(crowd.map((one) => one.until('\r\n\r\n')));
      const refused = crowd.filter(({ text }) => !text.includes('sluice:ready'));
      assert.ok(refused.length > 0, 'no budget');
      for (const one of refused) {
        assert.match(await one.until('sluice:refused'), /^HTTP\/1\.1 200 .*\nretry: /s);
      }
      assert.match(await publish('new-in-the-attack', 'text/plain', 'x'), /^HTTP\/1\.1 200 /);
      const reader = await Reader.open(`http://127.0.0.1:${port}/events?topic=kept&from=earliest`);
      await reader.until(({ data }) => data.includes('before'));
      reader.close();
      const listed = await ask('GET /topics?after=listed-4998&limit=1 HTTP/1.1');
      assert.match(listed, /"topic":"listed-4999","events":1/);
    });
    assertCost(cost, MOST);
  });

  it('is the body, not the pieces, when it sends 500,000 bytes in chunks of one byte', async () => {
    const cost = await beside(async () => {
      for (let i = 0; i < 3 * TIMES; i++) {
        const text = await send(
          request('POST /topics/bytes HTTP/1.1', 'Transfer-Encoding: chunked', 'Connection: close') +
            '1\r\nx\r\n'.repeat(500_000) +
            '0\r\n\r\n',
        );
        assert.match(text, /^HTTP\/1\.1 200 /);
      }
    });
    assertCost(cost, MOST);
  });

  it('is a refusal before any work when a batch has more lines than the history can keep', async () => {
    const cost = await beside(async () => {
      for (let i = 0; i < 3 * TIMES; i++) {
        const lines = '1\n'.repeat(349_525);
        const plain = await publish('lines', 'application/x-ndjson', lines);
        assert.match(plain, /^HTTP\/1\.1 413 .*"error":"batch-too-large"/s);
        const typed = await publish('lines', 'application/vnd.sluice+ndjson', lines);
        assert.match(typed, /^HTTP\/1\.1 413 .*"error":"batch-too-large"/s);
        assert.match(
          await publish('lines', 'application/x-ndjson', '\n'.repeat(1024 * 1024)),
          /^HTTP\/1\.1 [24]/,
        );
      }
      assert.doesNotMatch(
        await ask('GET /topics?after=line&limit=1 HTTP/1.1'),
        /"topic":"lines","events":[1-9]/,
      );
    });
    assertCost(cost, MOST);
  });

  it('is a few bytes for each key when it publishes long batches with an Idempotency-Key each', async () => {
    const { before, during } = await beside(async () => {
      const batch = '1\n'.repeat(5000);
      for (let i = 0; i < 100 * TIMES; i++) {
        const text = await publish('keyed', 'application/x-ndjson', batch, `Idempotency-Key: key-${i}`);
        assert.match(text, /^HTTP\/1\.1 200 /);
      }
    });
    // The ids of 100 batches of 5,000 are 60 MB as text.
    const grown = during.used - before.used;
    assert.ok(grown < 15 * MB, `holds ${(grown / MB).toFixed(1)} MB more`);
  });

  it('is nothing once it has gone, whether it ended, reset or never read', async () => {
    const { before, during } = await beside(async () => {
      for (let i = 0; i < 300 * TIMES; i++) {
        const socket = await dial();
        const lastEventId = ['1', '-', '1795408776829004-99999999', '9'.repeat(4000), '\u00e9'][i % 5];
        socket.write(request('GET /events?topic=quiet HTTP/1.1', `Last-Event-ID: ${lastEventId}`), 'latin1');
        if (i % 3 === 0) socket.end();
        if (i % 3 === 1) setTimeout(() => socket.resetAndDestroy(), 5);
      }
    });
    const grown = during.used - before.used;
    assert.ok(grown < 20 * MB, `holds ${(grown / MB).toFixed(1)} MB more`);
  });
});

describe('what a hostile server costs', { timeout: isLong ? 500_000 : 110_000 }, () => {
  const EVENT_STREAM = { 'content-type': 'text/event-stream' };
  const SIZE = 200 * MB * TIMES;
  let bad: TestServer;
  let good: TestServer;
  let reader: ChildProcess;

  /** Sends the same piece again and again, as fast as it is taken, up to a size. */
  function flood(to: Writable, piece: string, size: number): void {
    let sent = 0;
    const more = (): void => {
      while (sent < size && !to.destroyed) {
        sent += piece.length;
        if (!to.write(piece)) return void to.once('drain', more);
      }
      to.end();
    };
    to.on('error', () => {});
    more();
  }

  const answers: Record<string, (res: ServerResponse) => void> = {
    'an endless line': (res) => flood(res.writeHead(200, EVENT_STREAM), 'x'.repeat(64 * 1024), SIZE),
    'an endless event': (res) =>
      flood(res.writeHead(200, EVENT_STREAM), `data: ${'x'.repeat(60_000)}\n`, SIZE),
    'endless comments': (res) => flood(res.writeHead(200, EVENT_STREAM), ':\n'.repeat(30_000), SIZE / 4),
    'an endless id': (res) =>
      flood(res.writeHead(200, EVENT_STREAM), `data: x\nid: ${'1'.repeat(20_000)}\n\n`, SIZE / 4),
    'a line that is larger than its compressed form': (res) => {
      const gzip = createGzip();
      gzip.pipe(res.writeHead(200, { ...EVENT_STREAM, 'content-encoding': 'gzip' }));
      res.on('close', () => gzip.destroy());
      flood(gzip, `data: ${' '.repeat(64 * 1024)}`, SIZE);
    },
    'an endless error': (res) =>
      flood(res.writeHead(503, { 'content-type': 'application/json' }), '{"message":"'.repeat(5000), SIZE),
  };

  before(async () => {
    bad = await openServer((req, res) => {
      const [, name = ''] = /^\/(\d+)/.exec(req.url ?? '') ?? [];
      req.resume();
      if (name !== '') return Object.values(answers)[Number(name)]!(res);
      // An answer to what is published, of which a small part comes over the network.
      const gzip = createGzip();
      gzip.pipe(res.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' }));
      res.on('close', () => gzip.destroy());
      return flood(gzip, `{"ids":["${' '.repeat(64 * 1024)}`, SIZE * 2);
    });
    good = await openServer((_, res) => {
      let next = 0;
      res.writeHead(200, EVENT_STREAM);
      const timer = setInterval(() => res.write(`id: 1795408776829004-${next}\ndata: ${next++}\n\n`), 5);
      res.on('close', () => clearInterval(timer));
    });
    const execArgv = ['--expose-gc', '--import', 'tsx'];
    reader = fork(`${import.meta.dirname}/fixtures/reader.ts`, { execArgv });
    await once(reader, 'message');
  });
  after(async () => {
    reader.kill();
    await bad.close();
    await good.close();
  });

  async function attack(what: ReaderOrder['do'], url: string): Promise<string> {
    reader.send({ do: what, url, good: good.url } satisfies ReaderOrder);
    const [{ before, peak, code, seen, attempts }] = (await once(reader, 'message')) as [ReaderReport];
    assert.deepEqual(
      seen,
      Array.from(seen, (_, i) => i),
    );
    assert.equal(attempts, 1);
    const grown = peak - before;
    assert.ok(grown < 100 * MB, `the process grew by ${(grown / MB).toFixed(1)} MB`);
    return code;
  }

  for (const [index, name] of Object.keys(answers).entries()) {
    it(`is no more than its limits when it sends ${name}`, async () => {
      const code = await attack('read', `${bad.url}${index}`);
      assert.match(code, /^$|^ERR_SSE_/);
    });
  }

  it('is no more than its limits when it answers what is published with a bomb', async () => {
    assert.equal(await attack('publish', bad.url), '1');
  });
});
