// `sluice serve --workers` as it runs: processes that are started, killed and stopped.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MetricsSum } from '../../lib/command/metrics-sum.ts';
import { checkPlatform } from '../../lib/command/workers.ts';
import { run } from '../helpers/command.ts';
import { Reader } from '../helpers/reader.ts';

const bin = fileURLToPath(new URL('../../lib/command/bin.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-workers-'));
const hasSqlite = process.getBuiltinModule('node:sqlite') !== undefined;
const running = new Set<Server>();
after(async () => {
  for (const server of running) await server.kill();
  rmSync(folder, { recursive: true });
});

interface LogLine {
  readonly event?: string;
  readonly worker?: number;
  readonly pid?: number;
  readonly topics?: readonly string[];
  readonly ended?: number;
  readonly port?: number;
  readonly code?: number;
  readonly message?: string;
}

/** The command, with its processes. */
class Server {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  url = '';
  stderr = '';

  private constructor(argv: readonly string[], env: Readonly<Record<string, string>>) {
    this.child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), bin, 'serve', ...argv], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    running.add(this);
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.child.stdin!.on('error', () => {});
    this.exit = once(this.child, 'close').then(([code]) => {
      running.delete(this);
      return code as number | null;
    });
  }

  /** Does not wait until it serves. */
  static begin(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Server {
    return new Server(['--port', '0', '--retry', '50ms', ...argv], env);
  }

  static async start(argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<Server> {
    const server = Server.begin(argv, env);
    let stdout = '';
    for await (const text of server.child.stdout!.setEncoding('utf8')) {
      stdout += text;
      if (stdout.includes('\n')) break;
    }
    [, server.url = ''] = /^listening on (http:\/\/127\.0\.0\.1:\d+)\n$/.exec(stdout) ?? [];
    assert.notEqual(server.url, '', `${stdout}${server.stderr}`);
    return server;
  }

  /** The lines of its log. Some versions of Node warn beside it of `node:sqlite`. */
  get lines(): readonly LogLine[] {
    return this.stderr
      .split('\n')
      .slice(0, -1)
      .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
  }

  /** The process that owns the log, and those that serve, as they were started last. */
  get pids(): { readonly owner: number; readonly workers: readonly number[] } {
    const owner = this.lines.findLast(({ event }) => event === 'owner-started')!.pid!;
    const workers = new Map(
      this.lines.flatMap(({ event, worker, pid }) => (event === 'worker-started' ? [[worker!, pid!]] : [])),
    );
    return { owner, workers: [...workers.values()] };
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exit;
  }

  async logged(text: string, count = 1): Promise<void> {
    while (this.stderr.split(text).length <= count) await sleep(10);
  }

  async publish(topic: string, body: string): Promise<string> {
    const answer = await fetch(`${this.url}/topics/${topic}`, { method: 'POST', body });
    assert.equal(answer.status, 200, await answer.clone().text());
    return ((await answer.json()) as { id: string }).id;
  }

  async metrics(): Promise<string> {
    return (await fetch(`${this.url}/metrics`)).text();
  }

  async metric(name: string): Promise<number> {
    const line = (await this.metrics()).split('\n').find((one) => one.startsWith(`${name} `));
    return Number(line?.slice(name.length + 1));
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function readerOf(url: string, query: string, headers: Record<string, string> = {}): Promise<Reader> {
  const reader = await Reader.open(`${url}/events?${query}`, { headers });
  return reader.until(({ frames }) => frames.length > 0);
}

/** The workers that had these streams: each connection goes to the next one. */
async function workersOf(server: Server, topic: string, readers: readonly Reader[]): Promise<number[]> {
  const closed = () =>
    server.lines.filter(({ event, topics }) => event === 'stream-closed' && topics?.includes(topic));
  for (const reader of readers) reader.close();
  while (closed().length < readers.length) await sleep(10);
  return [...new Set(closed().map(({ worker }) => worker!))].sort();
}

const hasGap = ({ frames }: Reader): boolean => frames.some(({ event }) => event === 'sluice:gap');

const opened = <T>(count: number, open: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, open));

describe('sluice serve --workers', () => {
  const file = join(folder, 'tailed.log');
  let server: Server;
  before(async () => {
    writeFileSync(file, '');
    const inputs = ['--tail', `${file}:lines`, '--stdin', 'in'];
    server = await Server.start(['--workers', '2', '--subscribe-token', 'secret', ...inputs]);
  });
  after(() => server.kill());
  const authorization = 'Bearer secret';
  const follow = (query: string, headers: Record<string, string> = {}): Promise<Reader> =>
    readerOf(server.url, query, { authorization, ...headers });

  it('serves on one port with several processes, which all have every event with the same id', async () => {
    const readers = await opened(6, () => follow('topic=a'));
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(await server.publish('a', String(i)));
    for (const reader of readers) {
      await reader.until(({ data }) => data.length === 5);
      assert.deepEqual(reader.data, ['0', '1', '2', '3', '4']);
      assert.deepEqual(
        reader.events.map(({ id }) => id),
        ids,
      );
    }
    assert.deepEqual(await workersOf(server, 'a', readers), [1, 2]);
  });

  it('lets a client go on at any worker, without a gap', async () => {
    const first = await follow('topic=b');
    await server.publish('b', '1');
    await first.until(({ data }) => data.length === 1);
    for (const text of ['2', '3']) await server.publish('b', text);
    const others = await opened(4, () => follow('topic=b', { 'Last-Event-ID': first.events[0]!.id! }));
    for (const reader of others) {
      await reader.until(({ data }) => data.length === 2);
      assert.deepEqual(reader.data, ['2', '3']);
      assert.equal(hasGap(reader), false);
    }
    assert.deepEqual(await workersOf(server, 'b', [first, ...others]), [1, 2]);
  });

  it('redeems a ticket once, whichever worker has issued it', async () => {
    for (let i = 0; i < 4; i++) {
      const answer = await fetch(`${server.url}/tickets`, { method: 'POST', headers: { authorization } });
      const { ticket } = (await answer.json()) as { ticket: string };
      const tries = await opened(4, () => statusOf(`${server.url}/events?topic=c&ticket=${ticket}`));
      assert.deepEqual(tries.sort(), [200, 401, 401, 401]);
    }
  });

  it('publishes a request that is sent again once, also to another worker', async () => {
    const headers = { 'Idempotency-Key': 'k', connection: 'close' };
    const send = async () => {
      const answer = await fetch(`${server.url}/topics/d`, { method: 'POST', body: '1', headers });
      return ((await answer.json()) as { id: string }).id;
    };
    assert.equal(new Set(await opened(4, send)).size, 1);
    const reader = await follow('topic=d&from=earliest');
    await server.publish('d', '2');
    await reader.until(({ data }) => data.includes('2'));
    assert.deepEqual(reader.data, ['1', '2']);
    reader.close();
  });

  it('adds up the metrics of all workers', async () => {
    const before = await server.metric('sluice_streams_opened_total');
    const readers = await opened(6, () => follow('topic=e'));
    assert.equal(await server.metric('sluice_workers_up'), 2);
    assert.equal(await server.metric('sluice_streams_opened_total'), before + 6);
    assert.ok((await server.metric('process_cpu_seconds_total')) > 0);
    for (const reader of readers) reader.close();
  });

  it('counts each event that is published once, also after all workers were replaced', async () => {
    const published = () => server.metric('sluice_published_events_total');
    const before = await published();
    for (let i = 0; i < 3; i++) await server.publish('f', String(i));
    await until(async () => (await published()) === before + 3);
    for (const [i, pid] of server.pids.workers.entries()) {
      process.kill(pid, 'SIGKILL');
      await server.logged('worker-exited', i + 1);
      await until(() => server.lines.filter(({ event }) => event === 'worker-started').length === 3 + i);
    }
    await until(async () => (await server.metric('sluice_workers_up').catch(() => 0)) === 2);
    await server.publish('f', '3');
    await until(async () => (await published()) === before + 4);
  });

  it('counts once what a worker had counted that ends while it is asked', async () => {
    const readers = await opened(6, () => follow('topic=g'));
    const count = await server.metric('sluice_streams_opened_total');
    // Of two connections that are opened one after the other, each worker has one.
    const asking = [new Agent({ keepAlive: true }), new Agent({ keepAlive: true })];
    for (const agent of asking) await pageOf(server.url, agent);
    const [stopped] = server.pids.workers;
    process.kill(stopped!, 'SIGSTOP');
    const page = Promise.any(asking.map((agent) => pageOf(server.url, agent)));
    await sleep(200);
    process.kill(stopped!, 'SIGKILL');
    assert.match(await page, new RegExp(`^sluice_streams_opened_total ${count}$`, 'm'));
    for (const agent of asking) agent.destroy();
    for (const reader of readers) reader.close();
    await until(async () => (await server.metric('sluice_workers_up').catch(() => 0)) === 2);
  });

  it('reads its inputs once, and says on every worker how they are', async () => {
    const readers = await opened(4, () => follow('topic=lines'));
    appendFileSync(file, 'of the file\n');
    await server.publish('lines', 'the end');
    for (const reader of readers) {
      await reader.until(({ data }) => data.length >= 2);
      assert.deepEqual(reader.data.toSorted(), ['of the file', 'the end']);
      reader.close();
    }
    const up = `sluice_input_up{input="${file}",topic="lines"}`;
    for (let i = 0; i < 4; i++) assert.equal(await server.metric(up), 1);
  });

  it('lets a source that is always ready wait for the workers: a reader that keeps up gets every line', async () => {
    const readers = await opened(2, () => follow('topic=in'));
    const lines = Array.from({ length: 30_000 }, (_, n) => `line ${n}`);
    server.child.stdin!.end(`${lines.join('\n')}\n`);
    for (const reader of readers) {
      await reader.over;
      assert.equal(hasGap(reader), false);
      assert.deepEqual(reader.data, lines);
    }
  });
});

// One after another on the same server.
describe('sluice serve --workers, while its processes end', () => {
  let server: Server;
  before(async () => {
    server = await Server.start(['--workers', '2']);
  });
  after(() => server.kill());
  const follow = (query: string, headers: Record<string, string> = {}): Promise<Reader> =>
    readerOf(server.url, query, headers);

  it('costs the clients of a worker that is killed a reconnect, and nobody an event', async () => {
    const readers = await opened(6, () => follow('topic=a'));
    await server.publish('a', '1');
    for (const reader of readers) await reader.until(({ data }) => data.length === 1);
    const counted = await server.metric('sluice_streams_opened_total');
    process.kill(server.pids.workers[0]!, 'SIGKILL');
    await server.logged('worker-exited');
    await server.publish('a', '2');
    for (const reader of readers) await reader.until(({ data, ended }) => ended || data.length === 2);
    const [cut, kept] = [true, false].map((isCut) => readers.filter(({ ended }) => ended === isCut));
    assert.ok(cut!.length > 0 && kept!.length > 0, `${cut!.length} of ${readers.length} were cut`);
    const back = await Promise.all(
      cut!.map(({ lastEventId }) => follow('topic=a', { 'Last-Event-ID': lastEventId })),
    );
    await server.publish('a', '3');
    for (const reader of kept!) {
      await reader.until(({ data }) => data.length === 3);
      assert.deepEqual(reader.data, ['1', '2', '3']);
    }
    for (const reader of back) {
      await reader.until(({ data }) => data.length === 2);
      assert.deepEqual(reader.data, ['2', '3']);
      assert.equal(hasGap(reader), false);
    }
    while ((await server.metric('sluice_workers_up')) < 2) await sleep(20);
    // What the dead one has counted is still in the sum.
    assert.ok((await server.metric('sluice_streams_opened_total')) >= counted + back.length);
    for (const reader of [...readers, ...back]) reader.close();
  });

  it('starts everything again at the same port when the owner is killed, and tells a gap for what is lost', async () => {
    const reader = await follow('topic=b');
    await server.publish('b', '1');
    await reader.until(({ data }) => data.length === 1);
    const { owner, workers } = server.pids;
    process.kill(owner, 'SIGKILL');
    await reader.over;
    await server.logged('owner-exited');
    await until(() => !workers.some(isAlive));
    await reachable(server.url);
    const back = await follow('topic=b', { 'Last-Event-ID': reader.lastEventId });
    await server.publish('b', '2');
    await back.until(({ data }) => data.includes('2'));
    assert.equal(JSON.parse(back.frame('sluice:gap').data).reason, 'unknown-epoch');
    back.close();
  });

  it('says why a worker cannot begin again', async () => {
    await until(() => server.lines.filter(({ event }) => event === 'worker-started').length >= 5);
    while ((await server.metric('sluice_workers_up').catch(() => 0)) < 2) await sleep(20);
    // While no worker has the port, somebody else takes it.
    const { pids } = server;
    for (const pid of pids.workers) process.kill(pid, 'SIGKILL');
    await server.logged('worker-exited', 3);
    const other = createServer().listen(Number(new URL(server.url).port), '127.0.0.1');
    await once(other, 'listening');
    await server.logged('is in use on 127.0.0.1');
    const { code, message } = server.lines.findLast(
      ({ event, message = '' }) => event === 'worker-exited' && message !== '',
    )!;
    assert.equal(code, 1);
    assert.match(message!, /^--port \d+ is in use/);
    other.close();
    while ((await server.metric('sluice_workers_up').catch(() => 0)) < 2) await sleep(20);
  });

  it('ends all streams with a retry, and exits with 0 on SIGTERM', async () => {
    await until(() => server.lines.filter(({ event }) => event === 'worker-started').length >= 5);
    while ((await server.metric('sluice_workers_up')) < 2) await sleep(20);
    const { owner, workers } = server.pids;
    const exits = server.lines.filter(({ event }) => event?.endsWith('-exited')).length;
    const readers = await opened(6, () => follow('topic=a'));
    server.child.kill('SIGTERM');
    for (const reader of readers) {
      await reader.over;
      assert.equal(reader.retries.length, 2);
      assert.ok(reader.response.complete, 'the response was cut');
    }
    assert.equal(await server.exit, 0);
    assert.deepEqual([owner, ...workers].filter(isAlive), []);
    assert.equal(server.lines.filter(({ event }) => event?.endsWith('-exited')).length, exits);
    const stopped = server.lines.filter(({ event }) => event === 'stopped').slice(-2);
    assert.deepEqual(stopped.map(({ worker }) => worker).sort(), [1, 2]);
    assert.equal(
      stopped.reduce((sum, { ended = 0 }) => sum + ended, 0),
      6,
    );
  });
});

describe('sluice serve --workers', () => {
  if (hasSqlite) {
    it('keeps what was acknowledged in a file when the owner is killed', async () => {
      const server = await Server.start(['--workers', '2', '--log', `sqlite:${join(folder, 'events.db')}`]);
      const reader = await readerOf(server.url, 'topic=a');
      await server.publish('a', '1');
      await reader.until(({ data }) => data.length === 1);
      await server.publish('a', '2');
      process.kill(server.pids.owner, 'SIGKILL');
      await reader.over;
      await server.logged('owner-exited');
      await reachable(server.url);
      const back = await readerOf(server.url, 'topic=a', { 'Last-Event-ID': reader.lastEventId });
      await server.publish('a', '3');
      await back.until(({ data }) => data.includes('3'));
      assert.deepEqual([...new Set([...reader.data, ...back.data])], ['1', '2', '3']);
      assert.equal(hasGap(back), false);
      back.close();
    });
  }

  it('exits with 0 where the signal reaches all of its processes, as from a terminal', async () => {
    const server = await Server.start(['--workers', '1']);
    const { owner, workers } = server.pids;
    const reader = await readerOf(server.url, 'topic=a');
    for (const pid of [server.child.pid!, owner, ...workers]) process.kill(pid, 'SIGINT');
    await reader.over;
    assert.ok(reader.response.complete, 'the response was cut');
    assert.equal(await server.exit, 0);
  });

  for (const part of ['owner', 'worker'] as const) {
    it(`exits with 0 on SIGTERM while it starts, also where its ${part} does not begin`, async () => {
      const server = Server.begin(['--workers', '1', '--deadline', '1s']);
      await server.logged(`"${part}-started"`);
      const { owner, workers } = server.pids;
      process.kill(part === 'owner' ? owner : workers[0]!, 'SIGSTOP');
      server.child.kill('SIGTERM');
      assert.equal(await server.exit, 0, server.stderr);
      assert.deepEqual([owner, ...workers].filter(isAlive), []);
      await server.logged('"workers-stopped"');
    });
  }

  it('waits for its streams as long as they take where --deadline is off', async () => {
    const server = await Server.start(['--workers', '1', '--window', '300ms', '--deadline', 'off']);
    const readers = await opened(3, () => readerOf(server.url, 'topic=a'));
    server.child.kill('SIGTERM');
    for (const reader of readers) {
      await reader.over;
      assert.ok(reader.response.complete, 'the response was cut');
    }
    assert.equal(await server.exit, 0);
    assert.doesNotMatch(server.stderr, /Warning/);
  });

  it('counts in its system events the connections of the workers that live', async () => {
    const server = await Server.start(['--workers', '2', '--system']);
    const readers = await opened(4, () => readerOf(server.url, 'topic=system'));
    const connections = ({ data }: Reader): unknown => JSON.parse(data.at(-1) ?? '{}').server?.connections;
    await readers[0]!.until((reader) => connections(reader) === 4);
    process.kill(server.pids.workers[0]!, 'SIGKILL');
    // The readers of one worker do not all learn at the same moment that it is gone.
    await until(() => {
      const kept = readers.filter(({ ended }) => !ended);
      return kept.length < readers.length && kept.some((reader) => connections(reader) === kept.length);
    });
    server.child.kill('SIGTERM');
    assert.equal(await server.exit, 0);
  });

  it('leaves no process behind when it is killed itself', async () => {
    const server = await Server.start(['--workers', '1']);
    const { owner, workers } = server.pids;
    server.child.kill('SIGKILL');
    await until(() => ![owner, ...workers].some(isAlive));
  });

  it('fails once, as one process does, where its port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const { code, errors } = await ended(['--workers', '2', '--port', String(port)]);
    other.close();
    assert.equal(code, 1);
    const message = `sluice serve: --port ${port} is in use on 127.0.0.1; give another port, or 0 for a free one (EADDRINUSE)`;
    assert.deepEqual(errors, [message]);
  });

  it('takes another free port where a process has taken the one that was free', async () => {
    const thief = join(folder, 'thief.mjs');
    // In the command itself: listens at the first port that is given up.
    writeFileSync(
      thief,
      `import net from 'node:net';
      const { close } = net.Server.prototype;
      if (process.env.SLUICE_PART === undefined)
        net.Server.prototype.close = function () {
          const { port } = this.address();
          net.Server.prototype.close = close;
          process.stderr.write('{"event":"stolen","port":' + port + '}\\n');
          return close.call(this, () => net.createServer().listen(port, '127.0.0.1').unref());
        };`,
    );
    const server = await Server.start(['--workers', '2'], {
      NODE_OPTIONS: `--import ${pathToFileURL(thief)}`,
    });
    const { port } = server.lines.find(({ event }) => event === 'stolen')!;
    assert.notEqual(new URL(server.url).port, String(port));
    await server.publish('a', 'x');
    server.child.kill('SIGTERM');
    assert.equal(await server.exit, 0);
  });

  it('fails where the log cannot be opened, and names it', async () => {
    const file = join(folder, 'no-database');
    writeFileSync(file, 'something else, longer than the header of a database '.repeat(20));
    const { code, errors } = await ended(['--workers', '2', '--port', '0', '--log', `sqlite:${file}`]);
    assert.equal(code, 1);
    assert.equal(errors.length, 1);
    assert.match(errors[0]!, /^sluice serve: --log sqlite:/);
  });

  it('takes 1 to 64 workers, and none on Windows', async () => {
    for (const count of ['0', '65', '1.5', 'x']) {
      const { code, stderr } = await run('serve', ['--workers', count]);
      assert.equal(code, 2);
      assert.match(stderr, new RegExp(`--workers must be a whole number from 1 to 64, got "${count}"`));
    }
    assert.throws(() => checkPlatform('win32'), { code: 'ERR_SSE_USAGE', message: /Windows/ });
    checkPlatform('linux');
  });
});

/** Runs a command that fails. The lines that say why. */
async function ended(argv: readonly string[]): Promise<{ code: number; errors: readonly string[] }> {
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), bin, 'serve', ...argv]);
  let text = '';
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, errors: text.split('\n').filter((line) => line.startsWith('sluice')) };
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(10);
}

function pageOf(url: string, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/metrics`, { agent }, (response) => {
      response
        .setEncoding('utf8')
        .toArray()
        .then((parts) => resolve(parts.join('')), reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** On a connection of its own, so that any worker may get it. */
function statusOf(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent: new Agent() }, (response) => {
      resolve(response.statusCode!);
      response.destroy();
    });
    sent.on('error', reject);
    sent.end();
  });
}

async function reachable(url: string): Promise<void> {
  for (;;) {
    const isUp = await fetch(`${url}/readyz`, { headers: { connection: 'close' } }).then(
      ({ status }) => status === 200,
      () => false,
    );
    if (isUp) return;
    await sleep(20);
  }
}

describe('the sum of metrics', () => {
  const page = (text: string): string => text.replaceAll(/^ +/gm, '');
  const one = page(`# HELP sluice_streams_open Open streams.
    # TYPE sluice_streams_open gauge
    sluice_streams_open 3
    # HELP sluice_gaps_total Gaps.
    # TYPE sluice_gaps_total counter
    sluice_gaps_total{reason="evicted"} 2
    # HELP sluice_lag_max_events Lag.
    # TYPE sluice_lag_max_events gauge
    sluice_lag_max_events 7
    # HELP sluice_log_available Log.
    # TYPE sluice_log_available gauge
    sluice_log_available 1
    # HELP latency Latency.
    # TYPE latency histogram
    latency_bucket{le="0.1"} 1
    latency_bucket{le="+Inf"} 2
    latency_sum 0.5
    latency_count 2
    # could not be read: other
  `);
  const other = one
    .replace('sluice_streams_open 3', 'sluice_streams_open 4')
    .replace('sluice_gaps_total{reason="evicted"} 2', 'sluice_gaps_total{reason="malformed"} 1')
    .replace('events 7', 'events 5')
    .replace('available 1', 'available 0');

  it('adds what is counted, label by label, and takes the largest or the least of what cannot be added', () => {
    const sum = new MetricsSum().add(one).add(other).render();
    assert.equal(
      sum,
      page(`# HELP sluice_streams_open Open streams.
        # TYPE sluice_streams_open gauge
        sluice_streams_open 7
        # HELP sluice_gaps_total Gaps.
        # TYPE sluice_gaps_total counter
        sluice_gaps_total{reason="evicted"} 2
        sluice_gaps_total{reason="malformed"} 1
        # HELP sluice_lag_max_events Lag.
        # TYPE sluice_lag_max_events gauge
        sluice_lag_max_events 7
        # HELP sluice_log_available Log.
        # TYPE sluice_log_available gauge
        sluice_log_available 0
        # HELP latency Latency.
        # TYPE latency histogram
        latency_bucket{le="0.1"} 2
        latency_bucket{le="+Inf"} 4
        latency_sum 1
        latency_count 4
      `),
    );
  });

  it('keeps of a process that is gone what it has counted, and none of its gauges', () => {
    const counts = new MetricsSum().add(one).counts().render();
    assert.match(counts, /^sluice_gaps_total\{reason="evicted"\} 2$/m);
    assert.match(counts, /^latency_count 2$/m);
    assert.doesNotMatch(counts, /gauge/);
  });
});
