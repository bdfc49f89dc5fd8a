import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type RedisFailure, RedisLine, redisFailure } from '../lib/redis-line.ts';
import type { RedisWire, RedisWireEvents, RedisWord } from '../lib/redis-wire.ts';
import { fakeTime } from './helpers/clock.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

interface Call {
  readonly command: readonly RedisWord[];
  readonly withdrawal: AbortSignal | undefined;
  resolve(reply: unknown): void;
  reject(error: unknown): void;
}

/** A wire whose replies the test gives. */
class HandWire implements RedisWire {
  isReady = true;
  canWithdraw = false;
  isClosed = false;
  readonly calls: Call[] = [];
  readonly #events: RedisWireEvents;

  constructor(events: RedisWireEvents) {
    this.#events = events;
  }

  call(command: readonly RedisWord[], withdrawal: AbortSignal | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.calls.push({ command, withdrawal, resolve, reject });
    });
  }

  subscribe(): Promise<unknown> {
    return Promise.resolve();
  }

  reach(): RedisWire {
    return this;
  }

  ready(): void {
    this.#events.onReady();
  }

  close(): void {
    this.lost(undefined);
  }

  lost(reason: unknown): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isReady = false;
    this.#events.onEnd(reason);
  }
}

function open(t: TestContext) {
  const clock = fakeTime(t);
  const ends: string[] = [];
  let made: HandWire | undefined;
  const line = new RedisLine(
    (events) => {
      made = new HandWire(events);
      return made;
    },
    ({ message }) => ends.push(message),
  );
  const wire = made as HandWire;
  wire.ready();
  /** What became of a command, once anything has. */
  const send = (name: string, timeout = 100) => {
    const sent = { outcome: '' };
    line.send([name], timeout).then(
      (reply) => {
        sent.outcome = String(reply);
      },
      ({ kind, reply = '', message }: RedisFailure) => {
        sent.outcome = `${kind} ${reply || message}`;
      },
    );
    return sent;
  };
  return { clock, ends, line, wire, send };
}

describe('a line to Redis', () => {
  it('gives each command its reply, or the first word of an error', async (t) => {
    const { wire, send, line } = open(t);
    const [one, two] = [send('ONE'), send('TWO')];
    assert.equal(line.hasAnswered, false);
    wire.calls[1]?.reject(new Error('OOM no room'));
    wire.calls[0]?.resolve('1');
    await turn();
    assert.deepEqual([one.outcome, two.outcome, line.hasAnswered], ['1', 'reply OOM', true]);
  });

  it('takes for sent what was written when the time is over, and for dead what has not answered since', async (t) => {
    const { clock, ends, wire, send } = open(t);
    const [one, two] = [send('ONE', 100), send('TWO', 500)];
    clock.advance(99);
    await turn();
    assert.deepEqual([one.outcome, ends], ['', []]);
    clock.advance(1);
    await turn();
    assert.deepEqual(ends, ['Redis does not answer']);
    assert.equal(one.outcome, 'unanswered Redis has not answered within 100 ms');
    assert.equal(two.outcome, 'unanswered Redis does not answer');
    assert.equal(wire.isClosed, true);
    assert.equal(clock.timers, 0);
  });

  it('waits as long as a timer can where it is to wait longer', async (t) => {
    const { clock, wire, send } = open(t);
    const one = send('ONE', 2 ** 31 + 1000);
    clock.advance(60_000);
    await turn();
    assert.equal(one.outcome, '');
    wire.calls[0]?.resolve('1');
    await turn();
    assert.equal(one.outcome, '1');
  });

  it('is kept where anything was answered since the command was sent', async (t) => {
    const { clock, ends, wire, send } = open(t);
    const one = send('ONE', 500);
    clock.advance(50);
    const two = send('TWO', 100);
    clock.advance(1);
    wire.calls[0]?.resolve('1');
    await turn();
    clock.advance(99);
    await turn();
    assert.deepEqual([one.outcome, two.outcome], ['1', 'unanswered Redis has not answered within 100 ms']);
    assert.deepEqual(ends, []);
    wire.calls[1]?.resolve('late');
    await turn();
    assert.match(two.outcome, /unanswered/);
  });

  it('takes back what was not written, where its client can', async (t) => {
    const { clock, wire, send } = open(t);
    wire.canWithdraw = true;
    const [unwritten, written] = [send('ONE'), send('TWO')];
    const [first] = wire.calls as [Call];
    first.withdrawal?.addEventListener('abort', () => first.reject(new Error('aborted')));
    clock.advance(100);
    await turn();
    await turn();
    assert.equal(unwritten.outcome, 'unsent aborted');
    assert.match(written.outcome, /^unanswered /);
  });

  it('sends nothing while it is not ready, and rejects what waits when it ends', async (t) => {
    const { ends, wire, send } = open(t);
    const before = send('ONE');
    wire.lost(new Error('read ECONNRESET'));
    const after = send('TWO');
    await turn();
    assert.equal(before.outcome, 'unanswered read ECONNRESET');
    assert.equal(after.outcome, 'unsent Redis cannot be reached');
    assert.deepEqual([ends, wire.calls.length], [['read ECONNRESET'], 1]);
  });

  it('takes no more commands of a server that is read only, and ends after the last answer', async (t) => {
    const { ends, wire, send, line } = open(t);
    const [one, two] = [send('ONE'), send('TWO')];
    wire.calls[0]?.reject(new Error('READONLY You cannot write'));
    await turn();
    assert.deepEqual([one.outcome, line.isUp, ends], ['reply READONLY', false, []]);
    const three = send('THREE');
    wire.calls[1]?.resolve('2');
    await turn();
    assert.deepEqual([two.outcome, three.outcome], ['2', 'unsent Redis cannot be reached']);
    assert.deepEqual(ends, ['the server is no primary any more']);
  });

  it('says before a command that was asked for elsewhere that it knows', async (t) => {
    const { wire, line } = open(t);
    const sent = line.send(['GET', 'a'], 100, true);
    assert.deepEqual(
      wire.calls.map(({ command }) => command),
      [['ASKING'], ['GET', 'a']],
    );
    wire.calls[0]?.reject(new Error('ERR no'));
    wire.calls[1]?.resolve('b');
    assert.equal(await sent, 'b');
  });

  it('ends with the reason for which it was closed', async (t) => {
    const { ends, line, send } = open(t);
    const waiting = send('ONE');
    line.close(redisFailure('unsent', 'enough'));
    line.close(redisFailure('unsent', 'again'));
    await turn();
    assert.deepEqual([ends, waiting.outcome], [['enough'], 'unanswered enough']);
  });

  it('rejects its opening where it never was ready', async (t) => {
    fakeTime(t);
    let made: HandWire | undefined;
    const line = new RedisLine(
      (events) => {
        made = new HandWire(events);
        return made;
      },
      () => {},
    );
    assert.equal(line.isOpening, true);
    made?.lost(new Error('WRONGPASS no'));
    await assert.rejects(line.opened, { kind: 'reply', reply: 'WRONGPASS' });
    assert.equal(line.isOpening, false);
  });
});
