// Speaks the streams of OpenAI's Chat Completions: chunks, `[DONE]`, and errors that its clients throw.
// Stands alone: copy this file by itself.

import { randomUUID } from 'node:crypto';

/** The members of a chunk that are read. The chunk is sent as it is, with all others. */
export interface OpenAIChatChunk {
  readonly choices: readonly OpenAIChatChoice[];
}

export interface OpenAIChatChoice {
  readonly index: number;
  readonly finish_reason?: string | null | undefined;
}

/** What the API sends in place of a chunk where it fails. */
export interface OpenAIChatFailure {
  readonly error: object;
}

export interface OpenAIChatOptions {
  /** The id of chunks that are made of text; default a random one. */
  id?: string | undefined;
  /** The model that chunks made of text name; default `''`. */
  model?: string | undefined;
  /** The time of chunks that are made of text, in seconds since 1970; default now. */
  created?: number | undefined;
  /** Makes the message that the client gets where the source fails; by default it does not reveal the error. */
  errorMessage?: ((error: unknown) => string) | undefined;
}

/** Options for `pipe`. */
export interface OpenAIChat {
  readonly event: (
    value: OpenAIChatChunk | OpenAIChatFailure | string,
  ) => OpenAIChatEvent | readonly OpenAIChatEvent[];
  readonly end: () => readonly OpenAIChatEvent[];
  readonly error: (error: unknown) => OpenAIChatEvent;
}

/** An event of data alone: the clients read neither names nor ids. */
export interface OpenAIChatEvent {
  readonly data?: string;
  readonly json?: unknown;
}

/**
 * Makes a stream one for the clients of Chat Completions: `stream.pipe(source, openaiChat())`. It is for one
 * stream. The source yields either chunks, as the API makes them, or text, of which chunks are made.
 *
 * A source of chunks has finished once each choice has got a `finish_reason`. One that ends before that has
 * failed (`ERR_SSE_SOURCE_UNFINISHED`), and so has one that yields nothing. What the API sends where it fails,
 * `{ error }`, goes to the client, and the stream ends as failed (`ERR_SSE_SOURCE_FAILED`). After a failure
 * the client gets one error, and no `[DONE]`.
 *
 * @see https://platform.openai.com/docs/api-reference/chat-streaming
 */
export function openaiChat(options: OpenAIChatOptions = {}): OpenAIChat {
  const { id = `chatcmpl-${randomUUID()}`, model = '', created = Math.floor(Date.now() / 1000) } = options;
  const { errorMessage = () => UNKNOWN } = options;
  let kind: 'chunks' | 'text' | 'over' | undefined;
  const begun = new Set<number>();
  const finished = new Set<number>();
  let failure: OpenAIChatFailure | undefined;
  // Chunks of text differ in their text alone, so the rest of their JSON is made once (bench/scenarios/llm).
  let beforeText = '';
  let afterText = '';

  const begin = (next: 'chunks' | 'text'): void => {
    if (kind === 'over') throw new TypeError('`openaiChat()` is for one stream: make another one');
    if (kind !== undefined) throw new TypeError('a source must yield either chunks or text, not both');
    kind = next;
  };

  const chunkOf = (delta: object, finish_reason: string | null = null): string => {
    const choices = [{ index: 0, delta, finish_reason }];
    return JSON.stringify({ id, object: 'chat.completion.chunk', created, model, choices });
  };

  const beginText = (): OpenAIChatEvent => {
    begin('text');
    // JSON escapes quotes within strings, so this occurs once, whatever the id and the model are.
    [beforeText = '', afterText = ''] = chunkOf({ content: '' }).split('"content":""');
    beforeText += '"content":';
    return { data: chunkOf({ role: 'assistant', content: '' }) };
  };

  const textChunk = (text: string): OpenAIChatEvent => ({
    data: beforeText + JSON.stringify(text) + afterText,
  });

  return {
    event(value) {
      if (typeof value === 'string') {
        return kind === 'text' ? textChunk(value) : [beginText(), textChunk(value)];
      }
      if (kind !== 'chunks') begin('chunks');
      if (isFailure(value)) {
        failure = value;
        throw failed('ERR_SSE_SOURCE_FAILED', 'the source yielded an error', value);
      }
      checkChunk(value);
      for (const { index, finish_reason } of value.choices) {
        // Some servers that speak this API send `''` in place of `null`.
        if (finish_reason) finished.add(index);
        else begun.add(index);
      }
      return { json: value };
    },

    end() {
      const isText = kind === 'text';
      kind = 'over';
      if (isText) return [{ data: chunkOf({}, 'stop') }, { data: '[DONE]' }];
      const isCut = [...begun].some((index) => !finished.has(index));
      if (!isCut && finished.size > 0) return [{ data: '[DONE]' }];
      throw failed('ERR_SSE_SOURCE_UNFINISHED', 'the source ended before each choice had a `finish_reason`');
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

function failureOf(message: string): OpenAIChatFailure {
  return { error: { message, type: 'server_error', param: null, code: null } };
}

function isFailure(value: OpenAIChatChunk | OpenAIChatFailure): value is OpenAIChatFailure {
  return (value as Partial<OpenAIChatFailure> | null)?.error != null;
}

function checkChunk(value: OpenAIChatChunk): void {
  if (Array.isArray(value?.choices)) return;
  throw new TypeError('a source for `openaiChat` must yield text, or chunks with `choices`');
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
