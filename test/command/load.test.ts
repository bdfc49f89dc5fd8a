import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { addressesOf } from '../../lib/command/load.ts';
import { Histogram } from '../../lib/command/load-histogram.ts';
import { SeenEvents, StreamRecord } from '../../lib/command/load-ids.ts';
import type { LoadReport } from '../../lib/command/load-report.ts';
import { countIn, Tally } from '../../lib/command/load-tally.ts';
import { encode } from '../../lib/encode.ts';
import { gapEvent, readyEvent, refusedEvent } from '../../lib/protocol.ts';
import { createSseServer, type SseServerOptions } from '../../lib/server.ts';
import { run } from '../helpers/command.ts';
import { cutAfter, eventStream, frame, idOf, open, seqOf } from '../helpers/misbehaving.ts';
import { listen, serve } from '../helpers/server.ts';

interface Loaded extends LoadReport {
  readonly code: number;
  /** Without those that say that this process was too slow, which depends on the machine. */
  readonly faults: readonly string[];
}

async function load(argv: readonly string[], signal?: AbortSignal): Promise<Loaded> {
  const { code, stdout, stderr } = await run('load', ['--json', ...argv], { signal });
  assert.ok(stdout !== '', stderr);
  const result = JSON.parse(stdout) as LoadReport;
  assert.equal(code, result.problems.length === 0 ? 0 : 1);
  return { code, ...result, faults: result.problems.filter((problem) => !problem.includes('too slow')) };
}

async function ours(t: TestContext, options: SseServerOptions = {}) {
  const server = createSseServer(options);
  const url = await server.listen(0);
  t.after(() => server.close({ deadline: 0 }));
  const publish = (): void => void server.hub.publish('news', { data: `{"at":${Date.now() - 5000}}` });
  const timer = setInterval(publish, 20);
  t.after(() => clearInterval(timer));
  return { url: `${url}/events?topic=news`, server };
}

/** Sends event after event to each reader, all at the same pace; `write` gets the number of the reader. */
async function paced(
  t: TestContext,
  write: (res: ServerResponse, seq: number, reader: number, req: IncomingMessage) => void,
) {
  const readers: [ServerResponse, number, IncomingMessage][] = [];
  const { url } = await serve(t, (req, res, reader) => {
    open(res);
    readers.push([res, reader, req]);
  });
  let seq = 0;
  const timer = setInterval(() => {
    if (readers.length < 4) return;
    seq++;
    for (const [res, reader, req] of readers) if (!res.destroyed) write(res, seq, reader, req);
  }, 20);
  t.after(() => clearInterval(timer));
  return url;
}

const FOUR = ['--connections', '4', '--duration', '2500ms'];

describe('sluice load, with the reference server', { concurrency: 4 }, () => {
  it('opens the streams, counts what they get, and finds nothing lost', async (t) => {
    const { url, server } = await ours(t);
    const report = await load(['--connections', '20', '--duration', '2s', '--rate', '100', url]);
    assert.deepEqual(report.faults, []);
    assert.equal(report.ended, 'duration');
    assert.equal(report.url, url);
    const { streams, ids, events } = report;
    assert.deepEqual(
      { ...streams, openedPerSecond: 0 },
      {
        ...{ asked: 20, started: 20, opened: 20, open: 20, over: 0, failed: 0, openedPerSecond: 0 },
        ...{ disconnects: 0, reconnects: 0, refused: {}, failures: {} },
      },
    );
    assert.ok(streams.openedPerSecond > 0 && streams.openedPerSecond <= 110, `${streams.openedPerSecond}`);
    assert.equal(report.head.count, 20);
    assert.equal(report.firstEvent.count, 20);
    assert.equal(report.interArrival.count, events.count - 20);
    assert.ok(events.count > ids.compared && ids.compared > 10, JSON.stringify(report));
    assert.ok(ids.compared <= server.hub.stats.published);
    assert.deepEqual([ids.lost, ids.duplicates, ids.cannotTell, ids.isComplete], [0, 0, null, true]);
    assert.equal(report.latency, null);
    const { p50, p90, p99, max } = report.interArrival;
    assert.ok(p50! <= p90! && p90! <= p99! && p99! <= max!, JSON.stringify(report.interArrival));
  });

  it('measures how old events are by a member of their data', async (t) => {
    const { url } = await ours(t);
    const { latency, events } = await load([...FOUR, '--time', 'at', url]);
    assert.equal(latency?.count, events.count);
    // They are published as 5 s old.
    assert.ok(latency!.p50! >= 5000, JSON.stringify(latency));
    const other = await load([...FOUR, '--time', 'constructor', url]);
    assert.equal(other.latency?.withoutTime, other.events.count);
    assert.equal(other.latency?.p50, null);
  });

  it('adds topics and sends headers and the token, and the report has none of them', async (t) => {
    const { url } = await ours(t, { subscribeTokens: ['secret'] });
    const plain = url.replace('?topic=news', '');
    const refused = await load([...FOUR, '--topic', 'news', plain]);
    assert.equal(refused.code, 1);
    assert.deepEqual(refused.streams.refused, { 401: 4 });
    assert.equal(refused.ended, 'over');
    assert.match(refused.faults.join(), /^4 of 4 streams failed: the server answered 401/);
    const taken = await load([...FOUR, '--topic', 'news', '--token', 'secret', `${plain}?user=mine`]);
    assert.equal(taken.streams.opened, 4, JSON.stringify(taken));
    assert.equal(taken.url, `${plain}?user=*&topic=news`);
  });

  it('counts gaps as losses', async (t) => {
    const { url } = await ours(t);
    const report = await load([...FOUR, `${url}&lastEventId=7-7`]);
    assert.equal(report.events.gaps, 4);
    assert.deepEqual(report.faults, ['4 gaps say that events are lost']);
    assert.equal(report.ids.lost, 0);
  });

  it('says that ids cannot tell where streams do not get all events', async (t) => {
    const { url } = await ours(t);
    const report = await load([...FOUR, `${url}&conflate=1`]);
    assert.equal(report.ids.cannotTell, 'with conflate, streams do not get all events');
    assert.deepEqual(report.faults, []);
  });
});

describe('sluice load, with servers that', { concurrency: 4 }, () => {
  it('lose an event for some readers: says how many, and of which stream', async (t) => {
    const url = await paced(t, (res, seq, reader) => {
      if (!(reader === 2 && seq === 5) && !(reader === 4 && seq % 10 === 6 && seq < 20))
        res.write(frame(seq));
    });
    const { ids, faults, code } = await load([...FOUR, url]);
    assert.equal(code, 1);
    assert.equal(ids.lost, 3);
    assert.equal(ids.duplicates, 0);
    assert.deepEqual(faults, ['3 events are lost, and no gap says so']);
    assert.match(
      ids.examples.join('\n'),
      /^stream \d lacks \d of the \d+ events after \d+-0 up to \d+-\d+\n/,
    );
  });

  it('send an event twice: counts each', async (t) => {
    const url = await paced(t, (res, seq, reader) => {
      res.write(frame(seq));
      if (reader === 3 && seq % 10 === 5 && seq < 20) res.write(frame(seq - 1) + frame(seq));
    });
    const { ids, faults } = await load([...FOUR, url]);
    assert.deepEqual([ids.lost, ids.duplicates], [0, 4]);
    assert.deepEqual(faults, ['4 events came twice or out of order']);
  });

  it('announce what a stream lacks: no loss without a gap', async (t) => {
    const gap = encode(gapEvent(idOf(9), { reason: 'evicted', from: idOf(4), to: idOf(9), topics: [] }));
    const url = await paced(t, (res, seq, reader) => {
      if (reader !== 2 || seq < 5 || seq > 9) res.write(frame(seq));
      else if (seq === 9) res.write(gap);
    });
    const { ids, events } = await load([...FOUR, url]);
    assert.deepEqual([ids.lost, ids.duplicates, events.gaps], [0, 0, 1]);
  });

  it('stop sending to a stream: says that it is behind', async (t) => {
    const url = await paced(t, (res, seq, reader) => {
      if (reader !== 1 || seq < 5) res.write(frame(seq));
    });
    const { ids } = await load(['--connections', '4', '--duration', '4s', url]);
    assert.deepEqual([ids.lost, ids.behind], [0, 1]);
  });

  it('have other ids, or none: says that ids cannot tell', async (t) => {
    const url = await paced(t, (res, seq) => res.write(`id: e${seq}\ndata: x\n\n`));
    const { ids, faults, events } = await load([...FOUR, url]);
    assert.equal(ids.cannotTell, 'they are not of the form EPOCH-SEQ');
    assert.equal(ids.withoutId, events.count);
    assert.deepEqual(faults, []);
    const silent = await serve(t, (_, res) => open(res));
    assert.equal((await load([...FOUR, silent.url])).ids.cannotTell, 'there were no events');
  });

  it('refuse some: counts them by status, and tries again where that may help', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => {
      if (attempt <= 2) res.writeHead(503, { 'retry-after': '0' }).end();
      else if (attempt === 3) res.writeHead(404).end();
      else open(res, encode(readyEvent(idOf(1), ['a'])));
    });
    const { streams, faults, ended } = await load(['--connections', '4', '--duration', '4s', url]);
    assert.deepEqual(streams.refused, { 404: 1, 503: 2 });
    assert.deepEqual([streams.opened, streams.open, streams.failed], [3, 3, 1]);
    assert.equal(ended, 'duration');
    assert.equal(faults.length, 1);
    assert.equal(requests.length, 6);
  });

  it('refuse within a stream: that is no stream', async (t) => {
    const { url } = await serve(t, (_, res) => {
      res
        .writeHead(200, eventStream)
        .end(encode(refusedEvent(60_000, { error: 'server-full', message: 'No.' })));
    });
    const { streams, faults } = await load([...FOUR, url]);
    assert.deepEqual(streams.refused, { 'server-full': 4 });
    assert.deepEqual([streams.opened, streams.open, streams.failed, streams.disconnects], [0, 0, 4, 0]);
    assert.deepEqual(faults, ['4 of 4 streams failed: the server refused the stream: No.']);
  });

  it('cut: the stream resumes with its last id, and nothing is lost', async (t) => {
    const history: number[] = [];
    const { url } = await serve(t, (req, res) => {
      const from = seqOf(req.headers['last-event-id']);
      open(res, `retry: 10\n\n${history.slice(from).map(frame).join('')}`);
      let left = 10;
      const timer = setInterval(() => {
        const seq = history.length;
        if (sent >= seq) return;
        res.write(history.slice(sent).map(frame).join(''));
        sent = seq;
        if (--left === 0) res.destroy();
      }, 10);
      let sent = history.length;
      res.once('close', () => clearInterval(timer));
    });
    const timer = setInterval(() => history.push(history.length + 1), 20);
    t.after(() => clearInterval(timer));
    const { streams, ids, faults } = await load(['--connections', '4', '--duration', '3s', url]);
    assert.ok(streams.disconnects >= 4 && streams.reconnects >= 4, JSON.stringify(streams));
    assert.deepEqual([ids.lost, ids.duplicates], [0, 0]);
    assert.deepEqual(faults, []);
  });

  it('cut each stream at once: it comes back as late as a browser', async (t) => {
    const { url, requests } = await serve(t, (_, res) => cutAfter(res, frame(1)));
    const { streams } = await load([...FOUR, url]);
    assert.deepEqual([streams.disconnects, streams.reconnects, requests.length], [4, 0, 4]);
  });

  it('cut each stream at once and ask for a return at once: --rate holds for that as well', async (t) => {
    const { url, requests } = await serve(t, (_, res) => cutAfter(res, `retry: 0\n${frame(1)}`));
    const { duration } = await load(['--connections', '8', '--rate', '8', '--duration', '3s', url]);
    assert.ok(requests.length > 8, `${requests.length}`);
    assert.ok(requests.length <= 1 + (duration / 1000) * 8, `${requests.length} in ${duration}`);
  });

  it('answer late: says that streams were not opened', async (t) => {
    const { url } = await serve(t, () => {});
    const { code, faults, streams } = await load(['--connections', '4', '--duration', '300ms', url]);
    assert.deepEqual([code, streams.opened, streams.failed], [1, 0, 0]);
    assert.match(faults.join(), /^4 of 4 streams had no answer before the end: /);
  });

  it('are over: ends with them', async (t) => {
    const { url } = await serve(t, (_, res) => res.writeHead(204).end());
    const { streams, ended, faults } = await load(['--connections', '3', '--duration', '1h', url]);
    assert.deepEqual([streams.over, streams.opened, ended], [3, 0, 'over']);
    assert.deepEqual(faults, []);
  });

  it('redirect to another server: it is not followed', async (t) => {
    const other = await serve(t, (_, res) => open(res));
    const { url, requests } = await serve(t, (_, res) => res.writeHead(307, { location: other.url }).end());
    const { streams } = await load([...FOUR, url]);
    assert.deepEqual(streams.failures, { ERR_SSE_REDIRECT: 4 });
    assert.deepEqual([requests.length, other.requests.length], [4, 0]);
  });

  it('do not answer: says so, and ends in time', async (t) => {
    const port = await listen(t, createServer());
    const { streams, faults, generator } = await load([...FOUR, `http://127.0.0.1:${port}/`]);
    assert.deepEqual([streams.failed, streams.opened], [4, 0]);
    assert.deepEqual(faults, ['4 of 4 streams failed: no answer']);
    assert.equal(generator.holding, null);
  });
});

describe('sluice load', { concurrency: 4 }, () => {
  it('says in lines of text what it measured, with a chart and its progress', async (t) => {
    const { url } = await ours(t);
    const { code, stdout, stderr } = await run('load', ['--connections', '3', '--duration', '5500ms', url]);
    const slow = stdout.includes('too slow');
    assert.equal(code, slow ? 1 : 0, stdout);
    assert.match(
      stdout,
      /^3 of 3 streams opened, [\d.]+\/s; 3 open after [\d.]+ s\n {20,}p50 +p90 +p99 +max\n/,
    );
    for (const name of ['head', 'first event', 'inter-arrival', 'own delay, 1', 'own delay, 2'])
      assert.match(stdout, new RegExp(`^${name} +[\\d.]+ ms +[\\d.]+ ms +[\\d.]+ ms +[\\d.]+ ms`, 'm'));
    assert.match(stdout, /^\d+ different events compared: 0 lost, 0 twice$/m);
    assert.match(stdout, /^first event:\n( +≤ .* \d+( #+)?\n)+/m);
    assert.match(stdout, /\n(no problem|problem: .*)\n$/);
    assert.match(stderr, /^(sluice load: \d+ s: 3 of 3 streams open, \d+ events\n)+$/);
  });

  it('redraws one line on a terminal, and removes it', async (t) => {
    const { url } = await ours(t);
    const { stderr } = await run('load', ['--duration', '1500ms', '--connections', '2', url], {
      isTTY: true,
    });
    assert.match(stderr, /^(\r\x1b\[Ksluice load: \d+ s: [012] of 2 streams open, \d+ events)+\r\x1b\[K$/);
  });

  it('reports what it has when it is interrupted', async (t) => {
    const { url, server } = await ours(t);
    const stop = new AbortController();
    const running = load(['--connections', '5', '--duration', '1h', url], stop.signal);
    while (server.streams.size < 5) await new Promise((resolve) => setTimeout(resolve, 10));
    while (server.hub.stats.published < 10) await new Promise((resolve) => setTimeout(resolve, 10));
    stop.abort('SIGINT');
    const { ended, streams, faults } = await running;
    assert.deepEqual([ended, streams.open, faults.length], ['interrupted', 5, 0]);
    while (server.streams.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  it('opens no more at a time than are answered, and with --rate no more in a second', async (t) => {
    let [most, opened] = [0, 0];
    const held: ServerResponse[] = [];
    const stop = new AbortController();
    // Answers once no more has come for a while: all that is sent at a time is here then, also on a slow machine.
    const answer = () => {
      for (const res of held.splice(0)) open(res);
      if (opened === 600) stop.abort('SIGINT');
    };
    let timer: NodeJS.Timeout | undefined;
    const { url } = await serve(t, (_, res) => {
      opened++;
      most = Math.max(most, held.push(res));
      clearTimeout(timer);
      timer = setTimeout(answer, 300);
    });
    const { streams } = await load(['--connections', '600', '--duration', '1m', url], stop.signal);
    assert.equal(streams.started, 600);
    assert.ok(most <= 250 && most > 100, `${most}`);
    const { url: quick } = await serve(t, (_, res) => open(res));
    const slow = await load(['--connections', '30', '--rate', '20', '--duration', '2s', quick]);
    assert.equal(slow.streams.opened, 30);
    assert.ok(slow.streams.openedPerSecond <= 21.5, `${slow.streams.openedPerSecond}`);
  });

  it('puts a load on no other machine unless that is allowed', async () => {
    for (const host of ['192.0.2.1', '[2001:db8::1]', '0.0.0.0']) {
      const { code, stderr, stdout } = await run('load', [`http://${host}:9/`]);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.match(stderr, /is not an address of loopback; --i-own-this-server allows a load on it; see/);
    }
    const url = new URL('http://both.example/');
    const here = { address: '127.0.0.1', family: 4 };
    const there = { address: '192.0.2.7', family: 4 };
    await assert.rejects(
      addressesOf(url, false, async () => [here, there]),
      /^Error: both.example is 192.0.2.7, which is not an address of loopback/,
    );
    assert.deepEqual(await addressesOf(url, true, async () => [there]), [there]);
    assert.deepEqual(await addressesOf(url, false, async () => [here]), [here]);
    assert.deepEqual(await addressesOf(new URL('http://[::1]/'), false), [{ address: '::1', family: 6 }]);
    const { streams } = await load(['--i-own-this-server', ...FOUR, 'http://127.0.0.1:9/']);
    assert.equal(streams.failed, 4);
  });

  it('connects to the addresses that it has looked up, also by name', async (t) => {
    const { url } = await ours(t);
    const { streams } = await load([...FOUR, url.replace('127.0.0.1', 'localhost')]);
    assert.equal(streams.opened, 4);
  });

  it('opens nothing where the process may have too few files open', async () => {
    const bin = fileURLToPath(new URL('../../lib/command/bin.ts', import.meta.url));
    const command = `ulimit -n 120; exec "$0" --import tsx "${bin}" load --connections 100 http://127.0.0.1:9/`;
    const child = execFile('sh', ['-c', command, process.execPath]);
    let stderr = '';
    child.stderr?.on('data', (text) => (stderr += text));
    const [code] = await once(child, 'close');
    assert.equal(code, 2, stderr);
    assert.match(
      stderr,
      /--connections 100 needs 150 open files, and this process may have 120: allow more with/,
    );
  });

  const mistakes: [argv: string[], message: RegExp][] = [
    [[], /expected one URL, got none/],
    [['a', 'b'], /expected one URL, got 2/],
    [['ftp://127.0.0.1/'], /expected an http or https URL/],
    [['--connections', '0', 'x'], /--connections must be a whole number from 1 to 15000, got "0"/],
    [['--connections', '15001', 'x'], /--connections must be a whole number from 1 to 15000, got "15001"/],
    [['--rate', '0', 'x'], /--rate must be a whole number from 1 to 15000, got "0"/],
    [['--duration', 'off', 'x'], /--duration must be a duration/],
    [['--duration', '2h', 'x'], /--duration must be at most 1h, got "2h"/],
    [['--rate', '3', 'x'], /--rate 3 opens fewer than 100 streams within --duration/],
    [['--topic', 'a b', 'x'], /--topic must be 1 to 200 characters/],
    [['--token', 'a', '--token-file', 'b', 'x'], /--token and --token-file exclude each other/],
  ];
  for (const [argv, message] of mistakes)
    it(`refuses ${argv.join(' ') || 'no URL'}`, async () => {
      const { code, stderr, stdout } = await run('load', argv);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, message);
    });
});

// By itself: it delays everything in this process.
describe('sluice load, in a process that is too slow', () => {
  it('says that the figures do not count where it was itself too slow', async (t) => {
    const { url } = await ours(t);
    const running = load([...FOUR, url]);
    const timer = setInterval(() => {
      const end = performance.now() + 120;
      while (performance.now() < end);
    }, 150);
    t.after(() => clearInterval(timer));
    const { code, problems, generator } = await running;
    assert.equal(code, 1);
    assert.equal(generator.holding?.isBottleneck, true, JSON.stringify(generator));
    // On a slow machine its being busy would do; its timers were late all the same, by 120 ms less one tick of 20.
    assert.ok(
      generator.holding.delay.max !== null && generator.holding.delay.max > 90,
      JSON.stringify(generator),
    );
    assert.match(problems.join('\n'), /this process was too slow: rates, .* do not count$/);
  });
});

describe('the histogram of sluice load', () => {
  it('has percentiles that are at most 1/32 too high, and never too low', () => {
    for (const scale of [0.001, 0.01, 1, 37, 1000]) {
      const histogram = new Histogram();
      for (let i = 1; i <= 1000; i++) histogram.record(i * scale);
      for (const [part, rank] of [
        [0.5, 500],
        [0.9, 900],
        [0.99, 990],
        [1, 1000],
      ] as const) {
        const value = histogram.percentile(part)!;
        const exact = rank * scale;
        assert.ok(value >= exact - 1e-9 && value <= exact * (1 + 1 / 32) + 0.001, `${value} for ${exact}`);
      }
      assert.equal(histogram.percentiles.max, 1000 * scale);
    }
  });

  it('takes the lower one of two for percentiles that are at most the half', () => {
    const histogram = new Histogram();
    for (const value of [0.01, 0.06]) histogram.record(value);
    assert.deepEqual(
      [0.1, 0.5, 0.51, 1].map((part) => histogram.percentile(part)),
      [0.01, 0.01, 0.06, 0.06],
    );
  });

  it('takes anything from nothing to hours, and says nothing of nothing', () => {
    const histogram = new Histogram();
    assert.deepEqual(histogram.percentiles, { count: 0, p50: null, p90: null, p99: null, max: null });
    assert.deepEqual(histogram.rows, []);
    histogram.record(-3);
    assert.deepEqual(histogram.percentiles, { count: 1, p50: 0, p90: 0, p99: 0, max: 0 });
    histogram.record(1e9);
    assert.equal(histogram.percentile(1), (2 ** 32 - 1) / 1000);
  });

  it('counts every value in exactly one row, which doubles the one before', () => {
    const histogram = new Histogram();
    for (const value of [0.07, 0.127, 0.128, 0.3, 1.9]) histogram.record(value);
    assert.deepEqual(histogram.rows, [
      { upTo: 0.128, count: 2 },
      { upTo: 0.256, count: 1 },
      { upTo: 0.512, count: 1 },
      { upTo: 1.024, count: 0 },
      { upTo: 2.048, count: 1 },
    ]);
  });
});

describe('what sluice load holds', () => {
  it('compares no more than the first events, and reports what it has found in them', () => {
    const seen = new SeenEvents(5);
    const [whole, holed] = [new StreamRecord(seen), new StreamRecord(seen)];
    for (let seq = 1; seq <= 4; seq++) {
      whole.take({ epoch: 1, seq });
      if (seq !== 2) holed.take({ epoch: 1, seq });
    }
    for (let seq = 5; seq <= 100; seq++) whole.take({ epoch: 1, seq });
    const { compared, isComplete, lost } = seen.compare([whole, holed]);
    assert.deepEqual({ compared, isComplete, lost }, { compared: 5, isComplete: false, lost: 1 });
  });

  it('is bounded where every event is of another epoch, or a server has many words for a refusal', () => {
    const seen = new SeenEvents();
    const record = new StreamRecord(seen);
    for (let i = 0; i < 200_000; i++) record.take({ epoch: i, seq: 1 });
    assert.equal(seen.isFull, true);
    assert.ok(record.pieces.length <= 100_001, `${record.pieces.length}`);
    const { refused } = new Tally(undefined);
    for (let i = 0; i < 1000; i++) countIn(refused, `reason ${i}`);
    assert.equal(refused.size, 51);
    assert.equal(refused.get('other'), 950);
  });

  it('expects of several topics what is within the gap of one of them', () => {
    const seen = new SeenEvents();
    const [whole, gapped] = [new StreamRecord(seen), new StreamRecord(seen)];
    for (let seq = 1; seq <= 10; seq++) whole.take({ epoch: 1, seq });
    gapped.take({ epoch: 1, seq: 1 });
    gapped.gap({ epoch: 1, seq: 6 });
    for (const seq of [3, 5, 7, 8, 10]) gapped.take({ epoch: 1, seq });
    const { lost, duplicates } = seen.compare([whole, gapped]);
    assert.deepEqual({ lost, duplicates }, { lost: 1, duplicates: 0 });
  });
});

describe('docs/load.md', () => {
  const readPage = () => readFileSync(new URL('../../docs/load.md', import.meta.url), 'utf8');

  it('shows the lines that the command prints', async (t) => {
    const [, shown = ''] = /<!-- output -->\n```text\n(.*?)```/s.exec(readPage()) ?? [];
    const { url } = await ours(t);
    const { stdout } = await run('load', ['--connections', '5', '--duration', '1500ms', url]);
    // Without figures, bars and what depends on the machine.
    const form = (text: string) =>
      text
        .replaceAll(/^ +≤.*\n|^problem: this process was too slow.*\n|^no problem\n/gm, '')
        .replaceAll(/[\d.]+/g, '0')
        .replaceAll(/ +/g, ' ')
        .replaceAll(/0 s\b/g, '0 ms')
        // Five streams are often open before the first timer is due.
        .replace('own delay, 0 - - - - busy', 'own delay, 0 0 ms 0 ms 0 ms 0 ms busy');
    assert.equal(form(stdout), form(shown));
  });

  it('names every option of its own, and the limits that the command has', async () => {
    const { stdout } = await run('load', ['--help']);
    const named = new Set(readPage().match(/--[a-z][a-z-]+/g));
    for (const option of [
      '--connections',
      '--rate',
      '--duration',
      '--time',
      '--i-own-this-server',
      '--json',
      '--topic',
    ]) {
      assert.ok(named.has(option), option);
      assert.ok(stdout.includes(option), option);
    }
    for (const option of named) assert.ok(stdout.includes(option), option);
  });
});
