import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openaiChat } from '../lib/openai-chat.ts';
import { type ChatChunk, chatChunks, chatFailure } from './fixtures/models.ts';
import { failing, received } from './helpers/answers.ts';

const DONE = '[DONE]';
const FAILED = {
  error: { message: 'the source of this stream failed', type: 'server_error', param: null, code: null },
};

/** The text that a client collects. */
const textOf = (data: readonly unknown[]): string =>
  (data as Partial<ChatChunk>[]).map(({ choices }) => choices?.[0]?.delta.content ?? '').join('');

describe('openaiChat', () => {
  it('sends the chunks of a source as they are, without names and ids, then `[DONE]`', async (t) => {
    const { frames, data, reason } = await received(t, chatChunks, openaiChat());
    assert.deepEqual(data, [...chatChunks, DONE]);
    assert.ok(frames.every(({ event, id }) => event === undefined && id === undefined));
    assert.equal(reason, 'ended');
  });

  it('makes chunks of text, the first with the role, the last with a `finish_reason`', async (t) => {
    const dialect = openaiChat({ id: 'c1', model: 'ours', created: 7 });
    const { data } = await received(t, ['Two\nlines, "quoted" ', '\u{1f44b}'], dialect);
    const chunk = (delta: object, finish_reason: string | null = null) => ({
      id: 'c1',
      object: 'chat.completion.chunk',
      created: 7,
      model: 'ours',
      choices: [{ index: 0, delta, finish_reason }],
    });
    assert.deepEqual(data, [
      chunk({ role: 'assistant', content: '' }),
      chunk({ content: 'Two\nlines, "quoted" ' }),
      chunk({ content: '\u{1f44b}' }),
      chunk({}, 'stop'),
      DONE,
    ]);
  });

  it('gives all chunks that it makes of text the same id, whatever it and the model look like', async (t) => {
    const { data } = await received(
      t,
      ['a', 'b'],
      openaiChat({ model: '"content":"" \\"content\\":\\"\\"' }),
    );
    const chunks = data.slice(0, -1) as { id: string; model: string }[];
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    assert.match(chunks[0]!.id, /^chatcmpl-./);
    assert.equal(chunks[1]!.model, '"content":"" \\"content\\":\\"\\"');
    assert.equal(textOf(data), 'ab');
  });

  it('puts a character together that two texts share', async (t) => {
    const { data } = await received(t, ['\ud83d', '\udc4b', 'x\ud83d'], openaiChat());
    assert.equal(textOf(data), '\u{1f44b}x\ufffd');
  });

  it('sends one error and no `[DONE]` where the source fails, and does not reveal the failure', async (t) => {
    const failure = new Error('a secret');
    for (const values of [chatChunks.slice(0, 2), chatChunks, []]) {
      const { data, reason, cause } = await received(t, failing(values, failure), openaiChat());
      assert.deepEqual(data, [...values, FAILED]);
      assert.deepEqual([reason, cause], ['error', failure]);
    }
    const { data } = await received(t, failing(['text'], failure), openaiChat());
    assert.deepEqual(data.slice(2), [FAILED]);
  });

  it('sends the message that `errorMessage` makes of the failure', async (t) => {
    const dialect = openaiChat({ errorMessage: (error) => `sorry: ${(error as Error).message}` });
    const { data } = await received(t, failing<string>([], new Error('busy')), dialect);
    assert.deepEqual(data, [{ error: { ...FAILED.error, message: 'sorry: busy' } }]);
  });

  it('sends its own error where `errorMessage` throws, or makes what is no JSON', async (t) => {
    const throwing = () => {
      throw new Error('another');
    };
    for (const errorMessage of [throwing, () => 1n as never]) {
      const { data } = await received(
        t,
        failing<string>([], new Error('busy')),
        openaiChat({ errorMessage }),
      );
      assert.deepEqual(data, [FAILED]);
    }
  });

  it('sends the error that the source yields as its last event, and stops the source', async (t) => {
    let isStopped = false;
    function* source() {
      try {
        yield* [chatChunks[0]!, chatFailure, ...chatChunks];
      } finally {
        isStopped = true;
      }
    }
    const { data, reason, cause } = await received(t, source(), openaiChat());
    assert.deepEqual(data, [chatChunks[0], chatFailure]);
    assert.equal(reason, 'error');
    assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_FAILED');
    assert.equal((cause as Error).cause, chatFailure);
    assert.ok(isStopped);
  });

  it('takes a source that ends before each choice has a `finish_reason` for one that failed', async (t) => {
    const choices = (...choices: object[]) => ({ choices: choices as { index: number }[] });
    const [a, b] = [{ index: 0 }, { index: 1, finish_reason: null }];
    const [aEnd, bEnd] = [
      { index: 0, finish_reason: 'stop' },
      { index: 1, finish_reason: 'length' },
    ];
    const cut = [
      [],
      chatChunks.slice(0, 2),
      [choices()],
      [choices({ index: 0, finish_reason: '' })],
      [choices(a, b), choices(aEnd)],
      [choices(aEnd), choices(b)],
    ];
    for (const source of cut) {
      const { data, reason, cause } = await received(t, source, openaiChat());
      assert.deepEqual(data, [...source, FAILED]);
      assert.equal(reason, 'error');
      assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_UNFINISHED');
    }
    const whole = [
      [choices(a, b), choices(bEnd), choices(aEnd)],
      [choices(aEnd, bEnd), choices()],
    ];
    for (const source of whole)
      assert.deepEqual((await received(t, source, openaiChat())).data, [...source, DONE]);
  });

  it('refuses what is neither text nor a chunk, and both in one source', async (t) => {
    const wrong: [unknown[], RegExp][] = [
      [[5], /must yield text, or chunks with `choices`/],
      [[null], /must yield text, or chunks with `choices`/],
      [[{ event: 'e', data: 'x' }], /must yield text, or chunks with `choices`/],
      [['text', chatChunks[0]], /either chunks or text, not both/],
      [[chatChunks[0], 'text'], /either chunks or text, not both/],
    ];
    for (const [source, message] of wrong) {
      const { data, cause } = await received(t, source as string[], openaiChat());
      assert.deepEqual(data.at(-1), FAILED);
      assert.ok(cause instanceof TypeError);
      assert.match(cause.message, message);
    }
  });

  it('is for one stream: a second one fails', async (t) => {
    for (const source of [['text'], chatChunks, []]) {
      const dialect = openaiChat();
      await received<string | { choices: [] }>(t, source as string[], dialect);
      const { data, cause } = await received(t, ['again'], dialect);
      assert.deepEqual(data, [FAILED]);
      assert.match((cause as Error).message, /for one stream: make another one/);
    }
  });
});
