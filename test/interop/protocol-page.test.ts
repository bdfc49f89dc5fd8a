// Reads a server with a client in Python that was written from docs/protocol.md alone.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createSseServer, type SseServer, type SseServerOptions } from '../../lib/server.ts';
import { kept } from './helpers/children.ts';

const program = fileURLToPath(new URL('helpers/reader.py', import.meta.url));

type Said = Readonly<Record<string, unknown>>;

interface Python {
  readonly said: Said[];
  /** Waits until it has said something for which this is true. */
  until(condition: (said: Said) => boolean): Promise<Said>;
  cut(): void;
  leave(): void;
  readonly over: Promise<unknown>;
  readonly data: unknown[];
}

function startPython(t: TestContext, ...args: string[]): Python {
  const child = kept(spawn('python3', [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }));
  t.after(() => child.kill('SIGKILL'));
  const said: Said[] = [];
  const lines = createInterface(child.stdout);
  lines.on('line', (line) => said.push(JSON.parse(line)));
  const over = once(child, 'close');
  return {
    said,
    over,
    async until(condition) {
      for (;;) {
        const found = said.find(condition);
        if (found !== undefined) return found;
        const isOver = await Promise.race([once(lines, 'line').then(() => false), over.then(() => true)]);
        assert.ok(!isOver || said.some(condition), `it has ended: ${JSON.stringify(said)}`);
      }
    },
    cut: () => child.stdin.write('cut\n'),
    leave: () => child.kill('SIGKILL'),
    get data() {
      return said.filter(({ event }) => event !== undefined).map(({ data }) => data);
    },
  };
}

async function startServer(
  t: TestContext,
  options: SseServerOptions = {},
): Promise<SseServer & { url: string }> {
  const sse = createSseServer({ ...options, hub: { retry: 0, history: { maxEvents: 3 }, ...options.hub } });
  const url = await sse.listen(0);
  t.after(() => sse.close({ deadline: 100 }));
  return Object.assign(sse, { url });
}

/** A server that answers its requests in turn: with a stream, or as a proxy without its server. Then it sends 204. */
async function answering(t: TestContext, answers: (string | undefined)[]): Promise<string> {
  let asked = 0;
  const server = createServer((_req, res) => {
    if (asked >= answers.length) return res.writeHead(204).end();
    const stream = answers[asked++];
    if (stream === undefined) return res.writeHead(502, { 'content-type': 'text/html' }).end('<h1>502</h1>');
    return res.writeHead(200, { 'content-type': 'text/event-stream' }).end(stream);
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as { port: number }).port}/`;
}

const isData =
  (wanted: string) =>
  ({ data }: Said) =>
    data === wanted;
const isReady = ({ ready }: Said) => ready !== undefined;

describe('a client that was written from docs/protocol.md', { timeout: 120_000 }, () => {
  it('resumes after each cut, and ends with its topic', async (t) => {
    const { hub, url } = await startServer(t);
    const python = startPython(t, `${url}/events?topic=news&topic=other`);
    await python.until(isReady);
    for (let n = 1; n <= 5; n++) {
      const cut = hub.publish('news', { data: `event ${n}` });
      await python.until(({ position }) => position === cut);
      python.cut();
      // It follows the order when the next bytes come, and is away then.
      const away = hub.publish('other', { data: `a\nb ${n}` });
      await python.until(({ position }) => position === away);
    }
    hub.end('news');
    hub.end('other');
    await python.until(({ end }) => end !== undefined);
    await python.over;
    const expected = [1, 2, 3, 4, 5].flatMap((n) => [`event ${n}`, `a\nb ${n}`]);
    assert.deepEqual(python.data, expected);
    assert.ok(python.said.filter(isReady).length > 1, 'it has come back');
    assert.equal(
      python.said.some(({ gap }) => gap !== undefined),
      false,
    );

    const late = startPython(t, `${url}/events?topic=news&topic=other`, hub.position);
    await late.over;
    assert.deepEqual(late.said, [{ end: 204 }]);
  });

  it('is told what it lost, by the header and by the query', async (t) => {
    const { hub, url } = await startServer(t);
    const [first = ''] = [1, 2, 3, 4, 5, 6].map((n) => hub.publish('news', { data: `event ${n}` }));
    const expected = { gap: 'evicted', start: first, topics: ['news'] };
    for (const args of [
      [`${url}/events?topic=news`, first],
      [`${url}/events?topic=news&lastEventId=${first}`],
    ]) {
      const python = startPython(t, ...args);
      await python.until(isData('event 6'));
      const { to, ...gap } = await python.until(({ gap }) => gap !== undefined);
      assert.deepEqual(gap, expected);
      assert.equal(to, first.replace(/-1$/, '-3'));
      assert.deepEqual(python.data, ['event 4', 'event 5', 'event 6']);
    }
  });

  it('is told of each of several gaps in a row', async (t) => {
    const { hub, url } = await startServer(t);
    const first = hub.publish('news', { data: 'first' });
    for (let n = 1; n <= 6; n++)
      for (const topic of ['news', 'other']) hub.publish(topic, { data: `${topic} ${n}` });
    const python = startPython(t, `${url}/events?topic=news&topic=other`, first);
    await python.until(isData('other 6'));
    const gaps = python.said.filter(({ gap }) => gap !== undefined);
    assert.deepEqual(gaps.map(({ topics }) => topics).sort(), [['news'], ['other']]);
    assert.equal(python.data.length, 6);
  });

  it('drops an event that it has had, and none without an id of its own', async (t) => {
    const url = await answering(t, [
      'retry: 0\nid: 5-2\ndata: a\n\ndata: b\n\nid: 5-1\ndata: again\n\nid: 5-3\ndata: c\n\ndata: d\n\nid: 6-1\ndata: e\n\n',
    ]);
    const python = startPython(t, url);
    await python.over;
    assert.deepEqual(python.data, ['a', 'b', 'c', 'd', 'e']);
  });

  it('comes back after the answer of a proxy, which is no JSON', async (t) => {
    const url = await answering(t, [undefined, 'retry: 0\ndata: hello\n\n']);
    const python = startPython(t, url);
    await python.over;
    assert.deepEqual(python.said, [
      { refused: 502, word: null },
      { event: 'message', data: 'hello', id: '' },
      { end: 204 },
    ]);
  });

  it('is told of another life of the server, and goes on there', async (t) => {
    const { hub, url } = await startServer(t);
    for (const [position, reason, start] of [
      ['1-17', 'unknown-epoch', '1-17'],
      ['what?', 'malformed', null],
    ] as const) {
      const python = startPython(t, `${url}/events?topic=news`, position);
      const gap = await python.until(({ gap }) => gap !== undefined);
      assert.deepEqual([gap.gap, gap.start], [reason, start]);
      hub.publish('news', { data: `after ${reason}` });
      await python.until(isData(`after ${reason}`));
    }
  });

  it('takes the position of sluice:ready: a cut before its first event loses nothing', async (t) => {
    const { hub, url } = await startServer(t);
    const python = startPython(t, `${url}/events?topic=news`);
    await python.until(isReady);
    // Both in one turn, so it is away then.
    hub.kick(() => true);
    hub.publish('news', { data: 'while it was away' });
    await python.until(isData('while it was away'));
  });

  it('takes the position of a gap: a cut after it loses nothing more, and it is told once', async (t) => {
    const { hub, url } = await startServer(t);
    const python = startPython(t, `${url}/events?topic=news`, '1-17');
    await python.until(({ gap }) => gap !== undefined);
    hub.kick(() => true);
    hub.publish('news', { data: 'while it was away' });
    await python.until(isData('while it was away'));
    assert.equal(python.said.filter(({ gap }) => gap !== undefined).length, 1);
  });

  it('takes the position of a heartbeat', async (t) => {
    const { hub, url } = await startServer(t, { heartbeat: { interval: 1000 } });
    const python = startPython(t, `${url}/events?topic=quiet`);
    await python.until(isReady);
    const moved = hub.publish('other', { data: 'not for it' });
    await python.until(({ position }) => position === moved);
    assert.deepEqual(python.data, []);
  });

  for (const refusal of ['status', 'event-stream'] as const) {
    it(`comes back after a refusal by ${refusal}`, async (t) => {
      const limits = { maxConnections: 1, refusal, retryDelay: 1 };
      const { hub, url } = await startServer(t, { limits });
      const first = startPython(t, `${url}/events?topic=news`);
      await first.until(isReady);
      const second = startPython(t, `${url}/events?topic=news`);
      const { word } = await second.until(({ refused }) => refused !== undefined);
      assert.equal(word, 'server-full');
      first.leave();
      await second.until(isReady);
      hub.publish('news', { data: 'in' });
      await second.until(isData('in'));
    });
  }

  it('reads a stream however its lines end and wherever it is cut', async (t) => {
    const lines = [
      '\ufeff: a comment',
      'retry: 0',
      'id: x1',
      '',
      'data:a',
      'data: b',
      'data',
      'event: kind',
      'unknown: field',
      '',
      'id: x\u00002',
      'data: ü😀',
      '',
      'id: x3',
    ];
    for (const end of ['\n', '\r\n', '\r']) {
      const asked: unknown[] = [];
      const server = createServer(async (req, res) => {
        asked.push(req.headers['last-event-id']);
        if (asked.length > 1) return void res.writeHead(204).end();
        res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
        for (const byte of Buffer.from(lines.join(end))) {
          if (!res.write(Buffer.of(byte))) await once(res, 'drain');
        }
        res.end();
      }).listen(0, '127.0.0.1');
      t.after(() => server.close());
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const python = startPython(t, `http://127.0.0.1:${port}/`);
      await python.over;
      assert.deepEqual(python.said, [
        { position: 'x1' },
        { event: 'kind', data: 'a\nb\n', id: 'x1' },
        { event: 'message', data: 'ü😀', id: 'x1' },
        { end: 204 },
      ]);
      assert.deepEqual(asked, [undefined, 'x1']);
    }
  });
});
