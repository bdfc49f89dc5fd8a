// Speaks the streams of Anthropic's Messages: named events, `message_stop`, and errors that clients throw.
// Stands alone: copy this file by itself.

import { randomUUID } from 'node:crypto';

/** The member of an event that is read. The event is sent as it is, with all others. */
export interface AnthropicEvent {
  readonly type: string;
}

export interface AnthropicOptions {
  /** The id of a message that is made of text; default a random one. */
  id?: string | undefined;
  /** The model that a message made of text names; default `''`. */
  model?: string | undefined;
  /** Makes the message that the client gets where the source fails; by default it does not reveal the error. */
  errorMessage?: ((error: unknown) => string) | undefined;
}

/** Options for `pipe`. */
export interface Anthropic {
  readonly event: (value: AnthropicEvent | string) => AnthropicFrame | readonly AnthropicFrame[];
  readonly end: () => readonly AnthropicFrame[];
  readonly error: (error: unknown) => AnthropicFrame | null;
}

/** What is sent: the clients read the name, and the type in the data. */
export interface AnthropicFrame {
  readonly event: string;
  readonly data?: string;
  readonly json?: unknown;
}

/**
 * Makes a stream one for the clients of Messages: `stream.pipe(source, anthropic())`. It is for one stream.
 * The source yields either events, as the API does, or text, which becomes a message with one block. Its
 * `usage` counts no tokens, because the source does not.
 *
 * A source of events has finished with `message_stop`. One that ends before that has failed
 * (`ERR_SSE_SOURCE_UNFINISHED`), and so has one that yields nothing. Its own `error` goes to the client, and
 * the stream ends as failed (`ERR_SSE_SOURCE_FAILED`). After a failure the client gets one `error`, and no
 * `message_stop`; a failure after `message_stop` is not sent.
 *
 * @see https://docs.anthropic.com/en/api/messages-streaming
 */
export function anthropic(options: AnthropicOptions = {}): Anthropic {
  const { id = `msg_${randomUUID()}`, model = '', errorMessage = () => UNKNOWN } = options;
  let kind: 'events' | 'text' | 'over' | undefined;
  let isFinished = false;
  let failure: AnthropicEvent | undefined;

  const begin = (next: 'events' | 'text'): void => {
    if (kind === 'over') throw new TypeError('`anthropic()` is for one stream: make another one');
    if (kind !== undefined) throw new TypeError('a source must yield either events or text, not both');
    kind = next;
  };

  return {
    event(value) {
      if (typeof value === 'string') {
        const delta = textDelta(value);
        if (kind === 'text') return delta;
        begin('text');
        return [...beginningOf(id, model), delta];
      }
      if (kind !== 'events') begin('events');
      checkEvent(value);
      const { type } = value;
      if (type === 'error') {
        failure = value;
        throw failed('ERR_SSE_SOURCE_FAILED', 'the source yielded an error', value);
      }
      if (type === 'message_stop') isFinished = true;
      return { event: type, json: value };
    },

    end() {
      const isText = kind === 'text';
      kind = 'over';
      if (isText) return ENDING;
      if (isFinished) return [];
      throw failed('ERR_SSE_SOURCE_UNFINISHED', 'the source ended before `message_stop`');
    },

    error(error) {
      kind = 'over';
      // The client has the whole answer, and its last event.
      if (isFinished) return null;
      const data =
        jsonOf(() => failure) ??
        jsonOf(() => failureOf(errorMessage(error))) ??
        jsonOf(() => failureOf(UNKNOWN));
      return { event: 'error', data: data! };
    },
  };
}

const UNKNOWN = 'the source of this stream failed';

function frameOf(event: AnthropicEvent): AnthropicFrame {
  return { event: event.type, json: event };
}

function beginningOf(id: string, model: string): AnthropicFrame[] {
  const usage = { input_tokens: 0, output_tokens: 0 };
  const head = { id, type: 'message', role: 'assistant', model, content: [] };
  const message = { ...head, stop_reason: null, stop_sequence: null, usage };
  const content_block = { type: 'text', text: '' };
  return [
    { type: 'message_start', message },
    { type: 'content_block_start', index: 0, content_block },
  ].map(frameOf);
}

// Deltas differ in their text alone, so that alone is made into JSON for each (bench/scenarios/llm).
function textDelta(text: string): AnthropicFrame {
  const delta = `{"type":"text_delta","text":${JSON.stringify(text)}}`;
  return { event: 'content_block_delta', data: `{"type":"content_block_delta","index":0,"delta":${delta}}` };
}

const ENDING: readonly AnthropicFrame[] = [
  { type: 'content_block_stop', index: 0 },
  {
    type: 'message_delta',
    delta: { stop_reason: 'end_turn', stop_sequence: null },
    usage: { output_tokens: 0 },
  },
  { type: 'message_stop' },
].map(frameOf);

function failureOf(message: string): AnthropicEvent & { readonly error: object } {
  return { type: 'error', error: { type: 'api_error', message } };
}

function checkEvent(value: AnthropicEvent): void {
  if (typeof value?.type === 'string') return;
  throw new TypeError('a source for `anthropic` must yield text, or events with a `type`');
}

function failed(code: string, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

/** Never throws: in place of an error that cannot be made, `pipe` sends one that these clients do not know. */
function jsonOf(make: () => unknown): string | undefined {
  try {
    return JSON.stringify(make());
  } catch {
    return undefined;
  }
}
