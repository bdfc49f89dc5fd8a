// What a log in Redis needs to be allowed, TLS, and that passwords stay secret.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { Cluster } from 'ioredis';
import { createCluster } from 'redis';
import { Hub } from '../../lib/hub.ts';
import { RedisLog, type RedisLogOptions } from '../../lib/redis.ts';
import { createSseServer } from '../../lib/server.ts';
import { freePort } from '../helpers/free-port.ts';
import type { Cleanup } from '../helpers/server.ts';
import { keys, NAME } from './helpers/redis-chaos.ts';
import { clientKinds } from './helpers/redis-clients.ts';
import { type RedisProcess, startCluster, startRedis, until } from './helpers/redis-servers.ts';

const PASSWORD = 'correct-horse-battery';

/** All that a log asks of Redis, by itself and in its scripts. */
const COMMANDS = [
  ...['evalsha', 'eval', 'xread', 'info', 'time', 'exists', 'unlink', 'rename', 'pexpire', 'persist'],
  ...['hget', 'hmget', 'hset', 'hdel', 'hlen'],
  ...['zadd', 'zrem', 'zscore', 'zcard', 'zrange', 'zrangebylex', 'zunionstore'],
  ...['rpush', 'lpop', 'lindex', 'llen'],
  ...['xadd', 'xtrim', 'xlen', 'xrange', 'xrevrange'],
];
/** Only in a cluster. */
const IN_CLUSTER = ['cluster|myid', 'cluster|nodes', 'cluster|slots', 'asking'];

/** Lets a user do nothing but these commands, with the keys of the hub. */
async function allow(redis: RedisProcess, commands: readonly string[]): Promise<void> {
  const rules = ['reset', 'on', `>${PASSWORD}`, `~{${NAME}}:*`, ...commands.map((command) => `+${command}`)];
  await redis.command('acl', 'setuser', 'sluice', ...rules);
  await redis.command('acl', 'log', 'reset');
}

/** What was refused, without what clients ask on their own account. */
async function refused(redis: RedisProcess): Promise<string[]> {
  const log = await redis.command('acl', 'log', '100');
  const all = [...log.matchAll(/^object\n(.*)$/gm)].map(([, object]) => object!);
  return [...new Set(all)].filter((object) => !OF_CLIENTS.includes(object)).sort();
}

/** Clients go on without these. */
const OF_CLIENTS = ['client|setinfo', 'client|setname', 'client|id', 'hello', 'ping', 'select', 'command'];

const event = (data: string, key?: string) => ({
  at: Date.now(),
  frame: Buffer.from(`data: ${data}\n\n`),
  key,
});
const digest = (key: string) => ({ idempotency: { key, digest: 'd' } });

/** Has logs do all that they can, one after another, until that is done or given up. */
async function exercise(admin: RedisProcess, client: () => unknown, stop?: AbortSignal): Promise<void> {
  const use = <T>(options: RedisLogOptions, act: (log: RedisLog) => Promise<T>): Promise<T> =>
    withLog(client(), options, act, stop);
  const limits: RedisLogOptions[] = [
    { history: { maxEvents: 4 }, maxTopics: 2, feed: { maxEvents: 4 } },
    { history: { maxEvents: 4, maxAge: 60_000 }, idempotency: { maxKeys: 1 }, feed: { maxBytes: 200 } },
  ];
  for (const options of limits) {
    await use(options, async (log) => {
      for (const data of ['one', 'two', 'three', 'four', 'five'])
        await log.append('a', [event(data, data)], digest(data));
      await log.append('b', [event('one'), event('two')]);
      await log.change('b', 'end');
      await log.change('b', 'reopen');
      await log.append('c', [event('one')]);
      await log.change('c', 'delete');
      await log.find(['a', 'b', 'c']);
      await log.beforeNewest(['a', 'b'], 3);
      await log.read(['a', 'b'], 0, 1000, { newestOnly: false });
      await log.read(['a'], 0, 1000, { newestOnly: true });
    });
    await admin.command('del', keys.names);
    await use({}, (log) => log.list({}));
    // What an order leaves behind when another one begins, and again before that was cleaned up.
    await admin.command('zadd', keys.stale, '0', 'x');
    await admin.command('hset', keys.meta, 'replid', 'of another', 'runid', 'of another');
    await use({}, async (log) => {
      await log.append('d', [event('one')]);
      await until(async () => stop?.aborted || (await admin.command('exists', keys.stale)) === '0');
    });
    await admin.command('hset', keys.meta, 'replid', 'of another', 'runid', 'of another');
    await use({}, (log) => log.append('e', [event('one')]));
  }
}

/** Runs something with a log that is followed. */
async function withLog<T>(
  client: unknown,
  options: RedisLogOptions,
  use: (log: RedisLog) => Promise<T>,
  stop?: AbortSignal,
): Promise<T> {
  stop?.throwIfAborted();
  const log = new RedisLog(client, { name: NAME, checkInterval: 100, ...options });
  const began = new Promise<void>((resolve) => {
    log.follow({ accept() {}, skip() {}, renew: () => resolve(), away() {}, back() {} });
  });
  const stopped = new Promise<never>((_, reject) => {
    stop?.addEventListener('abort', () => reject(stop.reason));
  });
  try {
    return await Promise.race([began.then(() => use(log)), stopped]);
  } finally {
    await log.close();
  }
}

describe('a user of Redis with the least of rights', () => {
  for (const kind of clientKinds) {
    it(`is enough for a log by ${kind.name}`, async (t) => {
      const redis = await startRedis(t);
      await allow(redis, COMMANDS);
      const client = () => kind.single({ port: redis.port, username: 'sluice', password: PASSWORD });
      await exercise(redis, client);
      assert.deepEqual(await refused(redis), []);
    });
  }

  it('needs each of its commands', async (t) => {
    const redis = await startRedis(t);
    const kind = clientKinds.at(-1)!;
    const client = () => kind.single({ port: redis.port, username: 'sluice', password: PASSWORD });
    const needless: string[] = [];
    for (const command of COMMANDS) {
      await redis.command('flushall');
      await redis.command('script', 'flush');
      const others = COMMANDS.filter((one) => one !== command);
      await allow(redis, others);
      const stop = new AbortController();
      const over = exercise(redis, client, stop.signal).then(
        () => 'done',
        () => 'failed',
      );
      await until(async () => {
        if ((await refused(redis)).length > 0) stop.abort();
        return stop.signal.aborted || (await Promise.race([over, setImmediate('')])) !== '';
      });
      await over;
      const missed = await refused(redis);
      if (missed.join() !== command) needless.push(`${command}: ${missed}`);
    }
    assert.deepEqual(needless, []);
  });
});

describe('in a cluster', () => {
  const clients = {
    'ioredis 6': (ports: readonly number[]) =>
      new Cluster(
        ports.map((port) => ({ port, host: '127.0.0.1' })),
        { lazyConnect: true, redisOptions: { username: 'sluice', password: PASSWORD } },
      ),
    'redis 6': (ports: readonly number[]) =>
      createCluster({
        rootNodes: ports.map((port) => ({ socket: { port, host: '127.0.0.1' } })),
        defaults: { username: 'sluice', password: PASSWORD },
      }),
  };
  for (const [name, client] of Object.entries(clients)) {
    it(`${name} needs a few commands more, also while the slot moves`, async (t) => {
      const cluster = await startCluster(t);
      for (const node of cluster.primaries) await allow(node, [...COMMANDS, ...IN_CLUSTER]);
      const slot = await cluster.slotOf(keys.meta);
      const owner = await cluster.ownerOf(slot);
      const next = cluster.primaries.find((node) => node !== owner)!;
      const ports = cluster.primaries.map(({ port }) => port);
      await withLog(client(ports), {}, async (log) => {
        const appends = (data: string): Promise<boolean> =>
          log.append('a', [event(data)]).then(
            () => true,
            () => false,
          );
        await until(() => appends('one'));
        const move = await cluster.beginMove(slot, next);
        // Unknown where the last of its attempts had no answer in time.
        await assert.rejects(log.append('a', [event('two')]), {
          code: /^ERR_SSE_(LOG_UNAVAILABLE|OUTCOME_UNKNOWN)$/,
        });
        await move.migrate();
        // The follower goes on where the feed is now.
        await sleep(500);
        await move.finish();
        await until(() => appends('two'));
      });
      for (const node of cluster.primaries) assert.deepEqual(await refused(node), []);
    });
  }
});

describe('over TLS', () => {
  for (const kind of clientKinds) {
    it(`a log by ${kind.name} works with a certificate that it was told to trust, and with no other`, async (t) => {
      const { redis, ca } = await startTlsRedis(t);
      const client = (tls: { ca: string }) => kind.single({ port: redis.port, password: PASSWORD, tls });
      await withLog(client({ ca }), {}, async (log) => {
        await log.append('a', [event('one')]);
        assert.equal(await log.verify(), true);
      });
      const stranger = new RedisLog(client({ ca: makeCertificate(t).ca }), { name: NAME });
      t.after(() => stranger.close());
      assert.notEqual(await stranger.verify().catch(() => false), true);
      assert.match(await redis.command('info', 'clients'), /connected_clients/);
    });
  }
});

/** A server that speaks TLS alone. */
async function startTlsRedis(t: Cleanup): Promise<{ readonly redis: RedisProcess; readonly ca: string }> {
  const { ca, certFile, keyFile } = makeCertificate(t);
  const port = await freePort();
  const tls = {
    ...{ port: 0, 'tls-port': port, 'tls-auth-clients': 'no', requirepass: PASSWORD },
    ...{ 'tls-cert-file': certFile, 'tls-key-file': keyFile, 'tls-ca-cert-file': certFile },
  };
  const args = Object.entries(tls).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const cli = ['--tls', '--cacert', certFile, '--no-auth-warning', '-a', PASSWORD];
  return { redis: await startRedis(t, { port, args, cli }), ca };
}

/** Signed by itself, for the loopback. */
function makeCertificate(t: Cleanup): { ca: string; certFile: string; keyFile: string } {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  execFileSync('openssl', ['req', ...kind, ...names, '-keyout', keyFile, '-out', certFile], {
    stdio: 'ignore',
  });
  return { ca: readFileSync(certFile, 'utf8'), certFile, keyFile };
}

describe('a password', () => {
  for (const kind of clientKinds) {
    it(`appears in nothing that a server with ${kind.name} says`, async (t) => {
      const redis = await startRedis(t);
      await allow(redis, COMMANDS);
      const said: unknown[] = [];
      const warn = (warning: Error) => void said.push(warning);
      process.on('warning', warn);
      t.after(() => process.off('warning', warn));
      const log = new RedisLog(kind.single({ port: redis.port, username: 'sluice', password: PASSWORD }), {
        name: NAME,
        checkInterval: 100,
      });
      const hub = new Hub({ log, onError: (...all) => void said.push(all) });
      const server = createSseServer({ hub, logger: (line) => void said.push(line) });
      t.after(() => hub.close());
      t.after(() => server.close({ deadline: 100 }));
      const url = await server.listen(0);
      const ask = async (path: string, init?: RequestInit): Promise<number> => {
        const answer = await fetch(`${url}${path}`, init);
        said.push(await answer.text(), [...answer.headers]);
        return answer.status;
      };
      const publish = () => ask('/topics/a', { method: 'POST', body: 'x' });
      await until(async () => (await publish()) === 200);
      // What is refused, what is cut off, and what is not let in again.
      await redis.command('acl', 'setuser', 'sluice', '-xread', '-evalsha');
      await until(async () => (await publish()) === 503);
      await redis.command('acl', 'setuser', 'sluice', 'resetpass', '>another', '+@all');
      await redis.command('client', 'kill', 'user', 'sluice');
      await until(async () => (await ask('/readyz')) === 503);
      await publish();
      await ask('/metrics');
      await assert.rejects(log.verify(), (error) => {
        said.push(error);
        assert.equal((error as { code?: string }).code, 'ERR_SSE_REDIS_DENIED');
        return true;
      });
      said.push(hub.failure, hub, log, server);
      await redis.kill();
      await publish();
      const text = inspect(said, { depth: 8 });
      assert.match(text, /WRONGPASS/);
      const at = text.indexOf(PASSWORD);
      assert.equal(at, -1, text.slice(Math.max(0, at - 1500), at + 100));
    });
  }
});
