// `sluice serve --log redis://…`, with a real Redis and the clients that users install.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cert, key } from '../fixtures/tls.ts';
import { freePort } from '../helpers/free-port.ts';
import { Reader, Reading } from '../helpers/reader.ts';
import { kept } from './helpers/children.ts';
import { type Origin, startOrigin } from './helpers/origin.ts';
import { startRedis, until } from './helpers/redis-servers.ts';

const SECRET = 'open-sesame';
const bin = fileURLToPath(new URL('../../lib/command/bin.ts', import.meta.url));
// Where the clients are installed.
const cwd = import.meta.dirname;

type Env = Readonly<Record<string, string>>;

interface Served {
  readonly argv?: readonly string[] | undefined;
  readonly port?: number | undefined;
  readonly cwd?: string | undefined;
  readonly env?: Env | undefined;
}

/** Serves until the test is over, with its events at this address. */
function serve(t: TestContext, log: string, { argv = [], port, ...setting }: Served = {}): Promise<Origin> {
  return startOrigin(t, ['--log', log, '--retry', '100ms', ...argv], port, { cwd, ...setting });
}

interface Ended {
  readonly code: number;
  readonly stderr: string;
}

/** Runs a server that does not start. One that does is ended, and has no code. */
async function refused(t: TestContext, argv: readonly string[], env: Env = {}): Promise<Ended> {
  const words = ['--import', import.meta.resolve('tsx'), bin, 'serve', '--port', '0', ...argv];
  const child = kept(spawn(process.execPath, words, { cwd, env: { ...process.env, ...env } }));
  t.after(() => child.kill('SIGKILL'));
  child.stdout.once('data', () => child.kill('SIGKILL'));
  const said = new Reading(child.stderr);
  const [code] = await once(child, 'close');
  return { code, stderr: said.text };
}

interface Answer {
  readonly status: number;
  readonly body: { readonly error?: string; readonly id?: string; readonly status?: string };
}

async function publish({ url }: Origin, data: string, headers: Env = {}): Promise<Answer> {
  const response = await fetch(`${url}/topics/news`, { method: 'POST', body: data, headers });
  return { status: response.status, body: (await response.json()) as Answer['body'] };
}

/** As `sluice publish` does: a busy machine may not answer in time. */
async function published(origin: Origin, data: string, key: string = randomUUID()): Promise<Answer> {
  for (;;) {
    const answer = await publish(origin, data, { 'Idempotency-Key': key });
    if (answer.status !== 503) return answer;
    await sleep(50);
  }
}

async function readiness({ url }: Origin): Promise<Answer> {
  const response = await fetch(`${url}/readyz`);
  return { status: response.status, body: (await response.json()) as Answer['body'] };
}

/** A stream, once it is open. Before its server has reached Redis, it would have no place in the order. */
async function follow(t: TestContext, origin: Origin, lastEventId?: string): Promise<Reader> {
  while ((await readiness(origin)).status !== 200) await sleep(20);
  const { url } = origin;
  const headers = lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId };
  const reader = await Reader.open(`${url}/events?topic=news`, { headers });
  t.after(() => reader.close());
  return reader.until(({ frames }) => frames.length > 0);
}

const gapsOf = ({ frames }: Reader) => frames.filter(({ event }) => event === 'sluice:gap');

/** A folder of its own, with only this client installed. */
function folderWith(t: TestContext, client: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-client-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(join(cwd, 'node_modules', client), join(folder, 'node_modules', client.replace(/\d$/, '')));
  return folder;
}

describe('servers with one log in Redis', { timeout: 60_000 }, () => {
  for (const client of ['redis', 'ioredis', 'redis5', 'ioredis5'])
    it(`share their events and ids, with ${client}`, async (t) => {
      const { port } = await startRedis(t);
      const folder = folderWith(t, client);
      const [one, two] = (await Promise.all(
        ['a', 'b'].map(() => serve(t, `redis://127.0.0.1:${port}`, { cwd: folder })),
      )) as [Origin, Origin];
      const reader = await follow(t, two);
      const { status, body } = await published(one, 'hello');
      assert.equal(status, 200, JSON.stringify(body));
      await reader.until(({ data }) => data.length === 1);
      assert.deepEqual([reader.data, reader.lastEventId], [['hello'], body.id]);
      reader.close();
      await published(two, 'meanwhile');
      const again = await follow(t, one, reader.lastEventId);
      await again.until(({ data }) => data.length === 1);
      assert.deepEqual([again.data, gapsOf(again)], [['meanwhile'], []]);
    });

  it('keep the events of another name apart, and of another database', async (t) => {
    const { port } = await startRedis(t);
    const origins = await Promise.all([
      serve(t, `redis://127.0.0.1:${port}`),
      serve(t, `redis:redis://127.0.0.1:${port}/0`, { argv: ['--log-name', 'other'] }),
      serve(t, `redis://127.0.0.1:${port}/1`),
    ]);
    for (const [i, origin] of origins.entries()) await published(origin, `event ${i}`);
    for (const [i, { url }] of origins.entries()) {
      const reader = await Reader.open(`${url}/events?topic=news&from=earliest`);
      t.after(() => reader.close());
      await reader.until(({ data }) => data.length > 0);
      assert.deepEqual(reader.data, [`event ${i}`]);
    }
  });

  it('may all stop and start: a client goes on where it was', async (t) => {
    const { port } = await startRedis(t);
    const log = `redis://127.0.0.1:${port}`;
    const first = await serve(t, log);
    const reader = await follow(t, first);
    await published(first, 'before');
    await reader.until(({ data }) => data.length === 1);
    first.child.kill('SIGTERM');
    const [code] = await once(first.child, 'exit');
    assert.equal(code, 0, first.log.text);
    const second = await serve(t, log);
    await published(second, 'after');
    const again = await follow(t, second, reader.lastEventId);
    await again.until(({ data }) => data.length === 1);
    assert.deepEqual([again.data, gapsOf(again)], [['after'], []]);
  });

  it('publish a request once that is sent again to another server', async (t) => {
    const { port } = await startRedis(t);
    const log = `redis://127.0.0.1:${port}`;
    const [one, two] = [await serve(t, log), await serve(t, log)];
    const first = await published(one, 'hello', 'order-1');
    const second = await published(two, 'hello', 'order-1');
    assert.deepEqual([first.status, second.body.id], [200, first.body.id]);
  });

  it('pass the limits of a history on to Redis', async (t) => {
    const { port } = await startRedis(t);
    const origin = await serve(t, `redis://127.0.0.1:${port}`, { argv: ['--history', '2'] });
    const { lastEventId } = await follow(t, origin);
    for (const data of ['a', 'b', 'c']) await published(origin, data);
    const reader = await follow(t, origin, lastEventId);
    await reader.until(({ data }) => data.length === 2);
    assert.deepEqual([reader.data, gapsOf(reader).length], [['b', 'c'], 1]);
  });
});

describe('a server with a log in Redis', { timeout: 60_000 }, () => {
  it('publishes each line of its input once, also while Redis stands still', async (t) => {
    const redis = await startRedis(t);
    const log = `redis://127.0.0.1:${redis.port}`;
    const { child, log: said, url } = await serve(t, log, { argv: ['--stdin', 'news'] });
    const reader = await Reader.open(`${url}/events?topic=news`);
    t.after(() => reader.close());
    child.stdin?.write('1\n');
    await reader.until(({ data }) => data.length === 1);
    redis.stop();
    for (let line = 2; line <= 9; line++) child.stdin?.write(`${line}\n`);
    await said.until('"input-failed"');
    redis.resume();
    await reader.until(({ data }) => data.length >= 9);
    child.stdin?.end();
    await reader.over;
    assert.deepEqual(reader.data, ['1', '2', '3', '4', '5', '6', '7', '8', '9']);
  });

  it('shows in its metrics how far it is behind', async (t) => {
    const redis = await startRedis(t);
    const { url } = await serve(t, `redis://127.0.0.1:${redis.port}`);
    const lag = async () => {
      const page = await (await fetch(`${url}/metrics`)).text();
      return Number(/^sluice_log_lag_seconds (.+)$/m.exec(page)?.[1]);
    };
    await until(async () => (await lag()) < 5);
    redis.stop();
    // Longer than a server that has everything waits for news.
    await until(async () => (await lag()) > 6);
    redis.resume();
    await until(async () => (await lag()) < 5);
  });
});

describe('the login of --log', { timeout: 60_000 }, () => {
  const args = ['--requirepass', SECRET];

  it('takes the password from the environment or the URL, and logs it nowhere', async (t) => {
    const { port, kill } = await startRedis(t, { args });
    const env = { SLUICE_REDIS_PASSWORD: SECRET };
    const origins = [
      await serve(t, `redis://127.0.0.1:${port}`, { env }),
      await serve(t, `redis://:${SECRET}@127.0.0.1:${port}`),
      await serve(t, `redis://default:${SECRET}@127.0.0.1:${port}`),
    ];
    for (const origin of origins) assert.equal((await published(origin, 'hello')).status, 200);
    await kill();
    for (const origin of origins) {
      await origin.log.until('"log-failed"');
      assert.doesNotMatch(origin.log.text, new RegExp(SECRET));
    }
  });

  it('is refused in one line where it is wrong, at the start, without the password', async (t) => {
    const { port } = await startRedis(t, { args });
    for (const [log, env] of [
      [`redis://:wrong-one@127.0.0.1:${port}/0`, {}],
      [`redis://nobody@127.0.0.1:${port}/0`, { SLUICE_REDIS_PASSWORD: 'wrong-one' }],
      [`redis://127.0.0.1:${port}/0`, {}],
    ] as const) {
      const { code, stderr } = await refused(t, ['--log', log], env);
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^sluice serve: --log redis://127\\.0\\.0\\.1:${port}/0: .+\n$`));
      assert.doesNotMatch(stderr, /wrong-one/);
    }
  });

  it('uses TLS with rediss://', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    writeFileSync(keyFile, key);
    writeFileSync(certFile, cert);
    const port = await freePort();
    const tls = ['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-auth-clients', 'no'];
    await startRedis(t, { port, args: ['--port', '0', '--tls-port', `${port}`, ...tls, ...args] });
    const env = { SLUICE_REDIS_PASSWORD: SECRET, NODE_EXTRA_CA_CERTS: certFile };
    for (const client of ['redis', 'ioredis']) {
      const origin = await serve(t, `rediss://127.0.0.1:${port}`, { env, cwd: folderWith(t, client) });
      assert.equal((await published(origin, 'hello')).status, 200);
    }
  });
});

describe('a start with --log redis://', { timeout: 60_000 }, () => {
  const faults: Readonly<Record<string, (t: TestContext) => Promise<number>>> = {
    'what has another type at the key': async (t) => {
      const { port, command } = await startRedis(t);
      await command('SET', '{sluice}:meta', 'mine');
      return port;
    },
    'what is no Redis': async (t) => {
      const server = createServer((_, res) => res.end('hello')).listen(0, '127.0.0.1');
      t.after(() => server.close());
      await once(server, 'listening');
      return (server.address() as { port: number }).port;
    },
  };
  for (const [what, start] of Object.entries(faults))
    it(`ends in one line for ${what}`, async (t) => {
      const log = `redis://127.0.0.1:${await start(t)}`;
      const { code, stderr } = await refused(t, ['--log', log]);
      assert.match(stderr, new RegExp(`^sluice serve: --log ${log}: .+\n$`));
      assert.equal(code, 1);
      t.diagnostic(stderr.trim());
    });

  it('names the option of the command where the log cannot use one', async (t) => {
    const { port } = await startRedis(t);
    const log = ['--log', `redis://127.0.0.1:${port}`];
    for (const [name, value] of [
      ['--log-name', 'a{b}'],
      ['--log-lineage', 'maybe'],
      ['--log-wait', '0'],
      ['--history', '0'],
    ] as const) {
      const { code, stderr } = await refused(t, [...log, name, value]);
      assert.match(stderr, new RegExp(`^sluice serve: ${name} must (?:be|have) .+, got .+\n$`));
      assert.equal(code, 2);
    }
  });

  it('waits for a Redis that cannot be reached: not ready, publishing refused, streams open', async (t) => {
    const port = await freePort();
    const origin = await serve(t, `redis://127.0.0.1:${port}`, { argv: ['--stdin', 'lines'] });
    origin.child.stdin?.write('a line\n');
    assert.match(origin.log.text, /"level":"warn","event":"log-unreachable"/);
    const { status: readyz, body: state } = await readiness(origin);
    assert.deepEqual([readyz, state.status], [503, 'log-unavailable']);
    const { status, body } = await publish(origin, 'too soon');
    assert.deepEqual([status, body.error], [503, 'log-unavailable']);
    const reader = await Reader.open(`${origin.url}/events?topic=news`);
    t.after(() => reader.close());
    assert.equal(reader.status, 200);
    await startRedis(t, { port });
    await until(async () => (await readiness(origin)).status === 200);
    assert.equal((await published(origin, 'now')).status, 200);
    await reader.until(({ data }) => data.length > 0);
    assert.deepEqual(reader.data, ['now']);
    const lines = await Reader.open(`${origin.url}/events?topic=lines&from=earliest`);
    t.after(() => lines.close());
    await lines.until(({ data }) => data.length > 0);
    assert.deepEqual(lines.data, ['a line']);
  });
});
