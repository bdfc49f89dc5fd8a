import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { anthropic } from '../lib/anthropic.ts';
import { messagesEvents, messagesFailure } from './fixtures/models.ts';
import { failing, received } from './helpers/answers.ts';

const failed = (message = 'the source of this stream failed') => ({
  type: 'error',
  error: { type: 'api_error', message },
});

const typesOf = (values: readonly unknown[]): string[] =>
  values.map((value) => (value as { type: string }).type);

describe('anthropic', () => {
  it('sends the events of a source as they are, each by the name of its type, and nothing else', async (t) => {
    const { frames, data, reason } = await received(t, messagesEvents, anthropic());
    assert.deepEqual(data, messagesEvents);
    assert.deepEqual(
      frames.map(({ event }) => event),
      typesOf(messagesEvents),
    );
    assert.equal(reason, 'ended');
  });

  it('makes a message with one block of text, and ends it with `message_stop`', async (t) => {
    const { frames, data, reason } = await received(
      t,
      ['a "b"\n', '\ud83d', '\udc4b'],
      anthropic({ id: 'm1', model: 'ours' }),
    );
    const delta = (text: string) => ({
      type: 'content_block_delta',
      index: 0,
      delta: { type: 'text_delta', text },
    });
    assert.deepEqual(data, [
      {
        type: 'message_start',
        message: {
          id: 'm1',
          type: 'message',
          role: 'assistant',
          model: 'ours',
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: { input_tokens: 0, output_tokens: 0 },
        },
      },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      delta('a "b"\n'),
      delta('\u{1f44b}'),
      { type: 'content_block_stop', index: 0 },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn', stop_sequence: null },
        usage: { output_tokens: 0 },
      },
      { type: 'message_stop' },
    ]);
    assert.deepEqual(
      frames.map(({ event }) => event),
      typesOf(data),
    );
    assert.equal(reason, 'ended');
  });

  it('sends one `error` and no `message_stop` where the source fails, and does not reveal the failure', async (t) => {
    const failure = new Error('a secret');
    const { frames, data, reason, cause } = await received(
      t,
      failing(messagesEvents.slice(0, 4), failure),
      anthropic(),
    );
    assert.deepEqual(data, [...messagesEvents.slice(0, 4), failed()]);
    assert.equal(frames.at(-1)?.event, 'error');
    assert.deepEqual([reason, cause], ['error', failure]);
    const ofText = await received(t, failing(['text'], failure), anthropic());
    assert.deepEqual(typesOf(ofText.data), [
      'message_start',
      'content_block_start',
      'content_block_delta',
      'error',
    ]);
  });

  it('sends the message that `errorMessage` makes, or its own where that throws', async (t) => {
    const errorMessage = (error: unknown) => (error as Error).message.toUpperCase();
    const source = () => failing<string>([], new Error('busy'));
    assert.deepEqual((await received(t, source(), anthropic({ errorMessage }))).data, [failed('BUSY')]);
    const throwing = () => {
      throw new Error('another');
    };
    const own = await received(t, source(), anthropic({ errorMessage: throwing }));
    assert.deepEqual(own.data, [failed()]);
  });

  it('sends the `error` of the source as its last event, and ends as failed', async (t) => {
    const source = [...messagesEvents.slice(0, 4), messagesFailure, ...messagesEvents.slice(4)];
    const { frames, data, reason, cause } = await received(t, source, anthropic());
    assert.deepEqual(data, source.slice(0, 5));
    assert.equal(frames.at(-1)?.event, 'error');
    assert.equal(reason, 'error');
    assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_FAILED');
  });

  it('takes a source of events that ends without `message_stop` for one that failed', async (t) => {
    for (const source of [[], messagesEvents.slice(0, -1)]) {
      const { data, reason, cause } = await received(t, source, anthropic());
      assert.deepEqual(data, [...source, failed()]);
      assert.equal(reason, 'error');
      assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_UNFINISHED');
    }
  });

  it('sends nothing after `message_stop` where the source fails then', async (t) => {
    const { data, reason } = await received(t, failing(messagesEvents, new Error('too late')), anthropic());
    assert.deepEqual(data, messagesEvents);
    assert.equal(reason, 'error');
  });

  it('refuses what is neither text nor an event, and both in one source', async (t) => {
    const wrong: [unknown[], RegExp][] = [
      [[5], /must yield text, or events with a `type`/],
      [[null], /must yield text, or events with a `type`/],
      [[{ data: 'x' }], /must yield text, or events with a `type`/],
      [['text', messagesEvents[0]], /either events or text, not both/],
      [[messagesEvents[0], 'text'], /either events or text, not both/],
    ];
    for (const [source, message] of wrong) {
      const { data, cause } = await received(t, source as string[], anthropic());
      assert.deepEqual(data.at(-1), failed());
      assert.match((cause as Error).message, message);
    }
  });

  it('is for one stream: a second one fails', async (t) => {
    const dialect = anthropic();
    await received(t, ['text'], dialect);
    const { data, cause } = await received(t, ['again'], dialect);
    assert.deepEqual(data, [failed()]);
    assert.match((cause as Error).message, /for one stream: make another one/);
  });
});
