// What `sluice doctor` says of real servers behind real proxies: the one right cause, or nothing.
import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import type { Report } from '../../lib/command/doctor.ts';
import type { Finding } from '../../lib/command/doctor-finding.ts';
import { createSseServer } from '../../lib/server.ts';
import { run } from '../helpers/command.ts';
import { freePort } from '../helpers/free-port.ts';
import { listen, serve } from '../helpers/server.ts';
import { startCompressing, startHono } from './frameworks/foreign.ts';
import { startOrigin } from './helpers/origin.ts';
import { programs, type RunningProxy, runProxy, startProxy } from './helpers/proxy.ts';

interface Diagnosis extends Report {
  readonly code: number;
  /** Problems and warnings. */
  readonly wrong: readonly Finding[];
}

async function diagnose(url: string, ...argv: string[]): Promise<Diagnosis> {
  const { code, stdout, stderr } = await run('doctor', ['--json', '--wait', '4s', ...argv, url]);
  assert.ok(stdout !== '', stderr);
  const report = JSON.parse(stdout) as Report;
  const wrong = report.findings.filter(({ state }) => state === 'warning' || state === 'problem');
  return { ...report, code, wrong };
}

/** There is this one problem, and no warning. */
function assertOnly({ wrong, code, findings }: Diagnosis, expected: string): Finding {
  const names = wrong.map((finding) => finding.code);
  assert.deepEqual(names, [expected], JSON.stringify(findings, null, 1));
  assert.equal(code, 1);
  return wrong[0]!;
}

/** There is no problem and no warning, and these checks had what it takes to say so. */
function assertNothing(
  { wrong, code, findings, summary }: Diagnosis,
  ...checks: readonly Finding['check'][]
): void {
  assert.deepEqual(wrong, [], JSON.stringify(findings, null, 1));
  for (const name of checks) {
    const finding = findings.find(({ check }) => check === name);
    assert.equal(finding?.state, 'ok', JSON.stringify(finding));
  }
  assert.equal(code, 0);
  assert.match(summary, /^nothing wrong/);
}

type Headers = Readonly<Record<string, string>>;

/** Events of this size with ids, one per interval, from the newest that the reader has. */
function ticking(
  res: ServerResponse,
  req: IncomingMessage,
  interval: number,
  bytes = 100,
  headers: Headers = {},
) {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', ...headers });
  res.flushHeaders();
  const send = (id: number) => res.write(`id: ${id}\ndata: ${'x'.repeat(bytes)}\n\n`);
  const last = Number(req.headers['last-event-id'] ?? NaN);
  let next = Math.floor(performance.now() / interval);
  for (let id = last + 1; id < next; id++) send(id);
  const timer = setInterval(() => send(next++), interval);
  res.on('close', () => clearInterval(timer));
}

/** As it is installed, with nothing set for event streams. */
async function nginx(t: TestContext, upstream: number, lines = ''): Promise<RunningProxy> {
  const port = await freePort();
  const location = `listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${upstream}; ${lines} }`;
  const http = `access_log off; client_body_temp_path body; proxy_temp_path proxy; server { ${location} }`;
  return runProxy(t, 'nginx', `user www-data; worker_processes 1; events {} http { ${http} }`, port);
}

describe('sluice doctor names the cause', () => {
  it('nginx buffers, and events arrive when a buffer is full', { timeout: 30_000 }, async (t) => {
    const { port } = await serve(t, (req, res) => ticking(res, req, 50, 300));
    const proxy = await nginx(t, port);
    const { cause, cure } = assertOnly(await diagnose(proxy.url), 'buffered');
    assert.match(cause ?? '', /^nginx \(server: nginx/);
    assert.match(cure ?? '', /proxy_buffering off/);
  });

  it('nginx buffers, and not even the head arrives', { timeout: 30_000 }, async (t) => {
    const { port } = await serve(t, (req, res) => ticking(res, req, 1000));
    const proxy = await nginx(t, port);
    const { check, cause, cure } = assertOnly(await diagnose(proxy.url), 'buffered');
    assert.equal(check, 'answer');
    assert.match(cause ?? '', /^nginx most likely/);
    assert.match(cure ?? '', /proxy_buffering off/);
  });

  it('nginx compresses, and buffers what it compresses', { timeout: 30_000 }, async (t) => {
    const { port } = await serve(t, (req, res) => ticking(res, req, 100));
    const gzip = 'gzip on; gzip_types *; gzip_proxied any;';
    const proxy = await nginx(t, port, gzip);
    // Uncompressed it is as late: the compression is not the cause.
    const { cure } = assertOnly(await diagnose(proxy.url), 'buffered');
    assert.match(cure ?? '', /^`proxy_buffering off;`/);
    const right = await nginx(t, port, `proxy_buffering off; ${gzip}`);
    const diagnosis = await diagnose(right.url);
    assertNothing(diagnosis, 'compression', 'buffering');
    const compression = diagnosis.findings.find(({ check }) => check === 'compression')!;
    assert.match(compression.seen, /^gzip \(server: nginx.*\), and what is sent arrives$/);
  });

  it('HAProxy cuts a stream without heartbeats', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--heartbeat', 'off']);
    const proxy = await startProxy(t, 'HAProxy', { upstream: origin.port, timeout: '2s' });
    const { cause, seen } = assertOnly(await diagnose(`${proxy.url}/events?topic=a`), 'cut-when-silent');
    assert.match(cause ?? '', /HAProxy \(`timeout client`, `timeout server`\)/);
    assert.match(seen, /^cut after [1-3]\.\d s of silence/);
  });

  it('Caddy cuts a stream without heartbeats', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--heartbeat', 'off']);
    const proxy = await startProxy(t, 'Caddy', { upstream: origin.port, timeout: '2s' });
    const { cause, cure } = assertOnly(await diagnose(`${proxy.url}/events?topic=a`), 'cut-when-silent');
    assert.match(cause ?? '', /^Caddy \(/);
    assert.match(cure ?? '', /`read_timeout`/);
  });

  it('nginx cuts a stream without heartbeats', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--heartbeat', 'off']);
    const proxy = await startProxy(t, 'nginx', { upstream: origin.port, timeout: '2s' });
    const { cause, cure } = assertOnly(await diagnose(`${proxy.url}/events?topic=a`), 'cut-when-silent');
    assert.match(cause ?? '', /^nginx \(/);
    assert.match(cure ?? '', /`proxy_read_timeout`/);
  });

  it('something that has no name cuts silent connections', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--heartbeat', 'off']);
    const cutter = createTcpServer((client) => {
      const server = connect(origin.port, '127.0.0.1');
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        from.on('error', () => {}).on('close', () => to.destroy());
        from.pipe(to);
      }
      server.setTimeout(1500, () => client.destroy());
    });
    const port = await listen(t, cutter);
    const { cause, seen } = assertOnly(
      await diagnose(`http://127.0.0.1:${port}/events?topic=a`),
      'cut-when-silent',
    );
    assert.match(cause ?? '', /^something on the way/);
    assert.match(seen, /^cut after [1-3]\.\d s of silence/);
  });

  it('the middleware compression of Express holds events back', { timeout: 30_000 }, async (t) => {
    const { cause, cure } = assertOnly(await diagnose(await startCompressing(t)), 'compression-buffers');
    assert.match(cause ?? '', /^Express compresses/);
    assert.match(cure ?? '', /`filter`/);
  });

  it('a page is no event stream', { timeout: 30_000 }, async (t) => {
    const { url } = await serve(t, (_, res) =>
      res.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
    );
    assert.match(
      assertOnly(await diagnose(url), 'content-type').cause ?? '',
      /^this is a page, such as a login/,
    );
  });

  it('a token is missing', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--subscribe-token', 'secret']);
    const url = `${origin.url}/events?topic=a`;
    const { cause, cure, seen } = assertOnly(await diagnose(url), 'status');
    assert.match(seen, /^the server answered 401/);
    assert.match(cause ?? '', /no token.*EventSource gives up for good/);
    assert.match(cure ?? '', /--token/);
    assertNothing(await diagnose(url, '--token', 'secret'), 'answer');
  });

  it('a 503 for a moment ends an EventSource for good', { timeout: 30_000 }, async (t) => {
    const port = await freePort();
    const proxy = await nginx(t, port);
    const { cause, seen } = assertOnly(await diagnose(`${proxy.url}/events`), 'refusal-ends-eventsource');
    assert.equal(seen, 'the server answered 502 (nginx is on the way)');
    assert.match(cause ?? '', /EventSource gives up for good/);
    const { url } = await serve(t, (_, res) => {
      res.writeHead(503, { 'content-type': 'application/json' }).end('{"error":"full","message":"full up"}');
    });
    const { seen: full } = assertOnly(await diagnose(url), 'refusal-ends-eventsource');
    assert.equal(full, 'the server answered 503: full up');
  });

  it('a limit of sluice does not, because it answers a browser in a stream', {
    timeout: 30_000,
  }, async (t) => {
    const sse = createSseServer({ limits: { maxConnections: 1 } });
    t.after(() => sse.close({ deadline: 0 }));
    const url = `${await sse.listen(0)}/events?topic=a`;
    const first = diagnose(url);
    while (sse.hub.stats.started === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    const { cause } = assertOnly(await diagnose(url), 'refused');
    assert.match(cause ?? '', /comes back by itself/);
    await first;
  });

  it('pages of another origin may not read', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--cors', 'https://good.example']);
    const proxy = await startProxy(t, 'nginx', { upstream: origin.port });
    const url = `${proxy.url}/events?topic=a`;
    const { cure } = assertOnly(await diagnose(url, '--origin', 'https://bad.example'), 'cors');
    assert.match(cure ?? '', /--cors https:\/\/bad\.example/);
    const good = await diagnose(url, '--origin', 'https://good.example', '-H', 'Authorization: Bearer x');
    assertNothing(good, 'cors');
  });

  it('an HTTP/1.0 proxy is on the way', { timeout: 30_000 }, async (t) => {
    const { port } = await serve(t, (req, res) => ticking(res, req, 200));
    const old = createTcpServer((client) => {
      const server = connect(port, '127.0.0.1');
      client.on('error', () => {}).on('close', () => server.destroy());
      server.on('error', () => {}).on('close', () => client.destroy());
      // A client of HTTP/1.0 gets no chunks.
      client.once('data', (head) => server.write(String(head).replace('HTTP/1.1', 'HTTP/1.0')));
      server.once('data', (head) => {
        client.write(String(head).replace('HTTP/1.1', 'HTTP/1.0'));
        server.pipe(client);
      });
    });
    assertOnly(await diagnose(`http://127.0.0.1:${await listen(t, old)}/`), 'http-1.0');
  });

  it('something collects the whole body', { timeout: 30_000 }, async (t) => {
    const { url } = await serve(t, (req, res) => ticking(res, req, 200, 10, { 'content-length': '100000' }));
    assertOnly(await diagnose(url), 'content-length');
  });

  it('Last-Event-ID does not reach the server', { timeout: 30_000 }, async (t) => {
    const { port } = await serve(t, (req, res) => ticking(res, req, 200));
    const proxy = await nginx(t, port, 'proxy_buffering off; proxy_set_header Last-Event-ID "";');
    assertOnly(await diagnose(proxy.url), 'resume-ignored');
    const right = await nginx(t, port, 'proxy_buffering off;');
    assertNothing(await diagnose(right.url), 'resume', 'buffering');
  });

  it('two instances with a history each are behind one name', { timeout: 30_000 }, async (t) => {
    const [one, other] = [await startOrigin(t, ['--system']), await startOrigin(t, ['--system'])];
    const port = await freePort();
    const lines = [
      'defaults',
      'mode http\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\noption http-no-delay',
      `listen both\nbind 127.0.0.1:${port}`,
      `balance roundrobin\nserver one 127.0.0.1:${one.port}\nserver other 127.0.0.1:${other.port}`,
    ];
    const proxy = await runProxy(t, 'HAProxy', `${lines.join('\n')}\n`, port);
    const { cause } = assertOnly(await diagnose(`${proxy.url}/events?topic=system`), 'resume-gap');
    assert.match(cause ?? '', /^another instance/);
  });

  it('the stream of another library does not resume', { timeout: 30_000 }, async (t) => {
    assertOnly(await diagnose(await startHono(t)), 'resume-ignored');
  });
});

describe('sluice doctor finds nothing wrong with sluice', () => {
  const start = async (t: TestContext, argv: readonly string[] = []) => {
    const origin = await startOrigin(t, argv);
    const names = Object.keys(programs) as (keyof typeof programs)[];
    const proxies = await Promise.all(names.map((name) => startProxy(t, name, { upstream: origin.port })));
    return [origin, ...proxies].map(({ url }) => url);
  };

  it('by itself and behind each proxy, while events are published', { timeout: 60_000 }, async (t) => {
    const urls = await start(t, ['--system']);
    for (const url of urls) {
      const diagnosis = await diagnose(`${url}/events?topic=system`);
      assertNothing(diagnosis, 'buffering', 'resume');
      assert.match(
        diagnosis.findings.find(({ check }) => check === 'resume')!.seen,
        /exactly the \d+ events?/,
      );
    }
  });

  it('by itself and behind each proxy, on a quiet topic with heartbeats', { timeout: 60_000 }, async (t) => {
    const urls = await start(t, ['--heartbeat', '300ms']);
    for (const url of urls)
      assertNothing(await diagnose(`${url}/events?topic=quiet`), 'buffering', 'heartbeat');
  });

  it('where a stream has the newest event of each key', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--system']);
    const url = `${origin.url}/events?topic=system&from=earliest&conflate=1`;
    assertNothing(await diagnose(url), 'buffering', 'resume');
  });

  it('in gzip, where it is compressed by sluice itself', { timeout: 30_000 }, async (t) => {
    const origin = await startOrigin(t, ['--system', '--gzip']);
    const diagnosis = await diagnose(`${origin.url}/events?topic=system`);
    assertNothing(diagnosis, 'compression', 'resume');
    assert.match(diagnosis.findings.find(({ check }) => check === 'compression')!.seen, /^gzip/);
  });
});
