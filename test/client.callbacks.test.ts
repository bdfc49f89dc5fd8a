// What the callbacks of a reader may do: throw, close it, let it reconnect, and never return.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { type ConnectOptions, connect } from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import type { PositionStorage } from '../lib/positions.ts';
import { gapEvent, readyEvent } from '../lib/protocol.ts';
import { atOnce, readData } from './helpers/connected.ts';
import { cutAfter, frame, idOf, open, whole } from './helpers/misbehaving.ts';
import { serve } from './helpers/server.ts';

const GAP = { reason: 'evicted', from: idOf(1), to: idOf(4), topics: ['a'] };
const stuck = (): Promise<never> => new Promise(() => {});

describe('onComment', () => {
  it('ends the loop with what it throws: that is no failure of the network', async (t) => {
    const { url, requests } = await serve(t, (_, res) => whole(res, ': a\n\n'));
    const mine = new Error('mine');
    const onComment = (): never => {
      throw mine;
    };
    await assert.rejects(readData(url, { onComment }), mine);
    assert.equal(requests.length, 1);
  });
});

describe('isLast', () => {
  it('is asked about the events that the loop gets, and no others', async (t) => {
    const { url } = await serve(t, (_, res, attempt) => {
      // The second connection repeats the event of the first one.
      const text = encode(readyEvent(idOf(0), ['a'])) + frame(1);
      return attempt === 1 ? cutAfter(res, text) : whole(res, text + frame(2));
    });
    const asked: string[] = [];
    const isLast: ConnectOptions['isLast'] = ({ event, data }) => {
      asked.push(`${event} ${data}`);
      return event !== 'message' || data === '2';
    };
    assert.deepEqual(await readData(url, { isLast }), ['1', '2']);
    assert.deepEqual(asked, ['message 1', 'message 2']);
  });

  it('is asked about control events where the loop gets them', async (t) => {
    const { url } = await serve(t, (_, res) => open(res, encode(readyEvent(idOf(0), ['a']))));
    const isLast: ConnectOptions['isLast'] = ({ event }) => event === 'sluice:ready';
    assert.equal((await readData(url, { isLast, controlEvents: true })).length, 1);
  });
});

describe('onGap', () => {
  const storage = () => {
    const saved: string[] = [];
    const positions: PositionStorage = { getItem: () => null, setItem: (_, at) => saved.push(at) };
    return { saved, positions };
  };

  it('does not keep a connection from being closed while it is pending: the gap stays unprocessed', async (t) => {
    const { url } = await serve(t, (_, res) => open(res, encode(gapEvent(idOf(4), GAP)) + frame(5)));
    for (const controlEvents of [false, true]) {
      const { saved, positions } = storage();
      const options = { lastEventId: idOf(1), storage: positions, controlEvents };
      const connection = connect(url, {
        ...options,
        onGap: () => {
          setImmediate(() => connection.close());
          return stuck();
        },
      });
      for await (const { data } of connection) assert.fail(data);
      assert.deepEqual([connection.lastEventId, saved], [idOf(1), []]);
    }
  });

  it('does not either where the gap is one of the reader', async (t) => {
    for (const text of [frame(5), `id: ${idOf(5)}\n\n`, encode(readyEvent(idOf(4), ['a'])) + frame(5)]) {
      const { url } = await serve(t, (_, res) => open(res, text));
      const saved: string[] = [];
      const connection = connect(url, {
        storage: { getItem: () => '\n', setItem: (_, at) => saved.push(at) },
        onError: () => {},
        onGap: () => {
          setImmediate(() => connection.close());
          return stuck();
        },
      });
      for await (const { data } of connection) assert.fail(data);
      assert.deepEqual([connection.lastEventId, saved], ['', []]);
    }
  });

  it('is awaited before newer events also where the connection was told to reconnect', async (t) => {
    const { url } = await serve(t, (_, res, attempt) =>
      open(res, attempt === 1 ? encode(gapEvent(idOf(4), GAP)) + frame(5) : frame(6)),
    );
    const order: string[] = [];
    const connection = connect(url, {
      ...atOnce,
      onGap: async () => {
        connection.reconnect();
        await new Promise((resolve) => setTimeout(resolve, 20));
        order.push('gap');
      },
    });
    for await (const { data } of connection) {
      order.push(data);
      if (data === '6') break;
    }
    assert.deepEqual(order, ['gap', '5', '6']);
  });
});

describe('shouldRetry', () => {
  it('may close the connection: the loop ends without an error', async (t) => {
    const { url } = await serve(t, (_, res) => res.writeHead(401).end());
    for (const answer of [true, false, undefined]) {
      const connection = connect(url, {
        shouldRetry: () => {
          connection.close();
          return answer;
        },
      });
      for await (const { data } of connection) assert.fail(data);
    }
  });

  it('may call reconnect(), which sends a POST again at once', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) =>
      attempt === 1 ? res.writeHead(401).end() : whole(res, 'data: x\n\n'),
    );
    const connection = connect(url, {
      body: 'prompt',
      backoffDelay: 1e6,
      maxBackoffDelay: 1e6,
      shouldRetry: (_, { attempt }) => {
        if (attempt === 1) connection.reconnect();
        return undefined;
      },
    });
    for await (const { data } of connection) assert.equal(data, 'x');
    assert.deepEqual(
      requests.map(({ method }) => method),
      ['POST', 'POST'],
    );
  });
});

describe('the signal of many connections', () => {
  it('has one listener for all of them, and ends each', async (t) => {
    const { url } = await serve(t, (_, res) => open(res, frame(1)));
    const controller = new AbortController();
    const { signal } = controller;
    const connections = Array.from({ length: 12 }, () => connect(url, { signal }));
    const loops = connections.map((connection) => connection[Symbol.asyncIterator]());
    await Promise.all(loops.map((loop) => loop.next()));
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    await loops.pop()!.return!();
    const reason = new Error('enough');
    const ends = loops.map((loop) => loop.next());
    controller.abort(reason);
    for (const end of ends) await assert.rejects(end, reason);
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });
});

describe('the silence of a server', () => {
  it('is not that of a process that was blocked: what arrived meanwhile ends it', async (t) => {
    let answer = (_: string): unknown => undefined;
    const { url, requests } = await serve(t, (_, res) => {
      open(res, 'data: 1\n\n');
      answer = (text) => res.write(text);
    });
    for await (const { data } of connect(url, { ...atOnce, silenceTimeout: 1000 })) {
      if (data === '2') break;
      setImmediate(() => {
        answer('data: 2\n\n');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
      });
    }
    assert.equal(requests.length, 1);
  });
});
