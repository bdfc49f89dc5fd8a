import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { aiSdk, aiSdkHeaders } from '../lib/ai-sdk.ts';
import { openStream } from '../lib/stream.ts';
import { uiChunks, uiFailure } from './fixtures/models.ts';
import { failing, received } from './helpers/answers.ts';
import { serve } from './helpers/server.ts';
import { fetchFrom } from './helpers/streaming.ts';

const DONE = '[DONE]';
const failed = (errorText = 'the source of this stream failed') => ({ type: 'error', errorText });

describe('aiSdk', () => {
  it('sends the chunks of a source as they are, without names and ids, then `[DONE]`', async (t) => {
    const { frames, data, reason } = await received(t, uiChunks, aiSdk());
    assert.deepEqual(data, [...uiChunks, DONE]);
    assert.ok(frames.every(({ event, id }) => event === undefined && id === undefined));
    assert.equal(reason, 'ended');
  });

  it('makes a message with one part of text', async (t) => {
    const { data } = await received(t, ['a "b"\n', '\ud83d', '\udc4b'], aiSdk({ messageId: 'm1' }));
    const [{ id }] = data.slice(1) as [{ id: string }];
    assert.deepEqual(data, [
      { type: 'start', messageId: 'm1' },
      { type: 'text-start', id },
      { type: 'text-delta', id, delta: 'a "b"\n' },
      { type: 'text-delta', id, delta: '\u{1f44b}' },
      { type: 'text-end', id },
      { type: 'finish', finishReason: 'stop' },
      DONE,
    ]);
  });

  it('names its protocol in the headers that it exports', async (t) => {
    const { port } = await serve(t, (req, res) => {
      openStream(req, res, { headers: aiSdkHeaders }).pipe(['text'], aiSdk());
    });
    const { headers } = await fetchFrom(t, port);
    assert.equal(headers['x-vercel-ai-ui-message-stream'], 'v1');
    assert.equal(headers['content-type'], 'text/event-stream');
  });

  it('sends one `error`, no `finish` and no `[DONE]` where the source fails, and does not reveal the failure', async (t) => {
    const failure = new Error('a secret');
    const { data, reason, cause } = await received(t, failing(uiChunks.slice(0, 4), failure), aiSdk());
    assert.deepEqual(data, [...uiChunks.slice(0, 4), failed()]);
    assert.deepEqual([reason, cause], ['error', failure]);
    const ofText = await received(t, failing(['text'], failure), aiSdk());
    assert.deepEqual(ofText.data.slice(3), [failed()]);
  });

  it('sends the message that `errorMessage` makes, or its own where that throws', async (t) => {
    const errorMessage = (error: unknown) => (error as Error).message.toUpperCase();
    const source = () => failing<string>([], new Error('busy'));
    assert.deepEqual((await received(t, source(), aiSdk({ errorMessage }))).data, [failed('BUSY')]);
    const throwing = () => {
      throw new Error('another');
    };
    const own = await received(t, source(), aiSdk({ errorMessage: throwing }));
    assert.deepEqual(own.data, [failed()]);
  });

  it('sends the `error` of the source as its last event, and ends as failed', async (t) => {
    const source = [...uiChunks.slice(0, 4), uiFailure, ...uiChunks.slice(4)];
    const { data, reason, cause } = await received(t, source, aiSdk());
    assert.deepEqual(data, source.slice(0, 5));
    assert.equal(reason, 'error');
    assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_FAILED');
  });

  it('takes a source of chunks that ends without `finish` or `abort` for one that failed', async (t) => {
    for (const source of [[], uiChunks.slice(0, -1)]) {
      const { data, reason, cause } = await received(t, source, aiSdk());
      assert.deepEqual(data, [...source, failed()]);
      assert.equal(reason, 'error');
      assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_UNFINISHED');
    }
    const stopped = [...uiChunks.slice(0, 3), { type: 'abort' }];
    assert.deepEqual((await received(t, stopped, aiSdk())).data, [...stopped, DONE]);
  });

  it('refuses what is neither text nor a chunk, and both in one source', async (t) => {
    const wrong: [unknown[], RegExp][] = [
      [[5], /must yield text, or chunks with a `type`/],
      [[null], /must yield text, or chunks with a `type`/],
      [[{ data: 'x' }], /must yield text, or chunks with a `type`/],
      [['text', uiChunks[0]], /either chunks or text, not both/],
      [[uiChunks[0], 'text'], /either chunks or text, not both/],
    ];
    for (const [source, message] of wrong) {
      const { data, cause } = await received(t, source as string[], aiSdk());
      assert.deepEqual(data.at(-1), failed());
      assert.match((cause as Error).message, message);
    }
  });

  it('is for one stream: a second one fails', async (t) => {
    const dialect = aiSdk();
    await received(t, ['text'], dialect);
    const { data, cause } = await received(t, ['again'], dialect);
    assert.deepEqual(data, [failed()]);
    assert.match((cause as Error).message, /for one stream: make another one/);
  });
});
