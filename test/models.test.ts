// Reads the streams of language models with `decode` and `connect`, in the shapes that their APIs document; and
// cuts what is sent in their dialects at every place.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { aiSdk } from '../lib/ai-sdk.ts';
import { anthropic } from '../lib/anthropic.ts';
import { connect } from '../lib/client.ts';
import { type DecodedEvent, decode } from '../lib/decode.ts';
import { openaiChat } from '../lib/openai-chat.ts';
import { openaiResponses } from '../lib/openai-responses.ts';
import type { PipeDialect } from '../lib/pipe.ts';
import {
  chatChunks,
  type Ending,
  messagesEvents,
  responsesEvents,
  TEXT,
  uiChunks,
  wires,
} from './fixtures/models.ts';
import { failing, received } from './helpers/answers.ts';
import { serve } from './helpers/server.ts';

type Read = Pick<DecodedEvent, 'event' | 'data'>;

/** How a reader knows an API: the text in an event, the last event, and the error. */
interface Reading {
  readonly textOf: (event: Read) => string | undefined;
  readonly isLast: (event: Read) => boolean;
  readonly errorOf: (event: Read) => string | undefined;
}

const readings: Readonly<Record<string, Reading>> = {
  'openai-chat': {
    textOf: ({ data }) => (data === '[DONE]' ? undefined : JSON.parse(data).choices?.[0]?.delta.content),
    isLast: ({ data }) => data === '[DONE]' || 'error' in JSON.parse(data),
    errorOf: ({ data }) => (data === '[DONE]' ? undefined : JSON.parse(data).error?.message),
  },
  'openai-responses': {
    textOf: ({ event, data }) =>
      event === 'response.output_text.delta' ? JSON.parse(data).delta : undefined,
    isLast: ({ event }) => /^(?:response\.(?:completed|incomplete|failed)|error)$/.test(event),
    errorOf: ({ event, data }) => (event === 'error' ? JSON.parse(data).message : undefined),
  },
  anthropic: {
    textOf: ({ event, data }) => (event === 'content_block_delta' ? JSON.parse(data).delta.text : undefined),
    isLast: ({ event }) => event === 'message_stop' || event === 'error',
    errorOf: ({ event, data }) => (event === 'error' ? JSON.parse(data).error.message : undefined),
  },
  'ai-sdk': {
    textOf: ({ data }) => (data === '[DONE]' ? undefined : JSON.parse(data).delta),
    isLast: ({ data }) => data === '[DONE]' || JSON.parse(data).type === 'error',
    errorOf: ({ data }) => (data === '[DONE]' ? undefined : JSON.parse(data).errorText),
  },
};

const ERRORS: Readonly<Record<string, string>> = { anthropic: 'Overloaded' };

/** What a program learns from a stream. */
async function learnt(events: AsyncIterable<Read>, { textOf, errorOf }: Reading) {
  let [text, error] = ['', undefined as string | undefined];
  for await (const event of events) {
    text += textOf(event) ?? '';
    error ??= errorOf(event);
  }
  return { text, error };
}

for (const [name, wire] of Object.entries(wires)) {
  const reading = readings[name]!;

  describe(`the stream of ${name}`, () => {
    it('gives `decode` its text, in pieces of any size', async () => {
      const bytes = Buffer.from(wire.whole);
      for (const size of [1, 7, 64, bytes.length]) {
        const pieces: Buffer[] = [];
        for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
        const read = await learnt(decode(pieces), reading);
        assert.deepEqual(read, { text: TEXT, error: undefined });
      }
    });

    it('gives `decode` its error', async () => {
      const { error } = await learnt(decode([wire.failed]), reading);
      assert.equal(error, ERRORS[name] ?? 'The server had an error.');
    });

    /** Asks by POST, as the clients of these APIs do. */
    async function ask(t: Parameters<typeof serve>[0], ending: Ending) {
      const { url, requests } = await serve(t, (req, res) => {
        req.resume().on('end', () => {
          res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).end(wire[ending]);
        });
      });
      const { isLast } = reading;
      const answer = connect(url, { body: '{"stream":true}', isLast });
      const read = learnt(answer, reading);
      await read.catch(() => {});
      assert.deepEqual(
        requests.map(({ method }) => method),
        ['POST'],
      );
      return read;
    }

    it('gives `connect` its text, and its end', async (t) => {
      assert.deepEqual(await ask(t, 'whole'), { text: TEXT, error: undefined });
    });

    it('gives `connect` its error, and is not asked for again', async (t) => {
      assert.equal((await ask(t, 'failed')).error, ERRORS[name] ?? 'The server had an error.');
    });

    it('makes `connect` fail where it ends without its last event', async (t) => {
      await assert.rejects(ask(t, 'cut'), { code: 'ERR_SSE_EOF' });
    });
  });
}

/** Each dialect, an answer of its API, and what says on the wire that the answer is whole. */
const dialects: readonly (readonly [() => PipeDialect<never>, readonly object[], RegExp])[] = [
  [openaiChat, chatChunks, /"finish_reason":"stop"|\[DONE\]/],
  [openaiResponses, responsesEvents, /response\.completed/],
  [anthropic, messagesEvents, /message_stop/],
  [aiSdk, uiChunks, /"type":"finish"|\[DONE\]/],
];

for (const [dialect, answer, whole] of dialects) {
  describe(`an answer in the dialect ${dialect.name}`, () => {
    const last = answer.findIndex((value) => whole.test(JSON.stringify(value)));

    it('never looks whole where its source ends or fails before its last chunk, at whatever place', async (t) => {
      assert.ok(last > 0);
      for (let length = 0; length <= last; length++) {
        const values = answer.slice(0, length);
        for (const source of [values, failing(values, new Error('no'))]) {
          const { data, reason } = await received(t, source as never[], dialect());
          assert.deepEqual(data.slice(0, -1), values);
          assert.match(JSON.stringify(data.at(-1)), /error/);
          assert.doesNotMatch(JSON.stringify(data), whole);
          assert.equal(reason, 'error');
        }
      }
    });

    it('never looks whole where its source of text fails, at whatever place', async (t) => {
      for (let length = 0; length < 4; length++) {
        const texts = Array.from({ length }, (_, n) => `${n} `);
        const source = failing(texts, new Error('no')) as AsyncIterable<never>;
        const { data, reason } = await received(t, source, dialect());
        assert.match(JSON.stringify(data.at(-1)), /error/);
        assert.doesNotMatch(JSON.stringify(data), whole);
        assert.equal(reason, 'error');
      }
    });
  });
}
