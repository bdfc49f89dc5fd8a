import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Duplex } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Hub } from '../lib/hub.ts';
import type { LogIntake, NewEntry, OwnLog } from '../lib/log.ts';
import { Heard } from '../lib/log-intake.ts';
import { encodeMessage, type Message, MessageReader } from '../lib/log-wire.ts';
import { MemoryLog } from '../lib/memory-log.ts';
import { ProcessesLog, type ProcessesLogOptions, type ServedLog, serveLog } from '../lib/processes.ts';
import { fakeTime } from './helpers/clock.ts';
import { MemoryStore, MemoryLog as StoredLog } from './helpers/memory-log.ts';

function pathFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-processes-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 'log.sock');
}

async function serve(t: TestContext, path: string, log: OwnLog = new MemoryLog()): Promise<ServedLog> {
  const served = await serveLog({ path, log });
  t.after(() => served.close());
  return served;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** A process that follows, without a hub. */
async function follow(
  t: TestContext,
  path: string,
  options: Partial<ProcessesLogOptions> = {},
): Promise<{ log: ProcessesLog; heard: Heard }> {
  const log = new ProcessesLog({ path, ...options });
  const heard = new Heard();
  t.after(() => log.close());
  log.follow(heard);
  await until(() => heard.epoch > 0);
  return { log, heard };
}

const event = (text: string): NewEntry => ({
  at: 1,
  frame: Buffer.from(`data: ${text}\n\n`),
  key: undefined,
});

/** The texts of a topic. */
async function textsOf(log: ProcessesLog, topic: string): Promise<string[]> {
  const { entries } = await log.read([topic], 0, Infinity, { newestOnly: false });
  return entries.map(({ frame }) => Buffer.from(frame).toString().slice('data: '.length, -2));
}

/** A connection by hand. */
class Peer {
  readonly socket: Socket;
  readonly answers: Message[] = [];
  isOver = false;
  readonly #reader = new MessageReader(100 * 1024 * 1024);
  #id = 0;

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.isOver = true;
    });
    this.socket.on('data', (chunk: Buffer) => this.answers.push(...this.#reader.read(chunk)));
  }

  say(head: object, ...parts: Uint8Array[]): this {
    this.socket.write(encodeMessage({ id: ++this.#id, ...head }, parts));
    return this;
  }

  greet(): this {
    return this.say({ ask: 'hello', version: 1 });
  }
}

/** A connection of which nobody reads. */
function stuckStream(): Duplex {
  return new Duplex({ read() {}, write() {} });
}

describe('serveLog', () => {
  it('makes a socket for its own user alone, and removes it when it is closed', async (t) => {
    const path = pathFor(t);
    const served = await serve(t, path);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    await served.close();
    assert.equal(existsSync(path), false);
  });

  it('refuses a path that is too long for a socket, and says by how much', async (t) => {
    const path = pathFor(t).padEnd(108, 'x');
    const message = new RegExp(`^\`path\` must have at most 10\\d bytes, got ${Buffer.byteLength(path)}`);
    await assert.rejects(serve(t, path), { name: 'RangeError', message });
    assert.throws(() => new ProcessesLog({ path }), { name: 'RangeError', message });
  });

  it('refuses a path at which another owner listens, and one of something else, which stays', async (t) => {
    const path = pathFor(t);
    await serve(t, path);
    await assert.rejects(serve(t, path), {
      code: 'ERR_SSE_SOCKET_IN_USE',
      message: /in use by another process/,
    });
    const file = `${path}.txt`;
    writeFileSync(file, 'mine');
    await assert.rejects(serve(t, file), { code: 'ERR_SSE_SOCKET_IN_USE', message: /is not a socket/ });
    assert.equal(readFileSync(file, 'utf8'), 'mine');
    assert.equal((await follow(t, path)).log.connected, true);
  });

  it('names an option that is out of range', async (t) => {
    const [path, log] = [pathFor(t), new MemoryLog()];
    await assert.rejects(
      serveLog({ path, log, maxConnections: 0 }),
      /`maxConnections` must be a number ≥ 1, got 0/,
    );
    await assert.rejects(
      serveLog({ path, log, maxMessageBytes: 1 }),
      /`maxMessageBytes` must be a number ≥ /,
    );
    await assert.rejects(serveLog({ path, log, maxRecentBytes: 1 }), /`maxRecentBytes` must be a number ≥ /);
    assert.throws(
      () => new ProcessesLog({ path, requestTimeout: 0 }),
      /`requestTimeout` must be a number from 1 to 1073741823, got 0/,
    );
  });

  it('refuses times that no timer can wait', (t) => {
    const path = pathFor(t);
    for (const name of ['requestTimeout', 'checkInterval']) {
      for (const value of [Infinity, 2 ** 30, NaN]) {
        const message = `\`${name}\` must be a number from 1 to 1073741823, got ${value}`;
        assert.throws(() => new ProcessesLog({ path, [name]: value }), { name: 'RangeError', message });
      }
    }
  });

  it('keeps a connection whose times are no whole numbers', async (t) => {
    const path = pathFor(t);
    const served = await serve(t, path);
    const { log, heard } = await follow(t, path, { checkInterval: 1.5 });
    for (let i = 0; i < 3; i++) await log.append('a', [event(String(i))]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual([log.connected, served.connections, heard.renewals.length], [true, 1, 1]);
    assert.deepEqual(await textsOf(log, 'a'), ['0', '1', '2']);
  });

  it('waits longer from attempt to attempt, also where the first waits are none', async (t) => {
    let attempts = 0;
    const connectTo = (): Duplex => {
      attempts++;
      const stream = stuckStream();
      setImmediate(() => stream.destroy(new Error('nobody is there')));
      return stream;
    };
    t.mock.method(Math, 'random', () => 0.999);
    const time = fakeTime(t);
    const log = new ProcessesLog({
      path: pathFor(t),
      connect: connectTo,
      minRetryDelay: 0,
      maxRetryDelay: 1000,
    });
    t.after(() => log.close());
    log.follow(new Heard());
    for (let passed = 0; passed < 1000; passed++) {
      time.advance(1);
      for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(attempts >= 8 && attempts <= 12, `${attempts} in a second`);
  });

  it('hands over in one append of its log what all processes append in a turn', async (t) => {
    const path = pathFor(t);
    const log = new MemoryLog();
    const counts: number[] = [];
    const append = log.append.bind(log);
    log.append = (entries, records) => {
      counts.push(entries.length);
      append(entries, records);
    };
    await serve(t, path, log);
    const { log: one } = await follow(t, path);
    await Promise.all(Array.from({ length: 50 }, (_, i) => one.append('a', [event(String(i))])));
    assert.equal(
      counts.reduce((sum, count) => sum + count),
      50,
    );
    assert.ok(counts.length < 25, `${counts}`);
  });

  it('cuts off more processes than maxConnections', async (t) => {
    const path = pathFor(t);
    const served = await serveLog({ path, log: new MemoryLog(), maxConnections: 1 });
    t.after(() => served.close());
    const { log } = await follow(t, path);
    const peer = new Peer(path).greet();
    await until(() => peer.isOver);
    assert.deepEqual([peer.answers, log.connected, served.connections], [[], true, 1]);
  });

  it('answers what was appended before it closes', async (t) => {
    const path = pathFor(t);
    const served = await serve(t, path);
    const peer = new Peer(path).greet();
    await until(() => peer.answers.length === 1);
    const frame = Buffer.from('data: 1\n\n');
    const { log } = await follow(t, path);
    const last = log.append('a', [event('last')]);
    peer.say({ ask: 'append', topic: 'a', items: [[1, null, frame.length]] }, frame);
    await last;
    await served.close();
    await until(() => peer.isOver);
    assert.equal(peer.answers.at(-1)?.head.count, 1);
  });

  describe('cuts a connection that sends what it should not, and no other:', () => {
    const frame = Buffer.from('data: x\n\n');
    const length = (bytes: number): Buffer => {
      const buffer = Buffer.alloc(8);
      buffer.writeUInt32BE(bytes, 0);
      return buffer;
    };
    const wrongs: Readonly<Record<string, (peer: Peer) => unknown>> = {
      'bytes that are no message': ({ socket }) => socket.write('GET / HTTP/1.1\r\n\r\n'),
      'a message without a head': ({ socket }) => socket.write(length(4)),
      'a message that is too long': ({ socket }) => socket.write(length(2 ** 31)),
      'a head that is longer than the message': ({ socket }) =>
        socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 9, 9])),
      'another version': (peer) => peer.say({ ask: 'hello', version: 2 }),
      'a second greeting': (peer) => peer.greet().greet(),
      'a question before its greeting': (peer) => peer.say({ ask: 'list', after: '', limit: 1 }),
      'a question without a number': (peer) => peer.greet().say({ id: 'x', ask: 'list' }),
      'a question that there is not': (peer) => peer.greet().say({ ask: 'constructor', value: 1 }),
      'topics that are no list': (peer) => peer.greet().say({ ask: 'find', topics: 'a' }),
      'too many topics': (peer) => peer.greet().say({ ask: 'find', topics: Array(1001).fill('a') }),
      'a name of the owner’s own topics': (peer) =>
        peer.greet().say({ ask: 'change', topic: '$places', change: 'end' }),
      'a change that there is not': (peer) => peer.greet().say({ ask: 'change', topic: 'a', change: 'drop' }),
      'an append of nothing': (peer) => peer.greet().say({ ask: 'append', topic: 'a', items: [] }),
      'fewer bytes than it states': (peer) =>
        peer.greet().say({ ask: 'append', topic: 'a', items: [[1, null, 9]] }),
      'more bytes than it states': (peer) =>
        peer.greet().say({ ask: 'append', topic: 'a', items: [[1, null, 2]] }, frame),
      'a time that is none': (peer) =>
        peer.greet().say({ ask: 'append', topic: 'a', items: [['1', null, frame.length]] }, frame),
      'a second question for news': (peer) =>
        peer
          .greet()
          .say({ ask: 'follow', after: 0, timeout: 9 })
          .say({ ask: 'follow', after: 0, timeout: 9 }),
      'too many questions at a time': (peer) => {
        peer.greet();
        for (let i = 0; i < 100; i++) peer.say({ ask: 'list', after: '', limit: 1 });
      },
    };
    for (const [what, send] of Object.entries(wrongs)) {
      it(what, async (t) => {
        const path = pathFor(t);
        const served = await serve(t, path);
        const { log } = await follow(t, path);
        const peer = new Peer(path);
        send(peer);
        await until(() => peer.isOver && served.connections === 1);
        await log.append('a', [event('1')]);
        assert.deepEqual(await textsOf(log, 'a'), ['1']);
      });
    }
  });

  it('reads no more from a process that does not take its answers', async (t) => {
    const path = pathFor(t);
    const log = new MemoryLog({ history: { maxBytes: Infinity } });
    const served = await serve(t, path, log);
    const { log: one } = await follow(t, path);
    for (let i = 0; i < 10; i++) await one.append('a', [event('x'.repeat(250_000))]);
    const stuck = stuckStream();
    served.accept(stuck);
    stuck.push(encodeMessage({ id: 1, ask: 'hello', version: 1 }));
    const read = { ask: 'read', topics: ['a'], after: 0, maxBytes: 250_000 };
    for (let id = 2; id < 18; id++) stuck.push(encodeMessage({ id, ...read }));
    await until(() => stuck.isPaused());
    for (let id = 18; id < 1000; id++) stuck.push(encodeMessage({ id, ...read }));
    await one.append('b', [event('others go on')]);
    assert.ok(stuck.writableLength < 17 * 260_000, `${stuck.writableLength}`);
    assert.ok(stuck.writableLength > 0 && !stuck.destroyed);
    stuck.destroy();
  });

  it('gives no news to a process that does not take what it was given', async (t) => {
    const path = pathFor(t);
    const served = await serve(t, path);
    const { log } = await follow(t, path);
    for (let i = 0; i < 10; i++) await log.append('a', [event('x'.repeat(500_000))]);
    const stuck = stuckStream();
    served.accept(stuck);
    const messages = [
      { ask: 'hello', version: 1 },
      ...Array(100).fill({ ask: 'follow', after: 0, timeout: 9 }),
    ];
    // In one piece, so that all of it is read at once.
    stuck.push(Buffer.concat(messages.map((head, i) => encodeMessage({ id: i + 1, ...head }))));
    await until(() => stuck.destroyed);
    assert.ok(stuck.writableLength < 2_000_000, `${stuck.writableLength}`);
    await log.append('b', [event('others go on')]);
  });
});

describe('ProcessesLog', () => {
  it('gives the place of a change to no event, also after the owner has begun again', async (t) => {
    const path = pathFor(t);
    const store = new MemoryStore();
    const first = await serve(t, path, new StoredLog(store));
    const { log, heard } = await follow(t, path, { minRetryDelay: 1 });
    await log.append('a', [event('1')]);
    await log.append('b', [event('2')]);
    assert.equal(await log.change('a', 'end'), true);
    assert.equal(heard.position, 3);
    await first.close();
    await until(() => !log.connected);
    await serve(t, path, new StoredLog(store));
    await until(() => log.connected);
    const { first: place } = await log.append('b', [event('4')]);
    assert.equal(place, 4);
    assert.deepEqual(heard.wrongs, []);
    assert.deepEqual(
      (await log.list()).map(({ topic }) => topic),
      ['a', 'b'],
    );
  });

  it('tells its hub to skip places that the log has refused, and its readers miss nothing', async (t) => {
    const path = pathFor(t);
    const store = new MemoryStore();
    const served = await serve(t, path, new StoredLog(store));
    const { log, heard } = await follow(t, path);
    await log.append('a', [event('1')]);
    store.fails = true;
    await assert.rejects(log.append('a', [event('refused')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.match(served.failure!.message, /the store is full/);
    await assert.rejects(log.append('a', [event('refused')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    store.fails = false;
    await until(() => served.failure === undefined);
    await log.append('a', [event('2')]);
    assert.deepEqual(heard.wrongs, []);
    assert.ok(heard.skipped > 1, 'it was told nothing of the place that is missing');
    assert.deepEqual(await textsOf(log, 'a'), ['1', '2']);
  });

  it('knows while the log of the owner takes no events, and reads and follows all the same', async (t) => {
    const path = pathFor(t);
    const store = new MemoryStore();
    await serve(t, path, new StoredLog(store));
    const { log: other } = await follow(t, path);
    const log = new ProcessesLog({ path, checkInterval: 10 });
    const hub = new Hub({ log, onError: () => {} });
    t.after(() => hub.close());
    await until(() => hub.failure === undefined);
    await other.append('a', [event('1')]);
    store.fails = true;
    await assert.rejects(other.append('a', [event('2')]));
    await until(() => hub.failure !== undefined);
    assert.match(hub.failure!.message, /the store is full/);
    assert.equal(log.connected, true);
    assert.deepEqual(await textsOf(log, 'a'), ['1']);
    const late = await follow(t, path);
    assert.match(late.log.failure!.message, /the store is full/);
    store.fails = false;
    await until(() => hub.failure === undefined);
  });

  it('knows when it last had all that the owner has', async (t) => {
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    const reader = new MessageReader(100 * 1024 * 1024);
    const asked: unknown[] = [];
    const answers = [{ epochs: [{ epoch: 7 }], head: 0 }];
    const owner = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        for (const { head } of reader.read(chunk)) {
          asked.push(head.after);
          const answer = answers.shift();
          if (answer !== undefined) owner.push(encodeMessage({ id: head.id, ...answer }));
        }
        done();
      },
    });
    t.after(() => owner.destroy());
    /** The owner answers the question of the id for what comes next. */
    const say = async (id: number, news: object): Promise<void> => {
      const before = asked.length;
      owner.push(encodeMessage({ id, items: [], ...news }));
      await until(() => asked.length > before);
    };
    const { log } = await follow(t, pathFor(t), { connect: () => owner });
    await until(() => asked.length === 2);
    now = 100;
    assert.equal(log.lag, 100);
    await say(2, { upTo: 0, head: 0 });
    assert.equal(log.lag, 0);
    now = 200;
    await say(3, { upTo: 5, head: 8 });
    assert.equal(log.lag, 100);
    await say(4, { upTo: 8, head: 8 });
    assert.equal(log.lag, 0);
    assert.deepEqual(asked, [undefined, 0, 0, 5, 8]);
  });

  it('ends a connection that was not answered yet when it is closed', async (t) => {
    const silent = stuckStream();
    const log = new ProcessesLog({ path: pathFor(t), connect: () => silent, requestTimeout: 2 ** 30 - 1 });
    log.follow(new Heard());
    await log.close();
    await until(() => silent.destroyed);
  });

  it('answers an append once its own hub has all of it, however many pages that takes', async (t) => {
    const path = pathFor(t);
    await serve(t, path);
    const { log, heard } = await follow(t, path);
    await log.append(
      'a',
      Array.from({ length: 20 }, () => event('x'.repeat(20_000))),
    );
    assert.equal(heard.position, 20);
  });

  it('reads all topics of a long list, and events of any size', async (t) => {
    const path = pathFor(t);
    await serve(t, path);
    const { log } = await follow(t, path);
    await Promise.all(Array.from({ length: 2100 }, (_, i) => log.append(`t${i}`, [event('x')])));
    assert.equal((await log.list()).length, 2100);
    assert.equal((await log.list({ limit: 1500 })).length, 1500);
    assert.equal((await log.find(Array.from({ length: 2100 }, (_, i) => `t${i}`))).length, 2100);
    await log.append('large', [event('x'.repeat(1_100_000))]);
    assert.equal((await textsOf(log, 'large'))[0]?.length, 1_100_000);
  });

  it('gets many small events with long keys page by page', async (t) => {
    const path = pathFor(t);
    await serve(t, path);
    const { log, heard } = await follow(t, path);
    const key = '\u0000'.repeat(1000);
    const events = Array.from({ length: 1000 }, (_, i) => ({ ...event(String(i)), key }));
    await log.append('a', events);
    const seqs: number[] = [];
    for (let at = 0; at < heard.position; ) {
      const page = await log.read(['a'], at, 256 * 1024, { newestOnly: false });
      seqs.push(...page.entries.map(({ seq }) => seq));
      assert.ok(page.entries.length < 1000);
      at = page.until;
    }
    assert.deepEqual(
      seqs,
      events.map((_, i) => i + 1),
    );
    assert.equal(heard.entries.length, 1000);
  });

  it('refuses a batch that is larger than a message, before it sends anything', async (t) => {
    const path = pathFor(t);
    await serve(t, path);
    const { log } = await follow(t, path, { maxMessageBytes: 1024 * 1024 });
    const batch = Array.from({ length: 2 }, () => event('x'.repeat(600_000)));
    await assert.rejects(log.append('a', batch), { code: 'ERR_SSE_BATCH_TOO_LARGE', status: 413 });
    assert.deepEqual(await log.list(), []);
  });

  /** An owner that greets, says where the order is, and then answers nothing. */
  function silentOwner(t: TestContext, onAsked: (ask: unknown) => void = () => {}): () => Duplex {
    return () => {
      const reader = new MessageReader(100 * 1024 * 1024);
      const stream = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          for (const { head } of reader.read(chunk)) {
            onAsked(head.ask);
            if (head.ask === 'hello')
              stream.push(encodeMessage({ id: head.id, epochs: [{ epoch: 7 }], head: 0 }));
          }
          done();
        },
      });
      t.after(() => stream.destroy());
      return stream;
    };
  }

  it('does not know the outcome where the owner is silent, and refuses at once what is too much to wait', async (t) => {
    const path = pathFor(t);
    const options = { connect: silentOwner(t), requestTimeout: 20, maxWaitingBytes: 1000 };
    const { log } = await follow(t, path, options);
    const first = log.append('a', [event('x'.repeat(900))]);
    const second = log.append('a', [event('x'.repeat(900))]);
    await assert.rejects(second, { code: 'ERR_SSE_LOG_UNAVAILABLE', message: /too many bytes wait/ });
    await assert.rejects(first, { code: 'ERR_SSE_OUTCOME_UNKNOWN', message: /did not answer within 20 ms/ });
    await assert.rejects(log.find(['a']), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
  });

  it('counts what an append holds while it waits, however small its event, and a change as well', async (t) => {
    const options = { connect: silentOwner(t), requestTimeout: 100, maxWaitingBytes: 40_000 };
    const { log } = await follow(t, pathFor(t), options);
    const codes = async (asked: readonly Promise<unknown>[]): Promise<unknown[]> => {
      const settled = await Promise.allSettled(asked);
      return settled.map((one) => one.status === 'rejected' && one.reason.code);
    };
    const [taken, refused] = ['ERR_SSE_OUTCOME_UNKNOWN', 'ERR_SSE_LOG_UNAVAILABLE'];
    const appends = await codes(Array.from({ length: 12 }, () => log.append('a', [event('x')])));
    assert.deepEqual(appends, [...Array(9).fill(taken), ...Array(3).fill(refused)]);
    const changes = await codes(Array.from({ length: 12 }, () => log.change('a', 'end')));
    assert.deepEqual(changes, [...Array(11).fill(taken), refused]);
  });

  it('never asks more at a time than the owner allows, also where that answers too late', async (t) => {
    let finds = 0;
    const count = (ask: unknown): void => {
      if (ask === 'find') finds++;
    };
    const options = { connect: silentOwner(t, count), requestTimeout: 10 };
    const { log } = await follow(t, pathFor(t), options);
    for (let i = 0; i < 50; i++) await assert.rejects(log.find(['a']), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.ok(finds <= 16, `${finds}`);
  });

  it('takes an owner that is silent for too long for gone, and connects again', async (t) => {
    const path = pathFor(t);
    let connections = 0;
    const make = silentOwner(t);
    const connect = (): Duplex => {
      connections++;
      return make();
    };
    const options = { connect, requestTimeout: 10, checkInterval: 10, minRetryDelay: 1, maxRetryDelay: 1 };
    const { heard } = await follow(t, path, options);
    await until(() => connections > 2);
    assert.equal(heard.renewals.length, 1);
  });

  it('refuses at once what more than 10,000 callers want to ask', async (t) => {
    const path = pathFor(t);
    const { log } = await follow(t, path, { connect: silentOwner(t), requestTimeout: 1000 });
    const asked = Array.from({ length: 10_008 }, () => log.find(['a']).catch(() => {}));
    await assert.rejects(log.find(['a']), { code: 'ERR_SSE_LOG_UNAVAILABLE', message: /too many questions/ });
    await log.close();
    await Promise.all(asked);
  });

  it('skips what is no longer among the newest events of the owner, and reads it from the log', async (t) => {
    const path = pathFor(t);
    const limits = { maxMessageBytes: 1024 * 1024, maxRecentBytes: 2 * 1024 * 1024 };
    const served = await serveLog({ path, log: new MemoryLog(), ...limits });
    t.after(() => served.close());
    const { log } = await follow(t, path);
    let isCut = false;
    let socket: Socket | undefined;
    const behind = await follow(t, path, {
      minRetryDelay: 1,
      connect: () => {
        socket = connect(isCut ? `${path}.cut` : path);
        return socket;
      },
    });
    isCut = true;
    socket?.destroy();
    for (let i = 0; i < 6; i++) await log.append('a', [event(`${i}${'x'.repeat(500_000)}`)]);
    isCut = false;
    await until(() => behind.heard.position === 6);
    assert.equal(behind.heard.skipped, 2);
    assert.deepEqual(behind.heard.wrongs, []);
    assert.deepEqual((await textsOf(behind.log, 'a')).length, 1, 'a page has 256 KiB, or one event');
  });

  it('stays away from a log that has lost events and goes on in the same epoch', async (t) => {
    const path = pathFor(t);
    const store = new MemoryStore();
    const first = await serve(t, path, new StoredLog(store));
    const log = new ProcessesLog({ path, minRetryDelay: 1, maxRetryDelay: 1 });
    t.after(() => log.close());
    const errors: string[] = [];
    const heard = new Heard();
    const intake: LogIntake = {
      accept: (entries) => heard.accept(entries),
      skip: (seq) => heard.skip(seq),
      renew: (epoch, oldEnd) => heard.renew(epoch, oldEnd),
      back: () => heard.back(),
      away: (error) => errors.push((error as Error).message),
    };
    log.follow(intake);
    await until(() => heard.epoch > 0);
    for (const text of ['1', '2']) await log.append('a', [event(text)]);
    await first.close();
    store.entries.pop();
    store.topics.get('a')!.last = 1;
    await serve(t, path, new StoredLog(store));
    await until(() => errors.some((message) => /has lost its newest events, from 1 to 2/.test(message)));
    await assert.rejects(log.append('a', [event('3')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
  });

  it('asks the process of the owner for something else, and gets its answer or its error', async (t) => {
    const path = pathFor(t);
    const answers = {
      double: (value: unknown) => 2 * (value as number),
      fail: () => {
        throw Object.assign(new Error('no'), { code: 'ERR_SSE_NO', status: 418 });
      },
    };
    const served = await serveLog({ path, log: new MemoryLog(), answers });
    t.after(() => served.close());
    const { log } = await follow(t, path);
    assert.equal(await log.ask('double', 21), 42);
    for (let i = 0; i < 20; i++) await assert.rejects(log.ask('double', 1n), /BigInt/);
    await assert.rejects(log.ask('fail', undefined), { code: 'ERR_SSE_NO', status: 418, message: 'no' });
  });

  it('tells who waits that the outcome is unknown when it is closed', async (t) => {
    const path = pathFor(t);
    const { log } = await follow(t, path, { connect: silentOwner(t) });
    const append = assert.rejects(log.append('a', [event('1')]), { code: 'ERR_SSE_OUTCOME_UNKNOWN' });
    await log.close();
    await append;
    await assert.rejects(log.append('a', [event('2')]), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
  });
});

describe('an owner and writers that are processes of their own', () => {
  const fixture = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}.ts`, import.meta.url));

  class Process {
    readonly child: ChildProcess;
    readonly lines: string[] = [];

    constructor(t: TestContext, name: string, ...args: string[]) {
      this.child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), fixture(name), ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let rest = '';
      this.child.stdout!.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop()!;
        this.lines.push(...lines);
      });
      t.after(() => this.kill());
    }

    async has(count: number): Promise<void> {
      while (this.lines.length < count) await once(this.child.stdout!, 'data');
    }

    async kill(): Promise<void> {
      if (this.child.exitCode !== null || this.child.signalCode !== null) return;
      const closed = once(this.child, 'close');
      this.child.kill('SIGKILL');
      await closed;
    }
  }

  it('lose nothing that was acknowledged when a writer is killed, and one gap is told when the owner is', async (t) => {
    const path = pathFor(t);
    const owner = new Process(t, 'log-owner', path);
    await owner.has(1);
    const hub = new Hub({ log: new ProcessesLog({ path, minRetryDelay: 1 }), onError: () => {} });
    t.after(() => hub.close());
    const chunks: string[] = [];
    const sink = Object.assign(
      new Duplex({ read() {}, write: (chunk, _, done) => done(void chunks.push(String(chunk))) }),
    );
    await until(() => hub.failure === undefined);
    hub.subscribe(['a', 'b'], sink);
    const writers = [new Process(t, 'log-writer', path, 'a'), new Process(t, 'log-writer', path, 'b')];
    await Promise.all(writers.map((writer) => writer.has(20)));
    await writers[0]!.kill();
    const acknowledged = writers[0]!.lines.length;
    await writers[1]!.has(writers[1]!.lines.length + 20);

    const topics = await hub.list({});
    const counts = new Map(topics.map(({ topic, events }) => [topic, events]));
    assert.ok(counts.get('a')! >= acknowledged, `${counts.get('a')} of ${acknowledged}`);
    const text = (): string => chunks.join('');
    assert.doesNotMatch(text(), /sluice:gap/);

    const before = writers[1]!.lines.length;
    await owner.kill();
    await until(() => hub.failure !== undefined);
    assert.equal(existsSync(path), true, 'the socket of a killed owner stays');
    const next = new Process(t, 'log-owner', path);
    await next.has(1);
    await until(() => hub.failure === undefined);
    await writers[1]!.has(before + 20);
    await until(
      () => text().split('store-changed').length === 2 && /store-changed[\s\S]*data: \d/.test(text()),
    );
    assert.equal(text().match(/event: sluice:gap/g)?.length, 1);
    assert.equal(sink.destroyed, false);
  });
});

describe('listenOnSocket', () => {
  it('replaces the socket of a dead process in its own folder, however long the path is', async (t) => {
    const outer = dirname(pathFor(t));
    const most = process.platform === 'linux' ? 107 : 103;
    const folder = join(outer, 'x'.repeat(most - `${outer}//log.sock`.length));
    mkdirSync(folder);
    const path = join(folder, 'log.sock');
    // Ends without removing its socket.
    const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ['-e', script, path]);
    assert.deepEqual(readdirSync(folder), ['log.sock']);
    const changed = new Set<string | null>();
    const beside = watch(outer, (_, name) => changed.add(name));
    t.after(() => beside.close());
    await serve(t, path);
    writeFileSync(join(outer, 'last'), '');
    await until(() => changed.has('last'));
    assert.deepEqual([...changed], ['last']);
  });

  it('takes a socket whose queue is full for one that lives', async (t) => {
    const path = pathFor(t);
    const busy = createServer().listen({ path, backlog: 1 });
    await once(busy, 'listening');
    t.after(() => busy.close());
    await assert.rejects(serve(t, path), { code: 'ERR_SSE_SOCKET_IN_USE' });
  });
});
