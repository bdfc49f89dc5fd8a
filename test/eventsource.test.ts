import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import type { Gap } from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { EventSource, type EventSourceInit } from '../lib/eventsource.ts';
import { Hub } from '../lib/hub.ts';
import { gapEvent } from '../lib/protocol.ts';
import { openStream } from '../lib/stream.ts';
import { formatCases, type Read } from './fixtures/format.ts';
import { cutAfter, eventStream, frame, idOf, open, whole } from './helpers/misbehaving.ts';
import { openServer } from './helpers/server.ts';

const atOnce = { minRetryDelay: 0, backoffDelay: 0 } as const;

async function started(t: TestContext, handler: Parameters<typeof openServer>[0]) {
  const server = await openServer(handler);
  t.after(() => server.close());
  return server;
}

function source(t: TestContext, url: string, init: EventSourceInit = {}): EventSource {
  const made = new EventSource(url, { ...atOnce, ...init });
  t.after(() => made.close());
  return made;
}

/** Resolves at the first `error` event with `readyState` CLOSED. */
async function closed(made: EventSource): Promise<void> {
  while (made.readyState !== EventSource.CLOSED) await once(made, 'error');
}

describe('EventSource, as the standard says,', () => {
  for (const { name, stream, reads } of formatCases) {
    it(name, async (t) => {
      const { url } = await started(t, (_, res, attempt) => {
        if (attempt === 1) res.writeHead(200, eventStream).end(stream);
        else res.writeHead(204).end();
      });
      const made = source(t, url);
      const seen: Read[] = [];
      for (const type of new Set(['message', ...reads.map(([type]) => type)])) {
        made.addEventListener(type, (event) => {
          const { type, data, lastEventId } = event as MessageEvent;
          seen.push([type, data, lastEventId]);
        });
      }
      await closed(made);
      assert.deepEqual(seen, reads);
    });
  }
});

describe('EventSource', () => {
  it('opens, dispatches a message with its origin and last event ID, and closes', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'id: 1\ndata: a\n\n'));
    const made = source(t, url);
    assert.equal(made.readyState, EventSource.CONNECTING);
    assert.equal(made.url, url);
    assert.equal(made.withCredentials, false);
    await once(made, 'open');
    assert.equal(made.readyState, made.OPEN);
    const [event] = (await once(made, 'message')) as [MessageEvent];
    assert.ok(event instanceof MessageEvent);
    assert.deepEqual([event.data, event.lastEventId, event.origin], ['a', '1', new URL(url).origin]);
    made.close();
    assert.equal(made.readyState, 2);
  });

  it('has the constants of the interface, and does not let them be set', () => {
    for (const [name, value] of Object.entries({ CONNECTING: 0, OPEN: 1, CLOSED: 2 })) {
      for (const place of [EventSource, EventSource.prototype]) {
        assert.equal(Reflect.get(place, name), value);
        assert.equal(Reflect.set(place, name, 7), false);
      }
    }
  });

  it('reconnects after an end with the last event ID, and dispatches open and error each time', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt < 4) whole(res, `id: ${attempt}\ndata: a\n\n`);
      else res.writeHead(204).end();
    });
    const made = source(t, url);
    const seen: string[] = [];
    made.onopen = () => seen.push(`open ${made.readyState}`);
    made.onmessage = (event) => seen.push(`message ${event.lastEventId}`);
    made.onerror = () => seen.push(`error ${made.readyState}`);
    await closed(made);
    const once = (id: number): string[] => ['open 1', `message ${id}`, 'error 0'];
    assert.deepEqual(seen, [...once(1), ...once(2), ...once(3), 'error 2']);
    assert.deepEqual(
      requests.map((req) => req.headers['last-event-id']),
      [undefined, '1', '2', '3'],
    );
  });

  it('forgets the last event ID when the stream says so', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, 'id: 1\ndata: a\n\nid\ndata: b\n\n');
      else res.writeHead(204).end();
    });
    await closed(source(t, url));
    assert.equal(requests[1]!.headers['last-event-id'], undefined);
  });

  it('does not send the id of an event that was cut off', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, 'id: 1\ndata: a\n\nid: 2\ndata: b\n');
      else res.writeHead(204).end();
    });
    await closed(source(t, url));
    assert.equal(requests[1]!.headers['last-event-id'], '1');
  });

  for (const status of [204, 205, 210, 299, 400, 404, 410, 429, 500, 503]) {
    it(`gives up after a ${status}`, async (t) => {
      const { url, requests } = await started(t, (_, res) => res.writeHead(status, eventStream).end());
      const made = source(t, url);
      made.onopen = () => assert.fail('opened');
      await closed(made);
      assert.equal(requests.length, 1);
    });
  }

  it('reconnects after a 503 where shouldRetry returns true', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt < 3) res.writeHead(503).end();
      else open(res, 'data: a\n\n');
    });
    const made = source(t, url, { shouldRetry: ({ status }) => (status === 503 ? true : undefined) });
    await once(made, 'message');
  });

  it('gives up after another content type, and takes the right one with parameters', async (t) => {
    for (const [type, right] of [
      ['text/event-stream', true],
      ['TEXT/Event-Stream;charset=utf-8', true],
      ['text/event-stream ; charset=latin1', true],
      ['text/event-stream-x', false],
      ['text/plain', false],
    ] as const) {
      const { url } = await started(t, (_, res, attempt) => {
        if (attempt === 1) res.writeHead(200, { 'content-type': type }).end('data: é\n\n');
        else res.writeHead(204).end();
      });
      const made = source(t, url);
      const data: string[] = [];
      made.onmessage = (event) => data.push(event.data);
      await closed(made);
      assert.deepEqual(data, right ? ['é'] : [], type);
    }
  });

  it('gives messages the origin that it was redirected to', async (t) => {
    const there = await started(t, (_, res) => open(res, 'data: a\n\n'));
    const here = await started(t, (_, res) => res.writeHead(301, { location: there.url }).end());
    const made = source(t, here.url);
    const [event] = (await once(made, 'message')) as [MessageEvent];
    assert.equal(event.origin, new URL(there.url).origin);
    assert.equal(made.url, here.url);
  });

  it('dispatches nothing after close(), not even events that had arrived', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'data: a\n\ndata: b\n\n'));
    const made = source(t, url);
    const data: string[] = [];
    made.onerror = () => assert.fail('an error');
    await new Promise<void>((resolve) => {
      made.onmessage = (event) => {
        data.push(event.data);
        made.close();
        setTimeout(resolve, 20);
      };
    });
    assert.deepEqual(data, ['a']);
  });

  it('sends no request when it is closed at once', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res));
    new EventSource(url).close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(requests.length, 0);
  });

  it('puts a new handler in the place of the old one, and removes it at null', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'data: a\n\n'));
    const made = source(t, url);
    const turns: string[] = [];
    made.onmessage = () => turns.push('first');
    made.addEventListener('message', () => turns.push('listener'));
    made.onmessage = function (event) {
      assert.equal(this, made);
      turns.push(`second ${event.data}`);
    };
    assert.equal(typeof made.onmessage, 'function');
    made.onopen = () => turns.push('never');
    made.onopen = null;
    assert.equal(made.onopen, null);
    await once(made, 'message');
    assert.deepEqual(turns, ['second a', 'listener']);
  });

  it('throws a SyntaxError for a string that is no URL', () => {
    assert.throws(() => new EventSource('http://['), { name: 'SyntaxError', constructor: DOMException });
  });

  it('sends new headers with each attempt', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, '');
      else res.writeHead(204).end();
    });
    await closed(source(t, url, { headers: ({ attempt }) => ({ authorization: `token ${attempt}` }) }));
    assert.deepEqual(
      requests.map((req) => req.headers.authorization),
      ['token 1', 'token 2'],
    );
  });

  it('dispatches sluice:end and closes', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, 'event: sluice:end\ndata: {}\n\n'));
    const made = source(t, url);
    let ended = 0;
    made.addEventListener('sluice:end', () => ended++);
    await closed(made);
    assert.equal(ended, 1);
    assert.equal(requests.length, 1);
  });

  it('gives onGap the server’s end of the loss, which may lie after the id of the gap', async (t) => {
    const lost: Gap = { reason: 'evicted', from: idOf(1), to: idOf(8), topics: ['a'] };
    const { url } = await started(t, (_, res) => open(res, encode(gapEvent(idOf(5), lost)) + frame(6)));
    const gaps: Gap[] = [];
    const made = source(t, url, { onGap: (gap) => void gaps.push(gap) });
    const dispatched = once(made, 'sluice:gap');
    await once(made, 'message');
    const [{ data, lastEventId }] = (await dispatched) as [MessageEvent];
    assert.deepEqual([gaps, JSON.parse(data), lastEventId], [[lost], lost, idOf(5)]);
  });

  it('gives onerror the reason', async (t) => {
    const { url } = await started(t, (_, res) => res.writeHead(403).end());
    const made = source(t, url);
    const error = await new Promise((resolve) => {
      made.onerror = (event) => resolve(event.error);
    });
    assert.equal((error as { status: number }).status, 403);
  });
});

describe('EventSource with an event map', () => {
  type Events = { tick: { price: number }; note: string };

  it('gives its listeners data and JSON of the right type', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'id: 3\nevent: tick\ndata: {"price":7}\n\n'));
    const made = new EventSource<Events>(url, atOnce);
    t.after(() => made.close());
    const price = await new Promise<number>((resolve) => {
      made.listen('tick', (event) => {
        const { origin } = new URL(url);
        const data = '{"price":7}';
        assert.deepEqual(event, { type: 'tick', data, json: { price: 7 }, lastEventId: '3', origin });
        resolve(event.json.price);
      });
      // @ts-expect-error: there is no such event.
      made.listen('tock', () => {});
      // @ts-expect-error: a note has no price.
      made.listen('note', (event) => event.json.price);
      // @ts-expect-error: data is the text.
      made.listen('tick', (event) => event.data.price);
    });
    assert.equal(price, 7);
  });

  it('gets JSON of unknown type without a map', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'event: tick\ndata: {"price":7}\n\n'));
    const made = source(t, url);
    const json = await new Promise<unknown>((resolve) => {
      made.listen('tick', (event) => resolve(event.json));
      // @ts-expect-error: nothing is known of it.
      made.listen('tick', (event) => event.json.price);
    });
    assert.deepEqual(json, { price: 7 });
  });

  it('listens to a hub', async (t) => {
    const hub = new Hub();
    const { url } = await started(t, (req, res) => {
      hub.subscribe(['prices'], openStream(req, res));
    });
    const made = new EventSource<Events>(url, atOnce);
    t.after(() => made.close());
    await once(made, 'sluice:ready');
    const price = new Promise<number>((resolve) => {
      made.listen('tick', ({ json }) => resolve(json.price));
    });
    hub.publish('prices', { event: 'tick', data: JSON.stringify({ price: 7.25 }) });
    assert.equal(await price, 7.25);
    hub.end('prices');
  });

  it('gives onerror the data that is not JSON, calls no listener, and continues', async (t) => {
    const { url } = await started(t, (_, res) =>
      open(res, `id: ${idOf(1)}\nevent: tick\ndata: {\n\nevent: tick\ndata: {"price":1}\n\n`),
    );
    const made = new EventSource<Events>(url, atOnce);
    t.after(() => made.close());
    const seen: unknown[] = [];
    made.onerror = ({ error }) => {
      const { name, code, message } = error as Error & { code: string };
      assert.match(message, /"tick".*"1795408776829004-1"/);
      seen.push(name, code, made.readyState);
    };
    await new Promise<void>((resolve) => {
      const stop = made.listen('tick', ({ json }) => {
        seen.push(json.price);
        stop();
        resolve();
      });
    });
    assert.deepEqual(seen, ['SyntaxError', 'ERR_SSE_BAD_JSON', 1, 1]);
  });
});
