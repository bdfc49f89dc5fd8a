import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import {
  openRedis,
  type RedisConnection,
  type RedisFailure,
  type RedisReply,
} from '../../lib/redis-client.ts';
import { cert, key } from '../fixtures/tls.ts';
import { activeResources } from '../helpers/handles.ts';
import { freePort } from './helpers/origin.ts';
import { type ClientKind, clientKinds, type ServerSetting } from './helpers/redis-clients.ts';
import {
  type RedisCluster,
  type RedisProcess,
  startCluster,
  startRedis,
  startSentinels,
  until,
} from './helpers/redis-servers.ts';
import { startRelay } from './helpers/relay.ts';

const PATIENCE = 5000;

/** A connection, with what it said, that is closed when the test is over. */
class Opened {
  readonly connection: RedisConnection;
  readonly said: string[] = [];
  readonly reasons: RedisFailure[] = [];

  constructor(t: TestContext, client: unknown) {
    this.connection = openRedis(client, {
      onUp: () => {
        this.said.push('up');
      },
      onDown: (reason) => {
        this.said.push('down');
        this.reasons.push(reason);
      },
    });
    t.after(() => this.connection.close());
  }

  async up(): Promise<this> {
    await until(() => this.connection.isUp);
    return this;
  }

  async down(): Promise<RedisFailure> {
    await until(() => !this.connection.isUp && this.reasons.length > 0);
    return this.reasons.at(-1) as RedisFailure;
  }

  send(...command: readonly (string | Uint8Array)[]): Promise<RedisReply> {
    return this.connection.send(command, { key: 'counter', timeout: PATIENCE });
  }

  within(timeout: number, ...command: readonly string[]): Promise<RedisReply> {
    return this.connection.send(command, { key: 'counter', timeout });
  }
}

async function open(t: TestContext, kind: ClientKind, setting: ServerSetting): Promise<Opened> {
  return new Opened(t, kind.single(setting)).up();
}

/** The failure of a command that must fail. */
async function failureOf(sent: Promise<RedisReply>): Promise<RedisFailure> {
  try {
    return assert.fail(`was answered: ${inspect(await sent)}`);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return error as RedisFailure;
  }
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
      const relay = await startRelay(t, server.port);
      const opened = await open(t, kind, relay);
      assert.equal(await opened.send('INCR', 'counter'), 1);
      relay.swallows = true;
      const sent = [failureOf(opened.send('INCR', 'counter')), failureOf(opened.send('INCR', 'counter'))];
      await until(async () => (await server.command('get', 'counter')) === '3');
      relay.swallows = false;
      relay.cut();
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
      await server.command('eval', "for i = 1, 20000 do redis.call('set', i, i) end", '0');
      const opened = await open(t, kind, server);
      await server.command('save');
      await server.kill();
      await opened.down();
      const starting = server.start();
      let reply: RedisReply | undefined;
      const get = async () => {
        reply = await opened.send('GET', '20000').catch((failure: RedisFailure) => {
          assert.ok(failure.kind === 'unsent' || failure.reply === 'LOADING', inspect(failure));
          return undefined;
        });
        return reply !== undefined;
      };
      await until(get);
      assert.equal(reply, '20000');
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
      assert.deepEqual(waiting.said, ['down']);
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

describe('a connection to a cluster', { timeout: 240_000 }, () => {
  let cluster: RedisCluster;
  const cleanups: (() => unknown)[] = [];
  before(async () => {
    cluster = await startCluster({ after: (done) => cleanups.unshift(done) });
  });
  after(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  const portsOf = ({ primaries }: RedisCluster) => primaries.map(({ port }) => port);
  /** A connection, and the counter that it is for. */
  const openFor = async (t: TestContext, kind: ClientKind, tag: string) => {
    const opened = await new Opened(t, kind.cluster({ ports: portsOf(cluster) })).up();
    const counter = `{${kind.name} ${tag}}counter`;
    const slot = await cluster.slotOf(counter);
    const owner = await cluster.ownerOf(slot);
    const other = cluster.primaries.find((node) => node !== owner) as RedisProcess;
    const { connection } = opened;
    const send = (...command: string[]) => connection.send(command, { key: counter, timeout: PATIENCE });
    return { opened, counter, slot, owner, other, send };
  };

  for (const kind of clientKinds) {
    describe(`made of a client of ${kind.name}`, () => {
      it('goes to the node that has the key, also with commands that have none', async (t) => {
        for (const tag of ['a', 'b', 'c', 'd', 'e', 'f']) {
          const { counter, owner, send } = await openFor(t, kind, tag);
          const hash = await send('SCRIPT', 'LOAD', "return redis.call('INCR', KEYS[1])");
          assert.equal(await send('EVALSHA', String(hash), '1', counter), 1);
          assert.equal(await owner.command('get', counter), '1');
          assert.equal(await send('CLUSTER', 'MYID'), await owner.command('cluster', 'myid'));
        }
      });

      it('is sent on to another node by a key that is there', async (t) => {
        const { opened, send } = await openFor(t, kind, 'home');
        for (let i = 0; i < 30; i++) assert.equal(await send('SET', `${kind.name} ${i}`, String(i)), 'OK');
        for (let i = 0; i < 30; i++) assert.equal(await send('GET', `${kind.name} ${i}`), String(i));
        assert.deepEqual(opened.said, ['up']);
      });

      it('asks the node that was given the key before its slot, and goes there with the slot', async (t) => {
        const { opened, counter, slot, other, send } = await openFor(t, kind, 'ask');
        assert.equal(await send('INCR', counter), 1);
        const move = await cluster.beginMove(slot, other);
        assert.equal(await send('INCR', counter), 2);
        await move.migrate(counter);
        assert.deepEqual(await Promise.all([1, 2, 3].map(() => send('INCR', counter))), [3, 4, 5]);
        assert.equal(await other.command('cluster', 'countkeysinslot', String(slot)), '1');
        await move.finish();
        assert.deepEqual(await Promise.all([1, 2, 3].map(() => send('INCR', counter))), [6, 7, 8]);
        assert.equal(await send('CLUSTER', 'MYID'), await other.command('cluster', 'myid'));
        assert.deepEqual(opened.said, ['up']);
      });

      it('tells that keys are at two nodes', async (t) => {
        const { counter, slot, other, send } = await openFor(t, kind, 'again');
        const second = counter.replace('counter', 'second');
        await send('MSET', counter, '1', second, '2');
        const move = await cluster.beginMove(slot, other);
        await move.migrate(counter);
        const failure = await failureOf(send('MGET', counter, second));
        assert.deepEqual([failure.kind, failure.reply], ['reply', 'TRYAGAIN']);
        await move.finish();
        assert.deepEqual(await send('MGET', counter, second), ['1', '2']);
      });

      it('executes each command once while its slot moves to and fro', async (t) => {
        const { opened, counter, slot, owner, other, send } = await openFor(t, kind, 'fro');
        let sent = 0;
        let isMoving = true;
        const increase = async () => {
          while (isMoving) {
            await Promise.all(Array.from({ length: 10 }, () => send('INCR', counter)));
            sent += 10;
          }
        };
        const increasing = increase();
        for (const target of [other, owner, other, owner]) {
          const from = sent;
          await until(() => sent > from);
          await (await cluster.beginMove(slot, target)).finish();
        }
        isMoving = false;
        await increasing;
        assert.equal(await send('GET', counter), String(sent));
        assert.deepEqual(opened.said, ['up']);
      });

      it('hears of a slot that moves while it blocks, and holds up no other', async (t) => {
        const { counter, slot, other, send } = await openFor(t, kind, 'block');
        const { send: sendOther } = await openFor(t, kind, 'block');
        const stream = counter.replace('counter', 'stream');
        await send('XADD', stream, '1-1', 'a', '1');
        const read = send('XREAD', 'BLOCK', '4000', 'STREAMS', stream, '1-1');
        assert.equal(await sendOther('INCR', counter), 1);
        const move = await cluster.beginMove(slot, other);
        await move.finish();
        await sendOther('XADD', stream, '1-2', 'a', '2');
        assert.deepEqual(await read, [[stream, [['1-2', ['a', '2']]]]]);
      });

      it('leaves nothing behind', async (t) => {
        const idle = activeResources();
        const { opened, counter, send } = await openFor(t, kind, 'idle');
        await send('INCR', counter);
        opened.connection.close();
        await until(() => isSubset(activeResources(), idle));
        assert.deepEqual(opened.said, ['up']);
      });

      it('is down while no node is there', async (t) => {
        const opened = new Opened(t, kind.cluster({ ports: [await freePort()] }));
        assert.equal((await opened.down()).kind, 'unsent');
        await until(() => opened.reasons.length > 2);
        assert.ok(!opened.said.includes('up'));
      });
    });
  }

  for (const kind of clientKinds) {
    it(`made of a client of ${kind.name} goes on at the replica that takes over`, async (t) => {
      const password = 'secret';
      const args = ['--requirepass', password, '--masterauth', password];
      const cli = ['--no-auth-warning', '-a', password];
      const own = await startCluster(t, { replicas: 1, args, cli });
      const opened = await new Opened(t, kind.cluster({ ports: portsOf(own), password })).up();
      assert.equal(await opened.send('INCR', 'counter'), 1);
      assert.equal(await opened.send('WAIT', '1', '0'), 1);
      const owner = await own.ownerOf(await own.slotOf('counter'));
      await owner.kill();
      await opened.down();
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await opened.up();
      assert.equal(await opened.send('INCR', 'counter'), 2);
      // A primary again for a moment, before the others tell it.
      await owner.start();
      assert.equal(await opened.send('INCR', 'counter'), 3);
    });
  }
});

for (const kind of clientKinds.filter(({ sentinel }) => sentinel !== undefined)) {
  describe(`a connection by Sentinels, made of a client of ${kind.name}`, { timeout: 120_000 }, () => {
    const start = async (t: TestContext) => {
      const password = 'secret';
      const group = await startSentinels(t, {
        args: ['--requirepass', password, '--masterauth', password],
        lines: ['sentinel auth-pass main secret'],
        cli: ['--no-auth-warning', '-a', password],
      });
      const ports = group.sentinels.map(({ port }) => port);
      const client = kind.sentinel?.({ ports, name: group.name, password });
      return { group, opened: new Opened(t, client) };
    };

    it('goes on at the replica that is promoted, each time', async (t) => {
      const { group, opened } = await start(t);
      await opened.up();
      assert.equal(await opened.send('INCR', 'counter'), 1);
      assert.equal(await opened.send('WAIT', '1', '0'), 1);
      const promoted = await group.failover();
      await opened.down();
      await until(async () => (await opened.send('INCR', 'counter').catch(() => 0)) === 2);
      assert.equal(await promoted.command('get', 'counter'), '2');

      await until(async () => (await opened.send('WAIT', '1', '0').catch(() => 0)) === 1);
      await promoted.kill();
      await opened.down();
      assert.equal((await failureOf(opened.send('INCR', 'counter'))).kind, 'unsent');
      await until(async () => (await opened.send('INCR', 'counter').catch(() => 0)) === 3);
      assert.equal(await (await group.primary()).command('get', 'counter'), '3');
    });

    it('answers in the shapes of RESP2, executes once, and leaves nothing behind', async (t) => {
      const idle = activeResources();
      const { group, opened } = await start(t);
      await opened.up();
      await opened.send('HSET', 'hash', 'a', '1');
      assert.deepEqual(await opened.send('HGETALL', 'hash'), ['a', '1']);
      const [first] = group.servers as [RedisProcess];
      const sent = failureOf(opened.send('BLPOP', 'never', '0'));
      await until(async () => (await first.command('info', 'clients')).includes('blocked_clients:1'));
      await first.command('client', 'kill', 'type', 'normal', 'skipme', 'yes');
      assert.equal((await sent).kind, 'unanswered');
      await opened.up();
      // It was not sent again.
      assert.ok((await first.command('info', 'clients')).includes('blocked_clients:0'));
      opened.connection.close();
      for (const process of [...group.servers, ...group.sentinels]) await process.kill();
      await until(() => isSubset(activeResources(), idle));
    });
  });
}

function bound(opened: Opened): { connection: RedisConnection; send: Opened['send'] } {
  return { connection: opened.connection, send: opened.send.bind(opened) };
}

/** Whether each of the resources was there before. */
function isSubset(now: readonly string[], before: readonly string[]): boolean {
  const left = [...before];
  return now.every((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at >= 0;
  });
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
