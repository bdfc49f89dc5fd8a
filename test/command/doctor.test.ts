import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcpServer,
  type Socket,
} from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { constants, createGzip, gzipSync } from 'node:zlib';
import type { Report } from '../../lib/command/doctor.ts';
import type { Finding } from '../../lib/command/doctor-finding.ts';
import { heartbeatOf } from '../../lib/command/doctor-flow.ts';
import type { Probe } from '../../lib/command/doctor-probe.ts';
import { createSseServer, type SseServerOptions } from '../../lib/server.ts';
import { authority, cert, expired, key, leaf } from '../fixtures/tls.ts';
import { run } from '../helpers/command.ts';
import { eventStream } from '../helpers/misbehaving.ts';
import { type Handler, listen, serve } from '../helpers/server.ts';

interface Diagnosis extends Report {
  readonly code: number;
  /** The codes of problems and warnings. */
  readonly wrong: readonly string[];
  readonly of: (check: Finding['check']) => Finding;
}

async function diagnose(url: string, argv: readonly string[] = [], signal?: AbortSignal): Promise<Diagnosis> {
  const { code, stdout, stderr } = await run('doctor', ['--json', '--wait', '1500ms', ...argv, url], {
    signal,
  });
  assert.ok(stdout !== '', stderr);
  const report = JSON.parse(stdout) as Report;
  const { findings } = report;
  const wrong = findings.filter(({ state }) => state === 'warning' || state === 'problem');
  const of = (check: Finding['check']) => findings.find((finding) => finding.check === check)!;
  return { ...report, code, wrong: wrong.map((finding) => finding.code), of };
}

const CALM = { ...eventStream, 'cache-control': 'no-store' };

/** An event stream with these headers, to which `send` writes. */
function streaming(
  headers: Record<string, string>,
  send: (res: ServerResponse, req: IncomingMessage) => void,
): Handler {
  return (req, res) => {
    res.writeHead(200, { ...CALM, ...headers });
    res.flushHeaders();
    send(res, req);
  };
}

/** Writes one event, which a reader does not get again that has it. */
function one(res: ServerResponse, req: IncomingMessage): void {
  if (req.headers['last-event-id'] === undefined) res.write('id: 1\ndata: x\n\n');
}

/** Writes a text again and again until the reader leaves. */
function each(res: ServerResponse, interval: number, next: () => string): void {
  const timer = setInterval(() => {
    // It may have left before the first time.
    if (res.destroyed) clearInterval(timer);
    else res.write(next());
  }, interval);
}

async function ours(t: TestContext, options: SseServerOptions = {}) {
  const server = createSseServer(options);
  const url = await server.listen(0);
  t.after(() => server.close({ deadline: 0 }));
  const timer = setInterval(() => server.hub.publish('news', { data: 'x' }), 100);
  t.after(() => clearInterval(timer));
  return `${url}/events?topic=news`;
}

describe('sluice doctor, on a terminal', { concurrency: 4 }, () => {
  it('says one line for each finding and one for all, and exits with 0 where nothing is wrong', async (t) => {
    const { code, stdout } = await run('doctor', ['--wait', '1500ms', await ours(t)]);
    const lines = stdout.trimEnd().split('\n');
    assert.equal(code, 0, stdout);
    assert.deepEqual(
      lines.map((line) => line.replace(/^(\w+) +([\w.-]+): .*/, '$1 $2')),
      [
        ...['answer', 'http-version', 'caching', 'compression', 'timing', 'buffering', 'heartbeat', 'ending'],
        'resume',
      ]
        .map((name) => `ok ${name}`)
        .concat('nothing wrong'),
    );
  });

  it('says the cause and the cure of a problem, and exits with 1', async (t) => {
    const { url } = await serve(t, (_, res) =>
      res.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    );
    const { code, stdout } = await run('doctor', ['--wait', '1500ms', url]);
    assert.equal(code, 1);
    const [first = '', ...rest] = stdout.split('\n');
    assert.match(
      first,
      /^problem {2}content-type: 200, and .* — cause: this is a page, .* — cure: answer with /,
    );
    assert.equal(rest.at(-2), '1 problem: content-type');
  });

  it('colours the states, unless NO_COLOR is set', async (t) => {
    const { url } = await serve(t, (_, res) => res.writeHead(404).end());
    const colored = await run('doctor', ['--wait', '1s', url], { isTTY: true });
    assert.match(colored.stdout, /^\x1b\[31mproblem\x1b\[0m {2}status: /);
    assert.match(colored.stderr, /^sluice doctor: following http:.* for 1 s\n$/);
    const plain = await run('doctor', ['--wait', '1s', url], { isTTY: true, env: { NO_COLOR: '1' } });
    assert.match(plain.stdout, /^problem {2}status: /);
    assert.match((await run('doctor', ['--wait', '1s', url])).stdout, /^problem {2}status: /);
  });

  it('shows neither a secret of the URL nor what a server could do to a terminal', async (t) => {
    const message = 'no \u009b31m\u001b[2J way';
    const { url } = await serve(t, (_, res) => {
      res.writeHead(403, { 'content-type': 'application/json' }).end(JSON.stringify({ message }));
    });
    const secret = url.replace('//', '//me:hidden@');
    const { stdout, stderr } = await run('doctor', [`${secret}?ticket=abc&topic=a`], {
      isTTY: true,
      env: { NO_COLOR: '1' },
    });
    assert.doesNotMatch(`${stdout}${stderr}`, /abc|hidden|me:|[\x1b\x9b]/);
    assert.match(stdout, /the server answered 403: no /);
    assert.equal((await diagnose(`${secret}?ticket=abc&topic=a`)).url, `${url}?ticket=*&topic=a`);
  });

  it('reports what it knows when it is interrupted', async (t) => {
    const stop = new AbortController();
    const { url } = await serve(t, (req, res) => {
      streaming({}, () => res.write('id: 1\ndata: a\n\n'))(req, res, 1);
      setTimeout(() => stop.abort('SIGINT'), 300);
    });
    const { ended, code, of, measured } = await diagnose(url, ['--wait', '1h'], stop.signal);
    assert.deepEqual([ended, code], ['interrupted', 0]);
    assert.equal(of('buffering').state, 'ok');
    assert.equal(measured.events, 1);
    const dumb = await serve(t, () => setTimeout(() => late.abort('SIGINT'), 300));
    const late = new AbortController();
    const silent = await diagnose(dumb.url, ['--wait', '1h'], late.signal);
    assert.deepEqual([silent.of('answer').code, silent.code], ['interrupted', 0]);
  });

  const misuse: [string[], RegExp][] = [
    [[], /^sluice doctor: expected one URL, got none; /],
    [['http://a', 'http://b'], /^sluice doctor: expected one URL, got 2; /],
    [['ftp://a'], /^sluice doctor: expected an http or https URL, got ftp:\/\/a; /],
    [['--wait', 'off', 'http://a'], /^sluice doctor: --wait must be a duration such as .*, got "off"; /],
    [['--wait', '2h', 'http://a'], /^sluice doctor: --wait must be at most 1h, got "2h"; /],
    [['--wait', '0', 'http://a'], /^sluice doctor: --wait must be at least 100ms, got "0"; /],
    [['--credentials', 'http://a'], /^sluice doctor: --credentials needs --origin; /],
    [
      ['--origin', 'a.example', 'http://a'],
      /^sluice doctor: --origin must hold origins.* write "https:\/\/a\.example"; /,
    ],
    [['--token', 'a', '--token-file', 'b', 'http://a'], /^sluice doctor: --token and --token-file exclude/],
    [['-H', 'x', 'http://a'], /^sluice doctor: --header must be 'NAME: VALUE', got "x"; /],
    [['--max', '1', 'http://a'], /^sluice doctor: unknown option "--max"; /],
  ];
  for (const [argv, line] of misuse) {
    it(`reports the mistake and exits with 2: ${argv.join(' ') || 'no URL'}`, async () => {
      const { code, stderr, stdout } = await run('doctor', argv);
      assert.equal(code, 2);
      assert.match(stderr, line);
      assert.equal(stdout, '');
    });
  }
});

describe('sluice doctor, on what a server sends', { concurrency: 4 }, () => {
  it('sends the headers, the token and the topics that it was given, and looks like a browser', async (t) => {
    const { url, requests } = await serve(t, (_, res) => res.writeHead(204).end());
    const { wrong } = await diagnose(url, [
      '--token',
      'secret',
      '-H',
      'X-One: 1',
      '--topic',
      'a',
      '--topic',
      'b',
    ]);
    assert.deepEqual(wrong, ['no-content']);
    const { headers, url: path } = requests[0]!;
    assert.equal(path, '/?topic=a&topic=b');
    const { authorization, accept, 'x-one': one, 'user-agent': agent = '' } = headers;
    assert.deepEqual([authorization, accept, one], ['Bearer secret', 'text/event-stream', '1']);
    assert.match(agent, /^Mozilla\//);
    assert.match(headers['accept-encoding'] as string, /gzip/);
  });

  const ticking = (headers: Record<string, string> = {}): Handler =>
    streaming(headers, (res) => {
      let id = 0;
      each(res, 100, () => `data: ${++id}\n\n`);
    });
  for (const [title, headers, expected] of [
    ['an answer from a cache', { age: '17' }, 'cached'],
    ['a hit of a cache', { 'x-cache': 'HIT from cache.example' }, 'cached'],
    ['a hit of Akamai', { 'x-cache': 'TCP_HIT from a23-4.example (AkamaiGHost)' }, 'cached'],
    ['a stream that caches may keep', { 'cache-control': 'public, max-age=60' }, 'cacheable'],
  ] as const) {
    it(`says of ${title}: ${expected}`, async (t) => {
      const { url } = await serve(t, ticking(headers));
      const { wrong, of } = await diagnose(url);
      assert.deepEqual(wrong, [expected, 'no-ids']);
      assert.match(of('caching').cure ?? '', /no-store/);
    });
  }

  it('warns of events without ids, and cannot tell where there are none', async (t) => {
    const { url } = await serve(t, ticking());
    const { wrong, state, code } = await diagnose(url);
    assert.deepEqual([wrong, state, code], [['no-ids'], 'warning', 0]);
    const quiet = await serve(
      t,
      streaming({}, () => {}),
    );
    const { of, summary } = await diagnose(quiet.url);
    assert.equal(of('buffering').code, 'quiet');
    assert.match(of('buffering').seen, /^no byte in [1-9]\.\d s, so it cannot be told/);
    assert.equal(summary, 'nothing wrong; not known: quiet, heartbeat, resume');
  });

  for (const [title, piece] of [
    ['an event has no blank line', 'data: hello\n'],
    ['lines are JSON and no fields', '{"a":1}\n'],
    ['a block has no data', 'event: x\n\n'],
  ] as const) {
    it(`says that there is no event where ${title}`, async (t) => {
      const { url } = await serve(
        t,
        streaming({}, (res) => each(res, 100, () => piece)),
      );
      const { wrong, of, code } = await diagnose(url, ['--wait', '3s']);
      assert.deepEqual([wrong, code], [['no-events'], 1]);
      const [beginning] = piece.split('\n');
      assert.match(of('answer').seen, new RegExp(`^\\d+ bytes and no event; it begins with ${beginning}`));
    });
  }

  it('misses no event where only empty lines keep the connection alive', async (t) => {
    const { url } = await serve(
      t,
      streaming({}, (res) => each(res, 100, () => '\n')),
    );
    const { wrong, of } = await diagnose(url);
    assert.deepEqual(wrong, []);
    assert.equal(of('heartbeat').state, 'unknown');
  });

  it('says of an event stream whose status is not 200 that EventSource does not read it', async (t) => {
    for (const status of [201, 202, 206]) {
      const { url } = await serve(t, (_, res) => {
        res.writeHead(status, CALM).write('id: 1\ndata: x\n\n');
      });
      const { wrong, of } = await diagnose(url, ['--wait', '2s']);
      assert.deepEqual(wrong, ['status']);
      assert.equal(of('answer').seen, `${status} text/event-stream`);
    }
  });

  it('warns of a charset that Chromium does not take', async (t) => {
    for (const [charset, expected] of [
      ['utf8', ['charset', 'no-ids']],
      ['"iso-8859-1"', ['charset', 'no-ids']],
      ['UTF-8', ['no-ids']],
    ] as const) {
      const type = `text/event-stream; charset=${charset}`;
      const { url } = await serve(t, ticking({ 'content-type': type }));
      assert.deepEqual((await diagnose(url, ['--wait', '2s'])).wrong, expected);
    }
  });

  const replaying = (from: (last: number) => number): Handler =>
    streaming({}, (res, req) => {
      const last = Number(req.headers['last-event-id'] ?? 0);
      let id = from(last);
      const next = (): string => `id: ${++id}\ndata: x\n\n`;
      if (last > 0) while (id < last + 5) res.write(next());
      each(res, 100, next);
    });
  for (const [title, from, expected] of [
    ['resumes exactly', (last: number) => last, []],
    ['sends the last event again', (last: number) => Math.max(0, last - 1), ['resume-repeats']],
    ['leaves out the first event', (last: number) => (last === 0 ? 0 : last + 1), ['resume-hole']],
    ['begins with the newest', (last: number) => (last === 0 ? 0 : last + 1000), ['resume-ignored']],
  ] as const) {
    it(`recognises a server that ${title}`, async (t) => {
      const { url } = await serve(t, replaying(from));
      const { wrong, of } = await diagnose(url, ['--wait', '4s']);
      assert.deepEqual(wrong, expected, JSON.stringify(of('resume')));
    });
  }

  it('recognises a server that refuses its own id', async (t) => {
    const good = streaming({}, (res) => each(res, 100, () => 'id: 1\ndata: x\n\n'));
    const { url } = await serve(t, (req, res, n) => {
      if (req.headers['last-event-id'] === undefined) good(req, res, n);
      else res.writeHead(400).end();
    });
    const { wrong, of } = await diagnose(url);
    assert.deepEqual(wrong, ['resume-refused']);
    assert.match(of('resume').cause ?? '', /EventSource gives up for good/);
  });

  for (const [error, cure] of [
    ['server-away', /^start the server, or correct its address in the proxy$/],
    ['server-full', /^raise the limit that the reason names/],
  ] as const) {
    it(`says what to do where a stream is refused as ${error}`, async (t) => {
      const refusal = `retry: 5000\nevent: sluice:refused\ndata: {"error":"${error}","message":"No."}\n\n`;
      const { url } = await serve(
        t,
        streaming({}, (res) => res.end(refusal)),
      );
      const { wrong, of } = await diagnose(url);
      assert.deepEqual(wrong, ['refused']);
      assert.match(of('answer').cure ?? '', cure);
    });
  }

  it('says of a ticket that is taken once that a reader cannot return with it', async (t) => {
    const good = streaming({}, (res) => each(res, 100, () => 'id: 1\ndata: x\n\n'));
    const { url } = await serve(t, (req, res, n) => {
      if (n === 1) good(req, res, n);
      else res.writeHead(401).end();
    });
    const { wrong, of } = await diagnose(`${url}?ticket=abc`);
    assert.deepEqual(wrong, ['resume-refused']);
    assert.match(of('resume').cause ?? '', /^the ticket or token is taken once/);
  });

  it('sees that an event is sent again where nothing else was missed', async (t) => {
    const once = streaming({}, (res) => res.write('id: 1\ndata: x\n\n'));
    const { url } = await serve(t, once);
    assert.deepEqual((await diagnose(url)).wrong, ['resume-repeats']);
  });

  it('expects no event of a stream that gets only the newest', async (t) => {
    const { url } = await serve(
      t,
      replaying((last) => (last === 0 ? 0 : last + 1)),
    );
    const { wrong, of } = await diagnose(`${url}?from=earliest&conflate=1`, ['--wait', '4s']);
    assert.deepEqual(wrong, []);
    assert.match(
      of('resume').seen,
      /: with conflate, a stream does not get all events, so it cannot be told$/,
    );
  });

  it('returns where a redirect leads to another server', async (t) => {
    const target = await serve(
      t,
      replaying((last) => last),
    );
    const { url } = await serve(t, (_, res) => res.writeHead(307, { location: target.url }).end());
    const { wrong, of } = await diagnose(url, ['--wait', '4s']);
    assert.deepEqual([wrong, of('resume').state], [[], 'ok'], of('resume').seen);
  });

  it('holds a second connection that is one too many for no problem', async (t) => {
    const good = streaming({}, (res) => each(res, 100, () => 'id: 1\ndata: x\n\n'));
    const { url } = await serve(t, (req, res, n) => {
      if (n === 1) good(req, res, n);
      else res.writeHead(429).end();
    });
    const { wrong, of } = await diagnose(url);
    assert.deepEqual(wrong, []);
    assert.equal(of('resume').state, 'unknown');
  });

  it('tells heartbeats that were held back from those that arrive one by one', async (t) => {
    const beating = (count: number, interval: number): Handler =>
      streaming({ 'x-varnish': '1 2' }, (res) => each(res, interval, () => ':\n\n'.repeat(count)));
    const single = await serve(t, beating(1, 300));
    assert.equal((await diagnose(single.url)).of('buffering').state, 'ok');
    const held = await serve(t, beating(4, 600));
    const { wrong, of } = await diagnose(held.url, ['--wait', '5s']);
    assert.deepEqual(wrong, ['buffered']);
    assert.match(of('buffering').cause ?? '', /^Varnish \(x-varnish: 1 2\)/);
  });

  it('misses the heartbeat that a server has promised', async (t) => {
    const data = JSON.stringify({ topics: [], heartbeat: { interval: 100, missed: 2 } });
    const { url } = await serve(
      t,
      streaming({}, (res) => res.write(`event: sluice:ready\ndata: ${data}\n\n`)),
    );
    const { wrong, of } = await diagnose(url, ['--wait', '5s']);
    assert.deepEqual(wrong, ['buffered']);
    assert.match(
      of('buffering').seen,
      /^the server promises a heartbeat every 0\.1 s, and nothing arrived for [45]\.\d s$/,
    );
  });

  it('takes a heartbeat of several lines for one', async (t) => {
    const { url } = await serve(
      t,
      streaming({}, (res) => {
        let beats = 0;
        each(res, 300, () => {
          if (beats++ % 2 === 0) return ': one\n: two\n\n';
          // In two chunks of the response.
          res.write(': one\n');
          return ': two\n\n';
        });
      }),
    );
    const { wrong, of } = await diagnose(url, ['--wait', '4s']);
    assert.deepEqual(wrong, []);
    assert.equal(of('buffering').state, 'ok');
  });

  for (const [title, count] of [
    ['large', 80],
    ['small', 15],
  ] as const) {
    it(`does not decide whether a server sends ${title} batches by itself`, async (t) => {
      const batch = 'data: 0123456789\n\n'.repeat(count);
      const { url } = await serve(
        t,
        streaming({}, (res) => each(res, 500, () => batch)),
      );
      const { wrong, code } = await diagnose(url, ['--wait', '5s']);
      assert.deepEqual([wrong, code], [['bursts', 'no-ids'], 0]);
    });
  }

  it('sees that a stream without a pause is not held back', async (t) => {
    let id = 0;
    const { url } = await serve(
      t,
      streaming({}, (res) => each(res, 15, () => `id: ${++id}\ndata: x\n\n`)),
    );
    assert.equal((await diagnose(url)).of('buffering').state, 'ok');
  });

  it('warns of a silence that proxies do not bear, also where the server promises one', () => {
    const ready = { heartbeat: { interval: 60_000, missed: 2 } };
    const main = { ready, longestSilence: 61_000, age: 70_000, events: 1, beats: 1 } as unknown as Probe;
    assert.equal(heartbeatOf({ main, wait: 70_000 }).code, 'no-heartbeat');
  });

  it('warns of a head that comes late', async (t) => {
    const { url } = await serve(t, (req, res) => {
      setTimeout(() => ticking()(req, res, 1), 3100);
    });
    assert.deepEqual((await diagnose(url, ['--wait', '4s'])).wrong, ['slow-head', 'no-ids']);
  });

  it('waits in vain for a head, and says who is there', async (t) => {
    const { url } = await serve(t, (req, res) => void (req.method === 'HEAD' && res.end()));
    const { wrong, of } = await diagnose(url);
    assert.deepEqual(wrong, ['no-head']);
    assert.match(
      of('answer').seen,
      /^no head of a response within [1-9]\.\d s, but one to HEAD after \d+ ms$/,
    );
    const proxy = await serve(t, (req, res) => {
      if (req.method === 'HEAD') res.writeHead(200, { server: 'nginx/1.28.0' }).end();
    });
    assert.deepEqual((await diagnose(proxy.url)).wrong, ['buffered']);
  });

  it('tells a stream that ends, one that says so, and one that breaks', async (t) => {
    const ending = (end: (res: ServerResponse) => void): Handler =>
      streaming({}, (res, req) => {
        one(res, req);
        setTimeout(() => end(res), 300);
      });
    const regular = await serve(
      t,
      ending((res) => res.end()),
    );
    assert.deepEqual((await diagnose(regular.url)).wrong, ['ended']);
    const said = await serve(
      t,
      ending((res) => res.end('event: sluice:end\ndata: {}\n\n')),
    );
    assert.deepEqual((await diagnose(said.url)).wrong, []);
    const broken = await serve(
      t,
      ending((res) => res.socket?.destroy()),
    );
    const { wrong, code } = await diagnose(broken.url);
    assert.deepEqual([wrong, code], [['broken'], 1]);
    const failed = await serve(
      t,
      ending((res) => res.end('event: sluice:error\ndata: {"message":"no upstream"}\n\n')),
    );
    const { wrong: source, of } = await diagnose(failed.url);
    assert.deepEqual(source, ['source-failed']);
    assert.equal(of('ending').seen, 'the stream says that it has failed: no upstream');
  });

  it('takes a regular end after a silence for an end, not for a cut', async (t) => {
    const { url } = await serve(
      t,
      streaming({}, (res, req) => {
        one(res, req);
        setTimeout(() => res.end(), 1500);
      }),
    );
    assert.deepEqual((await diagnose(url, ['--wait', '5s'])).wrong, ['ended']);
    const unframed = await serve(t, (req, res) => {
      res.useChunkedEncodingByDefault = false;
      streaming({}, () => {
        one(res, req);
        // In such a response every end looks regular.
        setTimeout(() => res.end(), 1500);
      })(req, res, 1);
    });
    assert.deepEqual((await diagnose(unframed.url, ['--wait', '5s'])).wrong, ['cut-when-silent']);
  });

  it('asks whether a page may send the headers it was given', async (t) => {
    const { url, requests } = await serve(t, (req, res) => {
      res.setHeader('access-control-allow-origin', '*');
      if (req.method === 'OPTIONS') {
        res.setHeader('access-control-allow-headers', req.url === '/good' ? 'Authorization, X-One' : '*');
        res.writeHead(204).end();
      } else streaming({}, one)(req, res, 1);
    });
    const argv = ['--origin', 'https://a.example', '--token', 'x', '-H', 'X-One: 1'];
    assert.deepEqual((await diagnose(`${url}good`, argv)).wrong, []);
    const { wrong, of } = await diagnose(url, argv);
    assert.deepEqual(wrong, ['cors-preflight']);
    assert.equal(of('cors').seen, 'the preflight (OPTIONS) does not allow authorization');
    const asked = requests.find(({ method }) => method === 'OPTIONS')!.headers;
    assert.equal(asked['access-control-request-headers'], 'authorization,x-one');
    const cookies = await diagnose(url, ['--origin', 'https://a.example', '--credentials']);
    assert.equal(cookies.of('cors').seen, 'Access-Control-Allow-Origin: *');
  });

  it('says what a page gets that is refused, or that a redirect leads away', async (t) => {
    const origin = ['--wait', '2s', '--origin', 'https://a.example'];
    const allowed = { 'access-control-allow-origin': '*' };
    const refusing = async (status: number): Promise<Finding> => {
      const { url } = await serve(t, (req, res) => {
        if (req.headers.origin !== undefined) res.writeHead(status, allowed).end();
        else streaming({}, one)(req, res, 1);
      });
      return (await diagnose(url, origin)).of('cors');
    };
    const { code, state, seen } = await refusing(403);
    assert.deepEqual([code, state, seen], ['cors', 'problem', 'with this Origin the server answers 403']);
    assert.deepEqual([(await refusing(429)).state, (await refusing(503)).state], ['unknown', 'unknown']);
    const redirecting = async (headers: Record<string, string>): Promise<Finding> => {
      const target = await serve(t, ticking(headers));
      const { url } = await serve(t, (_, res) =>
        res.writeHead(307, { location: target.url, ...allowed }).end(),
      );
      return (await diagnose(url, origin)).of('cors');
    };
    assert.match(
      (await redirecting({})).seen,
      /^after a redirect to http:.*: no Access-Control-Allow-Origin/,
    );
    // The browser sends no longer the origin of the page.
    const named = await redirecting({ 'access-control-allow-origin': 'https://a.example' });
    assert.equal(named.state, 'problem');
    assert.equal((await redirecting(allowed)).state, 'ok');
  });

  it('follows redirects, and says where they lead too far', async (t) => {
    const target = await serve(t, ticking());
    const { url } = await serve(t, (_, res) => res.writeHead(307, { location: target.url }).end());
    assert.deepEqual((await diagnose(url)).wrong, ['no-ids']);
    const { wrong, of } = await diagnose(url, ['--token', 'secret']);
    assert.deepEqual(wrong, ['redirect']);
    assert.match(of('answer').seen, /^redirected \(307\) to http:\/\/127\.0\.0\.1/);
    const loop = await serve(t, (_, res) => res.writeHead(302, { location: '/' }).end());
    assert.deepEqual((await diagnose(loop.url)).wrong, ['redirect']);
  });
});

describe('sluice doctor, over TLS', () => {
  async function withCertificate(t: TestContext, url: string, trusted = cert, more = {}): Promise<Report> {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-doctor-'));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'ca.pem'), trusted);
    const bin = fileURLToPath(new URL('../../lib/command/bin.ts', import.meta.url));
    const argv = ['--import', import.meta.resolve('tsx'), bin, 'doctor', '--json', '--wait', '3s', url];
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'), ...more };
    const child: ChildProcess = spawn(process.execPath, argv, { env });
    t.after(() => child.kill('SIGKILL'));
    return JSON.parse(await text(child.stdout!)) as Report;
  }
  const answer = streaming({}, one);
  const codes = ({ findings }: Report) =>
    findings.filter(({ state }) => state !== 'ok' && state !== 'unknown');

  it('says that a certificate is not accepted', async (t) => {
    const port = await listen(
      t,
      createHttpsServer({ key, cert }, (req, res) => answer(req, res, 1)),
    );
    const { wrong, of } = await diagnose(`https://127.0.0.1:${port}/`);
    assert.deepEqual(wrong, ['unreachable']);
    assert.match(of('answer').cause ?? '', /^the certificate is not accepted: it is signed by itself/);
  });

  for (const [title, served, trusted, host, cause, cure] of [
    [
      'lacks the rest of its chain',
      leaf,
      authority,
      '127.0.0.1',
      /the certificates between/,
      /^send the whole/,
    ],
    ['is for another name', cert, cert, '127.0.0.2', /for another name$/, /the name of this URL/],
    ['has expired', expired, expired, '127.0.0.1', /it has expired/, /^renew the certificate/],
  ] as const) {
    it(`says of a certificate that it ${title}`, async (t) => {
      const server = createHttpsServer({ key, cert: served }, (req, res) => answer(req, res, 1));
      server.listen(0, host);
      await once(server, 'listening');
      t.after(() => {
        server.close();
        server.closeAllConnections();
      });
      const { port } = server.address() as AddressInfo;
      const [finding] = codes(await withCertificate(t, `https://${host}:${port}/`, trusted));
      assert.equal(finding?.code, 'unreachable');
      assert.match(finding.cause ?? '', cause, finding.seen);
      assert.match(finding.cure ?? '', cure);
    });
  }

  it('does not know whether HTTP/2 is offered where the environment names a proxy', async (t) => {
    const port = await listen(
      t,
      createHttpsServer({ key, cert }, (req, res) => answer(req, res, 1)),
    );
    const { findings } = await withCertificate(t, `https://127.0.0.1:${port}/`, cert, {
      // It is not that of https: URLs.
      HTTP_PROXY: 'http://127.0.0.1:9',
    });
    assert.equal(findings.find(({ check }) => check === 'http-version')?.state, 'unknown');
  });

  it('says that a port without TLS has none', async (t) => {
    const { port } = await serve(t, answer);
    const { wrong, of } = await diagnose(`https://127.0.0.1:${port}/`);
    assert.deepEqual(wrong, ['unreachable']);
    assert.equal(of('answer').cause, 'what answers at this port does not speak TLS');
  });

  it('reads a server that has nothing but HTTP/2', async (t) => {
    const only = createSecureServer({ key, cert }, (req, res) => {
      answer(req as unknown as IncomingMessage, res as unknown as ServerResponse, 1);
    });
    const report = await withCertificate(t, `https://127.0.0.1:${await listen(t, only)}/`);
    assert.deepEqual(codes(report), []);
    const { seen } = report.findings.find(({ check }) => check === 'http-version')!;
    assert.equal(seen, 'HTTP/2 alone is offered');
  });

  it('warns where HTTP/2 is not offered, and not where it is', async (t) => {
    const port = await listen(
      t,
      createHttpsServer({ key, cert }, (req, res) => answer(req, res, 1)),
    );
    assert.deepEqual(
      codes(await withCertificate(t, `https://localhost:${port}/`)).map(({ code }) => code),
      ['no-http2'],
    );
    const both = createSecureServer({ key, cert, allowHTTP1: true }, (req, res) => {
      answer(req as unknown as IncomingMessage, res as unknown as ServerResponse, 1);
    });
    assert.deepEqual(codes(await withCertificate(t, `https://127.0.0.1:${await listen(t, both)}/`)), []);
  });
});

const STANDING_STILL = `
  const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    console.log(server.address().port);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
`;

describe('sluice doctor, on hostile endpoints', () => {
  /** A server that answers each connection by hand. */
  async function raw(t: TestContext, answer: (socket: Socket) => void): Promise<string> {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => answer(socket));
    });
    return `http://127.0.0.1:${await listen(t, server)}/`;
  }
  const again = (socket: Socket, piece: string, interval: number): void => {
    const timer = setInterval(() => socket.write(piece), interval);
    socket.on('close', () => clearInterval(timer));
  };
  const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n';

  it('ends where not a byte comes, where the head has no end, and where nobody listens', async (t) => {
    const dumb = await diagnose(await raw(t, () => {}));
    assert.deepEqual(dumb.wrong, ['no-head']);
    assert.match(dumb.of('answer').cause ?? '', /, to HEAD neither, or does not answer at all/);
    const dripping = await raw(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      again(socket, 'X-A: b\r\n', 50);
    });
    assert.deepEqual((await diagnose(dripping)).wrong, ['no-head']);
    const endless = await raw(t, (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      again(socket, `X-A: ${'b'.repeat(5000)}\r\n`, 10);
    });
    assert.deepEqual((await diagnose(endless)).wrong, ['head-too-large']);
    const informing = await raw(t, (socket) => again(socket, 'HTTP/1.1 102 Processing\r\n\r\n', 5));
    assert.deepEqual((await diagnose(informing)).wrong, ['head-too-large']);
    const nonsense = await raw(t, (socket) => void socket.end('SSH-2.0-OpenSSH_9.9\r\n'));
    const { of } = await diagnose(nonsense);
    assert.equal(of('answer').cause, 'what answers at this address does not speak HTTP');
    assert.deepEqual((await diagnose('http://127.0.0.1:9/')).wrong, ['unreachable']);
  });

  it('says where no connection is made, and does not blame the server for its silence', async (t) => {
    // A process that stands still accepts nothing; what its queue does not take is dropped, as by a firewall.
    const still = spawn(process.execPath, ['-e', STANDING_STILL], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => still.kill('SIGKILL'));
    const [line] = await once(still.stdout, 'data');
    const port = Number(String(line));
    const queued = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const socket = connectTcp(port, '127.0.0.1').on('error', () => {});
        await Promise.race([once(socket, 'connect'), new Promise((resolve) => setTimeout(resolve, 300))]);
        return socket;
      }),
    );
    t.after(() => queued.forEach((socket) => void socket.destroy()));
    const { wrong, of } = await diagnose(`http://127.0.0.1:${port}/`);
    assert.deepEqual(wrong, ['unreachable']);
    assert.match(of('answer').seen, /^no connection within [1-9]\.\d s$/);
    assert.match(of('answer').cause ?? '', /firewall/);
  });

  it('ends where a line or a flood of events has no end, and holds a bounded part', async (t) => {
    const line = await raw(t, (socket) => {
      socket.write(`${HEAD}data: `);
      const piece = Buffer.alloc(256 * 1024, 'x');
      const more = (): void => void (socket.writable && socket.write(piece) && setImmediate(more));
      socket.on('drain', more);
      more();
    });
    const before = process.memoryUsage().rss;
    const { wrong, of } = await diagnose(line, ['--wait', '30s']);
    assert.ok(wrong.includes('too-large'), JSON.stringify(of('answer')));
    const flood = await raw(t, (socket) => {
      socket.write(HEAD);
      const piece = Buffer.from('id: 1\ndata: x\n\n'.repeat(16 * 1024));
      const more = (): void => void (socket.writable && socket.write(piece) && setImmediate(more));
      socket.on('drain', more);
      more();
    });
    const full = await diagnose(flood, ['--wait', '10m']);
    assert.match(full.of('ending').seen, /left early, because more arrived than is kept$/);
    assert.ok(full.measured.bytes < 66 * 1024 * 1024, `${full.measured.bytes}`);
    const grown = (process.memoryUsage().rss - before) / 1024 / 1024;
    assert.ok(grown < 400, `${grown} MiB`);
  });

  it('ends where a little is decompressed to a lot, and where nothing can be decompressed', async (t) => {
    const packed = gzipSync(Buffer.alloc(64 * 1024 * 1024, ':\n\n'), { level: 9 });
    const bomb = await serve(t, (_, res) => {
      res.writeHead(200, { ...CALM, 'content-encoding': 'gzip' }).write(packed);
    });
    assert.deepEqual((await diagnose(bomb.url, ['--wait', '30s'])).wrong, ['content-encoding']);
    const other = await serve(t, (_, res) =>
      res.writeHead(200, { ...CALM, 'content-encoding': 'zstd' }).end('x'),
    );
    assert.deepEqual((await diagnose(other.url)).wrong, ['content-encoding']);
  });

  it('tells compression that holds events back from one that is flushed', async (t) => {
    const zipping = (isFlushed: boolean): Handler => {
      return (req, res) => {
        if (!String(req.headers['accept-encoding']).includes('gzip')) {
          return streaming({}, (stream) => each(stream, 100, () => 'data: x\n\n'))(req, res, 1);
        }
        res.writeHead(200, { ...CALM, 'content-encoding': 'gzip' });
        const gzip = createGzip({ flush: isFlushed ? constants.Z_SYNC_FLUSH : constants.Z_NO_FLUSH });
        gzip.pipe(res);
        const timer = setInterval(() => gzip.write('data: x\n\n'), 100);
        res.on('close', () => clearInterval(timer));
      };
    };
    const held = await serve(t, zipping(false));
    assert.deepEqual((await diagnose(held.url, ['--wait', '3s'])).wrong, ['compression-buffers']);
    const flushed = await serve(t, zipping(true));
    assert.deepEqual((await diagnose(flushed.url)).wrong, ['no-ids']);
  });
});

describe('sluice doctor, on a compressed stream', { concurrency: 4 }, () => {
  it('does not blame the compression where the stream without it was only followed for longer', async (t) => {
    const { url } = await serve(t, (req, res) => {
      setTimeout(() => streaming({}, one)(req, res, 1), 1500);
    });
    assert.deepEqual((await diagnose(url, ['--wait', '1s'])).wrong, ['no-head']);
  });

  it('names the compression where a beginning was flushed, and the rest comes in large pieces', async (t) => {
    const { url } = await serve(t, (_, res) => {
      res.writeHead(200, { ...CALM, 'content-encoding': 'gzip' });
      const gzip = createGzip();
      gzip.pipe(res);
      gzip.write(':\n\n');
      gzip.flush(constants.Z_SYNC_FLUSH);
      const timer = setInterval(() => gzip.write(`data: ${randomBytes(1000).toString('hex')}\n\n`), 15);
      res.on('close', () => clearInterval(timer));
    });
    const { wrong, of } = await diagnose(url, ['--wait', '4s']);
    assert.deepEqual(wrong, ['buffered', 'no-ids']);
    assert.match(of('buffering').cause ?? '', /or the compression \(gzip\)/);
    assert.match(of('buffering').cure ?? '', /a flush after each event$/);
    assert.deepEqual([of('compression').state, of('compression').seen], ['unknown', 'gzip; see buffering']);
  });
});

describe('docs/doctor.md', () => {
  const readPage = () => readFileSync(new URL('../../docs/doctor.md', import.meta.url), 'utf8');
  const folder = new URL('../../lib/command/', import.meta.url);
  const sources = readdirSync(folder).filter((name) => /^doctor-.*\.ts$/.test(name));
  const code = sources.map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n');

  it('has a row for each finding that is a problem, a warning or not known, and no other', () => {
    const found = new Set<string>();
    for (const [, state = '', check = '', name = ''] of code.matchAll(
      /\b(problem|warning|unknown)\(\s*'([\w-]+)',\s*(?:fault === undefined \? 'cors-preflight' : )?'([\w.-]+)'/g,
    )) {
      found.add(`${state} ${check} ${name}`);
    }
    found.add('problem cors cors-preflight');
    const rows = Array.from(
      readPage().matchAll(/^\| `([\w.-]+)` \| ([\w-]+) \| (problem|warning|unknown) \|/gm),
      ([, name = '', check = '', state = '']) => `${state} ${check} ${name}`,
    );
    assert.deepEqual([...rows].sort(), [...found].sort());
  });

  it('shows what the command prints', async (t) => {
    const [, shown = ''] = /<!-- output -->\n```text\n(.*?)```/s.exec(readPage()) ?? [];
    const { url } = await serve(t, (_, res) => {
      res.writeHead(503, { 'content-type': 'application/json' }).end('{"message":"The server is full."}');
    });
    const { stdout } = await run('doctor', ['--wait', '20s', url]);
    assert.equal(stdout, shown);
  });

  it('names only options that the command has', async () => {
    const { stdout } = await run('doctor', ['--help']);
    for (const [option] of readPage().matchAll(/(?<=[`[ ])--[a-z][a-z-]+/g)) {
      const others = ['--allow-host', '--cors', '--foreign'];
      assert.ok(stdout.includes(option) || others.includes(option), option);
    }
  });
});
