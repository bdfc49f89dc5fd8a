// With stand-ins for the clients. Real ones, and real servers, are in interop/redis-client.test.ts.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { openRedis, type RedisConnection, type RedisFailure, subscribeRedis } from '../lib/redis-client.ts';
import { fakeTime } from './helpers/clock.ts';
import { type Answer, isReady, isRefused, never, type Place, StandIn } from './helpers/redis-stand-in.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

interface Opened {
  readonly connection: RedisConnection;
  readonly reasons: RedisFailure[];
  ups: number;
}

function open(t: TestContext, client: unknown): Opened {
  const opened = {
    reasons: [] as RedisFailure[],
    ups: 0,
    connection: openRedis(client, {
      onUp: () => opened.ups++,
      onDown: (reason) => opened.reasons.push(reason),
    }),
  };
  t.after(() => opened.connection.close());
  return opened;
}

async function failureOf(sent: Promise<unknown>): Promise<RedisFailure> {
  return sent.then(
    () => assert.fail('was answered'),
    (error) => error,
  );
}

describe('a client of Redis', () => {
  it('is told from anything else, whose content is not named', () => {
    const members = (...names: string[]) => Object.fromEntries(names.map((name) => [name, () => {}]));
    const others: readonly (readonly [other: unknown, got: string])[] = [
      [undefined, 'undefined'],
      [null, 'null'],
      ['redis://user:secret@host', 'a string'],
      [new Map([['password', 'secret']]), 'an instance of Map'],
      [Object.create(null), 'an instance of no class'],
      [members('call', 'duplicate', 'on'), 'an instance of Object'],
      // Version 4 of redis.
      [members('sendCommand', 'connect', 'duplicate', 'disconnect', 'on'), 'an instance of Object'],
    ];
    for (const [other, got] of others)
      assert.throws(() => openRedis(other, { onUp() {}, onDown() {} }), {
        name: 'TypeError',
        message: `\`client\` must be a client of \`redis\` or \`ioredis\`, version 5 or 6, got ${got}`,
      });
  });

  it('is refused with a prefix for keys', () => {
    for (const keyPrefix of ['app:', Buffer.from('app:')]) {
      const client = new StandIn(never, isReady, { keyPrefix });
      assert.throws(() => openRedis(client, { onUp() {}, onDown() {} }), {
        name: 'TypeError',
        message: /^`client` must not have a `keyPrefix`/,
      });
    }
  });

  it('is refused where it cannot be duplicated', () => {
    const sentinel = Object.fromEntries(
      ['sendCommand', 'connect', 'destroy', 'on', 'getSentinelNode'].map((name) => [name, () => {}]),
    );
    assert.throws(() => openRedis(sentinel, { onUp() {}, onDown() {} }), {
      name: 'TypeError',
      message: '`client` cannot be duplicated; a Sentinel client of `redis` can from version 6 on',
    });
  });
});

describe('a connection to Redis', () => {
  it('says nothing before openRedis has returned, nor after close', async (t) => {
    const client = new StandIn(never, isReady);
    const opened = open(t, client);
    assert.deepEqual([opened.ups, opened.connection.isUp], [0, false]);
    await turn();
    await turn();
    assert.deepEqual([opened.ups, opened.connection.isUp], [1, true]);
    opened.connection.close();
    await turn();
    client.duplicates[0]?.lost(new Error('late'));
    assert.deepEqual([opened.ups, opened.reasons.length, client.duplicates.length], [1, 0, 1]);
  });

  it('waits for a random time before it connects again, of which the bound doubles up to 2 s', async (t) => {
    const clock = fakeTime(t);
    let chance = 1;
    t.mock.method(Math, 'random', () => chance);
    const client = new StandIn(never, isRefused);
    const opened = open(t, client);
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 8; attempt++) {
      await turn();
      await turn();
      assert.equal(opened.reasons.length, attempt);
      waits.push(await advanceUntil(clock, () => client.duplicates.length > attempt));
    }
    assert.deepEqual(waits, [110, 210, 410, 810, 1610, 2010, 2010, 2010]);
    chance = 0;
    await turn();
    await turn();
    assert.equal(await advanceUntil(clock, () => client.duplicates.length > 9), 10);
  });

  it('begins with short waits again after a life in which it was answered', async (t) => {
    const clock = fakeTime(t);
    t.mock.method(Math, 'random', () => 1);
    let connects = isRefused;
    const client = new StandIn(
      () => 'PONG',
      (standIn) => connects(standIn),
    );
    const opened = open(t, client);
    for (let attempt = 1; attempt <= 5; attempt++) {
      await turn();
      await turn();
      if (attempt === 5) connects = isReady;
      await advanceUntil(clock, () => client.duplicates.length > attempt);
    }
    await turn();
    await turn();
    assert.equal(opened.ups, 1);
    assert.equal(await opened.connection.send(['PING'], { key: 'a', timeout: 100 }), 'PONG');
    client.duplicates.at(-1)?.lost();
    assert.equal(opened.reasons.at(-1)?.message, 'the connection was closed');
    await turn();
    assert.equal(await advanceUntil(clock, () => client.duplicates.length > 6), 110);
  });

  it('gives up a server that accepts and says nothing', async (t) => {
    const clock = fakeTime(t);
    const client = new StandIn(never, () => {});
    const opened = open(t, client);
    await turn();
    clock.advance(9_999);
    assert.equal(client.duplicates[0]?.status, 'connecting');
    clock.advance(1);
    await turn();
    assert.equal(client.duplicates[0]?.status, 'end');
    assert.deepEqual(
      opened.reasons.map(({ kind, message }) => [kind, message]),
      [['unsent', 'Redis does not answer']],
    );
  });

  it('gives up a server that takes no subscription', async (t) => {
    const clock = fakeTime(t);
    const client = new StandIn(never, isReady);
    t.mock.method(StandIn.prototype, 'subscribe', () => new Promise(() => {}));
    const reasons: string[] = [];
    const events = { onUp: () => assert.fail(), onMessage() {} };
    const onDown = ({ message }: RedisFailure) => {
      reasons.push(message);
    };
    const subscription = subscribeRedis(client, { channel: 'a', ...events, onDown });
    t.after(() => subscription.close());
    await turn();
    await turn();
    clock.advance(10_000);
    await turn();
    assert.deepEqual(reasons, ['Redis does not answer']);
  });

  it('hears of a client that cannot be duplicated just now', async (t) => {
    const client = new StandIn(never, isReady);
    t.mock.method(client, 'duplicate', () => {
      throw new TypeError('bad URL redis://user:secret@host:1/');
    });
    const opened = open(t, client);
    await turn();
    assert.deepEqual(
      opened.reasons.map(({ message }) => message),
      ['bad URL redis://host:1/'],
    );
  });

  it('has no secret in a failure, whatever the server and the client say', async (t) => {
    const errors = [
      Object.assign(new Error('WRONGPASS no'), { command: { name: 'auth', args: ['secret'] } }),
      new Error("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'secret'"),
      new Error('connect to rediss://:secret@host:1 failed'),
      Object.assign(new Error(''), { code: 'ECONNREFUSED', cause: 'secret' }),
      Object.assign(new Error(''), { errors: [new Error('connect ECONNREFUSED ::1:6379')] }),
    ];
    const client = new StandIn(() => Promise.reject(errors.shift()), isReady);
    const { connection } = open(t, client);
    await turn();
    await turn();
    const failures: RedisFailure[] = [];
    while (errors.length > 0)
      failures.push(await failureOf(connection.send(['X'], { key: 'a', timeout: 100 })));
    assert.deepEqual(
      failures.map(({ kind, reply = '', message }) => [kind, reply, message]),
      [
        ['reply', 'WRONGPASS', 'WRONGPASS no'],
        ['reply', 'ERR', "ERR unknown command 'HELLO'"],
        ['unanswered', '', 'connect to rediss://host:1 failed'],
        ['unanswered', '', 'ECONNREFUSED'],
        ['unanswered', '', 'connect ECONNREFUSED ::1:6379'],
      ],
    );
    assert.doesNotMatch(inspect(failures, { depth: 9, showHidden: true }), /secret/);
  });

  it('is not sent where the client takes no such command', async (t) => {
    const client = new StandIn(() => {
      throw new TypeError('no');
    }, isReady);
    const { connection } = open(t, client);
    await turn();
    await turn();
    const { kind, message } = await failureOf(connection.send(['X'], { key: 'a', timeout: 100 }));
    assert.deepEqual([kind, message], ['unsent', 'no']);
  });

  it('asks for nothing that a client would do by itself', async (t) => {
    const client = new StandIn(never, isReady, {
      host: 'redis.example',
      password: 'secret',
      keyPrefix: '',
      maxRetriesPerRequest: 20,
      reconnectOnError: () => 2,
      commandTimeout: 100,
    });
    open(t, client);
    await turn();
    const { options } = client.duplicates[0] as StandIn;
    assert.deepEqual([options.host, options.password], ['redis.example', 'secret']);
    const expected = {
      autoResendUnfulfilledCommands: false,
      commandTimeout: undefined,
      enableOfflineQueue: false,
      lazyConnect: false,
      protocol: 2,
      reconnectOnError: null,
      retryStrategy: null,
    };
    assert.deepEqual({ ...options, ...expected }, options);
  });
});

describe('a connection to a cluster', () => {
  /** A client that knows one node. */
  function clusterOf(answer: Answer, options: Place = {}): { client: unknown; node: StandIn } {
    const node = new StandIn(answer, isReady, { host: 'one.example', port: 1, password: 'secret' });
    const client = Object.assign(new StandIn(never, () => {}, options), {
      isCluster: true,
      nodes: () => [node],
      duplicate: () => {
        setImmediate(() => (client as StandIn).emit('ready'));
        return client;
      },
    });
    return { client, node };
  }

  const placesOf = async (t: TestContext, moved: string, options?: Place) => {
    const { client, node } = clusterOf(
      (_command, { port }) => (port === 1 ? Promise.reject(new Error(moved)) : 'here'),
      options,
    );
    const { connection } = open(t, client);
    while (!connection.isUp) await turn();
    assert.equal(await connection.send(['GET', 'a'], { key: 'a', timeout: 1000 }), 'here');
    const [first] = node.duplicates as [StandIn];
    const [{ options: place }] = first.duplicates as [StandIn];
    const { host, port, password } = place;
    assert.equal(password, 'secret');
    return `${host} ${port}`;
  };

  it('finds a node by each form of its address', async (t) => {
    assert.equal(await placesOf(t, 'MOVED 1 two.example:2'), 'two.example 2');
    assert.equal(await placesOf(t, 'MOVED 1 127.0.0.2:2'), '127.0.0.2 2');
    assert.equal(await placesOf(t, 'MOVED 1 ::1:2'), '::1 2');
    // The node does not know its own name: that of the connection will do.
    assert.equal(await placesOf(t, 'MOVED 1 :2'), 'one.example 2');
    assert.equal(await placesOf(t, 'MOVED 1 ?:2'), 'one.example 2');
  });

  it('goes where the client’s map of addresses says', async (t) => {
    const there = { host: 'outside.example', port: 3 };
    const natMap = { '10.0.0.1:2': there };
    assert.equal(await placesOf(t, 'MOVED 1 10.0.0.1:2', { natMap }), 'outside.example 3');
    assert.equal(await placesOf(t, 'MOVED 1 10.0.0.2:2', { natMap }), '10.0.0.2 2');
    const map = (address: string) => (address === '10.0.0.1:2' ? there : null);
    assert.equal(await placesOf(t, 'MOVED 1 10.0.0.1:2', { natMap: map }), 'outside.example 3');
    assert.equal(await placesOf(t, 'MOVED 1 10.0.0.2:2', { natMap: map }), '10.0.0.2 2');
  });

  it('is not sent round in circles', async (t) => {
    const { client } = clusterOf((_command, { port }) =>
      Promise.reject(new Error(`MOVED 1 one.example:${port === 1 ? 2 : 1}`)),
    );
    const { connection } = open(t, client);
    while (!connection.isUp) await turn();
    const { kind, reply } = await failureOf(connection.send(['GET', 'a'], { key: 'a', timeout: 1000 }));
    assert.deepEqual([kind, reply], ['reply', 'MOVED']);
  });

  it('has not executed what it could not send on', async (t) => {
    const node = new StandIn(
      () => Promise.reject(new Error('MOVED 1 two.example:2')),
      (standIn) => (standIn.options.port === 1 ? isReady(standIn) : isRefused(standIn)),
      { host: 'one.example', port: 1 },
    );
    const client = Object.assign(new StandIn(never, () => {}), {
      isCluster: true,
      nodes: () => [node],
      duplicate: () => {
        setImmediate(() => (client as StandIn).emit('ready'));
        return client;
      },
    });
    const opened = open(t, client);
    while (!opened.connection.isUp) await turn();
    const { kind, message } = await failureOf(
      opened.connection.send(['GET', 'a'], { key: 'a', timeout: 1000 }),
    );
    assert.deepEqual([kind, message], ['unsent', 'connect ECONNREFUSED 127.0.0.1:6379']);
    // Another life asks the cluster again.
    assert.deepEqual([opened.connection.isUp, opened.reasons.length], [false, 1]);
  });
});

/** Milliseconds until something holds, one after the other. */
async function advanceUntil(clock: { advance(time: number): void }, holds: () => boolean): Promise<number> {
  for (let time = 1; time < 20_000; time++) {
    clock.advance(1);
    await null;
    await null;
    await null;
    if (holds()) return time;
  }
  return assert.fail('did not happen within 20 s');
}

describe('a connection that listens to a channel', () => {
  it('gives up a server that accepts it and does not let it subscribe', async (t) => {
    const clock = fakeTime(t);
    t.mock.method(StandIn.prototype, 'subscribe', () => new Promise(() => {}));
    const client = new StandIn(never, isReady);
    const reasons: string[] = [];
    const listener = subscribeRedis(client, {
      channel: 'news',
      onMessage() {},
      onUp() {},
      onDown: ({ message }) => reasons.push(message),
    });
    t.after(() => listener.close());
    await clock.pass(15_000, 1000);
    assert.deepEqual(reasons, ['Redis does not answer']);
    assert.equal(client.duplicates.length, 2);
  });
});
