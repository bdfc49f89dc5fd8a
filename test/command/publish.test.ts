import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, it, mock, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { main } from '../../lib/command/cli.ts';
import { createSseServer } from '../../lib/server.ts';
import { run } from '../helpers/command.ts';
import { openServer } from '../helpers/server.ts';

const id = (seq: number): string => `1795408776829004-${seq}`;

interface Batch {
  readonly lines: unknown[];
  readonly key: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

/** A server that takes batches as ours does; `interfere` may answer in its place. */
async function taker(
  t: TestContext,
  interfere?: (batch: Batch, res: ServerResponse, attempt: number) => boolean,
) {
  const taken: Batch[] = [];
  let seq = 0;
  const server = await openServer((req, res, attempt) => {
    let body = '';
    req.setEncoding('utf8').on('data', (text) => {
      body += text;
    });
    req.on('end', () => {
      const lines = body
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line));
      const batch = {
        lines,
        key: String(req.headers['idempotency-key']),
        path: req.url!,
        headers: req.headers,
      };
      if (interfere?.(batch, res, attempt)) return;
      taken.push(batch);
      res.writeHead(200, { 'content-type': 'application/json' });
      res.end(JSON.stringify({ ids: lines.map(() => id(++seq)) }));
    });
  });
  t.after(() => server.close());
  const events = (): unknown[] => taken.flatMap(({ lines }) => lines);
  return { ...server, taken, events };
}

/** What a stream holds. From Node 26 on, `read` gives the chunks one by one. */
function textIn(stream: PassThrough): string {
  let text = '';
  for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) text += chunk;
  return text;
}

/** Makes the random waits between attempts short. */
const quickly = (t: TestContext): void => {
  const random = mock.method(Math, 'random', () => 0.001);
  t.after(() => random.mock.restore());
};

describe('sluice publish', () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const canProxy = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);

  it('goes through the proxy of the environment', {
    skip: canProxy ? false : 'this Node cannot',
  }, async (t) => {
    const proxy = await taker(t);
    const env = { HTTP_PROXY: proxy.url };
    assert.equal((await run('publish', ['http://events.example', 'a'], { stdin: 'x\n', env })).code, 0);
    assert.deepEqual(proxy.events(), [{ data: 'x' }]);
    assert.equal(proxy.taken[0]!.path, 'http://events.example/topics/a');
  });

  it('publishes each line as an event, in order', async (t) => {
    const { url, events, taken } = await taker(t);
    const result = await run('publish', [url, 'news'], { stdin: 'one\ntwo\r\n\né "quoted"\nlast' });
    assert.deepEqual(result, { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(
      events(),
      ['one', 'two', '', 'é "quoted"', 'last'].map((data) => ({ data })),
    );
    assert.equal(taken.length, 2);
    assert.equal(taken[0]!.path, '/topics/news');
    assert.equal(taken[0]!.headers['content-type'], 'application/vnd.sluice+ndjson');
  });

  it('sends no request where there are no lines', async (t) => {
    const { url, requests } = await taker(t);
    assert.deepEqual(await run('publish', [url, 'news']), { code: 0, stdout: '', stderr: '' });
    assert.equal(requests.length, 0);
  });

  it('gives events a type, a key, a token and headers', async (t) => {
    const { url, events, taken } = await taker(t);
    const argv = [
      '--event',
      'tick',
      '--key',
      'k',
      '--token',
      'secret',
      '-H',
      'X-One: 1',
      `${url}base/`,
      'a.b',
    ];
    assert.equal((await run('publish', argv, { stdin: 'x\n' })).code, 0);
    assert.deepEqual(events(), [{ event: 'tick', data: 'x', key: 'k' }]);
    assert.equal(taken[0]!.path, '/base/topics/a.b');
    assert.equal(taken[0]!.headers.authorization, 'Bearer secret');
    assert.equal(taken[0]!.headers['x-one'], '1');
  });

  it('publishes JSON lines, such as `sluice tail --record` writes', async (t) => {
    const { url, events } = await taker(t);
    const stdin =
      '{"time":"…","id":"1795408776829004-1","event":"x","data":"a"}\n"bare"\n{"data":{"n":1},"key":"k"}\n';
    assert.equal((await run('publish', ['--ndjson', url, 'news'], { stdin })).code, 0);
    assert.deepEqual(events(), [{ event: 'x', data: 'a' }, { data: 'bare' }, { data: { n: 1 }, key: 'k' }]);
  });

  it('names the line that is not JSON of that form', async (t) => {
    const { url } = await taker(t);
    for (const line of ['{', '7', 'null', '{"event":"x"}', '[]']) {
      const { code, stderr } = await run('publish', ['--ndjson', '--batch', '1', url, 'n'], {
        stdin: `"a"\n${line}\n`,
      });
      assert.equal(code, 1);
      assert.equal(
        stderr,
        'sluice publish: line 2 is neither a JSON object with data nor a JSON string; 1 published before\n',
      );
    }
  });

  it('skips empty lines of NDJSON, and counts them where it names a line', async (t) => {
    const { url, events } = await taker(t);
    const stdin = '\n"a"\n\r\n\n"b"\n\n';
    assert.equal((await run('publish', ['--ndjson', url, 'n'], { stdin })).code, 0);
    assert.deepEqual(events(), [{ data: 'a' }, { data: 'b' }]);
    const { stderr } = await run('publish', ['--ndjson', url, 'n'], { stdin: `${stdin}7\n` });
    assert.match(stderr, /^sluice publish: line 7 is neither .*; 2 published before\n$/);
  });

  it('says which event of its input the server refuses, however many requests were before', async (t) => {
    const sse = createSseServer();
    const url = await sse.listen(0);
    t.after(() => {
      sse.server.closeAllConnections();
      sse.server.close();
    });
    const stdin = '"1"\n"2"\n"3"\n"4"\n"5"\n\n"6"\n{"data":"7","event":"sluice:gap"}\n';
    const argv = ['--ndjson', '--batch', '5', url, 'n'];
    const { code, stderr } = await run('publish', argv, { stdin });
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^sluice publish: the server answered 400: event 7: `event` .*; 5 published before\n$/,
    );
  });

  it('prints ids with --ids, and progress on a terminal that ids do not go to', async (t) => {
    const ids = `${id(1)}\n${id(2)}\n${id(3)}\n`;
    const progress = '\r2 published\r3 published\n';
    for (const [flags, terminals, expected] of [
      [['--ids'], ['stdout', 'stderr'], { stdout: ids, stderr: '' }],
      [['--ids'], ['stderr'], { stdout: ids, stderr: progress }],
      [[], ['stdout', 'stderr'], { stdout: '', stderr: progress }],
      [['--ids'], ['stdout'], { stdout: ids, stderr: '' }],
    ] as const) {
      const { url } = await taker(t);
      const stdin = Readable.from([Buffer.from('a\nb\nc\n')]);
      const output = (name: string) =>
        Object.assign(new PassThrough(), { isTTY: (terminals as readonly string[]).includes(name) });
      const [stdout, stderr] = [output('stdout'), output('stderr')];
      const io = { stdin, stdout, stderr, env: {}, signal: new AbortController().signal };
      assert.equal(await main(['publish', ...flags, '--batch', '2', url, 'n'], io, '0.0.0'), 0);
      assert.deepEqual({ stdout: textIn(stdout), stderr: textIn(stderr) }, expected);
    }
  });

  it('sends a line as soon as it arrives, and together those that arrive meanwhile', async (t) => {
    const stdin = new PassThrough();
    const { url, taken } = await taker(t, (_, __, attempt) => {
      if (attempt === 1) for (const line of ['b\n', 'c\n', 'd']) stdin.write(line);
      if (attempt === 2) stdin.end('\n');
      return false;
    });
    stdin.write('a\n');
    assert.equal((await run('publish', [url, 'n'], { stdin })).code, 0);
    assert.deepEqual(
      taken.map(({ lines }) => lines.map((line) => (line as { data: string }).data)),
      [['a'], ['b', 'c'], ['d']],
    );
  });

  it('sends together the lines of many small chunks that have arrived', async (t) => {
    const { url, requests, events } = await taker(t);
    const stdin = (async function* () {
      for (let n = 0; n < 300; n++) yield `${n}\n`;
    })();
    assert.equal((await run('publish', [url, 'n'], { stdin })).code, 0);
    assert.equal(events().length, 300);
    assert.ok(requests.length <= 2, `${requests.length} requests`);
  });

  it('publishes what has arrived when its input fails while a request is pending', async (t) => {
    const stdin = new PassThrough();
    stdin.write('a\n');
    const { url, events } = await taker(t, (_batch, _res, attempt) => {
      if (attempt === 1) stdin.destroy(new Error('EIO: i/o error, read'));
      return false;
    });
    const { code, stderr } = await run('publish', [url, 'n'], { stdin });
    assert.deepEqual([code, stderr], [1, 'sluice publish: EIO: i/o error, read; 1 published before\n']);
    assert.deepEqual(events(), [{ data: 'a' }]);
  });

  it('keeps a request within --batch lines and 512 KiB', async (t) => {
    const { url, taken, events } = await taker(t);
    await run('publish', ['--batch', '3', url, 'n'], { stdin: 'x\n'.repeat(10) });
    assert.deepEqual(
      taken.map(({ lines }) => lines.length),
      [3, 3, 3, 1],
    );
    taken.length = 0;
    await run('publish', [url, 'n'], { stdin: `${'x'.repeat(200_000)}\n`.repeat(5) });
    assert.deepEqual(
      taken.map(({ lines }) => lines.length),
      [2, 2, 1],
    );
    assert.equal(events().length, 5);
  });

  it('reads lines and characters that are cut anywhere', async (t) => {
    const { url, events } = await taker(t);
    const bytes = Buffer.from('é\n水\n🚪\n');
    const stdin = (async function* () {
      for (const byte of bytes) yield Uint8Array.of(byte);
    })();
    await run('publish', [url, 'n'], { stdin });
    assert.deepEqual(events(), [{ data: 'é' }, { data: '水' }, { data: '🚪' }]);
  });

  it('refuses an endless line at 1 MiB', async (t) => {
    const { url } = await taker(t);
    let given = 0;
    const stdin = (async function* () {
      for (; ; given += 65_536) yield 'x'.repeat(65_536);
    })();
    assert.equal((await run('publish', [url, 'n'], { stdin })).code, 1);
    assert.ok(given < 2 << 20);
  });

  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    it(`sends a batch again after a ${status}, with the same Idempotency-Key`, async (t) => {
      quickly(t);
      const keys: string[] = [];
      const { url, events } = await taker(t, (batch, res, attempt) => {
        keys.push(batch.key);
        if (attempt < 3) res.writeHead(status).end();
        return attempt < 3;
      });
      assert.equal((await run('publish', ['--batch', '1', url, 'n'], { stdin: 'a\nb\n' })).code, 0);
      assert.deepEqual(events(), [{ data: 'a' }, { data: 'b' }]);
      assert.equal(keys.length, 4);
      assert.deepEqual([new Set(keys.slice(0, 3)).size, new Set(keys).size], [1, 2]);
      assert.match(keys[0]!, /^[\da-f-]{36}$/);
    });
  }

  it('sends a batch again when the connection breaks before the answer', async (t) => {
    quickly(t);
    const { url, events } = await taker(t, (_, res, attempt) => {
      if (attempt < 4) res.socket!.resetAndDestroy();
      return attempt < 4;
    });
    assert.equal((await run('publish', [url, 'n'], { stdin: 'a\n' })).code, 0);
    assert.deepEqual(events(), [{ data: 'a' }]);
  });

  it('waits as long as Retry-After asks for', async (t) => {
    quickly(t);
    const { setTimeout } = globalThis;
    const waits: unknown[] = [];
    // Only the wait for this Retry-After is cut short.
    t.mock.method(globalThis, 'setTimeout', (callback: () => void, delay: number) => {
      waits.push(delay);
      return setTimeout(callback, delay >= 7000 && delay < 8000 ? 0 : delay);
    });
    const { url, events } = await taker(t, (_, res, attempt) => {
      if (attempt === 1) res.writeHead(503, { 'retry-after': '7' }).end();
      return attempt === 1;
    });
    assert.equal((await run('publish', [url, 'n'], { stdin: 'a\n' })).code, 0);
    assert.deepEqual(events(), [{ data: 'a' }]);
    assert.ok(waits.includes(7000), `${waits}`); // and no random part, with this source of chance
  });

  it('escapes control characters of the server on a terminal', async (t) => {
    const { url } = await taker(t, (batch, res) => {
      const isFirst = (batch.lines[0] as { data: string }).data === 'a';
      if (isFirst) res.writeHead(200).end('{"ids":["\\u001b[2J"]}');
      else res.writeHead(400).end('{"message":"no \\u009b2J\\n room"}');
      return true;
    });
    const argv = ['--ids', '--batch', '1', url, 'n'];
    const { stdout, stderr } = await run('publish', argv, { stdin: 'a\nb\n', isTTY: true });
    assert.equal(stdout, '\\x1b[2J\n');
    assert.equal(stderr, 'sluice publish: the server answered 400: no  2J  room; 1 published before\n');
  });

  it('publishes the lines before one that is too long', async (t) => {
    const { url, events } = await taker(t);
    const stdin = `a\n${'x'.repeat(2 ** 20 + 1)}\nb\n`;
    const { code, stderr } = await run('publish', [url, 'n'], { stdin });
    assert.equal(code, 1);
    assert.equal(stderr, 'sluice publish: a line is longer than 1048576 bytes; 1 published before\n');
    assert.deepEqual(events(), [{ data: 'a' }]);
  });

  describe('when the server refuses a batch as too large', () => {
    /** Refuses batches of more lines or more bytes, as a server does whose topics keep little. */
    const small =
      (fits: (batch: Batch) => boolean, answer: object, refused: Batch[] = []) =>
      (batch: Batch, res: ServerResponse) => {
        if (fits(batch)) return false;
        refused.push(batch);
        res.writeHead(413).end(JSON.stringify(answer));
        return true;
      };
    const numbers = (count: number) => Array.from({ length: count }, (_, n) => String(n));
    const dataOf = (lines: unknown[]) => lines.map((line) => (line as { data: string }).data);

    it('sends parts of the size that the answer states, and later batches in that size', async (t) => {
      const refused: Batch[] = [];
      const answer = { error: 'batch-too-large', message: 'no', maxEvents: 40, maxBytes: 1e6 };
      const { url, events, taken } = await taker(
        t,
        small(({ lines }) => lines.length <= 40, answer, refused),
      );
      const stdin = numbers(1000).join('\n');
      const { code, stdout } = await run('publish', ['--ids', url, 'n'], { stdin });
      assert.equal(code, 0);
      assert.deepEqual(dataOf(events()), numbers(1000));
      assert.equal(stdout.split('\n').length - 1, 1000);
      assert.equal(refused.length, 1);
      assert.equal(Math.max(...taken.map(({ lines }) => lines.length)), 40);
      // Each part is a request of its own.
      assert.equal(new Set([...refused, ...taken].map(({ key }) => key)).size, taken.length + 1);
    });

    it('sends parts of the bytes that the answer states, and never more lines than --batch', async (t) => {
      const sizeOf = ({ lines }: Batch) =>
        lines.reduce<number>((bytes, line) => bytes + JSON.stringify(line).length, 0);
      const refused: Batch[] = [];
      const answer = { maxEvents: 1e6, maxBytes: 1000 };
      const { url, events, taken } = await taker(
        t,
        small((batch) => sizeOf(batch) <= 1000, answer, refused),
      );
      const texts = [...numbers(200).map((n) => n.padEnd(300, '.')), ...numbers(500)];
      const argv = ['--batch', '20', url, 'n'];
      assert.equal((await run('publish', argv, { stdin: texts.join('\n') })).code, 0);
      assert.deepEqual(dataOf(events()), texts);
      assert.equal(refused.length, 1);
      assert.equal(Math.max(...taken.map(({ lines }) => lines.length)), 20);
    });

    it('sends halves where the answer states nothing that helps', async (t) => {
      for (const answer of [{}, { maxEvents: 'x', maxBytes: -1 }, { maxEvents: 1e9, maxBytes: 1e9 }]) {
        const refused: Batch[] = [];
        const { url, events, taken } = await taker(
          t,
          small(({ lines }) => JSON.stringify(lines).length <= 3000, answer, refused),
        );
        assert.equal((await run('publish', [url, 'n'], { stdin: numbers(1000).join('\n') })).code, 0);
        assert.deepEqual(dataOf(events()), numbers(1000));
        assert.ok(refused.length <= 3, `${refused.length} of ${taken.length}`);
      }
    });

    it('sends a part again under one key, and keeps the order', async (t) => {
      quickly(t);
      const keys: string[] = [];
      const isSmall = small(({ lines }) => lines.length <= 2, { maxEvents: 2 });
      const { url, events } = await taker(t, (batch, res) => {
        if (isSmall(batch, res)) return true;
        keys.push(batch.key);
        if (keys.length % 2 === 0) return false;
        res.socket!.resetAndDestroy();
        return true;
      });
      assert.equal((await run('publish', [url, 'n'], { stdin: 'a\nb\nc\nd\ne\n' })).code, 0);
      assert.deepEqual(dataOf(events()), ['a', 'b', 'c', 'd', 'e']);
      assert.deepEqual(
        keys.map((key) => keys.indexOf(key)),
        [0, 0, 2, 2, 4, 4],
      );
    });

    it('publishes what comes before a line that is too large by itself, and names the reason', async (t) => {
      const { url, events } = await taker(
        t,
        small(({ lines }) => !dataOf(lines).includes('large'), { message: 'an event may have 9 bytes.' }),
      );
      const { code, stderr } = await run('publish', [url, 'n'], { stdin: 'a\nb\nc\nlarge\nd\n' });
      assert.equal(code, 1);
      assert.deepEqual(dataOf(events()), ['a', 'b', 'c']);
      assert.equal(
        stderr,
        'sluice publish: the server answered 413: an event may have 9 bytes; 3 published before\n',
      );
    });
  });

  it('reads no further while the server does not answer', async (t) => {
    let given = 0;
    const stdin = (async function* () {
      for (; given < 1000; given++) yield `${'x'.repeat(65_535)}\n`;
    })();
    const controller = new AbortController();
    const { url, requests } = await taker(t, () => true);
    const ended = run('publish', [url, 'n'], { stdin, signal: controller.signal });
    while (requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const before = given;
    // Turns in which it could read everything.
    for (let turn = 0; turn < 2000; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(given, before);
    assert.ok(given <= 10, `${given} chunks of 64 KiB`);
    controller.abort();
    assert.equal((await ended).code, 130);
  });

  it('reads no more of an answer than ids can take, also of a compressed one', async (t) => {
    const endless = gzipSync(Buffer.alloc(64 << 20, '[0,')).subarray(0, -8);
    for (const status of [200, 400] as const) {
      const { url } = await taker(t, (_, res) => {
        res.writeHead(status, { 'content-encoding': 'gzip' });
        res.write(endless); // and never ends
        return true;
      });
      const { code, stderr } = await run('publish', [url, 'n'], { stdin: 'a\n' });
      assert.equal(code, 1);
      const why = {
        200: /the body of the response is larger than 65600 bytes; /,
        400: /server answered 400; /,
      };
      assert.match(stderr, why[status]);
    }
  });

  it('sends all batches over one connection', async (t) => {
    const { url, server, taken } = await taker(t);
    let connections = 0;
    server.on('connection', () => connections++);
    await run('publish', ['--batch', '1', url, 'n'], { stdin: 'a\n'.repeat(30) });
    assert.deepEqual([taken.length, connections], [30, 1]);
  });

  it('asks for no compression', async (t) => {
    const { url, taken } = await taker(t);
    await run('publish', [url, 'n'], { stdin: 'a\n' });
    assert.equal(taken[0]!.headers['accept-encoding'], undefined);
  });

  it('shortens a long reason', async (t) => {
    const { url } = await taker(t, (_, res) => {
      res.writeHead(400).end(JSON.stringify({ message: 'x'.repeat(5000) }));
      return true;
    });
    const { stderr } = await run('publish', [url, 'n'], { stdin: 'a\n' });
    assert.match(stderr, /400: x{300}; 0 published before\n$/);
  });

  it('reports each attempt that fails on a terminal, with the next one and the wait before it', async (t) => {
    quickly(t);
    const { url } = await taker(t, (_, res, attempt) => {
      if (attempt < 3) res.writeHead(503).end();
      return attempt < 3;
    });
    const { code, stderr } = await run('publish', [url, 'n'], { stdin: 'a\n', isTTY: true });
    assert.equal(code, 0);
    assert.match(
      stderr,
      /^sluice publish: the server answered 503; trying again in \d+\.\d s, attempt 2 of 8\nsluice publish: the server answered 503; trying again in \d+\.\d s, attempt 3 of 8\n\r1 published\n$/,
    );
  });

  it('reports the first attempt that fails, once', async (t) => {
    quickly(t);
    const { url } = await taker(t, (_, res, attempt) => {
      const fails = attempt % 4 !== 0;
      if (fails) res.writeHead(503).end();
      return fails;
    });
    const { code, stderr } = await run('publish', ['--batch', '1', url, 'n'], { stdin: 'a\nb\n' });
    assert.equal(code, 0);
    assert.equal(stderr, 'sluice publish: the server answered 503; trying again\n'.repeat(2));
  });

  it('exits with 1 where no ids can be written any more', async (t) => {
    const { url } = await taker(t);
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    const io = { stdin: Readable.from([Buffer.from('a\nb\nc\n')]), stdout, stderr, env: {} };
    stdout.once('data', () => stdout.destroy(Object.assign(new Error('no space'), { code: 'ENOSPC' })));
    const argv = ['publish', '--ids', '--batch', '1', url, 'n'];
    assert.equal(await main(argv, { ...io, signal: new AbortController().signal }, '0.0.0'), 1);
    assert.match(textIn(stderr), /^sluice publish: no space; [123] published before\n$/);
  });

  it('exits with 1 where the last ids cannot be written', async (t) => {
    const { url } = await taker(t);
    const stdout = new PassThrough();
    stdout._write = (_chunk, _encoding, done) => setTimeout(done, 20, new Error('no space'));
    const stderr = new PassThrough();
    const io = { stdin: Readable.from([Buffer.from('a\n')]), stdout, stderr, env: {} };
    const { signal } = new AbortController();
    assert.equal(await main(['publish', '--ids', url, 'n'], { ...io, signal }, '0.0.0'), 1);
    assert.equal(textIn(stderr), 'sluice publish: no space; 1 published before\n');
  });

  it('waits for a slow reader of the ids, and can be interrupted meanwhile', async (t) => {
    const { url, events } = await taker(t);
    const stdout = new PassThrough({ highWaterMark: 16 });
    const stderr = new PassThrough();
    const stdin = Readable.from([Buffer.from('a\n'.repeat(10))]);
    const controller = new AbortController();
    const io = { stdin, stdout, stderr, env: {}, signal: controller.signal };
    const ended = main(['publish', '--ids', '--batch', '2', url, 'n'], io, '0.0.0');
    while (stdout.readableLength === 0) await new Promise((resolve) => setImmediate(resolve));
    for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(events().length, 2);
    controller.abort();
    assert.equal(await ended, 130);
    assert.equal(textIn(stderr), 'sluice publish: interrupted; 2 published before\n');
  });

  it('reads its token from a file', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-'));
    t.after(() => rm(folder, { recursive: true }));
    const file = join(folder, 'token');
    await writeFile(file, 'secret\n');
    const { url, taken } = await taker(t);
    assert.equal((await run('publish', ['--token-file', file, url, 'n'], { stdin: 'x\n' })).code, 0);
    assert.equal(taken[0]!.headers.authorization, 'Bearer secret');
    for (const text of ['', 'two words', 'a\nb']) {
      await writeFile(file, text);
      const { code, stderr } = await run('publish', ['--token-file', file, url, 'n']);
      assert.deepEqual(
        [code, stderr],
        [
          2,
          `sluice publish: --token-file ${file} must be one word of printable ASCII; see sluice publish --help\n`,
        ],
      );
    }
    const { code, stderr } = await run('publish', ['--token-file', `${file}.no`, url, 'n']);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice publish: --token-file \S+ cannot be read: ENOENT/);
  });

  it('releases stdin when it gives up', async (t) => {
    const stdin = new PassThrough();
    stdin.write('a\n');
    const { url } = await taker(t, (_, res) => {
      res.writeHead(400).end();
      return true;
    });
    assert.equal((await run('publish', [url, 'n'], { stdin })).code, 1);
    assert.equal(stdin.destroyed, true);
  });

  it('gives up after --attempts, and reports how many events were published', async (t) => {
    quickly(t);
    const { url, requests } = await taker(t, (_, res, attempt) => {
      if (attempt > 1) res.writeHead(503).end('{"error":"full","message":"no room"}');
      return attempt > 1;
    });
    const argv = ['--attempts', '3', '--batch', '2', url, 'n'];
    const { code, stderr } = await run('publish', argv, { stdin: 'a\nb\nc\n' });
    assert.equal(code, 1);
    assert.equal(
      stderr,
      'sluice publish: the server answered 503: no room; trying again\n' +
        'sluice publish: the server answered 503: no room, in the last of 3 attempts; 2 published before\n',
    );
    assert.equal(requests.length, 4);
  });

  for (const status of [201, 204, 301, 400, 401, 403, 404, 409, 413, 422]) {
    it(`does not send a batch again after a ${status}`, async (t) => {
      const { url, requests } = await taker(t, (_, res) => {
        res.writeHead(status).end();
        return true;
      });
      assert.equal((await run('publish', [url, 'n'], { stdin: 'a\n' })).code, 1);
      assert.equal(requests.length, 1);
    });
  }

  it('takes a refusal for one although its body never ends', async (t) => {
    const { url, requests } = await taker(t, (_, res) => {
      res.writeHead(401, { 'content-type': 'application/json' });
      res.write('{"message":');
      return true;
    });
    const { code, stderr } = await run('publish', ['--attempts', '2', url, 'n'], { stdin: 'a\n' });
    assert.deepEqual(
      [code, stderr, requests.length],
      [1, 'sluice publish: the server answered 401; 0 published before\n', 1],
    );
  });

  it('does not take a 200 without the right number of ids for success', async (t) => {
    for (const answer of ['', 'ok', `{"ids":["${id(1)}","${id(2)}"]}`, '{}', '{"ids":[1]}', 'null']) {
      const { url } = await taker(t, (_, res) => {
        res.writeHead(200).end(answer);
        return true;
      });
      const { code, stderr } = await run('publish', [url, 'n'], { stdin: 'a\n' });
      assert.equal(code, 1);
      assert.match(stderr, /without ids|gave 2 ids to 1 events/);
    }
  });

  it('exits with 130 when it is interrupted, while it reads, sends or waits', async (t) => {
    for (const moment of ['reading', 'sending', 'waiting']) {
      const controller = new AbortController();
      const abort = () => controller.abort();
      const { url } = await taker(t, (_, res) => {
        if (moment === 'waiting') res.writeHead(503, { 'retry-after': '600' }).end();
        if (moment === 'sending') abort();
        return moment !== 'reading';
      });
      const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
      stdin.write('a\n');
      // The id is printed before the next line is waited for, the failure before the next attempt is.
      stdout.once('data', abort);
      let reported = '';
      stderr.on('data', (chunk) => {
        reported += chunk;
        abort();
      });
      const io = { stdin, stdout, stderr, env: {}, signal: controller.signal };
      assert.equal(await main(['publish', '--ids', url, 'n'], io, '0.0.0'), 130);
      await new Promise((resolve) => setImmediate(resolve));
      const before = moment === 'waiting' ? 'sluice publish: the server answered 503; trying again\n' : '';
      const published = moment === 'reading' ? 1 : 0;
      assert.equal(reported, `${before}sluice publish: interrupted; ${published} published before\n`);
    }
  });

  it('prints its help on stdout', async () => {
    const { code, stdout } = await run('publish', ['-h']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: sluice publish/);
  });

  for (const [argv, message] of [
    [[], 'expected a URL and a topic, got nothing'],
    [['x'], 'expected a URL and a topic, got 1'],
    [['ftp://x/', 'n'], 'expected an http or https URL, got ftp://x/'],
    [['x', 'a/b'], 'TOPIC must be 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -, got "a/b"'],
    [['--what', 'x', 'n'], 'unknown option "--what"'],
    [['--batch', '0', 'x', 'n'], '--batch must be a whole number ≥ 1, got "0"'],
    [['--event', 'a\nb', 'x', 'n'], '--event must be one line'],
    [['--token', 'a\nb', 'x', 'n'], '--token must be one word of printable ASCII'],
    [['--token', 'a', '--token-file', 'b', 'x', 'n'], '--token and --token-file exclude each other'],
    [['-H', 'no colon', 'x', 'n'], `--header must be 'NAME: VALUE', got "no colon"`],
  ] as const) {
    it(`exits with 2 and one line for ${JSON.stringify(argv)}`, async () => {
      assert.deepEqual(await run('publish', argv), {
        code: 2,
        stdout: '',
        stderr: `sluice publish: ${message}; see sluice publish --help\n`,
      });
    });
  }
});
