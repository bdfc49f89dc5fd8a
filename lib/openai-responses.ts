// Speaks the streams of OpenAI's Responses: named events, their own last one, and errors that clients throw.
// Stands alone: copy this file by itself.

/** The members of an event that are read. The event is sent as it is, with all others. */
export interface OpenAIResponsesEvent {
  readonly type: string;
  readonly sequence_number?: number | undefined;
}

export interface OpenAIResponsesOptions {
  /** Makes the message that the client gets where the source fails; by default it does not reveal the error. */
  errorMessage?: ((error: unknown) => string) | undefined;
}

/** Options for `pipe`. */
export interface OpenAIResponses {
  readonly event: (value: OpenAIResponsesEvent) => OpenAIResponsesFrame;
  readonly end: () => readonly OpenAIResponsesFrame[];
  readonly error: (error: unknown) => OpenAIResponsesFrame | null;
}

/** What is sent: the clients read the name, and the type in the data. */
export interface OpenAIResponsesFrame {
  readonly event: string;
  readonly data?: string;
  readonly json?: unknown;
}

/**
 * Makes a stream one for the clients of Responses: `stream.pipe(source, openaiResponses())`. It is for one
 * stream. The source yields the API's events. It cannot be text: the last events repeat the whole answer,
 * which would have to be kept.
 *
 * The source has finished with `response.completed` or `response.incomplete`. One that ends before has failed
 * (`ERR_SSE_SOURCE_UNFINISHED`). Its own `response.failed` or `error` goes to the client, and the stream ends
 * as failed (`ERR_SSE_SOURCE_FAILED`). After a failure the client gets one error and nothing else; a failure
 * after the last event is not sent.
 *
 * @see https://platform.openai.com/docs/api-reference/responses-streaming
 */
export function openaiResponses(options: OpenAIResponsesOptions = {}): OpenAIResponses {
  const { errorMessage = () => UNKNOWN } = options;
  let isOver = false;
  let isFinished = false;
  let failure: OpenAIResponsesEvent | undefined;
  let sequence = -1;

  return {
    event(value) {
      if (isOver) throw new TypeError('`openaiResponses()` is for one stream: make another one');
      checkEvent(value);
      const { type, sequence_number = sequence + 1 } = value;
      sequence = sequence_number;
      if (type === 'response.failed' || type === 'error') {
        failure = value;
        throw failed('ERR_SSE_SOURCE_FAILED', 'the source yielded an error', value);
      }
      if (type === 'response.completed' || type === 'response.incomplete') isFinished = true;
      return { event: type, json: value };
    },

    end() {
      isOver = true;
      if (isFinished) return [];
      throw failed(
        'ERR_SSE_SOURCE_UNFINISHED',
        'the source ended before `response.completed` or `response.incomplete`',
      );
    },

    error(error) {
      isOver = true;
      // The client has the whole answer, and its last event.
      if (isFinished) return null;
      const own = jsonOf(() => failure);
      if (own !== undefined) return { event: failure!.type, data: own };
      const number = sequence + 1;
      const data =
        jsonOf(() => failureOf(errorMessage(error), number)) ?? jsonOf(() => failureOf(UNKNOWN, number));
      return { event: 'error', data: data! };
    },
  };
}

const UNKNOWN = 'the source of this stream failed';

function failureOf(message: string, sequence_number: number): object {
  return { type: 'error', code: 'server_error', message, param: null, sequence_number };
}

function checkEvent(value: OpenAIResponsesEvent): void {
  if (typeof value?.type === 'string') return;
  throw new TypeError('a source for `openaiResponses` must yield events with a `type`, not text');
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
