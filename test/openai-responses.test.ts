import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openaiResponses } from '../lib/openai-responses.ts';
import { failedResponse, responsesEvents, responsesFailure } from './fixtures/models.ts';
import { failing, received } from './helpers/answers.ts';

const failedAt = (sequence_number: number, message = 'the source of this stream failed') => ({
  type: 'error',
  code: 'server_error',
  message,
  param: null,
  sequence_number,
});

describe('openaiResponses', () => {
  it('sends the events of a source as they are, each by the name of its type, and nothing else', async (t) => {
    const { frames, data, reason } = await received(t, responsesEvents, openaiResponses());
    assert.deepEqual(data, responsesEvents);
    assert.deepEqual(
      frames.map(({ event }) => event),
      responsesEvents.map(({ type }) => type),
    );
    assert.equal(reason, 'ended');
  });

  it('takes `response.incomplete` for an end too', async (t) => {
    const events = [{ type: 'response.incomplete', response: {} }];
    const { data, reason } = await received(t, events, openaiResponses());
    assert.deepEqual([data, reason], [events, 'ended']);
  });

  it('sends one `error` with the next number where the source fails, and does not reveal the failure', async (t) => {
    const failure = new Error('a secret');
    const { frames, data, reason, cause } = await received(
      t,
      failing(responsesEvents.slice(0, 3), failure),
      openaiResponses(),
    );
    assert.deepEqual(data, [...responsesEvents.slice(0, 3), failedAt(3)]);
    assert.equal(frames.at(-1)?.event, 'error');
    assert.deepEqual([reason, cause], ['error', failure]);
  });

  it('sends the message that `errorMessage` makes, or its own where that throws', async (t) => {
    const errorMessage = (error: unknown) => (error as Error).message.toUpperCase();
    const source = () => failing<{ type: string }>([{ type: 'response.created' }], new Error('busy'));
    const { data } = await received(t, source(), openaiResponses({ errorMessage }));
    assert.deepEqual(data.at(-1), failedAt(1, 'BUSY'));
    const throwing = () => {
      throw new Error('another');
    };
    const own = await received(t, source(), openaiResponses({ errorMessage: throwing }));
    assert.deepEqual(own.data.at(-1), failedAt(1));
  });

  for (const failure of [responsesFailure, failedResponse]) {
    it(`sends \`${failure.type}\` of the source as its last event, and ends as failed`, async (t) => {
      const source = [...responsesEvents.slice(0, 6), failure, ...responsesEvents.slice(6)];
      const { frames, data, reason, cause } = await received(t, source, openaiResponses());
      assert.deepEqual(data, source.slice(0, 7));
      assert.equal(frames.at(-1)?.event, failure.type);
      assert.equal(reason, 'error');
      assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_FAILED');
    });
  }

  it('takes a source that ends without its last event for one that failed', async (t) => {
    for (const source of [[], responsesEvents.slice(0, -1)]) {
      const { data, reason, cause } = await received(t, source, openaiResponses());
      assert.deepEqual(data, [...source, failedAt(source.length)]);
      assert.equal(reason, 'error');
      assert.equal((cause as { code?: string }).code, 'ERR_SSE_SOURCE_UNFINISHED');
    }
  });

  it('sends nothing after the last event where the source fails then', async (t) => {
    const { data, reason } = await received(
      t,
      failing(responsesEvents, new Error('too late')),
      openaiResponses(),
    );
    assert.deepEqual(data, responsesEvents);
    assert.equal(reason, 'error');
  });

  it('refuses what is no event, text too', async (t) => {
    for (const value of ['text', 5, null, {}, { type: 5 }]) {
      const { data, cause } = await received(t, [value as { type: string }], openaiResponses());
      assert.deepEqual(data, [failedAt(0)]);
      assert.match((cause as Error).message, /must yield events with a `type`, not text/);
    }
  });

  it('is for one stream: a second one fails', async (t) => {
    const dialect = openaiResponses();
    await received(t, responsesEvents.slice(0, 2), dialect);
    const { data, cause } = await received(t, responsesEvents, dialect);
    assert.deepEqual(data, [failedAt(2)]);
    assert.match((cause as Error).message, /for one stream: make another one/);
  });
});
