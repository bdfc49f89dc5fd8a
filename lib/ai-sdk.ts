// Speaks the UI message stream of the AI SDK: chunks, `[DONE]`, and errors that `useChat` reports.
// Stands alone: copy this file by itself.

import { randomUUID } from 'node:crypto';

/** The member of a chunk that is read. The chunk is sent as it is, with all others. */
export interface AiSdkChunk {
  readonly type: string;
}

export interface AiSdkOptions {
  /** The id of a message that is made of text; default a random one. */
  messageId?: string | undefined;
  /** Makes the message that the client gets where the source fails; by default it does not reveal the error. */
  errorMessage?: ((error: unknown) => string) | undefined;
}

/** Options for `pipe`. */
export interface AiSdk {
  readonly event: (value: AiSdkChunk | string) => AiSdkEvent | readonly AiSdkEvent[];
  readonly end: () => readonly AiSdkEvent[];
  readonly error: (error: unknown) => AiSdkEvent;
}

/** An event of data alone: the client reads neither names nor ids. */
export interface AiSdkEvent {
  readonly data?: string;
  readonly json?: unknown;
}

/** Headers of the response by which a client knows the protocol: `openStream(req, res, { headers })`. */
export const aiSdkHeaders: Readonly<Record<string, string>> = { 'x-vercel-ai-ui-message-stream': 'v1' };

/**
 * Makes a stream one for `useChat` and `DefaultChatTransport`: `stream.pipe(source, aiSdk())`, with
 * `aiSdkHeaders`. It is for one stream. The source yields either chunks, as `toUIMessageStream` makes them, or
 * text, which becomes a message with one part.
 *
 * A source of chunks has finished with `finish`, or with `abort`. One that ends before that has failed
 * (`ERR_SSE_SOURCE_UNFINISHED`), and so has one that yields nothing. Its own `error` goes to the client, and
 * the stream ends as failed (`ERR_SSE_SOURCE_FAILED`). After a failure the client gets one `error`, and
 * neither `finish` nor `[DONE]`.
 *
 * @see https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
 */
export function aiSdk(options: AiSdkOptions = {}): AiSdk {
  const { messageId = randomUUID(), errorMessage = () => UNKNOWN } = options;
  let kind: 'chunks' | 'text' | 'over' | undefined;
  let isFinished = false;
  let failure: AiSdkChunk | undefined;

  const begin = (next: 'chunks' | 'text'): void => {
    if (kind === 'over') throw new TypeError('`aiSdk()` is for one stream: make another one');
    if (kind !== undefined) throw new TypeError('a source must yield either chunks or text, not both');
    kind = next;
  };

  return {
    event(value) {
      if (typeof value === 'string') {
        const delta = textDelta(value);
        if (kind === 'text') return delta;
        begin('text');
        return [{ json: { type: 'start', messageId } }, { json: { type: 'text-start', id: PART } }, delta];
      }
      if (kind !== 'chunks') begin('chunks');
      checkChunk(value);
      const { type } = value;
      if (type === 'error') {
        failure = value;
        throw failed('ERR_SSE_SOURCE_FAILED', 'the source yielded an error', value);
      }
      if (type === 'finish' || type === 'abort') isFinished = true;
      return { json: value };
    },

    end() {
      const isText = kind === 'text';
      kind = 'over';
      if (isText) return ENDING;
      if (isFinished) return [DONE];
      throw failed('ERR_SSE_SOURCE_UNFINISHED', 'the source ended before `finish` or `abort`');
    },

    error(error) {
      kind = 'over';
      const data =
        jsonOf(() => failure) ??
        jsonOf(() => failureOf(errorMessage(error))) ??
        jsonOf(() => failureOf(UNKNOWN));
      return { data: data! };
    },
  };
}

const UNKNOWN = 'the source of this stream failed';

/** The id of the one part of a message that is made of text. */
const PART = 'text';

// Deltas differ in their text alone, so that alone is made into JSON for each (bench/scenarios/llm).
function textDelta(text: string): AiSdkEvent {
  return { data: `{"type":"text-delta","id":"${PART}","delta":${JSON.stringify(text)}}` };
}

const DONE: AiSdkEvent = { data: '[DONE]' };

const ENDING: readonly AiSdkEvent[] = [
  { json: { type: 'text-end', id: PART } },
  { json: { type: 'finish', finishReason: 'stop' } },
  DONE,
];

function failureOf(errorText: string): AiSdkChunk & { readonly errorText: string } {
  return { type: 'error', errorText };
}

function checkChunk(value: AiSdkChunk): void {
  if (typeof value?.type === 'string') return;
  throw new TypeError('a source for `aiSdk` must yield text, or chunks with a `type`');
}

function failed(code: string, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

/** Never throws: in place of an error that cannot be made, `pipe` sends one that this client does not know. */
function jsonOf(make: () => unknown): string | undefined {
  try {
    return JSON.stringify(make());
  } catch {
    return undefined;
  }
}
