// A real browser reads the same streams as we do: its own EventSource and ours, in the same page.
// `npm ci --prefix test/interop` and a Chromium (`CHROMIUM=/path`, default /usr/bin/chromium), then
// `npx tsx --test test/interop/browser.test.ts`.
import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { after, before, describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import fc from 'fast-check';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { cors } from '../../lib/cors.ts';
import { encode, type ServerSentEvent } from '../../lib/encode.ts';
import { serveEvents } from '../../lib/events.ts';
import { Hub } from '../../lib/hub.ts';
import { formatCases, type Read } from '../fixtures/format.ts';
import { eventStream, frame, idOf, seqOf } from '../helpers/misbehaving.ts';
import { readByTheStandard } from '../helpers/model.ts';
import { openServer, serve, type TestServer } from '../helpers/server.ts';
import { launchChromium } from './helpers/chromium.ts';

type Reader = 'native' | 'ours';

declare global {
  interface Window {
    sluice: typeof import('./page.ts');
  }
}

const READERS: readonly Reader[] = ['native', 'ours'];
const routes = new Map<string, (req: IncomingMessage, res: ServerResponse, url: URL) => void>();
const html = { 'content-type': 'text/html' };
const javascript = { 'content-type': 'text/javascript' };
let script = '';
let server: TestServer;
let browser: Browser;
let context: BrowserContext;

before(async () => {
  const entry = fileURLToPath(new URL('./page.ts', import.meta.url));
  const built = await build({
    entryPoints: [entry],
    bundle: true,
    format: 'iife',
    globalName: 'sluice',
    write: false,
  });
  script = built.outputFiles[0]!.text;
  server = await openServer((req, res) => {
    const url = new URL(req.url!, 'http://localhost');
    const route = routes.get(url.pathname);
    if (route !== undefined) route(req, res, url);
    else if (url.pathname === '/') res.writeHead(200, html).end('<script src="/page.js"></script>');
    else if (url.pathname === '/page.js') res.writeHead(200, javascript).end(script);
    else res.writeHead(404).end();
  });
  browser = await launchChromium();
  context = await browser.newContext();
});

after(async () => {
  await browser?.close();
  await server?.close();
});

async function newPage(t: TestContext): Promise<Page> {
  const page = await context.newPage();
  t.after(() => page.close());
  await page.goto(server.url);
  return page;
}

/** Writes the stream in pieces of its own choice, then ends. */
function drip(res: ServerResponse, stream: Uint8Array, sizes: () => number): void {
  res.writeHead(200, eventStream);
  let at = 0;
  const step = (): void => {
    if (at >= stream.length) return void res.end();
    const piece = stream.subarray(at, at + sizes());
    at += piece.length;
    res.write(piece, () => setImmediate(step));
  };
  step();
}

const bytesOf = (stream: string | Uint8Array): Uint8Array => Buffer.from(stream as string);

describe('our EventSource and the browser’s', () => {
  it('read every case of the format alike, and ask again with the same last event ID', async (t) => {
    const page = await newPage(t);
    const asked = new Map<string, (string | undefined)[]>();
    formatCases.forEach(({ stream }, index) => {
      routes.set(`/format/${index}`, (req, res, url) => {
        const key = `${index} ${url.searchParams.get('reader')}`;
        const ids = asked.get(key) ?? [];
        asked.set(key, ids);
        ids.push(req.headers['last-event-id'] as string | undefined);
        if (ids.length > 1) res.writeHead(204).end();
        else drip(res, bytesOf(stream), () => 1 + (index % 3));
      });
    });
    const types = [...new Set(formatCases.flatMap(({ reads }) => reads.map(([type]) => type)))];
    const urls = formatCases.map((_, index) => `/format/${index}`);
    const read = (reader: Reader) =>
      page.evaluate((a) => window.sluice.readUntilClosed(a), { reader, urls, types });
    const [native, ours] = await Promise.all(READERS.map(read));
    formatCases.forEach(({ name, reads, stream }, index) => {
      assert.deepEqual(native![index], reads, `the browser: ${name}`);
      assert.deepEqual(ours![index], reads, `ours: ${name}`);
      const [theirId, ourId] = READERS.map((reader) => asked.get(`${index} ${reader}`)![1]);
      assert.equal(ourId, theirId, name);
      const { lastEventId } = readByTheStandard(stream);
      assert.equal(Buffer.from(ourId ?? '', 'latin1').toString(), lastEventId.trim(), name);
    });
  });

  it('read hostile streams alike, however these are cut', async (t) => {
    const page = await newPage(t);
    const piece = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.constantFrom('data:', 'data: ', 'data', 'id:', 'event: ', 'event:x', ':', 'x'),
      },
      { weight: 6, arbitrary: fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n') },
      { weight: 3, arbitrary: fc.constantFrom(' ', '\0', '17', 'é', '水', '🚪', '\uFEFF', '\u2028') },
      { weight: 2, arbitrary: fc.constantFrom(0xff, 0xc0, 0xe2, 0x82, 0xf0, 0x9f, 0x80, 0xed, 0xa0) },
    );
    const stream = fc
      .array(piece, { minLength: 1, maxLength: 30 })
      .map((parts) =>
        Buffer.concat(parts.map((p) => (typeof p === 'number' ? Buffer.of(p) : Buffer.from(p)))),
      );
    // The same streams each time, for the browser is not ours to mend; SEED= looks at others.
    const seed = Number(process.env.SEED ?? 1);
    const streams = fc.sample(fc.tuple(stream, fc.integer({ min: 1, max: 20 })), { numRuns: 400, seed });
    const types = new Set(streams.flatMap(([bytes]) => readByTheStandard(bytes).reads.map(([type]) => type)));
    routes.set('/hostile', (_, res, url) => {
      const [bytes, size] = streams[Number(url.searchParams.get('n'))]!;
      drip(res, bytes, () => size);
    });
    const urls = streams.map((_, n) => `/hostile?n=${n}`);
    const arg = { urls, types: [...types] };
    const read = (reader: Reader) =>
      page.evaluate((a) => window.sluice.readUntilError(a), { ...arg, reader });
    const [native, ours] = await Promise.all(READERS.map(read));
    streams.forEach(([bytes], n) => {
      const { reads } = readByTheStandard(bytes);
      const where = `SEED=${seed}, stream ${n}: ${JSON.stringify(bytes.toString('latin1'))}`;
      assert.deepEqual(ours![n]!.reads, reads, `ours, ${where}`);
      // Where a byte order mark has the first line to itself, this browser and the standard part ways.
      if (/^\u{FEFF}[\r\n]/u.test(bytes.toString())) return;
      assert.deepEqual(native![n]!.reads, reads, `the browser, ${where}`);
    });
  });

  it('give up, or do not, after the same answers', async (t) => {
    const page = await newPage(t);
    const answers: [string, (res: ServerResponse) => void][] = [
      ...[204, 205, 210, 299, 304, 400, 403, 404, 410, 429, 500, 503].map(
        (status): [string, (res: ServerResponse) => void] => [
          `${status}`,
          (res) => res.writeHead(status, eventStream).end(),
        ],
      ),
      ['wrong type', (res) => res.writeHead(200, { 'content-type': 'text/plain' }).end('data: a\n\n')],
      ['no type', (res) => res.writeHead(200).end('data: a\n\n')],
      [
        'parameters',
        (res) =>
          res.writeHead(200, { 'content-type': 'text/event-stream; a=b;charset=UTF-8' }).end('data: é\n\n'),
      ],
      ['upper case', (res) => res.writeHead(200, { 'content-type': 'TEXT/EVENT-STREAM' }).end('data: a\n\n')],
      ['end', (res) => res.writeHead(200, eventStream).end('data: a\n\n')],
      [
        'cut', // No event: fetch may drop what had arrived when its connection breaks; resuming brings that again.
        (res) => res.writeHead(200, eventStream).write(': hello\n\n', () => res.socket!.destroy()),
      ],
      ['no answer', (res) => res.socket!.destroy()],
      ...[301, 302, 303, 307, 308].map((status): [string, (res: ServerResponse) => void] => [
        `redirect ${status}`,
        (res) => res.writeHead(status, { location: '/answer?n=end' }).end(),
      ]),
    ];
    routes.set('/answer', (_, res, url) => new Map(answers).get(url.searchParams.get('n')!)!(res));
    const urls = answers.map(([name]) => `/answer?n=${encodeURIComponent(name)}`);
    const read = (reader: Reader) =>
      page.evaluate((a) => window.sluice.readUntilError(a), { reader, urls, types: [] });
    const [native, ours] = await Promise.all(READERS.map(read));
    for (const [n, [name]] of answers.entries()) assert.deepEqual(ours![n], native![n], name);
    assert.ok(native!.some(({ closed }) => closed) && native!.some(({ closed }) => !closed));
  });

  it('read alike whatever encode accepts', async (t) => {
    const page = await newPage(t);
    const types = ['tick', 'a b', 'é:x', '0', ' spaced '];
    const line = fc
      .string({ unit: 'grapheme', maxLength: 12 })
      .filter((s) => s.isWellFormed() && !/[\r\n]/.test(s));
    const text = fc.oneof(
      line,
      fc
        .array(fc.oneof(line, fc.constantFrom('\n', '\r', '\r\n', ' ', ':')), { maxLength: 5 })
        .map((a) => a.join('')),
    );
    // A name needs data: no reader dispatches an event without.
    const event = fc
      .record(
        {
          event: fc.constantFrom(...types),
          data: text,
          id: fc.string({
            unit: fc.integer({ min: 0x21, max: 0x7e }).map((c) => String.fromCharCode(c)),
            maxLength: 12,
          }),
          comment: text,
        },
        { requiredKeys: [] },
      )
      .filter((one) => one.event === undefined || one.data !== undefined);
    // The same streams each time, for the browser is not ours to mend; SEED= looks at others.
    const seed = Number(process.env.SEED ?? 1);
    const events: ServerSentEvent[] = fc.sample(event, { numRuns: 100_000, seed });
    const stream = events.map(encode).join('');
    const expected: Read[] = [];
    let lastEventId = '';
    for (const { event, data, id } of events) {
      lastEventId = id ?? lastEventId;
      if (data !== undefined) expected.push([event ?? 'message', data.replace(/\r\n?/g, '\n'), lastEventId]);
    }
    routes.set('/encoded', (_, res) => res.writeHead(200, eventStream).end(stream));
    for (const reader of READERS) {
      const [reading] = await page.evaluate((a) => window.sluice.readUntilError(a), {
        reader,
        urls: ['/encoded'],
        types,
      });
      assert.equal(reading!.reads.length, expected.length, reader);
      for (const [n, read] of reading!.reads.entries()) {
        assert.deepEqual(read, expected[n], `${reader}, SEED=${seed}, event ${n}`);
      }
    }
  });
});

describe('in a browser', () => {
  it('connect keeps its place in localStorage across a reload', async (t) => {
    const asked: unknown[] = [];
    routes.set('/place', (req, res) => {
      asked.push(req.headers['last-event-id']);
      res.writeHead(200, eventStream).write(frame(asked.length));
    });
    const page = await newPage(t);
    assert.equal(await page.evaluate(() => window.sluice.readOne('/place')), '1');
    await page.reload();
    assert.equal(await page.evaluate(() => window.sluice.readOne('/place')), '2');
    assert.deepEqual(asked, [undefined, idOf(1)]);
  });

  it('ten tabs share one connection, and another takes over where the leader was', async (t) => {
    let connections = 0;
    const open = new Set<ServerResponse>();
    routes.set('/shared', (req, res) => {
      connections++;
      open.add(res);
      let seq = seqOf(req.headers['last-event-id']);
      res.writeHead(200, eventStream);
      const timer = setInterval(() => res.write(frame(++seq)), 10);
      res.on('close', () => {
        open.delete(res);
        clearInterval(timer);
      });
    });
    const pages: Page[] = [];
    for (let n = 0; n < 10; n++) {
      const page = await newPage(t);
      await page.evaluate(() => window.sluice.share('/shared'));
      pages.push(page);
    }
    for (const page of pages) await page.waitForFunction(() => window.sluice.heard.length >= 5);
    assert.deepEqual([connections, open.size], [1, 1]);
    await pages[0]!.close();
    const before = await pages[1]!.evaluate(() => window.sluice.heard.length);
    for (const page of pages.slice(1)) {
      await page.waitForFunction((count) => window.sluice.heard.length >= count, before + 20);
      const heard = (await page.evaluate(() => window.sluice.heard)).map(Number);
      assert.deepEqual(
        heard,
        heard.map((_, n) => heard[0]! + n),
      );
    }
    assert.deepEqual([connections, open.size], [2, 1]);
  });
});

describe('a page of another origin', () => {
  for (const reader of ['connect', 'EventSource'] as const) {
    it(`gets no body by a redirect of ${reader}`, async (t) => {
      const other = await serve(t, (_, res) => {
        res.writeHead(200, { ...eventStream, 'access-control-allow-origin': '*' }).end('data: x\n\n');
      });
      routes.set('/away', (_, res) => res.writeHead(307, { location: other.url }).end());
      const page = await newPage(t);
      const code = await page.evaluate((one) => window.sluice.codeAfter(one, '/away'), reader);
      assert.equal(code, 'ERR_SSE_REDIRECT');
      assert.equal(other.requests.length, 0);
    });
  }

  const heard = (page: Page, count: number) =>
    page.waitForFunction((expected) => window.sluice.across.length === expected, count);

  for (const reader of ['connect', 'EventSource'] as const) {
    for (const parameter of [undefined, 'lastEventId']) {
      const how = parameter === undefined ? 'by the header' : 'by the query';
      it(`reads our server with ${reader}, resumes ${how} and ends at a 204`, async (t) => {
        const hub = new Hub();
        const events = serveEvents(hub);
        const allow = cors({ origins: [new URL(server.url).origin] });
        const other = await serve(t, (req, res) => allow(req, res, () => events(req, res)));
        const page = await newPage(t);
        const url = `${other.url}?topic=a&from=earliest`;
        hub.publish('a', { data: 'first' });
        const reading = page.evaluate(
          ([one, address, name]) => window.sluice.readAcross(one, address, name),
          [reader, url, parameter] as const,
        );
        await heard(page, 1);
        other.server.closeAllConnections();
        hub.publish('a', { data: 'second' });
        await heard(page, 2);
        other.server.closeAllConnections();
        hub.end('a');
        await reading;
        assert.deepEqual(await page.evaluate(() => window.sluice.across), ['first', 'second']);
        const preflights = other.requests.filter(({ method }) => method === 'OPTIONS').length;
        assert.equal(preflights > 0, parameter === undefined);
      });
    }

    it(`reads a plain server with ${reader} that answers no preflight, and resumes by the query`, async (t) => {
      const other = await serve(t, (req, res, attempt) => {
        if (req.method !== 'GET') return void res.socket?.destroy();
        res.setHeader('access-control-allow-origin', '*');
        if (attempt === 3) return void res.writeHead(204).end();
        const after = new URL(String(req.url), other.url).searchParams.get('place');
        res.writeHead(200, eventStream).end(frame(seqOf(after ?? undefined) + 1));
      });
      const page = await newPage(t);
      await page.evaluate(([one, address]) => window.sluice.readAcross(one, address, 'place'), [
        reader,
        `${other.url}?topic=a`,
      ] as const);
      assert.deepEqual(await page.evaluate(() => window.sluice.across), ['1', '2']);
      assert.deepEqual(
        other.requests.map(({ method, url }) => `${method} ${url}`),
        ['GET /?topic=a', `GET /?topic=a&place=${idOf(1)}`, `GET /?topic=a&place=${idOf(2)}`],
      );
    });
  }
});
