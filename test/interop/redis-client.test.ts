import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import type { RedisConnection, RedisFailure, RedisReply } from '../../lib/redis-client.ts';
import { cert, key } from '../fixtures/tls.ts';
import { startChaosProxy } from '../helpers/chaos-proxy.ts';
import { freePort } from '../helpers/free-port.ts';
import { activeResources } from '../helpers/handles.ts';
import { type ClientKind, clientKinds, type ServerSetting } from './helpers/redis-clients.ts';
import { failureOf, isSubset, Opened } from './helpers/redis-opened.ts';
import { type RedisProcess, startRedis, until } from './helpers/redis-servers.ts';

async function open(t: TestContext, kind: ClientKind, setting: ServerSetting): Promise<Opened> {
  return new Opened(t, kind.single(setting)).up();
}

for (const kind of clientKinds) {
  describe(`a connection made of a client of ${kind.name}`, { timeout: 60_000 }, () => {
    it('answers in the shapes of RESP2', async (t) => {
      const { connection, send } = bound(await open(t, kind, await startRedis(t)));
      assert.equal(connection.isUp, true);
      assert.equal(await send('SET', 'text', 'a'), 'OK');
      assert.equal(await send('get', 'text'), 'a');
      assert.equal(await send('GET', 'none'), null);
      assert.equal(await send('INCR', 'counter'), 1);
      await send('HSET', 'hash', 'a', '1', 'b', '2');
      assert.deepEqual(await send('HGETALL', 'hash'), ['a', '1', 'b', '2']);
      await send('ZADD', 'sorted', '1.5', 'a', '2', 'b');
      assert.equal(await send('ZSCORE', 'sorted', 'a'), '1.5');
      assert.deepEqual(await send('ZRANGE', 'sorted', '0', '-1', 'WITHSCORES'), ['a', '1.5', 'b', '2']);
      await send('XADD', 'stream', '1-1', 'field', 'value');
      const entries = [['1-1', ['field', 'value']]];
      assert.deepEqual(await send('XRANGE', 'stream', '-', '+'), entries);
      assert.deepEqual(await send('XREAD', 'STREAMS', 'stream', '0'), [['stream', entries]]);
      assert.equal(await send('XREAD', 'BLOCK', '1', 'STREAMS', 'stream', '1-1'), null);
      assert.deepEqual(await send('CONFIG', 'GET', 'appendonly'), ['appendonly', 'no']);
      assert.deepEqual(await send('EVAL', "return {1, 'a', false, {'b', {}}}", '0'), [
        1,
        'a',
        null,
        ['b', []],
      ]);
    });

    it('carries every text there and back, and bytes of UTF-8', async (t) => {
      const { send } = bound(await open(t, kind, await startRedis(t)));
      const texts = [
        '',
        '\0',
        '\r\n',
        '$5\r\nab',
        '\u001b[0m',
        'é€😀\u2028',
        'x'.repeat(1_000_000),
        '-ERR no',
      ];
      for (const text of texts) {
        await send('SET', `key ${text.slice(0, 10)}`, text);
        assert.equal(await send('GET', `key ${text.slice(0, 10)}`), text);
      }
      const bytes = new TextEncoder().encode('<é€😀\r\n\0>').subarray(1, -1);
      await send('SET', bytes, bytes);
      assert.equal(await send('GET', 'é€😀\r\n\0'), 'é€😀\r\n\0');
    });

    it('sends commands in the order of the calls, without waiting for replies', async (t) => {
      const { send } = bound(await open(t, kind, await startRedis(t)));
      const order = Array.from({ length: 500 }, (_, i) => String(i));
      const lengths = await Promise.all(order.map((i) => send('RPUSH', 'list', i)));
      assert.deepEqual(
        lengths,
        order.map((i) => Number(i) + 1),
      );
      assert.deepEqual(await send('LRANGE', 'list', '0', '-1'), order);
    });

    it('names the first word of an error reply, and goes on', async (t) => {
      const { connection, send } = bound(await open(t, kind, await startRedis(t)));
      await send('RPUSH', 'list', 'a');
      const commands: readonly (readonly [word: string, ...command: string[]])[] = [
        ['WRONGTYPE', 'GET', 'list'],
        ['NOSCRIPT', 'EVALSHA', 'f'.repeat(40), '0'],
        ['ERR', 'INCR', 'list', 'twice'],
        ['MY_OWN', 'EVAL', "return redis.error_reply('MY_OWN words')", '0'],
        ['ERR', 'EVAL', "return redis.call('nonsense')", '0'],
      ];
      for (const [word, ...command] of commands) {
        const failure = await failureOf(send(...command));
        assert.deepEqual([failure.kind, failure.reply], ['reply', word], failure.message);
        assert.ok(failure.message.startsWith(word), failure.message);
      }
      await send('CONFIG', 'SET', 'maxmemory', '1');
      assert.equal((await failureOf(send('SET', 'a', 'b'))).reply, 'OOM');
      assert.equal(connection.isUp, true);
    });

    it('certainly does not execute what is sent while it is down', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, server);
      await server.kill();
      await opened.down();
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await until(() => opened.reasons.length > 2);
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await server.start();
      await opened.up();
      assert.equal(await opened.send('GET', 'counter'), null);
    });

    it('does not know of a command whose answer is cut off, and does not send it again', async (t) => {
      const server = await startRedis(t);
      const proxy = await startChaosProxy(t, server.port);
      const opened = await open(t, kind, { port: proxy.port });
      assert.equal(await opened.send('INCR', 'counter'), 1);
      proxy.loseAnswers();
      const sent = [failureOf(opened.send('INCR', 'counter')), failureOf(opened.send('INCR', 'counter'))];
      await until(async () => (await server.command('get', 'counter')) === '3');
      proxy.pass();
      proxy.cut();
      for (const one of sent) assert.equal((await one).kind, 'unanswered');
      await opened.down();
      await opened.up();
      assert.equal(await opened.send('GET', 'counter'), '3');
      assert.deepEqual(opened.said, ['up', 'down', 'up']);
    });

    it('does not know of a command that a server took before it was killed', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, server);
      const sent = failureOf(opened.send('BLPOP', 'never', '0'));
      await until(async () => (await server.command('info', 'clients')).includes('blocked_clients:1'));
      await server.kill();
      assert.equal((await sent).kind, 'unanswered');
    });

    it('does not wait for longer than the time of a command, nor for a server that stands still', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, server);
      server.stop();
      const failure = await failureOf(opened.within(100, 'INCR', 'counter'));
      assert.deepEqual(
        [failure.kind, failure.message],
        ['unanswered', 'Redis has not answered within 100 ms'],
      );
      assert.equal((await opened.down()).message, 'Redis does not answer');
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      server.resume();
      await opened.up();
      // The server found it on the connection that was given up.
      assert.equal(await opened.send('GET', 'counter'), '1');
    });

    it('keeps a connection that is slow, but answers', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, server);
      const [first, second] = [
        opened.send('BLPOP', 'first', '0'),
        opened.within(1000, 'BLPOP', 'second', '0'),
      ];
      await until(async () => (await server.command('info', 'clients')).includes('blocked_clients:1'));
      await server.command('rpush', 'first', 'a');
      assert.deepEqual(await first, ['first', 'a']);
      assert.equal((await failureOf(second)).kind, 'unanswered');
      await server.command('rpush', 'second', 'b');
      assert.equal(await opened.send('GET', 'counter'), null);
      assert.deepEqual(opened.said, ['up']);
    });

    it('says what was not written, where its client can take that back', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, server);
      server.stop();
      // More than the buffers of the two sockets hold.
      const large = Array.from({ length: 40 }, () => opened.send('SET', 'large', 'x'.repeat(1_000_000)));
      const behind = opened.within(200, 'INCR', 'counter');
      const isRedis = kind.name.startsWith('redis');
      assert.equal((await failureOf(behind)).kind, isRedis ? 'unsent' : 'unanswered');
      server.resume();
      await Promise.allSettled(large);
      await opened.up();
      if (isRedis) assert.equal(await opened.send('GET', 'counter'), null);
    });

    it('leaves a server that is no primary any more, once all have their answers', async (t) => {
      const [server, other] = await Promise.all([startRedis(t), startRedis(t)]);
      const opened = await open(t, kind, server);
      await opened.send('SET', 'counter', '1');
      await server.command('replicaof', '127.0.0.1', String(other.port));
      const sent = await Promise.all([
        failureOf(opened.send('INCR', 'counter')),
        failureOf(opened.send('INCR', 'counter')),
      ]);
      assert.deepEqual(
        sent.map(({ kind, reply }) => `${kind} ${reply}`),
        ['reply READONLY', 'reply READONLY'],
      );
      assert.equal((await opened.down()).message, 'the server is no primary any more');
      await server.command('replicaof', 'no', 'one');
      await opened.up();
      await opened.send('SET', 'counter', '1');
    });

    it('does not take a server that loads its data for an empty one', async (t) => {
      const server = await startRedis(t, { args: ['--key-load-delay', '100'] });
      await server.command('eval', "for i = 1, 10000 do redis.call('set', i, i) end", '0');
      const opened = await open(t, kind, server);
      await server.command('save');
      await server.kill();
      await opened.down();
      const starting = server.start();
      let reply: RedisReply | undefined;
      const get = async () => {
        reply = await opened.send('GET', '10000').catch((failure: RedisFailure) => {
          assert.ok(failure.kind === 'unsent' || failure.reply === 'LOADING', inspect(failure));
          return undefined;
        });
        return reply !== undefined;
      };
      await until(get);
      assert.equal(reply, '10000');
      await starting;
    });

    it('names what the server has against it, and no password', async (t) => {
      const server = await startRedis(t, {
        args: ['--requirepass', 'correct-horse'],
        cli: ['--no-auth-warning', '-a', 'correct-horse'],
      });
      const wrong = new Opened(t, kind.single({ port: server.port, password: 'battery-staple' }));
      const { kind: fault, reply } = await wrong.down();
      assert.deepEqual([fault, reply], ['reply', 'WRONGPASS']);
      assert.equal((await failureOf(wrong.send('GET', 'a'))).kind, 'unsent');
      await until(() => wrong.reasons.length > 2);
      assert.ok(!wrong.said.includes('up'));
      assert.doesNotMatch(inspect(wrong.reasons, { depth: 9, showHidden: true }), /battery/);
      const right = await open(t, kind, { port: server.port, password: 'correct-horse' });
      await right.send('SET', 'a', 'b');
    });

    it('learns what it may not do', async (t) => {
      const server = await startRedis(t);
      await server.command('acl', 'setuser', 'poor', 'on', '>pass', '~mine:*', '+@all', '-info', '-flushall');
      const { send } = bound(await open(t, kind, { port: server.port, username: 'poor', password: 'pass' }));
      await send('SET', 'mine:a', 'b');
      assert.equal((await failureOf(send('SET', 'yours:a', 'b'))).reply, 'NOPERM');
      assert.equal((await failureOf(send('FLUSHALL'))).reply, 'NOPERM');
    });

    it('hears that a password is missing', async (t) => {
      const server = await startRedis(t, { args: ['--requirepass', 'secret'] });
      const opened = new Opened(t, kind.single(server));
      await until(() => opened.said.length > 0);
      const failure = opened.reasons[0] ?? (await failureOf(opened.send('GET', 'a')));
      assert.equal(failure.reply, 'NOAUTH');
    });

    it('has the database of the client, and never another one', async (t) => {
      const server = await startRedis(t);
      const opened = await open(t, kind, { port: server.port, database: 3 });
      await opened.send('SET', 'a', 'in the third');
      assert.equal(await server.command('-n', '3', 'get', 'a'), 'in the third');
      const absent = new Opened(t, kind.single({ port: server.port, database: 99 }));
      assert.equal((await absent.down()).kind, 'reply');
      assert.ok(!absent.said.includes('up'));
    });

    it('has the TLS settings of the client, also after a cut', async (t) => {
      const server = await startTls(t);
      const opened = await open(t, kind, { port: server.port, tls: { ca: cert } });
      assert.equal(await opened.send('SET', 'a', 'b'), 'OK');
      await server.kill();
      await opened.down();
      await server.start();
      await opened.up();
      assert.equal(await opened.send('GET', 'a'), null);
      const distrustful = new Opened(t, kind.single({ port: server.port, tls: { ca: '' } }));
      assert.equal((await distrustful.down()).kind, 'unsent');
      assert.ok(!distrustful.said.includes('up'));
    });

    it('lets commands block for longer than the client would wait', async (t) => {
      const server = await startRedis(t);
      const opened = new Opened(t, kind.impatient(server));
      await opened.up();
      const sent = opened.send('BLPOP', 'list', '0');
      await until(async () => (await server.command('info', 'clients')).includes('blocked_clients:1'));
      await new Promise((resolve) => setTimeout(resolve, 300));
      await server.command('rpush', 'list', 'a');
      assert.deepEqual(await sent, ['list', 'a']);
      assert.deepEqual(opened.said, ['up']);
    });

    it('leaves the client as it was: not connected, and without listeners', async (t) => {
      const server = await startRedis(t);
      const client = kind.single(server) as {
        eventNames(): readonly unknown[];
        isOpen?: boolean;
        status?: string;
      };
      const before = client.eventNames();
      const opened = await new Opened(t, client).up();
      await opened.send('SET', 'a', 'b');
      assert.deepEqual(client.eventNames(), before);
      assert.equal(client.isOpen ?? client.status !== 'wait', false);
      const list = await server.command('client', 'list', 'type', 'normal');
      // The other is the one that asks.
      assert.equal(list.trim().split('\n').length, 2);
    });

    it('closes at once, says no more, and leaves nothing behind', async (t) => {
      const server = await startRedis(t);
      const idle = activeResources();
      const opened = await open(t, kind, server);
      const sent = failureOf(opened.send('BLPOP', 'never', '0'));
      opened.connection.close();
      assert.equal(opened.connection.isUp, false);
      assert.equal((await sent).kind, 'unanswered');
      assert.equal((await failureOf(opened.send('GET', 'a'))).kind, 'unsent');
      opened.connection.close();
      await until(() => isSubset(activeResources(), idle));
      assert.deepEqual(opened.said, ['up']);
    });

    it('closes while it connects, waits to connect, or waits for a server that stands still', async (t) => {
      const server = await startRedis(t);
      const idle = activeResources();
      server.stop();
      const connecting = new Opened(t, kind.single(server));
      await new Promise((resolve) => setTimeout(resolve, 100));
      connecting.connection.close();
      const early = new Opened(t, kind.single(server));
      early.connection.close();
      await server.kill();
      const waiting = new Opened(t, kind.single(server));
      await waiting.down();
      waiting.connection.close();
      await until(() => isSubset(activeResources(), idle));
      assert.deepEqual([...connecting.said, ...early.said], []);
      assert.ok(waiting.said.every((word) => word === 'down'));
    });

    it('is refused with a prefix for keys', async (t) => {
      const server = await startRedis(t);
      for (const client of kind.prefixed(server.port))
        assert.throws(() => new Opened(t, client), {
          name: 'TypeError',
          message: /`client` must not have a `keyPrefix`/,
        });
    });
  });
}

function bound(opened: Opened): { connection: RedisConnection; send: Opened['send'] } {
  return { connection: opened.connection, send: opened.send.bind(opened) };
}

async function startTls(t: TestContext): Promise<RedisProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'cert.pem'), cert);
  writeFileSync(join(folder, 'key.pem'), key);
  const port = await freePort();
  const args = ['--port', '0', '--tls-port', String(port), '--tls-auth-clients', 'no'];
  for (const [option, file] of [
    ['--tls-cert-file', 'cert.pem'],
    ['--tls-key-file', 'key.pem'],
    ['--tls-ca-cert-file', 'cert.pem'],
  ] as const)
    args.push(option, join(folder, file));
  return startRedis(t, { port, args });
}
