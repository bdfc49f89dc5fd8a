import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, describe, it } from 'node:test';
import { createSseServer, type LogLine } from '../lib/server.ts';
import { Reader, Reading } from './helpers/reader.ts';

const logged: LogLine[] = [];
const sse = createSseServer({ logger: (line) => logged.push(line) });
// As in production, only sooner: Node gives a head a minute, a request five, and looks every 30 s.
const impatient = { headersTimeout: 1000, requestTimeout: 1500, connectionsCheckingInterval: 100 };
Object.assign(sse.server, impatient);
const sockets = new Set<Socket>();
let url = '';
let port = 0;

before(async () => {
  url = await sse.listen(0);
  port = Number(new URL(url).port);
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});
after(() => sse.close({ deadline: 1000 }));

interface Attacker {
  readonly socket: Socket;
  readonly heard: Reading;
}

async function attack(text: string): Promise<Attacker> {
  const socket = connect(port, '127.0.0.1');
  sockets.add(socket);
  socket.on('error', () => {});
  const heard = new Reading(socket);
  await once(socket, 'connect');
  socket.write(text, 'latin1');
  return { socket, heard };
}

function crowd(size: number, text: (index: number) => string): Promise<Attacker[]> {
  return Promise.all(Array.from({ length: size }, (_, i) => attack(text(i))));
}

const request = (first: string, ...headers: string[]) =>
  [first, 'Host: localhost', ...headers, '', ''].join('\r\n');

const stream = (...headers: string[]) => request('GET /events?topic=quiet HTTP/1.1', ...headers);

/**
 * Whatever is done meanwhile, a reader that does nothing wrong gets every event, in order, on its one
 * connection.
 */
async function unnoticed(deed: () => Promise<void>): Promise<void> {
  const reader = await Reader.open(`${url}/events?topic=steady`);
  await reader.until(({ frames }) => frames.length === 1);
  let published = 0;
  const publish = () => sse.hub.publish('steady', { data: String(published++) });
  const ticker = setInterval(publish, 2);
  try {
    await deed();
    await streamsAre(1);
    for (let i = 0; i < 10; i++) publish();
    await reader.until(({ frames }) => frames.length > published);
  } finally {
    clearInterval(ticker);
    reader.close();
  }
  assert.deepEqual(
    reader.frames.map(({ event, data }) => event ?? data),
    ['sluice:ready', ...Array.from({ length: published }, (_, i) => String(i))],
  );
  const failures = logged.splice(0).filter(({ level }) => level === 'error');
  assert.deepEqual(failures, []);
  await streamsAre(0);
}

/** Whoever is gone is known to be, and nobody else is. */
async function streamsAre(count: number): Promise<void> {
  while (sse.streams.size > count) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(sse.streams.size, count);
}

describe('a hostile client', { timeout: 120_000 }, () => {
  it('that never finishes its request gets 408, a thousand at once', () =>
    unnoticed(async () => {
      const heads = await crowd(
        500,
        () => 'GET /events?topic=steady HTTP/1.1\r\nHost: localhost\r\nX-Slow: ',
      );
      const bodies = await crowd(500, () => request('POST /topics/steady HTTP/1.1', 'Content-Length: 1000'));
      const drip = setInterval(() => {
        for (const { socket } of [...heads, ...bodies]) if (socket.writable) socket.write('x');
      }, 100);
      for (const attackers of [heads, bodies]) {
        const answers = await Promise.all(attackers.map(({ heard }) => heard.over));
        // One that writes when it is already cut off has its connection reset, and loses the answer.
        const read = answers.filter((answer) => answer !== '');
        assert.ok(read.length > 0);
        for (const answer of read) assert.match(answer, /^HTTP\/1\.1 408 /);
      }
      clearInterval(drip);
    }));

  it('that sends another request on the connection of its stream loses that connection', () =>
    unnoticed(async () => {
      const pipelined = await crowd(10, () => stream().repeat(500));
      const answers = await Promise.all(pipelined.map(({ heard }) => heard.over));
      for (const answer of answers) assert.ok(answer.split('HTTP/1.1 ').length <= 2, answer);

      const late = await attack(stream());
      await late.heard.until('sluice:ready');
      late.socket.write(stream());
      await late.heard.over;
    }));

  it('that pipelines 5,000 ordinary requests gets 5,000 answers', () =>
    unnoticed(async () => {
      const pipelined = await crowd(
        10,
        () =>
          request('GET /healthz HTTP/1.1').repeat(499) +
          request('GET /healthz HTTP/1.1', 'Connection: close'),
      );
      const answers = await Promise.all(pipelined.map(({ heard }) => heard.over));
      for (const answer of answers) assert.equal(answer.split('HTTP/1.1 200 OK').length - 1, 500);
    }));

  const refusals: [what: string, text: string, status: number, error?: string][] = [
    ['two Hosts', stream('Host: localhost'), 400, 'host-repeated'],
    ['no Host', 'GET /events?topic=steady HTTP/1.1\r\n\r\n', 400],
    ['no Host in HTTP/1.0', 'GET /events?topic=steady HTTP/1.0\r\n\r\n', 400, 'host-missing'],
    ['a Host that is none', 'GET /events?topic=steady HTTP/1.1\r\nHost: a b\r\n\r\n', 400, 'host-malformed'],
    [
      'a rebound Host',
      'GET /events?topic=steady HTTP/1.1\r\nHost: evil.example\r\n\r\n',
      421,
      'host-not-listed',
    ],
    ['//[ for a path', request('GET //[ HTTP/1.1'), 404, 'not-found'],
    ['/% for a path', request('GET /% HTTP/1.1'), 404, 'not-found'],
    ['/topics/% for a path', request('POST /topics/% HTTP/1.1', 'Content-Length: 0'), 400, 'malformed-path'],
    ['dots for a topic', request('GET /events/%2e%2e%2fx HTTP/1.1'), 400, 'malformed-topic'],
    ['__proto__ for a path', request('GET /__proto__ HTTP/1.1'), 404, 'not-found'],
    [
      'a whole URL of another host',
      request('GET http://evil.example/events?topic=steady HTTP/1.1'),
      421,
      'host-not-listed',
    ],
    ['a star', request('GET * HTTP/1.1'), 400, 'malformed-path'],
    ['no HTTP', 'hello\r\n\r\n', 400],
    ['two lengths', request('POST /topics/steady HTTP/1.1', 'Content-Length: 1', 'Content-Length: 2'), 400],
    [
      'a length and chunks',
      request('POST /topics/steady HTTP/1.1', 'Content-Length: 1', 'Transfer-Encoding: chunked'),
      400,
    ],
    [
      'an image of the same site',
      stream('Sec-Fetch-Site: same-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'),
      403,
      'wrong-destination',
    ],
    ['another site', stream('Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors'), 403, 'cross-site'],
    [
      'a page of another site',
      stream('Sec-Fetch-Site: cross-site', 'Origin: https://evil.example'),
      403,
      'origin-not-listed',
    ],
    ['a sandboxed page', stream('Sec-Fetch-Site: cross-site', 'Origin: null'), 403, 'origin-not-listed'],
    [
      'a window of another site',
      stream('Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document'),
      403,
      'cross-site',
    ],
    ['an id of 17 KB', stream(`Last-Event-ID: ${'1'.repeat(17_000)}`), 431],
    ['a topic of 201', request(`GET /events/${'t'.repeat(201)} HTTP/1.1`), 400, 'malformed-topic'],
    ['65 topics', request(`GET /events?${'topic=a&'.repeat(65)} HTTP/1.1`), 400, 'too-many-topics'],
    [
      'a body of 2 MB',
      request('POST /topics/steady HTTP/1.1', 'Content-Length: 2000000'),
      413,
      'body-too-large',
    ],
  ];
  for (const [what, text, status, error] of refusals) {
    it(`that sends ${what} gets ${status}`, () =>
      unnoticed(async () => {
        const { socket, heard } = await attack(text);
        // It hangs up when it has been told, as one that tries many things would.
        await heard.until('\r\n\r\n');
        if (error !== undefined) await heard.until(`"error":"${error}"`);
        socket.destroy();
        assert.match(heard.text, new RegExp(`^HTTP/1\\.1 ${status} `));
        assert.equal(heard.text.split('HTTP/1.1 ').length, 2);
      }));
  }

  for (const id of ['1'.repeat(8000), 'é', '1-1\tx', '-1', '1795408776829-99999999999999999999']) {
    it(`that sends an id like ${JSON.stringify(id.slice(0, 40))} gets a gap`, () =>
      unnoticed(async () => {
        const { socket, heard } = await attack(stream(`Last-Event-ID: ${id}`));
        await heard.until('sluice:gap');
        assert.match(heard.text, /"reason":"(malformed|unknown-epoch)"/);
        socket.destroy();
      }));
  }

  it('that makes a visitor’s browser send 2,000 requests holds no stream open', () =>
    unnoticed(async () => {
      for (let round = 0; round < 10; round++) {
        const asked = await crowd(200, () =>
          stream('Sec-Fetch-Site: cross-site', 'Origin: https://evil.example', 'Connection: close'),
        );
        const answers = await Promise.all(asked.map(({ heard }) => heard.over));
        assert.ok(answers.every((answer) => answer.startsWith('HTTP/1.1 403 ')));
      }
    }));

  it('that opens 500 streams and disconnects is forgotten', () =>
    unnoticed(async () => {
      const asked = await crowd(500, () => stream());
      await Promise.all(asked.map(({ heard }) => heard.until('sluice:ready')));
      assert.equal(sse.streams.size, 501);
      for (const { socket } of asked) socket.resetAndDestroy();
    }));
});
