// A reader that sends on what it reads, and events at the end of a response that lack their blank line.
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type ConnectOptions, connect, type EventMap, type EventOf, type Piece } from '../lib/client.ts';
import { createDecoder, type DecodedEvent, decode } from '../lib/decode.ts';
import { decoderStream } from '../lib/decoder-stream.ts';
import { encode } from '../lib/encode.ts';
import { gapEvent, positionEvent, readyEvent } from '../lib/protocol.ts';
import { openStream } from '../lib/stream.ts';
import { cutAfter, frame, idOf, open, whole } from './helpers/misbehaving.ts';
import { serve } from './helpers/server.ts';

const atOnce = { minRetryDelay: 0, backoffDelay: 0 } as const;
const END = 'event: sluice:end\ndata: {}\n\n';

async function allOf<Item>(source: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of source) items.push(item);
  return items;
}

/** What a client of a relay gets, as text. */
async function relayed(t: TestContext, upstream: string, options: ConnectOptions = {}): Promise<string> {
  const origin = await serve(t, (_, res) => whole(res, upstream));
  const relay = await serve(t, (req, res) => {
    const stream = openStream(req, res);
    void stream.pipe(connect(origin.url, { ...atOnce, ...options, relay: true }), { end: null });
  });
  return (await fetch(relay.url)).text();
}

describe('a relay', () => {
  it('sends on comments, ids without data and retry, in order', async (t) => {
    const parts = [': hello\n', frame(1), ': a\n: b\n', `id: ${idOf(2)}\n\n`, frame(3)];
    assert.equal(await relayed(t, parts.join('') + END), parts.join(''));
  });

  it('sends a retry on in the block of its event, and by itself where it has none', async (t) => {
    const joined = 'retry: 5000\nid: 7\nevent: tick\ndata: x\n\n';
    assert.equal(await relayed(t, joined + END), joined);
    const untyped = 'retry: 5000\nid: 7\ndata: x\n\n';
    assert.equal(await relayed(t, untyped + END), untyped);
    assert.equal(await relayed(t, `id: 7\nretry: 5000\n\n${END}`), 'retry: 5000\nid: 7\n\n');
    const items: unknown[] = [];
    let finish = (): void => {};
    const { url } = await serve(t, (_, res) => {
      open(res, 'retry: 0\n\n');
      finish = () => res.end(END);
    });
    for await (const item of connect(url, { relay: true })) {
      items.push(item);
      finish();
    }
    assert.deepEqual(items, [{ retry: 0 }]);
  });

  it('sends on no longer retry than can be sent', async (t) => {
    assert.equal(
      await relayed(t, `retry: ${'9'.repeat(400)}\ndata: x\n\n${END}`),
      'retry: 2147483647\ndata: x\n\n',
    );
  });

  it('sends on the position of control events, and of these only the gap', async (t) => {
    const gap = encode(gapEvent(idOf(4), { reason: 'evicted', from: idOf(1), to: idOf(4), topics: ['a'] }));
    const upstream = [encode(readyEvent(idOf(1), ['a'])), encode(positionEvent(idOf(2))), gap, frame(5)];
    const expected = [`id: ${idOf(1)}\n\n`, `id: ${idOf(2)}\n\n`, gap, frame(5)];
    assert.equal(await relayed(t, upstream.join('') + END), expected.join(''));
    const all = await relayed(t, upstream.join('') + END, { controlEvents: true });
    assert.equal(all, upstream.join('') + END);
    const gaps: unknown[] = [];
    const told = await relayed(t, upstream.join('') + END, { onGap: ({ to }) => void gaps.push(to) });
    assert.equal(told, expected.with(2, `id: ${idOf(4)}\n\n`).join(''));
    assert.deepEqual(gaps, [idOf(4)]);
  });

  it('sends on each once across reconnects, and counts what it has sent on as processed', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, `${frame(1)}: note\nid: ${idOf(2)}\n\n`);
      else whole(res, frame(3) + END);
    });
    const items: (EventOf<EventMap> | Piece)[] = [];
    const positions: string[] = [];
    const connection = connect(url, { ...atOnce, relay: true });
    for await (const item of connection) {
      items.push(item);
      positions.push(connection.lastEventId);
    }
    assert.deepEqual(
      items.map(
        ({ comment, data, id }: Piece | (EventOf<EventMap> & { comment?: undefined })) =>
          comment ?? data ?? id,
      ),
      ['1', 'note', idOf(2), '3'],
    );
    assert.deepEqual(positions, ['', idOf(1), idOf(1), idOf(2)]);
    assert.equal(requests[1]?.headers['last-event-id'], idOf(2));
  });

  it('is typed: what is no event has neither type nor data', async (t) => {
    const { url } = await serve(t, (_, res) => whole(res, `: a\nevent: tick\ndata: {"price":7}\n\n${END}`));
    const seen: unknown[] = [];
    for await (const item of connect<{ tick: { price: number } }>(url, { relay: true })) {
      if (item.event === undefined) seen.push(item.comment satisfies string | undefined);
      else seen.push(item.json.price satisfies number);
    }
    assert.deepEqual(seen, ['a', 7]);
  });

  it('gets comments in onComment too', async (t) => {
    const { url } = await serve(t, (_, res) => whole(res, `: a\n${END}`));
    const comments: string[] = [];
    const onComment = ({ comment }: { comment: string }): void => void comments.push(comment);
    for await (const item of connect(url, { relay: true, onComment }))
      assert.deepEqual(item, { comment: 'a' });
    assert.deepEqual(comments, ['a']);
  });
});

describe('decode, for a relay,', () => {
  it('tells of comments, ids without data and retry', async () => {
    const told: unknown[] = [];
    const options = {
      onComment: (text: string) => told.push(text),
      onId: (id: string) => told.push(id),
      onRetry: (ms: number) => told.push(ms),
    };
    for await (const { data } of decode([': a\nid: 1\nretry: 5\n\n', 'data: b\n\n'], options))
      told.push(data);
    assert.deepEqual(told, ['a', 5, '1', 'b']);
  });
});

describe('a last event without its blank line', () => {
  const endings: [string, DecodedEvent[]][] = [
    ['id: 1\nevent: a\ndata: x\n', [{ event: 'a', data: 'x', id: '1', lastEventId: '1' }]],
    ['data: x', [{ event: 'message', data: 'x', id: undefined, lastEventId: '' }]],
    ['data: x\r', [{ event: 'message', data: 'x', id: undefined, lastEventId: '' }]],
    ['data: x\r\n', [{ event: 'message', data: 'x', id: undefined, lastEventId: '' }]],
    ['data: x\n\n', [{ event: 'message', data: 'x', id: undefined, lastEventId: '' }]],
    ['data: x\n\r', [{ event: 'message', data: 'x', id: undefined, lastEventId: '' }]],
    ['data', [{ event: 'message', data: '', id: undefined, lastEventId: '' }]],
    ['event: a\nid: 1', []],
    [': x', []],
    ['', []],
  ];
  for (const [text, events] of endings) {
    it(`is taken with dispatchAtEnd, however the stream is cut: ${JSON.stringify(text)}`, async () => {
      for (let cut = 0; cut <= text.length; cut++) {
        const chunks = [text.slice(0, cut), text.slice(cut)];
        for (const source of [chunks, chunks.map((chunk) => Buffer.from(chunk))]) {
          assert.deepEqual(await allOf(decode(source, { dispatchAtEnd: true })), events);
          const whole = /\n\n|\n\r/.test(text) ? events : [];
          assert.deepEqual(await allOf(decode(source)), whole);
        }
      }
    });
  }

  it('ends in U+FFFD where it was cut within a character', async () => {
    const bytes = Buffer.from('data: x水').subarray(0, -1);
    const [event] = await allOf(decode([bytes], { dispatchAtEnd: true }));
    assert.equal(event?.data, 'x\ufffd');
  });

  it('is taken by decoderStream with dispatchAtEnd, and by end() of a decoder', async () => {
    const body = () => new Blob(['data: x']).stream();
    const taken = body().pipeThrough(decoderStream({ dispatchAtEnd: true }));
    assert.deepEqual(
      (await allOf(taken)).map(({ data }) => data),
      ['x'],
    );
    assert.deepEqual(await allOf(body().pipeThrough(decoderStream())), []);
    const events: string[] = [];
    const { feed, end } = createDecoder({ onEvent: ({ data }) => events.push(data) });
    feed('data: x');
    end();
    end();
    assert.deepEqual(events, ['x']);
  });

  it('is taken by connect where the response has ended in good order, and not where it was cut', async (t) => {
    const { url } = await serve(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, 'data: cut');
      else if (attempt === 2) whole(res, 'data: whole');
      else res.writeHead(204).end();
    });
    const data: string[] = [];
    for await (const event of connect(url, { ...atOnce, dispatchAtEnd: true })) data.push(event.data);
    assert.deepEqual(data, ['whole']);
  });

  it('is discarded by connect otherwise', async (t) => {
    const { url } = await serve(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, 'data: whole') : res.writeHead(204).end(),
    );
    for await (const _ of connect(url, atOnce)) assert.fail('an event');
  });
});
