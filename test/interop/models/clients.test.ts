// The clients of language models read what we send in their dialects, and what we relay from their APIs.

import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { aiSdkHeaders } from '../../../lib/ai-sdk.ts';
import { type EventStream, openStream } from '../../../lib/stream.ts';
import { TEXT } from '../../fixtures/models.ts';
import { serve } from '../../helpers/server.ts';
import { type Client, clients } from './clients.ts';

type Source = (stream: EventStream) => AsyncIterable<unknown>;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Yields these a turn apart, with comments between them, as heartbeats are; then fails where it shall. */
const sourceOf = (values: readonly unknown[], failure?: Error): Source =>
  async function* (stream) {
    for (const value of values) {
      await turn();
      stream.send({ comment: '' });
      yield value;
    }
    if (failure !== undefined) throw failure;
  };

interface Served {
  readonly url: string;
  /** Why the last stream closed. */
  reason(): Promise<string | undefined>;
}

/** Answers every request with what `answer` does to its stream. */
async function serving(t: TestContext, answer: (stream: EventStream) => Promise<unknown>): Promise<Served> {
  let stream: EventStream | undefined;
  const { url } = await serve(t, (req, res) => {
    req.resume().on('end', () => {
      stream = openStream(req, res, { headers: aiSdkHeaders });
      void answer(stream);
    });
  });
  return { url, reason: async () => stream?.done };
}

const piping = (t: TestContext, { dialect }: Client, source: Source): Promise<Served> =>
  serving(t, (stream) => stream.pipe(source(stream) as AsyncIterable<never>, dialect()));

/** What a client got before it failed, and with what it failed. */
async function failed(texts: AsyncIterable<string>): Promise<{ text: string; error: Error | undefined }> {
  let text = '';
  try {
    for await (const piece of texts) text += piece;
    return { text, error: undefined };
  } catch (error) {
    return { text, error: error as Error };
  }
}

const FAILURE = /the source of this stream failed/;

for (const [name, client] of Object.entries(clients)) {
  const { answer, failure, failureMessage } = client;
  const isLastWord = (value: object): boolean => JSON.stringify(value).includes('" cursors."');
  /** Up to and with the last word: what follows says that the answer is whole. */
  const words = answer.slice(0, answer.findIndex(isLastWord) + 1);

  describe(name, () => {
    it('reads a whole answer, piece by piece and at once', async (t) => {
      const { url, reason } = await piping(t, client, sourceOf(answer));
      assert.deepEqual(await failed(client.texts(url)), { text: TEXT, error: undefined });
      assert.equal(await client.whole(url), TEXT);
      assert.equal(await reason(), 'ended');
    });

    if (client.takesText) {
      it('reads an answer that is made of text', async (t) => {
        const { url } = await piping(t, client, sourceOf(['Two\nlines, \ud83d', '\udc4b "quoted"', '.']));
        const text = 'Two\nlines, \u{1f44b} "quoted".';
        assert.deepEqual(await failed(client.texts(url)), { text, error: undefined });
        assert.equal(await client.whole(url), text);
      });
    }

    it('fails where the source does, after what came before', async (t) => {
      const { url, reason } = await piping(t, client, sourceOf(words, new Error('a secret')));
      const { text, error } = await failed(client.texts(url));
      assert.equal(text, TEXT);
      assert.match(String(error), FAILURE);
      await assert.rejects(client.whole(url), FAILURE);
      assert.equal(await reason(), 'error');
    });

    it('fails where the source fails before its first word', async (t) => {
      const { url } = await piping(t, client, sourceOf([], new Error('a secret')));
      const { error } = await failed(client.texts(url));
      assert.match(String(error), FAILURE);
      await assert.rejects(client.whole(url), FAILURE);
    });

    it('fails where the source ends too early', async (t) => {
      const { url, reason } = await piping(t, client, sourceOf(words));
      const { text, error } = await failed(client.texts(url));
      assert.equal(text, TEXT);
      assert.match(String(error), FAILURE);
      await assert.rejects(client.whole(url), FAILURE);
      assert.equal(await reason(), 'error');
    });

    it('fails with the error of its API where the source yields that', async (t) => {
      const { url, reason } = await piping(t, client, sourceOf([...words, failure, ...answer]));
      const { text, error } = await failed(client.texts(url));
      assert.equal(text, TEXT);
      assert.match(String(error), failureMessage);
      await assert.rejects(client.whole(url), failureMessage);
      assert.equal(await reason(), 'error');
    });

    it('stops the source where it leaves', async (t) => {
      const stopping = new EventEmitter();
      const stopped = once(stopping, 'stopped');
      const { url, reason } = await piping(t, client, async function* (stream) {
        try {
          yield* words;
          await once(new EventEmitter(), 'never', { signal: stream.signal });
        } finally {
          stopping.emit('stopped');
        }
      });
      for await (const piece of client.texts(url)) if (piece !== '') break;
      await stopped;
      assert.equal(await reason(), 'client-gone');
    });

    it('reads what another server relays by the same client, whole or failed', async (t) => {
      const origin = await piping(t, client, sourceOf(answer));
      const relay = await serving(t, (stream) => client.relay(origin.url, stream));
      assert.equal(await client.whole(relay.url), TEXT);
      const failing = await piping(t, client, sourceOf(words, new Error('a secret')));
      const failingRelay = await serving(t, (stream) => client.relay(failing.url, stream));
      const { text, error } = await failed(client.texts(failingRelay.url));
      assert.equal(text, TEXT);
      assert.match(String(error), FAILURE);
    });

    it('stops the server behind a relay where it leaves', async (t) => {
      const origin = await piping(t, client, async function* (stream) {
        yield* words;
        await once(new EventEmitter(), 'never', { signal: stream.signal });
      });
      const relay = await serving(t, (stream) => client.relay(origin.url, stream));
      for await (const piece of client.texts(relay.url)) if (piece !== '') break;
      assert.equal(await relay.reason(), 'client-gone');
      assert.equal(await origin.reason(), 'client-gone');
    });
  });
}
